//! The clients of several releases of kube-apiserver, each with its own grpc-go, call `atrest-kms`.

use std::path::Path;
use std::process::Command;

use atrest_tests::plugin::Plugin;
use atrest_tests::programs::{self, KMS_CLIENTS};
use serde::Deserialize;

const ROUNDS: usize = 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    grpc: String,
    authorities: Vec<String>,
    answered: usize,
    error: Option<String>,
}

/// What the client of a release sent for a socket at `path`, and what came of it.
fn call(minor: u32, path: &Path, plugin: &Plugin) -> Answer {
    let program = programs::kms_client(minor).unwrap_or_else(|error| panic!("{error}"));
    let output = Command::new(program)
        .arg("heads")
        .args([path, &plugin.socket()])
        .arg(ROUNDS.to_string())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "1.{minor}: {said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn l03_the_request_heads_of_every_release_are_answered() {
    let plugin = Plugin::start();
    let folder = tempfile::tempdir().unwrap();
    for (minor, path) in KMS_CLIENTS.into_iter().flat_map(|minor| {
        [
            (minor, folder.path().join(format!("kms-{minor}.sock"))),
            // What a percent-encoding changes, and what no authority has.
            (minor, folder.path().join(format!("{minor} [a]@b:c:d~"))),
        ]
    }) {
        let answer = call(minor, &path, &plugin);
        assert_eq!(answer.error, None, "1.{minor}: {answer:?}");
        assert_eq!(answer.answered, 3 * ROUNDS, "1.{minor}: {answer:?}");
        let path = path.to_str().unwrap();
        // Proof that the release sends what it is here for.
        let [authority] = &answer.authorities[..] else {
            panic!("1.{minor}: {answer:?}");
        };
        match minor {
            ..29 => assert_eq!(authority, path, "grpc-go {}", answer.grpc),
            29..32 => {
                assert!(authority.starts_with("%2F"), "{answer:?}");
                assert!(!authority.contains('/'), "{answer:?}");
            }
            _ => assert_eq!(authority, "localhost", "grpc-go {}", answer.grpc),
        }
    }
}
