//! What the program says: stdout is data, stderr is talk.

use std::io::{self, Write};

use serde::Serialize;

use crate::status::Failure;

/// Prints a line of talk. A closed stderr is nobody's problem.
pub(crate) fn say(line: impl std::fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Prints data as it is.
pub(crate) fn text(data: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(data.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::unread(format!("cannot write to stdout: {error}")))
}

/// Prints data as JSON, ended by a newline.
pub(crate) fn json(data: &impl Serialize) -> Result<(), Failure> {
    let mut rendered = serde_json::to_string_pretty(data)
        .map_err(|error| Failure::unusable(format!("cannot render JSON: {error}")))?;
    rendered.push('\n');
    text(&rendered)
}
