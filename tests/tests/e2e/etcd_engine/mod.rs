//! `atrest reencrypt --engine etcd`, judged by etcd's own bytes and by what API servers read.

mod canaries;
mod churn;
mod limits;
mod providers;
mod refused;

use std::path::PathBuf;
use std::process::{Command, Output};

use atrest_tests::atrest::{self, Ended};
use atrest_tests::processes::ControlPlane;
use atrest_tests::{schema, stored_values};
use data_encoding::BASE64;
use serde_json::Value;

/// A local provider with keys of 32 bytes, all of them the one that is behind the name.
pub(crate) fn local(provider: &str, keys: &[(&str, u8)]) -> String {
    let keys = keys.iter().map(|(name, byte)| {
        let secret = BASE64.encode(&[*byte; 32]);
        format!("\n      - {{name: {name}, secret: {secret}}}")
    });
    let keys: String = keys.collect();
    format!("  - {provider}:\n      keys:{keys}\n")
}

/// The provider that encrypts nothing.
pub(crate) const IDENTITY: &str = "  - identity: {}\n";

/// A configuration of one chain for the resources.
pub(crate) fn configuration(resources: &[&str], providers: &[&str]) -> String {
    format!(
        "apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [{}]
  providers:
{}",
        resources.join(", "),
        providers.concat()
    )
}

/// Where runs keep their names of canaries.
pub(crate) fn state_dir(plane: &ControlPlane) -> PathBuf {
    plane.directory().join("state")
}

/// A run with the first server's own file.
pub(crate) fn command(plane: &ControlPlane, more: &[&str]) -> Command {
    let mut arguments = vec!["reencrypt".to_owned(), "--engine".into(), "etcd".into()];
    arguments.extend(["--output".into(), "json".into(), "--yes".into()]);
    arguments.extend(atrest::flags(plane, 0));
    if !plane.tells_hashes() {
        arguments.push("--unverified-config".into());
    }
    arguments.push("--state-dir".into());
    arguments.push(state_dir(plane).display().to_string());
    if !more.contains(&"--config") {
        arguments.push("--config".into());
        arguments.push(plane.servers[0].encryption_config.display().to_string());
    }
    arguments.extend(more.iter().map(|it| (*it).to_owned()));
    atrest::command(arguments)
}

/// A run by an engine: `etcd`; `api`, which finds objects by etcd's keys; `list`, the same without etcd.
pub(crate) fn command_of(plane: &ControlPlane, engine: &str, more: &[&str]) -> Command {
    let kubeconfig = plane.servers[0].kubeconfig.display().to_string();
    let mut arguments = match engine {
        "etcd" => return command(plane, more),
        "api" => atrest::flags(plane, 0),
        _ => vec!["--kubeconfig".into(), kubeconfig],
    };
    arguments.splice(0..0, ["reencrypt".into(), "--output=json".into()]);
    arguments.push("--gentle=false".into());
    arguments.extend(more.iter().map(|it| (*it).to_owned()));
    atrest::command(arguments)
}

pub(crate) fn reencrypt(plane: &ControlPlane, more: &[&str]) -> Ended {
    command(plane, more).output().unwrap().into()
}

/// The counts of a run that ended with this status.
#[track_caller]
pub(crate) fn objects(ended: Ended, status: i32) -> Value {
    let report = ended.expect(status).json();
    assert_eq!(schema::faults(&report), Vec::<String>::new());
    report["objects"].clone()
}

/// A run that rewrote so many, found so many current and nothing else.
#[track_caller]
pub(crate) fn assert_rewrites(plane: &ControlPlane, rewritten: usize, current: usize) {
    assert_rewritten(&objects(reencrypt(plane, &[]), 0), rewritten, current);
}

/// So many were rewritten, so many found current, and nothing else.
#[track_caller]
pub(crate) fn assert_rewritten(counts: &Value, rewritten: usize, current: usize) {
    assert_eq!(
        (&counts["rewritten"], &counts["current"]),
        (&rewritten.into(), &current.into()),
        "{counts}"
    );
    assert_eq!(counts["total"], rewritten + current, "{counts}");
}

/// No canary is left, neither at rest nor in the notes of the state directory.
#[track_caller]
pub(crate) fn assert_no_canaries(plane: &ControlPlane) {
    let values = stored_values::secrets(plane);
    let left: Vec<_> = values.keys().filter(|key| key.contains("canary")).collect();
    assert!(left.is_empty(), "{left:?}");
    let notes = std::fs::read_dir(state_dir(plane)).into_iter().flatten();
    let notes: Vec<_> = notes
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("canaries"))
        .collect();
    assert!(notes.is_empty(), "{notes:?}");
}

pub(crate) fn etcdctl(plane: &ControlPlane, arguments: &[&str]) -> String {
    let output: Output = plane.etcdctl().args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
