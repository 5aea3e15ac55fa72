//! The room that a rewrite takes in etcd's database, followed while it goes on.

use std::time::{Duration, Instant};

use super::connection::Connection;
use super::quota::{self, DEFAULT_QUOTA, History, Room};
use crate::etcd::{Quota, Usage};
use crate::report;
use crate::status::Failure;

/// What is known of etcd's room.
pub(super) struct Space {
    history: History,
    usage: Option<Usage>,
    /// Since it was asked for.
    written: u64,
    /// Since when no compaction made room, and how much was in use then.
    stuck: Option<(Instant, u64)>,
    quiet: bool,
    has_said: bool,
}

/// How long a compaction may take to free the next page.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks at whether there is room now.
const PAUSE: Duration = Duration::from_millis(250);

impl Space {
    /// Begins with etcd's newest revision.
    pub(super) fn since(revision: i64, quiet: bool) -> Self {
        Self {
            history: History::since(revision, Instant::now()),
            usage: None,
            written: 0,
            stuck: None,
            quiet,
            has_said: false,
        }
    }

    /// What was asked for last while there was room.
    pub(super) fn usage(&self) -> Option<&Usage> {
        self.usage.as_ref()
    }

    /// A transaction was applied.
    pub(super) fn finish(&mut self, revision: i64) {
        self.history.finish(revision, Instant::now());
    }

    /// Whether the size has to be asked for before `bytes` more are written.
    pub(super) fn is_unknown(&self, bytes: u64) -> bool {
        let usage = self.usage.as_ref();
        usage.is_none_or(|usage| self.written + bytes > quota::stride(usage))
    }

    /// `bytes` more are written.
    pub(super) fn take(&mut self, bytes: u64) {
        self.written += bytes;
    }

    /// Asks for the size, and compacts where it has to be. Whether there is room now: where there is
    /// not, it was waited a little, and nothing should be written before this is asked again.
    pub(super) async fn make(
        &mut self,
        connection: &mut Connection,
        in_flight: u64,
    ) -> Result<bool, Failure> {
        let usage = connection.usage().await?;
        if usage.is_full {
            return Err(no_space());
        }
        if self.usage.is_none() && usage.quota.is_none() {
            self.say("etcd before 3.6 does not say its quota: 2 GiB is assumed");
        }
        let room = quota::judge(&usage, in_flight + quota::stride(&usage));
        if room != Room::None {
            self.stuck = None;
            (self.usage, self.written) = (Some(usage), 0);
        }
        if room == Room::Enough {
            return Ok(true);
        }
        if let Some(revision) = self.history.compactable(Instant::now()) {
            connection.compact(revision).await?;
        } else if room == Room::None {
            self.wait(&usage).await?;
        }
        Ok(room != Room::None)
    }

    async fn wait(&mut self, usage: &Usage) -> Result<(), Failure> {
        if !self.has_said {
            self.has_said = true;
            self.say(
                "etcd's database is nearly full: waiting until what was superseded is compacted",
            );
        }
        match self.stuck {
            Some((since, in_use)) if usage.in_use >= in_use && self.history.is_exhausted() => {
                if since.elapsed() > PATIENCE {
                    return Err(no_room(usage));
                }
            }
            _ => self.stuck = Some((Instant::now(), usage.in_use)),
        }
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }

    fn say(&self, line: &str) {
        if !self.quiet {
            report::say(line);
        }
    }
}

fn no_room(usage: &Usage) -> Failure {
    let quota = match usage.quota {
        Some(Quota::Bytes(quota)) => quota,
        None | Some(Quota::Off) => DEFAULT_QUOTA,
    };
    let mib = |bytes: u64| bytes >> 20;
    Failure::stopped(format!(
        "etcd has no room: {} MiB are in use and the file has {} MiB, of {} MiB",
        mib(usage.in_use),
        mib(usage.file),
        mib(quota)
    ))
    .hint(
        "everything superseded is compacted: run etcdctl defrag member by member, or raise \
           --quota-backend-bytes; then run this again",
    )
}

/// Somebody filled it.
pub(super) fn no_space() -> Failure {
    Failure::stopped("etcd has raised the alarm NOSPACE and takes no writes").hint(
        "compact, run etcdctl defrag, then etcdctl alarm disarm; every value is whole, under the old \
         key or the new one: run this again",
    )
}
