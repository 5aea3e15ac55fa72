//! `cargo run --release --bin bench -- SUITE`: how long things take, side by side with what one
//! would run instead. It refuses to say so on a machine that does other work.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr)] // it is there to be looked at
#![allow(clippy::disallowed_methods)] // the bans are about files of users, not those of a bench

mod figure;
mod machine;
mod validate;
mod verify;

use std::path::Path;
use std::process::ExitCode;

use figure::Figure;
use serde_json::json;

const USAGE: &str = "\
usage: cargo run --release --bin bench -- SUITE [--force]

  validate   atrest validate, in-process and as a process, beside kube-apiserver's own loader
  verify     atrest verify, of snapshots with up to 1,000,000 keys (ATREST_BENCH_KEYS), and of a running
             etcd beside a bare range read of the same keys

  --force    print the figures of a busy machine, too";

/// Takes the samples of a suite, for which all is built.
type Measure = Box<dyn FnOnce() -> Result<Vec<Figure>, String>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, endpoint] = &arguments[..]
        && word == verify::BARE_RANGE
    {
        return verify::bare_range(endpoint);
    }
    let (suite, force) = match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [suite] => (*suite, false),
        [suite, "--force"] | ["--force", suite] => (*suite, true),
        _ => ("", false),
    };
    let prepare = match suite {
        "validate" => validate::prepare,
        "verify" => verify::prepare,
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match prepare().and_then(|measure| bench(suite, measure, force)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(what) => {
            eprintln!("error: {what}");
            ExitCode::from(2)
        }
    }
}

/// Whether no figure is beyond its bar.
fn bench(suite: &str, measure: Measure, force: bool) -> Result<bool, String> {
    if cfg!(debug_assertions) {
        return Err("this build is not optimized\nhint: cargo run --release".to_owned());
    }
    let before = idle(force)?;
    let figures = measure()?;
    let after = idle(force)?;

    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let samples = workspace.unwrap_or(Path::new(".")).join("target/bench");
    let file = samples.join(format!("{suite}.json"));
    let raw = json!({
        "suite": suite,
        "machine": machine::describe()?,
        "busy": [before, after],
        "figures": figures.iter().map(Figure::raw).collect::<Vec<_>>(),
    });
    std::fs::create_dir_all(&samples)
        .and_then(|()| std::fs::write(&file, format!("{raw:#}\n")))
        .map_err(|error| format!("{}: {error}", file.display()))?;

    println!("{}", figure::table(&figures));
    println!("every sample: {}", file.display());
    Ok(figures.iter().all(Figure::holds))
}

/// The part of the processors that other work takes, unless it is too much.
fn idle(force: bool) -> Result<f64, String> {
    const MOST: f64 = 0.1;

    let busy = machine::busy()?;
    let percent = 100.0 * busy;
    if busy <= MOST {
        Ok(busy)
    } else if force {
        eprintln!(
            "warning: other work takes {percent:.0} % of the processors: these figures say little"
        );
        Ok(busy)
    } else {
        Err(format!(
            "other work takes {percent:.0} % of the processors\n\
             hint: wait until the machine is idle, or --force to see figures that say little"
        ))
    }
}
