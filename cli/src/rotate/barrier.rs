//! What the journal says of the time since every server wrote with the target.

use std::collections::BTreeMap;

use atrest_core::rotation::Progress;

use super::journal::Record;
use crate::cluster::Process;

/// What the journal says of the time since every server wrote with the target.
#[derive(Default)]
pub(super) struct Barrier {
    /// etcd's, when it was reached.
    pub(super) revision: Option<i64>,
    /// The servers' then, in their order.
    pub(super) processes: Vec<Process>,
    /// The plugin's then.
    pub(super) key_id: Option<String>,
    /// Up to which object of each resource an earlier process has come.
    pub(super) behind: BTreeMap<String, String>,
    /// Milliseconds since 1970.
    pub(super) proven_at: Option<i64>,
    pub(super) since: Progress,
    /// By the server's name: the process whose canary all servers read.
    pub(super) canaries: BTreeMap<String, Process>,
}

impl Barrier {
    /// Since the newest one. The first records, `taken_up` of them, are of earlier processes.
    pub(super) fn of(records: &[Record], taken_up: usize) -> Self {
        let mut barrier = Self::default();
        for (i, record) in records.iter().enumerate() {
            if i == taken_up {
                barrier.since.take_up();
            }
            match record {
                Record::Barrier {
                    revision,
                    processes,
                    key_id,
                    ..
                } => {
                    barrier = Self {
                        revision: Some(*revision),
                        processes: processes.clone(),
                        key_id: key_id.clone(),
                        proven_at: barrier.proven_at,
                        canaries: barrier.canaries,
                        ..Self::default()
                    };
                }
                Record::Canary { server, process } => {
                    barrier.canaries.insert(server.clone(), process.clone());
                }
                Record::RolledBack => barrier = Self::default(),
                // What it set aside is not known any more: it is tried again by the next pass.
                Record::Reached {
                    resource, object, ..
                } if i < taken_up => {
                    barrier.behind.insert(resource.clone(), object.clone());
                }
                Record::Rewrote { set_aside, .. } => {
                    barrier.since.rewrite(*set_aside);
                    barrier.behind.clear();
                }
                Record::Verified {
                    not_current: 0,
                    unread: 0,
                    at,
                    ..
                } => {
                    barrier.proven_at.get_or_insert(*at);
                }
                _ => {}
            }
        }
        if records.len() == taken_up {
            barrier.since.take_up();
        }
        barrier
    }
}
