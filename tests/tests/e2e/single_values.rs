//! Single values that would keep the old key for ever: what nobody can decrypt, and what outlived its
//! namespace.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use atrest_tests::atrest;
use atrest_tests::processes::{ControlPlane, Options};
use atrest_tests::{packages, schema, stored_values};
use data_encoding::HEXLOWER;
use serde_json::Value;
use sha2::{Digest, Sha256};

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

#[track_caller]
fn succeed(command: &mut Command) {
    assert!(command.output().unwrap().status.success());
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
    succeed(plane.kubectl(0).args(words));
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
    succeed(plane.etcdctl().args(["del", gone]));
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
    succeed(plane.kubectl(0).args(words));
    stored.assert_readable(&client).await;
}

/// Where the newest run, which is not done, keeps values.
fn keeps(plane: &ControlPlane) -> PathBuf {
    let entries = fs::read_dir(plane.directory().join("state")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let journals = paths.filter(|it| it.extension().is_some_and(|it| it == "journal"));
    journals
        .max()
        .expect("there is a run")
        .with_extension("kept")
}

/// `rotate resume --orphans purge`, under strace with something that happens to calls with a path.
fn resume_traced(plane: &ControlPlane, path: &Path, inject: &str) -> Command {
    let command = atrest::rotate(plane, "resume", &["--orphans", "purge"]);
    let calls = inject.split(':').next().unwrap();
    let mut traced = Command::new("strace");
    traced
        .args(["-f", "-qqq", "-o", "/dev/null", "-P"])
        .arg(path)
        .args([
            "-e",
            &format!("trace={calls}"),
            "-e",
            &format!("inject={inject}"),
        ])
        .arg(command.get_program())
        .args(command.get_args())
        .env_remove("KUBECONFIG")
        .env("HOME", "/nonexistent")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    traced
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_comes_back_saves_its_objects_and_a_kill_deletes_nothing_twice() {
    if !packages::available(&[("strace", "strace")]) {
        return;
    }
    let plane = ControlPlane::start(Options {
        before_hashes: false,
        ..Options::default()
    });
    FEW.store(&plane.client(0).await, "purge").await.unwrap();
    orphan(&plane, "back");
    let (key, namespace) = ("/registry/secrets/back/orphan", "/registry/namespaces/back");
    let stale = stored_values::secrets(&plane)[key].clone();
    rotate(&plane, "run", &["--to", "secretbox", "--hold", "1s"]).expect(4);

    // Its namespace is made again after the object was found to be an orphan, and before it is deleted.
    put(&plane, key, &stale);
    let mut resumed = resume_traced(&plane, &keeps(&plane), "mkdir,mkdirat:delay_exit=20000000")
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    while !keeps(&plane).exists() {
        assert!(Instant::now() < deadline, "nothing is to be deleted");
    }
    let words = ["create", "namespace", "back"];
    succeed(plane.kubectl(0).args(words));
    assert!(resumed.wait().unwrap().success());
    let (_, certified) = certificate(&plane);
    assert_eq!(certified["purged"], serde_json::json!([]));
    let under_old = stored_values::secrets(&plane)[key].clone();
    let old = format!("k8s:enc:secretbox:v1:{}:", key_of(&plane));
    assert!(under_old.starts_with(old.as_bytes()));

    // Killed before the bytes are kept, and when they are.
    rotate(&plane, "run", &["--hold", "1s"]).expect(4);
    succeed(plane.etcdctl().args(["del", namespace]));
    put(&plane, key, &under_old);
    let mut get = plane.etcdctl();
    let got = get.args(["get", key, "--write-out=json"]).output().unwrap();
    let got: Value = serde_json::from_slice(&got.stdout).unwrap();
    let of_key = HEXLOWER.encode(&Sha256::digest(key));
    let kept = format!("{}-{}", got["kvs"][0]["mod_revision"], &of_key[..16]);
    let kept = keeps(&plane).join(kept);
    for (calls, is_kept) in [("mkdir,mkdirat", false), ("fsync", true)] {
        let inject = format!("{calls}:signal=KILL");
        let mut killed = resume_traced(&plane, &keeps(&plane), &inject);
        assert!(!killed.status().unwrap().success());
        assert_eq!(kept.exists(), is_kept, "{calls}");
        assert!(stored_values::secrets(&plane)[key] == under_old);
    }
    rotate(&plane, "resume", &["--orphans", "purge"]).expect(0);
    assert!(!stored_values::secrets(&plane).contains_key(key));
    let (_, certified) = certificate(&plane);
    assert_eq!(certified["purged"].as_array().unwrap().len(), 1);
    assert_kept(&certified["purged"][0], key, &under_old);
}
