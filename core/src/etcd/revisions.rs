//! The rows of etcd's bucket `key`: one for each revision of each key
//! (`go.etcd.io/etcd/server` `storage/mvcc/revision.go`).

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

#[cfg(test)]
mod tests {
    use super::*;

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
