//! What an entry of the log asks for, told apart as a member does when it applies it
//! (`go.etcd.io/etcd/server` `etcdserver/server.go`, `applyEntryNormal`).

use atrest_proto::etcdserverpb::{
    AlarmRequest, DeleteRangeRequest, InternalRaftRequest, LeaseGrantRequest, PutRequest,
    TxnRequest, V2Request,
};
use prost::Message;

/// A request, as far as it matters to the keyspace.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // nearly all are transactions, the largest one
pub(super) enum Request {
    Put(PutRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    LeaseGrant(LeaseGrantRequest),
    LeaseRevoke(i64),
    Alarm(AlarmRequest),
    AuthEnable,
    /// Of members, versions or users, a read, a compaction: no key changes.
    Nothing,
}

impl Request {
    /// Reads the data of an entry. `None` where a member would not know it either, and end.
    pub(super) fn parse(data: &[u8]) -> Option<Self> {
        // In this order: a request of the second API has numbers where this message has messages.
        let Ok(request) = InternalRaftRequest::decode(data) else {
            return v2(&V2Request::decode(data).ok()?);
        };
        match &request.v2 {
            Some(request) => v2(request),
            None => v3(request),
        }
    }
}

/// They change the second API's own store, which is no part of the keyspace, and what is known of
/// members and the cluster's version.
fn v2(request: &V2Request) -> Option<Request> {
    match &*request.method {
        b"POST" | b"PUT" | b"DELETE" | b"QGET" | b"SYNC" => Some(Request::Nothing),
        _ => None,
    }
}

fn v3(request: InternalRaftRequest) -> Option<Request> {
    if let Some(put) = request.put {
        return Some(Request::Put(put));
    }
    if let Some(delete) = request.delete_range {
        return Some(Request::Delete(delete));
    }
    if let Some(txn) = request.txn {
        return Some(Request::Txn(txn));
    }
    if let Some(grant) = request.lease_grant {
        return Some(Request::LeaseGrant(grant));
    }
    if let Some(revoke) = request.lease_revoke {
        return Some(Request::LeaseRevoke(revoke.id));
    }
    if let Some(alarm) = request.alarm {
        return Some(Request::Alarm(alarm));
    }
    if request.auth_enable.is_some() {
        return Some(Request::AuthEnable);
    }
    let others = [
        request.range.is_some(),
        request.compaction.is_some(),
        request.lease_checkpoint.is_some(),
        request.auth_disable.is_some(),
        request.authenticate.is_some(),
        request.auth_status.is_some(),
        request.auth_user_add.is_some(),
        request.auth_user_delete.is_some(),
        request.auth_user_get.is_some(),
        request.auth_user_change_password.is_some(),
        request.auth_user_grant_role.is_some(),
        request.auth_user_revoke_role.is_some(),
        request.auth_user_list.is_some(),
        request.auth_role_list.is_some(),
        request.auth_role_add.is_some(),
        request.auth_role_delete.is_some(),
        request.auth_role_get.is_some(),
        request.auth_role_grant_permission.is_some(),
        request.auth_role_revoke_permission.is_some(),
        request.cluster_version_set.is_some(),
        request.cluster_member_attr_set.is_some(),
        request.downgrade_info_set.is_some(),
        request.downgrade_version_test.is_some(),
    ];
    others.contains(&true).then_some(Request::Nothing)
}

#[cfg(test)]
mod tests {
    use atrest_proto::etcdserverpb::Unread;

    use super::*;

    /// `etcdserverpb.Request` as 3.5 writes it: every field is there, whether it says something or
    /// not.
    fn v2_entry(method: &str, path: &str, value: &str) -> Vec<u8> {
        let mut data = vec![0x08, 0x93, 0x9c, 0x8c, 0xf0, 0xd5, 0x8e, 0x92, 0xf6, 0x19];
        for (tag, text) in [(0x12, method), (0x1a, path), (0x22, value)] {
            data.extend([tag, text.len() as u8]);
            data.extend(text.as_bytes());
        }
        data.extend([0x28, 0, 0x32, 0, 0x38, 0, 0x48, 0, 0x50, 0, 0x58, 0]);
        data.extend([0x60, 0, 0x68, 0, 0x70, 0, 0x78, 0, 0x80, 1, 0]);
        data
    }

    #[test]
    fn requests_of_the_second_api_change_no_key() {
        for (method, path, value) in [
            (
                "PUT",
                "/0/members/8e9e05c52164694d/attributes",
                r#"{"name":"default","clientURLs":["http://127.0.0.1:2379"]}"#,
            ),
            ("PUT", "/0/version", "3.5.0"),
            ("SYNC", "", ""),
            ("QGET", "/1", ""),
            ("DELETE", "/1/a", ""),
            // What is also fields of the other message up to where it cannot be any more.
            ("POST", "\u{a}\u{1}a", "\u{a}\u{1}a"),
        ] {
            let data = v2_entry(method, path, value);
            assert!(InternalRaftRequest::decode(&*data).is_err(), "{method}");
            assert!(matches!(Request::parse(&data), Some(Request::Nothing)));
        }
        assert!(Request::parse(&v2_entry("PATCH", "/1", "")).is_none());
    }

    #[test]
    fn one_within_the_other_is_the_same() {
        let within = |method: &str| {
            let request = InternalRaftRequest {
                v2: Some(V2Request {
                    method: method.into(),
                    ..V2Request::default()
                }),
                put: Some(PutRequest::default()),
                ..InternalRaftRequest::default()
            };
            Request::parse(&request.encode_to_vec())
        };
        assert!(matches!(within("PUT"), Some(Request::Nothing)));
        assert!(within("").is_none());
    }

    #[test]
    fn what_no_release_knows_is_told_apart() {
        let known = InternalRaftRequest {
            cluster_version_set: Some(Unread {}),
            ..InternalRaftRequest::default()
        };
        assert!(matches!(
            Request::parse(&known.encode_to_vec()),
            Some(Request::Nothing)
        ));
        let header_only = InternalRaftRequest {
            header: Some(Unread {}),
            ..InternalRaftRequest::default()
        };
        assert!(Request::parse(&header_only.encode_to_vec()).is_none());
        assert!(Request::parse(&[0xba, 0x51, 0]).is_none(), "field 1303");
        assert!(Request::parse(b"\xff").is_none());
    }
}
