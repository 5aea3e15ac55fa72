//! What happens to a cluster in the middle of a rotation: servers that restart, files that somebody puts
//! back, clocks that are wrong, objects that take no change.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use atrest_tests::atrest::{self, Ended};
use atrest_tests::processes::{ControlPlane, Options};
use atrest_tests::{packages, stored_values};

use crate::rotate::{FEW, key_names, rotate};

/// The Debian package of libfaketime, by the program that it brings.
const FAKETIME: (&str, &str) = ("faketime", "faketime");

fn kubectl(plane: &ControlPlane, words: &str) {
    let output = plane.kubectl(0).args(words.split(' ')).output().unwrap();
    assert!(output.status.success(), "{words}: {output:?}");
}

fn kubectl_apply(plane: &ControlPlane, manifest: &str) {
    let path = plane.directory().join("manifest.yaml");
    fs::write(&path, manifest).unwrap();
    kubectl(plane, &format!("create -f {}", path.display()));
}

fn assert_under_one_key(plane: &ControlPlane, provider: &str) {
    let keys = key_names(&plane.servers[0].encryption_config);
    for server in &plane.servers {
        assert_eq!(key_names(&server.encryption_config), keys);
    }
    assert_eq!(keys.len(), 1);
    let prefix = format!("k8s:enc:{provider}:v1:{}:", keys[0]);
    for (key, value) in stored_values::secrets(plane) {
        assert!(value.starts_with(prefix.as_bytes()), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_and_a_file_that_is_put_back() {
    let mut plane = ControlPlane::start(Options {
        servers: 3,
        ..Options::default()
    });
    let stored = FEW.store(&plane.client(0).await, "outlived").await.unwrap();
    let file = atrest::rotation_yaml(&plane, 3, "");
    let run = |plane: &ControlPlane, action: &str, more: &[&str]| -> Ended {
        let mut command = atrest::rotate_by(plane, &file, action, more);
        command.output().unwrap().into()
    };

    // One of three is killed amid the rewrite and comes back.
    let slow = ["--to", "secretbox", "--max-rate", "8"];
    let running = atrest::rotate_by(&plane, &file, "run", &slow)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    let is_encrypted = |value: &&Vec<u8>| value.starts_with(b"k8s:enc:");
    while stored_values::secrets(&plane)
        .values()
        .filter(is_encrypted)
        .count()
        < 5
    {
        assert!(Instant::now() < deadline, "nothing is rewritten");
    }
    plane.kill(1);
    plane.restart(1);
    let mut said = String::new();
    let mut ended = Ended::from(running.wait_with_output().unwrap());
    loop {
        said += &ended.stderr;
        if ended.status == Some(0) {
            break;
        }
        assert_eq!(ended.status, Some(4), "{said}");
        assert!(Instant::now() < deadline, "{said}");
        ended = run(&plane, "resume", &[]);
    }
    let told = "cp2: has restarted or loaded another file";
    assert!(said.contains(told), "{said}");
    assert_under_one_key(&plane, "secretbox");

    // Configuration management puts back what it knows, as long as it runs.
    let config = plane.servers[1].encryption_config.clone();
    let kept = fs::read(&config).unwrap();
    let paused = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !paused.load(Ordering::Relaxed) {
                if fs::read(&config).is_ok_and(|now| now != kept) {
                    fs::write(&config, &kept).unwrap();
                }
                std::thread::yield_now();
            }
        });
        let stopped = run(&plane, "run", &["--to", "aesgcm"]);
        paused.store(true, Ordering::Relaxed);
        let stopped = stopped.expect(4);
        let told = "times, and each time it was changed back";
        assert!(stopped.stderr.contains(told), "{}", stopped.stderr);
        assert!(stopped.stderr.contains("cp2: "), "{}", stopped.stderr);
    });
    // Nothing was written with a key that it does not know.
    for value in stored_values::secrets(&plane).values() {
        assert!(value.starts_with(b"k8s:enc:secretbox:v1:"));
    }
    run(&plane, "resume", &[]).expect(0);
    assert_under_one_key(&plane, "aesgcm");
    for server in &plane.servers {
        stored.assert_readable(&server.client().await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_take_no_change_and_clocks_that_are_wrong() {
    let plane = ControlPlane::start(Options::default());
    let client = plane.client(0).await;
    let stored = FEW.store(&client, "awkward").await.unwrap();
    // As large as etcd takes it, of which base64 is a third more.
    let large = plane.directory().join("large");
    fs::write(&large, vec![b'x'; 1_000_000]).unwrap();
    let large = large.display();
    kubectl(
        &plane,
        &format!("create secret generic large --from-file=a={large}"),
    );
    kubectl_apply(
        &plane,
        "apiVersion: v1\nkind: Secret\nimmutable: true\nmetadata: {name: immutable, namespace: default}\n",
    );
    // A namespace that has all that it may have, and one that is being deleted.
    kubectl(&plane, "create namespace full");
    kubectl(&plane, "create secret generic one -n full");
    kubectl(&plane, "create quota none -n full --hard=secrets=1");
    kubectl_apply(
        &plane,
        "apiVersion: v1\nkind: LimitRange\nmetadata: {name: range, namespace: full}\n\
         spec: {limits: [{type: Container, max: {cpu: 1m}}]}\n",
    );
    kubectl(&plane, "create namespace ending");
    kubectl_apply(
        &plane,
        "apiVersion: v1\nkind: Secret\nmetadata: {name: held, namespace: ending, finalizers: [example.com/held]}\n",
    );
    kubectl(&plane, "delete namespace ending --wait=false");

    rotate(&plane, "run", &["--to", "secretbox"]).expect(0);
    assert_under_one_key(&plane, "secretbox");
    stored.assert_readable(&client).await;

    // A clock that is ahead by ten minutes, and steps back before the run is over.
    if !packages::available(&[FAKETIME]) {
        return;
    }
    let shifted = |by: &str, action: &str, more: &[&str]| -> Ended {
        let command = atrest::rotate(&plane, action, more);
        let mut faked = Command::new("faketime");
        faked
            .args(["-f", by])
            .arg(command.get_program())
            .args(command.get_args())
            .env_remove("KUBECONFIG")
            .env("HOME", "/nonexistent");
        faked.output().unwrap().into()
    };
    shifted("+10m", "run", &["--to", "aesgcm", "--hold", "2s"]).expect(4);
    assert_eq!(key_names(&plane.servers[0].encryption_config).len(), 2);
    let behind = shifted("-3m", "resume", &[]).expect(4);
    // What was held until then is held longer, never shorter.
    assert!(behind.stderr.contains("holding"), "{}", behind.stderr);
    shifted("+11m", "resume", &[]).expect(0);
    assert_under_one_key(&plane, "aesgcm");
    stored.assert_readable(&client).await;
}
