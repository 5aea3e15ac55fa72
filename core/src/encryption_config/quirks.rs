//! Where libyaml and go-yaml, which was copied from it long ago, read YAML differently: the source is
//! changed so that libyaml reads it as go-yaml does, and what is read is changed back. No byte moves.
//!
//! One difference is left: before its colon the name of a field may have 1,024 characters there, and
//! 1,024 bytes here. No field of the API comes near, so that a lenient server alone takes such a file.

use std::ops::Range;

use libyaml_safer::ScalarStyle;
use zeroize::Zeroizing;

use super::finding::Place;

/// The byte order mark in UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// A source for libyaml.
pub(super) struct Adapted {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    /// Of the source itself.
    pub(super) end: usize,
    /// What stands for a byte order mark.
    mark: Option<char>,
    /// What stands for some colons.
    colon: Option<char>,
    /// What stands for some apostrophes.
    apostrophe: Option<char>,
    replaced: usize,
}

/// Bytes that are no text.
pub(super) struct NoText {
    pub(super) place: Place,
    pub(super) message: &'static str,
}

/// What libyaml says where [`Adapted::replace_indicator`] helps.
pub(super) const PROBLEMS: [&str; 4] = [
    "found unexpected ':'",
    "did not find expected whitespace or line break",
    "did not find expected tag URI",
    "found unknown escape character",
];

/// Escapes, and the hex digits of what they stand for. What they stand for cannot stand as it is in a
/// file of YAML.
const CONTROLS: [(u8, char, &str); 4] = [
    (b'a', '\u{7}', "07"),
    (b'v', '\u{b}', "0b"),
    (b'f', '\u{c}', "0c"),
    (b'e', '\u{1b}', "1b"),
];

impl Adapted {
    /// Each one costs another run.
    const MOST_REPLACED: usize = 16;

    pub(super) fn new(source: &[u8]) -> Result<Self, NoText> {
        let text = from_utf16(source)?;
        let after_mark = match &text {
            Some(text) => text.as_bytes(),
            None => source.strip_prefix(MARK).unwrap_or_default(),
        };
        // go-yaml loses characters of later lines then, and with them the name of a field.
        if after_mark.starts_with(MARK) {
            let place = Place::START;
            let message = "it is not YAML: it begins with two byte order marks";
            return Err(NoText { place, message });
        }
        let text_is_utf8 = text.is_none();
        let bytes = match text {
            Some(mut text) => Zeroizing::new(std::mem::take(&mut *text).into_bytes()),
            None => Zeroizing::new(source.to_vec()),
        };
        let mut adapted = Self {
            end: bytes.len(),
            bytes,
            mark: None,
            colon: None,
            apostrophe: None,
            replaced: 0,
        };
        if text_is_utf8 {
            adapted.lose_characters();
        }
        adapted.replace_marks();
        Ok(adapted)
    }

    /// go-yaml looks for a byte order mark at the start of its buffer where it should look at the start of
    /// the line (`is_bom` in `yamlprivateh.go`). While one is there, each line between tokens loses its
    /// first character. The buffer begins anew where it has too few characters to go on with; they come
    /// in chunks of 512 bytes, less the bytes of a character that goes on in the next one. An empty line
    /// between tokens would lose its end; that is left as it is.
    fn lose_characters(&mut self) {
        const CHUNK: usize = 512;

        let mut start = 0;
        while self.bytes.len() - start > CHUNK {
            let mut end = start + CHUNK;
            while self.bytes[end] & 0xc0 == 0x80 {
                end -= 1;
            }
            let next = (end + CHUNK).min(self.bytes.len());
            let marks = (end.saturating_sub(3 * 4)..=end).rev();
            let begins = |at: &usize| {
                let rest = &self.bytes[*at..];
                let left = self.bytes[*at..end]
                    .iter()
                    .filter(|byte| **byte & 0xc0 != 0x80);
                rest.starts_with(MARK) && self.begins_buffer(*at, left.count())
            };
            if let Some(mark) = marks.filter(|at| *at > 0).find(begins) {
                for at in mark + MARK.len()..next {
                    if self.bytes[at - 1] == b'\n' && self.bytes[at].is_ascii_graphic() {
                        self.bytes[at] = b' ';
                    }
                }
            }
            start = end;
        }
    }

    /// Whether go-yaml fills its buffer just before the mark at `at`, when it has `left` characters: a
    /// token asks for four where it starts, a block scalar and a blank for one.
    fn begins_buffer(&self, at: usize, left: usize) -> bool {
        let line = self.bytes[..at].rsplit(|byte| *byte == b'\n').next();
        let line = line.unwrap_or_default();
        match line.trim_ascii_end() {
            [.., b'\'' | b'"'] if !line.ends_with(b" ") => left == 3,
            [] if self.is_in_block_scalar(at - line.len(), line.len()) => left == 0,
            [] => left <= 3,
            [.., b'-' | b'?' | b':' | b',' | b'[' | b'{'] => {
                let token = line.len() - line.trim_ascii_end().len() + 1;
                left <= 3 && left + token >= 4
            }
            _ => false,
        }
    }

    /// Whether a line that starts at `start` with `indent` blanks is text of a block scalar.
    fn is_in_block_scalar(&self, start: usize, indent: usize) -> bool {
        let lines = self.bytes[..start].rsplit(|byte| *byte == b'\n');
        let holder = lines
            .map(<[u8]>::trim_ascii_end)
            .find(|line| !line.is_empty() && line.len() - line.trim_ascii_start().len() < indent);
        let Some(holder) = holder else {
            return false;
        };
        let mut header = holder
            .iter()
            .rev()
            .skip_while(|byte| b"0123456789+-".contains(byte));
        header.next().is_some_and(|byte| b"|>".contains(byte))
    }

    /// A byte order mark behind the first one is a character like any other to go-yaml, while libyaml
    /// passes over it at the start of a line.
    fn replace_marks(&mut self) {
        let mut at = self.first();
        while let Some(next) = self.bytes[at..]
            .windows(MARK.len())
            .position(|it| it == MARK)
        {
            at += next;
            let unused = || self.unused('\u{e000}'..='\u{f8ff}');
            let Some(mark) = self.mark.or_else(unused) else {
                return;
            };
            self.mark = Some(mark);
            mark.encode_utf8(&mut self.bytes[at..]);
        }
    }

    /// Replaces what [`PROBLEMS`] are about: a colon before a bracket or a comma, which go-yaml takes as
    /// text; brackets and commas in tags, which it takes as part of a tag that means nothing; an escaped
    /// apostrophe. `false` where there is no such thing, or too many of them.
    pub(super) fn replace_indicator(&mut self, offset: usize) -> bool {
        if self.replaced == Self::MOST_REPLACED {
            return false;
        }
        self.replaced += 1;
        match self.bytes.get(offset..) {
            Some([b':', ..]) => {
                let colon = self.colon.or_else(|| self.unused(";^$~()/+=<".chars()));
                let Some(byte) = colon.and_then(|it| u8::try_from(it).ok()) else {
                    return false;
                };
                self.colon = colon;
                self.bytes[offset] = byte;
            }
            Some([b',' | b'[' | b']', ..]) => self.bytes[offset] = b'.',
            Some([b'\\', b'\'', ..]) => {
                let Some((letter, scalar)) = self.unused_control() else {
                    return false;
                };
                self.apostrophe = Some(scalar);
                self.bytes[offset + 1] = letter;
            }
            _ => return false,
        }
        true
    }

    /// libyaml-safer gives up on a comma in a tag without saying where: behind what was read last. There
    /// are no block scalars between brackets, but there are quotes.
    pub(super) fn replace_comma(&mut self, reached: usize) -> bool {
        let mut quote = None;
        let mut is_tag = false;
        for offset in reached..self.end {
            let byte = self.bytes[offset];
            match (quote, byte) {
                (Some(open), _) if open == byte => quote = None,
                (None, b'"' | b'\'') if !is_tag => quote = Some(byte),
                (None, b',') if is_tag => return self.replace_indicator(offset),
                (None, b'!') => is_tag = true,
                (None, b' ' | b'\t' | b'\r' | b'\n') => is_tag = false,
                _ => {}
            }
        }
        false
    }

    /// libyaml-safer gives up on a block scalar that ends without a newline. `false` if there is one.
    pub(super) fn lengthen(&mut self) -> bool {
        let lengthens = !self.is_lengthened() && self.bytes.last() != Some(&b'\n');
        if lengthens {
            self.bytes = Zeroizing::new([&self.bytes, &b"\n"[..]].concat());
        }
        lengthens
    }

    pub(super) fn is_lengthened(&self) -> bool {
        self.bytes.len() > self.end
    }

    /// The text that was read as `text`.
    pub(super) fn restore(&self, text: String, style: ScalarStyle) -> String {
        let colon = self.colon.filter(|_| style == ScalarStyle::Plain);
        let apostrophe = self
            .apostrophe
            .filter(|_| style == ScalarStyle::DoubleQuoted);
        let stand_ins = [
            self.mark.map(|mark| (mark, "\u{feff}")),
            colon.map(|colon| (colon, ":")),
            apostrophe.map(|apostrophe| (apostrophe, "'")),
        ];
        let replace = |text: String, (stand_in, original): (char, &str)| {
            Zeroizing::new(text).replace(stand_in, original)
        };
        stand_ins.into_iter().flatten().fold(text, replace)
    }

    /// In the source, of a place where libyaml counts `index` bytes.
    pub(super) fn offset(&self, index: u64) -> usize {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        index.saturating_add(self.first()).min(self.end)
    }

    /// libyaml counts from behind the byte order mark.
    fn first(&self) -> usize {
        usize::from(self.bytes.starts_with(MARK)) * MARK.len()
    }

    /// An escape that the source does not have, nor what it stands for in hex.
    fn unused_control(&self) -> Option<(u8, char)> {
        let text = String::from_utf8_lossy(&self.bytes).to_ascii_lowercase();
        let is_unused = |(letter, scalar, hex): &(u8, char, &str)| {
            let escape = ['\\', char::from(*letter)].iter().collect::<String>();
            self.apostrophe == Some(*scalar) || !text.contains(&escape) && !text.contains(hex)
        };
        let (letter, scalar, _) = CONTROLS.iter().find(|it| is_unused(it))?;
        Some((*letter, *scalar))
    }

    /// Whether a text in double quotes has a slash escaped, which go-yaml does not know.
    pub(super) fn escapes_a_slash(&self, span: Range<usize>) -> bool {
        let span = self.bytes.get(span).unwrap_or_default();
        let mut bytes = span.iter().skip_while(|byte| **byte != b'"');
        while let Some(byte) = bytes.next() {
            if *byte == b'\\' && bytes.next() == Some(&b'/') {
                return true;
            }
        }
        false
    }

    /// One of these characters that the source does not have.
    fn unused(&self, mut candidates: impl Iterator<Item = char>) -> Option<char> {
        let text = String::from_utf8_lossy(&self.bytes);
        let used: std::collections::HashSet<char> = text.chars().collect();
        candidates.find(|candidate| !used.contains(candidate))
    }
}

/// UTF-16 with a byte order mark is YAML, too. libyaml-safer loses its way in it.
pub(super) fn from_utf16(source: &[u8]) -> Result<Option<Zeroizing<String>>, NoText> {
    let (rest, unit): (_, fn([u8; 2]) -> u16) = match source {
        [0xff, 0xfe, rest @ ..] => (rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => (rest, u16::from_be_bytes),
        _ => return Ok(None),
    };
    let (pairs, odd) = rest.as_chunks::<2>();
    let mut text = Zeroizing::new(String::with_capacity(2 * rest.len()));
    for scalar in char::decode_utf16(pairs.iter().map(|pair| unit(*pair))) {
        match scalar {
            Ok(scalar) => text.push(scalar),
            Err(_) => {
                let place = Place::of(text.as_bytes(), text.len());
                let message = "it is not YAML: half of a UTF-16 pair is missing";
                return Err(NoText { place, message });
            }
        }
    }
    if !odd.is_empty() {
        let place = Place::of(text.as_bytes(), text.len());
        let message = "it is not YAML: half of a UTF-16 unit is missing";
        return Err(NoText { place, message });
    }
    Ok(Some(text))
}
