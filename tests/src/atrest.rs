//! `atrest` as a user runs it.

use std::ffi::OsStr;
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
