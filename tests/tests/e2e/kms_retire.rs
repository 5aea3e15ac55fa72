//! A key-encryption key is taken out once a census of the running etcd, for which the plugin vouched,
//! counted nothing under it; and for each other proof there is a reason why not.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use atrest_tests::atrest::{self, Ended};
use atrest_tests::plugin::Plugin;
use atrest_tests::processes::{ControlPlane, Options};
use serde_json::{Value, json};

struct Bench {
    folder: PathBuf,
    config: String,
}

impl Bench {
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// `atrest verify` as JSON, of whatever it is asked.
    fn census(&self, name: &str, flags: &[String]) -> String {
        let words = ["verify", "--output", "json", "--config", &self.config].map(str::to_owned);
        let ended = atrest::run(words.iter().chain(flags));
        assert!(!ended.stdout.is_empty(), "{}", ended.stderr);
        self.file(name, &ended.stdout)
    }

    fn retire(&self, plugin: &Plugin, proof: &str, more: &[&str]) -> Ended {
        let words = [
            "retire",
            "--generation",
            "1",
            "--config",
            &self.config,
            "--proof",
            proof,
        ];
        plugin.try_keyring(&[&words[..], more].concat())
    }

    fn assert_refused(&self, plugin: &Plugin, proof: &str, more: &[&str], reason: &str) {
        let before = fs::read(plugin.keyring_file()).unwrap();
        let ended = self.retire(plugin, proof, more).expect(1);
        assert!(ended.stderr.contains(reason), "{reason}: {}", ended.stderr);
        assert_eq!(fs::read(plugin.keyring_file()).unwrap(), before);
    }
}

fn create(plane: &ControlPlane, name: &str) {
    let args = ["create", "secret", "generic", name, "--from-literal=k=v"];
    let output = plane.kubectl(0).args(args).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn is_stored_under(plane: &ControlPlane, name: &str, key_id: &str) -> bool {
    let key = format!("/registry/secrets/default/{name}");
    let args = ["get", "--print-value-only", &key];
    let output = plane.etcdctl().args(args).output().unwrap();
    String::from_utf8_lossy(&output.stdout).contains(key_id)
}

fn snapshot(plane: &ControlPlane, path: &Path) -> String {
    let path = path.display().to_string();
    let output = plane
        .etcdctl()
        .args(["snapshot", "save", &path])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    path
}

#[test]
fn a_key_is_retired_by_a_proof_and_refused_by_name_without() {
    let (plugin, stranger) = (Plugin::start(), Plugin::start());
    let plane = ControlPlane::start(Options {
        encryption_config: plugin.encryption_config(),
        ..Options::default()
    });
    let elsewhere = ControlPlane::start(Options::default());
    let bench = Bench {
        folder: plane.directory().to_owned(),
        config: plane.servers[0].encryption_config.display().to_string(),
    };
    let attest = |plane: &ControlPlane| {
        let mut flags = vec!["--attest".to_owned()];
        flags.extend(plane.etcd_flags());
        flags
    };
    create(&plane, "a");
    create(&plane, "b");
    let first = plugin.active_key_id();
    let backups: Vec<_> = ["one.db", "two.db"]
        .map(|name| snapshot(&plane, &bench.folder.join(name)))
        .into();

    plugin.keyring(&["add"]);
    plugin.keyring(&["activate"]);
    let second = plugin.active_key_id();
    let started = Instant::now();
    for n in 0.. {
        let _ = plane.kubectl(0).args(["get", "--raw", "/readyz"]).output();
        let name = format!("n{n}");
        create(&plane, &name);
        if is_stored_under(&plane, &name, &second) {
            break;
        }
        assert!(
            started.elapsed() < Duration::from_secs(120),
            "the key_id is not taken up"
        );
        std::thread::sleep(Duration::from_millis(500));
    }

    let left = bench.census("left.json", &attest(&plane));
    bench.assert_refused(&plugin, &left, &["--destroy"], " left: ");
    let mut words = vec!["reencrypt".to_owned(), "--yes".into()];
    words.extend(atrest::flags(&plane, 0));
    atrest::run(&words).expect(0);

    // An API server alone; a snapshot; what nobody vouched for; what was changed.
    let mut api = vec!["--api".to_owned(), "--kubeconfig".into()];
    api.push(plane.servers[0].kubeconfig.display().to_string());
    let api = bench.census("api.json", &api);
    bench.assert_refused(&plugin, &api, &["--destroy"], "API-only proof");
    let of_file = ["--snapshot".to_owned(), backups[0].clone()];
    let of_file = bench.census("snapshot.json", &of_file);
    bench.assert_refused(&plugin, &of_file, &["--destroy"], "not of the running etcd");
    let unvouched = bench.census("unvouched.json", &plane.etcd_flags());
    bench.assert_refused(&plugin, &unvouched, &["--destroy"], "hand-made proof");
    let good = bench.census("good.json", &attest(&plane));
    let mut edited: Value = serde_json::from_str(&fs::read_to_string(&good).unwrap()).unwrap();
    edited["finished_at"] = json!("2020-01-01T00:00:00Z");
    let edited = bench.file("edited.json", &edited.to_string());
    bench.assert_refused(&plugin, &edited, &["--destroy"], "hand-made proof");

    // Another keyring's plugin vouches; another cluster is counted.
    let mut flags = attest(&plane);
    flags.extend([
        "--kms-socket".into(),
        format!("atrest={}", stranger.socket().display()),
    ]);
    let theirs = bench.census("theirs.json", &flags);
    bench.assert_refused(&plugin, &theirs, &["--destroy"], "other keyring");
    let other = bench.census("other.json", &attest(&elsewhere));
    bench.assert_refused(&plugin, &other, &["--destroy"], "other cluster");

    // Backups need the key, and nothing is said of them.
    let mut flags = vec!["--snapshot".to_owned()];
    flags.extend(backups.clone());
    let needed = bench.census("backups.json", &flags);
    bench.assert_refused(&plugin, &good, &["--backups", &needed], &backups[0]);
    bench.assert_refused(
        &plugin,
        &good,
        &[],
        "snapshots and backups of etcd may need its key",
    );

    let escrow = bench.folder.join("escrow.json");
    let keep = ["--backups", &needed, "--escrow", escrow.to_str().unwrap()];
    bench.retire(&plugin, &good, &keep).expect(0);
    let list = plugin.keyring(&["list"]);
    assert_eq!(list["generations"][0]["stage"], "retired");
    assert!(
        list["generations"][0]["proof"]
            .as_str()
            .unwrap()
            .contains("sha256:")
    );
    let text = fs::read_to_string(plugin.keyring_file()).unwrap();
    let kept = fs::read_to_string(&escrow).unwrap();
    let key = |text: &str| {
        let file: Value = serde_json::from_str(text).unwrap();
        file["generations"][0]["kek"].as_str().map(str::to_owned)
    };
    assert!(key(&kept).is_some() && key(&text).is_none());
    assert!(kept.contains(&first));
    for name in ["a", "b"] {
        let read = plane
            .kubectl(0)
            .args(["get", "secret", name])
            .output()
            .unwrap();
        assert!(read.status.success(), "{name}");
    }
    // The name stays taken.
    plugin.keyring(&["add"]);
    assert_eq!(plugin.keyring(&["list"])["generations"][2]["n"], 3);
}
