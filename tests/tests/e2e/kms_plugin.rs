//! kube-apiserver encrypts through `atrest-kms`: over restarts of either, over a change of the
//! key-encryption key, and with a keyring that lacks a key.
#![allow(clippy::unwrap_used)] // clippy takes only #[test] functions for tests
#![allow(clippy::disallowed_methods)] // the bans are about files of users, not those of a test

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use atrest_tests::binaries;
use atrest_tests::processes::{ControlPlane, Options};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// kube-apiserver asks for the key_id once a minute, and every 20 s while somebody asks for its
/// readiness.
const NOTICE: Duration = Duration::from_secs(75);

/// The plugin with its keyring and socket.
struct Plugin {
    folder: TempDir,
    process: Option<Child>,
}

impl Plugin {
    fn start() -> Self {
        let mut plugin = Self {
            folder: tempfile::tempdir().unwrap(),
            process: None,
        };
        plugin.keyring(&["init", "--seal", "none"]);
        plugin.serve();
        plugin
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn keyring(&self, args: &[&str]) -> Value {
        let output = Command::new(binaries::path("atrest-kms"))
            .arg("keyring")
            .args(args)
            .args(["-o", "json", "--keyring"])
            .arg(self.path("keyring.json"))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn active_key_id(&self) -> String {
        let list = self.keyring(&["list"]);
        let rows = list["generations"].as_array().unwrap();
        let active = rows.iter().find(|row| row["stage"] == "active").unwrap();
        active["key_id"].as_str().unwrap().to_owned()
    }

    fn serve(&mut self) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .unwrap();
        let process = Command::new(binaries::path("atrest-kms"))
            .arg("serve")
            .arg("--keyring")
            .arg(self.path("keyring.json"))
            .arg("--socket")
            .arg(self.path("kms.sock"))
            .args(["--log-level", "debug"])
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(process);
    }

    fn terminate(&mut self) {
        let mut process = self.process.take().unwrap();
        kill_process(Pid::from_child(&process), Signal::TERM).unwrap();
        assert_eq!(process.wait().unwrap().code(), Some(0));
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    fn encryption_config(&self) -> String {
        format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n\
             - resources:\n  - secrets\n  providers:\n  - kms:\n      apiVersion: v2\n      name: atrest\n\
             \x20     endpoint: unix://{}\n      timeout: 3s\n  - identity: {{}}\n",
            self.path("kms.sock").display()
        )
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

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
    let keyring = plugin.path("keyring.json");
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
