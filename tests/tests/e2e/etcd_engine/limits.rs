//! What etcd has room for: operations and bytes of a transaction, and the quota of its database.

use atrest_tests::processes::{ControlPlane, Options};
use atrest_tests::secrets::Population;
use atrest_tests::stored_values;

use super::{
    IDENTITY, assert_no_canaries, assert_rewrites, assert_rewritten, command_of, configuration,
    etcdctl, local, objects, reencrypt,
};
use crate::rotate::FEW;

/// Stores the largest Secret that the API server still takes, give or take a few bytes.
fn store_the_largest(plane: &ControlPlane, limit: usize) {
    let file = plane.directory().join("large");
    for size in (0..limit).rev().step_by(16) {
        std::fs::write(&file, vec![b'x'; size]).unwrap();
        let from = format!("--from-file=k={}", file.display());
        let created = plane
            .kubectl(0)
            .args(["create", "secret", "generic", "large", &from])
            .output()
            .unwrap();
        if created.status.success() {
            return;
        }
    }
    panic!("nothing is small enough");
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_fit_an_etcd_that_takes_less_and_what_cannot_fit_is_set_aside() {
    const LIMIT: usize = 100_000;
    let plane = ControlPlane::start(Options {
        etcd: &["--max-txn-ops=24", "--max-request-bytes=100000"],
        ..Options::default()
    });
    let client = plane.client(0).await;
    let stored = Population {
        secrets: 200,
        ..FEW
    }
    .store(&client, "limits")
    .await
    .unwrap();
    store_the_largest(&plane, LIMIT);
    // Key and tag, and a name so long that it no longer fits.
    let name = "k".repeat(500);
    let config = configuration(&["secrets"], &[&local("aesgcm", &[(&name, 1)]), IDENTITY]);
    plane.load(0, config.as_bytes());

    let stopped = reencrypt(&plane, &[]).expect(4);
    let report = stopped.json();
    assert_eq!(report["objects"]["rewritten"], stored.len(), "{report}");
    let set_aside = report["set_aside"].as_array().unwrap();
    assert_eq!(set_aside.len(), 1, "{report}");
    assert_eq!(
        (&set_aside[0]["namespace"], &set_aside[0]["name"]),
        (&"default".into(), &"large".into())
    );
    let reason = set_aside[0]["reason"].as_str().unwrap();
    assert!(reason.contains("--max-request-bytes"), "{reason}");
    assert_no_canaries(&plane);
    stored.assert_readable(&client).await;
    let values = stored_values::secrets(&plane);
    let under_the_key = values
        .values()
        .filter(|value| value.starts_with(b"k8s:enc:"));
    assert_eq!(under_the_key.count(), stored.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn older_releases_of_etcd_are_written_alike() {
    for (release, says_its_quota) in [("3.5", false), ("3.6", true)] {
        let plane = ControlPlane::start(Options {
            etcd_release: Some(release),
            ..Options::default()
        });
        let client = plane.client(0).await;
        let stored = FEW.store(&client, "older").await.unwrap();
        let config = configuration(&["secrets"], &[&local("aesgcm", &[("k1", 1)]), IDENTITY]);
        plane.load(0, config.as_bytes());
        let ended = reencrypt(&plane, &[]);
        let is_assumed = ended.stderr.contains("2 GiB is assumed");
        assert_eq!(is_assumed, !says_its_quota, "{release}: {}", ended.stderr);
        let counts = objects(ended, 0);
        assert_eq!(counts["rewritten"], stored.len(), "{release}: {counts}");
        stored_values::assert_prefix(&plane, stored.len(), "k8s:enc:aesgcm:v1:k1:");
        stored.assert_readable(&client).await;
        assert_rewrites(&plane, 0, stored.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_of_64_mib_outlives_100_mib_of_rewrites() {
    outlives_100_mib("etcd").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_of_64_mib_outlives_100_mib_of_rewrites_through_the_api() {
    outlives_100_mib("api").await;
}

async fn outlives_100_mib(engine: &str) {
    let live = Population {
        secrets: 1280,
        namespaces: 2,
        smallest: 16 << 10,
        largest: 16 << 10,
    };
    let key = |name: &str, byte| local("secretbox", &[(name, byte)]);
    let plane = ControlPlane::start(Options {
        encryption_config: configuration(&["secrets"], &[&key("k0", 9)]),
        etcd: &["--quota-backend-bytes=67108864"],
        ..Options::default()
    });
    let client = plane.client(0).await;
    let stored = live.store(&client, "quota").await.unwrap();
    let mut last = key("k0", 9);
    // 20 MiB each.
    for round in 1..=5 {
        let name = format!("k{round}");
        let new = key(&name, round);
        plane.load(0, configuration(&["secrets"], &[&new, &last]).as_bytes());
        let ended = command_of(&plane, engine, &[]).output().unwrap();
        assert_rewritten(&objects(ended.into(), 0), stored.len(), 0);
        let prefix = format!("k8s:enc:secretbox:v1:{name}:");
        stored_values::assert_prefix(&plane, stored.len(), &prefix);
        assert_eq!(etcdctl(&plane, &["alarm", "list"]), "", "in round {round}");
        last = new;
    }
    stored.assert_readable(&client).await;
    assert_no_canaries(&plane);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_room_stops_the_run_before_the_alarm() {
    let live = Population {
        secrets: 1400,
        namespaces: 2,
        smallest: 16 << 10,
        largest: 16 << 10,
    };
    let plane = ControlPlane::start(Options {
        etcd: &["--quota-backend-bytes=33554432"],
        ..Options::default()
    });
    let client = plane.client(0).await;
    let stored = live.store(&client, "full").await.unwrap();
    let config = configuration(&["secrets"], &[&local("aesgcm", &[("k1", 1)]), IDENTITY]);
    plane.load(0, config.as_bytes());
    let stopped = reencrypt(&plane, &[]).expect(4);
    assert!(
        stopped.stderr.contains("etcd has no room"),
        "{}",
        stopped.stderr
    );
    assert!(stopped.stderr.contains("hint:"), "{}", stopped.stderr);
    assert_eq!(etcdctl(&plane, &["alarm", "list"]), "");
    assert_no_canaries(&plane);
    stored.assert_readable(&client).await;
}
