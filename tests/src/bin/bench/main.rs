//! `cargo run --release --bin bench -- SUITE`: how long things take, side by side with what one
//! would run instead. It refuses to say so on a machine that does other work.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr)] // it is there to be looked at
#![allow(clippy::disallowed_methods)] // the bans are about files of users, not those of a bench

mod chart;
mod figure;
mod machine;
mod process;
mod report;
mod rewrite;
mod validate;
mod verify;

use std::process::ExitCode;

use report::{Measured, report};

const USAGE: &str = "\
usage: cargo run --release --bin bench -- SUITE [--record] [--force]

  validate   atrest validate, in-process and as a process, beside kube-apiserver's own loader
  verify     atrest verify, of snapshots with up to 1,000,000 keys (ATREST_BENCH_KEYS), and of a running
             etcd beside a bare range read of the same keys
  rewrite    atrest reencrypt by each engine, beside kubectl get | kubectl replace, the cluster's own
             StorageVersionMigration and bare transactions of etcd, turn by turn; gently, beside other
             clients. ATREST_BENCH_SIZES: numbers of Secrets, default 2000,10000,50000;
             ATREST_BENCH_ROUNDS, default 5

  --record   write the figures and the charts into docs/benchmarks, too
  --force    print the figures of a busy machine, too";

/// Takes the samples of a suite, for which all is built.
type Measure = Box<dyn FnOnce() -> Result<Measured, String>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [verify::BARE_RANGE, endpoint] => return verify::bare_range(endpoint),
        [rewrite::BARE_LOOP, flags @ ..] => return rewrite::bare_loop(flags),
        _ => {}
    }
    let (mut suite, mut record, mut force) = (None, false, false);
    for argument in &arguments {
        match argument.as_str() {
            "--record" => record = true,
            "--force" => force = true,
            name => suite = Some(name),
        }
    }
    let suite = suite.unwrap_or_default();
    let prepare: fn() -> Result<Measure, String> = match suite {
        "validate" => validate::prepare,
        "verify" => verify::prepare,
        "rewrite" => rewrite::prepare,
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match prepare().and_then(|measure| bench(suite, measure, record, force)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(what) => {
            eprintln!("error: {what}");
            ExitCode::from(2)
        }
    }
}

/// Whether no figure is beyond its bar.
fn bench(suite: &str, measure: Measure, record: bool, force: bool) -> Result<bool, String> {
    if cfg!(debug_assertions) {
        return Err("this build is not optimized\nhint: cargo run --release".to_owned());
    }
    let before = idle(force)?;
    let measured = measure()?;
    let after = idle(force)?;
    report(suite, &measured, [before, after], record)?;
    Ok(measured.holds())
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
