//! Copies of values that are left in etcd's files: live ones, superseded revisions, and what free pages
//! and the write-ahead log still hold. A reader of etcd gets the first only; a thief of the disk gets
//! all of them.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use memchr::memmem;
use prost::encoding::{decode_varint, encode_varint};

use super::stored_value::{ENCRYPTED, Form, StoredValue, shortest_name};
use crate::encryption_config::{EncryptionConfiguration, KmsVersion, Provider};

/// Where a copy is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Part {
    /// The newest revision of a key, in the database.
    Live,
    /// An older revision, or one of a deleted key, until a compaction removes it.
    Superseded,
    /// A page that the database does not use any more, until it is written over or defragmented away.
    Freed,
    /// The write-ahead log, until its segments are removed.
    Log,
    /// Another file of the member: a snapshot from a leader, a defragmentation that was broken off.
    Other,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Live,
        Self::Superseded,
        Self::Freed,
        Self::Log,
        Self::Other,
    ];
}

/// How many copies there are of values that one key wrote.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Copies {
    /// As in [`super::Group`].
    pub provider: String,
    /// As in [`super::Group`]; of KMS v2 also `None` where the bytes that say so were written over.
    pub key: Option<String>,
    /// In the order of [`Part::ALL`].
    pub counts: [u64; Part::ALL.len()],
}

impl Copies {
    /// Copies in one part.
    pub fn count(&self, part: Part) -> u64 {
        self.counts[part as usize]
    }

    /// All that no reader of etcd gets.
    pub fn residue(&self) -> u64 {
        self.counts.iter().sum::<u64>() - self.count(Part::Live)
    }
}

/// Counts copies by the key that wrote them.
#[derive(Debug)]
pub struct Residue {
    /// The names of the configuration: they alone tell where a name with colons ends.
    names: Vec<(Form, String)>,
    /// Where plaintext is counted. What else is not encrypted was never meant to be.
    directories: Vec<Vec<u8>>,
    by_key: BTreeMap<(String, Option<String>), Copies>,
}

/// How far behind its first byte a value is looked at for its key_id: etcd takes 1.5 MiB.
pub const LOOKAHEAD: usize = 2 << 20;

/// How far in front of a window: what began there may go on in it.
pub const LOOKBEHIND: usize = LOOKAHEAD;

/// Kinds of keys that are told apart. There are a few; more are made up by whoever wrote the values.
const MAX_KEYS: usize = 1024;

const MAX_NAME: usize = 1024;

/// In front of the name of a KMS v2 provider.
const KMS2: &str = "kms:v2:";

/// Tags of the fields of an EncryptedObject.
const DATA: u8 = 0x0a;
const KEY_ID: u8 = 0x12;

impl Residue {
    /// Nothing yet. Plaintext is counted below `directories`.
    pub fn new(
        configuration: Option<&EncryptionConfiguration>,
        directories: impl IntoIterator<Item = Vec<u8>>,
    ) -> Self {
        let entries = configuration.map_or(&[][..], |it| &it.resources);
        let providers = entries.iter().flat_map(|entry| &entry.providers);
        let names = providers.flat_map(|provider| {
            let form = match provider {
                Provider::AesCbc(_) => Form::AesCbc,
                Provider::AesGcm(_) => Form::AesGcm,
                Provider::Secretbox(_) => Form::Secretbox,
                Provider::Kms(kms) if kms.api_version == KmsVersion::V1 => {
                    return vec![(Form::Kms1, kms.name.clone())];
                }
                Provider::Kms(_) | Provider::Identity => return Vec::new(),
            };
            let keys = provider.keys().iter();
            keys.map(|key| (form, key.name.clone())).collect()
        });
        Self {
            names: names.collect(),
            directories: directories.into_iter().collect(),
            by_key: BTreeMap::new(),
        }
    }

    /// By key, in the order of provider and name.
    pub fn copies(&self) -> impl Iterator<Item = &Copies> {
        self.by_key.values()
    }

    /// Counts a row of the database.
    pub fn add(&mut self, part: Part, storage_key: &[u8], value: &[u8]) {
        if value.starts_with(ENCRYPTED) {
            self.count(part, value);
        } else if self
            .directories
            .iter()
            .any(|it| storage_key.starts_with(it))
        {
            self.increment(part, "identity".into(), None);
        }
    }

    /// Counts what begins within `range` of bytes that no structure leads to.
    pub fn scan(&mut self, part: Part, bytes: &[u8], range: Range<usize>) {
        let within = |needle: &[u8]| {
            let end = (range.end + needle.len())
                .saturating_sub(1)
                .min(bytes.len());
            let places: Vec<_> = memmem::find_iter(&bytes[range.start..end], needle).collect();
            places.into_iter().map(|place| range.start + place)
        };
        // Those that began in front of the range were counted, and may have their key_id in it.
        let heads = memmem::find_iter(&bytes[..range.end.min(bytes.len())], ENCRYPTED);
        let key_id = |at: usize| Some(at + head_of_kms2(&bytes[at..])?.key_id?.0);
        let key_ids: HashSet<usize> = heads.filter_map(key_id).collect();
        for at in within(ENCRYPTED) {
            let end = bytes.len().min(at + LOOKAHEAD);
            self.count(part, &bytes[at..end]);
        }
        // Values whose head was written over, and whose key_id was not.
        let known = self.by_key.keys().cloned();
        let known: Vec<_> = known
            .filter(|(provider, _)| provider.starts_with(KMS2))
            .collect();
        for (provider, key) in known {
            let Some(id) = &key else {
                continue;
            };
            let mut needle = vec![KEY_ID];
            encode_varint(id.len() as u64, &mut needle);
            let tag = needle.len();
            needle.extend(id.as_bytes());
            let fragments = within(&needle).filter(|at| !key_ids.contains(&(at + tag)));
            for _ in 0..fragments.count() {
                self.increment(part, provider.clone(), key.clone());
            }
        }
        let places: Vec<_> = self.directories.iter().flat_map(|it| within(it)).collect();
        for at in places {
            if value_of_pair(bytes, at).is_some_and(is_object) {
                self.increment(part, "identity".into(), None);
            }
        }
    }

    fn count(&mut self, part: Part, value: &[u8]) {
        let (provider, key) = self.key(value);
        self.increment(part, provider, key);
    }

    fn key(&self, value: &[u8]) -> (String, Option<String>) {
        let unknown = ("unknown".to_owned(), None);
        if let Some(head) = head_of_kms2(value) {
            let key_id = head.key_id.map(|(_, id)| id.to_owned());
            return (format!("{KMS2}{}", head.provider), key_id);
        }
        // The names are in front of the rest.
        let value = &value[..value.len().min(2 * MAX_NAME)];
        match StoredValue::parse(value) {
            StoredValue::Named {
                form,
                name_and_body,
            } => {
                let known = self.names.iter().filter(|(of, name)| {
                    let rest = name_and_body.strip_prefix(name.as_bytes());
                    *of == form && rest.is_some_and(|rest| rest.starts_with(b":"))
                });
                let longest = known.max_by_key(|(_, name)| name.len());
                let head = &name_and_body[..name_and_body.len().min(MAX_NAME)];
                let name = longest
                    .map(|it| it.1.clone())
                    .or_else(|| shortest_name(head));
                match (name, form) {
                    (None, _) => unknown,
                    (Some(name), Form::Kms1) => (format!("kms:v1:{name}"), None),
                    (Some(name), local) => (local.name().into(), Some(name)),
                }
            }
            _ => unknown,
        }
    }

    fn increment(&mut self, part: Part, provider: String, key: Option<String>) {
        let mut name = (provider, key);
        if self.by_key.len() >= MAX_KEYS && !self.by_key.contains_key(&name) {
            name = ("unknown".into(), None);
        }
        let copies = self.by_key.entry(name).or_insert_with_key(|name| Copies {
            provider: name.0.clone(),
            key: name.1.clone(),
            counts: Default::default(),
        });
        copies.counts[part as usize] += 1;
    }
}

/// What a KMS v2 value says of its key, as far as its bytes go.
struct Head<'a> {
    provider: &'a str,
    /// Where its bytes are, and what they say.
    key_id: Option<(usize, &'a str)>,
}

/// Reads a KMS v2 value that may be cut off, and that may have other bytes behind it.
fn head_of_kms2(value: &[u8]) -> Option<Head<'_>> {
    let rest = value.strip_prefix(ENCRYPTED)?.strip_prefix(b"kms:v2:")?;
    let head = &rest[..rest.len().min(MAX_NAME)];
    let colon = head.iter().position(|byte| *byte == b':')?;
    let provider = std::str::from_utf8(&head[..colon]).ok()?;
    // Field 1 holds the data, field 2 the key_id.
    let mut rest = rest[colon + 1..].strip_prefix(&[DATA])?;
    let mut field = || {
        let length = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
        let start = value.len() - rest.len();
        let (field, behind) = rest.split_at_checked(length)?;
        rest = behind.strip_prefix(&[KEY_ID]).unwrap_or_default();
        Some((start, field))
    };
    let key_id = field().and_then(|_data| field());
    let key_id = key_id.filter(|(_, it)| (1..=MAX_NAME).contains(&it.len()));
    let key_id = key_id.and_then(|(at, it)| Some((at, std::str::from_utf8(it).ok()?)));
    Some(Head { provider, key_id })
}

/// The value of the `KeyValue` or `PutRequest` whose key begins at `at`.
fn value_of_pair(bytes: &[u8], at: usize) -> Option<&[u8]> {
    const KEY: u8 = 0x0a;

    // A tag, a length of one byte or two, the key.
    let length = match bytes[at.checked_sub(3)?..at] {
        [_, KEY, length] if length < 0x80 => usize::from(length),
        [KEY, low, high] if low >= 0x80 && high < 0x80 => {
            usize::from(low & 0x7f) | usize::from(high) << 7
        }
        _ => return None,
    };
    let mut rest = bytes.get(at.checked_add(length)?..)?;
    loop {
        match decode_varint(&mut rest).ok()? {
            // The revisions and the version of a KeyValue.
            0x10 | 0x18 | 0x20 => decode_varint(&mut rest).ok()?,
            // Its value, or that of a PutRequest.
            0x2a | 0x12 => {
                decode_varint(&mut rest).ok()?;
                return Some(rest);
            }
            _ => return None,
        };
    }
}

fn is_object(value: &[u8]) -> bool {
    value.starts_with(b"k8s\0") || value.starts_with(b"{")
}

#[cfg(test)]
mod tests {
    use atrest_proto::etcdserverpb::PutRequest;
    use atrest_proto::mvccpb::KeyValue;
    use atrest_proto::stored::EncryptedObject;
    use prost::Message;

    use super::*;

    fn residue() -> Residue {
        Residue::new(None, [b"/registry/secrets/".to_vec()])
    }

    fn found(residue: &Residue) -> Vec<(String, Option<&str>, u64)> {
        let copies = residue.copies();
        copies
            .map(|it| (it.provider.clone(), it.key.as_deref(), it.residue()))
            .collect()
    }

    #[test]
    fn values_are_found_among_other_bytes_once_each() {
        let kms = EncryptedObject {
            encrypted_data: vec![7; 300],
            key_id: "id-1".into(),
            encrypted_dek_source: vec![8; 60],
            ..EncryptedObject::default()
        };
        let kms = [&b"k8s:enc:kms:v2:plug:"[..], &kms.encode_to_vec()].concat();
        let pair = |value: &[u8]| KeyValue {
            key: b"/registry/secrets/default/a".to_vec(),
            create_revision: 2,
            mod_revision: 300,
            version: 4,
            value: value.to_vec(),
            lease: 5,
        };
        let put = PutRequest {
            key: [&b"/registry/secrets/"[..], &[b'n'; 120]].concat(),
            value: b"{\"kind\":\"Secret\"}".to_vec(),
            ..PutRequest::default()
        };
        let bytes = [
            &b"zzzz"[..],
            &pair(&kms).encode_to_vec(),
            &pair(b"k8s:enc:secretbox:v1:old:body").encode_to_vec(),
            &pair(b"k8s\0object").encode_to_vec(),
            &put.encode_to_vec(),
            b"/registry/secrets/default/a",
            &kms[..100],
            // The end of a value whose head is gone.
            &kms[200..],
        ]
        .concat();
        let mut whole = residue();
        whole.scan(Part::Freed, &bytes, 0..bytes.len());
        let expected = [
            ("identity".to_owned(), None, 2),
            ("kms:v2:plug".to_owned(), None, 1),
            ("kms:v2:plug".to_owned(), Some("id-1"), 2),
            ("secretbox".to_owned(), Some("old"), 1),
        ];
        assert_eq!(found(&whole), expected);
        for cut in 0..=bytes.len() {
            let mut halves = residue();
            halves.scan(Part::Freed, &bytes, 0..cut);
            halves.scan(Part::Freed, &bytes, cut..bytes.len());
            assert_eq!(found(&halves), expected, "{cut}");
        }
    }

    #[test]
    fn plaintext_counts_where_it_was_to_be_encrypted() {
        let mut residue = residue();
        residue.add(Part::Live, b"/registry/secrets/a/b", b"k8s\0");
        residue.add(Part::Superseded, b"/registry/secrets/a/b", b"k8s\0");
        residue.add(Part::Superseded, b"/registry/pods/a/b", b"k8s\0");
        residue.add(Part::Superseded, b"/registry/pods/a/b", b"k8s:enc:x");
        let identity = residue.copies().next().unwrap();
        assert_eq!(identity.counts, [1, 1, 0, 0, 0]);
        assert_eq!(residue.copies().count(), 2);
    }

    #[test]
    fn made_up_names_do_not_fill_the_memory() {
        let mut residue = residue();
        for number in 0..3000 {
            let value = format!("k8s:enc:aesgcm:v1:{number}:");
            residue.scan(Part::Log, value.as_bytes(), 0..value.len());
        }
        assert!(residue.by_key.len() <= MAX_KEYS + 1);
        let all: u64 = residue.copies().map(Copies::residue).sum();
        assert_eq!(all, 3000);
    }
}
