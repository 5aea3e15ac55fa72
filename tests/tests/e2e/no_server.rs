//! The way back where no API server runs: files with which they start again, by etcd alone.

use std::fs;
use std::time::Duration;

use atrest_tests::atrest::{self, Ended};
use atrest_tests::plugin::Plugin;
use atrest_tests::processes::{ControlPlane, Options};
use atrest_tests::stored_values;

use crate::rotate::{FEW, key_names, kill_when, rotate, under};

const RENEWED: &str = "an API server runs and does not answer here";

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_without_servers_gives_each_a_file_that_reads_everything() {
    let mut plane = ControlPlane::start(Options {
        servers: 3,
        ..Options::default()
    });
    let stored = FEW.store(&plane.client(0).await, "dead").await.unwrap();
    let file = atrest::rotation_yaml(&plane, 3, "");
    let by = |plane: &ControlPlane, action: &str, more: &[&str]| -> Ended {
        let mut command = atrest::rotate_by(plane, &file, action, more);
        command.output().unwrap().into()
    };
    by(&plane, "run", &["--to", "secretbox"]).expect(0);
    let old = key_names(&plane.servers[0].encryption_config);
    // Amid the rewrite, so that both keys are needed.
    let mut amid = atrest::rotate_by(&plane, &file, "run", &["--max-rate", "4"]);
    kill_when(&mut amid, || {
        let keys = key_names(&plane.servers[0].encryption_config);
        keys.len() == 2 && keys[1] == old[0] && under(&plane, &keys[0]) > 5
    });
    let both = key_names(&plane.servers[0].encryption_config);
    assert!(under(&plane, &old[0]) > 0);

    // One runs that nobody listed: whatever it writes with, no file is touched.
    let others = [fs::read(&plane.servers[0].encryption_config).unwrap()];
    plane.add_server();
    for i in 0..3 {
        plane.kill(i);
    }
    let refused = by(&plane, "rollback", &[]).expect(4);
    assert!(refused.stderr.contains(RENEWED), "{}", refused.stderr);
    for server in &plane.servers[..3] {
        assert_eq!(fs::read(&server.encryption_config).unwrap(), others[0]);
    }
    plane.kill(3);

    // Of two files nothing is left that a server starts with: one was edited, one is gone.
    fs::write(&plane.servers[1].encryption_config, "kind: Encryption\n").unwrap();
    let gone = &plane.servers[2].encryption_config;
    fs::remove_file(gone).unwrap();
    let prepared = by(&plane, "rollback", &[]).expect(4);
    for told in [
        "cp2: kube-apiserver would reject",
        "cp3: it has no file",
        "start every API server",
    ] {
        assert!(prepared.stderr.contains(told), "{}", prepared.stderr);
    }
    let turned = [both[1].clone(), both[0].clone()];
    for server in &plane.servers[..3] {
        assert_eq!(key_names(&server.encryption_config), turned);
    }

    for i in 0..3 {
        plane.restart(i);
    }
    for server in &plane.servers[..3] {
        stored.assert_readable(&server.client().await).await;
    }
    // The one that was taken away keeps its Lease for an hour.
    let mut kubectl = plane.kubectl(0);
    let leases = [
        "delete",
        "lease",
        "-n=kube-system",
        "-l=kubernetes.io/hostname=atrest-cp4",
    ];
    assert!(kubectl.args(leases).status().unwrap().success());
    by(&plane, "resume", &[]).expect(0);
    let prefix = format!("k8s:enc:secretbox:v1:{}:", old[0]);
    stored_values::assert_prefix(&plane, stored.len(), &prefix);
    for server in &plane.servers[..3] {
        assert_eq!(key_names(&server.encryption_config), old);
        stored.assert_readable(&server.client().await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_nothing_needs_keeps_no_server_from_starting() {
    let mut plane = ControlPlane::start(Options {
        // Between one file and the next.
        reload_poll: Some(Duration::from_secs(5)),
        ..Options::default()
    });
    let stored = FEW.store(&plane.client(0).await, "away").await.unwrap();
    let config = plane.servers[0].encryption_config.clone();
    rotate(&plane, "run", &["--to", "secretbox"]).expect(0);
    let old = fs::read_to_string(&config).unwrap();

    let plugin = Plugin::start();
    let socket = format!("plugin={}", plugin.socket().display());
    let to_plugin = ["--to", "kms", "--kms-socket", &socket];
    kill_when(&mut atrest::rotate(&plane, "run", &to_plugin), || {
        fs::read_to_string(&config).unwrap().contains("kms")
    });
    plane.kill(0);
    drop(plugin);

    rotate(&plane, "rollback", &[]).expect(4);
    let back = fs::read_to_string(&config).unwrap();
    assert!(!back.contains("kms"));
    assert_eq!(key_names(&config).len(), 1);
    assert_eq!(back, old, "nothing else was changed");
    plane.restart(0);
    rotate(&plane, "resume", &[]).expect(0);
    let prefix = format!("k8s:enc:secretbox:v1:{}:", key_names(&config)[0]);
    stored_values::assert_prefix(&plane, stored.len(), &prefix);
    stored.assert_readable(&plane.client(0).await).await;
}
