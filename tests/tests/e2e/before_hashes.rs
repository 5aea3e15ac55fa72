//! API servers that do not say which EncryptionConfiguration they have loaded: Kubernetes 1.33, the last
//! such release. What counts there is their count of reloads.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use atrest_tests::atrest::{self, Ended};
use atrest_tests::processes::{ControlPlane, Options};
use atrest_tests::stored_values;

use crate::rotate::{FEW, key_names};

fn served(plane: &ControlPlane) -> String {
    let output = plane.kubectl(0).args(["get", "--raw=/version"]).output();
    let answer: serde_json::Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
    answer["minor"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn reloads_are_counted_where_no_hash_is_told() {
    let plane = ControlPlane::start(Options {
        servers: 3,
        before_hashes: true,
        ..Options::default()
    });
    assert_eq!(served(&plane), "33");
    let stored = FEW.store(&plane.client(0).await, "older").await.unwrap();
    let file = atrest::rotation_yaml(&plane, 3, "");
    let rotate = |action: &str, more: &[&str]| -> Ended {
        atrest::rotate_by(&plane, &file, action, more)
            .output()
            .unwrap()
            .into()
    };
    let done = |count: usize, provider: &str| {
        let keys = key_names(&plane.servers[0].encryption_config);
        assert_eq!(keys.len(), 1);
        for server in &plane.servers {
            assert_eq!(key_names(&server.encryption_config), keys);
        }
        let prefix = format!("k8s:enc:{provider}:v1:{}:", keys[0]);
        stored_values::assert_prefix(&plane, count, &prefix);
    };

    rotate("run", &["--to", "secretbox"]).expect(0);
    done(stored.len(), "secretbox");

    // A server goes back to its old file while the old key is held, writes, and comes back.
    let config = &plane.servers[2].encryption_config;
    let old = fs::read(config).unwrap();
    rotate("run", &["--to", "aesgcm", "--hold", "4s"]).expect(4);
    let new = fs::read(config).unwrap();
    plane.load(2, &old);
    let create = [
        "create",
        "secret",
        "generic",
        "--from-literal=a=b",
        "between",
    ];
    let created = plane.kubectl(2).args(create).stdout(Stdio::null()).status();
    assert!(created.unwrap().success());
    plane.load(2, &new);
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let ended = rotate("resume", &[]);
        if ended.status == Some(0) {
            break;
        }
        assert_eq!(ended.status, Some(4), "{}", ended.stderr);
        assert!(Instant::now() < deadline, "{}", ended.stderr);
    }
    done(stored.len() + 1, "aesgcm");
    for server in &plane.servers {
        stored.assert_readable(&server.client().await).await;
    }
}
