//! What the program says: stdout is data, stderr is talk.

pub(crate) mod backups;
pub(crate) mod certified;
pub(crate) mod check;
pub(crate) mod explain;
pub(crate) mod progress;
pub(crate) mod validate;
pub(crate) mod verify;

use std::io::{self, Write};

use anstyle::Style;
use serde::Serialize;

use crate::args::{Color, Output};
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

/// What text is printed for.
pub(crate) struct Terminal {
    /// In columns.
    pub(crate) width: usize,
    is_colored: bool,
}

impl Terminal {
    /// What stdout is, or what stands in for it.
    pub(crate) fn of_stdout(color: Color) -> Self {
        const ELSEWHERE: usize = 100;

        let stdout = io::stdout();
        let is_colored = match color {
            Color::Always => true,
            Color::Never => false,
            // Looks at NO_COLOR and TERM, too.
            Color::Auto => anstream::AutoStream::choice(&stdout) != anstream::ColorChoice::Never,
        };
        let width = terminal_size::terminal_size_of(&stdout);
        Self {
            width: width.map_or(ELSEWHERE, |(width, _)| usize::from(width.0)),
            is_colored,
        }
    }

    /// The style, or none.
    pub(crate) fn style(&self, style: Style) -> Style {
        if self.is_colored { style } else { Style::new() }
    }
}

/// A name of a file can hold what moves a terminal's cursor or turns its text around.
pub(crate) fn one_line(path: &str) -> String {
    let turns = |scalar| matches!(scalar, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut line = String::with_capacity(path.len());
    for scalar in path.chars() {
        if scalar.is_control() || turns(scalar) {
            line.extend(scalar.escape_default());
        } else {
            line.push(scalar);
        }
    }
    line
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
        Output::Sarif | Output::Junit => Err(only_for_validate()),
        Output::Html => Err(only_for_rotate()),
    }
}

/// Why there is no such output.
pub(crate) fn only_for_validate() -> Failure {
    Failure::unusable("--output sarif and junit are for `atrest validate` alone")
        .hint("choose text, json or yaml")
}

/// Why there is no such output.
pub(crate) fn only_for_rotate() -> Failure {
    Failure::unusable("--output html is for `atrest rotate status` alone")
        .hint("choose text, json or yaml")
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
