//! What a command ends with: an exit status and, where it failed, words that help.

use std::fmt;
use std::process::ExitCode;

/// The exit status, the same for every command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ExitStatus {
    /// 0: done, and proven where there is something to prove.
    Done,
    /// 1: findings at or above `--fail-on`, or values that are not as they should be.
    Findings,
    /// 2: usage, or input that cannot be used.
    Unusable,
    /// 3: something required could not be checked or reached.
    Unread,
    /// 4: stopped before the end; can be resumed.
    Stopped,
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(match status {
            ExitStatus::Done => 0,
            ExitStatus::Findings => 1,
            ExitStatus::Unusable => 2,
            ExitStatus::Unread => 3,
            ExitStatus::Stopped => 4,
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

    /// Something required could not be reached or read.
    pub(crate) fn unread(message: impl fmt::Display) -> Self {
        Self::new(ExitStatus::Unread, message)
    }

    /// The work stopped half way and can go on later.
    pub(crate) fn stopped(message: impl fmt::Display) -> Self {
        Self::new(ExitStatus::Stopped, message)
    }

    /// The same failure of work that had begun: it can be resumed.
    pub(crate) fn in_the_middle(mut self, what_is_readable: &str) -> Self {
        self.status = ExitStatus::Stopped;
        self.hint
            .get_or_insert_with(|| format!("{what_is_readable}; atrest rotate resume goes on"));
        self
    }

    fn new(status: ExitStatus, message: impl fmt::Display) -> Self {
        Self {
            status,
            message: message.to_string(),
            hint: None,
        }
    }

    /// What it says, without the hint.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Says what to do about it.
    pub(crate) fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }
}

/// The innermost reason says most: `Connection refused`, `invalid peer certificate: ...`.
pub(crate) fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
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
