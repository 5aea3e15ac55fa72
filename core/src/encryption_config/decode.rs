//! Decodes the tree into the fields of the API, with the place of each, and says what the server's
//! decoder refuses.

use std::ops::Deref;

use super::dialect;
use super::fields::{meant, shown};
use super::finding::{Finding, Place, Report, fault, quote};
use super::ids;
use super::judge::Server;
use super::tree::{NodeId, Pair, Scalar, Text, Tree, Value};

/// A value and where it is, or where its absence shows.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

impl At<Text> {
    fn absent(place: Place) -> Self {
        let value = Text::new(String::new());
        Self { value, place }
    }
}

/// A list as Go decodes it. A second one in the place of the first, which JSON makes possible, is
/// decoded into the elements of the first one, also into those that a shorter one left hidden.
#[derive(Debug)]
pub(super) struct List<T> {
    all: Vec<T>,
    len: usize,
}

impl<T> List<T> {
    const EMPTY: Self = Self {
        all: Vec::new(),
        len: 0,
    };
}

impl<T> Deref for List<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.all[..self.len]
    }
}

/// The file as decoded: everything may be missing, anything may be wrong.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) place: Place,
    pub(super) entries: List<Entry>,
}

/// `resources[i]`
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) place: Place,
    pub(super) resources: List<At<Text>>,
    pub(super) providers: List<Element>,
}

/// `resources[i].providers[j]`
#[derive(Debug)]
pub(super) struct Element {
    pub(super) place: Place,
    pub(super) kms: Option<Plugin>,
    pub(super) aesgcm: Option<At<List<NamedKey>>>,
    pub(super) aescbc: Option<At<List<NamedKey>>>,
    pub(super) secretbox: Option<At<List<NamedKey>>>,
    pub(super) identity: bool,
}

/// `keys[k]`
#[derive(Debug)]
pub(super) struct NamedKey {
    pub(super) name: At<Text>,
    pub(super) secret: At<Text>,
}

/// `kms`
#[derive(Debug)]
pub(super) struct Plugin {
    pub(super) api_version: At<Text>,
    pub(super) name: At<Text>,
    pub(super) endpoint: At<Text>,
    /// `None` where the default holds.
    pub(super) timeout: Option<At<i64>>,
    /// `None` where the default holds.
    pub(super) cachesize: Option<At<i32>>,
}

/// Decodes the document. The findings are empty for a document that the server decodes.
pub(super) fn decode(
    tree: &Tree,
    is_yaml: bool,
    server: &Server,
) -> Result<(Draft, Vec<Finding>), Vec<Finding>> {
    let mut decoder = Decoder {
        tree,
        is_yaml,
        is_strict: server.is_strict(),
        findings: Report::default(),
    };
    decoder.identify()?;
    let draft = decoder.document();
    Ok((draft, decoder.findings.into_findings()))
}

struct Decoder<'a> {
    tree: &'a Tree,
    is_yaml: bool,
    is_strict: bool,
    findings: Report,
}

/// A field of a mapping: which one, and its value.
type Field = (&'static str, NodeId);

const DOCUMENT: &[&str] = &["apiVersion", "kind", "resources"];
const ENTRY: &[&str] = &["providers", "resources"];
const ELEMENT: &[&str] = &["aescbc", "aesgcm", "identity", "kms", "secretbox"];
const KEYS: &[&str] = &["keys"];
const KEY: &[&str] = &["name", "secret"];
const KMS: &[&str] = &["apiVersion", "cachesize", "endpoint", "name", "timeout"];

const WRITE_KIND: &str = "begin the file with `apiVersion: apiserver.config.k8s.io/v1` and \
                          `kind: EncryptionConfiguration`";

impl Decoder<'_> {
    /// The server first looks for kind and apiVersion, whatever their case.
    fn identify(&self) -> Result<(), Vec<Finding>> {
        let place = self
            .tree
            .root
            .map_or(Place::START, |root| self.tree.place(root));
        let one = |finding| Err(vec![finding]);
        let pairs = match self.tree.root.map(|root| self.tree.value(root)) {
            Some(Value::Map(pairs)) => self.effective(pairs),
            None | Some(Value::Scalar(Scalar::Null, _)) => Vec::new(),
            Some(value) => {
                let message = format!("the file is {} instead of a mapping", noun(value));
                return one(fault(ids::WRONG_TYPE, "", place, message, WRITE_KIND));
            }
        };
        let kind = self.sniff(&pairs, "kind")?;
        let version = self.sniff(&pairs, "apiVersion")?;
        let at = |node: Option<NodeId>| node.map_or(place, |node| self.tree.place(node));
        let text = |node: Option<NodeId>| {
            node.and_then(|node| self.tree.text(node))
                .map_or("", Text::expose)
        };
        let (group, version_of_group) = match text(version).split_once('/') {
            Some((_, rest)) if rest.contains('/') => {
                let message = format!(
                    "apiVersion {} has more than one slash",
                    quote(text(version))
                );
                let place = at(version);
                return one(fault(
                    ids::NOT_THIS_KIND,
                    "apiVersion",
                    place,
                    message,
                    WRITE_KIND,
                ));
            }
            Some(parts) => parts,
            None => ("", text(version)),
        };
        if text(kind).is_empty() {
            let message = "the file does not say its kind";
            return one(fault(ids::NO_KIND, "kind", at(kind), message, WRITE_KIND));
        }
        if version_of_group.is_empty() {
            let message = "the file does not say its apiVersion";
            return one(fault(
                ids::NO_API_VERSION,
                "apiVersion",
                at(version),
                message,
                WRITE_KIND,
            ));
        }
        match (group, version_of_group, text(kind)) {
            ("apiserver.config.k8s.io", "v1", "EncryptionConfiguration")
            | ("", "v1", "EncryptionConfig") => Ok(()),
            ("apiserver.config.k8s.io", "v1", _) | ("", "v1", "EncryptionConfiguration") => {
                let message = format!(
                    "apiVersion {} has no kind {} that could be used here",
                    quote(text(version)),
                    quote(text(kind))
                );
                one(fault(
                    ids::NOT_THIS_KIND,
                    "kind",
                    at(kind),
                    message,
                    WRITE_KIND,
                ))
            }
            _ => {
                let message = format!(
                    "apiVersion {} is not that of an EncryptionConfiguration",
                    quote(text(version))
                );
                one(fault(
                    ids::NOT_THIS_KIND,
                    "apiVersion",
                    at(version),
                    message,
                    WRITE_KIND,
                ))
            }
        }
    }

    /// The last value that is not null among fields with this name in any case.
    fn sniff(&self, pairs: &[Pair], name: &str) -> Result<Option<NodeId>, Vec<Finding>> {
        // Go folds the Kelvin sign and the long s as well.
        let fold = |text: &str| {
            text.replace('\u{212a}', "k")
                .replace('\u{17f}', "s")
                .to_ascii_lowercase()
        };
        let mut fields: Vec<_> = pairs
            .iter()
            .filter_map(|pair| Some((self.tree.text(pair.key)?.expose(), pair.value)))
            .filter(|(key, _)| fold(key) == fold(name))
            .collect();
        if self.is_yaml {
            // On its way through JSON a mapping is sorted.
            fields.sort_by(|a, b| a.0.cmp(b.0));
        }
        let mut found = None;
        for (_, value) in fields {
            match self.tree.value(value) {
                Value::Scalar(Scalar::Text, _) => found = Some(value),
                Value::Scalar(Scalar::Null, _) => {}
                other => return Err(vec![self.not_text(other, name, self.tree.place(value))]),
            }
        }
        Ok(found)
    }

    fn document(&mut self) -> Draft {
        let mut draft = Draft {
            place: Place::START,
            entries: List::EMPTY,
        };
        let Some(root) = self.tree.root else {
            return draft;
        };
        draft.place = self.tree.place(root);
        for (name, value) in self.fields(root, "", DOCUMENT) {
            if name == "resources" {
                draft.place = self.tree.place(value);
                self.list(value, "resources", &mut draft.entries, Self::entry);
            }
        }
        draft
    }

    fn entry(&mut self, id: NodeId, path: &str, before: Option<Entry>) -> Entry {
        let mut entry = before.unwrap_or(Entry {
            place: Place::START,
            resources: List::EMPTY,
            providers: List::EMPTY,
        });
        entry.place = self.tree.place(id);
        for (name, value) in self.fields(id, path, ENTRY) {
            let path = format!("{path}.{name}");
            match name {
                "resources" => self.list(value, &path, &mut entry.resources, Self::resource),
                _ => self.list(value, &path, &mut entry.providers, Self::element),
            }
        }
        entry
    }

    fn resource(&mut self, id: NodeId, path: &str, before: Option<At<Text>>) -> At<Text> {
        let absent = || before.unwrap_or(At::absent(self.tree.place(id)));
        let text = self.text(id, path);
        text.unwrap_or_else(absent)
    }

    fn element(&mut self, id: NodeId, path: &str, before: Option<Element>) -> Element {
        let mut element = before.unwrap_or(Element {
            place: Place::START,
            kms: None,
            aesgcm: None,
            aescbc: None,
            secretbox: None,
            identity: false,
        });
        element.place = self.tree.place(id);
        for (name, value) in self.fields(id, path, ELEMENT) {
            let path = format!("{path}.{name}");
            let is_set = !self.is_null(value);
            match name {
                "kms" => {
                    let before = element.kms.take();
                    element.kms = is_set.then(|| self.plugin(value, &path, before));
                }
                "identity" => {
                    self.fields(value, &path, &[]);
                    element.identity = is_set;
                }
                _ => {
                    let keys = match name {
                        "aesgcm" => &mut element.aesgcm,
                        "aescbc" => &mut element.aescbc,
                        _ => &mut element.secretbox,
                    };
                    let before = keys.take();
                    *keys = is_set.then(|| self.keys(value, &path, before));
                }
            }
        }
        element
    }

    fn keys(
        &mut self,
        id: NodeId,
        path: &str,
        before: Option<At<List<NamedKey>>>,
    ) -> At<List<NamedKey>> {
        let mut keys = At {
            value: before.map_or(List::EMPTY, |keys| keys.value),
            place: self.tree.place(id),
        };
        for (name, value) in self.fields(id, path, KEYS) {
            keys.place = self.tree.place(value);
            let path = format!("{path}.{name}");
            self.list(value, &path, &mut keys.value, Self::key);
        }
        keys
    }

    fn key(&mut self, id: NodeId, path: &str, before: Option<NamedKey>) -> NamedKey {
        let place = self.tree.place(id);
        let mut key = before.unwrap_or(NamedKey {
            name: At::absent(place),
            secret: At::absent(place),
        });
        for (name, value) in self.fields(id, path, KEY) {
            let Some(text) = self.text(value, &format!("{path}.{name}")) else {
                continue;
            };
            match name {
                "name" => key.name = text,
                _ => key.secret = text,
            }
        }
        key
    }

    fn plugin(&mut self, id: NodeId, path: &str, before: Option<Plugin>) -> Plugin {
        let place = self.tree.place(id);
        let mut plugin = before.unwrap_or(Plugin {
            api_version: At::absent(place),
            name: At::absent(place),
            endpoint: At::absent(place),
            timeout: None,
            cachesize: None,
        });
        for (name, value) in self.fields(id, path, KMS) {
            let path = format!("{path}.{name}");
            match name {
                "cachesize" => plugin.cachesize = self.integer(value, &path),
                "timeout" => plugin.timeout = self.duration(value, &path),
                _ => {
                    let Some(text) = self.text(value, &path) else {
                        continue;
                    };
                    match name {
                        "apiVersion" => plugin.api_version = text,
                        "endpoint" => plugin.endpoint = text,
                        _ => plugin.name = text,
                    }
                }
            }
        }
        if plugin.api_version.value.expose().is_empty() {
            plugin.api_version.value = Text::new("v1".to_owned());
        }
        plugin
    }

    /// `None` for null, which changes nothing, and for what is no text.
    fn text(&mut self, id: NodeId, path: &str) -> Option<At<Text>> {
        let place = self.tree.place(id);
        match self.tree.value(id) {
            Value::Scalar(Scalar::Text, text) => Some(At {
                value: text.clone(),
                place,
            }),
            Value::Scalar(Scalar::Null, _) => None,
            other => {
                let finding = self.not_text(other, path, place);
                self.findings.push(finding);
                None
            }
        }
    }

    fn not_text(&self, value: &Value, path: &str, place: Place) -> Finding {
        let fix = match value {
            Value::Scalar(..) if self.is_yaml => {
                "put it in quotes: YAML 1.1 reads some words and all numbers as something else"
            }
            Value::Scalar(..) => "put it in quotes",
            _ => "write text here",
        };
        let message = format!("{} stands where text is wanted", noun(value));
        fault(ids::WRONG_TYPE, path, place, message, fix)
    }

    fn duration(&mut self, id: NodeId, path: &str) -> Option<At<i64>> {
        let place = self.tree.place(id);
        let nanoseconds = match self.tree.value(id) {
            Value::Scalar(Scalar::Null, _) => return None,
            Value::Scalar(Scalar::Text, text) => dialect::duration(text.expose()),
            _ => None,
        };
        if nanoseconds.is_none() {
            self.findings.push(fault(
                ids::DURATION,
                path,
                place,
                "this is not a duration",
                "write a number and its unit, as in `3s`, `500ms` or `1m30s`",
            ));
        }
        nanoseconds.map(|value| At { value, place })
    }

    fn integer(&mut self, id: NodeId, path: &str) -> Option<At<i32>> {
        let place = self.tree.place(id);
        let number = match self.tree.value(id) {
            Value::Scalar(Scalar::Null, _) => return None,
            Value::Scalar(Scalar::Int(number), _) => i32::try_from(*number).ok(),
            // Beyond the range is out of the range of i32, too.
            Value::Scalar(Scalar::Float(number), _) if number.fract() == 0.0 => {
                let fits = (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(number);
                fits.then_some(*number as i32)
            }
            Value::Scalar(Scalar::Uint(_) | Scalar::Float(_) | Scalar::Decimal, _) => None,
            other => {
                let message = format!("{} stands where a number is wanted", noun(other));
                let fix = "write the number without quotes";
                self.findings
                    .push(fault(ids::WRONG_TYPE, path, place, message, fix));
                return None;
            }
        };
        if number.is_none() {
            self.findings.push(fault(
                ids::INTEGER,
                path,
                place,
                "this number is not whole, or it does not fit into 32 bits",
                "write a whole number between -2147483648 and 2147483647",
            ));
        }
        number.map(|value| At { value, place })
    }

    /// Null is an empty list.
    fn list<T>(
        &mut self,
        id: NodeId,
        path: &str,
        list: &mut List<T>,
        mut item: impl FnMut(&mut Self, NodeId, &str, Option<T>) -> T,
    ) {
        let tree = self.tree;
        let items = match tree.value(id) {
            Value::List(items) => &items[..],
            Value::Scalar(Scalar::Null, _) => &[],
            other => {
                let message = format!("{} stands where a list is wanted", noun(other));
                let fix = "begin each item with `- ` on a line of its own";
                self.findings
                    .push(fault(ids::WRONG_TYPE, path, tree.place(id), message, fix));
                return;
            }
        };
        if items.is_empty() {
            *list = List::EMPTY;
        }
        list.len = items.len();
        let mut before = std::mem::take(&mut list.all).into_iter();
        for (index, id) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            list.all.push(item(self, *id, &path, before.next()));
        }
        list.all.extend(before);
    }

    /// The known fields of a mapping, in order. Null is an empty mapping.
    fn fields(&mut self, id: NodeId, path: &str, known: &'static [&'static str]) -> Vec<Field> {
        let tree = self.tree;
        let pairs = match tree.value(id) {
            Value::Map(pairs) => self.effective(pairs),
            Value::Scalar(Scalar::Null, _) => return Vec::new(),
            other => {
                let message = format!("{} stands where a mapping is wanted", noun(other));
                let fix = match known {
                    [] => "write `{}` here".to_owned(),
                    _ => format!("write the fields {} here", known.join(", ")),
                };
                self.findings
                    .push(fault(ids::WRONG_TYPE, path, tree.place(id), message, fix));
                return Vec::new();
            }
        };
        let mut fields: Vec<Field> = Vec::new();
        for pair in pairs {
            let name = tree.text(pair.key).map(Text::expose);
            let Some(field) = known.iter().find(|field| Some(**field) == name) else {
                self.unknown(name, path, tree.place(pair.key), known);
                continue;
            };
            // Those of YAML are found before, at every level.
            if self.is_strict && fields.iter().any(|(name, _)| name == field) {
                self.findings.push(fault(
                    ids::DUPLICATE,
                    join(path, field),
                    tree.place(pair.key),
                    "this object has the field twice",
                    "keep one of the two",
                ));
            }
            fields.push((field, pair.value));
        }
        fields
    }

    /// In YAML the pairs that are left when of equal names the last one counts.
    fn effective(&self, pairs: &[Pair]) -> Vec<Pair> {
        let mut pairs = self.tree.pairs(pairs);
        if !self.is_yaml {
            return pairs;
        }
        let mut seen = std::collections::HashSet::new();
        pairs.reverse();
        pairs.retain(|pair| match self.tree.text(pair.key) {
            Some(name) => seen.insert(name.expose()),
            None => true,
        });
        pairs.reverse();
        pairs
    }

    fn unknown(&mut self, name: Option<&str>, path: &str, place: Place, known: &[&str]) {
        if !self.is_strict {
            return;
        }
        let beside_secrets = known == KEY || known == KEYS || known == ELEMENT;
        let name = name.and_then(|name| shown(name, beside_secrets));
        let message = match name {
            Some(name) => format!("there is no field {} here", quote(name)),
            None => "there is no such field here (its name is not shown, as it may be a secret)"
                .to_owned(),
        };
        let fix = match (name, name.and_then(|name| meant(name, known))) {
            (_, Some(field)) => format!("write `{field}`: case and spelling count"),
            (Some("keys"), None) => "indent it further: keys belong to a provider".to_owned(),
            (Some("metadata"), None) => "take it out: this file has no metadata".to_owned(),
            _ if known.is_empty() => "write `{}`: nothing can be set here".to_owned(),
            _ => format!(
                "take it out, or indent it as needed; here stand {}",
                known.join(", ")
            ),
        };
        self.findings.push(fault(
            ids::UNKNOWN,
            join(path, name.unwrap_or("?")),
            place,
            message,
            fix,
        ));
    }

    fn is_null(&self, id: NodeId) -> bool {
        matches!(self.tree.value(id), Value::Scalar(Scalar::Null, _))
    }
}

fn join(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    }
}

fn noun(value: &Value) -> &'static str {
    match value {
        Value::Scalar(Scalar::Null, _) => "nothing",
        Value::Scalar(Scalar::Bool(_), _) => "a boolean",
        Value::Scalar(Scalar::Text, _) => "text",
        Value::Scalar(..) => "a number",
        Value::List(_) => "a list",
        Value::Map(_) | Value::Alias(_) => "a mapping",
    }
}
