//! Reads JSON as strictly and as leniently as Go's `encoding/json`, keeping every value's place.

use zeroize::Zeroizing;

use super::finding::{Finding, Place, fault};
use super::ids;
use super::tree::{Full, MAX_DEPTH, Node, NodeId, Pair, Scalar, Style, Text, Tree, Value};
use super::yaml::{too_deep, too_large};

/// Reads the one value that the source has to be.
pub(super) fn read(source: &[u8]) -> Result<Tree, Finding> {
    let mut reader = Reader {
        source,
        at: 0,
        counted: (0, Place::START),
        tree: Tree::default(),
    };
    reader.space();
    let root = reader.value(0)?;
    reader.space();
    if reader.at < source.len() {
        return Err(reader.fault("something follows after the end of the object"));
    }
    reader.tree.root = Some(root);
    Ok(reader.tree)
}

struct Reader<'a> {
    source: &'a [u8],
    at: usize,
    /// An offset that is behind us and its place, so that lines are counted once.
    counted: (usize, Place),
    tree: Tree,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Result<NodeId, Finding> {
        let (place, start) = (self.place(), self.at);
        if depth == MAX_DEPTH {
            return Err(too_deep(place));
        }
        match self.peek() {
            Some(b'{') => {
                // Parents come before their children, as in YAML.
                let id = self.push(place, start, Style::Flow, Value::Map(Vec::new()))?;
                let pairs = self.map(depth)?;
                self.tree.fill(id, Value::Map(pairs), self.at);
                Ok(id)
            }
            Some(b'[') => {
                let id = self.push(place, start, Style::Flow, Value::List(Vec::new()))?;
                let items = self.list(depth)?;
                self.tree.fill(id, Value::List(items), self.at);
                Ok(id)
            }
            Some(b'"') => {
                let text = self.string()?;
                self.text(place, start, text)
            }
            Some(b'-' | b'0'..=b'9') => {
                let number = self.number()?;
                self.word(place, start, number)
            }
            _ => {
                let word = [
                    ("null", Scalar::Null),
                    ("true", Scalar::Bool(true)),
                    ("false", Scalar::Bool(false)),
                ];
                for (word, scalar) in word {
                    if self.source[self.at..].starts_with(word.as_bytes()) {
                        self.at += word.len();
                        return self.word(place, start, scalar);
                    }
                }
                Err(self.fault("a value is missing or is not written as JSON has it"))
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<Pair>, Finding> {
        let mut pairs = Vec::new();
        self.at += 1;
        self.space();
        if self.take(b'}') {
            return Ok(pairs);
        }
        loop {
            self.space();
            let (place, start) = (self.place(), self.at);
            if self.peek() != Some(b'"') {
                return Err(self.fault("a field's name in double quotes is missing"));
            }
            let name = self.string()?;
            let key = self.text(place, start, name)?;
            self.space();
            if !self.take(b':') {
                return Err(self.fault("a colon is missing after the field's name"));
            }
            self.space();
            let value = self.value(depth + 1)?;
            pairs.push(Pair {
                key,
                value,
                is_merge: false,
            });
            self.space();
            if self.take(b'}') {
                return Ok(pairs);
            }
            if !self.take(b',') {
                return Err(self.fault("a comma or the closing brace is missing"));
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Vec<NodeId>, Finding> {
        let mut items = Vec::new();
        self.at += 1;
        self.space();
        if self.take(b']') {
            return Ok(items);
        }
        loop {
            self.space();
            items.push(self.value(depth + 1)?);
            self.space();
            if self.take(b']') {
                return Ok(items);
            }
            if !self.take(b',') {
                return Err(self.fault("a comma or the closing bracket is missing"));
            }
        }
    }

    /// Bytes that are no UTF-8, and halves of surrogate pairs, become U+FFFD.
    fn string(&mut self) -> Result<Text, Finding> {
        let start = self.at + 1;
        let mut end = start;
        loop {
            match self.source.get(end) {
                Some(b'"') => break,
                Some(b'\\') => end += 2,
                Some(0..b' ') => {
                    self.at = end;
                    return Err(self.fault("text cannot hold a control character as it is"));
                }
                Some(_) => end += 1,
                None => return Err(self.fault("the text does not end")),
            }
        }
        self.at = start;
        // No escape is shorter than what it stands for, but each bad byte becomes three.
        let mut bytes = Zeroizing::new(Vec::with_capacity(end - start));
        while self.at < end {
            match self.source[self.at] {
                b'\\' => {
                    let scalar = self.escape()?;
                    bytes.extend_from_slice(scalar.encode_utf8(&mut [0; 4]).as_bytes());
                }
                byte => {
                    bytes.push(byte);
                    self.at += 1;
                }
            }
        }
        self.at = end + 1;
        Ok(Text::new(String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn escape(&mut self) -> Result<char, Finding> {
        let scalar = match self.source.get(self.at + 1) {
            Some(b'u') => return self.unicode_escape(),
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(*byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            _ => return Err(self.fault("JSON has no such escape")),
        };
        self.at += 2;
        Ok(scalar)
    }

    fn unicode_escape(&mut self) -> Result<char, Finding> {
        let first = self
            .code_unit(self.at)
            .ok_or_else(|| self.fault("four hex digits are missing after \\u"))?;
        self.at += 6;
        if let Some(second) = self.code_unit(self.at) {
            let mut pair = char::decode_utf16([first, second]);
            if let (Some(Ok(scalar)), None) = (pair.next(), pair.next()) {
                self.at += 6;
                return Ok(scalar);
            }
        }
        Ok(char::from_u32(u32::from(first)).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn code_unit(&self, at: usize) -> Option<u16> {
        let digits = self.source.get(at..at + 6)?.strip_prefix(b"\\u")?;
        let digits = std::str::from_utf8(digits).ok()?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        u16::from_str_radix(digits, 16).ok()
    }

    fn number(&mut self) -> Result<Scalar, Finding> {
        let start = self.at;
        self.take(b'-');
        let leading_zero = self.peek() == Some(b'0');
        match self.digits() {
            0 => return Err(self.fault("a digit is missing")),
            1 => {}
            _ if leading_zero => {
                self.at = start;
                return Err(self.fault("a number cannot begin with 0"));
            }
            _ => {}
        }
        let mut is_integer = true;
        if self.take(b'.') {
            is_integer = false;
            if self.digits() == 0 {
                return Err(self.fault("a digit is missing after the point"));
            }
        }
        if self.take(b'e') || self.take(b'E') {
            is_integer = false;
            let _ = self.take(b'+') || self.take(b'-');
            if self.digits() == 0 {
                return Err(self.fault("a digit is missing in the exponent"));
            }
        }
        let text = std::str::from_utf8(&self.source[start..self.at]).unwrap_or_default();
        Ok(match text.parse() {
            Ok(number) if is_integer => Scalar::Int(number),
            _ => Scalar::Decimal,
        })
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        self.at - start
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.source.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let taken = self.peek() == Some(byte);
        self.at += usize::from(taken);
        taken
    }

    fn text(&mut self, place: Place, start: usize, text: Text) -> Result<NodeId, Finding> {
        let value = Value::Scalar(Scalar::Text, text);
        self.push(place, start, Style::DoubleQuoted, value)
    }

    fn word(&mut self, place: Place, start: usize, scalar: Scalar) -> Result<NodeId, Finding> {
        let value = Value::Scalar(scalar, Text::new(String::new()));
        self.push(place, start, Style::Plain, value)
    }

    /// Adds a node that ends here.
    fn push(
        &mut self,
        place: Place,
        start: usize,
        style: Style,
        value: Value,
    ) -> Result<NodeId, Finding> {
        let node = Node {
            place,
            span: start..self.at,
            style,
            has_anchor: false,
            value,
        };
        self.tree.push(node).map_err(|Full| too_large(place))
    }

    fn place(&mut self) -> Place {
        let (from, mut place) = self.counted;
        let to = self.at.min(self.source.len()).max(from);
        for byte in &self.source[from..to] {
            match byte {
                b'\n' => {
                    place.line = place.line.saturating_add(1);
                    place.column = 1;
                }
                byte if byte & 0xc0 != 0x80 => place.column = place.column.saturating_add(1),
                _ => {}
            }
        }
        self.counted = (to, place);
        place
    }

    fn fault(&self, message: &str) -> Finding {
        fault(
            ids::JSON,
            "",
            Place::of(self.source, self.at),
            format!("it is not JSON: {message}"),
            "a file that begins with { is read as JSON and nothing else: mend the JSON here",
        )
    }
}
