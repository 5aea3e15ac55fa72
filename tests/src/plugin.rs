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
    /// Who holds the socket, if that is not the plugin itself.
    holder: Option<Child>,
    keeper: Keeper,
}

impl Plugin {
    /// Makes a keyring and serves it.
    pub fn start() -> Self {
        let mut plugin = Self::with_keyring();
        plugin.serve();
        plugin
    }

    /// The same, with a socket that `atrest-kms hold` keeps.
    pub fn start_held() -> Self {
        let mut plugin = Self::with_keyring();
        let holder = Command::new(binaries::path("atrest-kms"))
            .arg("hold")
            .arg("--socket")
            .arg(plugin.socket())
            .stdin(Stdio::null())
            .stderr(plugin.append_to_log())
            .spawn()
            .expect("atrest-kms was built");
        plugin.keeper.end(holder.id());
        plugin.holder = Some(holder);
        plugin.serve();
        plugin
    }

    /// With a keyring, and not served yet.
    pub fn with_keyring() -> Self {
        let folder = tempfile::tempdir().expect("the temporary directory can be written");
        let keeper = Keeper::start();
        keeper.remove(folder.path());
        let plugin = Self {
            folder,
            process: None,
            holder: None,
            keeper,
        };
        plugin.keyring(&["init", "--seal", "none"]);
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

    fn append_to_log(&self) -> fs::File {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.log_file());
        log.expect("our directory")
    }

    /// `atrest-kms serve`, until it takes connections.
    pub fn serve(&mut self) {
        let former = self.start_another();
        assert!(former.is_none(), "one process at a time");
    }

    /// A further process at the same socket, which serves as soon as this returns. What is returned is
    /// the former one, which serves on.
    pub fn start_another(&mut self) -> Option<Child> {
        let before = self.served();
        let mut command = Command::new(binaries::path("atrest-kms"));
        command
            .arg("serve")
            .arg("--keyring")
            .arg(self.keyring_file())
            .arg("--socket")
            .arg(self.socket())
            .args(["--log-level", "debug"]);
        if self.holder.is_some() {
            command.arg("--held");
        }
        let process = command
            .stdin(Stdio::null())
            .stderr(self.append_to_log())
            .spawn()
            .expect("atrest-kms was built");
        self.keeper.end(process.id());
        let former = self.process.replace(process);
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.served() == before {
            assert!(
                Instant::now() < deadline,
                "it does not serve: {}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        former
    }

    /// How often a process began to serve.
    fn served(&self) -> usize {
        self.log().matches(" serving socket=").count()
    }

    /// Ends the process as an operator would; it has to end well.
    pub fn terminate(&mut self) {
        let process = self.process.take().expect("it runs");
        self.end(process);
    }

    /// The same for a process that [`Self::start_another`] returned.
    pub fn end(&self, mut process: Child) {
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
        for process in [&mut self.process, &mut self.holder].into_iter().flatten() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
