//! What is wrong with a file, where, and what to do. No message ever holds a secret.

use std::fmt;

use serde::{Serialize, Serializer};

use super::fields::reads_as_name;
use super::ids::Rule;

/// Something that is wrong with a file. No field ever holds a secret.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// Of the [`Rule`] that is broken.
    pub id: &'static str,
    /// Who says so.
    pub origin: Origin,
    /// How bad it is.
    pub severity: Severity,
    /// `resources[0].providers[0].aescbc.keys[0].name`; empty for the file as a whole.
    pub path: String,
    /// The class of the fault.
    pub kind: Kind,
    /// One sentence, lower case.
    pub message: String,
    /// What kube-apiserver itself logs for it, in the words of [`Server::NEWEST`](super::Server) where
    /// they are known exactly. What is secret, and what may be, is `REDACTED`.
    #[serde(rename = "server_message", skip_serializing_if = "Option::is_none")]
    pub server: Option<Box<str>>,
    /// From 1.
    pub line: u32,
    /// From 1, in Unicode scalars.
    pub column: u32,
    /// What to do.
    pub fix: String,
}

/// Who finds fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// kube-apiserver: it decides the verdict.
    Server,
    /// atrest: the server takes it.
    Lint,
}

/// How bad a finding is, least first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Likely a mistake.
    Warning,
    /// The server refuses the file.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// The class of a fault; the first two are the server's own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Something is missing.
    RequiredValue,
    /// Something is there and wrong.
    InvalidValue,
    /// No such field.
    UnknownField,
    /// The same field twice.
    DuplicateField,
    /// A number where text is wanted, and the like.
    WrongType,
    /// Neither YAML nor JSON, or not a configuration of this kind.
    Malformed,
    /// Valid, but this server cannot make a transformer of it.
    Unsupported,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RequiredValue => "Required value",
            Self::InvalidValue => "Invalid value",
            Self::UnknownField => "Unknown field",
            Self::DuplicateField => "Duplicate field",
            Self::WrongType => "Wrong type",
            Self::Malformed => "Malformed",
            Self::Unsupported => "Unsupported",
        })
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A line and a column, both from 1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Place {
    pub(super) line: u32,
    pub(super) column: u32,
}

impl Place {
    /// The first character of the file.
    pub(super) const START: Self = Self { line: 1, column: 1 };

    /// Where the byte at `offset` is.
    pub(super) fn of(source: &[u8], offset: usize) -> Self {
        let before = &source[..offset.min(source.len())];
        let start = before
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        // Every byte but the continuing ones begins a scalar.
        let scalars = |bytes: &[u8]| bytes.iter().filter(|byte| **byte & 0xc0 != 0x80).count();
        Self {
            line: number(before.iter().filter(|byte| **byte == b'\n').count()),
            column: number(scalars(&before[start..])),
        }
    }
}

/// From a count of what comes before.
pub(super) fn number(before: usize) -> u32 {
    u32::try_from(before).map_or(u32::MAX, |before| before.saturating_add(1))
}

/// A breach of a rule.
pub(super) fn fault(
    rule: &Rule,
    path: impl Into<String>,
    place: Place,
    message: impl Into<String>,
    fix: impl Into<String>,
) -> Finding {
    Finding {
        id: rule.id,
        origin: rule.origin,
        severity: rule.severity,
        path: path.into(),
        kind: rule.kind,
        message: message.into(),
        server: None,
        line: place.line,
        column: place.column,
        fix: fix.into(),
    }
}

impl Finding {
    /// What the server says.
    pub(super) fn said(mut self, words: impl Into<String>) -> Self {
        const LONGEST: usize = 2000;
        let mut words = words.into();
        if let Some((end, _)) = words.char_indices().nth(LONGEST) {
            words.truncate(end);
            words.push('…');
        }
        self.server = Some(words.into());
        self
    }

    /// What the server's validation says: `detail` of something that is missing.
    pub(super) fn detail(self, detail: impl fmt::Display) -> Self {
        let words = format!("{}: {}: {detail}", self.path, self.kind);
        self.said(words)
    }

    /// What the server's validation says: `detail` of a value, which is as Go prints it.
    pub(super) fn of(self, value: impl fmt::Display, detail: impl fmt::Display) -> Self {
        self.detail(format_args!("{value}: {detail}"))
    }
}

/// Findings in order. There are never more than a thousand: a file of a million faults is not to
/// become a million sentences.
#[derive(Debug, Default)]
pub(super) struct Report(Vec<Finding>);

impl Report {
    pub(super) const MOST: usize = 1000;

    pub(super) fn push(&mut self, finding: Finding) {
        if self.0.len() < Self::MOST {
            self.0.push(finding);
        }
    }

    pub(super) fn into_findings(self) -> Vec<Finding> {
        self.0
    }
}

/// A name, version or resource in quotes: one line, no control characters, not endless. Never for
/// what may be a secret; a key that stands where it does not belong is masked.
pub(super) fn quote(text: &str) -> String {
    const LONGEST: usize = 100;
    if !reads_as_name(text) {
        return "\"***\"".to_owned();
    }
    let mut quoted = String::from("\"");
    for (index, scalar) in text.chars().enumerate() {
        if index == LONGEST {
            quoted.push('…');
            break;
        }
        if scalar.is_alphanumeric() || (' '..='~').contains(&scalar) && !"\"\\".contains(scalar) {
            quoted.push(scalar);
        } else {
            quoted.extend(scalar.escape_default());
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_scalars() {
        let source = "ä: b\r\nö: ü".as_bytes();
        assert_eq!(Place::of(source, 0), Place::START);
        assert_eq!(Place::of(source, 3), Place { line: 1, column: 3 });
        assert_eq!(
            Place::of(source, source.len()),
            Place { line: 2, column: 5 }
        );
        assert_eq!(Place::of(source, 1000), Place { line: 2, column: 5 });
    }

    #[test]
    fn quoted_text_stays_on_its_line() {
        assert_eq!(
            quote("a\n\"b\"\u{1b}[31m\u{202e}é"),
            r#""a\n\"b\"\u{1b}[31m\u{202e}é""#
        );
        assert_eq!(quote(&"x.".repeat(120)).chars().count(), 103);
        assert_eq!(quote("bm8ga2V5LCBidXQgYXMgbG9uZw=="), "\"***\"");
    }
}
