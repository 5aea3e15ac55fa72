//! What cannot be used is refused before anything is written; what cannot be read is set aside.

use std::collections::BTreeMap;

use atrest_tests::atrest;
use atrest_tests::processes::{ControlPlane, Options};
use atrest_tests::stored_values;

use super::{IDENTITY, assert_no_canaries, command, configuration, etcdctl, local, reencrypt};
use crate::rotate::FEW;

/// Puts a value into etcd behind everybody's back.
fn plant(plane: &ControlPlane, name: &str, value: &str) {
    etcdctl(plane, &["put", &format!("/registry/secrets/{name}"), value]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_set_aside_and_named_and_the_rest_is_rewritten() {
    let old = local("aesgcm", &[("k1", 1)]);
    let plane = ControlPlane::start(Options {
        encryption_config: configuration(&["secrets"], &[&old]),
        ..Options::default()
    });
    let client = plane.client(0).await;
    let stored = FEW.store(&client, "poison").await.unwrap();
    let new = local("secretbox", &[("k2", 2)]);
    plane.load(0, configuration(&["secrets"], &[&new, &old]).as_bytes());
    // The namespace of a third of them is gone: the API server of old would not let them be updated.
    etcdctl(&plane, &["del", "/registry/namespaces/poison-2"]);
    let garbage = "0123456789abcdef0123456789abcdef0123456789abcdef";
    for (name, prefix) in [
        ("poison-0/flipped", "k8s:enc:aesgcm:v1:k1:"),
        ("poison-0/flipped-but-new", "k8s:enc:secretbox:v1:k2:"),
        ("poison-1/unknown", "k8s:enc:aesgcm:v1:k9:"),
        ("poison-1/torn", "k8s:enc:kms:v2:"),
    ] {
        plant(&plane, name, &format!("{prefix}{garbage}"));
    }
    let planted = 4;
    let before = stored_values::secrets(&plane);

    let stopped = reencrypt(&plane, &[]).expect(4);
    let report = stopped.json();
    assert_eq!(atrest_tests::schema::faults(&report), Vec::<String>::new());
    assert_eq!(report["objects"]["rewritten"], stored.len(), "{report}");
    assert_eq!(report["objects"]["set_aside"], planted, "{report}");
    let set_aside = report["set_aside"].as_array().unwrap().iter();
    let reasons: BTreeMap<_, _> = set_aside
        .map(|it| {
            let text = |field: &str| it[field].as_str().unwrap().to_owned();
            (
                format!("{}/{}", text("namespace"), text("name")),
                text("reason"),
            )
        })
        .collect();
    for (name, reason) in [
        ("poison-0/flipped", "not authentic"),
        ("poison-0/flipped-but-new", "not authentic"),
        ("poison-1/unknown", "no provider of the configuration"),
        ("poison-1/torn", "no provider of the configuration"),
    ] {
        assert!(reasons[name].contains(reason), "{reasons:?}");
    }
    assert!(!stopped.stdout.contains(garbage) && !stopped.stderr.contains(garbage));
    let after = stored_values::secrets(&plane);
    assert_eq!(after.len(), stored.len() + planted);
    for (key, value) in &after {
        let is_planted = reasons.keys().any(|name| key.ends_with(name));
        assert_eq!(is_planted, before[key] == *value, "{key}");
        assert!(
            is_planted || value.starts_with(b"k8s:enc:secretbox:v1:k2:"),
            "{key}"
        );
    }
    assert_no_canaries(&plane);
    // Once they are gone, everything reads again.
    for name in reasons.keys() {
        etcdctl(&plane, &["del", &format!("/registry/secrets/{name}")]);
    }
    stored.assert_readable(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_of_another_server_or_of_none_is_refused_and_nothing_is_written() {
    let plane = ControlPlane::start(Options {
        servers: 2,
        ..Options::default()
    });
    let client = plane.client(0).await;
    let stored = FEW.store(&client, "refused").await.unwrap();
    let before = stored_values::secrets(&plane);
    let [first, second] = [0, 1].map(|i| plane.servers[i].url.clone());
    let all = ["--server", &first, "--server", &second];
    let refused = |what: &str, more: &[&str], status: i32, word: &str| {
        let ended = reencrypt(&plane, &[&all, more].concat()).expect(status);
        assert!(ended.stderr.contains(word), "{what}: {}", ended.stderr);
        assert!(ended.stderr.contains("hint:"), "{what}: {}", ended.stderr);
        assert_eq!(ended.stdout, "", "{what}");
        assert_eq!(stored_values::secrets(&plane), before, "{what}");
        assert_no_canaries(&plane);
    };
    let file = |name: &str, text: &str| {
        let path = plane.directory().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let config = configuration(&["secrets"], &[&local("aescbc", &[("k1", 1)]), IDENTITY]);
    let not_loaded = file("not-loaded.yaml", &config);
    let rejected = file("rejected.yaml", &config.replace("k1", "\"\""));

    let forgotten = reencrypt(&plane, &["--server", &first]).expect(2);
    let told = "the cluster has 2 API servers, and 1 are named";
    assert!(forgotten.stderr.contains(told), "{}", forgotten.stderr);
    let is_refused_by_hash = |what: &str, more: &[&str], word: &str| {
        if plane.tells_hashes() {
            refused(what, more, 2, word);
        }
    };
    is_refused_by_hash(
        "not loaded",
        &["--config", &not_loaded],
        "has loaded another file",
    );
    refused("rejected", &["--config", &rejected], 2, "would reject");
    plane.load(0, config.as_bytes());
    is_refused_by_hash(
        "the second lags",
        &[],
        &format!("{second} has loaded another file"),
    );
    plane.load(1, config.as_bytes());
    refused(
        "wildcard",
        &["--resource", "*."],
        2,
        "stands for many resources",
    );
    refused(
        "not served",
        &["--resource", "widgets"],
        2,
        "serves no resource",
    );
    refused("prefix", &["--etcd-prefix", "/elsewhere"], 2, "/elsewhere");
    let namespace = ["--canary-namespace", "nowhere"];
    refused("no namespace for canaries", &namespace, 3, "nowhere");

    // Events are written in plaintext, Secrets are not: canaries of these would prove nothing.
    let another = configuration(
        &["secrets", "configmaps"],
        &[&local("aescbc", &[("k1", 1)])],
    ) + "- resources: [events]\n  providers:\n"
        + &local("aesgcm", &[("k2", 2)])
        + IDENTITY;
    let both = another.replace(
        "- resources: [events]",
        "  - identity: {}\n- resources: [events]",
    );
    for server in 0..2 {
        plane.load(server, both.as_bytes());
    }
    refused(
        "no canary of events",
        &["--resource", "events"],
        2,
        "canaries",
    );

    // Nobody can be asked.
    let asking = command(&plane, &all);
    let arguments = asking.get_args().filter(|it| *it != "--yes");
    let unasked = atrest::run(arguments).expect(2);
    assert!(unasked.stderr.contains("--yes"), "{}", unasked.stderr);
    assert!(
        unasked.stderr.contains("admission, audit"),
        "{}",
        unasked.stderr
    );
    assert_eq!(stored_values::secrets(&plane), before);

    let counted = reencrypt(&plane, &[&all[..], &["--dry-run"]].concat()).expect(0);
    let words = format!("of {0} objects {0} would be rewritten", stored.len());
    assert!(counted.stderr.contains(&words), "{}", counted.stderr);
    assert_eq!(stored_values::secrets(&plane), before);

    // Flags of this engine mean nothing to the other one.
    let kubeconfig = plane.servers[0].kubeconfig.display().to_string();
    let api = [
        "reencrypt",
        "--kubeconfig",
        &kubeconfig,
        "--config",
        &not_loaded,
    ];
    let api = atrest::run(api).expect(2);
    assert!(api.stderr.contains("of --engine etcd"), "{}", api.stderr);
}
