//! How many requests are in flight: as many as the API servers bear, found by trying.
//!
//! More are added one by one while answers come as quickly as they should, and fewer are sent at
//! once when they do not (additive increase, multiplicative decrease).

use std::time::{Duration, Instant};

use super::Pace;

/// Answers between two decisions.
const ROUND: usize = 100;

/// Of them the slowest hundredth may be so many times slower than in the best round, where the
/// cluster has other work to do.
const GENTLE: f64 = 1.5;

/// Where it has none: well below the time in which any client gives up.
const LIMIT: Duration = Duration::from_millis(250);

/// Entries of its log that an etcd may have agreed upon and not applied; beyond 5,000 it refuses.
const BACKLOG: u64 = 500;

/// Decides from the time that requests took.
#[derive(Debug)]
pub(super) struct Governor {
    pace: Pace,
    window: f64,
    /// Of this round.
    times: Vec<Duration>,
    /// The quickest of the rounds' slowest hundredths.
    best: Option<Duration>,
    /// Nothing is sent before.
    held_until: Option<Instant>,
    /// When the next request may be sent, at the rate that was asked for.
    due: Option<Instant>,
    /// Nothing is sent before etcd has room.
    is_closed: bool,
}

impl Governor {
    pub(super) fn new(pace: Pace) -> Self {
        let start: f64 = if pace.gentle { 1.0 } else { 16.0 };
        Self {
            window: start.min(f64::from(pace.most_in_flight())),
            pace,
            times: Vec::with_capacity(ROUND),
            best: None,
            held_until: None,
            due: None,
            is_closed: false,
        }
    }

    /// Requests that may be in flight.
    pub(super) fn window(&self) -> usize {
        if self.is_closed {
            0
        } else {
            self.window as usize
        }
    }

    /// Whether etcd has room for more.
    pub(super) fn has_room(&mut self, has_room: bool) {
        self.is_closed = !has_room;
    }

    /// When the request that is sent next may be sent.
    pub(super) fn send(&mut self, now: Instant) -> Instant {
        let mut at = now.max(self.held_until.unwrap_or(now));
        if let Some(rate) = self.pace.rate {
            at = at.max(self.due.unwrap_or(at));
            self.due = Some(at + Duration::from_secs(1) / rate);
        }
        at
    }

    /// A request was answered after this time.
    pub(super) fn answered(&mut self, took: Duration) {
        self.times.push(took);
        if self.times.len() < ROUND {
            return;
        }
        self.times.sort_unstable();
        let slowest = self.times[ROUND - 1 - ROUND / 100];
        self.times.clear();
        let best = self.best.map_or(slowest, |best| best.min(slowest));
        self.best = Some(best);
        let limit = match self.pace.gentle {
            true => best.mul_f64(GENTLE),
            false => LIMIT,
        };
        match slowest <= limit {
            true => self.increase(),
            false => self.decrease(),
        }
    }

    /// A server has enough, and says for how long.
    pub(super) fn refused(&mut self, now: Instant, pause: Duration) {
        // Requests of the same moment are refused together: that is one refusal.
        if self.held_until.is_none_or(|until| until <= now) {
            self.decrease();
        }
        self.held_until = self.held_until.max(Some(now + pause));
    }

    /// What etcd has still to apply.
    pub(super) fn backlog(&mut self, entries: u64) {
        if entries > BACKLOG {
            self.decrease();
        }
    }

    fn increase(&mut self) {
        let more = if self.pace.gentle { 1.0 } else { 8.0 };
        self.window = (self.window + more).min(f64::from(self.pace.most_in_flight()));
    }

    fn decrease(&mut self) {
        self.times.clear();
        self.window = (self.window / 2.0).max(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn governor(gentle: bool, in_flight: u16) -> Governor {
        Governor::new(Pace {
            gentle,
            in_flight: Some(in_flight),
            rate: None,
        })
    }

    fn round(governor: &mut Governor, milliseconds: u64) -> usize {
        for _ in 0..ROUND {
            governor.answered(Duration::from_millis(milliseconds));
        }
        governor.window()
    }

    #[test]
    fn a_gentle_one_goes_up_slowly_and_down_when_answers_take_longer() {
        let mut governor = governor(true, 4);
        assert_eq!(governor.window(), 1);
        let windows = [4, 4, 5, 4, 4, 7, 7, 6, 4].map(|time| round(&mut governor, time));
        assert_eq!(windows, [2, 3, 4, 4, 4, 2, 1, 2, 3]);
    }

    #[test]
    fn an_eager_one_fills_up_to_what_was_asked_for() {
        let mut governor = governor(false, 64);
        let windows = [4, 9, 30, 60, 80, 80, 80].map(|time| round(&mut governor, time));
        assert_eq!(windows, [24, 32, 40, 48, 56, 64, 64]);
        assert_eq!(round(&mut governor, 300), 32);
    }

    #[test]
    fn one_slow_answer_in_a_hundred_is_none() {
        let mut governor = governor(true, 4);
        governor.answered(Duration::from_secs(3));
        for _ in 1..ROUND {
            governor.answered(Duration::from_millis(4));
        }
        assert_eq!(governor.window(), 2);
    }

    #[test]
    fn a_refusal_halves_once_and_holds() {
        let mut governor = governor(false, 64);
        let now = Instant::now();
        for _ in 0..10 {
            governor.refused(now, Duration::from_secs(1));
        }
        assert_eq!(governor.window(), 8);
        assert_eq!(governor.send(now), now + Duration::from_secs(1));
        governor.refused(now + Duration::from_secs(2), Duration::from_secs(1));
        assert_eq!(governor.window(), 4);
    }

    #[test]
    fn nothing_is_sent_where_there_is_no_room() {
        let mut governor = governor(false, 64);
        governor.has_room(false);
        assert_eq!(governor.window(), 0);
        governor.has_room(true);
        assert_eq!(governor.window(), 16);
    }

    #[test]
    fn etcds_backlog_halves() {
        let mut governor = governor(false, 64);
        governor.backlog(BACKLOG);
        assert_eq!(governor.window(), 16);
        governor.backlog(BACKLOG + 1);
        assert_eq!(governor.window(), 8);
    }

    #[test]
    fn a_rate_is_kept() {
        let mut governor = Governor::new(Pace {
            gentle: false,
            in_flight: None,
            rate: Some(10),
        });
        let now = Instant::now();
        let sent = [0; 4].map(|_| governor.send(now) - now);
        assert_eq!(sent, [0, 100, 200, 300].map(Duration::from_millis));
        // What was not used is not made up for.
        let later = now + Duration::from_secs(9);
        assert_eq!(governor.send(later), later);
    }
}
