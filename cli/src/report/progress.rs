//! Progress of long work: a bar on a terminal, a line every 5 s elsewhere, nothing with `--quiet`.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::say;

const EVERY: Duration = Duration::from_secs(5);

/// Counts towards a total that may still grow.
pub(crate) struct Progress {
    bar: ProgressBar,
    what: String,
    of_bytes: bool,
    /// When the last line was printed; `None` where a bar is drawn or nothing is said.
    line: Option<Mutex<Instant>>,
}

impl Progress {
    /// `what` is a word such as `secrets`.
    pub(crate) fn start(what: &str, quiet: bool) -> Self {
        Self::new(what, quiet, false)
    }

    /// Counts the bytes of a file.
    pub(crate) fn of_bytes(what: &str, quiet: bool) -> Self {
        Self::new(what, quiet, true)
    }

    /// Counts, and says nothing.
    pub(crate) fn hidden() -> Self {
        Self::new("", true, false)
    }

    fn new(what: &str, quiet: bool, of_bytes: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target = if quiet || !terminal {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        let template = match of_bytes {
            false => "{msg} {bar:30} {human_pos} of {human_len}, {per_sec:.0}, {eta} left",
            true => "{msg} {bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        Self {
            bar,
            what: what.to_owned(),
            of_bytes,
            line: (!quiet && !terminal).then(|| Mutex::new(Instant::now())),
        }
    }

    /// Whether anybody may see it.
    pub(crate) fn is_shown(&self) -> bool {
        self.line.is_some() || !self.bar.is_hidden()
    }

    /// There is this much more to do.
    pub(crate) fn expect(&self, more: u64) {
        self.bar.inc_length(more);
    }

    /// How much is done.
    pub(crate) fn count(&self) -> u64 {
        self.bar.position()
    }

    /// One more is done.
    pub(crate) fn done(&self) {
        self.advance(1);
    }

    /// So many more are done.
    pub(crate) fn advance(&self, done: u64) {
        self.bar.inc(done);
        if let Some(line) = self.line_at(Instant::now()) {
            say(line);
        }
    }

    /// Where it is time for one.
    fn line_at(&self, now: Instant) -> Option<String> {
        let mut last = self.line.as_ref()?.try_lock().ok()?;
        if now.saturating_duration_since(*last) < EVERY {
            return None;
        }
        *last = now;
        let (done, total) = (self.bar.position(), self.bar.length().unwrap_or_default());
        let rate = done as f64 / self.bar.elapsed().as_secs_f64();
        let left = (total.saturating_sub(done)) as f64 / rate;
        let what = &self.what;
        Some(match self.of_bytes {
            false => format!("{what} {done} of {total}, {rate:.0}/s, {left:.0} s left"),
            true => {
                let [done, total, rate] = [done, total, rate as u64].map(HumanBytes);
                format!("{what} {done} of {total}, {rate}/s, {left:.0} s left")
            }
        })
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_line_each_5_s_and_none_where_it_is_quiet() {
        let mut progress = Progress::start("values", false);
        let start = Instant::now();
        progress.line = Some(Mutex::new(start)); // also where tests run on a terminal
        progress.expect(10);
        progress.advance(4);
        let line = |seconds| progress.line_at(start + Duration::from_secs(seconds));
        assert_eq!(line(4), None);
        assert!(line(5).is_some_and(|line| line.starts_with("values 4 of 10, ")));
        assert_eq!((line(5), line(9)), (None, None));
        assert!(line(10).is_some());
        let much = start + Duration::from_secs(60);
        assert_eq!(Progress::start("values", true).line_at(much), None);
        assert_eq!(Progress::hidden().line_at(much), None);
    }

    #[test]
    fn bytes_are_for_people() {
        let mut progress = Progress::of_bytes("a.db", false);
        progress.line = Some(Mutex::new(Instant::now()));
        progress.expect(3 << 30);
        progress.advance(512 << 20);
        let line = progress.line_at(Instant::now() + EVERY).unwrap();
        assert!(line.starts_with("a.db 512.00 MiB of 3.00 GiB, "), "{line}");
    }
}
