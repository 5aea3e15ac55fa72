//! Edited files load in upstream's loader.

use std::time::{Duration, Instant, SystemTime};

use atrest_tests::judge::{Judge, Stage};

use crate::random_edits::{Outcome, SERVER, sequence};

/// Sequences of a full run, which `ATREST_LONG` asks for.
const ALL: u64 = 10_000;

/// How long the sample of a short one may take.
const SHORT: Duration = Duration::from_secs(20);

#[test]
fn edited_files_load_and_keep_the_rest() {
    let is_long = std::env::var_os("ATREST_LONG").is_some();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let first = now.unwrap().as_nanos() as u64;
    println!("the first seed is {first}");
    let mut judge = Judge::start(SERVER.minor);
    let start = Instant::now();
    let mut all = Outcome::default();
    let mut sequences = 0;
    while sequences < ALL && (is_long || start.elapsed() < SHORT) {
        let seed = first.wrapping_add(sequences);
        let outcome = sequence(seed, |file| judge.ask(file, &SERVER).stage == Stage::Ok);
        all.edits += outcome.edits;
        all.refused += outcome.refused;
        sequences += 1;
    }
    println!(
        "{sequences} sequences in {:.0} s: {} edits, {} refused",
        start.elapsed().as_secs_f64(),
        all.edits,
        all.refused
    );
    // A refusal is for comments that would get lost, where it is unlikely that there is one.
    assert!(all.refused * 100 <= all.edits);
}
