//! A file's text to look at: same lines, same columns, with asterisks in place of whatever may be a
//! secret.

use std::ops::Range;

use super::dialect;
use super::fields::{reads_as_key_name, reads_as_name, shown};
use super::judge::is_json;
use super::tree::{MAX_BYTES, NodeId, Style, Tree, Value};
use super::{json, quirks, yaml};

/// The text of a configuration, whole or broken, one ASCII character for each Unicode scalar, so
/// that the lines and columns of findings are those of this text. What is left to read is the
/// structure, known names of fields, and values that are public: kinds, versions, resources, names
/// of keys and plugins that do not look like keys, timeouts, sockets. Everything else is `*`, all
/// comments, too, which like to keep old keys. Of a file that cannot be read only the names of
/// fields survive, and the structure where words begin and end, for nothing in it needs to be
/// where it belongs.
pub fn mask(source: &[u8]) -> String {
    let transcoded = quirks::from_utf16(source).ok().flatten();
    let source = transcoded.as_ref().map_or(source, |text| text.as_bytes());
    let is_json = is_json(source);
    let tree = match source.len() {
        0..=MAX_BYTES if is_json => json::read(source).ok(),
        0..=MAX_BYTES => yaml::read(source).ok().map(|(tree, _)| tree),
        _ => None,
    };
    let mut pieces = Pieces {
        source,
        all: Vec::new(),
    };
    match &tree {
        Some(tree) => {
            if let Some(root) = tree.root {
                pieces.node(tree, root, "", "");
            }
        }
        None => pieces.names(),
    }
    // What the tree does not hold, a second document, need not be what it looks like.
    let last = pieces.all.last().filter(|_| tree.is_some());
    let read = last.map_or(0, |(span, _)| span.end);
    render(source, &pieces.all, is_json, read)
}

/// Scalars in the order of the file, and whether each is shown.
struct Pieces<'a> {
    source: &'a [u8],
    all: Vec<(Range<usize>, bool)>,
}

impl Pieces<'_> {
    /// `field` is the field that the node is the value of, `parent` the one around it.
    fn node(&mut self, tree: &Tree, id: NodeId, field: &str, parent: &str) {
        let node = tree.node(id);
        match &node.value {
            Value::Map(pairs) => {
                for pair in pairs {
                    let name = self
                        .content(tree, pair.key)
                        .and_then(|key| shown(key, true));
                    let name = name.map(str::to_owned);
                    if matches!(tree.node(pair.key).value, Value::Scalar(..)) {
                        self.add(tree.node(pair.key).span.clone(), name.is_some());
                    } else {
                        self.node(tree, pair.key, "", "");
                    }
                    self.node(tree, pair.value, name.as_deref().unwrap_or_default(), field);
                }
            }
            Value::List(items) => {
                for item in items {
                    self.node(tree, *item, field, parent);
                }
            }
            Value::Scalar(..) => {
                let content = self.content(tree, id);
                let is_shown = content.is_some_and(|text| is_public(field, parent, text));
                self.add(node.span.clone(), is_shown);
            }
            Value::Alias(_) => self.add(node.span.clone(), false),
        }
    }

    fn add(&mut self, span: Range<usize>, is_shown: bool) {
        let Some(bytes) = self.source.get(span.clone()) else {
            return;
        };
        let is_plain = |byte: &u8| (b' '..=b'~').contains(byte);
        // A null that is not written has no bytes.
        if !bytes.is_empty() {
            // What stands at the end may be a piece of more.
            let is_whole = span.end < self.source.len();
            let is_shown = is_shown && is_whole && bytes.iter().all(is_plain);
            self.all.push((span, is_shown));
        }
    }

    /// What stands between the quotes, if it is the value itself, without escapes, tag and anchor.
    fn content(&self, tree: &Tree, id: NodeId) -> Option<&str> {
        let node = tree.node(id);
        let Value::Scalar(..) = node.value else {
            return None;
        };
        let written = std::str::from_utf8(self.source.get(node.span.clone())?).ok()?;
        let (content, escape) = match node.style {
            Style::Plain if node.has_anchor || written.starts_with('!') => return None,
            Style::Plain => (written, '\n'),
            Style::SingleQuoted => (written.strip_prefix('\'')?.strip_suffix('\'')?, '\''),
            Style::DoubleQuoted => (written.strip_prefix('"')?.strip_suffix('"')?, '\\'),
            _ => return None,
        };
        (!content.contains(escape)).then_some(content)
    }

    /// Without a tree: known words with a colon behind them, where a field may begin, and what is
    /// public of their values.
    fn names(&mut self) {
        let source = self.source;
        let mut start = 0;
        for line in source.split_inclusive(|byte| b"\r\n".contains(byte)) {
            self.names_of_line(start, start + line.len());
            start += line.len();
        }
    }

    fn names_of_line(&mut self, start: usize, end: usize) {
        let (mut at, mut may_begin) = (start, true);
        while at < end {
            match self.source[at] {
                b' ' | b'\t' => {}
                b'-' if self.source.get(at + 1) == Some(&b' ') => {}
                b'{' | b'[' | b',' => may_begin = true,
                b'#' if at == start || b" \t".contains(&self.source[at - 1]) => return,
                _ if may_begin => {
                    may_begin = false;
                    if let Some(next) = self.name_at(at, end) {
                        at = next;
                        continue;
                    }
                }
                _ => {}
            }
            at += 1;
        }
    }

    /// Where to go on behind the field at `at`, if one begins there.
    fn name_at(&mut self, at: usize, end: usize) -> Option<usize> {
        let quote = matches!(self.source[at], b'"' | b'\'').then(|| &self.source[at..=at]);
        let line = &self.source[at..end];
        let inner = line.strip_prefix(quote.unwrap_or_default())?;
        let length = inner
            .iter()
            .take_while(|it| it.is_ascii_alphabetic())
            .count();
        let rest = inner[length..].strip_prefix(quote.unwrap_or_default())?;
        let name = shown(std::str::from_utf8(&inner[..length]).ok()?, true)?;
        let name_end = end - rest.len();
        let rest = rest.trim_ascii_start().strip_prefix(b":")?;
        self.add(at..name_end, true);

        let value = rest.split(|byte| b",]}#".contains(byte)).next()?;
        let from = end - rest.trim_ascii_start().len();
        let value = value.trim_ascii();
        let text = std::str::from_utf8(value).unwrap_or("\u{fffd}");
        let text = text.trim_matches(['"', '\'']);
        let is_safe = matches!(name, "apiVersion" | "kind" | "timeout" | "cachesize");
        if is_safe && !value.is_empty() && is_public(name, "", text) {
            self.add(from..from + value.len(), true);
            return Some(from + value.len());
        }
        Some(end - rest.len())
    }
}

/// Whether the value of a field can be shown.
fn is_public(field: &str, parent: &str, text: &str) -> bool {
    match field {
        "apiVersion" | "kind" | "resources" => text.is_ascii() && reads_as_name(text),
        "name" if parent == "kms" => text.is_ascii() && reads_as_name(text),
        "name" => text.is_ascii() && reads_as_key_name(text),
        "timeout" => text.len() <= 15 && dialect::duration(text).is_ok(),
        "cachesize" => text.len() <= 11 && text.parse::<i32>().is_ok(),
        "endpoint" => {
            let path = text
                .strip_prefix("unix://")
                .and_then(|rest| rest.strip_prefix('/'));
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte);
            path.map(|path| path.strip_prefix('@').unwrap_or(path))
                .is_some_and(|path| path.bytes().all(fits) && reads_as_name(path))
        }
        _ => matches!(text, "null" | "true" | "false"),
    }
}

/// Characters of structure that may begin or end a word where nothing was read.
const FEW: usize = 3;

/// What separates scalars.
const STRUCTURE: &[u8] = b"-:?[]{},\"'";

/// Up to `read` all structure is left, behind it only [`FEW`] characters where a word begins or ends.
fn render(source: &[u8], pieces: &[(Range<usize>, bool)], is_json: bool, read: usize) -> String {
    let mut masked = String::with_capacity(source.len());
    // Columns count from behind the byte order mark.
    let mut at = if source.starts_with(b"\xef\xbb\xbf") {
        3
    } else {
        0
    };
    let mut pieces = pieces.iter().peekable();
    let mut in_comment = false;
    let mut after_blank = true;
    let mut left = FEW;
    while at < source.len() {
        while pieces.next_if(|(span, _)| span.end <= at).is_some() {}
        let piece = pieces.peek().filter(|(span, _)| span.start <= at);
        if let Some((span, true)) = piece {
            masked.extend(source[at..span.end].iter().map(|byte| char::from(*byte)));
            (at, in_comment, after_blank, left) = (span.end, false, false, FEW);
            continue;
        }
        let structure = piece.is_none() && !in_comment;
        let length = line_break(&source[at..], is_json);
        if length > 0 {
            masked.push('\n');
            at += length;
            (in_comment, after_blank, left) = (false, true, FEW);
            continue;
        }
        let byte = source[at];
        let is_structure = structure && STRUCTURE.contains(&byte);
        let is_shown = is_structure && (at < read || left > 0 || ends_word(&source[at..]));
        left = match byte {
            b' ' | b'\t' => FEW,
            _ if is_structure => left.saturating_sub(1),
            _ => 0,
        };
        at += 1;
        match byte {
            b' ' | b'\t' | b'\r' => masked.push(' '),
            b'#' if structure && after_blank => {
                masked.push('#');
                in_comment = true;
            }
            _ if is_shown => masked.push(char::from(byte)),
            // The rest of a scalar that is counted already.
            _ if byte & 0xc0 == 0x80 => {}
            _ => masked.push('*'),
        }
        after_blank = matches!(byte, b' ' | b'\t');
    }
    masked
}

/// Whether nothing is left of the word but a little structure.
fn ends_word(rest: &[u8]) -> bool {
    let word = rest.split(u8::is_ascii_whitespace).next();
    let word = word.unwrap_or_default();
    word.len() <= FEW && word.iter().all(|byte| STRUCTURE.contains(byte))
}

/// The length of the line break that begins here, as the reader of the format counts lines.
fn line_break(source: &[u8], is_json: bool) -> usize {
    match source {
        [b'\n', ..] => 1,
        _ if is_json => 0,
        [b'\r', b'\n', ..] => 2,
        [b'\r', ..] => 1,
        [0xc2, 0x85, ..] => 2,
        [0xe2, 0x80, 0xa8 | 0xa9, ..] => 3,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_public_is_left() {
        let source = "\
# old: c2VjcmV0
apiVersion: apiserver.config.k8s.io/v1 # v1
kind: \"EncryptionConfiguration\"
resources:
- resources: [secrets, '*.apps', widgets.example.com]
  providers:
  - aescbc:
      keys:
      - name: key1
        secret: bm8ga2V5LCBidXQgYXMgbG9uZyBhcyBvbmUgaXMuLi4=
      - {name: bm8ga2V5LCBidXQgYXMgbG, secret: \"a \\x41\"}
  - kms: {name: aws-encryption-provider, endpoint: 'unix:///run/kms.sock', timeout: 3s, cachesize: 10}
  - kms: {name: &a b, endpoint: unix://u:p@h/x, pandas: é, timeout: *a}
  - identity: {}
---
name: key1
";
        let masked = "\
# **** ********
apiVersion: apiserver.config.k8s.io/v1 # **
kind: \"EncryptionConfiguration\"
resources:
- resources: [secrets, '*.apps', widgets.example.com]
  providers:
  - aescbc:
      keys:
      - name: key1
        secret: ********************************************
      - {name: **********************, secret: ** *****}
  - kms: {name: aws-encryption-provider, endpoint: 'unix:///run/kms.sock', timeout: 3s, cachesize: 10}
  - kms: {name: ** *, endpoint: **************, ******: *, timeout: **}
  - identity: {}
---
****: ****
";
        assert_eq!(mask(source.as_bytes()), masked);
    }

    #[test]
    fn of_a_broken_file_the_fields_are_left() {
        let source = "\
kind: EncryptionConfiguration
resources: [secrets
  - \"name\": key1
    secret c2VjcmV0
    secret: |
      correct horse: battery, secret: staple # name: x
    name: key1 secret: x
";
        let masked = "\
kind: EncryptionConfiguration
resources: [*******
  - \"name\": ****
    ****** ********
    secret: *
      ******* *****: *******, secret: ****** # ***** *
    name: **** ******: *
";
        assert_eq!(mask(source.as_bytes()), masked);
        assert_eq!(
            mask(b"{\"secret\":\"c2Vj\",\"timeout\": \"3s\","),
            "{\"secret\":\"******\"timeout\": \"3s\","
        );
        assert_eq!(
            mask(b"{\x1f\n  \"name\": \"x,]{:{X:]x\", {[[[[[[[ x-y\n  \"secret\": \"c2Vj\"},"),
            "{*\n  \"name\": \"**********\", {[[**[[[ ***\n  \"secret\": \"****\"},"
        );
    }

    #[test]
    fn lines_and_columns_are_kept() {
        for (source, masked) in [
            ("\u{feff}a: b\r\nc: \u{e9}\u{301}\r", "*: *\n*: **\n"),
            ("#\u{85}a\u{2028}\tb: c", "#\n*\n *: *"),
            ("{\r\n\"name\":\t1\u{2028}}", "{ \n\"name\": **}"),
        ] {
            assert_eq!(mask(source.as_bytes()), masked, "{source:?}");
        }
        let utf16: Vec<u8> = "\u{feff}kind: ü\n"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        assert_eq!(mask(&utf16), "kind: *\n");
        assert_eq!(mask(b"kind: \xff\xfe\x80\x00\x1b[31m"), "kind: ********");
        assert_eq!(mask(b""), "");
    }
}
