//! Finds lines, blanks and comments in the text of a file.

use std::ops::Range;

use super::super::finding::Place;
use super::super::tree::{NodeId, Style, Value};
use super::parts::{NOT_ALONE, Obstacle, Source};

impl<'a> Source<'a> {
    /// Behind the break of a line on which nothing but a comment follows.
    pub(super) fn end_of_line(&self, at: usize) -> Result<usize, Obstacle> {
        let at_rest = self.skip_blanks(at);
        let end = self.line_end(at_rest);
        let is_comment = self.bytes.get(at_rest) == Some(&b'#') && !self.layout.is_json;
        if at_rest != end && !is_comment {
            return Err(self.obstacle(at, NOT_ALONE));
        }
        Ok(end + self.break_at(end))
    }

    /// The column of the comment that the line at this offset consists of, and the next line.
    pub(super) fn comment_line(&self, line: usize) -> Option<(usize, usize)> {
        let start = self.skip_blanks(line);
        if self.layout.is_json || self.bytes.get(start) != Some(&b'#') {
            return None;
        }
        let end = self.line_end(start);
        Some((self.column(start), end + self.break_at(end)))
    }

    /// The first comment inside of a node.
    pub(super) fn comment_within(&self, id: NodeId) -> Option<usize> {
        if self.layout.is_json {
            return None;
        }
        let mut texts = Vec::new();
        let mut open = vec![id];
        while let Some(id) = open.pop() {
            let node = self.tree.node(id);
            match &node.value {
                Value::List(items) => open.extend(items),
                Value::Map(pairs) => open.extend(pairs.iter().flat_map(|it| [it.key, it.value])),
                // Behind the indicator of a block scalar there may be a comment.
                Value::Scalar(..) if node.style == Style::BlockScalar => {
                    texts.push(self.line_end(node.span.start)..node.span.end);
                }
                Value::Scalar(..) | Value::Alias(_) => texts.push(node.span.clone()),
            }
        }
        texts.sort_by_key(|text| text.start);
        let span = self.span(id);
        let mut at = span.start;
        for text in texts.iter().chain([&(span.end..span.end)]) {
            let between = &self.bytes[at..text.start.max(at)];
            if let Some(offset) = between.iter().position(|byte| *byte == b'#') {
                return Some(at + offset);
            }
            at = text.end;
        }
        None
    }

    /// Over blanks, breaks and comments.
    pub(super) fn skip_space(&self, mut at: usize) -> usize {
        loop {
            at = self.skip_blanks(at);
            if self.bytes.get(at) == Some(&b'#') && !self.layout.is_json {
                at = self.line_end(at);
            }
            match self.break_at(at) {
                0 => return at,
                width => at += width,
            }
        }
    }

    /// Over an anchor and a tag.
    pub(super) fn skip_properties(&self, mut at: usize) -> usize {
        while matches!(self.bytes.get(at), Some(b'&' | b'!')) {
            let is_name = |at: usize| {
                at < self.bytes.len() && self.break_at(at) == 0 && !b" \t".contains(&self.bytes[at])
            };
            while is_name(at) {
                at += 1;
            }
            at = self.skip_space(at);
        }
        at
    }

    pub(super) fn skip_blanks(&self, mut at: usize) -> usize {
        while matches!(self.bytes.get(at), Some(b' ' | b'\t')) {
            at += 1;
        }
        at
    }

    /// What the line of this offset begins with: blanks.
    pub(super) fn margin(&self, at: usize) -> &'a [u8] {
        let line = self.line_start(at);
        &self.bytes[line..self.skip_blanks(line)]
    }

    pub(super) fn column(&self, at: usize) -> usize {
        at - self.line_start(at)
    }

    pub(super) fn line_start(&self, mut at: usize) -> usize {
        while at > 0 && self.break_before(at) == 0 {
            at -= 1;
        }
        // A byte order mark has no width.
        let mark = b"\xef\xbb\xbf";
        at + if at == 0 && self.bytes.starts_with(mark) {
            mark.len()
        } else {
            0
        }
    }

    pub(super) fn line_end(&self, mut at: usize) -> usize {
        while at < self.bytes.len() && self.break_at(at) == 0 {
            at += 1;
        }
        at
    }

    /// How many bytes the line break has that begins here; the breaks are those of YAML 1.1.
    pub(super) fn break_at(&self, at: usize) -> usize {
        match self.bytes.get(at..).unwrap_or_default() {
            [b'\r', b'\n', ..] => 2,
            [b'\n' | b'\r', ..] => 1,
            [0xc2, 0x85, ..] => 2,
            [0xe2, 0x80, 0xa8 | 0xa9, ..] => 3,
            _ => 0,
        }
    }

    /// How many bytes the line break has that ends here.
    pub(super) fn break_before(&self, at: usize) -> usize {
        match &self.bytes[..at] {
            [.., b'\r', b'\n'] => 2,
            [.., b'\n'] => 1,
            [.., b'\r'] if self.bytes.get(at) != Some(&b'\n') => 1,
            [.., 0xc2, 0x85] => 2,
            [.., 0xe2, 0x80, 0xa8 | 0xa9] => 3,
            _ => 0,
        }
    }

    pub(super) fn obstacle(&self, at: usize, what: &'static str) -> Obstacle {
        let line = Place::of(self.bytes, at).line;
        Obstacle { line, what }
    }

    /// A node's bytes. Those of a mapping without braces of its own, `[a: b]`, end with its value.
    pub(super) fn span(&self, id: NodeId) -> Range<usize> {
        let node = self.tree.node(id);
        let first = self.bytes.get(self.skip_properties(node.span.start));
        match &node.value {
            Value::Map(pairs) if node.style == Style::Flow && first != Some(&b'{') => {
                let last = pairs.last().map(|pair| self.tree.node(pair.value).span.end);
                node.span.start..last.unwrap_or(node.span.end)
            }
            _ => node.span.clone(),
        }
    }
}
