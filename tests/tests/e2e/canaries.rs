//! What API servers report is not believed: what they write, and what they read, is looked at.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use atrest_tests::atrest::{self, Ended};
use atrest_tests::plugin::Plugin;
use atrest_tests::processes::{ControlPlane, Options};
use atrest_tests::stored_values;
use serde_json::Value;

use crate::rotate::{FEW, key_names};

struct Servers {
    plane: ControlPlane,
    file: PathBuf,
}

impl Servers {
    fn start(servers: usize) -> Self {
        let plane = ControlPlane::start(Options {
            servers,
            ..Options::default()
        });
        let file = atrest::rotation_yaml(&plane, servers, "");
        Self { plane, file }
    }

    fn rotate(&self, action: &str, more: &[&str]) -> Ended {
        let mut command = atrest::rotate_by(&self.plane, &self.file, action, more);
        // What the first server finds at a path below its directory is there for this, too.
        command.current_dir(&self.plane.servers[0].directory);
        command.output().unwrap().into()
    }

    fn config(&self, server: usize) -> &Path {
        &self.plane.servers[server].encryption_config
    }

    /// The requests of a kind that a server took for canaries.
    fn asked(&self, server: usize, verb: &str) -> usize {
        let log = fs::read_to_string(self.plane.audit_log(server)).unwrap();
        let events = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let of_canaries = events.filter(|event| {
            let uri = event["requestURI"].as_str().unwrap();
            event["stage"] == "ResponseComplete"
                && event["verb"] == verb
                && event["objectRef"]["resource"] == "secrets"
                && event["objectRef"]["namespace"] == "kube-system"
                && !uri.contains("dryRun")
                && !event["userAgent"]
                    .as_str()
                    .unwrap_or_default()
                    .starts_with("kube")
        });
        of_canaries.count()
    }

    fn assert_no_canaries(&self) {
        let mut keys = stored_values::secrets(&self.plane).into_keys();
        let left = keys.find(|key| key.contains("atrest-canary"));
        assert_eq!(left, None);
        let state = fs::read_dir(self.plane.directory().join("state")).unwrap();
        let names = state.map(|it| it.unwrap().file_name().into_string().unwrap());
        let notes: Vec<_> = names.filter(|name| name.starts_with("canaries-")).collect();
        assert_eq!(notes, [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_server_writes_a_canary_that_every_server_reads() {
    let servers = Servers::start(3);
    let plane = &servers.plane;
    let stored = FEW.store(&plane.client(0).await, "canaries").await.unwrap();
    let held = servers
        .rotate("run", &["--to", "secretbox", "--hold", "1s"])
        .expect(4);
    let lines: Vec<_> = held.stderr.lines().collect();
    let line = |text: &str| {
        let place = lines.iter().position(|line| line.contains(text));
        place.unwrap_or_else(|| panic!("no {text:?} in {}", held.stderr))
    };
    // One server before the others write, and all before anything is rewritten.
    let file = |i: usize| format!("cp{i}: wrote");
    for i in 1..=3 {
        let promoted = lines
            .iter()
            .rposition(|line| line.contains(&file(i)))
            .unwrap();
        let proven = line(&format!("cp{i}: its canary was under the new key"));
        assert!(
            promoted < proven && proven < line("step 6: rewrite"),
            "{}",
            held.stderr
        );
        assert!(i == 1 || line("cp1: its canary was") < promoted);
    }
    servers.assert_no_canaries();
    for i in 0..3 {
        // After PROMOTE, and again with the census.
        assert_eq!(servers.asked(i, "create"), 2, "server {i}");
        assert_eq!(servers.asked(i, "get"), 6, "server {i}");
    }

    // What a run that was killed left behind goes first.
    let journal = fs::read_dir(plane.directory().join("state")).unwrap();
    let mut journal = journal.map(|it| it.unwrap().path());
    let journal = journal
        .find(|it| it.extension().is_some_and(|it| it == "journal"))
        .unwrap();
    let journal = fs::read_to_string(journal).unwrap();
    let (_, begin) = journal.lines().next().unwrap().split_once(' ').unwrap();
    let begin: Value = serde_json::from_str(begin).unwrap();
    let etcd = begin["etcd_id"].as_str().unwrap();
    let name = "atrest-canary-20261125t000000000z-0";
    let note = serde_json::json!({
        "run": "20261125t000000000z", "resource": "secrets", "namespace": "kube-system", "names": [name],
    });
    let path = plane
        .directory()
        .join(format!("state/canaries-{etcd}.json"));
    fs::write(path, note.to_string()).unwrap();
    let create = [
        "create",
        "secret",
        "generic",
        "--namespace=kube-system",
        name,
    ];
    assert!(plane.kubectl(0).args(create).status().unwrap().success());
    let done = servers.rotate("resume", &[]).expect(0);
    assert!(
        done.stderr.contains("deleted 1 canaries"),
        "{}",
        done.stderr
    );
    servers.assert_no_canaries();
    let keys = key_names(servers.config(0));
    let prefix = format!("k8s:enc:secretbox:v1:{}:", keys[0]);
    stored_values::assert_prefix(plane, stored.len(), &prefix);
}

/// Both servers report the same file as loaded, and one reads nothing of what the other writes: their
/// plugins have other keyrings.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_only_says_so_is_found_by_a_canary() {
    let servers = Servers::start(2);
    let plane = &servers.plane;
    let stored = FEW.store(&plane.client(0).await, "says").await.unwrap();
    let mut plugins = [Plugin::start(), Plugin::start()];
    for (server, plugin) in plane.servers.iter().zip(&plugins) {
        symlink(plugin.socket(), server.directory.join("kms.sock")).unwrap();
    }
    let to = [
        "--to",
        "kms",
        "--kms-socket",
        "plugin=/proc/self/cwd/kms.sock",
    ];
    let stopped = servers.rotate("run", &to).expect(4);
    let told = "error: cp2 does not read what cp1 writes";
    assert!(stopped.stderr.contains(told), "{}", stopped.stderr);
    assert!(
        stopped.stderr.contains("hint: the canary is gone"),
        "{}",
        stopped.stderr
    );
    assert!(!stopped.stderr.contains("step 6"), "{}", stopped.stderr);
    servers.assert_no_canaries();
    stored_values::assert_prefix(plane, stored.len(), "k8s\0");
    let first_provider = |server| {
        let text = fs::read_to_string(servers.config(server)).unwrap();
        let providers = text.split("providers:").nth(1).unwrap();
        providers.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(
        (first_provider(0), first_provider(1)),
        ("kms:".into(), "identity:".into())
    );
    stored
        .assert_readable(&plane.servers[1].client().await)
        .await;
    servers.rotate("resume", &[]).expect(4);

    // The same keyring for both, as it is meant to be.
    plugins[1].terminate();
    fs::copy(plugins[0].keyring_file(), plugins[1].keyring_file()).unwrap();
    plugins[1].serve();
    servers.rotate("resume", &[]).expect(0);
    stored_values::assert_prefix(plane, stored.len(), "k8s:enc:kms:v2:plugin:");
    for server in &plane.servers {
        stored.assert_readable(&server.client().await).await;
    }
    servers.assert_no_canaries();
}
