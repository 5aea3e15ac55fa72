//! Room in etcd's database: each write takes space that only a compaction gives back, and a database
//! that has reached its quota takes no writes from anybody.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::etcd::{Quota, Usage};

/// What etcd takes where nobody sets `--quota-backend-bytes`.
pub(super) const DEFAULT_QUOTA: u64 = 2 << 30;

/// Revisions that are younger are left: who watches and lags behind by less misses nothing.
const MARGIN: Duration = Duration::from_secs(5);

/// From this share of the quota on, in percent, what was superseded is compacted away.
const SCARCE: u64 = 60;

/// From this share on nothing is written before there is room.
const NONE: u64 = 80;

/// Of the file, which does not shrink: there has to be room for everybody else.
const FILE: u64 = 95;

/// What is to be done before more is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::rotate) enum Room {
    /// Nothing.
    Enough,
    /// Compact, if there is something to compact.
    Scarce,
    /// Write nothing until a compaction has made room.
    None,
}

/// Whether there is room for `pending` bytes of keys and values.
pub(in crate::rotate) fn judge(usage: &Usage, pending: u64) -> Room {
    let quota = match usage.quota {
        None => DEFAULT_QUOTA,
        Some(Quota::Bytes(quota)) => quota,
        Some(Quota::Off) => return Room::Enough,
    };
    // Pages are never quite full, and large values end in the middle of one.
    let pages = pending.saturating_mul(3) / 2;
    let in_use = usage.in_use.saturating_add(pages);
    let growth = in_use.saturating_sub(usage.file);
    let share = |of: u64, percent| of > quota / 100 * percent;
    if share(in_use, NONE) || share(usage.file.saturating_add(growth), FILE) {
        Room::None
    } else if share(in_use, SCARCE) {
        Room::Scarce
    } else {
        Room::Enough
    }
}

/// How much is written before the size is asked for again.
pub(super) fn stride(usage: &Usage) -> u64 {
    let quota = match usage.quota {
        Some(Quota::Bytes(quota)) => quota,
        None | Some(Quota::Off) => DEFAULT_QUOTA,
    };
    (quota / 64).clamp(1 << 20, 32 << 20)
}

/// Revisions that the engine's own writes were finished at, and when: of a compaction to one of them
/// nobody who lags behind by less than the margin takes notice.
#[derive(Debug)]
pub(super) struct History {
    /// Of each moment the last one.
    finished: VecDeque<Finished>,
    compacted: i64,
}

#[derive(Clone, Copy, Debug)]
struct Finished {
    moment: Instant,
    at: Instant,
    revision: i64,
}

impl History {
    /// How long a moment is.
    const MOMENT: Duration = Duration::from_millis(250);

    /// Begins with a revision that is the newest now.
    pub(super) fn since(revision: i64, now: Instant) -> Self {
        let first = Finished {
            moment: now,
            at: now,
            revision,
        };
        Self {
            finished: [first].into(),
            compacted: 0,
        }
    }

    /// A write was finished.
    pub(super) fn finish(&mut self, revision: i64, now: Instant) {
        match self.finished.back_mut() {
            Some(last) if revision <= last.revision => {}
            Some(last) if now < last.moment + Self::MOMENT => {
                (last.at, last.revision) = (now, revision);
            }
            _ => self.finished.push_back(Finished {
                moment: now,
                at: now,
                revision,
            }),
        }
    }

    /// The newest revision that is old enough, unless it was given before.
    pub(super) fn compactable(&mut self, now: Instant) -> Option<i64> {
        let is_old = |it: &Finished| now.duration_since(it.at) >= MARGIN;
        while self.finished.get(1).is_some_and(is_old) {
            self.finished.pop_front();
        }
        let revision = self.finished.front().filter(|it| is_old(it))?.revision;
        if revision <= self.compacted {
            return None;
        }
        self.compacted = revision;
        Some(revision)
    }

    /// Whether everything that was written is compacted: no later compaction makes more room.
    pub(super) fn is_exhausted(&self) -> bool {
        let newest = self.finished.back();
        newest.is_none_or(|it| it.revision <= self.compacted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn usage(file: u64, in_use: u64, quota: Option<Quota>) -> Usage {
        Usage {
            file: file * MIB,
            in_use: in_use * MIB,
            quota,
            is_full: false,
            backlog: 0,
        }
    }

    #[test]
    fn room_is_judged_by_what_is_in_use_and_by_the_file() {
        let hundred = Some(Quota::Bytes(100 * MIB));
        for (file, in_use, pending, room) in [
            (10, 10, 0, Room::Enough),
            (90, 50, 5, Room::Enough),
            (70, 55, 5, Room::Scarce),
            (61, 61, 0, Room::Scarce),
            (85, 61, 20, Room::None),
            (79, 79, 2, Room::None),
            // A file that has been larger does not grow while it has free pages.
            (94, 40, 10, Room::Enough),
            // Nobody can make it smaller but a defragmentation.
            (97, 20, 0, Room::None),
        ] {
            let usage = usage(file, in_use, hundred);
            assert_eq!(
                judge(&usage, pending * MIB),
                room,
                "{file} {in_use} {pending}"
            );
        }
        // Before 3.6 nobody says: etcd's own default.
        assert_eq!(judge(&usage(1000, 1000, None), 0), Room::Enough);
        assert_eq!(judge(&usage(1300, 1300, None), 0), Room::Scarce);
        let off = Some(Quota::Off);
        assert_eq!(judge(&usage(9000, 9000, off), u64::MAX), Room::Enough);
    }

    #[test]
    fn the_size_is_asked_for_before_it_matters() {
        for (quota, expected) in [(64, 1), (100, 1), (640, 10), (2048, 32), (8192, 32)] {
            let quota = Some(Quota::Bytes(quota * MIB));
            assert_eq!(stride(&usage(0, 0, quota)) / MIB, expected);
        }
    }

    #[test]
    fn only_what_is_older_than_the_margin_is_compacted_and_once() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut history = History::since(100, start);
        assert_eq!(history.compactable(at(4)), None);
        history.finish(200, at(4));
        history.finish(150, at(4)); // an earlier one that was heard of later
        assert_eq!(history.compactable(at(5)), Some(100));
        assert_eq!(history.compactable(at(8)), None);
        assert!(!history.is_exhausted());
        history.finish(300, at(8));
        history.finish(400, at(20));
        // 300 is old enough, 400 is not.
        assert_eq!(history.compactable(at(21)), Some(300));
        assert_eq!(history.compactable(at(25)), Some(400));
        assert!(history.is_exhausted());
    }

    #[test]
    fn memory_does_not_grow_with_the_writes() {
        let start = Instant::now();
        let mut history = History::since(1, start);
        for i in 1..10_000 {
            let now = start + Duration::from_millis(i);
            history.finish(1 + i as i64, now);
            history.compactable(now);
        }
        assert!(history.finished.len() < 30, "{}", history.finished.len());
    }
}
