//! Our verdicts beside those that kube-apiserver's own code gives, of four releases: on upstream's
//! configurations, on our own, and on generated ones.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test may panic, use std and say what it did"
)]

mod comparison;
mod corpora;
mod damage;
mod edits;
mod generator;
mod kit;
mod random;
// Also used by core's own tests, which need no Go.
#[path = "../../../core/tests/at_rest/case.rs"]
mod case;
#[path = "../../../core/tests/encryption_config/random_edits.rs"]
mod random_edits;
#[path = "../../../core/tests/encryption_config/styles.rs"]
mod styles;
mod values;
mod words;
mod writer;

use std::time::{SystemTime, UNIX_EPOCH};

use atrest_core::encryption_config::Server;
use atrest_tests::judge::{Judge, Stage};

use comparison::{Case, Comparison};
use random::Random;

/// Every setting of a server of this release that changes a verdict.
fn settings(minor: u32) -> Vec<Server> {
    let mut settings = Vec::new();
    for bits in 0..8 {
        let server = Server {
            minor,
            automatic_reload: bits & 1 != 0,
            // Gates that this release does not have, or cannot change, are as they are.
            kmsv1: if minor < 28 { true } else { bits & 2 == 0 },
            kmsv2: if minor < 29 { bits & 4 == 0 } else { true },
        };
        if !settings.contains(&server) {
            settings.push(server);
        }
    }
    settings
}

/// Each file, by each release, with each setting.
fn assert_alike(files: &[(String, Vec<u8>)]) {
    for minor in Judge::RELEASES {
        let mut comparison = Comparison::with(minor);
        for server in settings(minor) {
            for (name, file) in files {
                comparison.add(&Case { name, file, server });
            }
        }
        comparison.conclude();
    }
}

#[test]
fn upstreams_configurations_are_judged_alike() {
    let Some(files) = corpora::upstreams() else {
        return;
    };
    assert!(files.len() >= 108);
    assert_alike(&files);
}

#[test]
fn our_configurations_are_judged_alike() {
    let files = corpora::ours();
    assert!(files.len() >= 400);
    assert_alike(&files);
}

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |value| value.parse().unwrap())
}

/// `ATREST_CASES` files, 5,000 unless it says otherwise, 20,000 with `ATREST_LONG`; every fourth is a
/// damaged one.
#[test]
fn generated_configurations_are_judged_alike() {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number("ATREST_SEED", usize::try_from(clock.as_secs()).unwrap());
    let is_long = std::env::var_os("ATREST_LONG").is_some();
    let count = number("ATREST_CASES", if is_long { 20_000 } else { 5_000 });
    println!("repeat with ATREST_SEED={seed} ATREST_CASES={count}");

    let mut random = Random::new(seed as u64);
    let mut comparisons = Judge::RELEASES.map(|minor| (minor, Comparison::with(minor)));
    let mut whole: Vec<Vec<u8>> = corpora::ours().into_iter().map(|(_, file)| file).collect();
    for index in 0..count {
        let is_damaged = index % 4 == 3;
        let file = match is_damaged {
            true => damaged(&mut random, &whole),
            false => generated(&mut random),
        };
        for (minor, comparison) in &mut comparisons {
            let settings = settings(*minor);
            let server = settings[random.below(settings.len())];
            // The other releases see a part of the files, unless there is time.
            if *minor != Server::NEWEST && !is_long && index % 10 > 1 {
                continue;
            }
            let stage = comparison.add(&Case {
                name: &format!("file {index}"),
                file: &file,
                server,
            });
            // Half a unit out of step, UTF-16 makes names of a thousand letters, which core's quirks.rs
            // leaves as they are.
            let is_whole = stage == Stage::Ok && !is_damaged && std::str::from_utf8(&file).is_ok();
            if *minor == Server::NEWEST && is_whole && whole.len() < 5000 {
                whole.push(file.clone());
            }
        }
    }
    let counts = comparisons.map(|(_, comparison)| comparison.conclude());
    let newest = &counts[0];
    assert!(newest.percent(Stage::Ok) >= 25, "{newest}");
    for stage in [Stage::Decode, Stage::Validate, Stage::Load] {
        assert!(newest.percent(stage) >= 10, "{newest}");
    }
}

fn generated(random: &mut Random) -> Vec<u8> {
    let aim = match random.below(100) {
        0..40 => Stage::Ok,
        40..53 => Stage::Decode,
        53..75 => Stage::Validate,
        _ => Stage::Load,
    };
    let tree = generator::configuration(random, aim);
    writer::write(random, &tree)
}

fn damaged(random: &mut Random, whole: &[Vec<u8>]) -> Vec<u8> {
    let [file, other] = [0; 2].map(|_| &whole[random.below(whole.len())]);
    damage::damage(random, file, other)
}
