//! What the program says: stdout is data, stderr is talk.

pub(crate) mod progress;
pub(crate) mod validate;
pub(crate) mod verify;

use std::io::{self, Write};

use serde::Serialize;

use crate::args::Output;
use crate::status::Failure;

/// Prints a line of talk. A closed stderr is nobody's problem.
pub(crate) fn say(line: impl std::fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Prints why the program ends.
pub(crate) fn failure(failure: &Failure) {
    say(failure);
}

/// Prints data as it is.
pub(crate) fn text(data: &str) -> Result<(), Failure> {
    bytes(data.as_bytes())
}

/// Prints data as it is.
pub(crate) fn bytes(data: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(data)
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::unread(format!("cannot write to stdout: {error}")))
}

/// Prints a result in the form that was asked for.
pub(crate) fn render(
    output: Output,
    data: &impl Serialize,
    for_people: impl FnOnce() -> String,
) -> Result<(), Failure> {
    match output {
        Output::Text => text(&for_people()),
        Output::Json => json(data),
        Output::Yaml => yaml(data),
    }
}

/// Prints data as JSON, ended by a newline.
pub(crate) fn json(data: &impl Serialize) -> Result<(), Failure> {
    let mut rendered = serde_json::to_string_pretty(data)
        .map_err(|error| Failure::unusable(format!("cannot render JSON: {error}")))?;
    rendered.push('\n');
    text(&rendered)
}

/// Prints data as a YAML document: there may be another one behind it.
pub(crate) fn yaml(data: &impl Serialize) -> Result<(), Failure> {
    let rendered = serde_yaml::to_string(data)
        .map_err(|error| Failure::unusable(format!("cannot render YAML: {error}")))?;
    text(&format!("---\n{rendered}"))
}

/// A name of a file can hold what moves a terminal's cursor.
pub(crate) fn one_line(path: &str) -> String {
    let mut line = String::with_capacity(path.len());
    for scalar in path.chars() {
        if scalar.is_control() {
            line.extend(scalar.escape_default());
        } else {
            line.push(scalar);
        }
    }
    line
}
