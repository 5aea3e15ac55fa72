//! Writes a tree as YAML in one of many styles, or as JSON.

use crate::generator::Node;
use crate::random::Random;

/// The bytes of a file.
pub(crate) fn write(random: &mut Random, tree: &Node) -> Vec<u8> {
    if random.percent(25) {
        let mut json = Json {
            random,
            out: String::new(),
        };
        json.space();
        json.node(tree);
        json.space();
        return json.out.into_bytes();
    }
    let indent = 1 + random.below(4);
    let plain = random.percent(80);
    let mut yaml = Yaml {
        anchors: Vec::new(),
        indent,
        plain,
        out: String::new(),
        random,
    };
    yaml.document(tree);
    let mut text = yaml.out;
    match random.below(40) {
        0..5 => text = text.replace('\n', "\r\n"),
        5 => text = text.replace('\n', "\r"),
        6 => text = text.replace('\n', "\u{85}"),
        7 => text = text.replace('\n', "\u{2028}"),
        8 => text = text.trim_end().to_owned(),
        _ => {}
    }
    match random.below(40) {
        0..3 => [b"\xef\xbb\xbf", text.as_bytes()].concat(),
        3 => {
            let units = text.encode_utf16().flat_map(u16::to_le_bytes);
            [0xff, 0xfe].into_iter().chain(units).collect()
        }
        4 => {
            let units = text.encode_utf16().flat_map(u16::to_be_bytes);
            [0xfe, 0xff].into_iter().chain(units).collect()
        }
        _ => text.into_bytes(),
    }
}

struct Yaml<'a> {
    random: &'a mut Random,
    /// What has an anchor so far.
    anchors: Vec<Node>,
    /// Blanks a level.
    indent: usize,
    /// Text without quotes where it can do without.
    plain: bool,
    out: String,
}

impl Yaml<'_> {
    fn document(&mut self, tree: &Node) {
        for (percent, before) in [
            (10, "# a comment\n"),
            (5, "\n"),
            (3, "%YAML 1.1\n---\n"),
            (10, "---\n"),
            (2, "--- # again\n"),
        ] {
            if self.random.percent(percent) {
                self.out.push_str(before);
                break;
            }
        }
        match self.random.percent(97) {
            true => self.lines(tree, 0),
            false => self.flow(tree),
        }
        self.out.push('\n');
        if self.random.percent(10) {
            let after = [
                "...\n",
                "---\n",
                "--- {[}\n",
                "---\nkind: Secret\n",
                "# end",
                "\n\n",
            ];
            self.out.push_str(self.random.pick(&after));
        }
    }

    /// Writes a node where a line has been begun.
    fn block(&mut self, node: &Node, level: usize) {
        match node {
            Node::Text(text) if self.is_for_a_block_scalar(text) => self.block_scalar(text, level),
            _ if is_filled(node) && self.random.percent(85) && !self.anchors.contains(node) => {
                self.lines(node, level);
            }
            _ => self.flow(node),
        }
    }

    /// Writes a list or a mapping on lines of its own, the first of which has been begun.
    fn lines(&mut self, node: &Node, level: usize) {
        match node {
            Node::Map(fields) => self.pairs(fields, level),
            Node::List(items) => {
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        self.line(level);
                    }
                    // What follows on the same line begins in a column of its own.
                    let blanks = match self.random.percent(90) {
                        true => 1,
                        false => 1 + self.random.below(3),
                    };
                    self.out.push('-');
                    self.out.push_str(&" ".repeat(blanks));
                    self.block(item, level + 1 + blanks);
                }
            }
            _ => self.flow(node),
        }
    }

    fn pairs(&mut self, fields: &[(Node, Node)], level: usize) {
        let mut merged = 0;
        let merges = self.random.percent(3);
        if merges {
            merged = self.random.below(fields.len() + 1);
            let maps = Node::Map(fields[..merged].to_vec());
            self.out.push_str("<<: ");
            match self.random.percent(50) {
                true => self.flow(&maps),
                false => self.flow(&Node::List(vec![maps])),
            }
        }
        for (at, (name, value)) in fields.iter().enumerate().skip(merged) {
            if at > 0 || merges {
                self.line(level);
            }
            if self.random.percent(2) {
                self.out.push_str("? ");
                self.flow(name);
                self.line(level);
                self.out.push_str(": ");
                self.block(value, level + 2);
                continue;
            }
            self.flow(name);
            self.out.push(':');
            if is_filled(value) && self.random.percent(85) && !self.anchors.contains(value) {
                self.anchor(value);
                // The dash may stand right below the name.
                let deeper = match value {
                    Node::List(_) => self.random.below(self.indent + 1),
                    _ => self.indent,
                };
                self.line(level + deeper);
                self.lines(value, level + deeper);
                continue;
            }
            self.out.push_str(match self.random.percent(97) {
                true => " ",
                false => "\t",
            });
            match value {
                Node::Text(text) if self.is_for_a_block_scalar(text) => {
                    self.block_scalar(text, level);
                }
                _ => self.flow(value),
            }
        }
    }

    fn line(&mut self, level: usize) {
        if self.random.percent(4) {
            let comments = [
                " # a comment",
                "  #",
                "\n# a: comment",
                "\n",
                "\t# tab",
                "\n   # - a",
            ];
            self.out.push_str(self.random.pick(&comments));
        }
        self.out.push('\n');
        self.out.push_str(&" ".repeat(level));
    }

    /// May give a node that begins on the next line an anchor.
    fn anchor(&mut self, node: &Node) {
        if self.random.percent(5) {
            self.out.push_str(&format!(" &a{}", self.anchors.len()));
            self.anchors.push(node.clone());
        }
    }

    fn alias(&mut self, node: &Node) -> bool {
        let at = self.anchors.iter().position(|it| it == node);
        match at {
            Some(at) if self.random.percent(70) => {
                self.out.push_str(&format!("*a{at} "));
                true
            }
            _ => false,
        }
    }

    fn flow(&mut self, node: &Node) {
        if self.alias(node) {
            return;
        }
        match node {
            Node::Raw(text) => self.out.push_str(text),
            Node::Text(text) => self.text(text),
            Node::List(items) => {
                if self.random.percent(2) {
                    self.out.push_str("!!seq ");
                }
                self.out.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        self.out.push_str(", ");
                    }
                    self.flow(item);
                }
                self.out.push(']');
            }
            Node::Map(fields) => {
                if self.random.percent(2) {
                    self.out.push_str("!!map ");
                }
                self.out.push('{');
                for (at, (name, value)) in fields.iter().enumerate() {
                    if at > 0 {
                        self.out.push_str(", ");
                    }
                    self.flow(name);
                    self.out.push_str(": ");
                    self.flow(value);
                }
                self.out.push('}');
            }
        }
    }

    fn text(&mut self, text: &str) {
        if self.random.percent(2) {
            self.out.push_str("!!str ");
        }
        let is_plain = |scalar: char| scalar.is_ascii_alphanumeric() || "/.+=-_".contains(scalar);
        let begins = |text: &str| text.starts_with(|first: char| first.is_ascii_alphabetic());
        let is_word = begins(text) && text.chars().all(is_plain) || text.starts_with("unix:///r");
        let reads_as_text = !["yes", "no", "null"].contains(&text);
        if is_word && (self.plain && reads_as_text || self.random.percent(3)) {
            self.out.push_str(text);
            return;
        }
        let is_one_line = !text
            .chars()
            .any(|it| it.is_control() || "\u{2028}\u{feff}".contains(it));
        if is_one_line && self.random.percent(50) {
            self.out
                .push_str(&format!("'{}'", text.replace('\'', "''")));
            return;
        }
        self.out.push('"');
        for scalar in text.chars() {
            match scalar {
                '"' | '\\' => self.out.extend(['\\', scalar]),
                '\n' => self.out.push_str("\\n"),
                '\0' => self.out.push_str("\\0"),
                '\u{85}' => self.out.push_str("\\N"),
                '\u{2028}' => self.out.push_str("\\L"),
                scalar if scalar.is_control() || scalar == '\u{feff}' || self.random.percent(3) => {
                    let code = u32::from(scalar);
                    self.out.push_str(&match code {
                        0..0x100 => format!("\\x{code:02x}"),
                        0..0x10000 if self.random.percent(50) => format!("\\u{code:04X}"),
                        _ => format!("\\U{code:08x}"),
                    });
                }
                scalar => self.out.push(scalar),
            }
        }
        self.out.push('"');
    }

    fn is_for_a_block_scalar(&mut self, text: &str) -> bool {
        let is_fit = |line: &str| {
            !line.is_empty() && !line.starts_with(' ') && !line.chars().any(char::is_control)
        };
        self.random.percent(4) && text.lines().all(is_fit) && !text.is_empty()
    }

    /// `|` or `>`, with or without the newline at the end: what is meant as a name may become another
    /// one, and a key remain the same.
    fn block_scalar(&mut self, text: &str, level: usize) {
        let header = ["|", "|-", "|+", ">", ">-", "|\t# a comment", "|2-"];
        let header = self.random.pick(&header);
        self.out.push_str(header);
        let level = match header.contains('2') {
            true => level + 2,
            false => level + 1 + self.random.below(4),
        };
        for line in text.lines() {
            self.out.push('\n');
            self.out.push_str(&" ".repeat(level));
            self.out.push_str(line);
        }
    }
}

struct Json<'a> {
    random: &'a mut Random,
    out: String,
}

impl Json<'_> {
    fn space(&mut self) {
        let spaces = ["", "", "", " ", "\n  ", "\t", "\r\n"];
        self.out.push_str(self.random.pick(&spaces));
    }

    fn node(&mut self, node: &Node) {
        match node {
            Node::Raw(text) => self.out.push_str(text),
            Node::Text(text) => self.text(text),
            Node::List(items) => {
                self.out.push('[');
                for (at, item) in items.iter().enumerate() {
                    self.separator(at);
                    self.node(item);
                    self.space();
                }
                self.out.push(']');
            }
            Node::Map(fields) => {
                self.out.push('{');
                for (at, (name, value)) in fields.iter().enumerate() {
                    self.separator(at);
                    self.node(name);
                    self.space();
                    self.out.push(':');
                    self.space();
                    self.node(value);
                    self.space();
                }
                self.out.push('}');
            }
        }
    }

    fn separator(&mut self, at: usize) {
        if at > 0 {
            self.out.push(',');
        }
        self.space();
    }

    fn text(&mut self, text: &str) {
        self.out.push('"');
        for scalar in text.chars() {
            match scalar {
                '"' | '\\' => self.out.extend(['\\', scalar]),
                '\n' => self.out.push_str("\\n"),
                '/' if self.random.percent(20) => self.out.push_str("\\/"),
                scalar if scalar < ' ' || self.random.percent(3) => {
                    for unit in scalar.encode_utf16(&mut [0; 2]) {
                        self.out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                scalar => self.out.push(scalar),
            }
        }
        self.out.push('"');
    }
}

fn is_filled(node: &Node) -> bool {
    match node {
        Node::List(items) => !items.is_empty(),
        Node::Map(fields) => !fields.is_empty(),
        _ => false,
    }
}
