//! Decodes the tree into the fields of the API, with the place of each, and says what the server's
//! decoder refuses.

use std::ops::Deref;

use super::dialect;
use super::fields::{meant, shown};
use super::finding::{Finding, Place, Report, fault, quote};
use super::go;
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
    is_null: bool,
}

impl<T> List<T> {
    const NULL: Self = Self {
        all: Vec::new(),
        len: 0,
        is_null: true,
    };

    /// There is none, which to the rules is the same as an empty one.
    pub(super) fn is_null(&self) -> bool {
        self.is_null
    }
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
    pub(super) place: Place,
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

/// What the server says before the reason why it finds no kind.
const NO_KIND_IN_JSON: &str = "couldn't get version/kind; json parse error: ";

impl Decoder<'_> {
    /// The server first looks for kind and apiVersion, whatever their case.
    fn identify(&self) -> Result<(), Vec<Finding>> {
        self.find_kind().map_err(|finding| vec![finding])
    }

    fn find_kind(&self) -> Result<(), Finding> {
        let place = self
            .tree
            .root
            .map_or(Place::START, |root| self.tree.place(root));
        let pairs =
            match self.tree.root.map(|root| self.tree.value(root)) {
                Some(Value::Map(pairs)) => self.effective(pairs),
                None | Some(Value::Scalar(Scalar::Null, _)) => Vec::new(),
                Some(value) => {
                    let message = format!("the file is {} instead of a mapping", noun(value));
                    return Err(fault(ids::WRONG_TYPE, "", place, message, WRITE_KIND).said(format!(
                    "{NO_KIND_IN_JSON}json: cannot unmarshal {} into Go value of type struct \
                     {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; \
                     Kind string \"json:\\\"kind,omitempty\\\"\" }}",
                    go::noun(value)
                )));
                }
            };
        let [version, kind] = self.sniff(&pairs, ["apiVersion", "kind"])?;
        let at = |node: Option<NodeId>| node.map_or(place, |node| self.tree.place(node));
        let text = |node: Option<NodeId>| {
            node.and_then(|node| self.tree.text(node))
                .map_or("", Text::expose)
        };
        let not_this =
            |field, node, message| fault(ids::NOT_THIS_KIND, field, at(node), message, WRITE_KIND);
        let (group, version_of_group) = match text(version).split_once('/') {
            Some((_, rest)) if rest.contains('/') => {
                let shown = quote(text(version));
                let message = format!("apiVersion {shown} has more than one slash");
                let words = format!(
                    "unexpected GroupVersion string: {}",
                    go::shown(text(version))
                );
                return Err(not_this("apiVersion", version, message).said(words));
            }
            Some(parts) => parts,
            None => ("", text(version)),
        };
        // The server prints all of the file here, keys included.
        let missing = |rule, field: &str, node, message, name: &str| {
            fault(rule, field, at(node), message, WRITE_KIND)
                .said(format!("Object '{name}' is missing in '<the whole file>'"))
        };
        if text(kind).is_empty() {
            let message = "the file does not say its kind";
            return Err(missing(ids::NO_KIND, "kind", kind, message, "Kind"));
        }
        if version_of_group.is_empty() {
            let message = "the file does not say its apiVersion";
            let rule = ids::NO_API_VERSION;
            return Err(missing(rule, "apiVersion", version, message, "apiVersion"));
        }
        let shown = [version, kind].map(|node| quote(text(node)));
        let finding = match (group, version_of_group, text(kind)) {
            ("apiserver.config.k8s.io", "v1", "EncryptionConfiguration")
            | ("", "v1", "EncryptionConfig") => return Ok(()),
            ("apiserver.config.k8s.io", "v1", _) | ("", "v1", "EncryptionConfiguration") => {
                let [version, shown] = shown;
                let message =
                    format!("apiVersion {version} has no kind {shown} that could be used here");
                not_this("kind", kind, message)
            }
            _ => {
                let [shown, _] = shown;
                let message =
                    format!("apiVersion {shown} is not that of an EncryptionConfiguration");
                not_this("apiVersion", version, message)
            }
        };
        // Other kinds may be known to the server, which then stumbles over something else.
        if !text(kind).starts_with("Encryption") {
            return Err(finding);
        }
        let version = match group {
            "" => version_of_group.to_owned(),
            group => format!("{group}/{version_of_group}"),
        };
        Err(finding.said(format!(
            "no kind {} is registered for version {}",
            go::quoted(go::shown(text(kind))),
            go::quoted(go::shown(&version))
        )))
    }

    /// For each name the last value that is not null among fields with this name in any case.
    fn sniff(&self, pairs: &[Pair], names: [&str; 2]) -> Result<[Option<NodeId>; 2], Finding> {
        // Go folds the Kelvin sign and the long s as well.
        let fold = |text: &str| {
            text.replace('\u{212a}', "k")
                .replace('\u{17f}', "s")
                .to_ascii_lowercase()
        };
        let mut fields: Vec<_> = pairs
            .iter()
            .filter_map(|pair| Some((self.tree.text(pair.key)?.expose(), pair.value)))
            .collect();
        if self.is_yaml {
            // On its way through JSON a mapping is sorted.
            fields.sort_by(|a, b| a.0.cmp(b.0));
        }
        let mut found = [None; 2];
        for (key, value) in fields {
            let named = names.iter().position(|name| fold(key) == fold(name));
            let Some(index) = named else { continue };
            match self.tree.value(value) {
                Value::Scalar(Scalar::Text, _) => found[index] = Some(value),
                Value::Scalar(Scalar::Null, _) => {}
                other => {
                    let name = names[index];
                    let finding = self.not_text(other, name, self.tree.place(value));
                    return Err(finding.said(format!(
                        "{NO_KIND_IN_JSON}json: cannot unmarshal {} into Go struct field .{name} of \
                         type string",
                        go::noun(other)
                    )));
                }
            }
        }
        Ok(found)
    }

    fn document(&mut self) -> Draft {
        let mut draft = Draft {
            place: Place::START,
            entries: List::NULL,
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
            resources: List::NULL,
            providers: List::NULL,
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
            value: before.map_or(List::NULL, |keys| keys.value),
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
            place,
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
        fault(ids::WRONG_TYPE, path, place, message, fix).said(go::wrong_type(value, path))
    }

    fn duration(&mut self, id: NodeId, path: &str) -> Option<At<i64>> {
        let place = self.tree.place(id);
        let words = match self.tree.value(id) {
            Value::Scalar(Scalar::Null, _) => return None,
            Value::Scalar(Scalar::Text, text) => match dialect::duration(text.expose()) {
                Ok(value) => return Some(At { value, place }),
                Err(problem) => go::no_duration(text.expose(), problem),
            },
            other => go::wrong_type(other, path),
        };
        let finding = fault(
            ids::DURATION,
            path,
            place,
            "this is not a duration",
            "write a number and its unit, as in `3s`, `500ms` or `1m30s`",
        );
        self.findings.push(finding.said(words));
        None
    }

    fn integer(&mut self, id: NodeId, path: &str) -> Option<At<i32>> {
        let place = self.tree.place(id);
        let value = self.tree.value(id);
        let number = match value {
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
                let finding = fault(ids::WRONG_TYPE, path, place, message, fix);
                self.findings
                    .push(finding.said(go::wrong_type(other, path)));
                return None;
            }
        };
        if number.is_none() {
            let finding = fault(
                ids::INTEGER,
                path,
                place,
                "this number is not whole, or it does not fit into 32 bits",
                "write a whole number between -2147483648 and 2147483647",
            );
            // What Go makes of a fraction on its way there is not known exactly.
            self.findings.push(match value {
                Value::Scalar(Scalar::Int(number), _) => finding.said(go::no_int32(number, path)),
                Value::Scalar(Scalar::Uint(number), _) => finding.said(go::no_int32(number, path)),
                _ => finding,
            });
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
                let finding = fault(ids::WRONG_TYPE, path, tree.place(id), message, fix);
                self.findings
                    .push(finding.said(go::wrong_type(other, path)));
                return;
            }
        };
        if items.is_empty() {
            *list = List::NULL;
        }
        list.is_null = matches!(tree.value(id), Value::Scalar(..));
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
                let finding = fault(ids::WRONG_TYPE, path, tree.place(id), message, fix);
                self.findings
                    .push(finding.said(go::wrong_type(other, path)));
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
                let path = join(path, field);
                let words = format!(
                    "strict decoding error: duplicate field {}",
                    go::quoted(&path)
                );
                let finding = fault(
                    ids::DUPLICATE,
                    path,
                    tree.place(pair.key),
                    "this object has the field twice",
                    "keep one of the two",
                );
                self.findings.push(finding.said(words));
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
        let words = format!(
            "strict decoding error: unknown field {}",
            go::quoted(&join(path, name.unwrap_or(go::REDACTED)))
        );
        let path = join(path, name.unwrap_or("?"));
        let finding = fault(ids::UNKNOWN, path, place, message, fix);
        self.findings.push(finding.said(words));
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
