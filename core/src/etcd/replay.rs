//! Applies what a stopped member has in its log and not yet in its database, as it would itself when
//! it starts again (`go.etcd.io/etcd/server` `etcdserver/{apply,txn}`), of any release from 3.5 on.
//! Where they differ it is refused.
//!
//! Which rows of the database that needs is asked first ([`Replay::wants`]), so that it is read once.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;

use atrest_proto::etcdserverpb::compare::{CompareResult, CompareTarget};
use atrest_proto::etcdserverpb::{Compare, PutRequest, RequestOp, TxnRequest};
use atrest_proto::mvccpb::KeyValue;
use atrest_proto::wal::Entry;

use super::request::Request;
use super::standing::{Overlap, Standing};

/// Why it cannot be said what a member would do with the log. Each has the index of the entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// Its data is no request: damaged, or of a release that is not known here.
    #[error("the entry with index {0} is no request that is known")]
    Unknown(u64),
    /// Users and roles decide whether it changes anything, and are not read.
    #[error(
        "the entry with index {0} is subject to etcd's own authentication, which is not followed"
    )]
    Authentication(u64),
    /// From here on 3.5 refuses other requests than later releases do.
    #[error(
        "the entry with index {0} changes an alarm while one of the other kind is on, after which \
         releases of etcd differ"
    )]
    Alarms(u64),
    /// Whether the revision has to be there depends on the release, too.
    #[error(
        "the entry with index {0} is a transaction that also reads an older revision, of which \
         releases of etcd make different things"
    )]
    OlderRevision(u64),
}

/// Requests that are still to be applied.
#[derive(Debug, Default)]
pub struct Replay {
    /// Those that change keys or leases, without those that an alarm refuses.
    requests: Vec<Request>,
    /// Its leases are those from before the first of them; alarms have done their part.
    standing: Standing,
    keys: HashSet<Vec<u8>>,
    ranges: Vec<(Vec<u8>, Vec<u8>)>,
    revoked: HashSet<i64>,
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
    /// Takes the entries up; `standing` is that of the database.
    pub fn new(entries: &[Entry], mut standing: Standing) -> Result<Self, ReplayError> {
        let mut replay = Self::default();
        // Other types change the membership; a new leader's first entry is empty.
        for entry in entries
            .iter()
            .filter(|entry| entry.r#type == 0 && !entry.data.is_empty())
        {
            let index = entry.index;
            let request = Request::parse(&entry.data).ok_or(ReplayError::Unknown(index))?;
            let is_refused = standing.refuses(&request);
            match &request {
                Request::Nothing => continue,
                Request::AuthEnable => {
                    standing.ask_for_authentication();
                    continue;
                }
                Request::Alarm(alarm) => {
                    let changed = standing.change(alarm);
                    changed.map_err(|Overlap| ReplayError::Alarms(index))?;
                    continue;
                }
                _ if is_refused => continue,
                // Whoever asks for it gets it.
                Request::LeaseGrant(_) => {}
                _ if standing.has_authentication() => {
                    return Err(ReplayError::Authentication(index));
                }
                Request::Put(put) => replay.key(&put.key),
                Request::Delete(delete) => replay.range(&delete.key, &delete.range_end),
                Request::Txn(txn) => replay.transaction(txn, index)?,
                Request::LeaseRevoke(lease) => {
                    replay.revoked.insert(*lease);
                }
            }
            replay.requests.push(request);
        }
        replay.standing = standing;
        Ok(replay)
    }

    fn key(&mut self, key: &[u8]) {
        self.keys.insert(key.to_vec());
    }

    fn range(&mut self, key: &[u8], end: &[u8]) {
        if end.is_empty() {
            self.key(key);
        } else {
            self.ranges.push((key.to_vec(), end.to_vec()));
        }
    }

    fn transaction(&mut self, txn: &TxnRequest, index: u64) -> Result<(), ReplayError> {
        for compare in &txn.compare {
            self.range(&compare.key, &compare.range_end);
        }
        for operation in txn.success.iter().chain(&txn.failure) {
            let range = operation.request_range.as_ref();
            if range.is_some_and(|range| range.revision != 0) {
                return Err(ReplayError::OlderRevision(index));
            }
            if let Some(put) = &operation.request_put {
                self.key(&put.key);
            }
            if let Some(delete) = &operation.request_delete_range {
                self.range(&delete.key, &delete.range_end);
            }
            if let Some(txn) = &operation.request_txn {
                self.transaction(txn, index)?;
            }
        }
        Ok(())
    }

    /// Whether there is nothing to apply.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Whether the newest pair of a key has to be known for [`Replay::apply`].
    pub fn wants(&self, pair: &KeyValue) -> bool {
        self.keys.contains(&pair.key)
            || self.revoked.contains(&pair.lease)
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
            standing: self.standing.clone(),
            done: Replayed {
                revision,
                ..Replayed::default()
            },
        };
        for request in &self.requests {
            let mut change = Change::default();
            match request {
                Request::Put(put) if member.can_put(put) => member.put(put, &mut change),
                Request::Delete(delete) => {
                    member.delete(&delete.key, &delete.range_end, &mut change);
                }
                Request::Txn(txn) => {
                    let path = member.choose(txn);
                    if member.can_run(&path) {
                        member.run(&path, &mut change);
                    }
                }
                Request::LeaseGrant(lease) => member.standing.grant(lease),
                Request::LeaseRevoke(lease) if member.standing.revoke(*lease) => {
                    let of_lease = member.live.values().filter(|pair| pair.lease == *lease);
                    let keys: Vec<_> = of_lease.map(|pair| pair.key.clone()).collect();
                    for key in keys {
                        member.delete(&key, b"", &mut change);
                    }
                }
                _ => {}
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
    standing: Standing,
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
        let needs_pair = put.ignore_value || put.ignore_lease;
        self.standing.has_lease(put.lease) && (!needs_pair || self.live.contains_key(&put.key))
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
    use atrest_proto::etcdserverpb::alarm_request::AlarmAction;
    use atrest_proto::etcdserverpb::{
        AlarmRequest, AlarmType, DeleteRangeRequest, InternalRaftRequest, LeaseGrantRequest,
        LeaseRevokeRequest, RangeRequest, Unread,
    };
    use prost::Message;

    use super::*;

    fn put(key: &str, value: &str) -> PutRequest {
        PutRequest {
            key: key.into(),
            value: value.into(),
            ..PutRequest::default()
        }
    }

    fn request_put(put: PutRequest) -> InternalRaftRequest {
        InternalRaftRequest {
            put: Some(put),
            ..InternalRaftRequest::default()
        }
    }

    /// What kube-apiserver sends: put if the key is as it was read, else read it.
    fn update(key: &str, mod_revision: i64, value: &str) -> InternalRaftRequest {
        let range = RangeRequest {
            key: key.into(),
            ..RangeRequest::default()
        };
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
                failure: vec![RequestOp {
                    request_range: Some(range),
                    ..RequestOp::default()
                }],
            }),
            ..InternalRaftRequest::default()
        }
    }

    fn grant(id: i64) -> InternalRaftRequest {
        InternalRaftRequest {
            lease_grant: Some(LeaseGrantRequest { ttl: 60, id }),
            ..InternalRaftRequest::default()
        }
    }

    fn revoke(id: i64) -> InternalRaftRequest {
        InternalRaftRequest {
            lease_revoke: Some(LeaseRevokeRequest { id }),
            ..InternalRaftRequest::default()
        }
    }

    fn alarm(action: AlarmAction, kind: AlarmType) -> InternalRaftRequest {
        InternalRaftRequest {
            alarm: Some(AlarmRequest {
                action: action as i32,
                member_id: 1,
                alarm: kind as i32,
            }),
            ..InternalRaftRequest::default()
        }
    }

    fn replay(requests: &[InternalRaftRequest]) -> Result<Replay, ReplayError> {
        Replay::new(&entries(requests), Standing::default())
    }

    /// The keys of which there is something then.
    fn left(done: &Replayed) -> Vec<&str> {
        let left = done.keys.iter().filter(|(_, pair)| pair.is_some());
        left.map(|(key, _)| std::str::from_utf8(key).unwrap())
            .collect()
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
        let replay = replay(&[
            update("a", 5, "new"),
            update("a", 5, "lost"),
            update("b", 0, "created"),
            update("a", 11, "newer"),
        ])
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
        let mut standing = Standing::default();
        standing.take(b"lease", &7_i64.to_be_bytes(), b"").unwrap();
        // Of a lease that is not there nothing goes.
        let requests = entries(&[delete.clone(), revoke(7), revoke(8), delete]);
        let replay = Replay::new(&requests, standing).unwrap();
        let live = vec![
            stored("a1", 1, 0),
            stored("a2", 2, 0),
            stored("x", 3, 7),
            stored("y", 4, 8),
        ];
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
        let done = replay(&[request_put(keep)]).unwrap().apply(vec![], 3);
        assert!(done.keys.is_empty() && done.revision == 3);
    }

    #[test]
    fn a_put_needs_its_lease() {
        let leased = |key: &str, lease| {
            request_put(PutRequest {
                lease,
                ..put(key, "new")
            })
        };
        let mut in_txn = update("in-txn", 0, "new");
        let txn = in_txn.txn.as_mut().unwrap();
        let refused = PutRequest {
            lease: 7,
            ..put("other", "new")
        };
        txn.success.push(RequestOp {
            request_put: Some(refused),
            ..RequestOp::default()
        });
        let requests = [
            leased("early", 7),
            grant(7),
            leased("on-time", 7),
            leased("stays", 0),
            revoke(7),
            leased("late", 7),
            // It is all or nothing.
            in_txn,
        ];
        let done = replay(&requests).unwrap().apply(vec![], 10);
        assert_eq!(left(&done), ["stays"]);
        assert_eq!(done.keys[&b"on-time"[..]], None);
        assert_eq!(done.revision, 13);
    }

    #[test]
    fn an_alarm_for_space_lets_through_what_frees_some() {
        let delete = InternalRaftRequest {
            delete_range: Some(DeleteRangeRequest {
                key: b"old".to_vec(),
                ..DeleteRangeRequest::default()
            }),
            ..InternalRaftRequest::default()
        };
        let requests = [
            request_put(put("before", "")),
            alarm(AlarmAction::Activate, AlarmType::Nospace),
            request_put(put("during", "")),
            update("during", 0, ""),
            grant(7),
            delete,
            alarm(AlarmAction::Deactivate, AlarmType::Nospace),
            request_put(put("after", "")),
            request_put(PutRequest {
                lease: 7,
                ..put("leased", "")
            }),
        ];
        let done = replay(&requests)
            .unwrap()
            .apply(vec![stored("old", 1, 0)], 10);
        assert_eq!(left(&done), ["after", "before"]);
        assert_eq!((done.keys.len(), done.revision), (3, 13));
    }

    #[test]
    fn what_is_not_decided_is_refused_with_its_index() {
        let first = request_put(put("a", ""));
        let second = |request: InternalRaftRequest| {
            let third = request_put(put("b", ""));
            replay(&[first.clone(), request, third]).map(|_| ())
        };
        assert_eq!(second(grant(7)), Ok(()));
        let unknown = InternalRaftRequest {
            header: Some(Unread {}),
            ..InternalRaftRequest::default()
        };
        assert_eq!(second(unknown).unwrap_err(), ReplayError::Unknown(2));
        let enable = InternalRaftRequest {
            auth_enable: Some(Unread {}),
            ..InternalRaftRequest::default()
        };
        let with_users = ReplayError::Authentication(3);
        assert_eq!(second(enable.clone()).unwrap_err(), with_users);
        assert!(replay(&[first.clone(), enable]).is_ok(), "nothing follows");
        let mut reads_back = update("a", 1, "");
        let txn = reads_back.txn.as_mut().unwrap();
        txn.failure[0].request_range.as_mut().unwrap().revision = 1;
        let older = ReplayError::OlderRevision(2);
        assert_eq!(second(reads_back).unwrap_err(), older);
        let raise = |kind| alarm(AlarmAction::Activate, kind);
        let both = [AlarmType::Corrupt, AlarmType::Nospace].map(raise);
        assert_eq!(replay(&both).unwrap_err(), ReplayError::Alarms(2));
    }
}
