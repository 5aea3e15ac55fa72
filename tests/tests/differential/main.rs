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
mod values;

use atrest_core::encryption_config::Server;
use atrest_tests::judge::Judge;

use comparison::{Case, Comparison};

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
        println!("1.{minor}: {}", comparison.conclude());
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
