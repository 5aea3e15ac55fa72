//! A YAML document as fields and lists, and the additions to its text.

use super::super::edit::{Slot, Source, Splice, read_tree};
use super::super::form::Form;
use super::super::tree::{NodeId, Text, Tree, Value};
use super::Error;

/// A document and what it is read from.
pub(super) struct Document<'a> {
    source: &'a [u8],
    tree: Tree,
    is_json: bool,
}

impl<'a> Document<'a> {
    pub(super) fn read(source: &'a [u8]) -> Result<Self, Error> {
        let (tree, is_json) = read_tree(source).ok_or(Error::Unreadable)?;
        Ok(Self {
            source,
            tree,
            is_json,
        })
    }

    pub(super) fn root(&self) -> Result<NodeId, Error> {
        self.tree.root.ok_or(Error::Unreadable)
    }

    /// The value of a field; of equal names the last one counts.
    pub(super) fn field(&self, id: NodeId, name: &str) -> Option<NodeId> {
        let Value::Map(pairs) = self.tree.value(id) else {
            return None;
        };
        let pairs = self.tree.pairs(pairs);
        let named = |id| self.tree.text(id).map(Text::expose) == Some(name);
        let pair = pairs.iter().rev().find(|pair| named(pair.key))?;
        Some(pair.value)
    }

    /// The names of a mapping's fields, and their values.
    pub(super) fn fields(&self, id: NodeId) -> Vec<(&str, NodeId)> {
        let Value::Map(pairs) = self.tree.value(id) else {
            return Vec::new();
        };
        let pairs = self.tree.pairs(pairs).into_iter();
        pairs
            .filter_map(|pair| Some((self.tree.text(pair.key)?.expose(), pair.value)))
            .collect()
    }

    /// The items of a list; of anything else none.
    pub(super) fn items(&self, id: NodeId) -> &[NodeId] {
        match self.tree.value(id) {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// The items of a list that is a field.
    pub(super) fn list(&self, id: NodeId, name: &str) -> &[NodeId] {
        self.field(id, name).map_or(&[], |list| self.items(list))
    }

    pub(super) fn text(&self, id: NodeId) -> Option<&str> {
        self.tree.text(id).map(Text::expose)
    }

    pub(super) fn text_field(&self, id: NodeId, name: &str) -> Option<&str> {
        self.text(self.field(id, name)?)
    }

    /// The text, edited.
    pub(super) fn edited(
        &self,
        edit: impl FnOnce(&Editor<'_>) -> Result<Vec<Splice>, Error>,
    ) -> Result<Vec<u8>, Error> {
        let editor = Editor {
            document: self,
            source: Source::new(self.source, &self.tree, self.is_json),
        };
        let splices = edit(&editor)?;
        Ok(editor.source.apply(splices).as_bytes().to_vec())
    }
}

/// Makes the smallest changes of the text.
pub(super) struct Editor<'a> {
    document: &'a Document<'a>,
    source: Source<'a>,
}

impl Editor<'_> {
    /// A value in the place of another one.
    pub(super) fn replace(&self, id: NodeId, form: &Form) -> Result<Vec<Splice>, Error> {
        let splice = self.source.replace(id, form).map_err(Error::at)?;
        Ok(vec![splice])
    }

    /// A list with more items at its end.
    pub(super) fn append(&self, id: NodeId, items: &[Form]) -> Result<Vec<Splice>, Error> {
        let there = self.document.items(id);
        if items.is_empty() {
            return Ok(Vec::new());
        }
        if there.is_empty() {
            return self.replace(id, &Form::List(items.to_vec()));
        }
        let mut slots = old(there.len());
        slots.extend(items.iter().map(|form| Slot::New {
            name: None,
            form,
            sample: there.last().copied(),
        }));
        self.source.rearrange(id, slots).map_err(Error::at)
    }

    /// A mapping with more fields at its end; `inside` are changes of those that it has.
    pub(super) fn extend(
        &self,
        id: NodeId,
        fields: &[(&'static str, Form)],
        inside: Vec<(NodeId, Vec<Splice>)>,
    ) -> Result<Vec<Splice>, Error> {
        let there = self.document.fields(id);
        if there.is_empty() {
            return self.replace(id, &Form::Map(fields.to_vec()));
        }
        let mut slots = old(there.len());
        for (value, splices) in inside {
            if let Some(at) = there.iter().position(|(_, id)| *id == value) {
                slots[at] = Slot::Old(at, splices);
            }
        }
        slots.extend(fields.iter().map(|(name, form)| Slot::New {
            name: Some(name),
            form,
            sample: None,
        }));
        self.source.rearrange(id, slots).map_err(Error::at)
    }
}

fn old<'a>(count: usize) -> Vec<Slot<'a>> {
    (0..count).map(|i| Slot::Old(i, Vec::new())).collect()
}
