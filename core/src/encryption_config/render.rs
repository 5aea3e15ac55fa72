//! Writes what every kube-apiserver loads, strict or lenient, YAML 1.1 or JSON: a whole file, or a
//! part of one in the style of its neighbours.

use super::buffer::Buffer;
use super::form::Form;
use super::model::EncryptionConfiguration;
use super::resolve::is_text;
use super::tree::{NodeId, Pair, Style, Text, Tree, Value};
use crate::secret::SecretBytes;

/// The form of the file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// Block style, two spaces.
    Yaml,
    /// Two spaces.
    Json,
}

/// Writes the configuration. Whatever is the server's default is left out, except the version of
/// a KMS plugin's API, whose default is the one that is deprecated.
pub fn render(configuration: &EncryptionConfiguration, format: Format) -> SecretBytes {
    let form = Form::of(configuration);
    let mut writer = Writer::new(Layout::default());
    match (format, &form) {
        (Format::Yaml, Form::Map(fields)) => writer.fields(fields, 0, true, Sample::NONE),
        _ => {
            writer.layout.is_json = true;
            writer.flow(&form, Some(0), Sample::NONE);
            writer.out.push("\n");
        }
    }
    writer.out.into_secret()
}

/// How a file is laid out.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) is_json: bool,
    pub(super) line_break: &'static str,
    /// Columns from a block mapping's key to the dashes of the list that is its value.
    pub(super) list: usize,
    /// Columns from a block mapping's key to the keys of the mapping that is its value.
    pub(super) map: usize,
    /// Blanks after a dash.
    pub(super) gap: usize,
    /// Before the first level of a flow collection over several lines.
    pub(super) margin: String,
    /// What each level adds to it.
    pub(super) unit: String,
    /// Whether a blank follows a colon and a comma.
    pub(super) is_spaced: bool,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            is_json: false,
            line_break: "\n",
            list: 2,
            map: 2,
            gap: 1,
            margin: String::new(),
            unit: "  ".to_owned(),
            is_spaced: true,
        }
    }
}

/// What stands in the file already and is to be resembled.
#[derive(Clone, Copy)]
pub(super) struct Sample<'a>(Option<(&'a Tree, NodeId)>);

impl<'a> Sample<'a> {
    pub(super) const NONE: Self = Self(None);

    pub(super) fn new(tree: &'a Tree, id: NodeId) -> Self {
        Self(Some((tree, id)))
    }

    fn style(self) -> Option<Style> {
        self.0.map(|(tree, id)| match tree.node(id).value {
            Value::Alias(target) => tree.node(target).style,
            _ => tree.node(id).style,
        })
    }

    /// The field, or what stands in its place in a provider of another kind.
    fn field(self, name: &str, value: &Form) -> Self {
        let pairs = self.pairs();
        let named = |pair: &&Pair| {
            self.0
                .and_then(|(tree, _)| tree.text(pair.key))
                .map(Text::expose)
                == Some(name)
        };
        let alike = |sample: &Self| !matches!(value, Form::Map(_)) || !sample.pairs().is_empty();
        let found = pairs.iter().find(named).or(pairs.first());
        let found = found.and_then(|pair| self.0.map(|(tree, _)| Self::new(tree, pair.value)));
        found.filter(alike).unwrap_or(Self::NONE)
    }

    fn item(self) -> Self {
        match self.0.map(|(tree, id)| (tree, tree.value(id))) {
            Some((tree, Value::List(items))) => {
                items.first().map_or(Self::NONE, |id| Self::new(tree, *id))
            }
            _ => Self::NONE,
        }
    }

    fn pairs(self) -> &'a [Pair] {
        match self.0.map(|(tree, id)| tree.value(id)) {
            Some(Value::Map(pairs)) => pairs,
            _ => &[],
        }
    }

    pub(super) fn has_quoted_names(self) -> bool {
        let key = self.pairs().first().map(|pair| pair.key);
        let node = self.0.zip(key).map(|((tree, _), key)| tree.node(key));
        node.is_some_and(|node| node.style == Style::DoubleQuoted)
    }

    fn spans_lines(self) -> bool {
        self.0.is_none_or(|(tree, id)| {
            let (Value::List(_) | Value::Map(_)) = tree.node(id).value else {
                return false;
            };
            let place = tree.place(id);
            self.last()
                .is_some_and(|last| tree.place(last).line > place.line)
        })
    }

    fn last(self) -> Option<NodeId> {
        let (tree, id) = self.0?;
        match &tree.node(id).value {
            Value::List(items) => items.last().copied(),
            Value::Map(pairs) => pairs.last().map(|pair| pair.value),
            _ => None,
        }
    }
}

/// Writes values.
pub(super) struct Writer {
    pub(super) layout: Layout,
    pub(super) out: Buffer,
}

impl Writer {
    pub(super) fn new(layout: Layout) -> Self {
        let out = Buffer::default();
        Self { layout, out }
    }

    /// Fields of a block mapping whose keys stand in `column`, each to the end of its line;
    /// `is_begun` says that what stands before the first one is there.
    pub(super) fn fields(
        &mut self,
        fields: &[(&'static str, Form)],
        column: usize,
        is_begun: bool,
        sample: Sample<'_>,
    ) {
        for (index, (name, value)) in fields.iter().enumerate() {
            if index > 0 || !is_begun {
                self.out.push_blanks(column);
            }
            self.out.push(name);
            self.out.push(":");
            self.field_value(value, column, sample.field(name, value));
        }
    }

    /// From behind the colon.
    fn field_value(&mut self, value: &Form, column: usize, sample: Sample<'_>) {
        match value {
            Form::List(items) if !items.is_empty() && sample.style() != Some(Style::Flow) => {
                self.end_line();
                for item in items {
                    self.out.push_blanks(column + self.layout.list);
                    self.item(item, column + self.layout.list, sample.item());
                }
            }
            Form::Map(fields) if !fields.is_empty() && sample.style() != Some(Style::Flow) => {
                self.end_line();
                self.fields(fields, column + self.layout.map, false, sample);
            }
            value => {
                self.out.push(" ");
                self.flow(value, None, sample);
                self.end_line();
            }
        }
    }

    /// An item of a block list from its dash, which stands in `column`, to the end of its line.
    pub(super) fn item(&mut self, item: &Form, column: usize, sample: Sample<'_>) {
        self.out.push("-");
        self.out.push_blanks(self.layout.gap);
        match item {
            Form::Map(fields) if !fields.is_empty() && sample.style() != Some(Style::Flow) => {
                self.fields(fields, column + 1 + self.layout.gap, true, sample);
            }
            item => {
                self.flow(item, None, sample);
                self.end_line();
            }
        }
    }

    /// A scalar, or a flow collection: on one line without `depth`, else over several ones unless
    /// the sample is on one, from `depth` levels of indentation on.
    pub(super) fn flow(&mut self, form: &Form, depth: Option<usize>, sample: Sample<'_>) {
        let depth = depth.filter(|_| sample.spans_lines());
        let inner = depth.map(|depth| depth + 1);
        match form {
            Form::Number(number) => self.out.push(&number.to_string()),
            Form::Bool(value) => self.out.push(if *value { "true" } else { "false" }),
            Form::Text(text) if self.layout.is_json => json_string(text.expose(), &mut self.out),
            Form::Text(text) => yaml_string(text.expose(), sample.style(), &mut self.out),
            Form::List(items) => {
                self.out.push("[");
                for (index, item) in items.iter().enumerate() {
                    self.separate(index, inner);
                    self.flow(item, inner, sample.item());
                }
                self.close(items.is_empty(), depth);
                self.out.push("]");
            }
            Form::Map(fields) => {
                self.out.push("{");
                for (index, (name, value)) in fields.iter().enumerate() {
                    self.separate(index, inner);
                    self.name(name, sample.has_quoted_names());
                    self.flow(value, inner, sample.field(name, value));
                }
                self.close(fields.is_empty(), depth);
                self.out.push("}");
            }
        }
    }

    /// The name of a flow mapping's field, and the colon.
    pub(super) fn name(&mut self, name: &str, is_quoted: bool) {
        match self.layout.is_json || is_quoted {
            true => json_string(name, &mut self.out),
            false => self.out.push(name),
        }
        self.out
            .push(if self.layout.is_spaced { ": " } else { ":" });
    }

    /// What stands before an item.
    fn separate(&mut self, index: usize, depth: Option<usize>) {
        if index > 0 {
            self.out.push(",");
        }
        match depth {
            Some(depth) => self.begin_line(depth),
            None if index > 0 && self.layout.is_spaced => self.out.push(" "),
            None => {}
        }
    }

    fn close(&mut self, is_empty: bool, depth: Option<usize>) {
        if let Some(depth) = depth.filter(|_| !is_empty) {
            self.begin_line(depth);
        }
    }

    fn begin_line(&mut self, depth: usize) {
        self.end_line();
        self.out.push(&self.layout.margin);
        for _ in 0..depth {
            self.out.push(&self.layout.unit);
        }
    }

    fn end_line(&mut self) {
        self.out.push(self.layout.line_break);
    }
}

/// In the quotes of the sample if it has some that fit. Else plain where nobody can read anything
/// else in it, else in double quotes.
fn yaml_string(text: &str, style: Option<Style>, out: &mut Buffer) {
    // Nobody's numbers end with an equals sign; base64 mostly does.
    let is_word = |first: char| first.is_ascii_alphabetic() || first == '/';
    let is_flag = || {
        let name = text.strip_prefix("--");
        name.is_some_and(|name| name.starts_with(|first: char| first.is_ascii_alphabetic()))
    };
    let is_base64 = |first: char| text.ends_with('=') && (first.is_ascii_digit() || first == '+');
    let is_plain = || {
        (is_flag() || text.starts_with(|first| is_word(first) || is_base64(first)))
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._/+=".contains(&byte))
            && is_text(text)
    };
    match style {
        Some(Style::SingleQuoted) if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) => {
            out.push("'");
            for (index, part) in text.split('\'').enumerate() {
                out.push(if index > 0 { "''" } else { "" });
                out.push(part);
            }
            return out.push("'");
        }
        Some(Style::DoubleQuoted) => {}
        _ if is_plain() => return out.push(text),
        _ => {}
    }
    quoted(text, out, |scalar, out| {
        out.push(&match u32::from(scalar) {
            value @ 0..=0xff => format!("\\x{value:02x}"),
            value @ 0x100..=0xffff => format!("\\u{value:04x}"),
            value => format!("\\U{value:08x}"),
        });
    });
}

fn json_string(text: &str, out: &mut Buffer) {
    quoted(text, out, |scalar, out| {
        for unit in scalar.encode_utf16(&mut [0; 2]) {
            out.push(&format!("\\u{unit:04x}"));
        }
    });
}

fn quoted(text: &str, out: &mut Buffer, escape: impl Fn(char, &mut Buffer)) {
    out.push("\"");
    for scalar in text.chars() {
        match scalar {
            '"' => out.push("\\\""),
            '\\' => out.push("\\\\"),
            '\n' => out.push("\\n"),
            '\r' => out.push("\\r"),
            '\t' => out.push("\\t"),
            ' '..='~' => out.push(scalar.encode_utf8(&mut [0; 4])),
            _ if scalar.is_alphanumeric() => out.push(scalar.encode_utf8(&mut [0; 4])),
            _ => escape(scalar, out),
        }
    }
    out.push("\"");
}
