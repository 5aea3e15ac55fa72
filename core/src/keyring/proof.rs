//! The proof without which no key is taken out: a census of the running etcd that counted nothing
//! under it (`atrest/verify/v1`, made by `atrest verify --attest --output json`).
//!
//! A file alone proves nothing: anybody can type one. So the plugin vouches for the census while it
//! is taken: `atrest verify --attest` has it encrypt the [`statement`], which is made of the SHA-256
//! of the report, and puts the ciphertext into the report. Only the keyring's own key could have
//! made it, and it opens to this report alone. Who can speak to the plugin's socket can have anything
//! encrypted, and is root; it is mistakes and edited files that this keeps out, not root.

use std::fmt;
use std::time::Duration;

use data_encoding::BASE64;
use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{KeyId, Keyring, KeyringId};
use crate::secret::Fingerprint;

/// How old a census may be: what was written since is not in it.
pub const MAX_AGE: Duration = Duration::from_secs(600);

/// How far a clock may be ahead of ours.
const MAX_SKEW: Duration = Duration::from_secs(60);

const SCHEMA: &str = "atrest/verify/v1";
const LABEL: &[u8] = b"atrest/verify/v1 vouched for\0";
const ATTESTATIONS: &str = "attestations";

/// Why a proof does not allow a key to be taken out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// Another file, or one that was cut off.
    #[error("not a census: it is no atrest/verify/v1 in JSON")]
    NotACensus,
    /// An API server shows what it can read, not what etcd holds.
    #[error("API-only proof: an API server counted, and it does not see all that etcd holds")]
    ApiOnly,
    /// A snapshot says what was.
    #[error("not of the running etcd: it was taken from a {0}")]
    NotLive(String),
    /// No keyring vouches for it, or it was changed after one did.
    #[error("hand-made proof: {0}")]
    HandMade(&'static str),
    /// The plugin of another keyring vouched for it.
    #[error("other keyring: keyring {found} vouches for it, and here is {here}")]
    OtherKeyring {
        /// Who vouches.
        found: KeyringId,
        /// Whose key is to go.
        here: KeyringId,
    },
    /// etcd's id is another one than that of the first proof.
    #[error("other cluster: it is of etcd cluster {found}, and this keyring's is {here}")]
    OtherCluster {
        /// Of the proof.
        found: String,
        /// Of the keyring.
        here: String,
    },
    /// Nothing there was written by this keyring: it is not the cluster that uses it.
    #[error("other cluster: nothing in it was written with this keyring's active key {0}")]
    NothingOfOurs(KeyId),
    /// More than [`MAX_AGE`].
    #[error("census too old: it ended {0} s ago, at most 600 s are allowed")]
    TooOld(i64),
    /// A clock is wrong.
    #[error("census of the future: it ended {0} s from now; a clock is wrong")]
    Future(i64),
    /// It judged by another EncryptionConfiguration.
    #[error("other configuration: it was judged by a file of another SHA-256")]
    OtherConfiguration,
    /// A configured resource was not counted.
    #[error("not every configured resource: {0} was not counted")]
    NotCounted(String),
    /// It is in an etcd that was not asked, or could not be told.
    #[error("not everything was read: {unread} of {resource} could not be judged")]
    Unread {
        /// Which.
        resource: String,
        /// How many, or `all` where it is kept elsewhere.
        unread: String,
    },
    /// A value would be lost.
    #[error("{count} left: {count} of {resource} still need {key_id}")]
    Left {
        /// Which.
        resource: String,
        /// How many.
        count: u64,
        /// The key that they were written with.
        key_id: KeyId,
    },
}

/// A census as it was read.
#[derive(Debug)]
pub struct Proof {
    report: Value,
    fingerprint: Fingerprint,
}

/// What an accepted proof covers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Scope {
    /// etcd's id of the cluster.
    pub cluster: String,
    revision: i64,
    finished_at: Timestamp,
    fingerprint: Fingerprint,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{SCHEMA} of etcd {} at revision {}, {}, sha256:{}",
            self.cluster, self.revision, self.finished_at, self.fingerprint
        )
    }
}

/// What a plugin encrypts to vouch for a report: a label, and the SHA-256 of all of the report but
/// its attestations, whatever the order of its members and its white space.
pub fn statement(report: &Value) -> Vec<u8> {
    let mut digest = Sha256::new();
    match report {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.retain(|(name, _)| *name != ATTESTATIONS);
            feed_members(&mut digest, members);
        }
        other => feed(&mut digest, other),
    }
    [LABEL, &digest.finalize()].concat()
}

fn feed(digest: &mut Sha256, value: &Value) {
    let mut part = |kind: u8, bytes: &[u8]| {
        digest.update([kind]);
        digest.update((bytes.len() as u64).to_be_bytes());
        digest.update(bytes);
    };
    match value {
        Value::String(text) => part(b's', text.as_bytes()),
        Value::Array(values) => {
            part(b'a', &(values.len() as u64).to_be_bytes());
            for value in values {
                feed(digest, value);
            }
        }
        Value::Object(members) => feed_members(digest, members.iter().collect()),
        scalar => part(b'v', scalar.to_string().as_bytes()),
    }
}

fn feed_members(digest: &mut Sha256, mut members: Vec<(&String, &Value)>) {
    members.sort_by_key(|(name, _)| *name);
    digest.update([b'o']);
    digest.update((members.len() as u64).to_be_bytes());
    for (name, value) in members {
        feed(digest, &Value::String(name.clone()));
        feed(digest, value);
    }
}

impl Proof {
    /// Reads a report.
    pub fn parse(text: &[u8]) -> Result<Self, ProofError> {
        let report: Value = serde_json::from_slice(text).map_err(|_| ProofError::NotACensus)?;
        if report["schema"] != SCHEMA || !report["resources"].is_array() {
            return Err(ProofError::NotACensus);
        }
        Ok(Self {
            report,
            fingerprint: Fingerprint::of(text),
        })
    }

    /// Whether it proves that nothing in the keyring's cluster needs generation `n`. `config` is the
    /// SHA-256 of the EncryptionConfiguration, `configured` what it names but for wildcards.
    pub fn check(
        &self,
        keyring: &Keyring,
        key_id: &KeyId,
        config: Fingerprint,
        configured: &[String],
        now: Timestamp,
    ) -> Result<Scope, ProofError> {
        match self.report["source"].as_str() {
            Some("etcd") => {}
            Some("api") => return Err(ProofError::ApiOnly),
            Some(other) => return Err(ProofError::NotLive(other.to_owned())),
            None => return Err(ProofError::NotACensus),
        }
        self.vouched_for(keyring)?;
        let finished_at = self.age(now)?;
        let cluster = self.cluster(keyring)?;
        if self.report["config_sha256"].as_str() != Some(&config.to_string()) {
            return Err(ProofError::OtherConfiguration);
        }
        for resource in configured {
            if !self.resources().any(|it| it["resource"] == **resource) {
                return Err(ProofError::NotCounted(resource.clone()));
            }
        }
        self.nothing_is_left(key_id)?;
        if self.count(keyring.active().key_id()) == 0 {
            let active = keyring.active().key_id().clone();
            return Err(ProofError::NothingOfOurs(active));
        }
        Ok(Scope {
            cluster,
            revision: self.report["revision"].as_i64().unwrap_or_default(),
            finished_at,
            fingerprint: self.fingerprint,
        })
    }

    /// A key of this keyring encrypted the statement of this very report.
    fn vouched_for(&self, keyring: &Keyring) -> Result<(), ProofError> {
        let given = self.report[ATTESTATIONS].as_array();
        let attestations = given.map(Vec::as_slice).unwrap_or_default();
        let named = |it: &Value| it["key_id"].as_str().and_then(|it| it.parse().ok());
        let Some((attestation, key_id)) = attestations
            .iter()
            .filter_map(|it| Some((it, named(it)?)))
            .max_by_key(|(_, key_id): &(_, KeyId)| key_id.keyring() == keyring.id())
        else {
            return Err(ProofError::HandMade("no plugin of ours vouches for it"));
        };
        if key_id.keyring() != keyring.id() {
            return Err(ProofError::OtherKeyring {
                found: key_id.keyring(),
                here: keyring.id(),
            });
        }
        let forged = ProofError::HandMade("what vouches for it was not made by this keyring");
        let ciphertext = attestation["ciphertext"]
            .as_str()
            .and_then(|text| BASE64.decode(text.as_bytes()).ok());
        let generation = keyring.find(key_id.as_str());
        let (Some(ciphertext), Some(generation)) = (ciphertext, generation) else {
            return Err(forged);
        };
        match generation.decrypt([], &ciphertext) {
            Err(_) => Err(forged),
            Ok(stated) if stated.expose() == statement(&self.report) => Ok(()),
            Ok(_) => Err(ProofError::HandMade(
                "it was changed after the plugin vouched for it",
            )),
        }
    }

    fn age(&self, now: Timestamp) -> Result<Timestamp, ProofError> {
        let finished_at: Timestamp = self.report["finished_at"]
            .as_str()
            .and_then(|text| text.parse().ok())
            .ok_or(ProofError::NotACensus)?;
        let age = now.as_second() - finished_at.as_second();
        if age > MAX_AGE.as_secs() as i64 {
            return Err(ProofError::TooOld(age));
        }
        if -age > MAX_SKEW.as_secs() as i64 {
            return Err(ProofError::Future(-age));
        }
        Ok(finished_at)
    }

    fn cluster(&self, keyring: &Keyring) -> Result<String, ProofError> {
        let found = self.report["cluster"]["etcd_id"].as_str();
        let found = found.ok_or(ProofError::NotACensus)?.to_owned();
        match keyring.cluster() {
            Some(here) if here != found => Err(ProofError::OtherCluster {
                found,
                here: here.to_owned(),
            }),
            _ => Ok(found),
        }
    }

    fn nothing_is_left(&self, key_id: &KeyId) -> Result<(), ProofError> {
        for row in self.resources() {
            let resource = row["resource"].as_str().unwrap_or_default().to_owned();
            if let Some(count) = under(row, key_id).filter(|count| *count > 0) {
                return Err(ProofError::Left {
                    resource,
                    count,
                    key_id: key_id.clone(),
                });
            }
            if row["elsewhere"] == true {
                let unread = "all".to_owned();
                return Err(ProofError::Unread { resource, unread });
            }
            // What names no key may have been written with any.
            let nameless = ["unread", "undecryptable"].map(|it| row[it].as_u64().unwrap_or(1));
            let unread: u64 = nameless.iter().sum();
            if unread > 0 {
                let unread = unread.to_string();
                return Err(ProofError::Unread { resource, unread });
            }
        }
        Ok(())
    }

    fn count(&self, key_id: &KeyId) -> u64 {
        let counts = self.resources().filter_map(|row| under(row, key_id));
        counts.sum()
    }

    fn resources(&self) -> impl Iterator<Item = &Value> {
        self.report["resources"].as_array().into_iter().flatten()
    }
}

/// How many values of a resource a key wrote; none where the key is not named.
fn under(row: &Value, key_id: &KeyId) -> Option<u64> {
    let by_key = row["by_key"].as_array()?.iter();
    let of_key = by_key.filter(|it| it["key"].as_str() == Some(key_id.as_str()));
    // A row that names the key and no number is as bad as one value.
    of_key
        .map(|it| it["count"].as_u64().unwrap_or(1))
        .reduce(|a, b| a.saturating_add(b))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;
    const CONFIG: &[u8] = b"the configuration";

    fn keyring() -> Keyring {
        let mut keyring = Keyring::mint(NOW).unwrap();
        keyring.add(NOW).unwrap();
        keyring.activate(2).unwrap();
        keyring
    }

    fn report(keyring: &Keyring) -> Value {
        json!({
            "schema": SCHEMA, "source": "etcd", "revision": 77, "verdict": "clean",
            "cluster": {"uid": null, "etcd_id": "cdf818194e3a8c32"},
            "finished_at": "1970-01-01T00:00:00Z",
            "config_sha256": Fingerprint::of(CONFIG).to_string(),
            "resources": [{
                "resource": "secrets", "total": 3, "unread": 0, "undecryptable": 0, "elsewhere": false,
                "by_key": [{"provider": "kms:v2:atrest", "key": keyring.active().key_id().as_str(), "count": 3}],
            }],
        })
    }

    fn vouch(keyring: &Keyring, mut report: Value) -> Proof {
        let ciphertext = keyring.active().encrypt(&statement(&report)).unwrap();
        report[ATTESTATIONS] = json!([{
            "key_id": keyring.active().key_id().as_str(), "ciphertext": BASE64.encode(&ciphertext),
        }]);
        Proof::parse(report.to_string().as_bytes()).unwrap()
    }

    fn check(keyring: &Keyring, proof: &Proof, now: Timestamp) -> Result<Scope, ProofError> {
        let old = keyring.generations()[0].key_id();
        let configured = ["secrets".to_owned()];
        proof.check(keyring, old, Fingerprint::of(CONFIG), &configured, now)
    }

    #[test]
    fn a_census_that_the_plugin_vouched_for_retires_a_key() {
        let mut keyring = keyring();
        let proof = vouch(&keyring, report(&keyring));
        let scope = check(&keyring, &proof, NOW).unwrap();
        let name = keyring.generations()[0].key_id().clone();
        keyring.retire(1, &scope, NOW).unwrap();
        let tombstone = keyring.find(name.as_str()).unwrap();
        assert!(tombstone.decrypt([], &[1; 64]).is_err());
        assert!(tombstone.proof().unwrap().contains("revision 77"));
        assert_eq!(keyring.cluster(), Some("cdf818194e3a8c32"));
        assert!(keyring.may_retire(2).is_err() && keyring.may_retire(1).is_err());
    }

    /// Each refusal of a proof that the plugin did vouch for.
    #[test]
    fn each_refusal_has_its_reason() {
        let keyring = keyring();
        let old = keyring.generations()[0].key_id().as_str().to_owned();
        let cases: Vec<(&str, &str, Value)> = vec![
            ("API-only proof", "/source", json!("api")),
            ("not of the running etcd", "/source", json!("snapshot")),
            (
                "census too old",
                "/finished_at",
                json!("1969-12-31T23:49:59Z"),
            ),
            (
                "census of the future",
                "/finished_at",
                json!("1970-01-01T00:02:00Z"),
            ),
            ("other configuration", "/config_sha256", json!("00")),
            (
                "not every configured resource",
                "/resources/0/resource",
                json!("widgets"),
            ),
            ("not everything was read", "/resources/0/unread", json!(1)),
            (
                "not everything was read",
                "/resources/0/undecryptable",
                json!(1),
            ),
            (
                "not everything was read",
                "/resources/0/elsewhere",
                json!(true),
            ),
            (
                "1 left",
                "/resources/0/by_key/0",
                json!({"key": old, "count": 1}),
            ),
            (
                "other cluster: nothing",
                "/resources/0/by_key/0/key",
                json!("atrest"),
            ),
            ("not a census", "/cluster/etcd_id", json!(null)),
        ];
        for (expected, pointer, value) in cases {
            let mut report = report(&keyring);
            *report.pointer_mut(pointer).unwrap() = value;
            let error = check(&keyring, &vouch(&keyring, report), NOW).unwrap_err();
            assert!(
                error.to_string().starts_with(expected),
                "{pointer}: {error}"
            );
        }
        let mut elsewhere = keyring.clone();
        elsewhere.cluster = Some("1234".to_owned());
        let error = check(&elsewhere, &vouch(&keyring, report(&keyring)), NOW).unwrap_err();
        assert!(
            error.to_string().starts_with("other cluster: it is of"),
            "{error}"
        );
    }

    #[test]
    fn what_nobody_vouched_for_is_hand_made() {
        let keyring = keyring();
        let refusal = |proof: &Proof| check(&keyring, proof, NOW).unwrap_err().to_string();
        let typed = Proof::parse(report(&keyring).to_string().as_bytes()).unwrap();
        assert!(refusal(&typed).starts_with("hand-made proof: no plugin"));

        let mut changed = vouch(&keyring, report(&keyring)).report;
        changed["resources"][0]["total"] = json!(4);
        let changed = Proof::parse(changed.to_string().as_bytes()).unwrap();
        assert!(
            refusal(&changed).contains("changed after"),
            "{}",
            refusal(&changed)
        );

        let mut forged = vouch(&keyring, report(&keyring)).report;
        forged[ATTESTATIONS][0]["ciphertext"] = json!(BASE64.encode(&[1; 80]));
        let forged = Proof::parse(forged.to_string().as_bytes()).unwrap();
        assert!(refusal(&forged).contains("not made by this keyring"));

        let stranger = self::keyring();
        let theirs = vouch(&stranger, report(&keyring));
        assert!(
            refusal(&theirs).starts_with("other keyring"),
            "{}",
            refusal(&theirs)
        );
    }

    #[test]
    fn a_statement_is_of_the_content_alone() {
        let (a, b) = (
            r#"{"a": 1, "b": [true, "x"]}"#,
            r#"{ "b":[true,"x"],"a":1 }"#,
        );
        let [a, b] = [a, b].map(|it| statement(&serde_json::from_str(it).unwrap()));
        assert_eq!(a, b);
        let others = [
            r#"{"a": "1", "b": [true, "x"]}"#,
            r#"{"a": 1, "b": [[true, "x"]]}"#,
        ];
        for other in others {
            assert_ne!(a, statement(&serde_json::from_str(other).unwrap()));
        }
    }
}
