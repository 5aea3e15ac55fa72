//! Mends what can be mended without asking what was meant. Only the text that is concerned changes,
//! and a mend counts only if the file that it leads to was read and says what it should.

use std::collections::HashMap;

use super::edit::{Slot, Source, Splice};
use super::finding::quote;
use super::form::Form;
use super::judge::{Server, Stage, judge};
use super::tree::{MAX_BYTES, NodeId, Text, Tree, Value};
use super::{dialect, edit, ids};
use crate::at_rest::GroupResource;
use crate::secret::SecretBytes;

/// A file and what was mended in it.
#[derive(Debug)]
pub struct Fixed {
    /// The file, mended; as it was where nothing was.
    pub bytes: SecretBytes,
    /// In the order in which it was done. Paths are those of the file at that time.
    pub mended: Vec<Mend>,
}

/// Something that was mended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mend {
    /// Of the rule that was broken.
    pub id: &'static str,
    /// `resources[0].providers[0].aescbc.keys[0].secret`
    pub path: String,
    /// One sentence, lower case, without secrets.
    pub what: String,
}

/// A mend and its changes of the text.
type Attempt = (Mend, Vec<Splice>);

/// Mends a file, also one that the server rejects:
///
/// * a kind of old becomes today's, also where kind and apiVersion do not belong together;
/// * blanks and tabs go out of the base64 of keys;
/// * a wildcard in a list with what it includes gets an entry of its own, with the same providers;
/// * entries move so that no wildcard hides what comes after it.
pub fn fix(source: &[u8], server: &Server) -> Fixed {
    const MOST: usize = 1000;

    let mut fixed = Fixed {
        bytes: SecretBytes::new(source.to_vec()),
        mended: Vec::new(),
    };
    while fixed.mended.len() < MOST {
        let Some((mend, bytes)) = mend_once(fixed.bytes.expose(), server) else {
            break;
        };
        fixed.bytes = bytes;
        fixed.mended.push(mend);
    }
    fixed
}

fn mend_once(source: &[u8], server: &Server) -> Option<(Mend, SecretBytes)> {
    if source.len() > MAX_BYTES {
        return None;
    }
    let (tree, is_json) = edit::read_tree(source)?;
    let text = Source::new(source, &tree, is_json);
    let file = File {
        tree: &tree,
        text: &text,
    };
    if let Some((mend, splices)) = file.kind() {
        return Some((mend, text.apply(splices).into_secret()));
    }
    let before = judge(source, server);
    if !matches!(before.stage, Stage::Validate | Stage::Load) {
        return None;
    }
    let count = |judgement: &super::judge::Judgement| {
        let mut count: HashMap<&str, usize> = HashMap::new();
        for finding in &judgement.findings {
            *count.entry(finding.id).or_default() += 1;
        }
        count
    };
    let had = count(&before);
    let attempts = [file.blanks(), file.overlap(), file.order()];
    attempts.into_iter().flatten().find_map(|(mend, splices)| {
        let bytes = text.apply(splices).into_secret();
        let after = judge(bytes.expose(), server);
        // Only the loader's findings may come up anew: before they were not looked for.
        let is_new = |(id, count): (&&str, &usize)| {
            had.get(id).unwrap_or(&0) < count && before.stage == after.stage
        };
        let is_decoded = !matches!(after.stage, Stage::Decode | Stage::Empty);
        let is_further = before.stage != Stage::Load || after.stage != Stage::Validate;
        let is_better = is_decoded && is_further && !count(&after).iter().any(is_new);
        is_better.then_some((mend, bytes))
    })
}

struct File<'a> {
    tree: &'a Tree,
    text: &'a Source<'a>,
}

impl File<'_> {
    fn kind(&self) -> Option<Attempt> {
        const KIND: &str = "EncryptionConfiguration";
        const VERSION: &str = "apiserver.config.k8s.io/v1";

        let root = self.tree.root?;
        let (kind, version) = (self.field(root, "kind")?, self.field(root, "apiVersion")?);
        let now = (self.string(kind)?, self.string(version)?);
        let is_known =
            matches!(now.0, KIND | "EncryptionConfig") && matches!(now.1, VERSION | "v1");
        if !is_known || now == (KIND, VERSION) {
            return None;
        }
        let wanted = [(version, now.1, VERSION), (kind, now.0, KIND)];
        let splices = wanted.iter().filter(|(_, now, wanted)| now != wanted);
        let splices = splices.map(|(id, _, wanted)| {
            let form = Form::Text(Text::new((*wanted).to_owned()));
            self.text.replace(*id, &form).ok()
        });
        let is_old = now == ("EncryptionConfig", "v1");
        let mend = Mend {
            id: if is_old {
                ids::OLD_KIND.id
            } else {
                ids::NOT_THIS_KIND.id
            },
            path: "kind".to_owned(),
            what: format!("wrote apiVersion {VERSION} and kind {KIND}"),
        };
        Some((mend, splices.collect::<Option<_>>()?))
    }

    fn blanks(&self) -> Option<Attempt> {
        let (_, entries) = self.entries()?;
        for (i, entry) in entries.iter().enumerate() {
            let providers = self.field(*entry, "providers").map(|id| self.items(id));
            for (j, provider) in providers.unwrap_or_default().iter().enumerate() {
                for kind in ["aescbc", "aesgcm", "secretbox"] {
                    let keys = self
                        .field(*provider, kind)
                        .and_then(|id| self.field(id, "keys"))
                        .map(|id| self.items(id));
                    for (k, key) in keys.unwrap_or_default().iter().enumerate() {
                        let Some(splice) = self.without_blanks(*key) else {
                            continue;
                        };
                        let mend = Mend {
                            id: ids::NOT_BASE64.id,
                            path: format!("resources[{i}].providers[{j}].{kind}.keys[{k}].secret"),
                            what: "took blanks out of the base64".to_owned(),
                        };
                        return Some((mend, vec![splice]));
                    }
                }
            }
        }
        None
    }

    fn without_blanks(&self, key: NodeId) -> Option<Splice> {
        let secret = self.field(key, "secret")?;
        let text = self.tree.text(secret)?;
        if dialect::base64(text.expose()).is_some() {
            return None;
        }
        let mut bare = String::with_capacity(text.expose().len());
        bare.extend(text.expose().chars().filter(|it| !it.is_whitespace()));
        let bare = Text::new(bare);
        let is_key = matches!(dialect::base64(bare.expose())?.len(), 16 | 24 | 32);
        let splice = is_key.then(|| self.text.replace(secret, &Form::Text(bare)));
        splice?.ok()
    }

    fn overlap(&self) -> Option<Attempt> {
        let (list, entries) = self.entries()?;
        for (i, entry) in entries.iter().enumerate() {
            let resources = self.field(*entry, "resources")?;
            let names = self.names(*entry)?;
            let overlaps = |wildcard: &GroupResource| {
                let others = names.iter().filter(|name| *name != wildcard);
                let once = names.iter().filter(|name| *name == wildcard).count() == 1;
                once && others.clone().any(|name| wildcard.includes(name))
            };
            // The widest first: what is left may overlap again, and goes before it.
            let narrow = names.iter().filter(|name| name.group != "*");
            let wide = names.iter().filter(|name| name.group == "*");
            let Some(wildcard) = wide.chain(narrow).find(|it| overlaps(it)) else {
                continue;
            };
            let only = |keep: bool| {
                let kept = (0..names.len()).filter(|at| (names[*at] == *wildcard) == keep);
                let slots = kept.map(|at| Slot::Old(at, Vec::new())).collect();
                self.text.rearrange(resources, slots).ok()
            };
            let mut slots: Vec<_> = (0..entries.len())
                .map(|at| Slot::Old(at, Vec::new()))
                .collect();
            slots[i] = Slot::Old(i, only(false)?);
            slots.insert(i + 1, Slot::Old(i, only(true)?));
            let mend = Mend {
                id: ids::OVERLAP.id,
                path: format!("resources[{i}].resources"),
                what: format!("gave {} an entry of its own", shown(wildcard)),
            };
            return Some((mend, self.text.rearrange(list, slots).ok()?));
        }
        None
    }

    fn order(&self) -> Option<Attempt> {
        let (list, entries) = self.entries()?;
        let names: Option<Vec<_>> = entries.iter().map(|entry| self.names(*entry)).collect();
        let names = names?;
        let hides = |a: usize, b: usize| {
            let hidden = |wildcard: &GroupResource| names[b].iter().any(|it| wildcard.includes(it));
            names[a].iter().any(hidden)
        };
        // Where the same name is in two entries, the first one writes: they keep their order.
        let is_bound = |a: usize, b: usize| names[a].iter().any(|name| names[b].contains(name));
        let mut order = Vec::new();
        let mut left: Vec<usize> = (0..names.len()).collect();
        while !left.is_empty() {
            let is_next = |at: &&usize| {
                left.iter().all(|other| {
                    other == *at || !(hides(**at, *other) || other < *at && is_bound(*other, **at))
                })
            };
            let next = *left.iter().find(is_next)?;
            left.retain(|at| *at != next);
            order.push(next);
        }
        let first = order.iter().enumerate().find(|(at, old)| at < *old)?;
        let moved = *first.1;
        let wildcards = names[..moved].iter().flatten();
        let wildcard = wildcards
            .filter(|wildcard| names[moved].iter().any(|name| wildcard.includes(name)))
            .map(shown)
            .next()
            .unwrap_or_default();
        let mend = Mend {
            id: ids::MASKED.id,
            path: format!("resources[{moved}]"),
            what: format!("moved this entry before that of {wildcard}"),
        };
        let slots = order.iter().map(|at| Slot::Old(*at, Vec::new())).collect();
        Some((mend, self.text.rearrange(list, slots).ok()?))
    }

    /// The list of entries, as far as it is written where it belongs.
    fn entries(&self) -> Option<(NodeId, &[NodeId])> {
        let list = self.field(self.tree.root?, "resources")?;
        match &self.tree.node(list).value {
            Value::List(items) => Some((list, items)),
            _ => None,
        }
    }

    fn names(&self, entry: NodeId) -> Option<Vec<GroupResource>> {
        let resources = self.field(entry, "resources")?;
        let name = |id: &NodeId| self.string(*id).map(GroupResource::parse);
        self.items(resources).iter().map(name).collect()
    }

    fn items(&self, id: NodeId) -> &[NodeId] {
        match self.tree.value(id) {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// The last field of the name.
    fn field(&self, id: NodeId, name: &str) -> Option<NodeId> {
        let Value::Map(pairs) = self.tree.value(id) else {
            return None;
        };
        let pairs = self.tree.pairs(pairs).into_iter().rev();
        let mut named = pairs.filter(|pair| self.string(pair.key) == Some(name));
        named.next().map(|pair| pair.value)
    }

    fn string(&self, id: NodeId) -> Option<&str> {
        self.tree.text(id).map(Text::expose)
    }
}

/// As it is written in a file.
fn shown(wildcard: &GroupResource) -> String {
    quote(&format!("*.{}", wildcard.group))
}
