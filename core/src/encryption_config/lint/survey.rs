//! A decoded file as the lints look at it: each entry's chain, link by link.

use std::collections::HashMap;

use super::super::decode::{At, Draft, Element, Entry, NamedKey, Plugin};
use super::super::dialect;
use super::super::fields::{reads_as_key_name, reads_as_name};
use super::super::finding::{Place, quote};
use super::super::rules::{EVERYTHING, GroupResource, group_resource};
use super::super::tree::Text;
use crate::secret::{Fingerprint, SecretBytes};

pub(super) const SECRETS: GroupResource<'static> = ("", "secrets");

/// The form in which the file names a resource.
pub(super) fn name_of((group, resource): GroupResource<'_>) -> String {
    match (group, resource) {
        ("", "*") => "*.".to_owned(),
        ("", _) => resource.to_owned(),
        _ => format!("{resource}.{group}"),
    }
}

/// The file.
pub(super) struct Survey<'a> {
    pub(super) place: Place,
    pub(super) entries: Vec<Surveyed<'a>>,
    /// The entries that name a resource or wildcard, in order.
    named: HashMap<GroupResource<'a>, Vec<usize>>,
}

/// `resources[i]`
pub(super) struct Surveyed<'a> {
    pub(super) entry: &'a Entry,
    /// Empty where the server finds fault with the providers: then nothing can be said.
    pub(super) chain: Vec<Link<'a>>,
}

/// A provider, and one key of it where it has keys.
pub(super) struct Link<'a> {
    entry: usize,
    element: usize,
    index: usize,
    pub(super) place: Place,
    pub(super) what: What<'a>,
}

pub(super) enum What<'a> {
    Identity,
    Kms(&'a Plugin),
    Key(Cipher, &'a NamedKey, SecretBytes, Fingerprint),
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Cipher {
    AesCbc,
    AesGcm,
    Secretbox,
}

impl Cipher {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::AesCbc => "aescbc",
            Self::AesGcm => "aesgcm",
            Self::Secretbox => "secretbox",
        }
    }
}

/// What makes two links read the same values.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Same<'a> {
    Identity,
    /// Version and name.
    Kms(&'a str, &'a str),
    Key(Cipher, &'a str, Fingerprint),
}

impl<'a> Link<'a> {
    pub(super) fn same(&self) -> Same<'a> {
        match &self.what {
            What::Identity => Same::Identity,
            What::Kms(plugin) => Same::Kms(text(&plugin.api_version), text(&plugin.name)),
            What::Key(cipher, key, _, fingerprint) => {
                Same::Key(*cipher, text(&key.name), *fingerprint)
            }
        }
    }

    pub(super) fn is_identity(&self) -> bool {
        matches!(self.what, What::Identity)
    }

    /// `resources[0].providers[1].aescbc.keys[0]`; of identity that of its element.
    pub(super) fn path(&self) -> String {
        let path = format!("resources[{}].providers[{}]", self.entry, self.element);
        match &self.what {
            What::Identity => path,
            What::Kms(_) => path + ".kms",
            What::Key(cipher, ..) => format!("{path}.{}.keys[{}]", cipher.name(), self.index),
        }
    }

    /// `aescbc key "key1"`, for a sentence.
    pub(super) fn words(&self) -> String {
        match &self.what {
            What::Identity => "identity".to_owned(),
            What::Kms(plugin) => format!("kms {}", quote(text(&plugin.name))),
            What::Key(cipher, key, ..) => {
                format!("{} key {}", cipher.name(), shown_key(text(&key.name)))
            }
        }
    }
}

impl<'a> Survey<'a> {
    pub(super) fn of(draft: &'a Draft) -> Self {
        let mut named: HashMap<_, Vec<usize>> = HashMap::new();
        let mut entries = Vec::new();
        for (i, entry) in draft.entries.iter().enumerate() {
            for resource in entry.resources.iter() {
                let entries = named.entry(group_resource(text(resource))).or_default();
                if entries.last() != Some(&i) {
                    entries.push(i);
                }
            }
            let elements = entry.providers.iter().enumerate();
            let chain: Option<Vec<_>> = elements.map(|(j, element)| links(i, j, element)).collect();
            entries.push(Surveyed {
                entry,
                chain: chain.into_iter().flatten().flatten().collect(),
            });
        }
        Self {
            place: draft.place,
            entries,
            named,
        }
    }

    /// All links of the file.
    pub(super) fn links(&self) -> impl Iterator<Item = &Link<'a>> {
        self.entries.iter().flat_map(|entry| &entry.chain)
    }

    /// The plugins of the file with their paths, also those in elements with which the server
    /// finds fault.
    pub(super) fn plugins(&self) -> impl Iterator<Item = (String, &'a Plugin)> {
        let entries = self.entries.iter().enumerate();
        entries.flat_map(|(i, surveyed)| {
            let elements = surveyed.entry.providers.iter().enumerate();
            elements.filter_map(move |(j, element)| {
                let path = format!("resources[{i}].providers[{j}].kms");
                Some((path, element.kms.as_ref()?))
            })
        })
    }

    /// The entries that name exactly this resource or wildcard.
    pub(super) fn naming<'s>(&'s self, resource: GroupResource<'s>) -> &'s [usize] {
        self.named.get(&resource).map_or(&[], Vec::as_slice)
    }

    /// The entries whose providers a resource has: those that name it, else its group's wildcard,
    /// else everything.
    pub(super) fn covering<'s>(&'s self, resource: GroupResource<'s>) -> &'s [usize] {
        [resource, (resource.0, "*"), EVERYTHING]
            .into_iter()
            .map(|candidate| self.naming(candidate))
            .find(|entries| !entries.is_empty())
            .unwrap_or_default()
    }

    /// Whether an entry's first provider writes any resource: of a resource that several entries
    /// name, the first entry's does.
    pub(super) fn writes(&self, entry: usize) -> bool {
        let names = self.entries[entry].entry.resources.iter();
        names
            .map(|at| self.naming(group_resource(text(at))))
            .any(|entries| entries.first() == Some(&entry))
    }

    /// The chain of a resource; empty where it is covered by nothing, or by what the server
    /// refuses.
    pub(super) fn chain<'s>(&'s self, resource: GroupResource<'s>) -> Vec<&'s Link<'a>> {
        let covering = self.covering(resource);
        covering
            .iter()
            .flat_map(|entry| &self.entries[*entry].chain)
            .collect()
    }

    /// Every name of a resource that the file has.
    pub(super) fn names(&self) -> impl Iterator<Item = GroupResource<'a>> {
        self.named.keys().copied()
    }
}

/// `None` where the server finds fault.
fn links(entry: usize, element: usize, provider: &Element) -> Option<Vec<Link<'_>>> {
    let link = |index, place, what| Link {
        entry,
        element,
        index,
        place,
        what,
    };
    let keys = [
        (Cipher::AesGcm, &provider.aesgcm),
        (Cipher::AesCbc, &provider.aescbc),
        (Cipher::Secretbox, &provider.secretbox),
    ];
    let mut set = keys
        .iter()
        .filter_map(|(cipher, keys)| Some((*cipher, keys.as_ref()?)));
    match (provider.identity, &provider.kms, set.next(), set.next()) {
        (true, None, None, None) => Some(vec![link(0, provider.place, What::Identity)]),
        (false, Some(plugin), None, None) => Some(vec![link(0, plugin.place, What::Kms(plugin))]),
        (false, None, Some((cipher, keys)), None) if !keys.value.is_empty() => {
            let mut links = Vec::new();
            for (index, key) in keys.value.iter().enumerate() {
                let bytes = dialect::base64(text(&key.secret)).filter(|bytes| !bytes.is_empty())?;
                let fingerprint = bytes.fingerprint();
                let what = What::Key(cipher, key, bytes, fingerprint);
                links.push(link(index, key.name.place, what));
            }
            Some(links)
        }
        _ => None,
    }
}

pub(super) fn text(at: &At<Text>) -> &str {
    at.value.expose()
}

const NOT_SHOWN: &str = "(a name that is not shown, as it looks like a key)";

/// A name in quotes, unless it may be a key in the wrong place.
pub(super) fn shown(name: &str) -> String {
    match reads_as_name(name) {
        true => quote(name),
        false => NOT_SHOWN.to_owned(),
    }
}

/// The name of a key, unless it may be the key itself, or a passphrase.
pub(super) fn shown_key(name: &str) -> String {
    match reads_as_key_name(name) {
        true => quote(name),
        false => NOT_SHOWN.to_owned(),
    }
}

/// The base64 of 16, 24 or 32 bytes, or their hex.
pub(super) fn looks_like_a_key(name: &str) -> bool {
    let is_padded = matches!(
        (name.len(), name.trim_end_matches('=').len()),
        (24, 22) | (44, 43)
    );
    let has = |class: fn(&u8) -> bool| name.bytes().filter(class).count();
    let is_mixed = has(u8::is_ascii_uppercase) > 2
        && has(u8::is_ascii_lowercase) > 2
        && has(u8::is_ascii_digit) > 0;
    let is_hex =
        matches!(name.len(), 32 | 48 | 64) && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex
        || (is_padded || name.len() == 32 && is_mixed)
            && dialect::base64(name).is_some_and(|bytes| matches!(bytes.len(), 16 | 24 | 32))
}

/// Up to three names, and how many more there are.
pub(super) fn listed<T: AsRef<str>>(names: &[T]) -> String {
    const MOST: usize = 3;
    let shown: Vec<_> = names
        .iter()
        .take(MOST)
        .map(|name| shown(name.as_ref()))
        .collect();
    match (shown.as_slice(), names.len().saturating_sub(MOST)) {
        ([], _) => "nothing".to_owned(),
        ([one], _) => one.clone(),
        ([before @ .., last], 0) => format!("{} and {last}", before.join(", ")),
        (all, more) => format!("{} and {more} more", all.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_key_is_not_shown_as_a_name() {
        for key in [
            "bm8ga2V5LCBidXQgYXMgbG9uZyBhcyBvbmUgaXMuLi4=",
            "MDEyMzQ1Njc4OWFiY2RlZg==",
            "Zm9ydHkgYml0cyBvZiBub3RoaW5nIG1v",
            "0123456789abcdef0123456789abcdef",
        ] {
            assert!(looks_like_a_key(key), "{key}");
            assert!(!shown(key).contains(key), "{key}");
        }
        for name in [
            "",
            "key1",
            "key-2026-07",
            "a-name-that-is-32-characters-long",
        ] {
            assert!(!looks_like_a_key(name), "{name}");
        }
    }

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(listed(&["a"]), "\"a\"");
        assert_eq!(listed(&["a", "b"]), "\"a\" and \"b\"");
        assert_eq!(
            listed(&["a", "b", "c", "d"]),
            "\"a\", \"b\", \"c\" and 1 more"
        );
    }
}
