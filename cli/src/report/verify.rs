//! The census for people and for programs (`atrest/verify/v1`).

use std::collections::HashSet;
use std::fmt::Write as _;

use atrest_core::at_rest::{self, Group, Part, State, Verdict};
use atrest_core::encryption_config::EncryptionConfiguration;
use atrest_core::keyring::statement;
use atrest_core::secret::Fingerprint;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;

use crate::args::KmsSocket;
use crate::etcd::Counted;
use crate::kms;
use crate::status::Failure;

/// `atrest/verify/v1`.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    schema: &'static str,
    source: &'static str,
    cluster: Cluster,
    revision: i64,
    finished_at: String,
    config_sha256: Option<String>,
    resources: Vec<Resource>,
    objects: Vec<Object>,
    objects_omitted: u64,
    residue: Option<Vec<Residue>>,
    verdict: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attestations: Vec<Attestation>,
}

/// The report's digest, encrypted by a KMS plugin.
#[derive(Debug, Serialize)]
struct Attestation {
    provider: String,
    key_id: String,
    ciphertext: String,
}

#[derive(Debug, Serialize)]
struct Cluster {
    uid: Option<String>,
    etcd_id: Option<String>,
}

#[derive(Debug, Serialize)]
struct Resource {
    resource: String,
    total: u64,
    current: Option<u64>,
    stale: Option<u64>,
    plaintext: u64,
    unknown_key: u64,
    undecryptable: u64,
    unread: u64,
    orphaned: Option<u64>,
    elsewhere: bool,
    by_key: Vec<Key>,
}

#[derive(Debug, Serialize)]
struct Key {
    provider: String,
    key: Option<String>,
    state: Option<&'static str>,
    count: u64,
    oldest_revision: i64,
    newest_revision: i64,
    seeds: Vec<Seed>,
    seeds_omitted: u64,
}

#[derive(Debug, Serialize)]
struct Seed {
    sha256: String,
    count: u64,
    oldest_revision: i64,
    newest_revision: i64,
}

#[derive(Debug, Serialize)]
struct Residue {
    provider: String,
    key: Option<String>,
    live: u64,
    superseded: u64,
    freed: u64,
    wal: u64,
    other_files: u64,
}

#[derive(Debug, Serialize)]
struct Object {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    state: &'static str,
    provider: String,
    /// The key's name. The storage key took the field's name first.
    key_name: Option<String>,
    mod_revision: i64,
    orphaned: bool,
}

/// Where the census comes from.
pub(crate) struct Source {
    /// `etcd`, `snapshot` or `datadir`.
    pub(crate) kind: &'static str,
    pub(crate) etcd_id: Option<String>,
    pub(crate) config: Option<Fingerprint>,
}

impl Report {
    pub(crate) fn new(counted: &Counted, source: &Source) -> Self {
        let census = &counted.census;
        Self {
            schema: "atrest/verify/v1",
            source: source.kind,
            cluster: Cluster {
                uid: counted.cluster_uid.clone(),
                etcd_id: source.etcd_id.clone(),
            },
            revision: counted.revision,
            finished_at: jiff::Timestamp::now()
                .strftime("%Y-%m-%dT%H:%M:%SZ")
                .to_string(),
            config_sha256: source.config.map(|fingerprint| fingerprint.to_string()),
            resources: census
                .resources
                .iter()
                .map(|resource| {
                    let judged = |state| resource.is_judged().then(|| resource.count(state));
                    Resource {
                        resource: resource.resource.to_string(),
                        total: resource.total(),
                        current: judged(State::Current),
                        stale: judged(State::Stale),
                        plaintext: resource.count(State::Plaintext),
                        unknown_key: resource.count(State::UnknownKey),
                        undecryptable: resource.count(State::Undecryptable),
                        unread: resource.count(State::Unread),
                        orphaned: resource.orphaned,
                        elsewhere: resource.is_elsewhere,
                        by_key: resource.groups().map(key).collect(),
                    }
                })
                .collect(),
            objects: objects(counted),
            objects_omitted: census.omitted,
            residue: counted.residue.as_ref().map(residue),
            verdict: match census.verdict() {
                Verdict::Clean => "clean",
                Verdict::Dirty => "dirty",
                Verdict::Unknown => "unknown",
            },
            attestations: Vec::new(),
        }
    }

    /// Has the plugins of a configuration vouch for this very report.
    pub(crate) async fn attest(
        &mut self,
        configuration: &EncryptionConfiguration,
        sockets: &[KmsSocket],
    ) -> Result<(), Failure> {
        let report = serde_json::to_value(&*self)
            .map_err(|error| Failure::unread(format!("cannot render JSON: {error}")))?;
        let vouched = kms::vouch(configuration, sockets, &statement(&report)).await?;
        let attestations = vouched.into_iter().map(|wrapped| Attestation {
            provider: wrapped.provider,
            key_id: wrapped.key_id,
            ciphertext: BASE64_STANDARD.encode(&wrapped.ciphertext),
        });
        self.attestations = attestations.collect();
        Ok(())
    }

    /// A table for people, then what is not current.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        for resource in &self.resources {
            let _ = writeln!(
                out,
                "{}: {} at revision {}",
                resource.resource, resource.total, self.revision
            );
            if resource.elsewhere {
                out += "  not seen: they are kept in another etcd, to be verified on its own\n";
            }
            let rows: Vec<[String; 4]> = resource
                .by_key
                .iter()
                .map(|key| {
                    [
                        key.count.to_string(),
                        key.state.unwrap_or("-").to_owned(),
                        escape(&key.provider),
                        name_of(key.key.as_deref()),
                    ]
                })
                .collect();
            out += &table(["COUNT", "STATE", "PROVIDER", "KEY"], &rows);
        }
        for object in &self.objects {
            let key = object
                .key
                .as_deref()
                .or(object.key_base64.as_deref())
                .unwrap_or_default();
            let word = match (object.state, object.orphaned) {
                ("current", true) => "orphaned",
                (state, _) => state,
            };
            let note = match object.orphaned && word != "orphaned" {
                true => " (orphaned)",
                false => "",
            };
            let _ = writeln!(out, "{word:13} {}{note}", escape(key));
        }
        if self.objects_omitted > 0 {
            let names = match self.source {
                "api" => "their names are for etcd to tell",
                _ => "--max-objects 0 lists them all",
            };
            let count = self.objects_omitted;
            let _ = writeln!(out, "and {count} more that are not current: {names}");
        }
        if let Some(residue) = &self.residue {
            out += "copies in the files:\n";
            let rows: Vec<_> = residue.iter().map(Residue::row).collect();
            let header = [
                "LIVE",
                "SUPERSEDED",
                "FREED",
                "WAL",
                "OTHER",
                "PROVIDER",
                "KEY",
            ];
            out += &table(header, &rows);
        }
        let _ = writeln!(out, "verdict: {}", self.verdict);
        out
    }
}

impl Residue {
    fn row(&self) -> [String; 7] {
        [
            self.live.to_string(),
            self.superseded.to_string(),
            self.freed.to_string(),
            self.wal.to_string(),
            self.other_files.to_string(),
            escape(&self.provider),
            name_of(self.key.as_deref()),
        ]
    }
}

fn residue(residue: &at_rest::Residue) -> Vec<Residue> {
    let copies = residue.copies().map(|copies| Residue {
        provider: copies.provider.clone(),
        key: copies.key.clone(),
        live: copies.count(Part::Live),
        superseded: copies.count(Part::Superseded),
        freed: copies.count(Part::Freed),
        wal: copies.count(Part::Log),
        other_files: copies.count(Part::Other),
    });
    copies.collect()
}

/// What is not current, then the orphans that are.
fn objects(counted: &Counted) -> Vec<Object> {
    let listed = &counted.census.not_current;
    let is_orphan: HashSet<&[u8]> = counted.orphans.iter().map(|it| &*it.key).collect();
    let not_current = listed.iter().map(|value| {
        Object {
            key: None,
            key_base64: None,
            state: word(value.state),
            provider: value.provider.clone(),
            key_name: value.key_name.clone(),
            mod_revision: value.mod_revision,
            orphaned: is_orphan.contains(&*value.key),
        }
        .with_key(&value.key)
    });
    let orphans = counted.orphans.iter();
    let orphans = orphans.filter(|it| it.state == State::Current);
    let orphans = orphans.filter(|it| listed.iter().all(|value| value.key != it.key));
    let orphans = orphans.map(|value| {
        Object {
            key: None,
            key_base64: None,
            state: word(value.state),
            provider: value.provider.clone(),
            key_name: value.key_name.clone(),
            mod_revision: value.mod_revision,
            orphaned: true,
        }
        .with_key(&value.key)
    });
    not_current.chain(orphans).collect()
}

impl Object {
    fn with_key(self, key: &[u8]) -> Self {
        let text = std::str::from_utf8(key).ok();
        Self {
            key: text.map(str::to_owned),
            key_base64: text.is_none().then(|| BASE64_STANDARD.encode(key)),
            ..self
        }
    }
}

fn key(group: &Group) -> Key {
    Key {
        provider: group.provider.clone(),
        key: group.key.clone(),
        state: match group.state {
            State::Unread => None,
            state => Some(word(state)),
        },
        count: group.count,
        oldest_revision: group.oldest_revision,
        newest_revision: group.newest_revision,
        seeds: group.seeds.iter().map(seed).collect(),
        seeds_omitted: group.other_seeds,
    }
}

fn seed((fingerprint, seed): (&Fingerprint, &at_rest::Seed)) -> Seed {
    Seed {
        sha256: fingerprint.to_string(),
        count: seed.count,
        oldest_revision: seed.oldest_revision,
        newest_revision: seed.newest_revision,
    }
}

fn word(state: State) -> &'static str {
    match state {
        State::Current => "current",
        State::Stale => "stale",
        State::Plaintext => "plaintext",
        State::UnknownKey => "unknown_key",
        State::Undecryptable => "undecryptable",
        State::Unread => "unread",
    }
}

/// Bytes of etcd may be anything; a terminal gets no control characters of theirs, and no novels.
pub(crate) fn escape(text: &str) -> String {
    text.chars()
        .flat_map(char::escape_debug)
        .take(300)
        .collect()
}

/// A key's name or key_id; a dash where there is none.
pub(crate) fn name_of(key: Option<&str>) -> String {
    key.map_or_else(|| "-".into(), escape)
}

/// Columns as wide as their widest cell, two spaces apart, the first one aligned to the right.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let header = header.map(str::to_owned);
    let lines: Vec<&[String; N]> = std::iter::once(&header).chain(rows).collect();
    let width: Vec<usize> = (0..N)
        .map(|i| {
            lines
                .iter()
                .map(|line| line[i].chars().count())
                .max()
                .unwrap_or_default()
        })
        .collect();
    let mut out = String::new();
    for line in lines {
        let mut text = String::new();
        for (i, cell) in line.iter().enumerate() {
            let _ = match i {
                0 => write!(text, "  {cell:>0$}", width[i]),
                _ => write!(text, "  {cell:<0$}", width[i]),
            };
        }
        let _ = writeln!(out, "{}", text.trim_end());
    }
    out
}
