//! Looks after etcd while API servers write to it: after its room, and after what it has still to apply.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use super::connection::Connection;
use super::governor::Governor;
use super::space::Space;
use crate::args::EtcdFlags;
use crate::etcd;
use crate::status::Failure;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

pub(crate) struct Steward {
    connection: Connection,
    space: Space,
}

impl Steward {
    pub(crate) async fn new(
        mut client: etcd::Client,
        flags: &EtcdFlags,
        quiet: bool,
    ) -> Result<Self, Failure> {
        let revision = client.revision().await?;
        Ok(Self {
            connection: Connection::new(client, flags),
            space: Space::since(revision, quiet),
        })
    }

    /// Goes on until it has to be given up. `newest` is the revision of the newest write of ours.
    pub(super) async fn watch(
        mut self,
        governor: &RefCell<Governor>,
        newest: &Cell<i64>,
    ) -> Result<(), Failure> {
        let mut in_use = None;
        loop {
            tokio::time::sleep(LOOK).await;
            self.space.finish(newest.get());
            // Until the next look as much may be written as since the last one, and half as much more.
            let last = self.space.usage().map(|usage| usage.in_use);
            let grown = last
                .zip(in_use)
                .map_or(0, |(now, then): (u64, u64)| now.saturating_sub(then));
            in_use = last;
            let has_room = self.space.make(&mut self.connection, grown * 3 / 2).await?;
            let mut governor = governor.borrow_mut();
            governor.has_room(has_room);
            governor.backlog(self.space.usage().map_or(0, |usage| usage.backlog));
        }
    }
}
