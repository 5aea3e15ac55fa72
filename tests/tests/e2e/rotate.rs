//! `atrest rotate`, judged by etcd's own bytes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use atrest_tests::atrest::{self, Ended};
use atrest_tests::processes::{ControlPlane, Options};
use atrest_tests::secrets::{self, Population};
use atrest_tests::{binaries, stored_values};

pub(crate) const FEW: Population = Population {
    secrets: 60,
    namespaces: 3,
    smallest: 64,
    largest: 16 << 10,
};

pub(crate) fn rotate(plane: &ControlPlane, action: &str, more: &[&str]) -> Ended {
    atrest::rotate(plane, action, more).output().unwrap().into()
}

/// The plugin of `atrest-kms`, with a fresh keyring.
pub(crate) struct Plugin {
    pub(crate) keyring: PathBuf,
    pub(crate) socket: PathBuf,
    process: Option<Child>,
}

impl Plugin {
    pub(crate) fn start(plane: &ControlPlane) -> Self {
        let mut plugin = Self {
            keyring: plane.directory().join("keyring.json"),
            socket: plane.directory().join("kms.sock"),
            process: None,
        };
        plugin.keyring(&["init", "--seal", "none"]);
        plugin.serve(plane);
        plugin
    }

    /// `atrest-kms keyring ...`
    pub(crate) fn keyring(&self, arguments: &[&str]) {
        let output = Command::new(binaries::path("atrest-kms"))
            .arg("keyring")
            .args(arguments)
            .arg("--keyring")
            .arg(&self.keyring)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// `atrest-kms serve`, until its socket takes connections.
    pub(crate) fn serve(&mut self, plane: &ControlPlane) {
        let log = fs::File::create(plane.directory().join("atrest-kms.log")).unwrap();
        let mut command = Command::new(binaries::path("atrest-kms"));
        command
            .arg("serve")
            .arg("--keyring")
            .arg(&self.keyring)
            .arg("--socket")
            .arg(&self.socket);
        self.process = Some(
            plane
                .spawn(command.stdin(Stdio::null()).stderr(log))
                .unwrap(),
        );
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::os::unix::net::UnixStream::connect(&self.socket).is_err() {
            assert!(Instant::now() < deadline, "the plugin does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        self.kill();
    }
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

    rotate(&plane, "run", &[]).expect(0);
    let second = key_names(file);
    assert_eq!(second.len(), 1);
    assert_ne!(first, second);
    stored_values::assert_prefix(
        &plane,
        stored.len(),
        &format!("k8s:enc:secretbox:v1:{}:", second[0]),
    );

    let plugin = Plugin::start(&plane);
    let socket = format!("plugin={}", plugin.socket.display());
    rotate(&plane, "run", &["--to", "kms", "--kms-socket", &socket]).expect(0);
    stored_values::assert_prefix(&plane, stored.len(), "k8s:enc:kms:v2:plugin:");

    stored.assert_readable(&client).await;
    assert_eq!(secrets::bodies_digest(&client).await.unwrap(), bodies);
}
