//! When an API server looks at its file next. It does so once a minute, at a phase of its own; a file that is
//! written just before is loaded at once.
//!
//! Its looks are counted by the metrics of their queue. One that happens between two answers is seen by our
//! own clock; until then there is the time of its last reload, which the server states by its own. The start
//! of its process tells nothing: it counts from a boot that a clock set since then puts seconds off. A
//! prediction that is wrong costs a minute and nothing else: what a server has loaded is never concluded from
//! it.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::cluster::Metrics;

/// kube-apiserver's own.
const STOCK: Duration = Duration::from_secs(60);

/// Nobody waits for a server that looks more often.
const OFTEN: Duration = Duration::from_secs(10);

/// How long before a look a file is written, and how short before it still is.
const LEAD: Duration = Duration::from_millis(3000);
const LATEST: Duration = Duration::from_millis(1200);

/// Each look is a little late, so that a time that was stated longer ago says nothing of the next one.
const KNOWN: Duration = Duration::from_secs(45 * 60);

/// Answers further apart do not tell when a look between them was.
const CLOSE: Duration = Duration::from_secs(3);

/// What is known of one server.
#[derive(Clone, Debug, Default)]
pub(super) struct Poll {
    interval: Option<Duration>,
    /// A look, or shortly before it.
    look: Option<Instant>,
    seen: Option<Seen>,
}

#[derive(Clone, Debug)]
struct Seen {
    at: Instant,
    looks: u64,
    started: f64,
}

impl Poll {
    /// Takes in an answer that came just now.
    pub(super) fn see(&mut self, metrics: &Metrics) {
        self.see_at(metrics, Instant::now(), unix_now());
    }

    fn see_at(&mut self, metrics: &Metrics, now: Instant, unix: f64) {
        let (Some(looks), Some(started)) = (metrics.looks, metrics.process.start()) else {
            *self = Self::default();
            return;
        };
        self.interval = interval(metrics, unix);
        let seen = self.seen.replace(Seen {
            at: now,
            looks,
            started,
        });
        let seen = seen.filter(|seen| seen.started == started);
        if seen.is_none() {
            self.look = None;
        }
        match seen {
            Some(seen) if seen.looks + 1 == looks && now - seen.at <= CLOSE => {
                self.look = Some(seen.at);
            }
            _ if self.look.is_none() => {
                self.look = since_look(metrics, unix).and_then(|since| now.checked_sub(since));
            }
            _ => {}
        }
    }

    /// How long until the next look, where that is worth to be known.
    pub(super) fn next(&self) -> Option<Duration> {
        self.next_at(Instant::now())
    }

    fn next_at(&self, now: Instant) -> Option<Duration> {
        let interval = self.interval.filter(|it| *it >= OFTEN)?;
        let since = now.saturating_duration_since(self.look?);
        let into = since.as_millis() % interval.as_millis();
        Some(interval.saturating_sub(Duration::from_millis(into.try_into().unwrap_or_default())))
    }

    /// Whether there is a phase that is not known yet.
    pub(super) fn is_unknown(&self) -> bool {
        self.look.is_none() && self.interval.is_some_and(|it| it >= OFTEN)
    }

    /// How long to wait before its file is written.
    pub(super) fn wait(&self) -> Duration {
        self.wait_at(Instant::now())
    }

    fn wait_at(&self, now: Instant) -> Duration {
        match (self.next_at(now), self.interval) {
            (Some(next), _) if next >= LEAD => next - LEAD,
            (Some(next), Some(interval)) if next < LATEST => next + interval - LEAD,
            _ => Duration::ZERO,
        }
    }
}

/// When a server looks next, by the times that it states.
pub(super) fn next_look(metrics: &Metrics) -> Option<Timestamp> {
    let mut poll = Poll::default();
    poll.see(metrics);
    let next = poll.next()?;
    Timestamp::now().checked_add(next).ok()
}

fn interval(metrics: &Metrics, unix: f64) -> Option<Duration> {
    let up = Duration::try_from_secs_f64(unix - metrics.process.start()?).ok()?;
    let looks = u32::try_from(metrics.looks?)
        .ok()
        .filter(|looks| *looks > 0)?;
    let each = up / looks;
    // Just started, it has had no time to look twice.
    (up >= OFTEN).then_some(if each < OFTEN { each } else { STOCK })
}

/// By the server's clock, which is believed as far as it is possible.
fn since_look(metrics: &Metrics, unix: f64) -> Option<Duration> {
    let since = Duration::try_from_secs_f64(unix - metrics.reloaded_at()?).ok();
    since.filter(|since| *since <= KNOWN)
}

fn unix_now() -> f64 {
    Timestamp::now().as_millisecond() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: f64 = 1_795_000_000.0;

    fn metrics(looks: u64, reloaded: Option<f64>) -> Metrics {
        let reloaded = reloaded.map_or_else(String::new, |at| {
            format!(
                "apiserver_encryption_config_controller_automatic_reload_last_timestamp_seconds\
                 {{status=\"success\"}} {:e}\n",
                START + at
            )
        });
        Metrics::parse(&format!(
            "process_start_time_seconds {START:e}\n{reloaded}workqueue_adds_total\
             {{name=\"encryption-provider-config-automatic-reload-controller\"}} {looks}\n"
        ))
    }

    fn secs(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    /// After one answer.
    fn wait(looks: u64, reloaded: Option<f64>, up: f64) -> f64 {
        let (mut poll, now) = (Poll::default(), Instant::now() + secs(3600.0));
        poll.see_at(&metrics(looks, reloaded), now, START + up);
        poll.wait_at(now).as_secs_f64()
    }

    #[test]
    fn a_file_is_written_shortly_before_a_look() {
        for (looks, reloaded, up, expected) in [
            (9, Some(500.0), 530.0, 27.0),
            // Just in time, and too late for this one.
            (9, Some(500.0), 558.0, 0.0),
            (9, Some(500.0), 559.5, 57.5),
            // It has not reloaded, or too long ago to say anything, by another clock, or is too young.
            (2, None, 61.5, 0.0),
            (99, Some(500.0), 5_000.0, 0.0),
            (9, Some(900.0), 530.0, 0.0),
            (1, None, 5.0, 0.0),
            // It looks each second.
            (30, None, 31.0, 0.0),
        ] {
            let waits = wait(looks, reloaded, up);
            assert!(
                (waits - expected).abs() < 0.01,
                "{looks} {reloaded:?} {up}: {waits}"
            );
        }
    }

    #[test]
    fn a_look_that_was_seen_counts_more_than_what_is_told() {
        let (mut poll, now) = (Poll::default(), Instant::now() + secs(3600.0));
        let up = START + 6_000.0;
        poll.see_at(&metrics(100, None), now, up);
        assert!(poll.next_at(now).is_none() && poll.is_unknown());
        poll.see_at(&metrics(101, None), now + secs(0.5), up + 0.5);
        assert!(!poll.is_unknown());
        assert_eq!(poll.next_at(now + secs(20.0)), Some(secs(40.0)));
        // Answers that are too far apart change nothing.
        poll.see_at(&metrics(102, None), now + secs(90.0), up + 90.0);
        assert_eq!(poll.next_at(now + secs(100.0)), Some(secs(20.0)));
        // Another process has another phase.
        let other = Metrics::parse("process_start_time_seconds 1\n");
        poll.see_at(&other, now + secs(101.0), up);
        assert_eq!(poll.next_at(now + secs(102.0)), None);
    }
}
