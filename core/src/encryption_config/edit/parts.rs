//! The text of a file as parts that can change places: each item of a list, and each field of a
//! mapping, with the comments that are its own.

use std::ops::Range;

use super::super::buffer::Buffer;
use super::super::form::Form;
use super::super::render::{Layout, Sample, Writer};
use super::super::tree::{NodeId, Style, Tree, Value};

/// A file and how it is laid out.
pub(in super::super) struct Source<'a> {
    pub(in super::super) bytes: &'a [u8],
    pub(in super::super) tree: &'a Tree,
    pub(super) layout: Layout,
}

/// Why a text cannot be edited, and where.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in super::super) struct Obstacle {
    pub(in super::super) line: u32,
    pub(in super::super) what: &'static str,
}

/// Bytes of the file and what comes in their place.
pub(in super::super) struct Splice {
    pub(in super::super) range: Range<usize>,
    pub(in super::super) text: Buffer,
}

/// What stands in a place of a collection afterwards.
pub(in super::super) enum Slot<'a> {
    /// The item that is there, with changes inside. The same one once more is a copy.
    Old(usize, Vec<Splice>),
    /// A new item, or a new field where it has a name, written like the sample.
    New {
        name: Option<&'static str>,
        form: &'a Form,
        sample: Option<NodeId>,
    },
}

/// An item or a field that has lines of its own.
struct Lines {
    /// Where its comments begin, else as `line`.
    lead: usize,
    line: usize,
    /// The end of its value.
    value: usize,
    /// Behind its comma if it has one, else as `value`.
    comma: usize,
    /// Behind its last line.
    end: usize,
}

pub(super) const NOT_ALONE: &str = "something else stands on the line of what is to be changed";
const COMMENT: &str = "a comment stands inside of what would have to be written anew";

impl<'a> Source<'a> {
    pub(in super::super) fn new(bytes: &'a [u8], tree: &'a Tree, is_json: bool) -> Self {
        let layout = Layout {
            is_json,
            ..Layout::default()
        };
        let mut source = Self {
            bytes,
            tree,
            layout,
        };
        source.learn();
        source
    }

    /// The changed text.
    pub(in super::super) fn apply(&self, splices: Vec<Splice>) -> Buffer {
        let mut out = Buffer::default();
        self.write(0..self.bytes.len(), splices, &mut out);
        out
    }

    fn write(&self, range: Range<usize>, mut splices: Vec<Splice>, out: &mut Buffer) {
        splices.sort_by_key(|splice| splice.range.start);
        let mut at = range.start;
        for splice in splices {
            out.push_bytes(&self.bytes[at..splice.range.start.max(at)]);
            out.push_bytes(splice.text.as_bytes());
            at = splice.range.end;
        }
        out.push_bytes(&self.bytes[at..range.end.max(at)]);
    }

    /// Writes a value out in one line where the node stands, unless a comment would be lost.
    pub(in super::super) fn replace(&self, id: NodeId, form: &Form) -> Result<Splice, Obstacle> {
        let span = self.span(id);
        if let Some(comment) = self.comment_within(id) {
            return Err(self.obstacle(comment, COMMENT));
        }
        let mut writer = Writer::new(self.layout.clone());
        writer.flow(form, None, Sample::new(self.tree, id));
        if !span.is_empty() && self.break_before(span.end) > 0 {
            writer.out.push(self.layout.line_break);
        }
        Ok(Splice {
            range: span,
            text: writer.out,
        })
    }

    /// Brings a collection's items, or a mapping's own fields, into another order; leaves some out,
    /// adds some.
    pub(in super::super) fn rearrange(
        &self,
        id: NodeId,
        slots: Vec<Slot<'_>>,
    ) -> Result<Vec<Splice>, Obstacle> {
        let node = self.tree.node(id);
        let count = values(&node.value).len();
        let stays = |(index, slot): (usize, &Slot)| matches!(slot, Slot::Old(i, _) if *i == index);
        if slots.len() == count && slots.iter().enumerate().all(stays) {
            let inside = slots.into_iter().filter_map(|slot| match slot {
                Slot::Old(_, splices) => Some(splices),
                Slot::New { .. } => None,
            });
            return Ok(inside.flatten().collect());
        }
        if count == 0 || slots.is_empty() {
            return Err(self.obstacle(node.span.start, "a list is empty, or would be"));
        }
        let splice = match node.style {
            Style::Flow => self.rearrange_flow(id, slots)?,
            _ => self.rearrange_lines(&self.block_lines(id)?, slots, None, |slot, out| {
                self.new_block_item(id, slot, out)
            }),
        };
        Ok(vec![splice])
    }

    fn rearrange_flow(&self, id: NodeId, slots: Vec<Slot<'_>>) -> Result<Splice, Obstacle> {
        let node = self.tree.node(id);
        let open = self.skip_properties(node.span.start);
        let close = node.span.end.saturating_sub(1);
        if !matches!(self.bytes.get(open), Some(b'[' | b'{')) {
            return Err(self.obstacle(open, "a mapping has no braces of its own"));
        }
        let (starts, ends) = (self.starts(id)?, self.ends(id));
        let last = ends.len() - 1;
        let lead = open + 1..starts[0];
        let trail = ends[last]..close;
        let between: Vec<_> = (0..last).map(|i| ends[i]..starts[i + 1]).collect();
        let has_comment = |range: &Range<usize>| self.bytes[range.clone()].contains(&b'#');
        if [&lead, &trail].into_iter().chain(&between).any(has_comment) {
            let lines = self.flow_lines(open, close, &starts, &ends)?;
            let has_comma = lines[last].comma > lines[last].value;
            return Ok(
                self.rearrange_lines(&lines, slots, Some(has_comma), |slot, out| {
                    out.push_bytes(self.margin(starts[0]));
                    self.new_flow_item(id, slot, out);
                }),
            );
        }
        let mut out = Buffer::default();
        for (index, slot) in slots.into_iter().enumerate() {
            match index
                .checked_sub(1)
                .map(|index| index.min(last.saturating_sub(1)))
            {
                None => {}
                Some(index) if last > 0 => out.push_bytes(&self.bytes[between[index].clone()]),
                Some(_) => {
                    out.push(",");
                    let lead = &self.bytes[lead.clone()];
                    let on_lines = lead.iter().any(|byte| b"\r\n".contains(byte));
                    let blank = if self.layout.is_spaced { " " } else { "" };
                    out.push_bytes(if on_lines { lead } else { blank.as_bytes() });
                }
            }
            match slot {
                Slot::Old(i, splices) => self.write(starts[i]..ends[i], splices, &mut out),
                slot => self.new_flow_item(id, &slot, &mut out),
            }
        }
        Ok(Splice {
            range: starts[0]..ends[last],
            text: out,
        })
    }

    /// Puts lines into another order. What separates them (blank lines, and comments that are
    /// nobody's) keeps its place among those that stay. `trailing_comma` is that of a flow list.
    fn rearrange_lines(
        &self,
        lines: &[Lines],
        slots: Vec<Slot<'_>>,
        trailing_comma: Option<bool>,
        new_item: impl Fn(&Slot<'_>, &mut Buffer),
    ) -> Splice {
        let between: Vec<&[u8]> = lines
            .windows(2)
            .map(|pair| &self.bytes[pair[0].end..pair[1].lead])
            .collect();
        let is_blank = |gap: &&[u8]| !gap.contains(&b'#');
        // Blank lines between all of them are a habit.
        let habit: &[u8] = match between.first() {
            Some(first) if between.iter().all(is_blank) => first,
            _ => b"",
        };
        let mut kept: Vec<usize> = slots
            .iter()
            .filter_map(|slot| match slot {
                Slot::Old(index, _) => Some(*index),
                Slot::New { .. } => None,
            })
            .collect();
        kept.sort_unstable();
        kept.dedup();
        // Comments from between items that are left out stay; blank lines do not add up.
        let comments = |gaps: &[&[u8]], out: &mut Buffer| {
            for gap in gaps.iter().filter(|gap| !is_blank(gap)) {
                out.push_bytes(gap);
            }
        };
        let separator = |place: usize, out: &mut Buffer| {
            let gaps = &between[kept[place - 1]..kept[place]];
            match gaps.iter().all(is_blank) {
                true => out.push_bytes(gaps[0]),
                false => comments(gaps, out),
            }
        };
        let range = lines[0].lead..lines[lines.len() - 1].end;
        let mut out = Buffer::default();
        comments(
            &between[..kept.first().copied().unwrap_or(between.len())],
            &mut out,
        );
        let (mut used, count) = (Vec::new(), slots.len());
        for (place, slot) in slots.into_iter().enumerate() {
            let is_first = matches!(&slot, Slot::Old(index, _) if !used.contains(index));
            match place {
                0 => {}
                _ if is_first && !used.is_empty() => separator(used.len(), &mut out),
                _ => out.push_bytes(habit),
            }
            let with_comma = match trailing_comma {
                Some(_) if place + 1 < count => Some(true),
                comma => comma,
            };
            match slot {
                Slot::Old(index, splices) => {
                    let item = &lines[index];
                    if is_first {
                        used.push(index);
                    }
                    // What is said above an item is said once.
                    let from = if is_first { item.lead } else { item.line };
                    let behind = match with_comma {
                        None => item.end,
                        Some(_) => item.value,
                    };
                    self.write(from..behind, splices, &mut out);
                    if let Some(comma) = with_comma {
                        out.push(if comma { "," } else { "" });
                        out.push_bytes(&self.bytes[item.comma..item.end]);
                    }
                }
                slot => {
                    new_item(&slot, &mut out);
                    out.push(if with_comma == Some(true) { "," } else { "" });
                }
            }
            if self.ends_in_line(&out) {
                out.push(self.layout.line_break);
            }
        }
        if let Some(last) = kept.last() {
            comments(&between[*last..], &mut out);
            // Blank lines do not add up here either.
            let blank = self.layout.line_break.repeat(2);
            while self.break_at(range.end) > 0 && out.as_bytes().ends_with(blank.as_bytes()) {
                let without = out.as_bytes().len() - self.layout.line_break.len();
                out.truncate(without);
            }
        }
        if self.break_before(range.end) == 0 && !self.ends_in_line(&out) {
            let without = out.as_bytes().len() - self.layout.line_break.len();
            out.truncate(without);
        }
        Splice { range, text: out }
    }

    fn ends_in_line(&self, out: &Buffer) -> bool {
        !out.as_bytes().ends_with(self.layout.line_break.as_bytes())
    }

    fn new_block_item(&self, id: NodeId, slot: &Slot<'_>, out: &mut Buffer) {
        let Slot::New { name, form, sample } = slot else {
            return;
        };
        let sample = sample.map_or(Sample::NONE, |id| Sample::new(self.tree, id));
        let starts = self.starts(id).unwrap_or_default();
        let column = starts.first().map_or(0, |start| self.column(*start));
        let mut writer = Writer::new(self.layout.clone());
        writer.out.push_blanks(column);
        match name {
            Some(name) => {
                let field = [(*name, (*form).clone())];
                writer.fields(&field, column, true, Sample::NONE);
            }
            None => {
                writer.layout.gap = self.gap(id).unwrap_or(writer.layout.gap);
                writer.item(form, column, sample);
            }
        }
        out.push_bytes(writer.out.as_bytes());
    }

    fn new_flow_item(&self, id: NodeId, slot: &Slot<'_>, out: &mut Buffer) {
        let Slot::New { name, form, sample } = slot else {
            return;
        };
        let mut writer = Writer::new(self.layout.clone());
        if let Some(sample) = sample {
            let margin = self.margin(self.start(*sample));
            writer.layout.margin = String::from_utf8_lossy(margin).into_owned();
        }
        let sample = sample.map_or(Sample::NONE, |id| Sample::new(self.tree, id));
        match name {
            Some(name) => {
                let quoted = Sample::new(self.tree, id).has_quoted_names();
                writer.name(name, quoted);
                writer.flow(form, None, Sample::NONE);
            }
            None => writer.flow(form, Some(0), sample),
        }
        out.push_bytes(writer.out.as_bytes());
    }

    /// The lines of a block collection's parts.
    fn block_lines(&self, id: NodeId) -> Result<Vec<Lines>, Obstacle> {
        let mut all: Vec<Lines> = Vec::new();
        for (start, value) in self.starts(id)?.into_iter().zip(self.ends(id)) {
            let floor = all.last().map_or(0, |lines| lines.end);
            let lead = self.lead(start, floor)?;
            if lead < floor {
                return Err(self.obstacle(start, NOT_ALONE));
            }
            let mut end = value;
            if self.break_before(value) == 0 {
                end = self.end_of_line(value)?;
            }
            // Comments that are indented further are the item's own, too.
            while let Some((column, next)) = self.comment_line(end)
                && column > self.column(start)
            {
                end = next;
            }
            all.push(Lines {
                lead,
                line: self.line_start(start),
                value,
                comma: value,
                end,
            });
        }
        Ok(all)
    }

    /// The lines of a flow collection's parts, if each has some of its own.
    fn flow_lines(
        &self,
        open: usize,
        close: usize,
        starts: &[usize],
        ends: &[usize],
    ) -> Result<Vec<Lines>, Obstacle> {
        let mut all: Vec<Lines> = Vec::new();
        for (start, value) in starts.iter().zip(ends) {
            let floor = match all.last() {
                Some(lines) => lines.end,
                None => self.line_end(open),
            };
            let lead = self.lead(*start, floor)?;
            let blanks = self.skip_blanks(*value);
            let comma = match self.bytes.get(blanks) {
                Some(b',') => blanks + 1,
                _ => *value,
            };
            let end = self.end_of_line(comma)?;
            if lead < floor || end > close {
                return Err(self.obstacle(*start, COMMENT));
            }
            all.push(Lines {
                lead,
                line: self.line_start(*start),
                value: *value,
                comma,
                end,
            });
        }
        Ok(all)
    }

    /// Where the comments begin that stand right above a line, in the column of what it begins with.
    fn lead(&self, start: usize, floor: usize) -> Result<usize, Obstacle> {
        let line = self.line_start(start);
        if line + self.margin(start).len() != start {
            return Err(self.obstacle(start, NOT_ALONE));
        }
        let mut lead = line;
        while lead > floor {
            let above = self.line_start(lead - self.break_before(lead));
            match self.comment_line(above) {
                Some((column, _)) if above >= floor && column == self.column(start) => lead = above,
                _ => break,
            }
        }
        Ok(lead)
    }

    /// The dashes of a block list, else where each item or field begins.
    pub(super) fn starts(&self, id: NodeId) -> Result<Vec<usize>, Obstacle> {
        let node = self.tree.node(id);
        match &node.value {
            Value::Map(pairs) => Ok(pairs.iter().map(|pair| self.start(pair.key)).collect()),
            Value::List(items) if node.style == Style::Flow => {
                Ok(items.iter().map(|item| self.start(*item)).collect())
            }
            Value::List(items) => {
                let mut at = self.skip_properties(node.span.start);
                let mut starts = Vec::with_capacity(items.len());
                for end in self.ends(id) {
                    at = self.skip_space(at);
                    if self.bytes.get(at) != Some(&b'-') {
                        return Err(
                            self.obstacle(at, "the dash of an item is not where it should be")
                        );
                    }
                    starts.push(at);
                    at = end.max(at + 1);
                }
                Ok(starts)
            }
            _ => Ok(Vec::new()),
        }
    }

    /// The blanks after the first dash of a block list.
    pub(super) fn gap(&self, id: NodeId) -> Option<usize> {
        let dash = *self.starts(id).ok()?.first()?;
        let first = *values(&self.tree.node(id).value).first()?;
        let blanks = self.bytes.get(dash + 1..self.start(first))?;
        let is_gap = !blanks.is_empty() && blanks.iter().all(|byte| *byte == b' ');
        is_gap.then_some(blanks.len())
    }

    /// Where each item or field ends.
    fn ends(&self, id: NodeId) -> Vec<usize> {
        values(&self.tree.node(id).value)
            .into_iter()
            .map(|value| self.span(value).end)
            .collect()
    }

    pub(super) fn start(&self, id: NodeId) -> usize {
        self.tree.node(id).span.start
    }
}

/// The items of a list, the values of a mapping.
pub(super) fn values(value: &Value) -> Vec<NodeId> {
    match value {
        Value::List(items) => items.clone(),
        Value::Map(pairs) => pairs.iter().map(|pair| pair.value).collect(),
        Value::Scalar(..) | Value::Alias(_) => Vec::new(),
    }
}
