//! The maintenance window: when a run begins, and when it stops at the latest.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::args::RotateFlags;
use crate::status::Failure;

/// What is in flight when the window closes ends in this time before.
const DRAIN: Duration = Duration::from_secs(2);

/// The end of a window by a clock that nobody sets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    end: Option<Instant>,
}

impl Window {
    /// The window of this process; the next one has another.
    fn of(flags: &RotateFlags) -> Result<Self, Failure> {
        let until = match flags.until {
            None => None,
            Some(until) => Some(left_until(until).ok_or_else(|| {
                Failure::unusable(format!("{until} is past")).hint("say when the window ends")
            })?),
        };
        let left = until.into_iter().chain(flags.max_duration).min();
        let end = left.and_then(|left| Instant::now().checked_add(left.saturating_sub(DRAIN)));
        Ok(Self { end })
    }

    /// When nothing more may begin.
    pub(super) fn end(&self) -> Option<Instant> {
        self.end
    }

    pub(super) fn is_over(&self) -> bool {
        self.end.is_some_and(|end| Instant::now() >= end)
    }

    /// What is left of it.
    pub(super) fn left(&self) -> Duration {
        let left = |end: Instant| end.saturating_duration_since(Instant::now());
        self.end.map_or(Duration::MAX, left)
    }
}

fn left_until(time: Timestamp) -> Option<Duration> {
    Duration::try_from(time.duration_since(Timestamp::now())).ok()
}

/// Waits until the window opens, and fails where it is over then. The clock is looked at again and
/// again, for it may be set. From here on the window's length counts.
pub(crate) async fn opened(flags: &RotateFlags) -> Result<Window, Failure> {
    const LOOK: Duration = Duration::from_secs(5);

    while let Some(left) = flags.not_before.and_then(left_until)
        && !left.is_zero()
    {
        tokio::time::sleep(left.min(LOOK)).await;
    }
    Window::of(flags)
}
