//! What a command that fails ends with: an exit status, and words that help.

use std::fmt;
use std::process::ExitCode;

/// The exit statuses that a failure of this program can have, as everywhere in atrest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ExitStatus {
    /// 1: what was looked at is not as it should be.
    Findings,
    /// 2: usage, or input that cannot be used.
    Unusable,
    /// 3: something required could not be reached.
    Unread,
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(match status {
            ExitStatus::Findings => 1,
            ExitStatus::Unusable => 2,
            ExitStatus::Unread => 3,
        })
    }
}

/// Why a command ended without doing what it was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: ExitStatus,
    /// Lower case, no full stop, no secret.
    message: String,
    /// What to do.
    hint: Option<String>,
}

impl Failure {
    /// The input or the usage is at fault.
    pub(crate) fn unusable(message: impl fmt::Display) -> Self {
        Self::new(ExitStatus::Unusable, message)
    }

    /// What was looked at is not as it should be.
    pub(crate) fn finding(message: impl fmt::Display) -> Self {
        Self::new(ExitStatus::Findings, message)
    }

    /// Something required could not be reached.
    pub(crate) fn unread(message: impl fmt::Display) -> Self {
        Self::new(ExitStatus::Unread, message)
    }

    fn new(status: ExitStatus, message: impl fmt::Display) -> Self {
        Self {
            status,
            message: message.to_string(),
            hint: None,
        }
    }

    /// Says what to do about it.
    pub(crate) fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// What happened, without the hint: for a log, where it is one field of several.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}
