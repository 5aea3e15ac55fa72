//! What an API server's counters say of values that it was made to read.
//!
//! kube-apiserver counts each value that it reads by the prefixes that it found in front of it
//! (`k8s.io/apiserver` `pkg/storage/value/transformer.go`, `metrics.go`): a value of a local provider
//! under the provider's prefix and once more under the key's name, plaintext under `identity`. Of KMS
//! v2 the key_id is counted apart, by its hash and for all resources in one
//! (`pkg/storage/value/encrypt/envelope/metrics`).

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::stored_value::Form;

/// What wrote a value, as far as counters tell.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Writer {
    /// Nothing encrypted it.
    Identity,
    /// A local provider's key or a KMS v1 plugin.
    Named {
        /// The provider.
        form: Form,
        /// The key's or the plugin's name.
        name: String,
    },
    /// A KMS v2 plugin.
    Kms2 {
        /// The provider's name.
        name: String,
        /// `sha256:` and the hash of the key_id.
        key_id_hash: String,
    },
}

/// How far the counters of one API server moved while it was made to read values of one resource.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Reads {
    /// Values read, by `transformer_prefix`.
    pub prefixes: BTreeMap<String, u64>,
    /// Of KMS v2, for all resources: by the provider's name and the key_id's hash.
    pub key_ids: BTreeMap<(String, String), u64>,
}

/// What the counters say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Tally {
    /// Every value that was asked for was read, and nobody else read any: how many are whose.
    Exact(BTreeMap<Writer, u64>),
    /// Some were not read by this process, or not from etcd.
    Fewer,
    /// Others read meanwhile, and which of the counted values are theirs is not known. What was asked
    /// for may as well have been read elsewhere.
    More,
}

impl Reads {
    /// What they say of `count` values that were asked for. `is_configured` tells whether a name that
    /// two providers could have is a key of the provider.
    pub fn tally(&self, count: u64, is_configured: impl Fn(Form, &str) -> bool) -> Tally {
        let is_outer = |prefix: &str| prefix == "identity" || prefix.starts_with("k8s:enc:");
        let outer = self.prefixes.iter().filter(|it| is_outer(it.0));
        let writers = self.writers(is_configured);
        match sum(outer.map(|it| it.1)).cmp(&count) {
            Ordering::Less => Tally::Fewer,
            Ordering::Equal if sum(writers.values()) == count => Tally::Exact(writers),
            _ => Tally::More,
        }
    }

    /// What each has written at most of what was read.
    fn writers(&self, is_configured: impl Fn(Form, &str) -> bool) -> BTreeMap<Writer, u64> {
        let mut writers = BTreeMap::new();
        let mut providers = Vec::new();
        let mut keys = Vec::new();
        for (prefix, count) in &self.prefixes {
            let count = *count;
            let Some(encrypted) = prefix.strip_prefix("k8s:enc:") else {
                match (prefix.as_str(), prefix.strip_suffix(':')) {
                    ("identity", _) => _ = writers.insert(Writer::Identity, count),
                    (_, Some(name)) => keys.push((name, count)),
                    _ => {}
                }
                continue;
            };
            let plugin = |version| encrypted.strip_prefix(version)?.strip_suffix(':');
            if let Some(name) = plugin("kms:v2:") {
                let of_it = self.key_ids.iter().filter(|it| it.0.0 == name);
                writers.extend(of_it.map(|((_, hash), of_all)| {
                    let writer = Writer::Kms2 {
                        name: name.into(),
                        key_id_hash: hash.clone(),
                    };
                    (writer, count.min(*of_all))
                }));
            } else if let Some(name) = plugin("kms:v1:") {
                let (form, name) = (Form::Kms1, name.into());
                writers.insert(Writer::Named { form, name }, count);
            } else {
                let locals = [Form::AesCbc, Form::AesGcm, Form::Secretbox];
                let is_it = |form: &Form| encrypted.strip_prefix(form.name()) == Some(":v1:");
                providers.extend(locals.into_iter().find(is_it).map(|form| (form, count)));
            }
        }
        for (name, read_by_key) in keys {
            // A name that is no key of any of them is of another configuration: it may be any's.
            let is_foreign = !providers.iter().any(|it| is_configured(it.0, name));
            for (form, read_by_provider) in &providers {
                if is_foreign || is_configured(*form, name) {
                    let (form, name) = (*form, name.into());
                    let count = read_by_key.min(*read_by_provider);
                    writers.insert(Writer::Named { form, name }, count);
                }
            }
        }
        writers.retain(|_, count| *count > 0);
        writers
    }
}

fn sum<'a>(counts: impl Iterator<Item = &'a u64>) -> u64 {
    counts.fold(0, |sum, count| sum.saturating_add(*count))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRETBOX: &str = "k8s:enc:secretbox:v1:";
    const AESCBC: &str = "k8s:enc:aescbc:v1:";

    fn reads<const N: usize>(prefixes: [(&str, u64); N]) -> Reads {
        Reads {
            prefixes: prefixes
                .map(|(prefix, count)| (prefix.into(), count))
                .into(),
            key_ids: BTreeMap::new(),
        }
    }

    fn named(form: Form, name: &str) -> Writer {
        let name = name.into();
        Writer::Named { form, name }
    }

    fn secretbox_has_all(form: Form, _: &str) -> bool {
        form == Form::Secretbox
    }

    #[test]
    fn where_nobody_else_reads_every_value_has_its_writer() {
        let reads = reads([(SECRETBOX, 7), ("new:", 5), ("old:er:", 2), ("identity", 3)]);
        let expected = [
            (named(Form::Secretbox, "new"), 5),
            (named(Form::Secretbox, "old:er"), 2),
            (Writer::Identity, 3),
        ];
        let tally = |count| reads.tally(count, secretbox_has_all);
        assert_eq!(tally(10), Tally::Exact(expected.into()));
        assert_eq!((tally(9), tally(11)), (Tally::More, Tally::Fewer));
    }

    #[test]
    fn counters_that_do_not_add_up_are_not_believed() {
        for odd in [
            reads([(SECRETBOX, 10)]),
            reads([(SECRETBOX, 10), ("new:", 9)]),
            reads([(SECRETBOX, 10), ("new:", 10), ("old:", 10)]),
            reads([("k8s:enc:kms:v2:plug:", 10)]),
            reads([("k8s:enc:rot13:v1:", 10)]),
        ] {
            assert_eq!(odd.tally(10, secretbox_has_all), Tally::More, "{odd:?}");
        }
        for nothing in [reads([]), reads([("new:", 10)])] {
            assert_eq!(nothing.tally(10, secretbox_has_all), Tally::Fewer);
        }
        let none = reads([]).tally(0, secretbox_has_all);
        assert_eq!(none, Tally::Exact(BTreeMap::new()));
    }

    #[test]
    fn a_name_of_two_providers_is_of_the_one_that_read() {
        let moved = reads([(AESCBC, 4), (SECRETBOX, 6), ("key:", 10)]);
        let both = [
            (named(Form::AesCbc, "key"), 4),
            (named(Form::Secretbox, "key"), 6),
        ];
        let both = Tally::Exact(both.into());
        assert_eq!(moved.tally(10, |_, _| true), both);
        // A configuration that is not the server's: it may be either's.
        assert_eq!(moved.tally(10, |_, _| false), both);
        // One that has it once.
        assert_eq!(moved.tally(10, secretbox_has_all), Tally::More);
    }

    #[test]
    fn key_ids_are_counted_for_all_resources() {
        let mut moved = reads([("k8s:enc:kms:v2:plug:", 10), ("k8s:enc:kms:v1:old:", 1)]);
        let of = |name: &str, hash: &str| (name.to_owned(), hash.to_owned());
        moved.key_ids = [(of("plug", "sha256:a"), 300), (of("other", "sha256:b"), 5)].into();
        let current = Writer::Kms2 {
            name: "plug".into(),
            key_id_hash: "sha256:a".into(),
        };
        let expected = [(current, 10), (named(Form::Kms1, "old"), 1)];
        assert_eq!(moved.tally(11, |_, _| true), Tally::Exact(expected.into()));
        // Something was read under another key_id, be it another resource's.
        moved.key_ids.insert(of("plug", "sha256:c"), 2);
        assert_eq!(moved.tally(11, |_, _| true), Tally::More);
    }
}
