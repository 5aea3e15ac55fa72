//! The certificate of a run that is done (`atrest/certificate/v1`): what its journal proves, in one file
//! that can be held against a snapshot or a running etcd later.
//!
//! It follows from the journal alone, so that it is the same whenever it is written. It holds no key bytes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use atrest_core::secret::Fingerprint;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::counts::Counts;
use super::journal::{Journal, Record};
use super::kept::Kept;
use super::scrub::{Copies, Defragmented};
use super::settings::To;
use crate::args::EtcdFlags;
use crate::report::verify::{escape, name_of};
use crate::status::Failure;

const SCHEMA: &str = "atrest/certificate/v1";

/// `atrest/certificate/v1`.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Certificate {
    schema: String,
    pub(crate) run: String,
    /// The release that made it.
    atrest: String,
    began_at: Option<String>,
    finished_at: Option<String>,
    pub(crate) cluster: Cluster,
    pub(crate) target: Target,
    /// Whether the target is what wrote before the run.
    rolled_back: bool,
    /// Every server wrote with the target from this revision of etcd on; null where the run was adopted
    /// after that.
    barrier_revision: Option<i64>,
    /// When the run was planned; null where it was adopted.
    before: Option<Counted>,
    /// While the old key was still readable.
    pub(crate) verified: Counted,
    /// After it had left every server.
    pub(crate) done: Counted,
    servers: Vec<Server>,
    /// Objects that the last rewrite did not touch, all of which were current in the end, gone, or waived.
    set_aside: u64,
    stops: Vec<Stop>,
    /// Values that nobody can decrypt, which were passed over: no count has them.
    #[serde(default)]
    pub(crate) waived: Vec<Kept>,
    /// Objects whose namespace was gone, deleted in etcd.
    #[serde(default)]
    purged: Vec<Kept>,
    /// Namespaces that were created again.
    #[serde(default)]
    adopted: Vec<String>,
    #[serde(default)]
    snapshots: Vec<Snapshot>,
    /// What was removed of the old key; null where that was left out.
    #[serde(default)]
    scrub: Option<Scrub>,
    journal: Head,
    /// Of this certificate without this field, as compact JSON with its keys in order.
    #[serde(default)]
    sha256: String,
}

/// Which cluster it is of.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Cluster {
    /// Of the namespace kube-system.
    pub(crate) uid: Option<String>,
    pub(crate) etcd_id: String,
    /// kube-apiserver's `--etcd-prefix`.
    pub(crate) prefix: String,
}

/// What everything is under.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Target {
    /// As in `atrest/verify/v1`.
    pub(crate) provider: String,
    /// The key's name, or the key_id; null where nothing is stored by a plugin.
    pub(crate) key: Option<String>,
    /// SHA-256 of the key's bytes, of a local key.
    fingerprint: Option<String>,
}

/// A census.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Counted {
    pub(crate) revision: i64,
    pub(crate) resources: Vec<Counts>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Server {
    name: String,
    url: Option<String>,
    file: String,
    files: Vec<Written>,
}

/// A content that its file was given.
#[derive(Debug, Deserialize, Serialize)]
struct Written {
    stage: String,
    sha256: String,
    written_at: Option<String>,
    /// Null where it was given another one before.
    loaded_at: Option<String>,
}

/// A process of the run that ended before the run did.
#[derive(Debug, Deserialize, Serialize)]
struct Stop {
    at: Option<String>,
    reason: String,
}

/// A snapshot of etcd that was proven to be readable.
#[derive(Debug, Deserialize, Serialize)]
struct Snapshot {
    which: String,
    file: String,
    sha256: String,
    revision: i64,
    plaintext: u64,
}

#[derive(Debug, Deserialize, Serialize)]
struct Scrub {
    /// Up to which etcd's history was removed.
    revision: i64,
    members: Vec<Defragmented>,
    /// What was left in a member's files after that; null where they were not looked at.
    residue: Option<Vec<Copies>>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Head {
    records: u64,
    /// Of its last line, which follows from all of them.
    sha256: String,
}

/// Writes the certificate of a run that is done, as JSON and as text, beside its journal. Returns the
/// path of the JSON.
pub(crate) fn write(journal: &Journal) -> Result<PathBuf, Failure> {
    let certificate = Certificate::of(journal)
        .ok_or_else(|| Failure::unusable("the journal does not hold what a certificate says"))?;
    let mut json = serde_json::to_string_pretty(&certificate).map_err(unrendered)?;
    json.push('\n');
    let path = journal.beside(".certificate.json");
    put(&journal.beside(".certificate.txt"), &certificate.text())?;
    put(&path, &json)?;
    Ok(path)
}

fn put(path: &Path, text: &str) -> Result<(), Failure> {
    let old = match atrest_files::read(path) {
        Ok(bytes) => Some(bytes.fingerprint()),
        Err(error) if error.kind() == Some(std::io::ErrorKind::NotFound) => None,
        Err(error) => return Err(Failure::stopped(error)),
    };
    if old == Some(Fingerprint::of(text.as_bytes())) {
        return Ok(());
    }
    atrest_files::replace(path, text.as_bytes(), old).map_err(|error| {
        Failure::stopped(error).hint(
            "the run is done and proven; make room, then atrest rotate resume writes its certificate",
        )
    })
}

impl Certificate {
    /// What the journal of a run that is done proves.
    pub(crate) fn of(journal: &Journal) -> Option<Self> {
        let (settings, etcd_id) = journal.settings()?;
        let mut found = Found::default();
        for (time, record) in journal.timed() {
            found.take(time, record);
        }
        let done = found.newest?;
        let servers = settings.servers.iter().map(|server| Server {
            name: server.name.clone(),
            url: server.url.clone(),
            file: server.file.display().to_string(),
            files: found.files.remove(&server.name).unwrap_or_default(),
        });
        let mut certificate = Self {
            schema: SCHEMA.into(),
            run: journal.run.clone(),
            atrest: env!("CARGO_PKG_VERSION").into(),
            began_at: found.began_at,
            finished_at: found.finished_at,
            cluster: Cluster {
                uid: journal.cluster_uid().map(str::to_owned),
                etcd_id: etcd_id.to_owned(),
                prefix: EtcdFlags::from(&settings.etcd).prefix().to_owned(),
            },
            target: target(journal, &settings.to, &done)?,
            rolled_back: journal.is_rolled_back(),
            barrier_revision: found.barrier_revision,
            before: found.before,
            verified: found.first?,
            done,
            servers: servers.collect(),
            set_aside: found.set_aside,
            stops: found.stops,
            waived: found.waived,
            purged: journal.purges(),
            adopted: found.adopted,
            snapshots: found.snapshots,
            scrub: found.scrub,
            journal: Head {
                records: journal.records.len() as u64,
                sha256: journal.head().to_owned(),
            },
            sha256: String::new(),
        };
        certificate.sha256 = digest(&serde_json::to_value(&certificate).ok()?)?;
        Some(certificate)
    }

    /// Reads a certificate, and refuses one that is not whole.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        let damaged = |what: &str| {
            Failure::unusable(format!("{shown} {what}"))
                .hint("take another copy of it; atrest rotate resume writes the newest run's again")
        };
        let bytes = atrest_files::read(path).map_err(Failure::unusable)?;
        let value: Value = serde_json::from_slice(bytes.expose())
            .map_err(|_| damaged("is no certificate of atrest, or damaged"))?;
        if value["schema"] != SCHEMA {
            return Err(damaged(&format!("is no {SCHEMA}")));
        }
        let certificate: Self =
            serde_json::from_value(value.clone()).map_err(|_| damaged("is damaged"))?;
        match digest(&value).as_deref() == value["sha256"].as_str() {
            true => Ok(certificate),
            false => Err(damaged("is damaged: its own hash is another one")),
        }
    }

    /// Every provider and key that it names in a count.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let counted = self.before.iter().chain([&self.verified, &self.done]);
        let counts = counted.flat_map(|counted| &counted.resources);
        let keys = counts.flat_map(|counts| &counts.by_key);
        keys.map(|key| (&*key.provider, key.key.as_deref()))
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut out = format!("run {}\n", self.run);
        let or = |text: &Option<String>| text.clone().unwrap_or_else(|| "an unknown time".into());
        let _ = writeln!(
            out,
            "began at {}, done at {}",
            or(&self.began_at),
            or(&self.finished_at)
        );
        let uid = self.cluster.uid.as_deref();
        let _ = writeln!(
            out,
            "cluster {}, etcd cluster {}",
            uid.unwrap_or("of unknown uid"),
            self.cluster.etcd_id
        );
        let Target {
            provider,
            key,
            fingerprint,
        } = &self.target;
        let _ = writeln!(
            out,
            "everything is by {} {}{}",
            escape(provider),
            name_of(key.as_deref()),
            match fingerprint {
                Some(fingerprint) => format!(" (SHA-256 of the key: {fingerprint})"),
                None => String::new(),
            }
        );
        if self.rolled_back {
            out += "which wrote before the run, too: it was rolled back\n";
        }
        if let Some(revision) = self.barrier_revision {
            let _ = writeln!(
                out,
                "every server wrote with it from revision {revision} on"
            );
        }
        for (when, counted) in [
            ("before", self.before.as_ref()),
            ("verified", Some(&self.verified)),
            ("done", Some(&self.done)),
        ] {
            let Some(counted) = counted else { continue };
            let _ = writeln!(out, "\n{when}, at revision {}:", counted.revision);
            for counts in &counted.resources {
                let _ = writeln!(out, "  {}: {}", counts.resource, counts.total);
                for key in &counts.by_key {
                    let name = name_of(key.key.as_deref());
                    let _ = writeln!(out, "  {:>7}  {} {name}", key.count, escape(&key.provider));
                }
            }
        }
        for server in &self.servers {
            let _ = writeln!(out, "\n{}: {}", server.name, server.file);
            for file in &server.files {
                let Written { stage, sha256, .. } = file;
                let (written, loaded) = (or(&file.written_at), or(&file.loaded_at));
                let _ = writeln!(
                    out,
                    "  {stage:6} {sha256}\n         written {written}, loaded {loaded}"
                );
            }
        }
        for snapshot in &self.snapshots {
            let Snapshot { which, file, .. } = snapshot;
            let _ = writeln!(
                out,
                "\nsnapshot {which}, at revision {}: {file}\n  {}",
                snapshot.revision, snapshot.sha256
            );
        }
        if let Some(scrub) = &self.scrub {
            let _ = writeln!(out, "\nhistory removed up to revision {}", scrub.revision);
            for member in &scrub.members {
                let Defragmented {
                    member,
                    before,
                    after,
                } = member;
                let _ = writeln!(
                    out,
                    "  {member}: defragmented from {before} to {after} bytes"
                );
            }
            let left = match &scrub.residue {
                None => "  etcd's files were not looked at".to_owned(),
                Some(left) => format!("  {} kinds of copies left in etcd's files", left.len()),
            };
            out += &left;
            out.push('\n');
        }
        for (what, kept) in [
            ("waived, for nobody could decrypt it", &self.waived),
            ("deleted, for its namespace was gone", &self.purged),
        ] {
            for kept in kept {
                let _ = writeln!(
                    out,
                    "\n{what}:\n  {}\n  SHA-256 {}",
                    kept.text(),
                    kept.sha256
                );
            }
        }
        for namespace in &self.adopted {
            let _ = writeln!(out, "\ncreated again: namespace {}", escape(namespace));
        }
        for stop in &self.stops {
            let _ = writeln!(out, "\nstopped at {}: {}", or(&stop.at), stop.reason);
        }
        let Head { records, sha256 } = &self.journal;
        let _ = writeln!(out, "\njournal: {records} records, SHA-256 {sha256}");
        let _ = writeln!(out, "certificate: SHA-256 {}", self.sha256);
        out
    }
}

/// What the records tell, one after the other.
#[derive(Default)]
struct Found {
    began_at: Option<String>,
    finished_at: Option<String>,
    before: Option<Counted>,
    /// The first clean census since the last barrier, and the newest.
    first: Option<Counted>,
    newest: Option<Counted>,
    barrier_revision: Option<i64>,
    files: BTreeMap<String, Vec<Written>>,
    set_aside: u64,
    stops: Vec<Stop>,
    waived: Vec<Kept>,
    adopted: Vec<String>,
    snapshots: Vec<Snapshot>,
    scrub: Option<Scrub>,
}

impl Found {
    fn take(&mut self, time: i64, record: &Record) {
        let at = moment(time);
        match record {
            Record::Begin { .. } => self.began_at = at,
            Record::Counted {
                revision,
                resources,
            } => {
                self.before = Some(Counted {
                    revision: *revision,
                    resources: resources.clone(),
                });
            }
            Record::Write {
                server,
                stage,
                sha256,
                ..
            } => {
                let files = self.files.entry(server.clone()).or_default();
                files.push(Written {
                    stage: stage.clone(),
                    sha256: sha256.clone(),
                    written_at: at,
                    loaded_at: None,
                });
            }
            Record::Loaded { server, .. } => {
                if let Some(written) = self.files.get_mut(server).and_then(|it| it.last_mut()) {
                    written.loaded_at = at;
                }
            }
            Record::Barrier { revision, .. } => {
                self.barrier_revision = Some(*revision);
                self.first = None;
            }
            Record::Rewrote { set_aside, .. } => self.set_aside = *set_aside,
            Record::Verified {
                revision,
                resources,
                not_current: 0,
                unread: 0,
                ..
            } => {
                let counted = Counted {
                    revision: *revision,
                    resources: resources.clone(),
                };
                self.first.get_or_insert_with(|| counted.clone());
                self.newest = Some(counted);
            }
            Record::Stopped { reason } => self.stops.push(Stop {
                at,
                reason: reason.clone(),
            }),
            Record::Snapshot {
                which,
                file,
                sha256,
                revision,
                plaintext,
            } => self.snapshots.push(Snapshot {
                which: which.clone(),
                file: file.clone(),
                sha256: sha256.clone(),
                revision: *revision,
                plaintext: *plaintext,
            }),
            Record::Scrubbed {
                revision,
                members,
                residue,
            } => {
                self.scrub = Some(Scrub {
                    revision: *revision,
                    members: members.clone(),
                    residue: residue.clone(),
                });
            }
            Record::Waived(kept) => self.waived.push(kept.clone()),
            Record::Adopted { namespace } => self.adopted.push(namespace.clone()),
            Record::Done { .. } => self.finished_at = at,
            _ => {}
        }
    }
}

fn target(journal: &Journal, to: &To, done: &Counted) -> Option<Target> {
    // What a plugin's key_id is, only what it wrote tells.
    let key_id = |provider: &str| {
        let mut keys = done.resources.iter().flat_map(|counts| &counts.by_key);
        let found = keys.find(|key| key.provider == provider)?;
        found.key.clone()
    };
    let plugin = |name: &str| {
        let provider = format!("kms:v2:{name}");
        Target {
            key: key_id(&provider),
            provider,
            fingerprint: None,
        }
    };
    let plaintext = Target {
        provider: "identity".into(),
        key: None,
        fingerprint: None,
    };
    if journal.is_rolled_back() {
        let writer = journal.writer()?;
        return Some(match writer.fingerprint() {
            _ if writer.is_plaintext() => plaintext,
            None => plugin(writer.name()),
            Some(fingerprint) => Target {
                provider: writer.provider().to_owned(),
                key: Some(writer.name().to_owned()),
                fingerprint: Some(fingerprint.to_owned()),
            },
        });
    }
    match to {
        To::Kms { name, .. } => Some(plugin(name)),
        To::Identity => Some(plaintext),
        To::InUse | To::Provider(_) => minted(journal),
    }
}

fn minted(journal: &Journal) -> Option<Target> {
    journal.records.iter().find_map(|record| match record {
        Record::Minted {
            provider,
            name,
            fingerprint,
        } => Some(Target {
            provider: provider.clone(),
            key: Some(name.clone()),
            fingerprint: Some(fingerprint.clone()),
        }),
        _ => None,
    })
}

/// RFC 3339 in UTC; journals of old say no time.
fn moment(time: i64) -> Option<String> {
    let time = jiff::Timestamp::from_millisecond(time).ok()?;
    (time.as_millisecond() > 0).then(|| time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}

/// Maps of `serde_json` are sorted, so neither the order nor the layout of the file matters.
fn digest(certificate: &Value) -> Option<String> {
    let mut fields = certificate.as_object()?.clone();
    fields.remove("sha256");
    let json = serde_json::to_vec(&fields).ok()?;
    Some(Fingerprint::of(&json).to_string())
}

fn unrendered(error: serde_json::Error) -> Failure {
    Failure::unusable(format!("cannot render the certificate: {error}"))
}
