//! The document as a whole: its kind, and what comes after it.

use super::super::finding::Place;
use super::super::ids;
use super::super::tree::{Text, Tree, Value};
use super::Lints;

pub(super) fn lint(source: &[u8], tree: &Tree, lints: &mut Lints) {
    let Some(root) = tree.root else {
        return;
    };
    if let Value::Map(pairs) = tree.value(root) {
        let field = |name: &str| {
            let pairs = tree.pairs(pairs);
            let mut named = pairs
                .into_iter()
                .filter(|pair| tree.text(pair.key).map(Text::expose) == Some(name));
            named.next_back().map(|pair| pair.value)
        };
        if let Some(kind) = field("kind")
            && tree.text(kind).map(Text::expose) == Some("EncryptionConfig")
        {
            lints.push(
                ids::OLD_KIND,
                "kind",
                tree.place(kind),
                "this kind is that of Kubernetes 1.12 and before",
                "write `apiVersion: apiserver.config.k8s.io/v1` and `kind: EncryptionConfiguration`",
            );
        }
    }
    if let Some(offset) = later_document(source, tree.node(root).span.end) {
        lints.push(
            ids::LATER_DOCUMENT,
            "",
            Place::of(source, offset),
            "the server reads the first document alone: what begins here is ignored",
            "move the entries of this document into `resources` of the first, and take it out",
        );
    }
}

/// Where the first content after the first document begins: a line that is no comment, behind a
/// line that ends the document.
fn later_document(source: &[u8], end: usize) -> Option<usize> {
    // The span of a node of UTF-16 is that of other bytes.
    if source.starts_with(b"\xff\xfe") || source.starts_with(b"\xfe\xff") {
        return None;
    }
    let mut offset = end.min(source.len());
    let mut ended = false;
    let rest = source[offset..].split_inclusive(|byte| *byte == b'\n');
    // What is left of the line on which the node ends is its own.
    let is_at_start = offset == 0 || source[offset - 1] == b'\n';
    for (index, line) in rest.enumerate() {
        let text = line.trim_ascii();
        let is_whole = index > 0 || is_at_start;
        let is_empty = |text: &[u8]| text.is_empty() || text.starts_with(b"#");
        let marker = is_whole && (line.starts_with(b"---") || line.starts_with(b"..."));
        let rest = if marker {
            text[3..].trim_ascii_start()
        } else {
            text
        };
        ended |= marker;
        if ended && !is_empty(rest) {
            return Some(offset);
        }
        offset += line.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::later_document;

    #[test]
    fn only_content_makes_a_document() {
        for (rest, expected) in [
            ("", None),
            ("\n", None),
            ("---\n", None),
            ("---\n# nothing\n---\n", None),
            ("...\n", None),
            (" # a comment\n# ---\n", None),
            ("---\nb: 1\n", Some(9)),
            ("--- b\n", Some(5)),
            ("...\n%YAML 1.1\n", Some(9)),
            ("# c\n---\n\n\n: [\n", Some(15)),
        ] {
            let source = format!("a: 1\n{rest}");
            assert_eq!(later_document(source.as_bytes(), 4), expected, "{rest:?}");
            assert_eq!(later_document(source.as_bytes(), 5), expected, "{rest:?}");
        }
    }
}
