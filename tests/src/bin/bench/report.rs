//! What a suite measured: printed, kept with every sample, and recorded in docs/benchmarks.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::figure::{Figure, table};
use crate::machine;

/// The samples of a suite and what follows from them.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub(crate) figures: Vec<Figure>,
    /// What is promised of several figures of the run.
    pub(crate) promises: Vec<Promise>,
    /// Tables in Markdown, each with its heading.
    pub(crate) tables: Vec<(String, String)>,
    /// SVG, each with its name.
    pub(crate) charts: Vec<(&'static str, String)>,
    /// Every sample of what is no figure.
    pub(crate) samples: Vec<Value>,
}

impl From<Vec<Figure>> for Measured {
    fn from(figures: Vec<Figure>) -> Self {
        Self {
            figures,
            ..Self::default()
        }
    }
}

impl Measured {
    pub(crate) fn holds(&self) -> bool {
        self.figures.iter().all(Figure::holds) && self.promises.iter().all(Promise::holds)
    }
}

/// A number that follows from figures, and what it has to be.
#[derive(Debug)]
pub(crate) struct Promise {
    pub(crate) what: String,
    pub(crate) measured: f64,
    pub(crate) bar: Bar,
}

/// Of a [`Promise`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bar {
    AtLeast(f64),
    AtMost(f64),
}

impl Promise {
    fn holds(&self) -> bool {
        match self.bar {
            Bar::AtLeast(least) => self.measured >= least,
            Bar::AtMost(most) => self.measured <= most,
        }
    }

    fn bar(&self) -> String {
        match self.bar {
            Bar::AtLeast(least) => format!("at least {}", number(least)),
            Bar::AtMost(most) => format!("at most {}", number(most)),
        }
    }
}

fn number(value: f64) -> String {
    let decimals = if value < 10.0 { 2 } else { 1 };
    format!("{value:.decimals$}")
}

/// Prints and keeps.
pub(crate) fn report(
    suite: &str,
    measured: &Measured,
    busy: [f64; 2],
    record: bool,
) -> Result<(), String> {
    let machine = machine::describe()?;
    let raw = json!({
        "suite": suite,
        "machine": machine,
        "busy": busy,
        "figures": measured.figures.iter().map(Figure::raw).collect::<Vec<_>>(),
        "samples": measured.samples,
    });
    let samples = workspace().join("target/bench");
    let file = samples.join(format!("{suite}.json"));
    write(&file, &format!("{raw:#}\n"))?;

    if !measured.figures.is_empty() {
        println!("{}", table(&measured.figures));
    }
    for (heading, table) in &measured.tables {
        println!("\n{heading}\n\n{table}");
    }
    println!("{}", promises(&measured.promises));
    println!("every sample: {}", file.display());

    if record {
        let folder = workspace().join("docs/benchmarks");
        write(&folder.join(format!("{suite}.json")), &format!("{raw:#}\n"))?;
        write(
            &folder.join(format!("{suite}.md")),
            &page(suite, measured, &machine),
        )?;
        for (name, chart) in &measured.charts {
            write(&folder.join(format!("{suite}-{name}.svg")), chart)?;
        }
        println!("recorded in {}", folder.display());
    }
    Ok(())
}

fn page(suite: &str, measured: &Measured, machine: &Value) -> String {
    let text = |name: &str| machine[name].as_str().unwrap_or("?").to_owned();
    let mut page = format!(
        "# {suite}\n\nMeasured by `cargo run --release --bin bench -- {suite} --record` on {} of {} cores, kernel {}, \
         {}. Every sample is in [{suite}.json]({suite}.json).\n",
        text("processor"),
        machine["processors"],
        text("kernel"),
        text("date"),
    );
    if !measured.figures.is_empty() {
        let _ = write!(page, "\n```text\n{}\n```\n", table(&measured.figures));
    }
    for (heading, table) in &measured.tables {
        let _ = write!(page, "\n## {heading}\n\n{table}");
    }
    if !measured.promises.is_empty() {
        let _ = write!(page, "\n## Bars\n\n{}", promises(&measured.promises));
    }
    for (name, _) in &measured.charts {
        let _ = write!(page, "\n![{name}]({suite}-{name}.svg)\n");
    }
    page
}

fn promises(promises: &[Promise]) -> String {
    if promises.is_empty() {
        return String::new();
    }
    let mut table = String::from("| what | measured | bar | |\n|---|---|---|---|\n");
    for promise in promises {
        let holds = if promise.holds() { "holds" } else { "MISSED" };
        let (what, measured, bar) = (&promise.what, number(promise.measured), promise.bar());
        let _ = writeln!(table, "| {what} | {measured} | {bar} | {holds} |");
    }
    table
}

fn workspace() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    workspace.unwrap_or(Path::new(".")).to_owned()
}

fn write(path: &Path, content: &str) -> Result<(), String> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(path, content))
        .map_err(|error| format!("{}: {error}", path.display()))
}
