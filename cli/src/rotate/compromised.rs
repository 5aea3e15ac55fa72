//! A run because others have the old key (`--compromised`): what that key has opened and still opens. To rotate
//! takes back nothing of it, so it is named.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use atrest_core::at_rest::{Census, GroupResource, State};
use serde::{Deserialize, Serialize};

use super::certificate::put;
use super::journal::{Journal, Record};
use super::manifest;
use crate::report::verify::{escape, name_of};
use crate::status::Failure;

/// What was under keys that leave.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Exposed {
    /// The file that has the key in etcd of each object, one a line.
    list: String,
    list_sha256: String,
    objects: Vec<Objects>,
    /// Snapshots of etcd that one of the keys opens, this run's own among them.
    snapshots: Vec<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Objects {
    resource: String,
    count: u64,
}

/// Writes down what a census found under other keys than the target, beside what was found before.
pub(super) fn note(
    journal: &mut Journal,
    prefix: &str,
    census: &Census,
    snapshots: Vec<String>,
) -> Result<(), Failure> {
    let path = journal.beside(".exposed.txt");
    let known = newest(journal);
    let mut keys: BTreeSet<String> = BTreeSet::new();
    if known.is_some() {
        let list = atrest_files::read(&path).map_err(Failure::stopped)?;
        let list = String::from_utf8_lossy(list.expose()).into_owned();
        keys.extend(list.lines().map(str::to_owned));
    }
    let is_exposed = |state| matches!(state, State::Stale | State::UnknownKey | State::Unread);
    let found = census.not_current.iter().filter(|it| is_exposed(it.state));
    keys.extend(found.map(|it| escape(&String::from_utf8_lossy(&it.key))));
    let mut snapshots: BTreeSet<_> = snapshots.into_iter().collect();
    snapshots.extend(known.into_iter().flat_map(|it| it.snapshots.clone()));
    let list: String = keys.iter().map(|key| format!("{key}\n")).collect();
    let list_sha256 = put(&path, &list)?;
    journal.append(Record::Exposed(Exposed {
        list: path.display().to_string(),
        list_sha256: list_sha256.to_string(),
        objects: count(&keys, prefix),
        snapshots: snapshots.into_iter().collect(),
    }))
}

fn count(keys: &BTreeSet<String>, prefix: &str) -> Vec<Objects> {
    let mut objects: Vec<Objects> = Vec::new();
    for key in keys {
        let resource = match GroupResource::of_key(key.as_bytes(), prefix) {
            Some((resource, _)) => resource.to_string(),
            None => "?".into(),
        };
        match objects.iter_mut().find(|it| it.resource == resource) {
            Some(known) => known.count += 1,
            None => objects.push(Objects { resource, count: 1 }),
        }
    }
    objects
}

fn newest(journal: &Journal) -> Option<&Exposed> {
    journal.records.iter().rev().find_map(|it| match it {
        Record::Exposed(exposed) => Some(exposed),
        _ => None,
    })
}

/// Whether it was written down what the old key has opened.
pub(super) fn is_noted(journal: &Journal) -> bool {
    newest(journal).is_some()
}

impl Exposed {
    /// As the journal has it, with the run's own snapshots: in the one from after, etcd's history is still under
    /// the old key.
    pub(crate) fn of(journal: &Journal) -> Option<Self> {
        let mut exposed = newest(journal)?.clone();
        for record in &journal.records {
            if let Record::Snapshot { file, .. } = record
                && !manifest::is_encrypted(file.as_ref())
                && !exposed.snapshots.contains(file)
            {
                exposed.snapshots.push(file.clone());
            }
        }
        Some(exposed)
    }

    /// For people.
    pub(crate) fn text(&self, journal: &Journal) -> String {
        let mut out = String::from(
            "the old key is known to others: change what these objects hold, for to rotate takes nothing back\n",
        );
        for Objects { resource, count } in &self.objects {
            let _ = writeln!(out, "  {resource}: {count}");
        }
        let _ = writeln!(
            out,
            "  by name: {}\n  SHA-256 {}",
            self.list, self.list_sha256
        );
        out += "it still opens, and whoever has both reads: destroy these, or encrypt them otherwise\n";
        for snapshot in &self.snapshots {
            let _ = writeln!(out, "  {snapshot}");
        }
        out += "  every other snapshot and backup of etcd, and image of its disks, from the key's time\n";
        let scrubbed = journal.records.iter().rev().find_map(|it| match it {
            Record::Scrubbed { residue, .. } => Some(residue),
            _ => None,
        });
        match scrubbed {
            None => {
                out += "  etcd's history and the free pages of its databases, until the run removes them\n";
            }
            Some(None) => {
                out += "  what is left in etcd's files, which were not looked at: its write-ahead log, until it is rotated away\n";
            }
            Some(Some(left)) => {
                for copies in left {
                    let (provider, key) = (&copies.provider, name_of(copies.key.as_deref()));
                    let _ = writeln!(
                        out,
                        "  {}: {} copies under {} {key}",
                        copies.file,
                        copies.count,
                        escape(provider)
                    );
                }
                out += "  what is left in the files of etcd's other members\n";
            }
        }
        if journal.is_rolled_back() {
            out += "and what is stored now: the run was rolled back to that very key\n";
        }
        out
    }
}
