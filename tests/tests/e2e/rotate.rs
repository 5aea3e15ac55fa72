//! `atrest rotate`, judged by etcd's own bytes.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use atrest_tests::atrest::{self, Ended};
use atrest_tests::plugin::Plugin;
use atrest_tests::processes::{ControlPlane, Options};
use atrest_tests::secrets::{self, Population};
use atrest_tests::stored_values;

pub(crate) const FEW: Population = Population {
    secrets: 60,
    namespaces: 3,
    smallest: 64,
    largest: 16 << 10,
};

pub(crate) fn rotate(plane: &ControlPlane, action: &str, more: &[&str]) -> Ended {
    atrest::rotate(plane, action, more).output().unwrap().into()
}

pub(crate) fn key_names(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let names = text
        .lines()
        .filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix("name:"));
    names
        .map(|name| name.trim().trim_matches('"').to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn from_plaintext_to_a_key_to_another_to_kms_with_every_byte_intact() {
    let plane = ControlPlane::start(Options::default());
    let client = plane.client(0).await;
    let stored = FEW.store(&client, "stage").await.unwrap();
    let bodies = secrets::bodies_digest(&client).await.unwrap();
    stored_values::assert_prefix(&plane, stored.len(), "k8s\0");
    let file = &plane.servers[0].encryption_config;

    let planned = rotate(&plane, "plan", &["--to", "secretbox"]).expect(0);
    assert!(
        planned.stdout.contains("secretbox <new key>, identity"),
        "{}",
        planned.stdout
    );
    stored_values::assert_prefix(&plane, stored.len(), "k8s\0");

    rotate(&plane, "run", &["--to", "secretbox"]).expect(0);
    let first = key_names(file);
    assert_eq!(first.len(), 1);
    stored_values::assert_prefix(
        &plane,
        stored.len(),
        &format!("k8s:enc:secretbox:v1:{}:", first[0]),
    );

    // The old key stays readable while it is held, and goes after that.
    let held = rotate(&plane, "run", &["--hold", "3s"]).expect(4);
    assert!(held.stderr.contains("holding"), "{}", held.stderr);
    assert_eq!(key_names(file).len(), 2);
    let deadline = Instant::now() + Duration::from_secs(60);
    while rotate(&plane, "resume", &[]).status != Some(0) {
        assert!(Instant::now() < deadline, "the hold does not end");
    }
    let second = key_names(file);
    assert_eq!(second.len(), 1);
    assert_ne!(first, second);
    stored_values::assert_prefix(
        &plane,
        stored.len(),
        &format!("k8s:enc:secretbox:v1:{}:", second[0]),
    );

    let plugin = Plugin::start();
    let socket = format!("plugin={}", plugin.socket().display());
    rotate(&plane, "run", &["--to", "kms", "--kms-socket", &socket]).expect(0);
    stored_values::assert_prefix(&plane, stored.len(), "k8s:enc:kms:v2:plugin:");

    stored.assert_readable(&client).await;
    assert_eq!(secrets::bodies_digest(&client).await.unwrap(), bodies);
}

/// Nothing is sped up: the server polls its file once a minute and ends requests after one.
#[tokio::test(flavor = "multi_thread")]
async fn a_whole_rotation_with_the_stock_poll() {
    let plane = ControlPlane::start(Options {
        reload_poll: None,
        request_timeout: Duration::from_secs(60),
        ..Options::default()
    });
    let client = plane.client(0).await;
    let stored = FEW.store(&client, "stock").await.unwrap();
    let done = rotate(&plane, "run", &["--to", "aesgcm"]).expect(0);
    assert!(done.stderr.contains("waiting until it has loaded its file"));
    let keys = key_names(&plane.servers[0].encryption_config);
    assert_eq!(keys.len(), 1);
    stored_values::assert_prefix(
        &plane,
        stored.len(),
        &format!("k8s:enc:aesgcm:v1:{}:", keys[0]),
    );
    stored.assert_readable(&client).await;
}
