//! The rows of etcd's bucket `key`: one for each revision of each key
//! (`go.etcd.io/etcd/server` `storage/mvcc/revision.go`).

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use atrest_proto::mvccpb::KeyValue;
use prost::Message;

/// The bucket that holds the keyspace.
pub const KEY_BUCKET: &[u8] = b"key";

/// When a key changed: the number of the transaction, and which of its changes this was.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Revision {
    /// What kube-apiserver shows as resourceVersion.
    pub main: i64,
    /// From 0 within the transaction.
    pub sub: i64,
}

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// When it was written.
    pub revision: Revision,
    /// Whether the key was deleted; the row then has a key only.
    pub is_tombstone: bool,
    /// The pair as etcd gives it to clients.
    pub pair: KeyValue,
}

/// Why a row is none.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RevisionError {
    /// Not `main (8) || _ || sub (8)`, with a `t` behind it for a tombstone.
    #[error("the key of a row is no revision")]
    Key,
    /// The value is no KeyValue.
    #[error("the value of a row is damaged")]
    Value,
}

impl Row {
    /// Reads a row.
    pub fn parse(key: &[u8], value: &[u8]) -> Result<Self, RevisionError> {
        let (revision, is_tombstone) = match key {
            [revision @ .., b't'] if key.len() == 18 => (revision, true),
            _ => (key, false),
        };
        let (main, rest) = revision.split_first_chunk().ok_or(RevisionError::Key)?;
        let [b'_', sub @ ..] = rest else {
            return Err(RevisionError::Key);
        };
        let sub: &[u8; 8] = sub.try_into().map_err(|_| RevisionError::Key)?;
        let revision = Revision {
            main: i64::from_be_bytes(*main),
            sub: i64::from_be_bytes(*sub),
        };
        Ok(Self {
            revision,
            is_tombstone,
            pair: KeyValue::decode(value).map_err(|_| RevisionError::Value)?,
        })
    }
}

/// Tells the newest row of each key from its history, of rows that are given newest first.
///
/// Memory holds 16 bytes for each key of which older rows may still follow. None follow the first row
/// since a key was created, whose version is 1, before the tombstone that ended its life before that;
/// and none follow a row that a compaction has left, which leaves one a key
/// (`go.etcd.io/etcd/server` `storage/mvcc/key_index.go`).
#[derive(Debug)]
pub struct Newest {
    /// The revision up to which history was taken away, to the last row.
    compacted: i64,
    open: HashSet<u128>,
    hashers: [RandomState; 2],
}

impl Newest {
    /// `compacted` is `finishedCompactRev`, not what is merely scheduled.
    pub fn since(compacted: i64) -> Self {
        Self {
            compacted,
            open: HashSet::new(),
            hashers: [RandomState::new(), RandomState::new()],
        }
    }

    /// Whether no newer row of the key went by. Rows of a file that no etcd wrote may be taken for newer
    /// than they are, and never for older.
    pub fn is_newest(&mut self, row: &Row) -> bool {
        let hashes = self.hashers.each_ref();
        let [high, low] = hashes.map(|it| u128::from(it.hash_one(&row.pair.key)));
        let key = high << 64 | low;
        let is_first = row.pair.version == 1 && !row.is_tombstone;
        if row.revision.main > self.compacted && !is_first {
            self.open.insert(key)
        } else {
            !self.open.remove(&key)
        }
    }

    /// Keys of which older rows may follow.
    pub fn open(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// What an etcd does, one change a revision: puts a key, or deletes it, or compacts.
    #[derive(Clone, Copy, Debug)]
    enum Change {
        Put(u8),
        Delete(u8),
        /// So many revisions ago.
        Compact(i64),
    }

    fn changes() -> impl Strategy<Value = Vec<Change>> {
        let change = prop_oneof![
            6 => (0..8_u8).prop_map(Change::Put),
            3 => (0..8_u8).prop_map(Change::Delete),
            1 => (0..6_i64).prop_map(Change::Compact),
        ];
        prop::collection::vec(change, 0..60)
    }

    /// The rows that are left, oldest first, and up to where history was taken away.
    fn rows(changes: &[Change]) -> (Vec<Row>, i64) {
        let (mut rows, mut compacted): (Vec<Row>, _) = (Vec::new(), 0);
        let mut live: BTreeMap<u8, KeyValue> = BTreeMap::new();
        let mut main = 1;
        for change in changes {
            main += 1;
            let revision = Revision { main, sub: 0 };
            match *change {
                Change::Put(key) => {
                    let pair = live.entry(key).or_insert_with(|| KeyValue {
                        key: vec![key],
                        create_revision: main,
                        ..KeyValue::default()
                    });
                    pair.version += 1;
                    pair.mod_revision = main;
                    rows.push(Row {
                        revision,
                        is_tombstone: false,
                        pair: pair.clone(),
                    });
                }
                Change::Delete(key) => rows.extend(live.remove(&key).map(|pair| Row {
                    revision,
                    is_tombstone: true,
                    pair: KeyValue {
                        key: pair.key,
                        ..KeyValue::default()
                    },
                })),
                Change::Compact(ago) => {
                    let at = main - ago;
                    compacted = at.max(compacted);
                    let newest = |row: &Row| {
                        let of_key = rows.iter().filter(|it| it.pair.key == row.pair.key);
                        let until = of_key.filter(|it| it.revision.main <= at);
                        until.map(|it| it.revision).max() == Some(row.revision)
                    };
                    let is_left =
                        |row: &Row| row.revision.main > at || newest(row) && !row.is_tombstone;
                    rows = rows.iter().filter(|row| is_left(row)).cloned().collect();
                }
            }
        }
        (rows, compacted)
    }

    proptest! {
        #[test]
        fn the_newest_row_of_each_key_is_told_from_its_history(changes in changes()) {
            let (rows, compacted) = rows(&changes);
            let mut newest = Newest::since(compacted);
            let mut seen = HashSet::new();
            for row in rows.iter().rev() {
                let first = seen.insert(row.pair.key.clone());
                let told = newest.is_newest(row);
                // Of a tombstone nobody asks.
                prop_assert!(told == first || row.is_tombstone, "{row:?}");
            }
        }
    }

    #[test]
    fn keys_that_were_written_once_take_no_memory() {
        let once = |main: i64| Row {
            revision: Revision { main, sub: 0 },
            is_tombstone: false,
            pair: KeyValue {
                key: main.to_be_bytes().to_vec(),
                version: 1,
                ..KeyValue::default()
            },
        };
        let mut newest = Newest::since(0);
        assert!((1..1000).rev().all(|main| newest.is_newest(&once(main))));
        assert_eq!(newest.open(), 0);
        let again = |main: i64| {
            let mut row = once(main);
            row.pair.version = 2;
            row
        };
        assert!((1..1000).rev().all(|main| newest.is_newest(&again(main))));
        assert_eq!(newest.open(), 999);
        let mut compacted = Newest::since(1000);
        assert!(
            (1..1000)
                .rev()
                .all(|main| compacted.is_newest(&again(main)))
        );
        assert_eq!(compacted.open(), 0);
    }

    #[test]
    fn revisions_and_tombstones() {
        let mut key = [&5_i64.to_be_bytes()[..], b"_", &1_i64.to_be_bytes()].concat();
        let row = Row::parse(&key, b"").unwrap();
        assert_eq!(row.revision, Revision { main: 5, sub: 1 });
        assert!(!row.is_tombstone);
        key.push(b't');
        assert!(Row::parse(&key, b"").unwrap().is_tombstone);
        key[17] = b'x';
        assert_eq!(Row::parse(&key, b""), Err(RevisionError::Key));
        assert_eq!(Row::parse(b"", b""), Err(RevisionError::Key));
        assert_eq!(Row::parse(&[0; 17], b""), Err(RevisionError::Key));
        key.truncate(17);
        assert_eq!(Row::parse(&key, b"\xff"), Err(RevisionError::Value));
    }
}
