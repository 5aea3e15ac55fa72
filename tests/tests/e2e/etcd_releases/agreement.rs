//! What atrest says of files is what etcd said of the same, object by object.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use atrest_tests::atrest;
use atrest_tests::etcd::{Etcd, Pair};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::SECRETS;
use super::cluster::{Cluster, Keyspace, database};
use crate::at_rest::configuration;

/// A configuration in a file of its own, and one under which nothing is current.
pub(crate) struct Configurations {
    pub(crate) current: PathBuf,
    pub(crate) other: PathBuf,
}

/// `--snapshot FILE` or `--data-dir DIR`.
pub(crate) type Source<'a> = [&'a str; 2];

pub(crate) fn data_directory(path: &Path) -> Source<'_> {
    ["--data-dir", path.to_str().unwrap()]
}

pub(crate) fn snapshot(path: &Path) -> Source<'_> {
    ["--snapshot", path.to_str().unwrap()]
}

impl Configurations {
    pub(crate) fn write(folder: &Path) -> Self {
        let text = configuration("aesgcm/g1", Path::new("/nowhere"));
        let [current, other] = ["config.yaml", "other.yaml"].map(|name| folder.join(name));
        fs::write(&current, &text).unwrap();
        let unused = "      keys:\n      - {name: unused, secret: dW51c2VkdW51c2VkdW51cw==}\n";
        let changed = text.replacen("      keys:\n", unused, 1);
        assert_ne!(changed, text);
        fs::write(&other, changed).unwrap();
        Self { current, other }
    }

    /// Holds the census of a file against what etcd keeps. Returns what depends on nothing else.
    pub(crate) fn agree(&self, source: Source<'_>, keyspace: &Keyspace) -> Value {
        let pairs = keyspace.pairs.iter();
        let secrets: BTreeMap<_, _> = pairs.filter(|(key, _)| key.starts_with(SECRETS)).collect();
        assert!(!secrets.is_empty());

        // Each one at its revision.
        let report = self.read(source).unwrap();
        let expected = secrets
            .iter()
            .map(|(key, pair)| ((*key).clone(), pair.mod_revision().to_string()))
            .collect();
        assert_eq!(listed(&report, "mod_revision"), expected, "{source:?}");
        assert_eq!(report["revision"], keyspace.revision, "{source:?}");

        // Each one's state.
        let report = read(source, &self.current).unwrap();
        let states: BTreeMap<_, _> = secrets
            .iter()
            .map(|(key, pair)| ((*key).clone(), state(pair)))
            .collect();
        let not_current = states
            .iter()
            .filter(|(_, state)| **state != "current")
            .map(|(key, state)| (key.clone(), format!("{state:?}")))
            .collect();
        assert_eq!(listed(&report, "state"), not_current, "{source:?}");
        let counts = &report["resources"][0];
        assert_eq!(counts["total"], secrets.len());
        for state in ["current", "stale", "plaintext", "unknown_key"] {
            let count = states.values().filter(|it| **it == state).count();
            assert_eq!(counts[state], count, "{source:?}: {state}");
        }
        report
    }

    /// The census with every object in its list, or why there is none.
    pub(crate) fn read(&self, source: Source<'_>) -> Result<Value, String> {
        read(source, &self.other)
    }

    /// The same of a data directory, after a member of the release that starts on a copy of it has said
    /// what is right.
    pub(crate) fn agree_with_member(&self, release: &str, data: &Path, said: &Keyspace) -> Value {
        let copy = data.with_extension("copy");
        let _ = fs::remove_dir_all(&copy);
        let copied = Command::new("cp").arg("-a").args([data, &copy]).status();
        assert!(copied.unwrap().success());
        let etcd = Etcd::start(release, &copy, &[]);
        assert_eq!(Keyspace::of(&etcd), *said, "{release} itself");
        self.agree(data_directory(data), said)
    }

    /// Each value that a key of the configuration wrote is the one that was encrypted last.
    pub(crate) fn decrypt(&self, source: Source<'_>, cluster: &Cluster, keyspace: &Keyspace) {
        let config = self.current.display().to_string();
        for (key, plaintext) in &cluster.plaintexts {
            if keyspace.pairs[key].value.starts_with(b"k8s:enc:kms:") {
                continue; // nobody can unwrap its key
            }
            let arguments = ["decrypt", key, "--raw", "--config", &config];
            let ended = atrest::run([&arguments[..], &source].concat()).expect(0);
            assert_eq!(ended.stdout, *plaintext, "{source:?}: {key}");
        }
    }

    /// How many objects the database alone does not have as they are.
    pub(crate) fn beyond_the_database(&self, data: &Path) -> usize {
        let mut bytes = fs::read(database(data)).unwrap();
        bytes.extend(Sha256::digest(&bytes));
        let alone = data.with_extension("alone.db");
        fs::write(&alone, bytes).unwrap();
        let of = |source| listed(&self.read(source).unwrap(), "mod_revision");
        let (alone, all) = (of(snapshot(&alone)), of(data_directory(data)));
        let is_beyond = |(key, revision): &(&String, &String)| alone.get(*key) != Some(*revision);
        all.iter().filter(is_beyond).count()
    }
}

fn state(pair: &Pair) -> &'static str {
    match &*pair.value {
        value if value.starts_with(b"k8s:enc:aesgcm:v1:g1:") => "current",
        value if value.starts_with(b"k8s:enc:aesgcm:v1:nobody:") => "unknown_key",
        value if value.starts_with(b"k8s:enc:") => "stale",
        _ => "plaintext",
    }
}

/// What a census says that depends on nothing but the file.
fn read(source: Source<'_>, config: &Path) -> Result<Value, String> {
    let config = config.display().to_string();
    let flags = ["--output=json", "--max-objects=0", "--config", &config];
    let ended = atrest::run([&["verify"], &flags[..], &source].concat());
    if ended.status == Some(2) {
        assert_eq!(ended.stdout, "", "{source:?}");
        return Err(ended.stderr);
    }
    let mut report = ended.expect(1).json();
    assert_eq!(atrest_tests::schema::faults(&report), Vec::<String>::new());
    report.as_object_mut().unwrap().remove("finished_at");
    let objects = report["objects"].as_array_mut().unwrap();
    objects.sort_by_key(|it| it["key"].to_string());
    Ok(report)
}

/// A field of each object that is not current, by its key.
fn listed(report: &Value, field: &str) -> BTreeMap<String, String> {
    let objects = report["objects"].as_array().unwrap().iter();
    objects
        .map(|it| {
            let key = it["key"].as_str().unwrap().to_owned();
            (key, it[field].to_string())
        })
        .collect()
}
