//! Applies what a stopped member has in its log and not yet in its database, as it would itself when
//! it starts again (`go.etcd.io/etcd/server` `etcdserver/{apply,txn}`).
//!
//! Which rows of the database that needs is asked first ([`Replay::wants`]), so that it is read once.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;

use atrest_proto::etcdserverpb::compare::{CompareResult, CompareTarget};
use atrest_proto::etcdserverpb::{Compare, InternalRaftRequest, PutRequest, RequestOp, TxnRequest};
use atrest_proto::mvccpb::KeyValue;
use atrest_proto::wal::Entry;
use prost::Message;

/// An entry's data is no request: damaged, or of a release that is not known here.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the entry with index {0} is no request")]
pub struct ReplayError(u64);

/// Requests that are still to be applied.
#[derive(Debug)]
pub struct Replay {
    requests: Vec<InternalRaftRequest>,
    keys: HashSet<Vec<u8>>,
    ranges: Vec<(Vec<u8>, Vec<u8>)>,
    leases: HashSet<i64>,
}

/// The keyspace after the log.
#[derive(Debug, Default)]
pub struct Replayed {
    /// Keys that the log changed: as they are now, `None` for deleted ones.
    pub keys: BTreeMap<Vec<u8>, Option<KeyValue>>,
    /// Pairs that only the log has and that it superseded itself.
    pub superseded: Vec<KeyValue>,
    /// The newest revision.
    pub revision: i64,
}

impl Replay {
    /// Takes the entries up.
    pub fn new(entries: &[Entry]) -> Result<Self, ReplayError> {
        let mut replay = Self {
            requests: Vec::new(),
            keys: HashSet::new(),
            ranges: Vec::new(),
            leases: HashSet::new(),
        };
        // Other types change the membership; a new leader's first entry is empty.
        for entry in entries
            .iter()
            .filter(|entry| entry.r#type == 0 && !entry.data.is_empty())
        {
            let request =
                InternalRaftRequest::decode(&*entry.data).map_err(|_| ReplayError(entry.index))?;
            if let Some(put) = &request.put {
                replay.keys.insert(put.key.clone());
            }
            if let Some(delete) = &request.delete_range {
                replay.range(&delete.key, &delete.range_end);
            }
            if let Some(txn) = &request.txn {
                replay.transaction(txn);
            }
            if let Some(revoke) = &request.lease_revoke {
                replay.leases.insert(revoke.id);
            }
            replay.requests.push(request);
        }
        Ok(replay)
    }

    fn range(&mut self, key: &[u8], end: &[u8]) {
        if end.is_empty() {
            self.keys.insert(key.to_vec());
        } else {
            self.ranges.push((key.to_vec(), end.to_vec()));
        }
    }

    fn transaction(&mut self, txn: &TxnRequest) {
        for compare in &txn.compare {
            self.range(&compare.key, &compare.range_end);
        }
        for operation in txn.success.iter().chain(&txn.failure) {
            if let Some(put) = &operation.request_put {
                self.keys.insert(put.key.clone());
            }
            if let Some(delete) = &operation.request_delete_range {
                self.range(&delete.key, &delete.range_end);
            }
            if let Some(txn) = &operation.request_txn {
                self.transaction(txn);
            }
        }
    }

    /// Whether there is nothing to apply.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Whether the newest pair of a key has to be known for [`Replay::apply`].
    pub fn wants(&self, pair: &KeyValue) -> bool {
        self.keys.contains(&pair.key)
            || self.leases.contains(&pair.lease)
            || self
                .ranges
                .iter()
                .any(|(start, end)| *start <= pair.key && (end == b"\0" || pair.key < *end))
    }

    /// Applies all requests to the live pairs that were wanted, and to the database's newest
    /// revision.
    pub fn apply(&self, live: Vec<KeyValue>, revision: i64) -> Replayed {
        let mut member = Member {
            live: live
                .into_iter()
                .map(|pair| (pair.key.clone(), pair))
                .collect(),
            done: Replayed {
                revision,
                ..Replayed::default()
            },
        };
        for request in &self.requests {
            let mut change = Change::default();
            if let Some(put) = &request.put
                && member.can_put(put)
            {
                member.put(put, &mut change);
            } else if let Some(delete) = &request.delete_range {
                member.delete(&delete.key, &delete.range_end, &mut change);
            } else if let Some(txn) = &request.txn {
                let path = member.choose(txn);
                if member.can_run(&path) {
                    member.run(&path, &mut change);
                }
            } else if let Some(revoke) = &request.lease_revoke {
                let of_lease = member.live.values().filter(|pair| pair.lease == revoke.id);
                let keys: Vec<_> = of_lease.map(|pair| pair.key.clone()).collect();
                for key in keys {
                    member.delete(&key, b"", &mut change);
                }
            }
            if change.happened {
                member.done.revision = member.next_revision();
            }
        }
        member.done
    }
}

/// Whether the request at hand changed anything.
#[derive(Default)]
struct Change {
    happened: bool,
}

struct Member {
    live: BTreeMap<Vec<u8>, KeyValue>,
    done: Replayed,
}

/// The operations of a transaction that its comparisons choose, those of nested ones among them. All
/// comparisons see the keyspace from before.
enum Step<'a> {
    Put(&'a PutRequest),
    Delete(&'a [u8], &'a [u8]),
}

impl Member {
    fn choose<'a>(&self, txn: &'a TxnRequest) -> Vec<Step<'a>> {
        let holds = txn.compare.iter().all(|compare| self.holds(compare));
        let chosen: &[RequestOp] = if holds { &txn.success } else { &txn.failure };
        let mut steps = Vec::new();
        for operation in chosen {
            if let Some(put) = &operation.request_put {
                steps.push(Step::Put(put));
            } else if let Some(delete) = &operation.request_delete_range {
                steps.push(Step::Delete(&delete.key, &delete.range_end));
            } else if let Some(txn) = &operation.request_txn {
                steps.extend(self.choose(txn));
            }
        }
        steps
    }

    fn holds(&self, compare: &Compare) -> bool {
        let keys = self.range(&compare.key, &compare.range_end);
        if keys.is_empty() {
            return compare.target() != CompareTarget::Value
                && matches(compare, &KeyValue::default());
        }
        keys.iter().all(|key| matches(compare, &self.live[key]))
    }

    fn can_run(&self, steps: &[Step<'_>]) -> bool {
        steps.iter().all(|step| match step {
            Step::Put(put) => self.can_put(put),
            Step::Delete(..) => true,
        })
    }

    fn can_put(&self, put: &PutRequest) -> bool {
        !(put.ignore_value || put.ignore_lease) || self.live.contains_key(&put.key)
    }

    fn run(&mut self, steps: &[Step<'_>], change: &mut Change) {
        for step in steps {
            match step {
                Step::Put(put) => self.put(put, change),
                Step::Delete(key, end) => self.delete(key, end, change),
            }
        }
    }

    fn put(&mut self, put: &PutRequest, change: &mut Change) {
        let revision = self.next_revision();
        let before = self.live.get(&put.key).cloned().unwrap_or_default();
        let pair = KeyValue {
            key: put.key.clone(),
            create_revision: match before.version {
                0 => revision,
                _ => before.create_revision,
            },
            mod_revision: revision,
            version: before.version.saturating_add(1),
            value: match put.ignore_value {
                true => before.value.clone(),
                false => put.value.clone(),
            },
            lease: match put.ignore_lease {
                true => before.lease,
                false => put.lease,
            },
        };
        self.live.insert(put.key.clone(), pair.clone());
        self.record(put.key.clone(), Some(pair));
        change.happened = true;
    }

    /// A damaged database can have said that it is at the last one.
    fn next_revision(&self) -> i64 {
        self.done.revision.saturating_add(1)
    }

    fn delete(&mut self, key: &[u8], end: &[u8], change: &mut Change) {
        for key in self.range(key, end) {
            self.live.remove(&key);
            self.record(key, None);
            change.happened = true;
        }
    }

    fn record(&mut self, key: Vec<u8>, pair: Option<KeyValue>) {
        if let Some(Some(before)) = self.done.keys.insert(key, pair) {
            self.done.superseded.push(before);
        }
    }

    fn range(&self, key: &[u8], end: &[u8]) -> Vec<Vec<u8>> {
        if end.is_empty() {
            return self
                .live
                .contains_key(key)
                .then(|| key.to_vec())
                .into_iter()
                .collect();
        }
        let end = match end {
            b"\0" => Bound::Unbounded,
            end if end <= key => return Vec::new(),
            end => Bound::Excluded(end),
        };
        let keys = self.live.range::<[u8], _>((Bound::Included(key), end));
        keys.map(|(key, _)| key.clone()).collect()
    }
}

fn matches(compare: &Compare, pair: &KeyValue) -> bool {
    let order = match compare.target() {
        CompareTarget::Version => pair.version.cmp(&compare.version),
        CompareTarget::Create => pair.create_revision.cmp(&compare.create_revision),
        CompareTarget::Mod => pair.mod_revision.cmp(&compare.mod_revision),
        CompareTarget::Value => pair.value.cmp(&compare.value),
        CompareTarget::Lease => pair.lease.cmp(&compare.lease),
    };
    match compare.result() {
        CompareResult::Equal => order == Ordering::Equal,
        CompareResult::Greater => order == Ordering::Greater,
        CompareResult::Less => order == Ordering::Less,
        CompareResult::NotEqual => order != Ordering::Equal,
    }
}

#[cfg(test)]
mod tests {
    use atrest_proto::etcdserverpb::{DeleteRangeRequest, LeaseRevokeRequest};

    use super::*;

    fn put(key: &str, value: &str) -> PutRequest {
        PutRequest {
            key: key.into(),
            value: value.into(),
            ..PutRequest::default()
        }
    }

    /// What kube-apiserver sends: put if the key is as it was read.
    fn update(key: &str, mod_revision: i64, value: &str) -> InternalRaftRequest {
        InternalRaftRequest {
            txn: Some(TxnRequest {
                compare: vec![Compare {
                    target: CompareTarget::Mod as i32,
                    key: key.into(),
                    mod_revision,
                    ..Compare::default()
                }],
                success: vec![RequestOp {
                    request_put: Some(put(key, value)),
                    ..RequestOp::default()
                }],
                failure: Vec::new(),
            }),
            ..InternalRaftRequest::default()
        }
    }

    fn entries(requests: &[InternalRaftRequest]) -> Vec<Entry> {
        let indices = 1..;
        let entry = |(request, index): (&InternalRaftRequest, u64)| Entry {
            index,
            data: request.encode_to_vec(),
            ..Entry::default()
        };
        requests.iter().zip(indices).map(entry).collect()
    }

    fn stored(key: &str, revision: i64, lease: i64) -> KeyValue {
        KeyValue {
            key: key.into(),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            value: b"old".to_vec(),
            lease,
        }
    }

    #[test]
    fn transactions_hold_or_do_nothing() {
        let replay = Replay::new(&entries(&[
            update("a", 5, "new"),
            update("a", 5, "lost"),
            update("b", 0, "created"),
            update("a", 11, "newer"),
        ]))
        .unwrap();
        let known = stored("a", 5, 0);
        assert!(replay.wants(&known) && !replay.wants(&stored("c", 1, 0)));
        let done = replay.apply(vec![known], 10);
        assert_eq!(done.revision, 13);
        let a = done.keys[&b"a"[..]].as_ref().unwrap();
        assert_eq!(
            (&*a.value, a.mod_revision, a.version, a.create_revision),
            (&b"newer"[..], 13, 3, 5)
        );
        let b = done.keys[&b"b"[..]].as_ref().unwrap();
        assert_eq!((b.mod_revision, b.create_revision, b.version), (12, 12, 1));
        assert_eq!(done.superseded.len(), 1);
        assert_eq!(done.superseded[0].value, b"new");
    }

    #[test]
    fn ranges_and_leases_are_deleted() {
        let delete = InternalRaftRequest {
            delete_range: Some(DeleteRangeRequest {
                key: b"a".to_vec(),
                range_end: b"b".to_vec(),
                prev_kv: false,
            }),
            ..InternalRaftRequest::default()
        };
        let revoke = InternalRaftRequest {
            lease_revoke: Some(LeaseRevokeRequest { id: 7 }),
            ..InternalRaftRequest::default()
        };
        let replay = Replay::new(&entries(&[delete.clone(), revoke, delete])).unwrap();
        let live = vec![stored("a1", 1, 0), stored("a2", 2, 0), stored("x", 3, 7)];
        assert!(live.iter().all(|pair| replay.wants(pair)));
        let done = replay.apply(live, 10);
        assert!(done.keys.values().all(Option::is_none) && done.keys.len() == 3);
        // The second deletion finds nothing, and makes no revision.
        assert_eq!(done.revision, 12);
    }

    #[test]
    fn a_put_that_cannot_be_changes_nothing() {
        let mut keep = put("a", "");
        keep.ignore_value = true;
        let request = InternalRaftRequest {
            put: Some(keep),
            ..InternalRaftRequest::default()
        };
        let done = Replay::new(&entries(&[request])).unwrap().apply(vec![], 3);
        assert!(done.keys.is_empty() && done.revision == 3);
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let entry = Entry {
            index: 9,
            data: b"\xff".to_vec(),
            ..Entry::default()
        };
        assert_eq!(Replay::new(&[entry]).unwrap_err(), ReplayError(9));
    }
}
