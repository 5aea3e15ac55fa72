//! The one form that YAML and JSON are read into: nodes with their places.

use std::fmt;
use std::ops::Range;

use zeroize::Zeroizing;

use super::finding::Place;

/// Nodes that are read at most; a real file has hundreds.
pub(super) const MAX_NODES: usize = 500_000;
/// Levels that are read at most; the deepest field of the API is on the eighth.
pub(super) const MAX_DEPTH: usize = 100;
/// Bytes that are read at most.
pub(super) const MAX_BYTES: usize = 16 << 20;

/// What a scalar is, apart from its text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scalar {
    Null,
    Bool(bool),
    Int(i64),
    /// Beyond `i64`.
    Uint(u64),
    Float(f64),
    /// A JSON number that is no integer literal: `1.0`, `1e3`.
    Decimal,
    Text,
}

/// The text of a scalar, which may be a key: zeroized on drop, masked in `Debug`.
#[derive(Clone, Eq, PartialEq)]
pub(super) struct Text(Zeroizing<String>);

impl Text {
    pub(super) fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Do not put this into a message, unless the field is one that never holds a secret.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes of text>", self.0.len())
    }
}

/// Which node of a tree.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct NodeId(usize);

/// A node and where it is written.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    /// Its bytes in the source; of YAML in UTF-16 those of the same text in UTF-8. An anchor and a
    /// tag are within; of a block collection the span ends with its last item.
    pub(super) span: Range<usize>,
    pub(super) style: Style,
    /// YAML only: `&name` stands before it.
    pub(super) has_anchor: bool,
    pub(super) value: Value,
}

/// How a node is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Style {
    /// A scalar without quotes, an alias.
    Plain,
    /// `'...'`
    SingleQuoted,
    /// `"..."`
    DoubleQuoted,
    /// `|` or `>`
    BlockScalar,
    /// Lines with `- ` or `key: `.
    Block,
    /// `[...]` or `{...}`, all of JSON.
    Flow,
}

/// What a node holds.
#[derive(Debug)]
pub(super) enum Value {
    Scalar(Scalar, Text),
    List(Vec<NodeId>),
    Map(Vec<Pair>),
    /// YAML only: the node stands for another one.
    Alias(NodeId),
}

/// One `key: value`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    pub(super) key: NodeId,
    pub(super) value: NodeId,
    /// YAML's `<<`: the value's own pairs are meant.
    pub(super) is_merge: bool,
}

/// All nodes of a document. They refer to each other by number: no depth of nesting makes dropping
/// it, or an alias to itself, a problem.
#[derive(Debug, Default)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    /// `None` for a document without content.
    pub(super) root: Option<NodeId>,
}

/// There are more than [`MAX_NODES`] nodes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Full;

impl Tree {
    /// Adds a node.
    pub(super) fn push(&mut self, node: Node) -> Result<NodeId, Full> {
        if self.nodes.len() == MAX_NODES {
            return Err(Full);
        }
        self.nodes.push(node);
        Ok(NodeId(self.nodes.len() - 1))
    }

    /// Replaces what a collection holds, once its children are known, and where it ends.
    pub(super) fn fill(&mut self, id: NodeId, value: Value, end: usize) {
        let node = &mut self.nodes[id.0];
        node.value = value;
        node.span.end = end.max(node.span.start);
    }

    /// The node itself, also where it is an alias.
    pub(super) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// What the node holds, or what it stands for.
    pub(super) fn value(&self, id: NodeId) -> &Value {
        match &self.node(id).value {
            // An alias never points to an alias: anchors stand on nodes with content.
            Value::Alias(target) => &self.node(*target).value,
            value => value,
        }
    }

    /// Where the node is written.
    pub(super) fn place(&self, id: NodeId) -> Place {
        self.node(id).place
    }

    /// The text of a node that is text.
    pub(super) fn text(&self, id: NodeId) -> Option<&Text> {
        match self.value(id) {
            Value::Scalar(Scalar::Text, text) => Some(text),
            _ => None,
        }
    }

    /// The pairs of a mapping, those of `<<` in their place, in order. Of equal keys the last one
    /// counts. Only for trees in which [`super::yaml`] found no fault.
    pub(super) fn pairs(&self, pairs: &[Pair]) -> Vec<Pair> {
        let mut all = Vec::new();
        self.collect_pairs(pairs, &mut all);
        all
    }

    fn collect_pairs(&self, pairs: &[Pair], all: &mut Vec<Pair>) {
        for pair in pairs {
            if !pair.is_merge {
                all.push(*pair);
                continue;
            }
            match self.value(pair.value) {
                Value::Map(merged) => self.collect_pairs(merged, all),
                // Earlier mappings of the list win, so they come last.
                Value::List(list) => {
                    for item in list.iter().rev() {
                        if let Value::Map(merged) = self.value(*item) {
                            self.collect_pairs(merged, all);
                        }
                    }
                }
                _ => {}
            }
        }
    }
}
