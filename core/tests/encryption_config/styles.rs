//! Random configurations, random ways to write them down, random changes. The suite `differential`
//! uses this file, too.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use atrest_core::encryption_config::{
    Change, EncryptionConfiguration, Key, Kms, KmsVersion, Provider, ResourceEntry,
};
use atrest_core::secret::SecretBytes;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::random::Random;

fn one_of<T: Copy>(random: &mut Random, all: &[T]) -> T {
    all[random.below(all.len())]
}

/// What the server accepts.
pub(crate) fn configuration(random: &mut Random) -> EncryptionConfiguration {
    let plain = [
        "secrets",
        "configmaps",
        "events",
        "pods.metrics.k8s.io",
        "deployments.apps",
        "a.b",
    ];
    let mut resources = Vec::new();
    let mut plugins = 0;
    let mut entries: Vec<ResourceEntry> = Vec::new();
    for name in plain {
        if entries.is_empty() || random.percent(40) {
            resources.push(name.to_owned());
        }
        if !resources.is_empty() && random.percent(50) {
            entries.push(entry(
                random,
                std::mem::take(&mut resources),
                &mut plugins,
                &entries,
            ));
        }
    }
    for wildcard in ["*.apps", "*.", "*.*"] {
        if entries.is_empty() || random.percent(30) {
            entries.push(entry(random, vec![wildcard.into()], &mut plugins, &entries));
        }
    }
    EncryptionConfiguration { resources: entries }
}

fn entry(
    random: &mut Random,
    resources: Vec<String>,
    plugins: &mut usize,
    others: &[ResourceEntry],
) -> ResourceEntry {
    let is_local = |it: &Provider| !matches!(it, Provider::Kms(_));
    let other = (!others.is_empty()).then(|| others[random.below(others.len())].clone());
    let providers = match other {
        Some(other) if other.providers.iter().all(is_local) && random.percent(40) => {
            other.providers
        }
        _ => (0..1 + random.below(4))
            .map(|_| provider(random, plugins))
            .collect(),
    };
    ResourceEntry {
        resources,
        providers,
    }
}

fn provider(random: &mut Random, plugins: &mut usize) -> Provider {
    let count = 1 + random.below(4);
    let kind = random.below(6);
    let lengths: &[usize] = if kind < 4 { &[16, 24, 32] } else { &[32] };
    let mut keys = || (0..count).map(|_| key(random, lengths)).collect();
    match kind {
        0 => Provider::Identity,
        1 => {
            *plugins += 1;
            Provider::Kms(plugin(random, *plugins))
        }
        2 => Provider::AesCbc(keys()),
        3 => Provider::AesGcm(keys()),
        _ => Provider::Secretbox(keys()),
    }
}

fn plugin(random: &mut Random, number: usize) -> Kms {
    let api_version = one_of(random, &[KmsVersion::V1, KmsVersion::V2]);
    Kms {
        api_version,
        name: format!("plugin{number}"),
        endpoint: random.pick(&["unix:///run/a.sock", "unix:///@b"]).into(),
        timeout: one_of(random, &[Kms::DEFAULT_TIMEOUT, Duration::from_millis(1500)]),
        cachesize: (api_version == KmsVersion::V1 && random.percent(50)).then_some(10),
    }
}

fn key(random: &mut Random, lengths: &[usize]) -> Key {
    let name = random.pick(&[
        "key",
        "key",
        "key",
        "yes",
        "1",
        "a b",
        "k#",
        "a #b",
        "ä",
        "it's",
        "x: y",
        "*",
        "\"",
        "- a",
        "2026-11-22",
        "[a]",
        "\\",
        "a,b",
        "null",
    ]);
    let length = one_of(random, lengths);
    Key {
        name: format!("{name}{}", random.pick(&["", "1", "2", "3"])),
        secret: SecretBytes::new((0..length).map(|_| random.byte()).collect()),
    }
}

/// A change that leads to a valid configuration, and that configuration.
pub(crate) fn change(
    random: &mut Random,
    now: &EncryptionConfiguration,
) -> (Change, EncryptionConfiguration) {
    loop {
        let entry = random.below(now.resources.len());
        let ResourceEntry {
            resources,
            providers,
        } = &now.resources[entry];
        let provider = random.below(providers.len());
        let key = random.below(providers[provider].keys().len().max(1));
        let mut names = 100 + random.below(1000);
        let change = match random.below(10) {
            0 | 1 => Change::AddKey {
                entry,
                provider,
                key: self::key(random, &[32]),
            },
            2 => Change::PromoteKey {
                entry,
                provider,
                key,
            },
            3 => Change::DropKey {
                entry,
                provider,
                key,
            },
            4 => Change::AddProvider {
                entry,
                provider: self::provider(random, &mut names),
            },
            5 => match &providers[provider] {
                Provider::Kms(kms) => Change::ReplaceProvider {
                    entry,
                    provider,
                    with: Provider::Kms(Kms {
                        api_version: kms.api_version,
                        name: kms.name.clone(),
                        ..plugin(random, 0)
                    }),
                },
                _ => Change::ReplaceProvider {
                    entry,
                    provider,
                    with: self::provider(random, &mut names),
                },
            },
            6 => Change::PromoteProvider { entry, provider },
            7 => Change::DropProvider { entry, provider },
            8 => Change::SplitResource {
                entry,
                resource: resources[random.below(resources.len())].clone(),
            },
            _ => {
                let name = random.pick(&["leases", "jobs.batch", "*.batch", "pods"]);
                Change::AddEntry(ResourceEntry {
                    resources: vec![name.into()],
                    providers: vec![self::provider(random, &mut names)],
                })
            }
        };
        if let Ok(next) = now.changed(&change) {
            return (change, next);
        }
    }
}

/// A file, and what its parts are.
pub(crate) struct Written {
    pub(crate) text: String,
    /// Nothing in it is a flow collection, an alias or a scalar of several lines.
    pub(crate) is_plain: bool,
    pub(crate) has_aliases: bool,
    /// The bytes of each list: `resources`, `0.resources`, `0.providers`, `0.providers.1.keys`.
    pub(crate) lists: HashMap<String, Range<usize>>,
}

/// All comments; each is there once when a file is written.
pub(crate) fn comments(text: &str) -> Vec<&str> {
    let parts = text.split("#c").skip(1);
    let mut numbers: Vec<_> = parts
        .map(|part| {
            &part[..part
                .find(|it: char| !it.is_ascii_digit())
                .unwrap_or(part.len())]
        })
        .collect();
    numbers.sort_unstable();
    numbers
}

/// Writes the configuration in some style.
pub(crate) fn write(random: &mut Random, configuration: &EncryptionConfiguration) -> Written {
    let is_json = random.percent(20);
    let is_plain = !is_json && random.percent(40);
    let anchors = !is_json && !is_plain && random.percent(30);
    let mut writer = Writer {
        is_json,
        is_plain,
        line_break: if random.percent(15) { "\r\n" } else { "\n" },
        list: one_of(random, &[0, 0, 2, 2, 4]),
        map: one_of(random, &[2, 2, 2, 4, 1]),
        gap: one_of(random, &[1, 1, 1, 3]),
        flow: if is_plain {
            0
        } else {
            one_of(random, &[0, 10, 50, 100])
        },
        comments: if is_json {
            0
        } else {
            one_of(random, &[0, 10, 40])
        },
        blank: one_of(random, &[0, 0, 10, 100]),
        lines: one_of(random, &[0, 30, 100]),
        unit: random.pick(&["  ", "    ", "\t"]),
        anchors: anchors.then(HashMap::new),
        aliases: 0,
        count: 0,
        out: String::new(),
        lists: HashMap::new(),
        random,
    };
    if writer.random.percent(10) && !is_json {
        writer.out.push('\u{feff}');
    }
    if is_json {
        let document = document(writer.random, configuration);
        writer.flow(&document, "", Some(0));
        writer.out += "\n";
    } else {
        if writer.random.percent(20) {
            writer.out.push_str("---");
            writer.end_line();
        }
        let Node::Map(fields) = document(writer.random, configuration) else {
            unreachable!("a document is a mapping")
        };
        writer.block_map(&fields, "", 0, false);
        if writer.random.percent(10) {
            writer.out += "---";
            writer.end_line();
            writer.out += "another: [";
        } else if writer.random.percent(20) {
            let end = writer.out.trim_end_matches(['\r', '\n']).len();
            writer.out.truncate(end);
        }
    }
    Written {
        is_plain,
        has_aliases: writer.aliases > 0,
        lists: writer.lists,
        text: writer.out,
    }
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Node {
    Text(String),
    Secret(String),
    Bare(String),
    List(Vec<Node>),
    Map(Vec<(&'static str, Node)>),
}

fn document(random: &mut Random, configuration: &EncryptionConfiguration) -> Node {
    let entries = configuration.resources.iter();
    let entries = entries.map(|entry| {
        let names = entry.resources.iter().cloned().map(Node::Text).collect();
        let providers = entry
            .providers
            .iter()
            .map(|it| element(random, it))
            .collect();
        let mut fields = vec![
            ("resources", Node::List(names)),
            ("providers", Node::List(providers)),
        ];
        if random.percent(20) {
            fields.swap(0, 1);
        }
        Node::Map(fields)
    });
    let entries = Node::List(entries.collect());
    let old = random.percent(5);
    let (kind, version) = match old {
        true => ("EncryptionConfig", "v1"),
        false => ("EncryptionConfiguration", "apiserver.config.k8s.io/v1"),
    };
    let mut fields = vec![
        ("apiVersion", Node::Text(version.into())),
        ("kind", Node::Text(kind.into())),
        ("resources", entries),
    ];
    let by = random.below(3);
    fields.rotate_left(by);
    Node::Map(fields)
}

fn element(random: &mut Random, provider: &Provider) -> Node {
    let value = match provider {
        Provider::Identity => Node::Map(Vec::new()),
        Provider::Kms(kms) => {
            let mut fields = vec![
                ("name", Node::Text(kms.name.clone())),
                ("endpoint", Node::Text(kms.endpoint.clone())),
            ];
            if kms.api_version == KmsVersion::V2 || random.percent(50) {
                fields.push(("apiVersion", Node::Text(kms.api_version.to_string())));
            }
            if kms.timeout != Kms::DEFAULT_TIMEOUT || random.percent(50) {
                let milliseconds = kms.timeout.as_millis();
                fields.push(("timeout", Node::Text(format!("{milliseconds}ms"))));
            }
            if let Some(size) = kms.cachesize {
                fields.push(("cachesize", Node::Bare(size.to_string())));
            }
            let by = random.below(fields.len());
            fields.rotate_left(by);
            Node::Map(fields)
        }
        local => {
            let keys = local.keys().iter().map(|key| {
                let secret = BASE64_STANDARD.encode(key.secret.expose());
                Node::Map(vec![
                    ("name", Node::Text(key.name.clone())),
                    ("secret", Node::Secret(secret)),
                ])
            });
            Node::Map(vec![("keys", Node::List(keys.collect()))])
        }
    };
    Node::Map(vec![(provider.name(), value)])
}

struct Writer<'a> {
    random: &'a mut Random,
    is_json: bool,
    is_plain: bool,
    line_break: &'static str,
    list: usize,
    map: usize,
    gap: usize,
    /// Percent of collections.
    flow: usize,
    /// Percent of places.
    comments: usize,
    /// Percent of gaps.
    blank: usize,
    /// Percent of flow collections on several lines.
    lines: usize,
    unit: &'static str,
    anchors: Option<HashMap<Node, usize>>,
    aliases: usize,
    count: usize,
    out: String,
    lists: HashMap<String, Range<usize>>,
}

impl Writer<'_> {
    fn block_map(
        &mut self,
        fields: &[(&'static str, Node)],
        path: &str,
        column: usize,
        begun: bool,
    ) {
        for (index, (name, value)) in fields.iter().enumerate() {
            if index > 0 || !begun {
                self.comments_above(column);
                self.indent(column);
            }
            self.out.push_str(name);
            self.out.push(':');
            let path = match (path, *name) {
                ("", name) => name.to_owned(),
                (path, name) => format!("{}.{name}", path.trim_start_matches("resources.")),
            };
            self.block_value(value, &path, column);
        }
    }

    /// From behind the colon to the end of the line.
    fn block_value(&mut self, value: &Node, path: &str, column: usize) {
        let is_flow = self.random.percent(self.flow);
        match value {
            Node::List(items) if !is_flow && !self.is_alias(value) => {
                self.anchor(value);
                self.end_line();
                let start = self.out.len();
                let column = column + self.list;
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        self.gap(column);
                    }
                    self.comments_above(column);
                    self.indent(column);
                    self.out.push('-');
                    self.indent(self.gap);
                    self.block_item(item, &format!("{path}.{index}"), column);
                    while self.random.percent(self.comments / 3) {
                        self.indent(column + 1);
                        self.comment();
                        self.out.push_str(self.line_break);
                    }
                }
                self.lists.insert(path.to_owned(), start..self.out.len());
            }
            Node::Map(fields) if !is_flow && !fields.is_empty() && !self.is_alias(value) => {
                self.anchor(value);
                self.end_line();
                self.block_map(fields, path, column + self.map, false);
            }
            Node::Secret(secret) if !self.is_plain && self.random.percent(10) => {
                let (start, end) = secret.split_at(secret.len() / 2);
                self.out
                    .push_str(if self.random.percent(50) { " |" } else { " |-" });
                self.end_line();
                for line in [start, end] {
                    self.indent(column + self.map);
                    self.out.push_str(line);
                    self.out.push_str(self.line_break);
                }
            }
            value => {
                self.out.push(' ');
                self.inline(value, path);
                self.end_line();
            }
        }
    }

    fn block_item(&mut self, item: &Node, path: &str, column: usize) {
        match item {
            Node::Map(fields)
                if !fields.is_empty()
                    && !self.random.percent(self.flow)
                    && !self.is_alias(item) =>
            {
                self.block_map(fields, path, column + 1 + self.gap, true);
            }
            item => {
                self.inline(item, path);
                self.end_line();
            }
        }
    }

    /// On this line, or as a flow collection over several.
    fn inline(&mut self, value: &Node, path: &str) {
        if self.is_alias(value) && self.random.percent(70) {
            let number = self.anchors.as_ref().and_then(|it| it.get(value)).copied();
            self.out
                .push_str(&format!("*a{}", number.unwrap_or_default()));
            self.aliases += 1;
            return;
        }
        let before = self.out.len();
        self.anchor(value);
        if self.out.len() > before {
            self.out.remove(before);
            self.out.push(' ');
        }
        let depth = self.random.percent(self.lines).then_some(4);
        self.flow(value, path, depth);
    }

    fn flow(&mut self, value: &Node, path: &str, depth: Option<usize>) {
        let start = self.out.len();
        let depth = depth.filter(|_| self.lines > 0);
        match value {
            Node::Text(text) | Node::Secret(text) => self.scalar(text),
            Node::Bare(text) => self.out.push_str(text),
            Node::List(items) => {
                self.out.push('[');
                for (index, item) in items.iter().enumerate() {
                    self.separate(depth);
                    self.flow(item, &format!("{path}.{index}"), depth.map(|it| it + 1));
                    self.comma(index + 1 == items.len(), depth);
                }
                self.close(depth);
                self.out.push(']');
                self.lists.insert(path.to_owned(), start..self.out.len());
            }
            Node::Map(fields) => {
                self.out.push('{');
                for (index, (name, value)) in fields.iter().enumerate() {
                    self.separate(depth);
                    match self.is_json {
                        true => self.out.push_str(&format!("\"{name}\"")),
                        false => self.out.push_str(name),
                    }
                    let is_tight = self.is_json && self.lines == 0;
                    self.out.push_str(if is_tight { ":" } else { ": " });
                    let path = match path {
                        "" => (*name).to_owned(),
                        path => format!("{}.{name}", path.trim_start_matches("resources.")),
                    };
                    self.flow(value, &path, depth.map(|it| it + 1));
                    self.comma(index + 1 == fields.len(), depth);
                }
                self.close(depth.filter(|_| !fields.is_empty()));
                self.out.push('}');
            }
        }
    }

    fn separate(&mut self, depth: Option<usize>) {
        if let Some(depth) = depth {
            if self.out.ends_with(['[', '{']) {
                self.end_line();
            }
            while self.random.percent(self.comments) {
                self.out.push_str(&self.margin(depth + 1));
                self.comment();
                self.out.push_str(self.line_break);
            }
            self.out.push_str(&self.margin(depth + 1));
        }
    }

    fn comma(&mut self, is_last: bool, depth: Option<usize>) {
        if !is_last {
            self.out.push(',');
        }
        match depth {
            Some(_) => self.end_line(),
            None if !(is_last || self.is_json && self.lines == 0) => self.out.push(' '),
            None => {}
        }
    }

    fn close(&mut self, depth: Option<usize>) {
        if let Some(depth) = depth {
            let margin = self.margin(depth);
            self.out.push_str(&margin);
        }
    }

    fn margin(&self, depth: usize) -> String {
        // Tabs do not indent YAML.
        let unit = if self.is_json { self.unit } else { "  " };
        unit.repeat(depth)
    }

    fn scalar(&mut self, text: &str) {
        let is_word = text.starts_with(|it: char| it.is_ascii_lowercase())
            && text
                .bytes()
                .all(|it| it.is_ascii_alphanumeric() || b"./-".contains(&it))
            && !["yes", "null"].contains(&text);
        match self.random.below(3) {
            0 | 1 if is_word && !self.is_json => self.out.push_str(text),
            0 if !self.is_json => {
                let quoted = text.replace('\'', "''");
                self.out.push_str(&format!("'{quoted}'"));
            }
            _ => {
                let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
                self.out.push_str(&format!("\"{quoted}\""));
            }
        }
    }

    fn is_alias(&self, value: &Node) -> bool {
        self.anchors
            .as_ref()
            .is_some_and(|it| it.contains_key(value))
    }

    fn anchor(&mut self, value: &Node) {
        let Some(anchors) = &mut self.anchors else {
            return;
        };
        if matches!(value, Node::Bare(_)) || anchors.contains_key(value) || !self.random.percent(50)
        {
            return;
        }
        let number = anchors.len();
        anchors.insert(value.clone(), number);
        self.out.push_str(&format!(" &a{number}"));
    }

    fn gap(&mut self, column: usize) {
        if self.random.percent(self.blank) {
            self.out.push_str(self.line_break);
            if self.random.percent(self.comments / 2) {
                let column = one_of(self.random, &[0, column]);
                self.indent(column);
                self.comment();
                self.out.push_str(self.line_break);
                self.out.push_str(self.line_break);
            }
        }
    }

    fn comments_above(&mut self, column: usize) {
        while self.random.percent(self.comments / 2) {
            self.indent(column);
            self.comment();
            self.out.push_str(self.line_break);
        }
    }

    fn comment(&mut self) {
        self.out.push_str(&format!("#c{} {{[\"", self.count));
        self.count += 1;
    }

    fn end_line(&mut self) {
        if self.random.percent(self.comments) {
            self.out.push(' ');
            self.comment();
        }
        self.out.push_str(self.line_break);
    }

    fn indent(&mut self, column: usize) {
        self.out.push_str(&" ".repeat(column));
    }
}
