//! etcd's files without etcd: a snapshot, or the data directory of a member that is stopped.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::ops::{ControlFlow, Range};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use atrest_core::at_rest::{LOOKAHEAD, LOOKBEHIND, Part, Residue};
use atrest_core::etcd::{
    Database, KEY_BUCKET, Log, Newest, ReadAt, Replay, Replayed, Row, Standing,
};
use atrest_core::secret::SecretBytes;
use atrest_proto::mvccpb::KeyValue;
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

use super::live::Value;
use crate::report;
use crate::report::progress::Progress;
use crate::status::Failure;

/// `etcdctl snapshot save` appends a SHA-256 to the database, whose size is a multiple of a sector.
const HASH: u64 = 32;
const SECTOR: u64 = 512;

const META_BUCKET: &[u8] = b"meta";

const TAKE_A_SNAPSHOT: &str = "take a snapshot of the running cluster with etcdctl snapshot save";

/// Bytes between two looks at how far it is: a tenth of a second's.
const STRIDE: u64 = 4 << 20;

/// The first bytes of a file.
struct Head {
    file: File,
    size: u64,
    meter: Meter,
}

/// How far the reading of a file is.
struct Meter {
    progress: Progress,
    /// Bytes that were read and not told.
    untold: Cell<u64>,
}

impl Meter {
    fn new(path: &Path, quiet: bool) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Self {
            progress: Progress::of_bytes(&report::one_line(&name), quiet),
            untold: Cell::new(0),
        }
    }

    /// So much is going to be read.
    fn expect(&self, bytes: u64) {
        self.progress.expect(bytes);
    }

    fn read(&self, bytes: u64) {
        let untold = self.untold.get() + bytes;
        if untold < STRIDE {
            self.untold.set(untold);
        } else {
            self.untold.set(0);
            self.progress.advance(untold);
        }
    }
}

impl ReadAt for Head {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.meter.read(buffer.len() as u64);
        self.file.read_exact_at(buffer, offset)
    }

    fn size(&self) -> u64 {
        self.size
    }
}

/// Given the key and the value of an item of a bucket.
type EachItem<'v> = dyn FnMut(&[u8], &[u8]) -> Result<(), Failure> + 'v;

/// How a value stands in time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Age {
    /// The newest of its key.
    Live,
    /// The same, and the database does not have it yet.
    LiveInLog,
    /// Not the newest, or its key was deleted.
    Superseded,
}

/// The keyspace in a file.
pub(crate) struct Keyspace {
    path: PathBuf,
    /// The folder of a data directory that everything is in.
    member: Option<PathBuf>,
    database: Database<Head>,
    /// What only the write-ahead log has.
    replay: Option<Replay>,
    /// Up to which entry of the log the database has applied, where it says so.
    applied: Option<u64>,
    /// No revision is older: that of a new keyspace, or that up to which history was removed, where the
    /// newest row may have gone with it.
    oldest: i64,
    /// Up to where it was taken away to the last row.
    compacted: i64,
    /// Later rows are passed over.
    end: Option<i64>,
}

impl Keyspace {
    /// Opens what `etcdctl snapshot save` wrote, and checks its hash.
    pub(crate) fn snapshot(path: &Path, quiet: bool) -> Result<Self, Failure> {
        let file = open(path)?;
        let size = size(path, &file)?;
        if size % SECTOR != HASH {
            return Err(unusable(
                path,
                "it carries no hash: it is cut off, or no snapshot",
            )
            .hint("make one with etcdctl snapshot save; a member's own files are read with --data-dir"));
        }
        let part = Head {
            file,
            size: size - HASH,
            meter: Meter::new(path, quiet),
        };
        check_hash(path, &part)?;
        Self::open(path, part)
    }

    /// Opens the data directory of a member that is stopped.
    pub(crate) fn data_directory(path: &Path, quiet: bool) -> Result<Self, Failure> {
        let database = path.join("member/snap/db");
        let file = open(&database)?;
        flock(&file, FlockOperation::NonBlockingLockShared).map_err(|_| {
            unusable(&database, "etcd has it open").hint(
                "stop the member, or read it while it runs: --etcd-endpoints, or etcdctl snapshot save",
            )
        })?;
        let size = size(&database, &file)?;
        let part = Head {
            file,
            size,
            meter: Meter::new(&database, quiet),
        };
        let mut keyspace = Self::open(&database, part)?;
        let members = keyspace.members()?;
        let standing = keyspace.standing()?;
        // Nothing was committed to a new one yet.
        if keyspace.applied.is_none() && !keyspace.is_empty()? {
            return Err(unusable(&database, "it does not say what it has applied"));
        }
        let applied = keyspace.applied.unwrap_or_default();
        let log = read_log(&path.join("member/wal"), applied)?;
        let (committed, open) = log
            .entries(members)
            .map_err(|error| unusable(path, error))?;
        if open
            .iter()
            .any(|entry| entry.r#type == 0 && !entry.data.is_empty())
        {
            return Err(Failure::unread(format!(
                "{}: the log ends with writes of which this member does not know whether the others \
                 have them",
                path.display()
            ))
            .hint(TAKE_A_SNAPSHOT));
        }
        let replay = Replay::new(committed, standing)
            .map_err(|error| unusable(path, error).hint(TAKE_A_SNAPSHOT))?;
        keyspace.replay = Some(replay).filter(|replay| !replay.is_empty());
        keyspace.member = Some(path.join("member"));
        Ok(keyspace)
    }

    fn open(path: &Path, part: Head) -> Result<Self, Failure> {
        let mut database = Database::open(part).map_err(|error| unusable(path, error))?;
        for bucket in [META_BUCKET, KEY_BUCKET] {
            let found = database.has_bucket(bucket);
            if !found.map_err(|error| unusable(path, error))? {
                return Err(unusable(path, "it is a database, and not one of etcd"));
            }
        }
        let mut keyspace = Self {
            path: path.to_owned(),
            member: None,
            database,
            replay: None,
            applied: None,
            oldest: 1,
            compacted: 0,
            end: None,
        };
        keyspace.read_meta()?;
        Ok(keyspace)
    }

    fn read_meta(&mut self) -> Result<(), Failure> {
        let (mut applied, mut oldest, mut compacted) = (None, 1, 0);
        self.walk(META_BUCKET, &mut |key, value| {
            match (key, value.first_chunk().copied()) {
                (b"consistent_index", index) => applied = index.map(u64::from_be_bytes),
                (b"finishedCompactRev", Some(main)) => compacted = i64::from_be_bytes(main),
                (b"scheduledCompactRev", Some(main)) => {
                    oldest = oldest.max(i64::from_be_bytes(main));
                }
                _ => {}
            }
            Ok(())
        })?;
        (self.applied, self.compacted) = (applied, compacted);
        self.oldest = oldest.max(compacted);
        Ok(())
    }

    /// From here on it is read as it was at a revision.
    pub(crate) fn stop_at(&mut self, revision: Option<i64>) -> Result<(), Failure> {
        match revision {
            // The log is not told apart by revision.
            Some(end) if end < self.oldest || self.replay.is_some() => {
                Err(Failure::unread(format!(
                    "{}: revision {end} cannot be told any more",
                    self.path.display()
                )))
            }
            end => {
                self.end = end;
                Ok(())
            }
        }
    }

    fn is_empty(&mut self) -> Result<bool, Failure> {
        let mut is_empty = true;
        self.walk(KEY_BUCKET, &mut |_, _| {
            is_empty = false;
            Ok(())
        })?;
        Ok(is_empty)
    }

    /// The members of the cluster, by their number.
    fn members(&mut self) -> Result<BTreeSet<u64>, Failure> {
        let mut members = BTreeSet::new();
        let path = self.path.clone();
        self.walk(b"members", &mut |key, _| {
            let number = std::str::from_utf8(key).ok();
            let number = number.and_then(|hex| u64::from_str_radix(hex, 16).ok());
            members.insert(
                number.ok_or_else(|| unusable(&path, "the number of a member is damaged"))?,
            );
            Ok(())
        })?;
        Ok(members)
    }

    /// What decides, beside the pairs, what the log changes.
    fn standing(&mut self) -> Result<Standing, Failure> {
        let mut standing = Standing::default();
        let path = self.path.clone();
        for bucket in Standing::BUCKETS {
            self.walk(bucket, &mut |key, value| {
                let taken = standing.take(bucket, key, value);
                taken.map_err(|error| unusable(&path, error))
            })?;
        }
        Ok(standing)
    }

    fn walk(&mut self, bucket: &[u8], each: &mut EachItem<'_>) -> Result<(), Failure> {
        let walked =
            self.database
                .walk_backwards(bucket, &mut |key, value| match each(key, value) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(failure) => ControlFlow::Break(failure),
                });
        match walked.map_err(|error| unusable(&self.path, error))? {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(failure) => Err(failure),
        }
    }

    /// The live value of a key.
    pub(crate) fn get(mut self, key: &str) -> Result<Option<SecretBytes>, Failure> {
        let mut found = None;
        self.read(&mut |age, value| {
            if age != Age::Superseded && value.key == key.as_bytes() {
                found = Some(SecretBytes::new(value.value.to_vec()));
            }
        })?;
        Ok(found)
    }

    /// Gives every value, in no order. Returns the newest revision. Memory holds a page, what
    /// tells history ([`Newest`]), and what the log changed.
    pub(crate) fn read(&mut self, each: &mut dyn FnMut(Age, Value<'_>)) -> Result<i64, Failure> {
        let replay = self.replay.take();
        let read = self.read_with(replay.as_ref(), each);
        self.replay = replay;
        read
    }

    fn read_with(
        &mut self,
        replay: Option<&Replay>,
        each: &mut dyn FnMut(Age, Value<'_>),
    ) -> Result<i64, Failure> {
        let head = self.database.file();
        head.meter.expect(head.size);
        let mut told = Newest::since(self.compacted);
        let mut held: Vec<KeyValue> = Vec::new();
        let mut newest = self.oldest;
        let mut last = None;
        let (path, end) = (self.path.clone(), self.end);
        self.walk(KEY_BUCKET, &mut |key, value| {
            let row = Row::parse(key, value).map_err(|error| unusable(&path, error))?;
            if last.is_some_and(|last| row.revision >= last) {
                return Err(unusable(&path, "its revisions are not in their order"));
            }
            last = Some(row.revision);
            if end.is_some_and(|end| row.revision.main > end) {
                return Ok(());
            }
            newest = newest.max(row.revision.main);
            let is_newest = told.is_newest(&row);
            let pair = row.pair;
            if row.is_tombstone {
            } else if !is_newest {
                each(Age::Superseded, value_of(&pair));
            } else if replay.is_some_and(|replay| replay.wants(&pair)) {
                held.push(pair);
            } else {
                each(Age::Live, value_of(&pair));
            }
            Ok(())
        })?;
        let Some(replay) = replay else {
            return Ok(newest);
        };
        let Replayed { keys, revision, .. } = replay.apply(held.clone(), newest);
        for pair in &held {
            let age = match keys.contains_key(&pair.key) {
                true => Age::Superseded,
                false => Age::Live,
            };
            each(age, value_of(pair));
        }
        for pair in keys.values().flatten() {
            each(Age::LiveInLog, value_of(pair));
        }
        Ok(revision)
    }

    /// Counts what free pages, the log and the member's other files still hold.
    pub(crate) fn scan(&mut self, residue: &mut Residue) -> Result<(), Failure> {
        let free = self.database.free_bytes();
        let free = free.map_err(|error| unusable(&self.path, error))?;
        let Head { file, meter, .. } = self.database.file();
        for bytes in free {
            scan(&self.path, file, bytes, Part::Freed, meter, residue)?;
        }
        let Some(member) = &self.member else {
            return Ok(());
        };
        for (folder, part) in [("wal", Part::Log), ("snap", Part::Other)] {
            for path in list(&member.join(folder))? {
                // A lock of a member, a folder that somebody made: nothing that etcd writes values to.
                let is_file = std::fs::symlink_metadata(&path).is_ok_and(|it| it.is_file());
                if is_file && path != self.path {
                    let file = open(&path)?;
                    let bytes = 0..size(&path, &file)?;
                    scan(&path, &file, bytes, part, meter, residue)?;
                }
            }
        }
        Ok(())
    }
}

/// Scans a part of a file in windows, each with some bytes on both sides.
fn scan(
    path: &Path,
    file: &File,
    bytes: Range<u64>,
    part: Part,
    meter: &Meter,
    residue: &mut Residue,
) -> Result<(), Failure> {
    const WINDOW: u64 = 8 << 20;

    meter.expect(bytes.end - bytes.start);
    let mut buffer = Vec::new();
    let mut start = bytes.start;
    while start < bytes.end {
        let end = bytes.end.min(start + WINDOW);
        let first = bytes.start.max(start.saturating_sub(LOOKBEHIND as u64));
        let last = bytes.end.min(end + LOOKAHEAD as u64);
        buffer.resize((last - first) as usize, 0);
        file.read_exact_at(&mut buffer, first)
            .map_err(|error| unusable(path, error))?;
        residue.scan(
            part,
            &buffer,
            (start - first) as usize..(end - first) as usize,
        );
        meter.read(end - start);
        start = end;
    }
    Ok(())
}

fn value_of(pair: &KeyValue) -> Value<'_> {
    Value {
        key: &pair.key,
        value: &pair.value,
        mod_revision: pair.mod_revision,
    }
}

fn read_log(folder: &Path, applied: u64) -> Result<Log, Failure> {
    // Names are the sequence number and the first index, in hex of a fixed width.
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "wal");
    let segments: Vec<_> = list(folder)?.into_iter().filter(is_segment).collect();
    if segments.is_empty() {
        return Err(unusable(folder, "there is no log in it"));
    }
    let mut log = Log::new(applied);
    for (i, path) in segments.iter().enumerate() {
        let file = open(path)?;
        let size = size(path, &file)?;
        let is_last = i + 1 == segments.len();
        log.read_segment(&mut BufReader::with_capacity(1 << 16, file), size, is_last)
            .map_err(|error| unusable(path, error))?;
    }
    Ok(log)
}

/// The files of a folder, by their names.
fn list(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = std::fs::read_dir(folder).and_then(|entries| {
        entries
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<Vec<_>>>()
    });
    let mut paths = entries.map_err(|error| unusable(folder, error))?;
    paths.sort();
    Ok(paths)
}

fn check_hash(path: &Path, part: &Head) -> Result<(), Failure> {
    let mut expected = [0; HASH as usize];
    let unread = |error: io::Error| unusable(path, error);
    part.file
        .read_exact_at(&mut expected, part.size)
        .map_err(unread)?;
    let mut reader = (&part.file).take(part.size);
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    part.meter.expect(part.size);
    loop {
        match reader.read(&mut buffer).map_err(unread)? {
            0 => break,
            read => {
                digest.update(&buffer[..read]);
                part.meter.read(read as u64);
            }
        }
    }
    if digest.finalize()[..] != expected {
        return Err(unusable(
            path,
            "its hash is another one: it is damaged or was changed",
        )
        .hint("take another snapshot; nothing of this one is believed"));
    }
    Ok(())
}

#[allow(clippy::disallowed_methods)] // larger than `atrest_files` reads, and never read as a whole
fn open(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|error| unusable(path, error))
}

fn size(path: &Path, file: &File) -> Result<u64, Failure> {
    let metadata = file.metadata().map_err(|error| unusable(path, error))?;
    if !metadata.is_file() {
        return Err(unusable(path, "it is no regular file"));
    }
    Ok(metadata.len())
}

fn unusable(path: &Path, reason: impl std::fmt::Display) -> Failure {
    Failure::unusable(format!("cannot read {}: {reason}", path.display()))
}

/// Every file of a member that etcd writes values to.
pub(crate) fn files_of_member(data_dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for folder in ["snap", "wal"] {
        let all = list(&data_dir.join("member").join(folder))?;
        // A link is not etcd's.
        let is_file = |path: &PathBuf| std::fs::symlink_metadata(path).is_ok_and(|it| it.is_file());
        files.extend(all.into_iter().filter(is_file));
    }
    Ok(files)
}

/// Counts copies in a file byte by byte, also while etcd has it open. One that is gone by now has none.
pub(crate) fn scan_file(path: &Path, part: Part, residue: &mut Residue) -> Result<(), Failure> {
    if !path.exists() {
        return Ok(());
    }
    let file = open(path)?;
    let bytes = 0..size(path, &file)?;
    scan(path, &file, bytes, part, &Meter::new(path, true), residue)
}
