//! Which backup needs which key (`atrest/backups/v1`).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use atrest_core::at_rest::State;
use atrest_core::secret::Fingerprint;
use serde::Serialize;

use super::verify::{escape, name_of, table};
use crate::etcd::Counted;

/// `atrest/backups/v1`.
#[derive(Debug, Serialize)]
pub(crate) struct Backups {
    schema: &'static str,
    config_sha256: Option<String>,
    rehearsed: bool,
    backups: Vec<Backup>,
    keys: Vec<Key>,
    verdict: Restorable,
}

/// Whether an API server with the configuration could read all of a backup.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Restorable {
    /// As far as was asked: with --rehearse every value was decrypted, without it the configuration
    /// has a key of every name.
    #[serde(rename = "restorable")]
    Yes,
    /// Some value could not be judged.
    Unknown,
    /// Some value cannot be read.
    #[serde(rename = "not_restorable")]
    No,
}

#[derive(Debug, Serialize)]
struct Backup {
    path: String,
    revision: i64,
    total: u64,
    unreadable: u64,
    unread: u64,
    resources: Vec<Resource>,
    /// Of what cannot be read, as far as --max-objects goes.
    objects: Vec<String>,
    objects_omitted: u64,
    verdict: Restorable,
}

#[derive(Debug, Serialize)]
struct Resource {
    resource: String,
    total: u64,
    unreadable: u64,
}

/// A row of the matrix.
#[derive(Debug, Serialize)]
struct Key {
    provider: String,
    key: Option<String>,
    /// Whether the configuration reads it; `null` without one.
    readable: Option<bool>,
    /// How many values of each backup, in their order.
    counts: Vec<u64>,
}

impl Backups {
    pub(crate) fn new(
        counted: &[(&Path, Counted)],
        rehearsed: bool,
        config: Option<Fingerprint>,
    ) -> Self {
        let backups: Vec<_> = counted.iter().map(|it| backup(it.0, &it.1)).collect();
        let verdict = backups.iter().map(|it| it.verdict).max();
        Self {
            schema: "atrest/backups/v1",
            config_sha256: config.map(|fingerprint| fingerprint.to_string()),
            rehearsed,
            keys: keys(counted),
            verdict: verdict.unwrap_or(Restorable::Unknown),
            backups,
        }
    }

    pub(crate) fn verdict(&self) -> Restorable {
        self.verdict
    }

    /// The matrix, then what could not be read.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        for (place, backup) in self.backups.iter().enumerate() {
            let _ = writeln!(
                out,
                "{}: {} at revision {}, {} unreadable: {}",
                place + 1,
                backup.path,
                backup.revision,
                backup.unreadable,
                self.word(backup.verdict),
            );
        }
        let rows: Vec<_> = self.keys.iter().map(Key::row).collect();
        out += &table(
            ["VALUES, BY BACKUP", "CONFIGURATION", "PROVIDER", "KEY"],
            &rows,
        );
        for backup in &self.backups {
            for object in &backup.objects {
                let _ = writeln!(out, "unreadable    {} of {}", escape(object), backup.path);
            }
            if backup.objects_omitted > 0 {
                let _ = writeln!(
                    out,
                    "and {} more of {}",
                    backup.objects_omitted, backup.path
                );
            }
        }
        let _ = writeln!(out, "verdict: {}", self.word(self.verdict));
        out
    }

    fn word(&self, verdict: Restorable) -> &'static str {
        match verdict {
            Restorable::Yes if self.rehearsed => "restorable",
            Restorable::Yes => "restorable as far as names of keys tell: --rehearse proves it",
            Restorable::No => "not restorable",
            Restorable::Unknown => "unknown",
        }
    }
}

impl Key {
    fn row(&self) -> [String; 4] {
        let counts: Vec<_> = self.counts.iter().map(u64::to_string).collect();
        let readable = match self.readable {
            Some(true) => "reads it",
            Some(false) => "lacks it",
            None => "-",
        };
        [
            counts.join("  "),
            readable.to_owned(),
            escape(&self.provider),
            name_of(self.key.as_deref()),
        ]
    }
}

fn backup(path: &Path, counted: &Counted) -> Backup {
    let census = &counted.census;
    let resources = census.resources.iter().map(|resource| Resource {
        resource: resource.resource.to_string(),
        total: resource.total(),
        unreadable: resource.unreadable(),
    });
    let (unreadable, unread) = (census.unreadable(), census.count(State::Unread));
    let objects: Vec<_> = census.unreadable_listed().collect();
    let is_judged = census
        .resources
        .iter()
        .all(|it| it.is_judged() && !it.is_elsewhere);
    Backup {
        path: path.display().to_string(),
        revision: counted.revision,
        total: census.total(),
        unreadable,
        unread,
        resources: resources.collect(),
        objects_omitted: unreadable.saturating_sub(objects.len() as u64),
        objects: objects
            .into_iter()
            .map(|it| String::from_utf8_lossy(&it.key).into_owned())
            .collect(),
        verdict: match (unreadable, unread) {
            (1.., _) => Restorable::No,
            (0, 0) if is_judged => Restorable::Yes,
            _ => Restorable::Unknown,
        },
    }
}

fn keys(counted: &[(&Path, Counted)]) -> Vec<Key> {
    let mut keys: BTreeMap<(String, Option<String>), Key> = BTreeMap::new();
    for (place, (_, counted)) in counted.iter().enumerate() {
        for (group, is_readable) in counted.census.groups() {
            let name = (group.provider.clone(), group.key.clone());
            let key = keys.entry(name).or_insert_with_key(|name| Key {
                provider: name.0.clone(),
                key: name.1.clone(),
                readable: is_readable,
                counts: Vec::new(),
            });
            key.counts.resize(place + 1, 0);
            key.counts[place] += group.count;
            // One value that cannot be read is enough.
            key.readable = key.readable.min(is_readable);
        }
    }
    for key in keys.values_mut() {
        key.counts.resize(counted.len(), 0);
    }
    keys.into_values().collect()
}
