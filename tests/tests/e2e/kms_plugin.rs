//! kube-apiserver encrypts through `atrest-kms`: over restarts of either, over a change of the
//! key-encryption key, and with a keyring that lacks a key.

use std::fs;
use std::process::Output;
use std::time::{Duration, Instant};

use atrest_tests::plugin::Plugin;
use atrest_tests::processes::{ControlPlane, Options};

/// kube-apiserver asks for the key_id once a minute, and every 20 s while somebody asks for its
/// readiness.
const NOTICE: Duration = Duration::from_secs(75);

fn create(plane: &ControlPlane, name: &str) -> bool {
    let value = format!("--from-literal=k=hunter2-{name}");
    let output = plane
        .kubectl(0)
        .args(["create", "secret", "generic", name, &value])
        .output()
        .unwrap();
    output.status.success()
}

fn read(plane: &ControlPlane, name: &str) -> Output {
    plane
        .kubectl(0)
        .args(["get", "secret", name, "-o", "jsonpath={.data.k}"])
        .output()
        .unwrap()
}

fn assert_reads(plane: &ControlPlane, name: &str) {
    let output = read(plane, name);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let value = data_encoding::BASE64.decode(&output.stdout).unwrap();
    assert_eq!(String::from_utf8(value).unwrap(), format!("hunter2-{name}"));
}

/// The bytes that etcd keeps.
fn raw(plane: &ControlPlane, name: &str) -> String {
    let key = format!("/registry/secrets/default/{name}");
    let output = plane
        .etcdctl()
        .args(["get", "--print-value-only", &key])
        .output()
        .unwrap();
    assert!(output.status.success());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn assert_stored_under(plane: &ControlPlane, name: &str, key_id: &str) {
    let raw = raw(plane, name);
    assert!(raw.starts_with("k8s:enc:kms:v2:atrest:"), "{raw}");
    assert!(raw.contains(key_id), "{raw}");
    assert!(!raw.contains("hunter2"), "{raw}");
}

fn until(what: &str, deadline: Duration, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(250));
    }
}

#[test]
fn secrets_outlive_restarts_new_keys_and_a_lost_keyring() {
    let mut plugin = Plugin::start();
    let mut plane = ControlPlane::start(Options {
        encryption_config: plugin.encryption_config(),
        ..Options::default()
    });
    let first = plugin.active_key_id();
    assert!(create(&plane, "a"));
    assert_stored_under(&plane, "a", &first);

    // Both start again: whatever is read now was decrypted by the plugin's second process.
    plugin.terminate();
    plugin.serve();
    plane.restart(0);
    assert_reads(&plane, "a");

    plugin.keyring(&["add"]);
    plugin.keyring(&["activate"]);
    let second = plugin.active_key_id();
    assert_ne!(first, second);
    let mut written = 0;
    until("Secrets are written under the new key", NOTICE, || {
        let _ = plane.kubectl(0).args(["get", "--raw", "/readyz"]).output();
        written += 1;
        let name = format!("b{written}");
        assert!(create(&plane, &name), "a write failed during the rotation");
        raw(&plane, &name).contains(&second)
    });
    assert_stored_under(&plane, "a", &first);
    plane.restart(0);
    assert_reads(&plane, "a");
    assert_reads(&plane, &format!("b{written}"));

    // The keyring of another cluster.
    let keyring = plugin.keyring_file();
    let ours = fs::read(&keyring).unwrap();
    fs::remove_file(&keyring).unwrap();
    plugin.keyring(&["init", "--seal", "none"]);
    until(
        "the other keyring is served",
        Duration::from_secs(10),
        || plugin.log().contains("a key is gone"),
    );
    let before = raw(&plane, "a");
    // A reload forgets the seeds that were decrypted. (After a restart with such a keyring the
    // server would not become ready at all.)
    let config = plugin.encryption_config() + "# loaded again\n";
    fs::write(&plane.servers[0].encryption_config, config).unwrap();
    let mut said = String::new();
    until(
        "the missing key is noticed",
        Duration::from_secs(30),
        || {
            let output = read(&plane, "a");
            said = String::from_utf8_lossy(&output.stderr).into_owned();
            !output.status.success()
        },
    );
    assert!(said.contains(&format!("has no key {first}")), "{said}");
    assert_eq!(raw(&plane, "a"), before);

    fs::write(&keyring, ours).unwrap();
    until("the Secret reads again", Duration::from_secs(30), || {
        read(&plane, "a").status.success()
    });
    assert_reads(&plane, "a");
    plugin.terminate();
}

/// The socket is held, or the client would try it again only after a while.
#[test]
fn r29_an_api_server_that_starts_before_the_plugin_becomes_ready_with_it() {
    let mut plugin = Plugin::start_held();
    let mut plane = ControlPlane::start(Options {
        encryption_config: plugin.encryption_config(),
        ..Options::default()
    });
    assert!(create(&plane, "a"));
    plugin.terminate();
    plane.relaunch(0);
    let pid = plane.servers[0].pid();
    until(
        "the server misses its plugin",
        Duration::from_secs(60),
        || {
            let output = plane
                .kubectl(0)
                .args(["get", "--raw", "/readyz?verbose"])
                .output()
                .unwrap();
            String::from_utf8_lossy(&output.stderr).contains("[-]kms-providers failed")
        },
    );
    plugin.serve();
    plane.wait_ready(0);
    assert_reads(&plane, "a");
    assert!(create(&plane, "b"));
    assert_stored_under(&plane, "b", &plugin.active_key_id());
    assert_eq!(plane.servers[0].pid(), pid);
    plugin.terminate();
}
