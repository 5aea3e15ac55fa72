//! Reads the first document of a YAML stream the way `go.yaml.in/yaml/v2` does: libyaml's events,
//! YAML 1.1's meaning, aliases and merge keys with their limits.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::io::BufReader;
use std::panic::AssertUnwindSafe;
use std::sync::Once;

use libyaml_safer::{
    ErrorKind, Event, EventData, MappingStyle, Mark, Parser, ScalarStyle, SequenceStyle,
};

use super::dialect;
use super::fields::shown_in_path;
use super::finding::{Finding, Place, fault, number};
use super::go;
use super::ids;
use super::quirks::{self, Adapted, NoText};
use super::resolve::{TAG_PREFIX, resolve};
use super::tree::{
    Full, MAX_BYTES, MAX_DEPTH, Node, NodeId, Pair, Scalar, Style, Text, Tree, Value,
};

/// Reads the document. Keys that are there twice are findings of their own: only a strict server
/// minds them.
pub(super) fn read(source: &[u8]) -> Result<(Tree, Vec<Finding>), Finding> {
    let mut text =
        Adapted::new(source).map_err(|NoText { place, message }| malformed(place, message))?;
    let reached = Cell::new(0);
    let tree = loop {
        match without_panics(|| Loader::new(&text).load(&reached)) {
            Some(Ok(tree)) => break tree,
            Some(Err((_, Some(offset)))) if text.replace_indicator(offset) => {}
            Some(Err((finding, _))) => return Err(*finding),
            None if text.lengthen() || text.replace_comma(reached.get()) => {}
            None => {
                let message = "it is not YAML: a tag or an escape is cut off";
                return Err(malformed(Place::START, message));
            }
        }
    };
    let duplicates = Walk::new(&tree).run()?;
    Ok((tree, duplicates))
}

fn malformed(place: Place, message: impl Into<String>) -> Finding {
    fault(
        ids::YAML,
        "",
        place,
        message,
        "mend the YAML here; what is reported first often begins on the line before",
    )
}

fn unusable(place: Place, message: impl Into<String>, fix: &str) -> Finding {
    fault(ids::YAML_VALUE, "", place, message, fix)
}

fn place(mark: Mark) -> Place {
    let number = |value: u64| number(usize::try_from(value).unwrap_or(usize::MAX));
    Place {
        line: number(mark.line),
        column: number(mark.column),
    }
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// libyaml-safer gives up on a few faulty inputs (`[!!str,` for one) with a panic, which is a
/// verdict like any other here. Panics elsewhere are reported as ever.
fn without_panics<T>(read: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                previous(panic);
            }
        }));
    });
    QUIET.set(true);
    let result = std::panic::catch_unwind(AssertUnwindSafe(read));
    QUIET.set(false);
    result.ok()
}

/// Builds the tree out of events.
struct Loader<'a> {
    text: &'a Adapted,
    tree: Tree,
    anchors: HashMap<String, NodeId>,
    open: Vec<Open>,
}

/// Why there is no tree, and where libyaml stopped.
type Stop = (Box<Finding>, Option<usize>);

/// A collection whose end has not come yet.
struct Open {
    id: NodeId,
    style: Style,
    items: Items,
}

enum Items {
    List(Vec<NodeId>),
    Map(Vec<Pair>, Option<(NodeId, bool)>),
}

impl<'a> Loader<'a> {
    fn new(text: &'a Adapted) -> Self {
        Self {
            text,
            tree: Tree::default(),
            anchors: HashMap::new(),
            open: Vec::new(),
        }
    }

    /// `reached` is the offset of what was read last.
    fn load(mut self, reached: &Cell<usize>) -> Result<Tree, Stop> {
        let mut parser = Parser::new();
        // go-yaml reads in pieces of this size: what is no UTF-8 a piece beyond the first document
        // does not come up.
        parser.set_input(BufReader::with_capacity(512, &self.text.bytes[..]));
        loop {
            let event = parser.parse().map_err(|error| {
                let is_of_libyaml = quirks::PROBLEMS.contains(&error.problem());
                let mark = error.problem_mark().filter(|_| is_of_libyaml);
                let offset = mark.map(|mark| self.text.offset(mark.index));
                (Box::new(fault_of(&self.text.bytes, &error)), offset)
            })?;
            reached.set(self.text.offset(event.end_mark.index));
            if let Some(tree) = self
                .take(event)
                .map_err(|finding| (Box::new(finding), None))?
            {
                return Ok(tree);
            }
        }
    }

    /// Takes an event; of the last one it makes the tree.
    fn take(&mut self, event: Event) -> Result<Option<Tree>, Finding> {
        let text = self.text;
        let offset = |mark: Mark| text.offset(mark.index);
        let place = place(event.start_mark);
        let end = offset(event.end_mark);
        let node = |style, anchor: &Option<String>, value| Node {
            place,
            span: offset(event.start_mark)..end,
            style,
            has_anchor: anchor.is_some(),
            value,
        };
        match event.data {
            EventData::Scalar {
                anchor,
                tag,
                value,
                plain_implicit,
                style,
                ..
            } => {
                let is_merge = value == "<<"
                    && (plain_implicit
                        || tag.as_deref().and_then(|tag| tag.strip_prefix(TAG_PREFIX))
                            == Some("merge"));
                let is_block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
                let is_plain = style == ScalarStyle::Plain;
                let open = self.open.last();
                let is_in_flow = open.is_some_and(|open| open.style == Style::Flow);
                if is_plain && is_in_flow && value.contains('?') {
                    return Err(malformed(
                        place,
                        "it is not YAML: between brackets a text with a question mark needs quotes",
                    ));
                }
                let mut value = text.restore(value, is_plain);
                if is_block && text.is_lengthened() && end == text.end && value.ends_with('\n') {
                    value.pop();
                }
                let value = scalar(tag.as_deref(), plain_implicit, value, place)?;
                let style = match style {
                    ScalarStyle::SingleQuoted => Style::SingleQuoted,
                    ScalarStyle::DoubleQuoted => Style::DoubleQuoted,
                    _ if is_block => Style::BlockScalar,
                    _ => Style::Plain,
                };
                self.add(node(style, &anchor, value), anchor, is_merge)?;
            }
            EventData::SequenceStart { anchor, style, .. } => {
                let style = match style {
                    SequenceStyle::Flow => Style::Flow,
                    _ => Style::Block,
                };
                let list = node(style, &anchor, Value::List(Vec::new()));
                let id = self.add(list, anchor, false)?;
                self.open(place, id, style, Items::List(Vec::new()))?;
            }
            EventData::MappingStart { anchor, style, .. } => {
                let style = match style {
                    MappingStyle::Flow => Style::Flow,
                    _ => Style::Block,
                };
                let map = node(style, &anchor, Value::Map(Vec::new()));
                let id = self.add(map, anchor, false)?;
                self.open(place, id, style, Items::Map(Vec::new(), None))?;
            }
            EventData::SequenceEnd | EventData::MappingEnd => self.close(end),
            EventData::Alias { anchor } => {
                let target = *self.anchors.get(&anchor).ok_or_else(|| {
                    unusable(
                        place,
                        "this alias refers to an anchor that is not there",
                        "give the node that is meant the anchor, before this line",
                    )
                })?;
                let alias = node(Style::Plain, &None, Value::Alias(target));
                self.add(alias, None, false)?;
            }
            // What comes after the first document is not even looked at.
            EventData::DocumentEnd { .. } | EventData::StreamEnd => {
                return Ok(Some(std::mem::take(&mut self.tree)));
            }
            EventData::DocumentStart {
                version_directive: Some(version),
                ..
            } if (version.major, version.minor) != (1, 1) => {
                return Err(malformed(
                    place,
                    "it is not YAML 1.1, and the server reads no other",
                ));
            }
            EventData::StreamStart { .. } | EventData::DocumentStart { .. } => {}
        }
        Ok(None)
    }

    fn add(
        &mut self,
        node: Node,
        anchor: Option<String>,
        is_merge: bool,
    ) -> Result<NodeId, Finding> {
        let place = node.place;
        let id = self.tree.push(node).map_err(|Full| too_large(place))?;
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor, id);
        }
        match self.open.last_mut().map(|open| &mut open.items) {
            None => self.tree.root = Some(id),
            Some(Items::List(items)) => items.push(id),
            Some(Items::Map(pairs, key)) => match key.take() {
                None => *key = Some((id, is_merge)),
                Some((key, is_merge)) => pairs.push(Pair {
                    key,
                    value: id,
                    is_merge,
                }),
            },
        }
        Ok(id)
    }

    fn open(
        &mut self,
        place: Place,
        id: NodeId,
        style: Style,
        items: Items,
    ) -> Result<(), Finding> {
        if self.open.len() == MAX_DEPTH {
            return Err(too_deep(place));
        }
        self.open.push(Open { id, style, items });
        Ok(())
    }

    /// libyaml ends a block collection where the next token begins: behind blank lines and comments
    /// that are not of it.
    fn close(&mut self, end: usize) {
        let Some(Open { id, style, items }) = self.open.pop() else {
            return;
        };
        let (last, value) = match items {
            Items::List(items) => (items.last().copied(), Value::List(items)),
            Items::Map(pairs, _) => (pairs.last().map(|pair| pair.value), Value::Map(pairs)),
        };
        let end = match (style, last) {
            (Style::Block, Some(last)) => self.tree.node(last).span.end,
            _ => end,
        };
        self.tree.fill(id, value, end);
    }
}

pub(super) fn too_large(place: Place) -> Finding {
    fault(
        ids::TOO_LARGE,
        "",
        place,
        "the file has more values than atrest reads",
        "an EncryptionConfiguration has a few hundred: check that this is one",
    )
}

pub(super) fn too_deep(place: Place) -> Finding {
    fault(
        ids::TOO_LARGE,
        "",
        place,
        format!("values are nested more than {MAX_DEPTH} levels deep"),
        "no field of an EncryptionConfiguration is deeper than eight: check that this is one",
    )
}

fn scalar(
    tag: Option<&str>,
    plain_implicit: bool,
    text: String,
    place: Place,
) -> Result<Value, Finding> {
    let text = Text::new(text);
    if tag.is_none() && !plain_implicit {
        return Ok(Value::Scalar(Scalar::Text, text));
    }
    if tag.and_then(|tag| tag.strip_prefix(TAG_PREFIX)) == Some("binary") {
        let bytes = dialect::base64(text.expose()).ok_or_else(|| {
            unusable(
                place,
                "this !!binary value is not base64",
                "take the tag away",
            )
        })?;
        let text = String::from_utf8_lossy(bytes.expose()).into_owned();
        return Ok(Value::Scalar(Scalar::Text, Text::new(text)));
    }
    let scalar = resolve(tag, text.expose()).map_err(|_| {
        unusable(
            place,
            "this value is not of the type that its tag names",
            "take the tag away",
        )
    })?;
    Ok(Value::Scalar(scalar, text))
}

fn fault_of(source: &[u8], error: &libyaml_safer::Error) -> Finding {
    if matches!(error.kind(), ErrorKind::Reader | ErrorKind::Io) {
        return malformed(
            Place::of(source, unreadable(source)),
            "it is not YAML: here is a byte that is no UTF-8, or a control character",
        );
    }
    // libyaml's problems are fixed sentences: nothing of the file is in them.
    let place = error.problem_mark().map_or(Place::START, place);
    malformed(place, format!("it is not YAML: {}", error.problem()))
}

/// The offset of what the reader stumbled over.
fn unreadable(source: &[u8]) -> usize {
    let (text, end) = match std::str::from_utf8(source) {
        Ok(text) => (text, source.len()),
        Err(error) => (
            std::str::from_utf8(&source[..error.valid_up_to()]).unwrap_or_default(),
            error.valid_up_to(),
        ),
    };
    text.char_indices()
        .find(|(offset, scalar)| match scalar {
            '\t' | '\n' | '\r' | '\u{85}' => false,
            '\u{feff}' => *offset > 0,
            '\u{fffe}' | '\u{ffff}' => true,
            scalar => scalar.is_control(),
        })
        .map_or(end, |(offset, _)| offset)
}

/// Goes through the document as go-yaml's decoder does, following aliases, and finds what stops it.
struct Walk<'a> {
    tree: &'a Tree,
    path: Vec<Step<'a>>,
    duplicates: Vec<Finding>,
    active: HashSet<NodeId>,
    decoded: u64,
    aliased: u64,
    alias_depth: u64,
    bytes: usize,
    /// The first, in what was walked through and still counts.
    unfit: Option<Unfit>,
}

enum Step<'a> {
    Field(Option<&'a str>),
    Index(usize),
}

/// The keys of a mapping so far; with each what of it has no form in JSON.
type Seen<'a> = HashMap<Key<'a>, Option<Unfit>>;

/// Where something has no form in JSON, the sentence that says so, and what to do.
type Unfit = (Place, &'static str, &'static str);

/// A mapping key as Go compares it: type and value.
#[derive(Eq, Hash, PartialEq)]
enum Key<'a> {
    Text(&'a str),
    Int(i64),
    Float(u64),
    Bool(bool),
    Uint(u64),
    Null,
}

impl<'a> Walk<'a> {
    /// Frames of recursion; without aliases there are never more than [`MAX_DEPTH`].
    const MAX_FRAMES: usize = 400;

    fn new(tree: &'a Tree) -> Self {
        Self {
            tree,
            path: Vec::new(),
            duplicates: Vec::new(),
            active: HashSet::new(),
            decoded: 1,
            aliased: 0,
            alias_depth: 0,
            bytes: 0,
            unfit: None,
        }
    }

    fn run(mut self) -> Result<Vec<Finding>, Finding> {
        if let Some(root) = self.tree.root {
            self.node(root, &mut Seen::new(), None)?;
        }
        if let Some((place, message, fix)) = self.unfit {
            return Err(unusable(place, message, fix));
        }
        Ok(self.duplicates)
    }

    /// `seen` and `merged_at` are those of the mapping that a merged one becomes part of.
    fn node(
        &mut self,
        id: NodeId,
        seen: &mut Seen<'a>,
        merged_at: Option<Place>,
    ) -> Result<(), Finding> {
        let tree = self.tree;
        let node = tree.node(id);
        self.count(node.place)?;
        match &node.value {
            Value::Scalar(scalar, text) => {
                if matches!(scalar, Scalar::Float(number) if !number.is_finite()) {
                    self.unfit = self.unfit.or(Some((
                        node.place,
                        "infinity and not-a-number cannot be read",
                        "put the value in quotes if it is meant as text",
                    )));
                }
                self.bytes += text.expose().len();
                // Go shares the bytes of what an alias repeats; here they are copied.
                if self.bytes > 2 * MAX_BYTES {
                    return Err(too_large(node.place));
                }
                Ok(())
            }
            Value::Alias(target) => {
                if self.active.len() == Self::MAX_FRAMES {
                    return Err(too_deep(node.place));
                }
                if !self.active.insert(id) {
                    return Err(unusable(
                        node.place,
                        "this alias contains itself",
                        "write the value out instead of the alias",
                    ));
                }
                self.alias_depth += 1;
                self.node(*target, seen, merged_at)?;
                self.alias_depth -= 1;
                self.active.remove(&id);
                Ok(())
            }
            Value::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.inside(node.place, Step::Index(index), |walk| {
                        walk.node(*item, &mut Seen::new(), None)
                    })?;
                }
                Ok(())
            }
            Value::Map(pairs) => self.map(pairs, seen, merged_at),
        }
    }

    fn map(
        &mut self,
        pairs: &'a [Pair],
        seen: &mut Seen<'a>,
        merged_at: Option<Place>,
    ) -> Result<(), Finding> {
        const NO_NAME: &str = "a field's name must be text";
        const WRITE_NAME: &str = "write the name of a field before the colon";

        let tree = self.tree;
        for pair in pairs {
            let place = tree.place(pair.key);
            if pair.is_merge {
                self.merge(pair.value, seen, merged_at.unwrap_or(place))?;
                continue;
            }
            let before = self.unfit;
            self.node(pair.key, &mut Seen::new(), None)?;
            self.unfit = None; // as a key a number becomes text
            let (key, name) = match tree.value(pair.key) {
                Value::Scalar(Scalar::Text, text) => {
                    (Key::Text(text.expose()), Some(text.expose()))
                }
                Value::Scalar(Scalar::Int(number), _) => (Key::Int(*number), None),
                Value::Scalar(Scalar::Float(number), _) => (Key::Float(number.to_bits()), None),
                Value::Scalar(Scalar::Bool(truth), _) => (Key::Bool(*truth), None),
                Value::Scalar(Scalar::Uint(number), _) => (Key::Uint(*number), None),
                Value::Scalar(Scalar::Null, _) => (Key::Null, None),
                _ => return Err(unusable(place, NO_NAME, WRITE_NAME)),
            };
            if matches!(key, Key::Uint(_) | Key::Null) {
                self.unfit = Some((place, NO_NAME, WRITE_NAME));
            }
            self.inside(place, Step::Field(name), |walk| {
                walk.node(pair.value, &mut Seen::new(), None)
            })?;
            let unfit = std::mem::replace(&mut self.unfit, before);
            // A lenient server forgets the value that was there before.
            if seen.insert(key, unfit).is_some() {
                let line = tree.place(pair.value).line;
                self.duplicate(name, line, merged_at.unwrap_or(place), merged_at.is_some());
            }
        }
        if merged_at.is_none() {
            let within = seen
                .values()
                .flatten()
                .min_by_key(|unfit| (unfit.0.line, unfit.0.column));
            self.unfit = self.unfit.or(within.copied());
        }
        Ok(())
    }

    fn merge(
        &mut self,
        value: NodeId,
        seen: &mut Seen<'a>,
        merged_at: Place,
    ) -> Result<(), Finding> {
        let tree = self.tree;
        let no_map = |id| {
            unusable(
                tree.place(id),
                "only a mapping, or a list of mappings, can be merged with <<",
                "write the fields out instead of <<",
            )
        };
        match &tree.node(value).value {
            Value::Map(_) => self.node(value, seen, Some(merged_at)),
            Value::Alias(_) if matches!(tree.value(value), Value::Map(_)) => {
                self.node(value, seen, Some(merged_at))
            }
            Value::List(items) => {
                for item in items.iter().rev() {
                    if !matches!(tree.value(*item), Value::Map(_)) {
                        return Err(no_map(*item));
                    }
                    self.node(*item, seen, Some(merged_at))?;
                }
                Ok(())
            }
            _ => Err(no_map(value)),
        }
    }

    fn inside(
        &mut self,
        place: Place,
        step: Step<'a>,
        walk: impl FnOnce(&mut Self) -> Result<(), Finding>,
    ) -> Result<(), Finding> {
        if self.path.len() == Self::MAX_FRAMES {
            return Err(too_deep(place));
        }
        self.path.push(step);
        walk(self)?;
        self.path.pop();
        Ok(())
    }

    fn duplicate(&mut self, name: Option<&str>, line: u32, place: Place, merged: bool) {
        // The server keeps a hundred, too.
        if self.duplicates.len() == 100 {
            return;
        }
        let mut path = String::new();
        for step in self.path.iter().chain([&Step::Field(name)]) {
            match step {
                Step::Index(index) => path.push_str(&format!("[{index}]")),
                Step::Field(name) => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(name.and_then(shown_in_path).unwrap_or("?"));
                }
            }
        }
        let (message, fix) = if merged {
            (
                "<< brings a field that this mapping has already",
                "write the fields out instead of <<",
            )
        } else {
            ("this mapping has the field twice", "keep one of the two")
        };
        let name = name.and_then(shown_in_path).unwrap_or(go::REDACTED);
        self.duplicates
            .push(fault(ids::DUPLICATE, path, place, message, fix).said(format!(
                "strict decoding error: yaml: unmarshal errors:\n  line {line}: key {} already set in \
                 map",
                go::quoted(name)
            )));
    }

    /// go-yaml's own limit on what aliases may blow up: 99 % of a small document, down to 10 %.
    fn count(&mut self, place: Place) -> Result<(), Finding> {
        const LOW: f64 = 400_000.0;
        const HIGH: f64 = 4_000_000.0;

        self.decoded += 1;
        if self.alias_depth > 0 {
            self.aliased += 1;
        }
        if self.aliased <= 100 || self.decoded <= 1000 {
            return Ok(());
        }
        let beyond = ((self.decoded as f64 - LOW) / (HIGH - LOW)).clamp(0.0, 1.0);
        if self.aliased as f64 / self.decoded as f64 <= 0.99 - 0.89 * beyond {
            return Ok(());
        }
        Err(unusable(
            place,
            "the document consists of aliases almost only",
            "write the values out instead of aliases",
        ))
    }
}
