//! What files of etcd keep beside the values that are read: copies under retired keys, and backups that
//! need them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use atrest_tests::atrest::{self, Ended};
use atrest_tests::plugin::Plugin;
use atrest_tests::processes::{ControlPlane, Options, PLAINTEXT};
use serde_json::Value;

use crate::rotate::{FEW, key_names, rotate};

/// How often the bytes occur.
fn occurrences(bytes: &[u8], needle: &[u8]) -> u64 {
    let starts = bytes.windows(needle.len()).filter(|it| *it == needle);
    starts.count() as u64
}

pub(crate) fn snapshot(plane: &ControlPlane, name: &str) -> PathBuf {
    let path = plane.directory().join(name);
    let saved = plane
        .etcdctl()
        .args(["snapshot", "save"])
        .arg(&path)
        .output();
    assert!(saved.unwrap().status.success());
    path
}

fn verify(arguments: &[&str], files: &[&Path]) -> Ended {
    let files = files.iter().map(|path| path.display().to_string());
    let arguments = arguments.iter().map(|it| (*it).to_owned());
    atrest::run(
        ["verify".to_owned()]
            .into_iter()
            .chain(arguments)
            .chain(files),
    )
}

/// The parts of the residue of each key, by provider and key.
fn residue(ended: &Ended) -> BTreeMap<(String, Option<String>), BTreeMap<String, u64>> {
    let report = ended.json();
    assert!(atrest_tests::schema::faults(&report).is_empty());
    let copies = report["residue"].as_array().unwrap().iter().map(|copies| {
        let text = |field: &str| copies[field].as_str().map(str::to_owned);
        let parts = copies.as_object().unwrap().iter();
        let parts = parts.filter_map(|(name, count)| Some((name.clone(), count.as_u64()?)));
        ((text("provider").unwrap(), text("key")), parts.collect())
    });
    copies.collect()
}

pub(crate) fn compact(plane: &ControlPlane) {
    let status = plane
        .etcdctl()
        .args(["endpoint", "status", "--write-out=json"])
        .output();
    let status: Value = serde_json::from_slice(&status.unwrap().stdout).unwrap();
    let revision = status[0]["Status"]["header"]["revision"].to_string();
    let compacted = plane
        .etcdctl()
        .args(["compact", "--physical", &revision])
        .output();
    assert!(compacted.unwrap().status.success());
}

/// All files below a folder, one after the other.
fn bytes_below(folder: &Path) -> Vec<u8> {
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|it| it.unwrap().path())
        .collect();
    paths.sort();
    let mut all = Vec::new();
    for path in paths {
        if path.is_dir() {
            all.extend(bytes_below(&path));
        } else {
            all.extend(fs::read(path).unwrap());
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn residue_adds_up_to_a_search_for_bytes() {
    let mut plane = ControlPlane::start(Options {
        encryption_config: PLAINTEXT.into(),
        ..Options::default()
    });
    let client = plane.client(0).await;
    let stored = FEW.store(&client, "residue").await.unwrap();
    let file = plane.servers[0].encryption_config.clone();
    let local = |names: Vec<String>| {
        (
            format!("k8s:enc:secretbox:v1:{}:", names[0]),
            names[0].clone(),
        )
    };

    rotate(&plane, "run", &["--to", "secretbox", "--no-scrub"]).expect(0);
    let (first, first_name) = local(key_names(&file));
    rotate(&plane, "run", &["--no-scrub"]).expect(0);
    let (second, second_name) = local(key_names(&file));
    // Frees the pages of the plaintext and of the first key, some of which are used again.
    compact(&plane);
    let plugin = Plugin::start();
    let socket = format!("plugin={}", plugin.socket().display());
    let to_plugin = ["--no-scrub", "--to", "kms", "--kms-socket", &socket];
    rotate(&plane, "run", &to_plugin).expect(0);
    let first_id = plugin.active_key_id();
    plugin.keyring(&["add"]);
    plugin.keyring(&["activate"]);
    let second_id = plugin.active_key_id();
    // It asks for the key_id once a minute, and when it starts.
    plane.restart(0);
    let deadline = Instant::now() + Duration::from_secs(60);
    let config = file.display().to_string();
    let live = ["verify", "--config", &config];
    loop {
        let kubeconfig = plane.servers[0].kubeconfig.display().to_string();
        atrest::run(["reencrypt", "--kubeconfig", &kubeconfig]).expect(0);
        let flags = plane.etcd_flags();
        let verified = atrest::run(live.iter().map(|it| (*it).to_owned()).chain(flags));
        if verified.status == Some(0) && verified.stdout.contains(&second_id) {
            break;
        }
        assert!(Instant::now() < deadline, "{}", verified.stdout);
    }

    let key_id = |id: &str| [&[0x12, u8::try_from(id.len()).unwrap()], id.as_bytes()].concat();
    let needles = [
        (
            ("secretbox".to_owned(), Some(first_name)),
            first.into_bytes(),
        ),
        (
            ("secretbox".to_owned(), Some(second_name)),
            second.into_bytes(),
        ),
        (
            ("kms:v2:plugin".to_owned(), Some(first_id.clone())),
            key_id(&first_id),
        ),
        (
            ("kms:v2:plugin".to_owned(), Some(second_id.clone())),
            key_id(&second_id),
        ),
    ];
    let flags = ["--config", &config, "--history", "--output", "json"];

    // A key of which nothing is left is not listed.
    let part = |copies: &BTreeMap<_, BTreeMap<String, u64>>, key, part: &str| {
        let parts: Option<&BTreeMap<String, u64>> = copies.get(key);
        parts
            .and_then(|parts| parts.get(part).copied())
            .unwrap_or_default()
    };
    let adds_up = |what: &str, copies: &BTreeMap<_, BTreeMap<String, u64>>, bytes: &[u8]| {
        for (key, needle) in &needles {
            let parts = copies.get(key).cloned().unwrap_or_default();
            println!("{what}: {key:?}: {parts:?}");
            let found = occurrences(bytes, needle);
            assert_eq!(parts.values().sum::<u64>(), found, "{what}: {key:?}");
        }
    };
    let of_snapshot = |name: &str| {
        let saved = snapshot(&plane, name);
        let counted = verify(&[&flags[..], &["--snapshot"]].concat(), &[&saved]).expect(0);
        let copies = residue(&counted);
        adds_up(name, &copies, &fs::read(&saved).unwrap());
        copies
    };

    let total = u64::try_from(stored.len()).unwrap();
    let [newest, before] = [&needles[3].0, &needles[2].0];
    let copies = of_snapshot("history.db");
    assert!(part(&copies, newest, "live") >= total);
    assert_eq!(part(&copies, before, "live"), 0);
    assert!(part(&copies, before, "superseded") >= total);

    // What is compacted is not gone either.
    compact(&plane);
    let copies = of_snapshot("compacted.db");
    assert_eq!(part(&copies, before, "superseded"), 0);
    let freed = needles.iter().map(|(key, _)| part(&copies, key, "freed"));
    assert!(freed.sum::<u64>() > 0);

    plane.etcd.kill();
    let member = plane.directory().join("etcd/member");
    let counted = verify(
        &[&flags[..], &["--data-dir"]].concat(),
        &[&plane.directory().join("etcd")],
    )
    .expect(0);
    let of_member = residue(&counted);
    adds_up("member", &of_member, &bytes_below(&member));
    for (key, _) in &needles {
        assert!(
            part(&of_member, key, "wal") >= total,
            "the log keeps what was written"
        );
    }
    // The plaintext of before is in the log still.
    let plaintext = &of_member[&("identity".to_owned(), None)];
    assert_eq!(plaintext["live"], 0);
    assert!(plaintext["wal"] >= total, "{plaintext:?}");
}

#[test]
fn backups_say_which_keys_they_need() {
    let configuration = |keys: &[&str]| {
        let mut text = String::from(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n\
             - resources: [secrets]\n  providers:\n  - secretbox:\n      keys:\n",
        );
        for key in keys {
            let secret = match *key {
                "one" => "b25lb25lb25lb25lb25lb25lb25lb25lb25lb25lb24=",
                _ => "dHdvdHdvdHdvdHdvdHdvdHdvdHdvdHdvdHdvdHdvdHc=",
            };
            text += &format!("      - {{name: {key}, secret: {secret}}}\n");
        }
        text
    };
    let plane = ControlPlane::start(Options {
        encryption_config: configuration(&["one"]),
        ..Options::default()
    });
    let file = |name: &str, keys: &[&str]| {
        let path = plane.directory().join(name);
        fs::write(&path, configuration(keys)).unwrap();
        path.display().to_string()
    };
    let [one, two, both] = [
        file("one.yaml", &["one"]),
        file("two.yaml", &["two"]),
        file("both.yaml", &["two", "one"]),
    ];
    let create = |name: &str| {
        let mut kubectl = plane.kubectl(0);
        kubectl.args(["create", "secret", "generic", name, "--from-literal=a=b"]);
        assert!(kubectl.output().unwrap().status.success());
    };
    create("first");
    let old = snapshot(&plane, "old.db");
    plane.load(0, configuration(&["two", "one"]).as_bytes());
    create("second");
    let mixed = snapshot(&plane, "mixed.db");
    let delete = plane
        .kubectl(0)
        .args(["delete", "secret", "first"])
        .output();
    assert!(delete.unwrap().status.success());
    let new = snapshot(&plane, "new.db");

    let matrix = |config: &str, more: &[&str], files: &[&Path], status: i32| {
        let flags = ["--output", "json", "--config", config];
        let ended = verify(&[&flags[..], more, &["--snapshot"]].concat(), files).expect(status);
        let report = ended.json();
        assert!(atrest_tests::schema::faults(&report).is_empty(), "{report}");
        report
    };
    let all = [&*old, &*mixed, &*new];
    let report = matrix(&two, &[], &all, 1);
    assert_eq!(report["verdict"], "not_restorable");
    let keys = report["keys"].as_array().unwrap();
    let row = |name: &str| keys.iter().find(|key| key["key"] == name).unwrap();
    let counts = |name: &str| row(name)["counts"].clone();
    assert_eq!(counts("one"), serde_json::json!([1, 1, 0]));
    assert_eq!(counts("two"), serde_json::json!([0, 1, 1]));
    assert_eq!(
        (&row("one")["readable"], &row("two")["readable"]),
        (&false.into(), &true.into())
    );
    let verdicts: Vec<_> = report["backups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["verdict"].clone())
        .collect();
    assert_eq!(verdicts, ["not_restorable", "not_restorable", "restorable"]);
    assert_eq!(
        report["backups"][1]["objects"],
        serde_json::json!(["/registry/secrets/default/first"])
    );

    assert_eq!(
        matrix(&both, &["--rehearse"], &all, 0)["verdict"],
        "restorable"
    );
    assert_eq!(
        matrix(&two, &["--rehearse"], &[&*new], 0)["verdict"],
        "restorable"
    );
    // Other bytes under a name that is right: only a rehearsal shows it.
    let text = fs::read_to_string(&two).unwrap().replace("dHdv", "dHdw");
    let other = plane.directory().join("other.yaml");
    fs::write(&other, text).unwrap();
    let other = other.display().to_string();
    assert_eq!(
        matrix(&other, &[], &[&*mixed, &*new], 1)["backups"][1]["verdict"],
        "restorable"
    );
    let rehearsed = matrix(&other, &["--rehearse"], &[&*new], 1);
    assert_eq!(rehearsed["backups"][0]["unreadable"], 1);

    let text = verify(&["--config", &two, "--snapshot"], &all)
        .expect(1)
        .stdout;
    for expected in [
        "lacks it",
        "reads it",
        "unreadable    /registry/secrets/default/first",
    ] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }

    // What should hold, beside what is there.
    let state = |flags: &[&str], status: i32| {
        let flags = [&["--output", "json"], flags, &["--snapshot"]].concat();
        let report = verify(&flags, &[&mixed]).expect(status).json();
        report["objects"][0]["state"].as_str().unwrap().to_owned()
    };
    assert_eq!(state(&["--config", &both, "--expect", &two], 1), "stale");
    assert_eq!(
        state(&["--config", &both, "--expect", &two, "--decrypt"], 1),
        "stale"
    );
    assert_eq!(state(&["--expect", &two], 1), "unknown_key");
    assert_eq!(state(&["--config", &one], 1), "unknown_key");

    let refused = verify(&["--history", "--config", &two, "--snapshot"], &all).expect(2);
    assert!(refused.stderr.contains("--history is of one file"));
    let mut live = vec!["verify".to_owned(), "--history".into()];
    live.extend(plane.etcd_flags());
    atrest::run(live).expect(2);
}
