//! Single values that would keep the old key for ever: what nobody can decrypt, and what outlived its
//! namespace.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use atrest_tests::atrest;
use atrest_tests::processes::{ControlPlane, Options};
use atrest_tests::{schema, stored_values};
use serde_json::Value;

use crate::at_rest::put;
use crate::preflight::orphan;
use crate::rotate::{FEW, key_names, rotate};

fn key_of(plane: &ControlPlane) -> String {
    let keys = key_names(&plane.servers[0].encryption_config);
    assert_eq!(keys.len(), 1);
    keys[0].clone()
}

/// The certificate of the newest run.
fn certificate(plane: &ControlPlane) -> (String, Value) {
    let entries = fs::read_dir(plane.directory().join("state")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path().display().to_string());
    let newest = paths.filter(|it| it.ends_with(".certificate.json")).max();
    let newest = newest.expect("there is a certificate");
    let json = serde_json::from_slice(&fs::read(&newest).unwrap()).unwrap();
    assert_eq!(schema::faults(&json), [""; 0]);
    (newest, json)
}

/// What is kept of a value is the value, for its owner alone.
fn assert_kept(kept: &Value, key: &str, value: &[u8]) {
    assert_eq!(kept["key"], key);
    let file = Path::new(kept["file"].as_str().unwrap());
    assert!(fs::read(file).unwrap() == value);
    let mode = fs::metadata(file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_decrypt_keeps_the_old_key_until_it_is_waived_by_its_exact_key() {
    let plane = ControlPlane::start(Options::default());
    let client = plane.client(0).await;
    let stored = FEW.store(&client, "poison").await.unwrap();
    rotate(&plane, "run", &["--to", "secretbox"]).expect(0);
    let old = key_of(&plane);
    let values = stored_values::secrets(&plane);
    let (key, under_old) = values.iter().nth(7).unwrap();
    let mut poison = under_old.clone();
    *poison.last_mut().unwrap() ^= 1;

    // It appears once a run has begun: everything else is rewritten, and no key leaves.
    rotate(&plane, "run", &["--hold", "2s"]).expect(4);
    put(&plane, key, &poison);
    let deadline = Instant::now() + Duration::from_secs(120);
    let stopped = loop {
        let stopped = rotate(&plane, "resume", &[]).expect(4);
        if !stopped.stderr.contains("holding") {
            break stopped;
        }
        assert!(Instant::now() < deadline, "the hold does not end");
    };
    let told = format!("{key} (secretbox {old}, revision ");
    assert!(stopped.stderr.contains(&told), "{}", stopped.stderr);
    for told in ["nobody can decrypt it", "--waive KEY"] {
        assert!(stopped.stderr.contains(told), "{}", stopped.stderr);
    }
    assert_eq!(key_names(&plane.servers[0].encryption_config).len(), 2);
    let new = format!(
        "k8s:enc:secretbox:v1:{}:",
        key_names(&plane.servers[0].encryption_config)[0]
    );
    for (other, value) in stored_values::secrets(&plane) {
        assert!(
            other == *key || value.starts_with(new.as_bytes()),
            "{other}"
        );
    }

    // Only what is there, is rotated, and cannot be read.
    let readable = values.keys().next().unwrap();
    for (other, told) in [
        (readable.as_str(), "can be read, and needs no waiver"),
        ("/registry/secrets/default/nothing", "there is no"),
        (
            "/registry/namespaces/default",
            "is no key of a resource that is rotated",
        ),
        ("secrets/default", "is no key of a resource that is rotated"),
    ] {
        let refused = rotate(&plane, "resume", &["--waive", other]).expect(4);
        assert!(refused.stderr.contains(told), "{}", refused.stderr);
    }
    assert_eq!(key_names(&plane.servers[0].encryption_config).len(), 2);

    let json = ["--waive", key, "--output", "json"];
    let done = rotate(&plane, "resume", &json).expect(0).json();
    assert_eq!(schema::faults(&done), [""; 0]);
    assert_eq!(done["waived"], serde_json::json!([key]));
    assert_ne!(key_of(&plane), old);
    assert!(stored_values::secrets(&plane)[key] == poison);
    let (path, certified) = certificate(&plane);
    assert_kept(&certified["waived"][0], key, &poison);
    assert_eq!(
        certified["done"]["resources"][0]["total"],
        stored.len() as u64 - 1
    );
    let mut verify = vec!["verify".to_owned(), "--certificate".into(), path];
    verify.extend(plane.etcd_flags());
    atrest::run(&verify).expect(0);
    let page = rotate(&plane, "status", &["--output", "html"])
        .expect(0)
        .stdout;
    assert!(page.contains(key), "{page}");

    // Here before a run begins: named by the plan, and passed over on the same word, in snapshots, too.
    let snapshots = plane.directory().join("snapshots");
    let snapshots = format!("snapshots: {{dir: {}}}\n", snapshots.display());
    let file = atrest::rotation_yaml(&plane, 1, &snapshots);
    let by = |action: &str, more: &[&str]| -> atrest::Ended {
        let mut command = atrest::rotate_by(&plane, &file, action, more);
        command.output().unwrap().into()
    };
    for action in ["plan", "run"] {
        let refused = by(action, &[]).expect(3);
        let told = format!("{key} (secretbox {old}, revision ");
        assert!(refused.stderr.contains(&told), "{}", refused.stderr);
    }
    let refused = by("run", &["--waive", readable]).expect(2);
    let told = "can be read, and needs no waiver";
    assert!(refused.stderr.contains(told), "{}", refused.stderr);
    let planned = by("plan", &["--waive", key, "--output", "json"])
        .expect(0)
        .json();
    assert_eq!(schema::faults(&planned), [""; 0]);
    assert_eq!(planned["waived"][0]["key"], *key);
    assert_eq!(planned["waived"][0]["key_name"], old);
    by("run", &["--waive", key]).expect(0);
    assert!(stored_values::secrets(&plane)[key] == poison);

    // What is written anew under the same key is counted again.
    put(&plane, key, &stored_values::secrets(&plane)[readable]);
    let mut verify = vec!["verify".to_owned(), "--certificate".into()];
    verify.push(certificate(&plane).0);
    verify.extend(plane.etcd_flags());
    atrest::run(&verify).expect(0);
    put(&plane, key, &poison);
    atrest::run(&verify).expect(1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_outlived_its_namespace_is_adopted_or_deleted_where_no_server_writes_it() {
    let plane = ControlPlane::start(Options {
        before_hashes: true,
        ..Options::default()
    });
    let client = plane.client(0).await;
    let stored = FEW.store(&client, "orphans").await.unwrap();
    orphan(&plane, "adopted");
    orphan(&plane, "purged");
    let [adopted, purged] =
        ["adopted", "purged"].map(|it| format!("/registry/secrets/{it}/orphan"));

    let stopped = rotate(&plane, "run", &["--to", "secretbox"]).expect(4);
    for key in [&adopted, &purged] {
        let told = [
            format!("  {key}\n"),
            format!("  {key} (identity -, revision "),
        ];
        for told in told {
            assert!(stopped.stderr.contains(&told), "{}", stopped.stderr);
        }
    }
    for told in [
        "its namespace is gone",
        "--orphans adopt",
        "--orphans purge",
    ] {
        assert!(stopped.stderr.contains(told), "{}", stopped.stderr);
    }
    let left = stored_values::secrets(&plane);
    assert!(left[&adopted].starts_with(b"k8s\0") && left[&purged].starts_with(b"k8s\0"));

    // Somebody makes one of the namespaces again, and the other objects are deleted.
    let words = ["create", "namespace", "adopted"];
    assert!(
        plane
            .kubectl(0)
            .args(words)
            .output()
            .unwrap()
            .status
            .success()
    );
    let json = ["--orphans", "purge", "--output", "json"];
    let done = rotate(&plane, "resume", &json).expect(0).json();
    assert_eq!(schema::faults(&done), [""; 0]);
    assert_eq!(done["purged"], serde_json::json!([purged]));
    let prefix = format!("k8s:enc:secretbox:v1:{}:", key_of(&plane));
    stored_values::assert_prefix(&plane, stored.len() + 1, &prefix);
    assert!(!stored_values::secrets(&plane).contains_key(&purged));
    let (_, certified) = certificate(&plane);
    assert_eq!(certified["purged"].as_array().unwrap().len(), 1);
    assert_kept(&certified["purged"][0], &purged, &left[&purged]);

    let gone = "/registry/namespaces/adopted";
    assert!(
        plane
            .etcdctl()
            .args(["del", gone])
            .output()
            .unwrap()
            .status
            .success()
    );
    let planned = rotate(&plane, "plan", &["--orphans", "adopt"])
        .expect(0)
        .stdout;
    assert!(
        planned.contains("it is created again, and left"),
        "{planned}"
    );
    rotate(&plane, "run", &["--orphans", "adopt"]).expect(0);
    let prefix = format!("k8s:enc:secretbox:v1:{}:", key_of(&plane));
    stored_values::assert_prefix(&plane, stored.len() + 1, &prefix);
    let (_, certified) = certificate(&plane);
    assert_eq!(certified["adopted"], serde_json::json!(["adopted"]));
    let words = ["get", "secret", "orphan", "--namespace=adopted"];
    assert!(
        plane
            .kubectl(0)
            .args(words)
            .output()
            .unwrap()
            .status
            .success()
    );
    stored.assert_readable(&client).await;
}
