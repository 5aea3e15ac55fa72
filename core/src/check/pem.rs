//! PEM (RFC 7468) as `encoding/pem` of Go reads it, but nothing is passed over: a block that is cut off
//! or cannot be decoded is an error, where Go takes the rest of the file for text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::secret::SecretBytes;

/// One block.
#[derive(Debug)]
pub struct Block {
    /// `CERTIFICATE`, `EC PRIVATE KEY`, ...
    pub label: String,
    /// What is in it.
    pub content: SecretBytes,
    /// Whether headers stand in front of the content: it is encrypted.
    pub has_headers: bool,
}

/// Why a file is not PEM. Nothing of the file is quoted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A block begins and does not end: the file was cut off.
    #[error("a PEM block is cut off")]
    CutOff,
    /// A line that begins or ends a block is damaged, or ends a block that did not begin.
    #[error("a line that begins or ends a PEM block is damaged")]
    Boundary,
    /// The content is not base64.
    #[error("a PEM block is not base64")]
    Base64,
}

/// Every block of a file. What stands between blocks is text for people.
pub fn blocks(source: &[u8]) -> Result<Vec<Block>, Error> {
    let mut blocks = Vec::new();
    let mut open: Option<Open> = None;
    for line in source.split(|byte| *byte == b'\n') {
        let line = line.trim_ascii();
        match &mut open {
            None if line.starts_with(b"-") && is_boundary(line) => {
                let label = between(line, b"-----BEGIN ").ok_or(Error::Boundary)?;
                open = Some(Open::new(label)?);
            }
            None => {}
            Some(block) if is_boundary(line) => {
                let label = between(line, b"-----END ").ok_or(Error::CutOff)?;
                if label != block.label.as_bytes() {
                    return Err(Error::Boundary);
                }
                blocks.extend(open.take().map(Open::close).transpose()?);
            }
            // `Proc-Type: 4,ENCRYPTED`: no base64 has a colon.
            Some(block) if line.contains(&b':') && block.base64.is_empty() => {
                block.has_headers = true;
            }
            Some(block) => block.base64.extend_from_slice(line),
        }
    }
    match open {
        None => Ok(blocks),
        Some(_) => Err(Error::CutOff),
    }
}

struct Open {
    label: String,
    base64: Vec<u8>,
    has_headers: bool,
}

impl Open {
    fn new(label: &[u8]) -> Result<Self, Error> {
        let label = std::str::from_utf8(label).map_err(|_| Error::Boundary)?;
        Ok(Self {
            label: label.to_owned(),
            base64: Vec::new(),
            has_headers: false,
        })
    }

    fn close(self) -> Result<Block, Error> {
        let base64 = SecretBytes::new(self.base64);
        let content = STANDARD
            .decode(base64.expose())
            .map_err(|_| Error::Base64)?;
        Ok(Block {
            label: self.label,
            content: SecretBytes::new(content),
            has_headers: self.has_headers,
        })
    }
}

/// Dashes at the front: even a boundary that was cut in its first word.
fn is_boundary(line: &[u8]) -> bool {
    line.starts_with(b"---")
}

fn between<'a>(line: &'a [u8], start: &[u8]) -> Option<&'a [u8]> {
    line.strip_prefix(start)?.strip_suffix(b"-----")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "a note: for people\n-----BEGIN A-----\r\nAAEC\r\n-----END A-----\n\
                       -----BEGIN B C-----\nProc-Type: 4,ENCRYPTED\n\nAw==\n-----END B C-----\n";

    #[test]
    fn blocks_have_labels_and_content() {
        let blocks = blocks(TWO.as_bytes()).unwrap();
        let seen: Vec<_> = blocks
            .iter()
            .map(|block| (&*block.label, block.content.expose(), block.has_headers))
            .collect();
        assert_eq!(
            seen,
            [("A", &[0, 1, 2][..], false), ("B C", &[3][..], true)]
        );
    }

    #[test]
    fn a_cut_is_seen_wherever_it_is_not_between_blocks() {
        let between = [
            TWO.find("-----BEGIN A").unwrap(),
            TWO.find("-----BEGIN B").unwrap(),
        ];
        for end in 0..TWO.trim_end().len() {
            let is_whole = |at: &usize| end.abs_diff(*at) <= 2 && end <= at + 2;
            let is_before = end <= between[0];
            if is_before || between.iter().any(is_whole) {
                continue;
            }
            assert!(blocks(&TWO.as_bytes()[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn damage_is_no_text() {
        for (text, error) in [
            ("-----END A-----\n", Error::Boundary),
            ("-----BEGIN A----\nAA==\n-----END A-----\n", Error::Boundary),
            (
                "-----BEGIN A-----\nAA==\n-----END B-----\n",
                Error::Boundary,
            ),
            ("-----BEGIN A-----\nA\n-----END A-----\n", Error::Base64),
            ("-----BEGIN A-----\n%%%%\n-----END A-----\n", Error::Base64),
            (
                "-----BEGIN A-----\nAA==\n-----BEGIN A-----\nAA==\n-----END A-----\n",
                Error::CutOff,
            ),
        ] {
            assert_eq!(blocks(text.as_bytes()).unwrap_err(), error, "{text}");
        }
    }
}
