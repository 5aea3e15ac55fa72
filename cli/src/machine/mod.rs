//! The machines that API servers run on: their files are read, replaced whole or not at all, and programs
//! run there, be it this machine or one that is reached by SSH.

mod ssh;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use atrest_core::secret::{Fingerprint, SecretBytes};
use serde::{Deserialize, Serialize};

pub(crate) use self::ssh::Ssh;
use crate::status::Failure;

/// How a server's files are reached.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Access {
    /// They are on this machine.
    #[default]
    Local,
    /// By an operator, who is told what to do.
    Manual,
    /// By the system's OpenSSH client.
    Ssh(Ssh),
}

/// A machine whose files can be reached.
pub(crate) enum Machine {
    Here,
    Remote(Box<ssh::Remote>),
}

/// Why a file on a machine could not be read or written, or a program not be run. Its text never quotes
/// a file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    File(#[from] atrest_files::Error),
    #[error("cannot run {program}: {reason}")]
    Program { program: String, reason: String },
    #[error("{host}: {path}: {reason}")]
    Remote {
        host: String,
        path: PathBuf,
        reason: Reason,
    },
    /// SSH itself failed, or `sudo` there.
    #[error("{host} cannot be reached by ssh: {said}")]
    Ssh { host: String, said: String },
}

/// What is wrong with a file elsewhere.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Reason {
    #[error("no such file")]
    Missing,
    #[error("it is a {0}")]
    Unfit(String),
    #[error(
        "refusing to replace it: it is a symbolic link to {0}; replacing it would leave the target as it is"
    )]
    Symlink(String),
    #[error(
        "refusing to replace it: its directory is a `..data` volume, which is replaced as a whole"
    )]
    DataVolume,
    #[error("it changed since it was read")]
    Changed,
    #[error("the connection broke off before all of it was there")]
    Incomplete,
    /// What the system there said.
    #[error("{0}")]
    Said(String),
}

impl Error {
    pub(crate) fn is_missing(&self) -> bool {
        match self {
            Self::File(error) => error.kind() == Some(std::io::ErrorKind::NotFound),
            Self::Remote { reason, .. } => matches!(reason, Reason::Missing),
            _ => false,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match &error {
            Error::Ssh { host, .. } => Self::unread(&error).hint(format!(
                "`ssh -o BatchMode=yes` to {host} has to work from here without a question, host key and \
                 sudo -n included"
            )),
            _ => Self::unusable(error),
        }
    }
}

impl Machine {
    /// `None` where only an operator gets to the files.
    pub(crate) fn of(access: &Access) -> Option<Self> {
        match access {
            Access::Local => Some(Self::Here),
            Access::Manual => None,
            Access::Ssh(ssh) => Some(Self::Remote(Box::new(ssh::Remote::new(ssh.clone())))),
        }
    }

    /// Reads a regular file of at most 16 MiB.
    pub(crate) async fn read(&self, path: &Path) -> Result<SecretBytes, Error> {
        match self {
            Self::Here => Ok(atrest_files::read(path)?),
            Self::Remote(remote) => remote.read(path).await,
        }
    }

    /// Replaces a file that has the expected content, or that must not exist (promise I5).
    pub(crate) async fn replace(
        &self,
        path: &Path,
        bytes: &SecretBytes,
        expected: Option<Fingerprint>,
    ) -> Result<(), Error> {
        match self {
            Self::Here => Ok(atrest_files::replace(path, bytes.expose(), expected)?),
            Self::Remote(remote) => remote.replace(path, bytes, expected).await,
        }
    }

    /// Removes the dot-temporary that a killed [`Self::replace`] of this path left behind.
    pub(crate) async fn remove_leftover(&self, path: &Path) -> Result<(), Error> {
        match self {
            Self::Here => Ok(atrest_files::remove_leftover(path)?),
            Self::Remote(remote) => remote.remove_leftover(path).await,
        }
    }

    /// Whether others than its owner may read a file.
    pub(crate) async fn is_readable_by_others(&self, path: &Path) -> bool {
        let mode = match self {
            Self::Here => std::fs::metadata(path)
                .map(|it| it.permissions().mode())
                .ok(),
            Self::Remote(remote) => remote.mode(path).await.ok(),
        };
        mode.is_some_and(|mode| mode & 0o077 != 0)
    }

    /// Runs a program, without a shell's ways, and returns what it printed to stdout. What it said is never
    /// shown: it may quote what it read.
    pub(crate) async fn run(&self, argv: &[String], limit: Duration) -> Result<SecretBytes, Error> {
        match self {
            Self::Here => here(argv, limit).await,
            Self::Remote(remote) => remote.run(argv, limit).await,
        }
    }
}

async fn here(argv: &[String], limit: Duration) -> Result<SecretBytes, Error> {
    let program = argv.first().cloned().unwrap_or_default();
    let failed = |reason: String| Error::Program {
        program: program.clone(),
        reason,
    };
    let mut command = tokio::process::Command::new(&program);
    command
        .args(argv.iter().skip(1))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(limit, command.output()).await;
    let output = output.map_err(|_| failed(format!("it took more than {} s", limit.as_secs())))?;
    let output = output.map_err(|error| failed(error.to_string()))?;
    match output.status.success() {
        true => Ok(SecretBytes::new(output.stdout)),
        false => Err(failed(format!("it ended with {}", output.status))),
    }
}
