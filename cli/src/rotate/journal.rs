//! The journal of a run: what was intended, one record a line, on disk before it is acted upon.
//!
//! A line is the SHA-256 over the one before it and its own JSON, a space, and the JSON. A torn
//! last line is cut off; any other line that does not follow from the one before is an error. It
//! holds no key bytes.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use atrest_core::encryption_config::Key;
use atrest_core::rotation::chain::Local;
use atrest_core::secret::{Fingerprint, SecretBytes};
use serde::{Deserialize, Serialize};

use super::counts::Counts;
use super::escrow;
use super::kept::Kept;
use super::lease::Holder;
use super::observe::Cluster;
use super::rollback::Writer;
use super::scrub::{Copies, Defragmented};
use super::settings::{Server, Settings, in_order};
use crate::cluster::Process;
use crate::etcd::Waived;
use crate::status::Failure;

const SUFFIX: &str = ".journal";

/// What a line says.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", tag = "record")]
pub(crate) enum Record {
    /// The run and everything that it depends on.
    Begin {
        settings: Box<Settings>,
        etcd_id: String,
        /// Of the namespace kube-system.
        #[serde(default)]
        cluster_uid: Option<String>,
        /// Tells this journal from that of another machine which adopts the run.
        machine: String,
        /// What writes before the run, as far as that is one and known.
        writer: Option<Writer>,
    },
    /// What was stored when the run was planned.
    Counted {
        revision: i64,
        resources: Vec<Counts>,
    },
    /// One more API server is listed than before.
    Joined { server: Box<Server> },
    /// The run came to this state.
    State { state: String },
    /// The key is in the escrow.
    Minted {
        provider: String,
        name: String,
        fingerprint: String,
    },
    /// A snapshot of etcd that was proven to be readable.
    Snapshot {
        /// `before` or `after`.
        which: String,
        file: String,
        sha256: String,
        revision: i64,
        /// Values in it that nothing encrypts.
        plaintext: u64,
    },
    /// What the old key could still open was removed from etcd, up to this revision.
    Scrubbed {
        revision: i64,
        members: Vec<Defragmented>,
        /// What is left in a member's files; `None` where they were not looked at.
        residue: Option<Vec<Copies>>,
    },
    /// A server's file is about to get this content.
    Write {
        server: String,
        stage: String,
        sha256: String,
        /// The server's process, before.
        #[serde(default)]
        before: Option<Process>,
    },
    /// What this process of a server writes was seen under the target, and read by every server.
    Canary { server: String, process: Process },
    /// A server reports the content that it was given as loaded.
    Loaded { server: String, sha256: String },
    /// A server that cannot say what it has loaded was this process, with this content in place, or with
    /// the last one that the run had written.
    Placed {
        server: String,
        process: Process,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sha256: Option<String>,
    },
    /// Every server, as it was then, wrote with the target from this revision on.
    Barrier {
        revision: i64,
        at: i64,
        processes: Vec<Process>,
        /// The key that the plugin had, where one writes.
        #[serde(default)]
        key_id: Option<String>,
    },
    /// Of a resource, everything up to this object was asked to be written again, or set aside.
    Reached {
        resource: String,
        object: String,
        /// How many objects that are.
        #[serde(default)]
        done: u64,
    },
    /// Everything was asked to be written again.
    Rewrote {
        total: u64,
        rewritten: u64,
        set_aside: u64,
        milliseconds: u64,
    },
    /// A value that nobody can decrypt, and that the old key's removal does not wait for.
    Waived(Kept),
    /// The namespace of objects whose own was gone is created.
    Adopted { namespace: String },
    /// An object whose namespace is gone is about to be deleted in etcd.
    Purge(Kept),
    /// It was not: it, or its namespace, had changed.
    Left { key: String, mod_revision: i64 },
    /// A census.
    Verified {
        revision: i64,
        total: u64,
        not_current: u64,
        unread: u64,
        /// Passed over.
        #[serde(default)]
        waived: u64,
        /// Milliseconds since 1970.
        at: i64,
        #[serde(default)]
        resources: Vec<Counts>,
    },
    /// Why a process of the run ended before the run did.
    Stopped { reason: String },
    /// From here on it goes back to what wrote before.
    RolledBack,
    /// Another run took its place before it changed anything.
    Abandoned,
    /// Proven at this revision.
    Done { revision: i64 },
}

/// A line's JSON.
#[derive(Deserialize, Serialize)]
struct Line<R> {
    /// When it was written, in milliseconds since 1970; 0 in journals that do not say.
    #[serde(default)]
    time: i64,
    #[serde(flatten)]
    record: R,
}

/// A run's journal, open for more.
pub(crate) struct Journal {
    /// The run's id.
    pub(crate) run: String,
    /// What it held when it was opened, and what was appended since.
    pub(crate) records: Vec<Record>,
    /// When each record was written, in milliseconds since 1970.
    times: Vec<i64>,
    file: File,
    path: PathBuf,
    last: String,
}

/// Held while a run acts; released by the kernel, however the process ends.
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// One run at a time for a state directory.
    pub(crate) fn acquire(state_dir: &Path) -> Result<Self, Failure> {
        atrest_files::create_private_directory(state_dir).map_err(|error| {
            Failure::unusable(error).hint("name a directory that can be written with --state-dir")
        })?;
        let path = state_dir.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| {
                Failure::unusable(format!("cannot open {}: {error}", path.display()))
            })?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(_) => Err(
                Failure::unusable(format!("another run holds {}", path.display()))
                    .hint("wait for it to end; atrest rotate status shows how far it is"),
            ),
        }
    }
}

/// Begins a run, or one that another machine began: from here on `resume` goes on with it.
pub(crate) fn begin(
    state_dir: &Path,
    settings: Settings,
    cluster: Cluster,
    writer: Option<Writer>,
    adopted: Option<&str>,
) -> Result<Journal, Failure> {
    let machine = SecretBytes::generate(4)
        .map_err(|error| Failure::unread(format!("the system gives no random bytes: {error}")))?;
    let begin = Record::Begin {
        settings: Box::new(settings),
        etcd_id: cluster.etcd_id,
        cluster_uid: Some(cluster.uid),
        machine: machine.fingerprint().short(8).to_owned(),
        writer,
    };
    let now = || jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%3fZ");
    let run = adopted.map_or_else(|| now().to_string(), str::to_owned);
    Journal::begin(state_dir, run, &begin)
}

/// Begins the journal of a run that another machine began, from its escrow. Without the key's bytes a
/// second key would be made.
pub(crate) fn adopt(
    state_dir: &Path,
    settings: Settings,
    cluster: Cluster,
    run: &str,
) -> Result<Journal, Failure> {
    let paths = escrow::paths(&settings, run);
    let key = escrow::find(&paths)?;
    if key.is_none() && settings.to.mints() {
        let paths: Vec<_> = paths
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        return Err(Failure::unusable(format!(
            "the key of run {run} is not in {}",
            paths.join(" or ")
        ))
        .hint(
            "name its escrow with --escrow, without the run's id at its end; nothing was changed",
        ));
    }
    let mut journal = begin(state_dir, settings, cluster, None, Some(run))?;
    if let Some((provider, key)) = key {
        journal.append(Record::minted(provider, &key))?;
    }
    Ok(journal)
}

impl Record {
    /// Whether it says that the server was given, or has loaded, a content.
    pub(super) fn is_written_or_loaded(&self, name: &str) -> bool {
        match self {
            Self::Write { server, .. } | Self::Loaded { server, .. } => server == name,
            _ => false,
        }
    }

    pub(super) fn minted(provider: Local, key: &Key) -> Self {
        Self::Minted {
            provider: provider.name().into(),
            name: key.name.clone(),
            fingerprint: key.secret.fingerprint().to_string(),
        }
    }
}

impl Journal {
    /// Starts the journal of a new run: the file appears with its first line in it.
    fn begin(state_dir: &Path, run: String, begin: &Record) -> Result<Self, Failure> {
        let path = state_dir.join(format!("{run}{SUFFIX}"));
        let (_, line) = line("", now(), begin)?;
        atrest_files::create(&path, line.as_bytes()).map_err(|error| {
            Failure::unusable(error)
                .hint("nothing was changed; make room, or choose another --state-dir")
        })?;
        Self::open(state_dir, run)
    }

    /// The run that is not finished, else the newest one, if there is any.
    pub(crate) fn newest(state_dir: &Path) -> Result<Option<Self>, Failure> {
        let entries = match std::fs::read_dir(state_dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(state_dir, &error)),
        };
        let runs = entries.filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            name.strip_suffix(SUFFIX).map(str::to_owned)
        });
        let mut runs: Vec<_> = runs.collect();
        runs.sort();
        let mut newest = None;
        for run in runs {
            let journal = Self::open(state_dir, run)?;
            // A clock that was set back must not hide a run that is in its middle.
            if !journal.is_done() {
                return Ok(Some(journal));
            }
            newest = Some(journal);
        }
        Ok(newest)
    }

    fn open(state_dir: &Path, run: String) -> Result<Self, Failure> {
        let path = state_dir.join(format!("{run}{SUFFIX}"));
        let content = atrest_files::read(&path).map_err(Failure::unusable)?;
        let (lines, last, length) = replay(content.expose()).ok_or_else(|| {
            Failure::unusable(format!("{} is damaged", path.display())).hint(
                "the run's keys are in the escrow; compare the servers' files with it before you \
                 start a new run with another --state-dir",
            )
        })?;
        let file = OpenOptions::new()
            .append(true)
            .open(&path)
            .map_err(|error| failed(&path, &error))?;
        if length < content.len() {
            file.set_len(length as u64)
                .and_then(|()| file.sync_all())
                .map_err(|error| failed(&path, &error))?;
        }
        let (times, records) = lines.into_iter().map(|it| (it.time, it.record)).unzip();
        Ok(Self {
            run,
            records,
            times,
            file,
            path,
            last,
        })
    }

    /// Puts a record on disk.
    pub(crate) fn append(&mut self, record: Record) -> Result<(), Failure> {
        let time = now();
        let (hash, line) = line(&self.last, time, &record)?;
        self.file
            .write_all(line.as_bytes())
            .and_then(|()| self.file.sync_data())
            .map_err(|error| failed(&self.path, &error))?;
        self.last = hash;
        self.records.push(record);
        self.times.push(time);
        Ok(())
    }

    /// The records and when each was written, in milliseconds since 1970.
    pub(crate) fn timed(&self) -> impl Iterator<Item = (i64, &Record)> {
        self.times.iter().copied().zip(&self.records)
    }

    /// The newest line's hash, which stands for all lines.
    pub(crate) fn head(&self) -> &str {
        &self.last
    }

    /// A file of the run's name beside the journal.
    pub(crate) fn beside(&self, suffix: &str) -> PathBuf {
        self.path.with_file_name(format!("{}{suffix}", self.run))
    }

    /// The state directory.
    pub(crate) fn directory(&self) -> PathBuf {
        self.path.parent().map(Path::to_owned).unwrap_or_default()
    }

    /// What is waived, each as it was when it was.
    pub(crate) fn waived(&self) -> Waived {
        let waived = self.records.iter().filter_map(|record| match record {
            Record::Waived(kept) => Some((kept.key.clone().into_bytes(), kept.mod_revision)),
            _ => None,
        });
        waived.collect()
    }

    /// What was deleted, or about to be.
    pub(super) fn purges(&self) -> Vec<Kept> {
        let mut purges: Vec<Kept> = Vec::new();
        for record in &self.records {
            match record {
                Record::Purge(kept) if !purges.contains(kept) => purges.push(kept.clone()),
                Record::Left { key, mod_revision } => {
                    purges.retain(|it| it.key != *key || it.mod_revision != *mod_revision);
                }
                _ => {}
            }
        }
        purges
    }

    /// Whether anything may have been changed: a server's file, or what is stored.
    pub(crate) fn has_written(&self) -> bool {
        let mut records = self.records.iter();
        self.has_written_files() || records.any(|it| matches!(it, Record::Barrier { .. }))
    }

    /// Whether any server's file may have been changed.
    pub(crate) fn has_written_files(&self) -> bool {
        let written = |record: &Record| matches!(record, Record::Write { .. });
        self.records.iter().any(written)
    }

    /// Ends a run that changed nothing, so that another one can begin.
    pub(crate) fn abandon(mut self) -> Result<(), Failure> {
        self.append(Record::Abandoned)
    }

    /// Whether the run came to its end.
    pub(crate) fn is_done(&self) -> bool {
        matches!(
            self.records.last(),
            Some(Record::Abandoned | Record::Done { .. })
        )
    }

    /// The cluster that the run belongs to; its uid only where the run has pinned it.
    pub(crate) fn cluster_uid(&self) -> Option<&str> {
        self.records.iter().find_map(|record| match record {
            Record::Begin { cluster_uid, .. } => cluster_uid.as_deref(),
            _ => None,
        })
    }

    /// Whether it came to its end, and not to another run's beginning.
    pub(crate) fn is_proven(&self) -> bool {
        matches!(self.records.last(), Some(Record::Done { .. }))
    }

    /// What the run depends on: the settings that it began with, servers that joined since, and etcd's id.
    pub(crate) fn settings(&self) -> Option<(Settings, &str)> {
        let mut records = self.records.iter();
        let (mut settings, etcd_id) = records.find_map(|record| match record {
            Record::Begin {
                settings, etcd_id, ..
            } => Some((Settings::clone(settings), etcd_id.as_str())),
            _ => None,
        })?;
        let joined = records.filter_map(|record| match record {
            Record::Joined { server } => Some(Server::clone(server)),
            _ => None,
        });
        settings.servers.extend(joined);
        settings.servers = in_order(settings.servers);
        Some((settings, etcd_id))
    }

    /// The servers that are listed now: all that were, and perhaps more.
    pub(crate) fn join(&mut self, listed: &[Server]) -> Result<(), Failure> {
        let known = self.settings().map(|(settings, _)| settings.servers);
        let known = known.unwrap_or_default();
        if let Some(gone) = known.iter().find(|server| !listed.contains(server)) {
            return Err(Failure::unusable(format!(
                "the run began with server {}, which is not listed any more, or in another way",
                gone.name
            ))
            .hint("a run's servers may only grow: list it as it was until the run is done"));
        }
        for server in listed.iter().filter(|server| !known.contains(server)) {
            self.append(Record::Joined {
                server: Box::new(server.clone()),
            })?;
        }
        Ok(())
    }

    /// What wrote before the run.
    pub(crate) fn writer(&self) -> Option<&Writer> {
        self.records.iter().find_map(|record| match record {
            Record::Begin { writer, .. } => writer.as_ref(),
            _ => None,
        })
    }

    /// Whether it goes back.
    pub(crate) fn is_rolled_back(&self) -> bool {
        self.records
            .iter()
            .any(|it| matches!(it, Record::RolledBack))
    }

    /// From here on `resume` goes back, too.
    pub(crate) fn roll_back(&mut self) -> Result<(), Failure> {
        match self.is_rolled_back() {
            true => Ok(()),
            false => self.append(Record::RolledBack),
        }
    }

    /// As whom the run holds the cluster's Lease.
    pub(super) fn holder(&self) -> Option<Holder> {
        self.records.iter().find_map(|record| match record {
            Record::Begin { machine, .. } => Some(Holder::new(&self.run, machine)),
            _ => None,
        })
    }
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::stopped(format!(
        "cannot use the journal {}: {error}",
        path.display()
    ))
    .hint("make room, then atrest rotate resume")
}

/// A record's line and its hash.
fn line(last: &str, time: i64, record: &Record) -> Result<(String, String), Failure> {
    let json = serde_json::to_string(&Line { time, record })
        .map_err(|error| Failure::unusable(format!("cannot write the journal: {error}")))?;
    let hash = link(last, &json);
    let line = format!("{hash} {json}\n");
    Ok((hash, line))
}

fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

fn link(last: &str, json: &str) -> String {
    Fingerprint::of(format!("{last} {json}").as_bytes()).to_string()
}

/// The records, the last line's hash, and how many bytes are whole lines.
fn replay(content: &[u8]) -> Option<(Vec<Line<Record>>, String, usize)> {
    let mut lines = Vec::new();
    let mut last = String::new();
    let mut length = 0;
    for line in content.split_inclusive(|byte| *byte == b'\n') {
        let parsed = line.strip_suffix(b"\n").and_then(|line| {
            let (hash, json) = std::str::from_utf8(line).ok()?.split_once(' ')?;
            (link(&last, json) == hash).then_some(())?;
            Some((hash.to_owned(), serde_json::from_str(json).ok()?))
        });
        let Some((hash, parsed)) = parsed else {
            // Only a last line without its end can be torn.
            return (!line.ends_with(b"\n")).then_some((lines, last, length));
        };
        lines.push(parsed);
        last = hash;
        length += line.len();
    }
    Some((lines, last, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(name: &str) -> Record {
        Record::State { state: name.into() }
    }

    fn journal(folder: &Path) -> PathBuf {
        let mut journal = Journal::begin(folder, "run".into(), &state("plan")).unwrap();
        journal.append(state("mint")).unwrap();
        journal.append(state("add_read")).unwrap();
        journal.path
    }

    #[test]
    fn records_come_back() {
        let folder = tempfile::tempdir().unwrap();
        journal(folder.path());
        let again = Journal::newest(folder.path()).unwrap().unwrap();
        assert_eq!(again.records.len(), 3);
        assert!(!again.is_done());
    }

    #[test]
    fn a_torn_tail_is_cut_off_at_every_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = journal(folder.path());
        let whole = atrest_files::read(&path).unwrap();
        let second_end = whole
            .expose()
            .iter()
            .enumerate()
            .filter(|(_, b)| **b == b'\n')
            .nth(1)
            .unwrap()
            .0
            + 1;
        for length in second_end..whole.len() {
            std::fs::remove_file(&path).unwrap();
            atrest_files::create(&path, &whole.expose()[..length]).unwrap();
            let mut torn = Journal::newest(folder.path()).unwrap().unwrap();
            assert_eq!(torn.records.len(), 2, "at {length}");
            torn.append(state("promote")).unwrap();
            drop(torn);
            assert_eq!(
                Journal::newest(folder.path())
                    .unwrap()
                    .unwrap()
                    .records
                    .len(),
                3
            );
        }
    }

    #[test]
    fn a_changed_line_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        let path = journal(folder.path());
        let whole =
            String::from_utf8(atrest_files::read(&path).unwrap().expose().to_vec()).unwrap();
        std::fs::remove_file(&path).unwrap();
        atrest_files::create(&path, whole.replace("mint", "done").as_bytes()).unwrap();
        assert!(Journal::newest(folder.path()).is_err());
    }

    #[test]
    fn one_run_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = Lock::acquire(folder.path()).unwrap();
        assert!(Lock::acquire(folder.path()).is_err());
        drop(first);
        assert!(Lock::acquire(folder.path()).is_ok());
    }
}
