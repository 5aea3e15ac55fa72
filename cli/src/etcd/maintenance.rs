//! What etcd does for its keepers: snapshots, its members, defragmentation.

use std::time::Duration;

use atrest_proto::etcdserverpb::cluster_client::ClusterClient;
use atrest_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use atrest_proto::etcdserverpb::{
    DefragmentRequest, MemberListRequest, SnapshotRequest, StatusRequest,
};
use tokio::time::timeout;
use tonic::transport::Channel;

use super::live::{Client, REQUEST_TIMEOUT, channel, describe};
use crate::args::EtcdFlags;
use crate::report::progress::Progress;
use crate::status::Failure;

/// Writing a database of some gigabytes anew takes a minute or two.
const DEFRAGMENTATION: Duration = Duration::from_secs(600);

impl Client {
    /// Gives every piece of a snapshot of the whole database, which ends with the SHA-256 of what is
    /// in front of it.
    pub(crate) async fn snapshot(
        &mut self,
        progress: &Progress,
        mut each: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let failed = |status: tonic::Status| {
            Failure::unread(format!("etcd gives no snapshot: {}", describe(&status)))
        };
        let silence = || failed(tonic::Status::deadline_exceeded("it stopped in the middle"));
        let answer = self.maintenance.snapshot(SnapshotRequest {}).await;
        let mut parts = answer.map_err(failed)?.into_inner();
        let mut left = None;
        loop {
            let part = timeout(REQUEST_TIMEOUT, parts.message());
            let Some(part) = part.await.map_err(|_| silence())?.map_err(failed)? else {
                break;
            };
            let blob = part.blob.len() as u64;
            if left.is_none() {
                progress.expect(part.remaining_bytes + blob);
            }
            left = Some(part.remaining_bytes);
            progress.advance(blob);
            each(&part.blob)?;
        }
        match left {
            Some(0) => Ok(()),
            // Without its end it would be refused later; this says why.
            _ => Err(failed(tonic::Status::data_loss("it ended too early"))),
        }
    }

    /// The members, the leader last.
    pub(crate) async fn members(&mut self) -> Result<Vec<Listed>, Failure> {
        let failed = |status: tonic::Status| {
            Failure::unread(format!(
                "etcd does not list its members: {}",
                describe(&status)
            ))
        };
        let mut cluster = ClusterClient::new(self.channel.clone());
        let request = MemberListRequest { linearizable: true };
        let listed = cluster
            .member_list(request)
            .await
            .map_err(failed)?
            .into_inner();
        let status = self.maintenance.status(StatusRequest {}).await;
        let leader = status.map_err(failed)?.into_inner().leader;
        let mut members: Vec<_> = listed
            .members
            .into_iter()
            .map(|member| Listed {
                is_leader: member.id == leader,
                name: match member.name.is_empty() {
                    true => format!("{:x}", member.id),
                    false => member.name,
                },
                urls: member.client_urls,
            })
            .collect();
        members.sort_by(|a, b| (a.is_leader, &a.name).cmp(&(b.is_leader, &b.name)));
        Ok(members)
    }
}

/// A member as etcd lists it.
pub(crate) struct Listed {
    pub(crate) name: String,
    urls: Vec<String>,
    is_leader: bool,
}

/// One member, at its own address.
pub(crate) struct Member {
    pub(crate) name: String,
    maintenance: MaintenanceClient<Channel>,
}

/// How a member is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Health {
    /// Bytes of its database.
    pub(crate) file: u64,
    /// Entries of the log that it has applied.
    pub(crate) applied: u64,
    /// Whether it knows a leader and has no alarm.
    pub(crate) is_well: bool,
}

impl Member {
    /// By the first of its addresses that answers.
    pub(crate) async fn connect(listed: &Listed, flags: &EtcdFlags) -> Result<Self, Failure> {
        let name = &listed.name;
        let mut last = Failure::unread(format!("member {name} of etcd has no address for clients"));
        for url in &listed.urls {
            match channel(url, flags, DEFRAGMENTATION).await {
                Ok(channel) => {
                    return Ok(Self {
                        name: name.clone(),
                        maintenance: MaintenanceClient::new(channel),
                    });
                }
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    pub(crate) async fn health(&mut self) -> Result<Health, Failure> {
        let status = timeout(REQUEST_TIMEOUT, self.maintenance.status(StatusRequest {})).await;
        let status = status.map_err(|_| tonic::Status::deadline_exceeded("it does not answer"));
        let status = status
            .and_then(|answer| answer)
            .map_err(|status| self.failed(&status))?
            .into_inner();
        Ok(Health {
            file: u64::try_from(status.db_size).unwrap_or_default(),
            applied: status.raft_applied_index,
            is_well: status.leader != 0 && status.errors.is_empty(),
        })
    }

    /// Has it write its database anew, without what is free. It answers nobody meanwhile.
    pub(crate) async fn defragment(&mut self) -> Result<(), Failure> {
        let defragmented = self.maintenance.defragment(DefragmentRequest {}).await;
        defragmented
            .map(|_| ())
            .map_err(|status| self.failed(&status))
    }

    fn failed(&self, status: &tonic::Status) -> Failure {
        Failure::unread(format!(
            "member {} of etcd: {}",
            self.name,
            describe(status)
        ))
    }
}
