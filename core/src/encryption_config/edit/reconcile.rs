//! Finds the changes of text that bring a tree from one form to another.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::super::form::Form;
use super::super::tree::{NodeId, Pair, Text, Value};
use super::parts::{Obstacle, Slot, Source, Splice};

/// Brings `source` from the form that it has to another one. With `expand` no alias and no merge
/// key is left: each is written out.
pub(in super::super) fn reconcile(
    source: &Source<'_>,
    from: &Form,
    to: &Form,
    expand: bool,
) -> Result<Vec<Splice>, Obstacle> {
    let Some(root) = source.tree.root else {
        return Ok(Vec::new());
    };
    let mut reconciler = Reconciler {
        source,
        expand,
        model: source.tree.node(root).span.clone(),
        anchored: HashMap::new(),
        silent: HashSet::new(),
    };
    reconciler.node(root, from, to)
}

struct Reconciler<'a> {
    source: &'a Source<'a>,
    expand: bool,
    /// The bytes of what is brought into form.
    model: Range<usize>,
    /// Nodes with an anchor that stay where they are, and what they become.
    anchored: HashMap<NodeId, &'a Form>,
    /// Nodes that stay and say nothing: null, or a default.
    silent: HashSet<NodeId>,
}

impl<'a> Reconciler<'a> {
    fn node(&mut self, id: NodeId, from: &Form, to: &'a Form) -> Result<Vec<Splice>, Obstacle> {
        let tree = self.source.tree;
        let node = tree.node(id);
        if let Value::Alias(target) = &node.value {
            let stays = match self.anchored.get(target) {
                Some(form) => *form == to,
                // What is not part of the configuration does not change.
                None => from == to && !self.model.contains(&tree.node(*target).span.start),
            };
            return match stays && !self.expand {
                true => Ok(Vec::new()),
                false => Ok(vec![self.source.replace(id, to)?]),
            };
        }
        if node.has_anchor {
            self.anchored.insert(id, to);
        }
        match (&node.value, from, to) {
            (Value::List(items), Form::List(from), Form::List(forms))
                if items.len() == from.len() =>
            {
                let slots = self.list(items, from, forms)?;
                self.source.rearrange(id, slots).or_else(|obstacle| {
                    self.source
                        .replace(id, to)
                        .map(|it| vec![it])
                        .map_err(|_| obstacle)
                })
            }
            (Value::Map(pairs), Form::Map(_), Form::Map(_)) => self.map(id, pairs, from, to),
            _ if from == to => Ok(Vec::new()),
            _ => Ok(vec![self.source.replace(id, to)?]),
        }
    }

    /// What takes the place of a value that says nothing and cannot stay: an alias of what leaves,
    /// changes, or comes to stand behind it.
    fn written_out(&mut self, id: NodeId) -> Option<Text> {
        let tree = self.source.tree;
        let Value::Alias(target) = &tree.node(id).value else {
            self.silent.insert(id);
            return None;
        };
        let start = tree.node(*target).span.start;
        let is_there = self.silent.contains(target) || !self.model.contains(&start);
        match is_there && !self.expand {
            true => None,
            false => tree.text(*target).cloned(),
        }
    }

    fn list(
        &mut self,
        items: &[NodeId],
        from: &[Form],
        to: &'a [Form],
    ) -> Result<Vec<Slot<'a>>, Obstacle> {
        let matched = pair_up(from, to);
        // In the order of the file, so that anchors are met before their aliases.
        let mut inside: HashMap<usize, Vec<Splice>> = HashMap::new();
        for (old, item) in items.iter().enumerate() {
            if let Some(new) = matched.iter().position(|it| *it == Some(old)) {
                inside.insert(old, self.node(*item, &from[old], &to[new])?);
            }
        }
        let mut slots = Vec::new();
        for (form, old) in to.iter().zip(&matched) {
            slots.push(match (old, split_from(form, from)) {
                (Some(old), _) => Slot::Old(*old, inside.remove(old).unwrap_or_default()),
                (None, Some(old)) => Slot::Old(old, self.node(items[old], &from[old], form)?),
                (None, None) => Slot::New {
                    name: None,
                    form,
                    sample: sample(form, items, from),
                },
            });
        }
        Ok(slots)
    }

    fn map(
        &mut self,
        id: NodeId,
        pairs: &[Pair],
        from: &Form,
        to: &'a Form,
    ) -> Result<Vec<Splice>, Obstacle> {
        if pairs.iter().any(|pair| pair.is_merge) {
            return match from == to && !self.expand {
                true => Ok(Vec::new()),
                false => Ok(vec![self.source.replace(id, to)?]),
            };
        }
        let name = |pair: &Pair| self.source.tree.text(pair.key).map_or("", Text::expose);
        // Of equal names the last one counts.
        let counts = |index: usize| {
            !pairs[index + 1..]
                .iter()
                .any(|it| name(it) == name(&pairs[index]))
        };
        let Form::Map(fields) = to else {
            return Ok(Vec::new());
        };
        let names: Vec<&str> = pairs.iter().map(name).collect();
        let mut slots = Vec::new();
        for (index, pair) in pairs.iter().enumerate() {
            let name = names[index];
            let splices = match (from.field(name), to.field(name)) {
                _ if !counts(index) => Vec::new(),
                (Some(from), Some(to)) => self.node(pair.value, from, to)?,
                (None, Some(to)) => vec![self.source.replace(pair.value, to)?],
                // Null, or the default in so many words.
                (None, None) => match self.written_out(pair.value) {
                    Some(text) => vec![self.source.replace(pair.value, &Form::Text(text))?],
                    None => Vec::new(),
                },
                (Some(_), None) => continue,
            };
            slots.push(Slot::Old(index, splices));
        }
        for (name, form) in fields {
            // What is not there and does not change is a default.
            if names.contains(name) || from.field(name) == Some(form) {
                continue;
            }
            slots.push(Slot::New {
                name: Some(name),
                form,
                sample: None,
            });
        }
        self.source.rearrange(id, slots)
    }
}

/// For each new item the old one that it comes from.
fn pair_up(from: &[Form], to: &[Form]) -> Vec<Option<usize>> {
    let same = |(a, b): &(&Form, &Form)| a == b;
    let head = from.iter().zip(to).take_while(same).count();
    let rest = from[head..].iter().rev().zip(to[head..].iter().rev());
    let tail = rest.take_while(same).count();
    // Of equal ones those stay that need not move.
    let (old_tail, new_tail) = (from.len() - tail, to.len() - tail);
    let mut is_free = vec![true; from.len()];
    let mut matched = vec![None; to.len()];
    let pair = |new: usize, old: usize, matched: &mut [Option<usize>], is_free: &mut [bool]| {
        matched[new] = Some(old);
        is_free[old] = false;
    };
    for at in 0..head {
        pair(at, at, &mut matched, &mut is_free);
    }
    for at in 0..tail {
        pair(new_tail + at, old_tail + at, &mut matched, &mut is_free);
    }
    let changed = || to.iter().enumerate().take(new_tail).skip(head);
    for (new, form) in changed() {
        let equal = (head..old_tail).find(|old| is_free[*old] && from[*old] == *form);
        if let Some(old) = equal {
            pair(new, old, &mut matched, &mut is_free);
        }
    }
    for (new, form) in changed() {
        if matched[new].is_some() {
            continue;
        }
        let free = (head..old_tail).rev().filter(|old| is_free[*old]);
        let alike = free.map(|old| (likeness(&from[old], form), old));
        if let Some((_, old)) = alike.filter(|it| it.0 > 0).max_by_key(|it| it.0) {
            pair(new, old, &mut matched, &mut is_free);
        }
    }
    matched
}

/// Whether two items are one that changed, and how little.
fn likeness(a: &Form, b: &Form) -> usize {
    let shared = |name| {
        let [a, b] = [a, b].map(|form| form.field(name).map_or(&[][..], Form::items));
        b.iter().filter(|item| a.contains(item)).count()
    };
    let (Form::Map(fields), Form::Map(_)) = (a, b) else {
        return 0;
    };
    match fields.as_slice() {
        // An entry: by its resources, then by its providers.
        [("resources", _), ..] => match shared("resources") {
            0 => 0,
            resources => 1000 * resources + shared("providers"),
        },
        // A key is what it is, or another one.
        [("name", _), ..] => 0,
        [("kms", plugin)] => {
            let is_same = |name| b.field("kms").and_then(|it| it.field(name)) == plugin.field(name);
            usize::from(is_same("name") && is_same("apiVersion"))
        }
        [(provider, keys)] => b.field(provider).map_or(0, |there| {
            let [a, b] = [keys, there].map(|it| it.field("keys").map_or(&[][..], Form::items));
            1 + b.iter().filter(|key| a.contains(key)).count()
        }),
        _ => 0,
    }
}

/// The entry that a new one is a part of: some of its resources, with the same providers.
fn split_from(form: &Form, from: &[Form]) -> Option<usize> {
    let names = form.field("resources")?.items();
    from.iter().position(|whole| {
        let all = whole.field("resources").map_or(&[][..], Form::items);
        form.field("providers") == whole.field("providers")
            && names.iter().all(|name| all.contains(name))
    })
}

/// The item that a new one resembles most.
fn sample(form: &Form, items: &[NodeId], from: &[Form]) -> Option<NodeId> {
    let has_wildcard = |entry: &Form| {
        let is_wildcard = |name: &Form| matches!(name, Form::Text(it) if it.expose().contains('*'));
        entry
            .field("resources")
            .map_or(&[][..], Form::items)
            .iter()
            .any(is_wildcard)
    };
    let score = |there: &Form| match (form, there) {
        (Form::Map(a), Form::Map(b)) => {
            let has_keys = |fields: &[(&str, Form)]| {
                fields
                    .first()
                    .is_some_and(|it| it.1.field("keys").is_some())
            };
            let is_same = a.first().map(|it| it.0) == b.first().map(|it| it.0);
            let is_alike = has_keys(a) == has_keys(b) && has_wildcard(form) == has_wildcard(there);
            2 * usize::from(is_same) + usize::from(is_alike)
        }
        (Form::Text(a), Form::Text(b)) => {
            usize::from(a.expose().contains('*') == b.expose().contains('*'))
        }
        _ => 0,
    };
    let scored = items.iter().zip(from).rev();
    scored
        .max_by_key(|(_, there)| score(there))
        .map(|(id, _)| *id)
}
