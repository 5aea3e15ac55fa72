//! Samples of one thing, and how they are told.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

/// How long one thing took, each time.
#[derive(Debug)]
pub(crate) struct Figure {
    what: String,
    /// What the median has to stay under, where we promise something.
    bar: Option<Duration>,
    samples: Vec<Duration>,
}

impl Figure {
    pub(crate) fn new(what: impl Into<String>, bar: Option<Duration>) -> Self {
        Self {
            what: what.into(),
            bar,
            samples: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, sample: Duration) {
        self.samples.push(sample);
    }

    /// Whether the median is under the bar.
    pub(crate) fn holds(&self) -> bool {
        self.bar.is_none_or(|bar| self.sorted().1 < bar)
    }

    /// Least, median and most.
    fn sorted(&self) -> (Duration, Duration, Duration) {
        let mut samples = self.samples.clone();
        samples.sort_unstable();
        let at = |index: usize| samples.get(index).copied().unwrap_or_default();
        let last = samples.len().saturating_sub(1);
        (at(0), at(last / 2), at(last))
    }

    pub(crate) fn raw(&self) -> Value {
        let nanoseconds = |duration: &Duration| duration.as_nanos() as u64;
        json!({
            "what": self.what,
            "bar_ns": self.bar.as_ref().map(nanoseconds),
            "samples_ns": self.samples.iter().map(nanoseconds).collect::<Vec<_>>(),
        })
    }
}

/// One line each, in milliseconds.
pub(crate) fn table(figures: &[Figure]) -> String {
    let milliseconds = |duration: Duration| format!("{:.3}", 1e3 * duration.as_secs_f64());
    let width = figures.iter().map(|figure| figure.what.chars().count());
    let width = width.max().unwrap_or_default();
    let mut table = format!(
        "{:width$}  {:>9} {:>9} {:>9} {:>8}  bar",
        "milliseconds", "median", "min", "max", "samples"
    );
    for figure in figures {
        let (min, median, max) = figure.sorted();
        let bar = match figure.bar {
            None => String::new(),
            Some(bar) if figure.holds() => format!("under {}: holds", bar.as_millis()),
            Some(bar) => format!("under {}: MISSED", bar.as_millis()),
        };
        let [min, median, max] = [min, median, max].map(milliseconds);
        let (what, samples) = (&figure.what, figure.samples.len());
        let line = format!("{what:width$}  {median:>9} {min:>9} {max:>9} {samples:>8}  {bar}");
        let _ = write!(table, "\n{}", line.trim_end());
    }
    table
}
