//! Reads etcd's write-ahead log (`go.etcd.io/etcd/server` `storage/wal/decoder.go`).
//!
//! ```text
//! record    length u64 | walpb.Record | padding
//! length    the low 56 bits: bytes of the record; where the highest bit is set, bits 56 to 58: bytes
//!           of padding
//! ```
//!
//! A length of 0 is where the preallocated rest of a segment begins. Each record carries the CRC-32C
//! of all data up to it, across segments.
//!
//! etcd takes a record that is cut off, or that a sector of zeros is in, for one that it was about to
//! write when it was killed, and goes on without all that follows. A copy that ends early and a changed
//! length look the same. So here the rest has to be zero to the end of the file, which is longer than
//! what is written to it.

use std::collections::BTreeSet;
use std::io::{self, Read};

use atrest_proto::wal::{ConfChange, Entry, HardState, Metadata, Record, Snapshot};
use prost::Message;

/// Larger than what etcd ever appends at once, unless it was told to take requests of such a size.
const MAX_RECORD: u64 = 64 << 20;
/// A segment has this size from its beginning on; once it is full it is cut to what is written.
const SEGMENT: u64 = 64_000_000;
/// In front of a record's data are at most its type, its checksum, and a length.
const RECORD_HEADER: usize = 23;

const METADATA: i64 = 1;
const ENTRY: i64 = 2;
const STATE: i64 = 3;
const CHECKSUM: i64 = 4;
const SNAPSHOT: i64 = 5;

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalError {
    /// The disk fails.
    #[error("byte {offset} cannot be read: {source}")]
    Read {
        /// Where in the segment.
        offset: u64,
        /// What the operating system said.
        source: io::Error,
    },
    /// The record is no record, or its checksum is another one. Also the torn end of a segment that
    /// is not the last one.
    #[error("the record at byte {offset} is damaged: {what}")]
    Damaged {
        /// Where in the segment.
        offset: u64,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// What a log says about the keyspace.
#[derive(Debug, Default)]
pub struct Log {
    /// The entries that count, in the order of their indices.
    entries: Vec<Entry>,
    /// The index of the last entry, whether it counts or not.
    last: u64,
    /// The last index known to be committed.
    commit: u64,
    /// Of the last entry, and where its record is.
    term: (u64, u64),
    /// The last one that the member says it was in.
    reached: u64,
    /// Entries up to this one are in the database already.
    applied: u64,
    /// The newest snapshot that the log goes on from.
    snapshot: u64,
    /// Whose it is: a member of a cluster.
    owner: Option<Metadata>,
    crc: u32,
}

/// Why a log and a database are not those of one member.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Unfit {
    /// The log does not reach as far as it says itself or as the database does, or it does not go back
    /// as far.
    #[error("the log and the database do not fit: files of the member are missing")]
    Incomplete,
    /// The database does not know the member that wrote the log.
    #[error("the log is that of a member which the database does not know")]
    Foreign,
}

impl Log {
    /// An empty log; `applied` is the database's consistent index.
    pub fn new(applied: u64) -> Self {
        Self {
            applied,
            ..Self::default()
        }
    }

    /// Reads one segment of `size` bytes; segments come in the order of their names. In the last one
    /// the end may be torn: what was not written whole was never acknowledged.
    pub fn read_segment(
        &mut self,
        segment: &mut impl Read,
        size: u64,
        is_last: bool,
    ) -> Result<(), WalError> {
        self.read_records(segment, size, is_last)?;
        let (term, offset) = self.term;
        // A member says in which term it is before it has entries of it, or with them.
        if is_last && term > self.reached.saturating_add(1) {
            let what = "its term was never reached";
            return Err(WalError::Damaged { offset, what });
        }
        Ok(())
    }

    fn read_records(
        &mut self,
        segment: &mut impl Read,
        size: u64,
        is_last: bool,
    ) -> Result<(), WalError> {
        let mut offset = 0;
        while offset + 8 <= size {
            let mut length = [0; 8];
            read(segment, &mut length, offset)?;
            let length = u64::from_le_bytes(length);
            let damaged = |what| WalError::Damaged { offset, what };
            if length == 0 {
                return match is_zero(segment, offset + 8, size)? {
                    true => Ok(()),
                    false => Err(damaged("its length is zero, and something follows")),
                };
            }
            let bytes = length & !(0xff << 56);
            let padding = if length >> 63 == 1 {
                (length >> 56) & 7
            } else {
                0
            };
            let end = offset + 8 + bytes + padding;
            if end > size {
                return Err(damaged("it goes beyond the end of the file"));
            }
            if bytes > MAX_RECORD {
                return Err(damaged("it is too long"));
            }
            let mut frame = vec![0; (bytes + padding) as usize];
            read(segment, &mut frame, offset)?;
            let mut torn = |at_most: usize, what| {
                let whole = whole_sectors(&frame, offset + 8);
                let is_torn = is_last
                    && whole < frame.len()
                    && whole <= at_most
                    && frame[whole..].iter().all(|byte| *byte == 0)
                    && is_zero(segment, end, size)?;
                if is_torn { Ok(()) } else { Err(damaged(what)) }
            };
            let Ok(record) = Record::decode(&frame[..bytes as usize]) else {
                return torn(RECORD_HEADER, "it is no record");
            };
            if record.r#type == CHECKSUM {
                // The first segment that is left may begin anywhere.
                if self.crc != 0 && self.crc != record.crc {
                    return Err(damaged("the segment does not follow on the one before"));
                }
                self.crc = record.crc;
            } else {
                self.crc = crc32c::crc32c_append(self.crc, &record.data);
                if self.crc != record.crc {
                    return torn(usize::MAX, "its checksum is another one");
                }
                self.take(&record, offset).map_err(damaged)?;
            }
            offset = end;
        }
        let is_cut = is_last && size < SEGMENT;
        if is_cut || offset != size {
            let what = "the file is cut off before it";
            return Err(WalError::Damaged { offset, what });
        }
        Ok(())
    }

    /// The type of a record is not in its checksum: what is inside has to make sense as that.
    fn take(&mut self, record: &Record, offset: u64) -> Result<(), &'static str> {
        match record.r#type {
            ENTRY => {
                let entry = Entry::decode(&*record.data).map_err(|_| "it holds no entry")?;
                if !(0..=2).contains(&entry.r#type) {
                    return Err("it holds no entry");
                }
                if entry.term < self.term.0 {
                    return Err("its term is older than that of the entry before");
                }
                self.term = (entry.term, offset);
                // A new leader overwrites what the old one could not commit.
                let kept = self
                    .entries
                    .partition_point(|kept| kept.index < entry.index);
                self.entries.truncate(kept);
                let last = self.entries.last().map_or(self.applied, |last| last.index);
                if entry.index > last.saturating_add(1) {
                    return Err("entries are missing before it");
                }
                self.last = entry.index;
                if entry.index > self.applied {
                    self.entries.push(entry);
                }
            }
            STATE => {
                let state = HardState::decode(&*record.data).map_err(|_| "it holds no state")?;
                self.commit = self.commit.max(state.commit);
                self.reached = self.reached.max(state.term);
            }
            SNAPSHOT => {
                let snapshot =
                    Snapshot::decode(&*record.data).map_err(|_| "it holds no snapshot")?;
                self.snapshot = self.snapshot.max(snapshot.index);
            }
            METADATA => {
                let owner = Metadata::decode(&*record.data)
                    .map_err(|_| "it does not say whose log this is")?;
                if self.owner.is_some_and(|before| before != owner) {
                    return Err("it is of another member than the one before");
                }
                self.owner = Some(owner);
            }
            _ => return Err("its type is unknown"),
        }
        Ok(())
    }

    /// The entries that a restarted member would apply to its database, and those behind that only a
    /// majority of the members could commit. The only member of a cluster is its majority; `members`
    /// are those that the database has.
    pub fn entries(&self, mut members: BTreeSet<u64>) -> Result<(&[Entry], &[Entry]), Unfit> {
        let is_owner = |owner: &Metadata| members.is_empty() || members.contains(&owner.node_id);
        if !self.owner.as_ref().is_none_or(is_owner) {
            return Err(Unfit::Foreign);
        }
        let reaches = self.last.max(self.snapshot);
        // A snapshot beyond the commit was never taken up.
        let is_behind = self.applied < self.snapshot && self.snapshot <= self.commit;
        if reaches < self.commit.max(self.applied) || is_behind {
            return Err(Unfit::Incomplete);
        }
        let known = self
            .entries
            .partition_point(|entry| entry.index <= self.commit);
        for entry in self.entries[..known].iter().filter(|it| it.r#type != 0) {
            change_members(entry, &mut members);
        }
        let committed = match members.len() {
            1 => self.entries.len(),
            _ => known,
        };
        Ok(self.entries.split_at(committed))
    }
}

/// What cannot be read leaves more than one member: no majority is assumed.
fn change_members(entry: &Entry, members: &mut BTreeSet<u64>) {
    match ConfChange::decode(&*entry.data) {
        Ok(change) if entry.r#type == 1 => match change.r#type {
            1 => {
                members.remove(&change.node_id);
            }
            _ => {
                members.insert(change.node_id);
            }
        },
        _ => members.extend([0, u64::MAX]),
    }
}

fn read(segment: &mut impl Read, buffer: &mut [u8], offset: u64) -> Result<(), WalError> {
    segment
        .read_exact(buffer)
        .map_err(|source| WalError::Read { offset, source })
}

/// Whether all from `offset` to the end of the segment is zero.
fn is_zero(segment: &mut impl Read, mut offset: u64, size: u64) -> Result<bool, WalError> {
    const ZEROS: [u8; 4096] = [0; 4096];

    let mut buffer = ZEROS;
    while offset < size {
        let length = (size - offset).min(ZEROS.len() as u64) as usize;
        read(segment, &mut buffer[..length], offset)?;
        if buffer[..length] != ZEROS[..length] {
            return Ok(false);
        }
        offset += length as u64;
    }
    Ok(true)
}

/// How much of the frame stands before the first whole sector of zeros: one that was written to the
/// file's size, but not to the disk.
fn whole_sectors(frame: &[u8], start: u64) -> usize {
    const SECTOR: u64 = 512;

    let to_boundary = (SECTOR - start % SECTOR) as usize;
    let (first, rest) = frame.split_at(to_boundary.min(frame.len()));
    let sectors = std::iter::once(first).chain(rest.chunks(SECTOR as usize));
    let whole = sectors.take_while(|sector| sector.iter().any(|byte| *byte != 0));
    whole.map(<[u8]>::len).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Segment {
        bytes: Vec<u8>,
        crc: u32,
        /// Where the types of records stand: no checksum covers them.
        types: Vec<usize>,
    }

    impl Segment {
        fn push(&mut self, r#type: i64, data: Vec<u8>) {
            if r#type != CHECKSUM {
                self.crc = crc32c::crc32c_append(self.crc, &data);
            }
            let record = Record {
                r#type,
                crc: self.crc,
                data,
            }
            .encode_to_vec();
            let padding = (8 - record.len() % 8) % 8;
            let mut length = record.len() as u64;
            if padding > 0 {
                length |= (0x80 | padding as u64) << 56;
            }
            self.bytes.extend(length.to_le_bytes());
            self.types.push(self.bytes.len() + 1);
            self.bytes.extend(record);
            self.bytes.resize(self.bytes.len() + padding, 0);
        }

        fn entry(&mut self, index: u64, data: &[u8]) {
            let entry = Entry {
                index,
                data: data.to_vec(),
                ..Entry::default()
            };
            self.push(ENTRY, entry.encode_to_vec());
        }
    }

    fn segment() -> Segment {
        let mut segment = Segment::default();
        segment.push(CHECKSUM, Vec::new());
        segment.entry(1, b"applied");
        segment.entry(2, b"first");
        segment.entry(3, b"overwritten");
        segment.entry(3, b"second");
        let state = HardState {
            commit: 2,
            ..HardState::default()
        };
        segment.push(STATE, state.encode_to_vec());
        segment
    }

    /// The last segment has room behind what is written.
    fn read_all(bytes: &[u8], is_last: bool) -> Result<Log, WalError> {
        let mut bytes = bytes.to_vec();
        if is_last {
            bytes.resize(bytes.len() + 70_000, 0);
        }
        read_as_it_is(&bytes, is_last)
    }

    fn read_as_it_is(bytes: &[u8], is_last: bool) -> Result<Log, WalError> {
        let mut log = Log::new(1);
        log.read_segment(&mut &*bytes, bytes.len() as u64, is_last)?;
        Ok(log)
    }

    fn only() -> BTreeSet<u64> {
        [1].into()
    }

    fn data(entries: &[Entry]) -> Vec<&[u8]> {
        entries.iter().map(|entry| &*entry.data).collect()
    }

    #[test]
    fn what_is_not_in_the_database_yet_is_applied() {
        let log = read_all(&segment().bytes, true).unwrap();
        assert_eq!(
            data(log.entries(only()).unwrap().0),
            [b"first", &b"second"[..]]
        );
        let (committed, open) = log.entries([1, 2].into()).unwrap();
        assert_eq!(
            (data(committed), data(open)),
            (vec![&b"first"[..]], vec![&b"second"[..]])
        );
    }

    /// A state that is taken for an entry would take the place of one.
    #[test]
    fn a_state_and_an_entry_are_not_taken_for_each_other() {
        const MEMBER: u64 = 0x8e9e_05c5_2164_694d;

        let entry = |index: u64, data: &[u8]| Entry {
            index,
            term: 2,
            data: data.to_vec(),
            ..Entry::default()
        };
        let state = |commit: u64| HardState {
            term: 2,
            vote: MEMBER,
            commit,
        };
        let mut segment = Segment::default();
        segment.push(CHECKSUM, Vec::new());
        for index in 1..6 {
            segment.push(ENTRY, entry(index, b"data").encode_to_vec());
            segment.push(STATE, state(index).encode_to_vec());
        }
        let whole = read_all(&segment.bytes, true).unwrap();
        assert_eq!(whole.entries(only()).unwrap().0.len(), 4);
        // Behind the record of the first checksum and of the first entry, which is applied.
        for at in &segment.types[2..] {
            let mut bytes = segment.bytes.clone();
            bytes[*at] ^= 1;
            if let Ok(log) = read_all(&bytes, true)
                && let Ok((entries, _)) = log.entries(only())
            {
                assert_eq!(data(entries), [b"data"; 4], "byte {at}");
            }
        }
    }

    /// As a member's first entry is the one that adds itself.
    #[test]
    fn the_log_changes_who_the_members_are() {
        let committed = |changes: &[(i32, u64)], members: &[u64]| {
            let mut segment = Segment::default();
            segment.entry(1, b"applied");
            for (index, (r#type, node_id)) in (2..).zip(changes) {
                let change = ConfChange {
                    r#type: *r#type,
                    node_id: *node_id,
                    ..ConfChange::default()
                };
                let entry = Entry {
                    r#type: 1,
                    index,
                    data: change.encode_to_vec(),
                    ..Entry::default()
                };
                segment.push(ENTRY, entry.encode_to_vec());
            }
            let commit = 1 + changes.len() as u64;
            let state = HardState {
                commit,
                ..HardState::default()
            };
            segment.push(STATE, state.encode_to_vec());
            segment.entry(commit + 1, b"open");
            let log = read_all(&segment.bytes, true).unwrap();
            let (_, open) = log.entries(members.iter().copied().collect()).unwrap();
            open.is_empty()
        };
        assert!(committed(&[(0, 1)], &[]));
        assert!(committed(&[(2, 1)], &[1]));
        assert!(committed(&[(0, 2), (1, 2)], &[1]));
        assert!(!committed(&[(0, 2)], &[1]));
        assert!(!committed(&[(3, 2)], &[1]));
        assert!(!committed(&[], &[]));
    }

    #[test]
    fn a_log_has_one_owner_whom_the_database_knows() {
        let log = |owners: &[u64]| {
            let mut segment = Segment::default();
            segment.entry(1, b"applied");
            for node_id in owners {
                let owner = Metadata {
                    node_id: *node_id,
                    cluster_id: 9,
                };
                segment.push(METADATA, owner.encode_to_vec());
            }
            read_all(&segment.bytes, true)
        };
        let written = log(&[1, 1]).unwrap();
        assert!(written.entries([1, 2].into()).is_ok());
        assert!(written.entries(BTreeSet::new()).is_ok(), "a new database");
        assert_eq!(written.entries([2].into()).unwrap_err(), Unfit::Foreign);
        assert!(log(&[1, 2]).is_err());
    }

    #[test]
    fn segments_follow_on_each_other() {
        let first = segment();
        let mut second = Segment {
            crc: first.crc,
            ..Segment::default()
        };
        second.push(CHECKSUM, Vec::new());
        second.entry(4, b"third");
        second.bytes.extend([0; 8]);
        let mut log = read_all(&first.bytes, false).unwrap();
        log.read_segment(&mut &*second.bytes, second.bytes.len() as u64, true)
            .unwrap();
        assert_eq!(log.entries(only()).unwrap().0.len(), 3);
        let mut other = read_all(&first.bytes, false).unwrap();
        let mut foreign = Segment {
            crc: 1,
            ..Segment::default()
        };
        foreign.push(CHECKSUM, Vec::new());
        let size = foreign.bytes.len() as u64;
        assert!(
            other
                .read_segment(&mut &*foreign.bytes, size, true)
                .is_err()
        );
    }

    #[test]
    fn a_log_that_ends_before_its_commit_is_incomplete() {
        let mut segment = segment();
        let state = HardState {
            commit: 9,
            ..HardState::default()
        };
        segment.push(STATE, state.encode_to_vec());
        let log = read_all(&segment.bytes, true).unwrap();
        assert_eq!(log.entries(only()).unwrap_err(), Unfit::Incomplete);
    }

    #[test]
    fn a_log_that_ends_before_the_database_is_incomplete() {
        let mut log = Log::new(4);
        let bytes = [segment().bytes, vec![0; 8]].concat();
        let size = bytes.len() as u64;
        log.read_segment(&mut &*bytes, size, true).unwrap();
        assert_eq!(log.entries(only()).unwrap_err(), Unfit::Incomplete);
    }

    #[test]
    fn a_torn_end_counts_in_the_last_segment_only() {
        let mut segment = segment();
        segment.entry(4, &[b'x'; 2000]);
        let whole = segment.bytes.clone();
        // Written up to a sector of its data, or up to its length.
        for written in [whole.len() / 512 * 512, whole.len() - 2016] {
            let mut torn = whole[..written].to_vec();
            torn.resize(whole.len(), 0);
            let log = read_all(&torn, true).unwrap();
            assert_eq!(log.entries(only()).unwrap().0.len(), 2);
            assert!(read_all(&torn, false).is_err());
            torn.extend([0; 4096]);
            torn.push(1);
            assert!(read_all(&torn, true).is_err(), "something follows");
        }
    }

    #[test]
    fn a_file_that_was_cut_off_is_refused() {
        let segment = segment().bytes;
        let mut whole = segment.clone();
        whole.resize(whole.len() + 16, 0);
        for length in 0..whole.len() {
            let read = read_as_it_is(&whole[..length], true);
            assert_eq!(read.is_ok(), length >= segment.len() + 8, "{length} bytes");
        }
    }

    #[test]
    fn each_flipped_bit_of_data_is_found() {
        let mut segment = segment();
        segment.entry(4, &[b'x'; 600]);
        segment.entry(5, b"last");
        let Segment { bytes, types, .. } = segment;
        for at in (0..bytes.len()).filter(|at| !types.contains(at)) {
            for (bit, is_last) in (0..8).flat_map(|bit| [(bit, true), (bit, false)]) {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << bit;
                let log = read_all(&bytes, is_last);
                if let Some(Ok((entries, _))) = log.as_ref().ok().map(|log| log.entries(only())) {
                    let whole = [b"first", &b"second"[..], &[b'x'; 600], b"last"];
                    assert_eq!(data(entries), whole, "byte {at}, bit {bit}, {is_last}");
                }
            }
        }
    }
}
