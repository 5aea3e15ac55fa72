//! Configurations as trees: right ones, and ones with faults that stop the server at a stage.

use atrest_tests::judge::Stage;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::random::Random;

/// A value of a file that is yet to be written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    /// As it is: a number, `null`, what looks like text and is none.
    Raw(String),
    /// Text, in whatever style.
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

/// A tree, and the stage that it is meant for; it may come to another one.
pub(crate) fn configuration(random: &mut Random, aim: Stage) -> Node {
    Generator { random, aim }.document()
}

const NAMES: &[&str] = &[
    "secrets",
    "configmaps",
    "deployments.apps",
    "widgets.example.com",
    "events",
    "pods.",
    "",
    ".",
    "secret",
    "secrets/status",
    "a b",
    " padded ",
    "äpfel",
    "密钥",
    "a\nb",
    "a'b\"c\\d",
    "**",
    "*.*.foo",
    "apiserveripinfo.",
    "extensions",
    "yes",
    "12",
    "null",
    "<&>\u{2028}",
    "\u{feff}mark",
    "a: b",
    "# a",
    "\u{7f}\u{85}\u{a0}",
    "🔑",
];

const WRONG_NAMES: &[&str] = &[
    "Secrets",
    "ÄPFEL",
    "ǅ",
    "*",
    "apiserveripinfo",
    "serviceipallocations",
    "servicenodeportallocations",
    "events.events.k8s.io",
    "*.events.k8s.io",
    "ingresses.extensions",
    "secrets.*",
    ".*",
    "A\u{2028}<b>&\u{1}",
];

const WILDCARDS: &[&str] = &["*.", "*.apps", "*.*"];

const KEY_NAMES: &[&str] = &[
    "key1",
    "key2",
    "a:b",
    "with blank",
    "ключ",
    "1",
    "~",
    "k\u{0}",
];

const PLUGINS: &[&str] = &["plugin", "other", "Plugin", "a/b", "vault", "no", "日本"];

const ENDPOINTS: &[&str] = &[
    "unix:///run/kms.sock",
    "unix:///tmp/k",
    "unix:///@abstract",
    "UNIX:/k",
    "unix://tmp/k.sock",
    "unix:k",
    "unix:///a b",
    "unix:///%41?q#f",
    "unix://user:word@host:1/k",
    "unix://[::1]:80/k",
];

const WRONG_ENDPOINTS: &[&str] = &[
    "",
    "/run/kms.sock",
    "k.sock",
    "http://127.0.0.1:80/a",
    "tcp://a",
    "unix:///a\n",
    "unix:///%zz",
    "unix://[::1/k",
    "unix://h:port/k",
    "unix://a b/k",
    " unix:///k",
    ":k",
    "1:2/k",
    "a_b:c/d",
    "é://a",
    "unix:///k#%zz",
    "unix://u u@h/k",
    "%41://x",
    "unix://%41/k",
    "http://[fe80::1%25en0]/",
    "\u{7f}",
];

const TIMEOUTS: &[&str] = &["3s", "1.5s", "500ms", "1m30s", "1ns", ".5s", "+1h", "3µs"];

/// What is text, a number, a boolean, null, or nothing at all, depending on who reads it.
const RAW: &[&str] = &[
    "1",
    "-1",
    "010",
    "0x1F",
    "0b11",
    "0o17",
    "1_000",
    "1.5",
    "1e3",
    "100.0",
    ".5",
    ".inf",
    ".nan",
    "-0",
    "+5",
    "1:40",
    "2147483648",
    "9223372036854775808",
    "18446744073709551616",
    "1e40",
    "yes",
    "no",
    "On",
    "n",
    "true",
    "False",
    "yES",
    "null",
    "~",
    "",
    "2026-11-22",
    "!!str 5",
    "!!int \"5\"",
    "!!float 5",
    "!!null \"\"",
    "!!binary YQ==",
    "!own 5",
    "! 5",
    "!!timestamp 2026-11-22",
    "!!bool x",
    "<<",
    "word",
    "!!set {a}",
];

struct Generator<'a> {
    random: &'a mut Random,
    aim: Stage,
}

impl Generator<'_> {
    /// Whether to make a mistake of the kind that is aimed at.
    fn errs(&mut self, stage: Stage, percent: usize) -> bool {
        self.aim == stage && self.random.percent(percent)
    }

    fn document(&mut self) -> Node {
        let legacy = self.random.percent(10);
        let (version, kind) = match legacy {
            true => ("v1", "EncryptionConfig"),
            false => ("apiserver.config.k8s.io/v1", "EncryptionConfiguration"),
        };
        let mut fields = vec![
            field("apiVersion", text(version)),
            field("kind", text(kind)),
            field("resources", self.entries()),
        ];
        if self.errs(Stage::Decode, 8) {
            let wrong = [
                "v1",
                "Secret",
                "a/b/c",
                "apiserver.config.k8s.io/v2",
                "A\u{1}",
            ];
            let at = self.random.below(2);
            fields[at].1 = text(self.random.pick(&wrong));
        }
        self.map(fields)
    }

    fn entries(&mut self) -> Node {
        let mut entries = Vec::new();
        let mut names = NAMES.to_vec();
        let mut plugins = PLUGINS.to_vec();
        let mut chains: Vec<Node> = Vec::new();
        let count = 1 + self.random.below(3);
        for _ in 0..count {
            let mut resources = Vec::new();
            for _ in 0..=self.random.below(3) {
                let at = self.random.below(names.len());
                resources.push(text(names.swap_remove(at)));
            }
            entries.push((resources, self.chain(&mut plugins, &mut chains)));
        }
        if self.random.percent(20) {
            let wildcard = text(self.random.pick(WILDCARDS));
            let chain = self.chain(&mut plugins, &mut chains);
            let last = if self.aim == Stage::Load {
                0
            } else {
                entries.len()
            };
            entries.insert(last, (vec![wildcard], chain));
        }
        if self.errs(Stage::Load, 70) {
            let mask = text(self.random.pick(&["*.", "*.*", "*.*", "*.apps"]));
            let masked = ["secrets", "*.apps", "a.apps", "a\"b", "*.*", "*.", "<>\n"];
            let masked = text(self.random.pick(&masked));
            let at = self.random.below(entries.len() + 1);
            entries.insert(at, (vec![masked], self.chain(&mut plugins, &mut chains)));
            let before = self.random.below(at + 1);
            entries.insert(before, (vec![mask], self.chain(&mut plugins, &mut chains)));
        }
        let entries = entries.into_iter().map(|(resources, chain)| {
            let resources = self.resources(resources);
            let mut fields = vec![field("resources", resources), field("providers", chain)];
            if self.errs(Stage::Validate, 5) {
                fields.remove(self.random.below(2));
            }
            self.map(fields)
        });
        let mut entries: Vec<_> = entries.collect();
        if self.errs(Stage::Validate, 5) {
            entries.clear();
        }
        self.list(entries)
    }

    fn resources(&mut self, mut names: Vec<Node>) -> Node {
        if self.errs(Stage::Validate, 20) {
            for _ in 0..=self.random.below(3) {
                let at = self.random.below(names.len() + 1);
                names.insert(at, text(self.random.pick(WRONG_NAMES)));
            }
        }
        if self.errs(Stage::Validate, 10) {
            let twice = names[self.random.below(names.len())].clone();
            names.push(twice);
        }
        if self.errs(Stage::Validate, 15) {
            let at = self.random.below(names.len() + 1);
            names.insert(at, text(self.random.pick(WILDCARDS)));
        }
        if self.errs(Stage::Validate, 3) {
            names.clear();
        }
        if self.random.percent(5) {
            names.push(raw("null"));
        }
        self.list(names)
    }

    fn chain(&mut self, plugins: &mut Vec<&str>, chains: &mut Vec<Node>) -> Node {
        // An equal one can be written as an alias.
        if self.random.percent(15) && !chains.is_empty() {
            return chains[self.random.below(chains.len())].clone();
        }
        let mut elements = Vec::new();
        let mut has_plugin = false;
        for _ in 0..=self.random.below(3) {
            let mut fields = vec![self.provider(plugins, &mut has_plugin)];
            if self.errs(Stage::Validate, 10) {
                fields.push(self.provider(plugins, &mut has_plugin));
            }
            if self.errs(Stage::Validate, 4) {
                fields.clear();
            }
            if self.random.percent(4) && !fields.is_empty() {
                let absent = ["aescbc", "aesgcm", "identity", "kms", "secretbox"];
                let absent = text(self.random.pick(&absent));
                if fields.iter().all(|(name, _)| *name != absent) {
                    fields.push((absent, raw("null")));
                }
            }
            elements.push(self.map(fields));
        }
        if self.errs(Stage::Validate, 3) {
            elements.clear();
        }
        let chain = self.list(elements);
        if !has_plugin {
            chains.push(chain.clone());
        }
        chain
    }

    fn provider(&mut self, plugins: &mut Vec<&str>, has_plugin: &mut bool) -> (Node, Node) {
        let name = ["aescbc", "aesgcm", "secretbox", "identity", "kms"];
        let name = self.random.pick(&name);
        let value = match name {
            "identity" => self.map(Vec::new()),
            "kms" => {
                *has_plugin = true;
                self.plugin(plugins)
            }
            _ => self.keys(name),
        };
        field(name, value)
    }

    fn keys(&mut self, provider: &str) -> Node {
        let mut keys = Vec::new();
        for _ in 0..=self.random.below(3) {
            let name = match self.errs(Stage::Validate, 8) {
                true => "",
                false => self.random.pick(KEY_NAMES),
            };
            let secret = self.secret(provider);
            let mut fields = vec![field("name", text(name)), field("secret", text(&secret))];
            if self.errs(Stage::Validate, 5) {
                fields.remove(self.random.below(2));
            }
            keys.push(self.map(fields));
        }
        if self.errs(Stage::Validate, 5) {
            keys.clear();
        }
        let mut fields = vec![field("keys", self.list(keys))];
        if self.errs(Stage::Validate, 5) {
            fields.clear();
        }
        self.map(fields)
    }

    fn secret(&mut self, provider: &str) -> String {
        let lengths = if provider == "secretbox" {
            &[32][..]
        } else {
            &[16, 24, 32]
        };
        let mut length = lengths[self.random.below(lengths.len())];
        if self.errs(Stage::Validate, 12) {
            length = self.random.below(40);
        }
        let bytes: Vec<u8> = (0..length).map(|_| self.random.byte()).collect();
        let mut secret = BASE64_STANDARD.encode(bytes);
        if self.random.percent(5) {
            let at = self.random.below(secret.len() + 1);
            secret.insert_str(at, self.random.pick(&["\n", "\r\n", "\n\n"]));
        }
        if self.errs(Stage::Validate, 12) {
            let at = self.random.below(secret.len() + 1);
            secret.insert_str(at, self.random.pick(&[" ", "=", "-", "\t", "_", "é", "A"]));
        }
        secret
    }

    fn plugin(&mut self, plugins: &mut Vec<&str>) -> Node {
        let v1 = match self.aim {
            Stage::Load => self.random.percent(50),
            _ => self.random.percent(8),
        };
        let mut fields = Vec::new();
        let mut version = if v1 { "v1" } else { "v2" };
        if self.errs(Stage::Validate, 10) {
            version = self.random.pick(&["v3", "V2", "v1 ", "2", "v\u{1}"]);
        }
        if !v1 || self.random.percent(50) {
            fields.push(field("apiVersion", text(version)));
        }
        let name = match plugins.len() {
            0 => format!("plugin{}", self.random.below(1 << 30)),
            more => plugins.swap_remove(self.random.below(more)).to_owned(),
        };
        let name = match self.errs(Stage::Validate, 12) {
            true => self.random.pick(&["", "a:b", "plugin", "other", ":"]),
            false => &name,
        };
        fields.push(field("name", text(name)));
        let endpoint = match self.errs(Stage::Validate, 25) {
            true => self.random.pick(WRONG_ENDPOINTS),
            false => self.random.pick(ENDPOINTS),
        };
        fields.push(field("endpoint", text(endpoint)));
        if self.random.percent(40) {
            let timeout = match self.errs(Stage::Validate, 30) {
                true => self
                    .random
                    .pick(&["0s", "0", "-1s", "-1m30.5s", "0.1ns", "-1us"]),
                false => self.random.pick(TIMEOUTS),
            };
            fields.push(field("timeout", text(timeout)));
        }
        let wrong = self.errs(Stage::Validate, 15);
        if v1 && self.random.percent(40) || wrong {
            let right = ["1", "-1", "1000", "2147483647", "null"];
            let size = self
                .random
                .pick(if wrong { &["0", "-0", "5"] } else { &right });
            fields.push(field("cachesize", raw(size)));
        }
        if self.errs(Stage::Validate, 5) {
            fields.remove(self.random.below(fields.len()));
        }
        if self.errs(Stage::Decode, 15) {
            let timeouts = [
                "3", "1d", "", "soon", "3 s", "1m30", "2562048h", "-", "é", "1h1x",
            ];
            fields.push(field("timeout", text(self.random.pick(&timeouts))));
        }
        self.map(fields)
    }

    fn list(&mut self, mut items: Vec<Node>) -> Node {
        if self.errs(Stage::Decode, 3) {
            let at = self.random.below(items.len() + 1);
            let odd = self.odd();
            items.insert(at, odd);
        }
        match self.errs(Stage::Decode, 2) {
            true => self.odd(),
            false => Node::List(items),
        }
    }

    /// Fields come in any order.
    fn map(&mut self, mut fields: Vec<(Node, Node)>) -> Node {
        if self.random.percent(15) {
            for at in (1..fields.len()).rev() {
                fields.swap(at, self.random.below(at + 1));
            }
        }
        if self.errs(Stage::Decode, 4) && !fields.is_empty() {
            let at = self.random.below(fields.len());
            fields[at].1 = self.odd();
        }
        if self.errs(Stage::Decode, 4) && !fields.is_empty() {
            let mut twice = fields[self.random.below(fields.len())].clone();
            if self.random.percent(50) {
                twice.1 = self.odd();
            }
            fields.push(twice);
        }
        if self.errs(Stage::Decode, 4) {
            let unknown = [
                "metadata",
                "Name",
                "cacheSize",
                "keys",
                "secrets",
                "a.b",
                "",
                "é\"<",
                "spec",
                "Kind",
            ];
            let name = match self.random.percent(70) {
                true => text(self.random.pick(&unknown)),
                false => raw(self.random.pick(RAW)),
            };
            let at = self.random.below(fields.len() + 1);
            let odd = self.odd();
            fields.insert(at, (name, odd));
        }
        match self.errs(Stage::Decode, 1) {
            true => self.odd(),
            false => Node::Map(fields),
        }
    }

    fn odd(&mut self) -> Node {
        match self.random.below(6) {
            0 => text("text"),
            1 => Node::List(vec![raw(self.random.pick(RAW))]),
            2 => Node::Map(vec![field("a", raw(self.random.pick(RAW)))]),
            3 => Node::List(Vec::new()),
            _ => raw(self.random.pick(RAW)),
        }
    }
}

fn text(text: &str) -> Node {
    Node::Text(text.to_owned())
}

fn raw(text: &str) -> Node {
    Node::Raw(text.to_owned())
}

fn field(name: &str, value: Node) -> (Node, Node) {
    (text(name), value)
}
