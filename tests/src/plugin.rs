//! `atrest-kms` as a user runs it: a keyring, a socket and the process between them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::atrest::Ended;
use crate::binaries;
use crate::keeper::Keeper;
use crate::schema;

/// A plugin with a fresh keyring. It ends when it is dropped, or when this process ends in
/// whatever way.
pub struct Plugin {
    folder: TempDir,
    process: Option<Child>,
    keeper: Keeper,
}

impl Plugin {
    /// Makes a keyring and serves it.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("the temporary directory can be written");
        let keeper = Keeper::start();
        keeper.remove(folder.path());
        let mut plugin = Self {
            folder,
            process: None,
            keeper,
        };
        plugin.keyring(&["init", "--seal", "none"]);
        plugin.serve();
        plugin
    }

    /// The keyring's file.
    pub fn keyring_file(&self) -> PathBuf {
        self.folder.path().join("keyring.json")
    }

    /// The socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("kms.sock")
    }

    /// Of the running process.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    /// What all its processes logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// `atrest-kms keyring ...`, which has to succeed.
    pub fn keyring(&self, arguments: &[&str]) -> Value {
        let ended = self.try_keyring(arguments).expect(0);
        let list = ended.json();
        assert_eq!(schema::faults(&list), Vec::<String>::new());
        list
    }

    /// `atrest-kms keyring ...`, however it ends.
    pub fn try_keyring(&self, arguments: &[&str]) -> Ended {
        Command::new(binaries::path("atrest-kms"))
            .arg("keyring")
            .args(arguments)
            .args(["--output", "json", "--keyring"])
            .arg(self.keyring_file())
            .output()
            .expect("atrest-kms was built")
            .into()
    }

    /// The key_id that is written with now.
    pub fn active_key_id(&self) -> String {
        let list = self.keyring(&["list"]);
        let generations = list["generations"].as_array().cloned().unwrap_or_default();
        let active = generations
            .iter()
            .find(|generation| generation["stage"] == "active");
        let key_id = active.and_then(|generation| generation["key_id"].as_str());
        key_id.expect("one generation is active").to_owned()
    }

    /// Has the keyring write with another key, and waits until the running plugin does, too.
    pub fn change_key(&self) -> String {
        self.keyring(&["add"]);
        self.keyring(&["activate"]);
        let key_id = self.active_key_id();
        let deadline = Instant::now() + Duration::from_secs(30);
        while !self.log().contains(&key_id) {
            assert!(Instant::now() < deadline, "{key_id} is not served");
            std::thread::sleep(Duration::from_millis(50));
        }
        key_id
    }

    /// `atrest-kms serve`, until its socket takes connections.
    pub fn serve(&mut self) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.log_file());
        let process = Command::new(binaries::path("atrest-kms"))
            .arg("serve")
            .arg("--keyring")
            .arg(self.keyring_file())
            .arg("--socket")
            .arg(self.socket())
            .args(["--log-level", "debug"])
            .stdin(Stdio::null())
            .stderr(log.expect("our directory"))
            .spawn()
            .expect("atrest-kms was built");
        self.keeper.end(process.id());
        self.process = Some(process);
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::os::unix::net::UnixStream::connect(self.socket()).is_err() {
            assert!(
                Instant::now() < deadline,
                "it does not listen: {}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the process as an operator would; it has to end well.
    pub fn terminate(&mut self) {
        let mut process = self.process.take().expect("it runs");
        kill_process(Pid::from_child(&process), Signal::TERM).expect("it runs");
        let status = process.wait().expect("our own child");
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }

    /// An EncryptionConfiguration that writes Secrets through the provider `atrest`, which is this
    /// plugin, and still reads plaintext.
    pub fn encryption_config(&self) -> String {
        encryption_config(&self.socket())
    }
}

fn encryption_config(socket: &Path) -> String {
    format!(
        "apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources:
  - secrets
  providers:
  - kms:
      apiVersion: v2
      name: atrest
      endpoint: unix://{}
      timeout: 3s
  - identity: {{}}
",
        socket.display()
    )
}

impl Drop for Plugin {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
