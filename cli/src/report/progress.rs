//! Progress of long work: a bar on a terminal, a line every 5 s elsewhere, nothing with `--quiet`.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::say;

const EVERY: Duration = Duration::from_secs(5);

/// Counts towards a total that may still grow.
pub(crate) struct Progress {
    bar: ProgressBar,
    what: String,
    /// When the last line was printed; `None` where a bar is drawn or nothing is said.
    line: Option<Mutex<Instant>>,
}

impl Progress {
    /// `what` is a word such as `secrets`.
    pub(crate) fn start(what: &str, quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target = if quiet || !terminal {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        let template = "{msg} {bar:30} {human_pos} of {human_len}, {per_sec:.0}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        Self {
            bar,
            what: what.to_owned(),
            line: (!quiet && !terminal).then(|| Mutex::new(Instant::now())),
        }
    }

    /// There is this much more to do.
    pub(crate) fn expect(&self, more: u64) {
        self.bar.inc_length(more);
    }

    /// One more is done.
    pub(crate) fn done(&self) {
        self.advance(1);
    }

    /// So many more are done.
    pub(crate) fn advance(&self, done: u64) {
        self.bar.inc(done);
        let Some(line) = &self.line else { return };
        let Ok(mut last) = line.try_lock() else {
            return;
        };
        if last.elapsed() < EVERY {
            return;
        }
        *last = Instant::now();
        let (done, total) = (self.bar.position(), self.bar.length().unwrap_or_default());
        let rate = done as f64 / self.bar.elapsed().as_secs_f64();
        let left = (total.saturating_sub(done)) as f64 / rate;
        say(format!(
            "{} {done} of {total}, {rate:.0}/s, {left:.0} s left",
            self.what
        ));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
