//! How a file is laid out.

use super::super::render::Layout;
use super::super::tree::{NodeId, Style, Value};
use super::parts::{Source, values};

impl Source<'_> {
    /// How the file is laid out: by the first that is seen of each.
    pub(super) fn learn(&mut self) {
        let first = (0..self.bytes.len()).find(|at| self.break_at(*at) > 0);
        let line_break = first.map(|at| &self.bytes[at..at + self.break_at(at)]);
        let (mut list, mut map, mut unit, mut colon, mut gap) = (None, None, None, None, None);
        let mut open: Vec<NodeId> = self.tree.root.into_iter().collect();
        while let Some(id) = open.pop() {
            let node = self.tree.node(id);
            let values = values(&node.value);
            // Lines are looked for where there are some: a file may be one long line.
            let spans_lines = |value: &NodeId| self.tree.place(*value).line > node.place.line;
            if let (Style::Flow, Some(value)) = (node.style, values.first())
                && spans_lines(value)
            {
                let inner = self.margin(self.start(*value));
                let added = inner.strip_prefix(self.margin(node.span.start));
                unit = unit.or(added.filter(|unit| !unit.is_empty()));
            }
            if let Value::Map(pairs) = &node.value {
                for pair in pairs {
                    let (key, value) = (self.tree.node(pair.key), self.tree.node(pair.value));
                    colon = colon.or(value.span.start.checked_sub(key.span.end));
                    if value.style != Style::Block || node.style != Style::Block {
                        continue;
                    }
                    let column = self.column(key.span.start);
                    match &value.value {
                        Value::List(_) => {
                            let starts = self.starts(pair.value).unwrap_or_default();
                            let dash = starts.first().map(|dash| self.column(*dash));
                            list = list.or(dash.and_then(|dash| dash.checked_sub(column)));
                            gap = gap.or(self.gap(pair.value));
                        }
                        Value::Map(inner) => {
                            let inner = inner.first().map(|pair| self.start(pair.key));
                            let inner = inner.map(|inner| self.column(inner));
                            map = map.or(inner.and_then(|inner| inner.checked_sub(column)));
                        }
                        _ => {}
                    }
                }
            }
            open.extend(values.into_iter().rev());
        }
        let unit = unit.map(|unit| String::from_utf8_lossy(unit).into_owned());
        let default = Layout::default();
        self.layout = Layout {
            is_json: self.layout.is_json,
            line_break: match line_break {
                Some(b"\r\n") => "\r\n",
                Some(b"\r") => "\r",
                _ => "\n",
            },
            list: list.unwrap_or(default.list),
            map: map.unwrap_or(default.map).max(1),
            unit: unit.unwrap_or(default.unit),
            is_spaced: !self.layout.is_json || colon.is_none_or(|width| width > 1),
            gap: gap.unwrap_or(default.gap),
            margin: default.margin,
        };
    }
}
