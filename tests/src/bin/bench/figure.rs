//! Samples of one thing, and how they are told.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

/// How long one thing took, or how much memory, each time.
#[derive(Debug)]
pub(crate) struct Figure {
    what: String,
    unit: Unit,
    /// What the median has to stay under, where we promise something.
    bar: Option<u64>,
    samples: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Unit {
    /// Nanoseconds, shown as milliseconds.
    Time,
    /// Bytes, shown as MiB.
    Memory,
}

impl Unit {
    fn shown(self, value: u64, decimals: usize) -> String {
        let value = match self {
            Self::Time => value as f64 / 1e6,
            Self::Memory => value as f64 / f64::from(1 << 20),
        };
        format!("{value:.decimals$}")
    }

    fn name(self) -> &'static str {
        match self {
            Self::Time => "ms",
            Self::Memory => "MiB",
        }
    }
}

impl Figure {
    /// Of time.
    pub(crate) fn new(what: impl Into<String>, bar: Option<Duration>) -> Self {
        Self {
            what: what.into(),
            unit: Unit::Time,
            bar: bar.map(nanoseconds),
            samples: Vec::new(),
        }
    }

    /// Of memory, in bytes.
    pub(crate) fn of_memory(what: impl Into<String>, bar: Option<u64>) -> Self {
        Self {
            what: what.into(),
            unit: Unit::Memory,
            bar,
            samples: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, sample: Duration) {
        self.samples.push(nanoseconds(sample));
    }

    pub(crate) fn add_bytes(&mut self, sample: u64) {
        self.samples.push(sample);
    }

    /// Promises that the median stays under so many times that of another figure.
    pub(crate) fn promise_times(&mut self, times: f64, other: &Self) {
        self.bar = Some((times * other.sorted().1 as f64) as u64);
    }

    /// Whether the median is under the bar.
    pub(crate) fn holds(&self) -> bool {
        self.bar.is_none_or(|bar| self.sorted().1 < bar)
    }

    /// Least, median and most.
    fn sorted(&self) -> (u64, u64, u64) {
        let mut samples = self.samples.clone();
        samples.sort_unstable();
        let at = |index: usize| samples.get(index).copied().unwrap_or_default();
        let last = samples.len().saturating_sub(1);
        (at(0), at(last / 2), at(last))
    }

    pub(crate) fn raw(&self) -> Value {
        let unit = match self.unit {
            Unit::Time => "ns",
            Unit::Memory => "bytes",
        };
        json!({
            "what": self.what,
            "unit": unit,
            "bar": self.bar,
            "samples": self.samples,
        })
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}

/// One line each.
pub(crate) fn table(figures: &[Figure]) -> String {
    let width = figures.iter().map(|figure| figure.what.chars().count());
    let width = width.max().unwrap_or_default();
    let mut table = format!(
        "{:width$}  {:>9} {:>9} {:>9}      {:>7}  bar",
        "", "median", "min", "max", "samples"
    );
    for figure in figures {
        let (min, median, max) = figure.sorted();
        let bar = |bar| figure.unit.shown(bar, 0);
        let bar = match figure.bar {
            None => String::new(),
            Some(most) if figure.holds() => format!("under {}: holds", bar(most)),
            Some(most) => format!("under {}: MISSED", bar(most)),
        };
        let [min, median, max] = [min, median, max].map(|it| figure.unit.shown(it, 3));
        let (what, samples, unit) = (&figure.what, figure.samples.len(), figure.unit.name());
        let line =
            format!("{what:width$}  {median:>9} {min:>9} {max:>9} {unit:3} {samples:>8}  {bar}");
        let _ = write!(table, "\n{}", line.trim_end());
    }
    table
}
