//! The census for people and for programs (`atrest/verify/v1`).

use std::fmt::Write as _;

use atrest_core::at_rest::{Census, Group, State, Verdict};
use atrest_core::secret::Fingerprint;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;

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
    verdict: &'static str,
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
}

/// Where the census comes from.
pub(crate) struct Source {
    /// `etcd`, `snapshot` or `datadir`.
    pub(crate) kind: &'static str,
    pub(crate) etcd_id: Option<String>,
    pub(crate) revision: i64,
    pub(crate) config: Option<Fingerprint>,
}

impl Report {
    pub(crate) fn new(census: &Census, source: &Source) -> Self {
        Self {
            schema: "atrest/verify/v1",
            source: source.kind,
            cluster: Cluster {
                uid: None,
                etcd_id: source.etcd_id.clone(),
            },
            revision: source.revision,
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
                        by_key: resource.groups().map(key).collect(),
                    }
                })
                .collect(),
            objects: census
                .not_current
                .iter()
                .map(|value| {
                    let text = std::str::from_utf8(&value.key).ok();
                    Object {
                        key: text.map(str::to_owned),
                        key_base64: text.is_none().then(|| BASE64_STANDARD.encode(&value.key)),
                        state: word(value.state),
                        provider: value.provider.clone(),
                        key_name: value.key_name.clone(),
                        mod_revision: value.mod_revision,
                    }
                })
                .collect(),
            objects_omitted: census.omitted,
            verdict: match census.verdict() {
                Verdict::Clean => "clean",
                Verdict::Dirty => "dirty",
                Verdict::Unknown => "unknown",
            },
        }
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
            let rows: Vec<[String; 4]> = resource
                .by_key
                .iter()
                .map(|key| {
                    [
                        key.count.to_string(),
                        key.state.unwrap_or("-").to_owned(),
                        escape(&key.provider),
                        key.key.as_deref().map_or_else(|| "-".into(), escape),
                    ]
                })
                .collect();
            out += &table(["COUNT", "STATE", "PROVIDER", "KEY"], &rows);
        }
        for object in self.objects.iter().take(10) {
            let key = object
                .key
                .as_deref()
                .or(object.key_base64.as_deref())
                .unwrap_or_default();
            let _ = writeln!(out, "{:13} {}", object.state, escape(key));
        }
        let more = self.objects.len().saturating_sub(10) as u64 + self.objects_omitted;
        if more > 0 {
            let _ = writeln!(out, "and {more} more that are not current");
        }
        let _ = writeln!(out, "verdict: {}", self.verdict);
        out
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
fn escape(text: &str) -> String {
    text.chars()
        .flat_map(char::escape_debug)
        .take(300)
        .collect()
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
