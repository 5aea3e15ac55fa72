//! Whether etcd's database has room for everything to be written again.

use serde::Serialize;

use crate::args::Engine;
use crate::etcd::{self, Quota, Usage};
use crate::rotate::rewrite::quota::{self, Room};
use crate::status::Failure;

/// The database of the member that answers, before a run.
#[derive(Debug, Serialize)]
pub(super) struct Database {
    /// With its free pages: what the quota is held against.
    file_bytes: u64,
    in_use_bytes: u64,
    /// `None` where there is none, or before etcd 3.6, which does not say.
    quota_bytes: Option<u64>,
    /// What the rewrite adds at most before a compaction gives it back: keys and values.
    growth_bytes: u64,
    /// Were nothing compacted.
    #[serde(skip)]
    room: Room,
}

impl Database {
    /// Asks for the size, and refuses where there is no room to begin.
    pub(super) async fn look(
        etcd: &mut etcd::Client,
        growth: u64,
        engine: Engine,
    ) -> Result<Self, Failure> {
        let usage = etcd.usage().await.map_err(|status| {
            Failure::unread(format!(
                "etcd does not say its size: {}",
                etcd::describe(&status)
            ))
            .hint("its status is the RPC Maintenance/Status; check the certificate's rights")
        })?;
        Self::judge(&usage, growth, engine)
    }

    fn judge(usage: &Usage, growth_bytes: u64, engine: Engine) -> Result<Self, Failure> {
        if usage.is_full {
            return Err(
                Failure::unusable("etcd has raised the alarm NOSPACE and takes no writes").hint(
                    "compact, run etcdctl defrag, then etcdctl alarm disarm; then plan again",
                ),
            );
        }
        let database = Self {
            file_bytes: usage.file,
            in_use_bytes: usage.in_use,
            quota_bytes: match usage.quota {
                Some(Quota::Bytes(quota)) => Some(quota),
                None | Some(Quota::Off) => None,
            },
            growth_bytes,
            room: quota::judge(usage, growth_bytes),
        };
        // What our engines add is compacted as they go on; the migrator compacts nothing. A quota that is
        // only assumed stops nobody.
        let at_once = match engine {
            Engine::Api | Engine::Etcd => 0,
            Engine::Svm => growth_bytes,
        };
        if quota::judge(usage, at_once) == Room::None && database.quota_bytes.is_some() {
            return Err(Failure::unusable(format!(
                "etcd has no room for the rewrite: {}",
                database.text()
            ))
            .hint(
                "compact and run etcdctl defrag member by member, or raise --quota-backend-bytes; \
                 then plan again",
            ));
        }
        Ok(database)
    }

    pub(super) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// For people, one line.
    pub(super) fn text(&self) -> String {
        let quota = match self.quota_bytes {
            Some(quota) => format!("a quota of {}", mib(quota)),
            None => "a quota that it does not say".to_owned(),
        };
        let warning = match self.room {
            Room::Enough => "",
            Room::Scarce | Room::None => "; that is scarce",
        };
        format!(
            "{} in use, a file of {}, {quota}, and the rewrite adds up to {} until it is \
             compacted{warning}",
            mib(self.in_use_bytes),
            mib(self.file_bytes),
            mib(self.growth_bytes),
        )
    }
}

/// Rounded up: nothing that is there is called 0.
fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn usage(in_use: u64, quota: Option<Quota>) -> Usage {
        Usage {
            file: in_use * MIB,
            in_use: in_use * MIB,
            quota,
            is_full: false,
            backlog: 0,
        }
    }

    #[test]
    fn a_known_quota_without_room_is_refused() {
        let hundred = Some(Quota::Bytes(100 * MIB));
        use Engine::{Api, Svm};
        for (in_use, growth, quota, engine, is_refused) in [
            (10, 10, hundred, Api, false),
            (50, 10, hundred, Svm, false),
            (50, 50, hundred, Api, false),
            (50, 50, hundred, Svm, true),
            (90, 0, hundred, Api, true),
            // Assumed, or off.
            (3000, 3000, None, Svm, false),
            (3000, 3000, Some(Quota::Off), Svm, false),
        ] {
            let judged = Database::judge(&usage(in_use, quota), growth * MIB, engine);
            assert_eq!(judged.is_err(), is_refused, "{in_use} {growth} {quota:?}");
        }
        let full = Usage {
            is_full: true,
            ..usage(1, hundred)
        };
        assert!(Database::judge(&full, 0, Api).is_err());
    }

    #[test]
    fn what_is_scarce_is_said() {
        let hundred = Some(Quota::Bytes(100 * MIB));
        let said = |in_use, growth: u64, quota| {
            let judged = Database::judge(&usage(in_use, quota), growth * MIB, Engine::Api);
            judged.unwrap().text()
        };
        assert!(!said(10, 10, hundred).contains("scarce"));
        assert!(said(50, 10, hundred).contains("scarce"));
        assert!(said(3000, 10, None).contains("scarce"));
    }
}
