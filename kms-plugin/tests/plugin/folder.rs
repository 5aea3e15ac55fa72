//! A directory of its own for each test, and the program run in it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_atrest-kms");

pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With an unsealed keyring in it.
    pub(crate) fn with_keyring() -> Self {
        let folder = Self::new();
        folder.ok(&["keyring", "init", "--seal", "none"]);
        folder
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn keyring(&self) -> PathBuf {
        self.path("keyring.json")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("kms.sock")
    }

    /// Everybody may go in, not only who made it.
    pub(crate) fn open_to_all(&self) {
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(self.0.path(), mode).unwrap();
    }

    /// Everything in it belongs to another user now, where the test is root.
    pub(crate) fn give_to(&self, uid: u32) {
        let inside = self.entries().into_iter().map(|name| self.path(&name));
        for path in inside.chain([self.0.path().to_owned()]) {
            std::os::unix::fs::chown(path, Some(uid), Some(uid)).unwrap();
        }
    }

    pub(crate) fn entries(&self) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(self.0.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// The command with `--keyring` of this folder.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .args(args)
            .arg("--keyring")
            .arg(self.keyring())
            .env_remove("CREDENTIALS_DIRECTORY");
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a command that must succeed.
    pub(crate) fn ok(&self, args: &[&str]) -> Output {
        let output = self.run(args);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{args:?}: {}",
            stderr(&output)
        );
        output
    }

    /// Runs a command that must fail with this status, in the form of all failures.
    pub(crate) fn fails(&self, status: i32, args: &[&str]) -> String {
        let output = self.run(args);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(status), "{args:?}: {said}");
        assert!(output.stdout.is_empty(), "{args:?}");
        let error = said.lines().find(|line| line.starts_with("error: "));
        assert!(
            error.is_some_and(|line| !line.ends_with('.')),
            "{args:?}: {said}"
        );
        said
    }

    /// `serve`, which must fail to start.
    pub(crate) fn serve_fails(&self, status: i32, args: &[&str]) -> String {
        let socket = self.socket();
        let mut all = vec!["serve", "--socket", socket.to_str().unwrap()];
        all.extend(args);
        self.fails(status, &all)
    }

    /// `keyring list` as JSON.
    pub(crate) fn list(&self) -> Value {
        serde_json::from_slice(&self.ok(&["keyring", "list", "-o", "json"]).stdout).unwrap()
    }

    /// The key_id of generation `n`.
    pub(crate) fn key_id(&self, n: usize) -> String {
        self.list()["generations"][n - 1]["key_id"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub(crate) fn write(path: &Path, bytes: &[u8]) {
    File::create(path).unwrap().write_all(bytes).unwrap();
}

pub(crate) fn read(path: &Path) -> Vec<u8> {
    // A log grows meanwhile.
    let mut bytes = Vec::new();
    File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}
