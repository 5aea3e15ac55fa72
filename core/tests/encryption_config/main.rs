//! What `judge` says of configurations, and what `render` writes.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test may panic, use std and say that it was skipped"
)]

mod corpus;
mod decoding;
mod editing;
mod fixing;
mod hostile;
mod lints;
mod own_corpus;
// Also used by the suite `differential`, which needs Go.
#[path = "../../../tests/tests/differential/random.rs"]
mod random;
mod random_edits;
mod rendering;
mod rules;
mod secrets;
mod sequences;
mod styles;

use atrest_core::encryption_config::{Judgement, Server, judge};

/// The start of a file with `resources`.
const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\n";

/// 32 bytes.
const SECRET: &str = "bm8ga2V5LCBidXQgYXMgbG9uZyBhcyBvbmUgaXMuLi4=";

/// By the newest server, with KMS v1.
fn judged(source: &str) -> Judgement {
    let server = Server {
        kmsv1: true,
        ..Server::default()
    };
    judge(source.as_bytes(), &server)
}

/// `ID PATH LINE:COLUMN` of each finding.
fn found(judgement: &Judgement) -> Vec<String> {
    let one = |it: &atrest_core::encryption_config::Finding| {
        format!("{} {} {}:{}", it.id, it.path, it.line, it.column)
    };
    judgement.findings.iter().map(one).collect()
}
