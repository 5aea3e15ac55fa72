//! `atrest` as a user runs it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::binaries;
use crate::processes::ControlPlane;

/// What a run of the program printed and how it ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status; `None` where a signal ended it.
    pub status: Option<i32>,
    /// Data.
    pub stdout: String,
    /// Talk.
    pub stderr: String,
}

impl Ended {
    /// Stdout as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// Asserts the exit status and shows what was said where it is another.
    #[track_caller]
    pub fn expect(self, status: i32) -> Self {
        assert_eq!(
            self.status,
            Some(status),
            "{}\n{}",
            self.stdout,
            self.stderr
        );
        self
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A command line of `atrest`, without any kubeconfig of the environment.
pub fn command<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(binaries::path("atrest"));
    command
        .args(arguments)
        .env_remove("KUBECONFIG")
        .env("HOME", "/nonexistent");
    command
}

/// Runs `atrest` to its end.
pub fn run<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Ended {
    command(arguments)
        .output()
        .expect("atrest was built")
        .into()
}

/// The flags that name an API server of the control plane and its etcd.
pub fn flags(plane: &ControlPlane, server: usize) -> Vec<String> {
    let mut flags = vec![
        "--kubeconfig".into(),
        plane.servers[server].kubeconfig.display().to_string(),
    ];
    flags.extend(plane.etcd_flags());
    flags
}

/// A rotation of the first server: `rotate ACTION` with its file, its etcd and a state directory.
pub fn rotate(plane: &ControlPlane, action: &str, more: &[&str]) -> Command {
    let mut arguments = vec!["rotate".to_owned(), action.into(), "--yes".into()];
    arguments.extend(flags(plane, 0));
    arguments.extend([
        "--config".into(),
        plane.servers[0].encryption_config.display().to_string(),
        "--state-dir".into(),
        plane.directory().join("state").display().to_string(),
        "--request-timeout".into(),
        format!("{}s", plane.request_timeout().as_secs()),
    ]);
    arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
    command(arguments)
}

/// A rotation.yaml that lists the first servers of the control plane. What the tests change is at its
/// end.
pub fn rotation_yaml(plane: &ControlPlane, servers: usize, more: &str) -> PathBuf {
    rotation_yaml_of(plane, &vec![""; servers], more)
}

/// The same, with further fields of each server, such as `access: manual`.
pub fn rotation_yaml_of(plane: &ControlPlane, fields: &[&str], more: &str) -> PathBuf {
    let directory = plane.directory().display();
    let mut text = String::from("apiVersion: atrest/v1\nkind: Rotation\nservers:\n");
    for (i, (server, fields)) in plane.servers.iter().zip(fields).enumerate() {
        text += &format!(
            "- {{name: cp{}, url: \"{}\", file: {}, {fields}}}\n",
            i + 1,
            server.url,
            server.encryption_config.display(),
        );
    }
    text += &format!(
        "etcd:
  endpoints: [\"{}\"]
  caFile: {directory}/pki/etcd/ca.crt
  certFile: {directory}/pki/apiserver-etcd-client.crt
  keyFile: {directory}/pki/apiserver-etcd-client.key
stateDir: {directory}/state
{more}",
        plane.etcd.endpoint,
    );
    let path = plane.directory().join("rotation.yaml");
    std::fs::write(&path, text).expect("our directory");
    path
}

/// A rotation by a rotation.yaml, with an administrator's kubeconfig.
pub fn rotate_by(plane: &ControlPlane, file: &Path, action: &str, more: &[&str]) -> Command {
    let mut command = command(["rotate", action, "--yes", "--file"]);
    command.arg(file).arg("--kubeconfig");
    command.arg(&plane.servers[0].kubeconfig);
    let timeout = format!("{}s", plane.request_timeout().as_secs());
    command.args(["--request-timeout", &timeout]).args(more);
    command
}
