//! `atrest check certificates` on what kubeadm puts on a node's disk, and on what runs from it.

mod drift;
mod graphs;
mod kubeadm;
mod latent;
mod machine;
mod mutations;
mod parser;
#[allow(dead_code)] // another suite needs more of it
#[path = "../../differential/random.rs"]
mod random;
mod silent;

use atrest_tests::atrest::{self, Ended};
use atrest_tests::kubeadm::Node;
use serde_json::Value;

/// Checks a node, as JSON.
fn check(node: &Node, more: &[&str]) -> Ended {
    let root = node.root().to_str().unwrap();
    let arguments = ["check", "certificates", "--output", "json", "--root", root];
    atrest::run(arguments.iter().chain(more))
}

/// The findings at warning and above: id and object.
fn findings(report: &Value) -> Vec<(String, String)> {
    let findings = report["findings"].as_array().unwrap().iter();
    findings
        .filter(|finding| finding["severity"] != "info")
        .map(|finding| {
            let text = |name: &str| finding[name].as_str().unwrap().to_owned();
            (text("id"), text("object"))
        })
        .collect()
}

/// `ATREST_SEED`, or the clock's seconds; printed, so that a run can be repeated.
#[allow(clippy::print_stderr)] // a test's helper
fn seed() -> u64 {
    let seed = match std::env::var("ATREST_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => jiff::Timestamp::now().as_second().unsigned_abs(),
    };
    eprintln!("ATREST_SEED={seed}");
    seed
}
