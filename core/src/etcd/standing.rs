//! What of a member's database decides, beside the pairs, whether a request changes anything: leases,
//! alarms, and etcd's own authentication.

use std::collections::HashSet;

use atrest_proto::etcdserverpb::alarm_request::AlarmAction;
use atrest_proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmType, LeaseGrantRequest, TxnRequest,
};
use prost::Message;

use super::request::Request;

const LEASES: &[u8] = b"lease";
const ALARMS: &[u8] = b"alarm";
const AUTHENTICATION: &[u8] = b"auth";

/// Longer ones are refused (`lease/lessor.go`), in seconds.
const MAX_LEASE: i64 = 9_000_000_000;

/// A row of the database cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a row of its bucket {0} is damaged")]
pub struct StandingError(&'static str);

/// The state of a member beside its pairs.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    leases: HashSet<i64>,
    /// Which member raised it, and what it is about.
    alarms: HashSet<(u64, i32)>,
    authentication: bool,
}

/// An alarm changed while one of the other kind was on. From there on 3.5 does not do what later
/// releases do.
pub(super) struct Overlap;

impl Standing {
    /// The buckets whose rows [`Standing::take`] is for.
    pub const BUCKETS: [&[u8]; 3] = [LEASES, ALARMS, AUTHENTICATION];

    /// Takes up a row.
    pub fn take(&mut self, bucket: &[u8], key: &[u8], value: &[u8]) -> Result<(), StandingError> {
        match bucket {
            LEASES => {
                let id = key.try_into().map_err(|_| StandingError("lease"))?;
                self.leases.insert(i64::from_be_bytes(id));
            }
            ALARMS => {
                let alarm = AlarmMember::decode(key).map_err(|_| StandingError("alarm"))?;
                self.alarms.insert((alarm.member_id, alarm.alarm));
            }
            _ if key == b"authEnabled" => self.authentication = value == [1],
            _ => {}
        }
        Ok(())
    }

    /// Whether a put with this lease can be; 0 is none.
    pub(super) fn has_lease(&self, id: i64) -> bool {
        id == 0 || self.leases.contains(&id)
    }

    pub(super) fn grant(&mut self, lease: &LeaseGrantRequest) {
        if lease.id != 0 && lease.ttl <= MAX_LEASE {
            self.leases.insert(lease.id);
        }
    }

    /// Whether it was there: only then its keys go with it.
    pub(super) fn revoke(&mut self, lease: i64) -> bool {
        self.leases.remove(&lease)
    }

    /// Whether etcd's own authentication may be on. (It can be asked for and not come about.)
    pub(super) fn has_authentication(&self) -> bool {
        self.authentication
    }

    pub(super) fn ask_for_authentication(&mut self) {
        self.authentication = true;
    }

    /// Whether an alarm makes the member refuse the request (`etcdserver/apply/{capped,corrupt}.go`).
    pub(super) fn refuses(&self, request: &Request) -> bool {
        let is_on = |kind: AlarmType| self.alarms.iter().any(|(_, alarm)| *alarm == kind as i32);
        let (corrupt, no_space) = (is_on(AlarmType::Corrupt), is_on(AlarmType::Nospace));
        match request {
            Request::Put(_) | Request::LeaseGrant(_) => no_space || corrupt,
            Request::Delete(_) | Request::LeaseRevoke(_) => corrupt,
            Request::Txn(txn) => corrupt || no_space && grows(txn),
            Request::Alarm(_) | Request::AuthEnable | Request::Nothing => false,
        }
    }

    /// Raises or lifts an alarm.
    pub(super) fn change(&mut self, request: &AlarmRequest) -> Result<(), Overlap> {
        let alarm = (request.member_id, request.alarm);
        let has_changed = match request.action() {
            AlarmAction::Activate if request.alarm() != AlarmType::None => {
                self.alarms.insert(alarm)
            }
            AlarmAction::Deactivate => self.alarms.remove(&alarm),
            AlarmAction::Activate | AlarmAction::Get => false,
        };
        let is_other = |(_, kind): &(u64, i32)| *kind != request.alarm;
        if has_changed && self.alarms.iter().any(is_other) {
            return Err(Overlap);
        }
        Ok(())
    }
}

/// Whether a put is anywhere in it, be it in the branch that is not taken.
fn grows(txn: &TxnRequest) -> bool {
    let mut operations = txn.success.iter().chain(&txn.failure);
    operations.any(|it| it.request_put.is_some() || it.request_txn.as_ref().is_some_and(grows))
}

#[cfg(test)]
mod tests {
    use atrest_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RequestOp};

    use super::*;

    fn alarm(action: AlarmAction, member_id: u64, kind: AlarmType) -> AlarmRequest {
        AlarmRequest {
            action: action as i32,
            member_id,
            alarm: kind as i32,
        }
    }

    fn txn(success: RequestOp) -> TxnRequest {
        TxnRequest {
            success: vec![success],
            ..TxnRequest::default()
        }
    }

    fn delete() -> RequestOp {
        RequestOp {
            request_delete_range: Some(DeleteRangeRequest::default()),
            ..RequestOp::default()
        }
    }

    /// The put stands in the branch that is not taken, within another transaction.
    fn growing() -> TxnRequest {
        let put = RequestOp {
            request_put: Some(PutRequest::default()),
            ..RequestOp::default()
        };
        let within = TxnRequest {
            failure: vec![put],
            ..TxnRequest::default()
        };
        txn(RequestOp {
            request_txn: Some(within),
            ..RequestOp::default()
        })
    }

    #[test]
    fn alarms_refuse_what_grows_or_everything() {
        let requests = [
            Request::Put(PutRequest::default()),
            Request::LeaseGrant(LeaseGrantRequest::default()),
            Request::Txn(growing()),
            Request::Txn(txn(delete())),
            Request::Delete(DeleteRangeRequest::default()),
            Request::LeaseRevoke(1),
            Request::Nothing,
        ];
        let refused = |standing: &Standing| {
            let refused = requests.iter().map(|it| standing.refuses(it));
            refused.filter(|it| *it).count()
        };
        let mut standing = Standing::default();
        assert_eq!(refused(&standing), 0);
        // The row of the database is the key alone.
        let row = AlarmMember {
            member_id: 7,
            alarm: AlarmType::Nospace as i32,
        };
        let row = row.encode_to_vec();
        assert!(standing.take(ALARMS, &row, b"").is_ok());
        assert_eq!(refused(&standing), 3);
        let lift = alarm(AlarmAction::Deactivate, 7, AlarmType::Nospace);
        let raise = alarm(AlarmAction::Activate, 7, AlarmType::Corrupt);
        assert!(standing.change(&lift).is_ok() && standing.change(&raise).is_ok());
        assert_eq!(refused(&standing), 6);
        assert!(standing.take(ALARMS, b"\xff", b"").is_err());
    }

    #[test]
    fn an_alarm_is_on_until_the_last_member_lifts_it() {
        let mut standing = Standing::default();
        let put = Request::Put(PutRequest::default());
        for member in [1, 2] {
            let raise = alarm(AlarmAction::Activate, member, AlarmType::Nospace);
            assert!(standing.change(&raise).is_ok());
        }
        for (member, is_on) in [(1, true), (3, true), (2, false)] {
            let lift = alarm(AlarmAction::Deactivate, member, AlarmType::Nospace);
            assert!(standing.change(&lift).is_ok());
            assert_eq!(standing.refuses(&put), is_on);
        }
        let none = alarm(AlarmAction::Activate, 1, AlarmType::None);
        let asks = alarm(AlarmAction::Get, 1, AlarmType::Nospace);
        assert!(standing.change(&none).is_ok() && standing.change(&asks).is_ok());
        assert!(standing.alarms.is_empty());
    }

    #[test]
    fn alarms_of_both_kinds_are_not_decided() {
        let mut standing = Standing::default();
        let raise = |kind| alarm(AlarmAction::Activate, 1, kind);
        assert!(standing.change(&raise(AlarmType::Corrupt)).is_ok());
        assert!(standing.change(&raise(AlarmType::Nospace)).is_err());
        let again = raise(AlarmType::Corrupt);
        assert!(standing.change(&again).is_ok(), "it is on already");
        let lift = alarm(AlarmAction::Deactivate, 1, AlarmType::Nospace);
        assert!(standing.change(&lift).is_err());
    }

    #[test]
    fn leases_come_and_go() {
        let mut standing = Standing::default();
        assert!(standing.take(LEASES, &7_i64.to_be_bytes(), b"").is_ok());
        assert_eq!(
            standing.take(LEASES, b"short", b""),
            Err(StandingError("lease"))
        );
        let grant = |id, ttl| LeaseGrantRequest { ttl, id };
        standing.grant(&grant(8, 60));
        standing.grant(&grant(9, MAX_LEASE + 1));
        let known = [0, 7, 8, 9].map(|id| standing.has_lease(id));
        assert_eq!(known, [true, true, true, false]);
        assert!(standing.revoke(7) && !standing.revoke(7) && !standing.has_lease(7));
    }

    #[test]
    fn authentication_is_a_row() {
        let mut standing = Standing::default();
        for (value, is_on) in [(b"\x01", true), (b"\x00", false)] {
            let taken = standing.take(AUTHENTICATION, b"authEnabled", value);
            assert!(taken.is_ok() && standing.has_authentication() == is_on);
        }
        let taken = standing.take(AUTHENTICATION, b"authRevision", b"\x01");
        assert!(taken.is_ok() && !standing.has_authentication());
    }
}
