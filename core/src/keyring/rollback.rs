//! Signs that a keyring file is older than what was in use: something names its keyring with a
//! generation that it does not have.
//!
//! A file that was restored from a backup decrypts what it can. It must not encrypt, and mint no
//! number that is taken, before an operator confirmed that it is what is left.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Error, KeyId, Keyring, KeyringId, MAX_GENERATIONS};

/// The schema of a sign on disk.
pub const MARK_SCHEMA: &str = "atrest/keyring-mark/v1";

/// What named a generation.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum SignKind {
    /// kube-apiserver asked to decrypt something that was written with it.
    Decrypt,
    /// Another node's plugin has it.
    Peer,
    /// A Lease in the cluster has it in an annotation.
    Lease,
    /// A census of etcd counted values under it.
    Census,
}

impl fmt::Display for SignKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Decrypt => "a Decrypt call",
            Self::Peer => "another node's keyring",
            Self::Lease => "a Lease",
            Self::Census => "a census",
        })
    }
}

/// A generation of a keyring that something named.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sign {
    /// Whose.
    pub keyring: KeyringId,
    /// Its number.
    pub generation: u32,
    /// What named it.
    pub kind: SignKind,
    /// When that was seen.
    pub seen: Timestamp,
}

/// A document that was given as evidence is of another kind.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("it is not {0}")]
pub struct NotEvidence(pub &'static str);

impl Sign {
    /// The highest generation of a keyring that a document names, if it names any. The document has
    /// to be of the kind that is said: another node's `keyring list` or `keyring verify` as JSON, a
    /// Lease, a census.
    pub fn of(
        kind: SignKind,
        document: &Value,
        keyring: KeyringId,
        now: Timestamp,
    ) -> Result<Option<Self>, NotEvidence> {
        let schema = document["schema"].as_str().unwrap_or_default();
        match kind {
            SignKind::Peer if !schema.starts_with("atrest/keyring-") => {
                return Err(NotEvidence(
                    "what `atrest-kms keyring list --output json` prints",
                ));
            }
            SignKind::Census if schema != "atrest/verify/v1" => {
                return Err(NotEvidence("what `atrest verify --output json` prints"));
            }
            SignKind::Lease if !matches!(document["kind"].as_str(), Some("Lease" | "List")) => {
                return Err(NotEvidence("what `kubectl get lease --output json` prints"));
            }
            _ => {}
        }
        let highest = highest(document, keyring);
        Ok(highest.map(|generation| Self {
            keyring,
            generation,
            kind,
            seen: now,
        }))
    }

    /// As it is kept beside the keyring.
    pub fn to_mark(&self) -> String {
        let mark = Mark {
            schema: MARK_SCHEMA.to_owned(),
            keyring: self.keyring.to_string(),
            generation: self.generation,
            sign: self.kind,
            seen: self.seen.to_string(),
        };
        // Strings and a number: nothing that JSON could refuse.
        let mut text = serde_json::to_string_pretty(&mark).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Reads what [`Self::to_mark`] made.
    pub fn from_mark(text: &[u8]) -> Result<Self, Error> {
        let not_a_mark = || Error::invalid("mark", "it is not an atrest/keyring-mark/v1");
        let mark: Mark = serde_json::from_slice(text).map_err(|_| not_a_mark())?;
        if mark.schema != MARK_SCHEMA {
            return Err(not_a_mark());
        }
        Ok(Self {
            keyring: mark.keyring.parse().map_err(|_| not_a_mark())?,
            generation: mark.generation,
            kind: mark.sign,
            seen: mark.seen.parse().map_err(|_| not_a_mark())?,
        })
    }
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} named generation {}", self.kind, self.generation)
    }
}

#[derive(Deserialize, Serialize)]
struct Mark {
    schema: String,
    keyring: String,
    generation: u32,
    sign: SignKind,
    seen: String,
}

/// Looks at every string: a key_id cannot be taken for anything else.
fn highest(document: &Value, keyring: KeyringId) -> Option<u32> {
    match document {
        Value::String(text) => {
            let key_id: KeyId = text.parse().ok()?;
            (key_id.keyring() == keyring).then(|| key_id.generation())
        }
        Value::Array(values) => values.iter().filter_map(|it| highest(it, keyring)).max(),
        Value::Object(members) => members.values().filter_map(|it| highest(it, keyring)).max(),
        _ => None,
    }
}

impl Keyring {
    /// Whether something named a generation that was minted after this file was written. A number
    /// that no keyring reaches is no sign but an invention, which would stop every write.
    pub fn is_behind(&self, sign: &Sign) -> bool {
        sign.keyring == self.id
            && sign.generation > self.highest()
            && sign.generation - self.highest() <= MAX_GENERATIONS as u32
    }

    /// The sign that a name is, if it is one.
    pub fn sign_of(&self, key_id: &str, now: Timestamp) -> Option<Sign> {
        let key_id: KeyId = key_id.parse().ok()?;
        let sign = Sign {
            keyring: key_id.keyring(),
            generation: key_id.generation(),
            kind: SignKind::Decrypt,
            seen: now,
        };
        self.is_behind(&sign).then_some(sign)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn two() -> (Keyring, Keyring) {
        let old = Keyring::mint(NOW).unwrap();
        let mut new = old.clone();
        new.add(NOW).unwrap();
        (old, new)
    }

    #[test]
    fn each_of_the_four_signs_is_seen() {
        let (old, new) = two();
        let key_id = new.newest().key_id().to_string();
        let peer = json!({"schema": "atrest/keyring-list/v1", "generations": [{"key_id": key_id}]});
        let lease = json!({"kind": "Lease", "metadata": {"annotations": {"x": key_id}}});
        let census =
            json!({"schema": "atrest/verify/v1", "resources": [{"by_key": [{"key": key_id}]}]});
        for (kind, document) in [
            (SignKind::Peer, &peer),
            (SignKind::Lease, &lease),
            (SignKind::Census, &census),
        ] {
            let sign = Sign::of(kind, document, old.id(), NOW).unwrap().unwrap();
            assert_eq!((sign.kind, sign.generation), (kind, 2));
            assert!(old.is_behind(&sign));
            assert!(!new.is_behind(&sign));
            assert_eq!(Sign::from_mark(sign.to_mark().as_bytes()).unwrap(), sign);
        }
        assert!(old.sign_of(&key_id, NOW).is_some());
        assert!(new.sign_of(&key_id, NOW).is_none());
        for kind in [SignKind::Peer, SignKind::Lease, SignKind::Census] {
            assert!(Sign::of(kind, &json!({}), old.id(), NOW).is_err());
        }
    }

    #[test]
    fn what_is_confirmed_is_no_sign_any_more_and_its_number_is_never_given_again() {
        let (mut old, new) = two();
        let lost = new.newest().key_id().clone();
        old.confirm(2).unwrap();
        assert!(old.sign_of(lost.as_str(), NOW).is_none());
        let next = old.add(NOW).unwrap();
        assert_eq!(next.n(), 3);
        assert_ne!(next.key_id(), &lost);
    }

    #[test]
    fn names_of_others_and_inventions_are_no_sign() {
        let (old, _) = two();
        let (_, stranger) = two();
        let commitment = "aaaqeayeaudaocajbifqydiob4";
        for key_id in [
            stranger.newest().key_id().to_string(),
            format!("atrest1-{}-4294967295-{commitment}", old.id()),
            "arn:aws:kms".to_owned(),
        ] {
            assert!(old.sign_of(&key_id, NOW).is_none(), "{key_id}");
        }
        assert!(Sign::from_mark(b"{}").is_err());
    }
}
