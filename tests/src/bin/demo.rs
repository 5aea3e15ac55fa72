//! `cargo demo`: the whole road on a real control plane, with the real binaries.
//!
//! A thousand Secrets are stored in plaintext, encrypted, rotated, moved to a KMS plugin and
//! rotated there, and after each stage the census is read from etcd. Nothing is left running.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr)] // it is there to be looked at
#![allow(clippy::disallowed_methods)] // the bans are about files of users, not those of a demo

use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use atrest_tests::plugin::Plugin;
use atrest_tests::processes::{ControlPlane, Options};
use atrest_tests::programs::Programs;
use atrest_tests::secrets::Population;
use atrest_tests::{atrest, binaries};
use sha2::{Digest, Sha256};

const SECRETS: Population = Population {
    secrets: 1000,
    namespaces: 10,
    smallest: 64,
    largest: 16 << 10,
};

/// What a stage of the demo did.
struct Stage {
    name: &'static str,
    objects: u64,
    seconds: f64,
    rewrite: f64,
}

fn main() -> ExitCode {
    if let Err(error) = Programs::find_or_build() {
        eprintln!("{error}");
        return ExitCode::from(2);
    }
    match tokio::runtime::Runtime::new().map(|runtime| runtime.block_on(demo())) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(what)) => {
            eprintln!("error: {what}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn demo() -> Result<(), String> {
    binaries::path("atrest");
    heading("a control plane of kube-apiserver, etcd and kubeadm's PKI on loopback");
    let options = Options::default();
    println!(
        "for the demo the API server polls its EncryptionConfiguration every {} s (stock: 60 s) \
         and ends requests after {} s (stock: 60 s)",
        options
            .reload_poll
            .unwrap_or(Duration::from_secs(60))
            .as_secs(),
        options.request_timeout.as_secs(),
    );
    let plane = ControlPlane::start(options);
    let client = plane.client(0).await;
    let start = Instant::now();
    let stored = SECRETS
        .store(&client, "demo")
        .await
        .map_err(|error| error.to_string())?;
    println!(
        "{} Secrets stored in {:.1} s",
        stored.len(),
        start.elapsed().as_secs_f64()
    );
    census(&plane, 1)?;

    let mut stages = Vec::new();
    heading("encrypt: from identity to secretbox");
    stages.push(rotate(
        &plane,
        "identity to secretbox",
        &["--to", "secretbox"],
    )?);
    heading("rotate the secretbox key");
    stages.push(rotate(&plane, "secretbox key to key", &[])?);

    heading("move to the KMS plugin");
    let plugin = Plugin::start();
    let socket = format!("atrest={}", plugin.socket().display());
    let to_kms = ["--to", "kms", "--kms-socket", &socket];
    stages.push(rotate(&plane, "secretbox to kms v2", &to_kms)?);

    heading("rotate the key-encryption key");
    stages.push(rotate_key_encryption_key(&plane, &plugin)?);

    heading("every Secret still reads");
    stored.assert_readable(&client).await;
    println!(
        "{} of {} have the data that was stored",
        stored.len(),
        SECRETS.secrets
    );

    println!(
        "\n{:24} {:>8} {:>8} {:>10} {:>10}",
        "STAGE", "OBJECTS", "SECONDS", "REWRITE S", "OBJECTS/S"
    );
    for stage in stages {
        println!(
            "{:24} {:>8} {:>8.1} {:>10.1} {:>10.0}",
            stage.name,
            stage.objects,
            stage.seconds,
            stage.rewrite,
            stage.objects as f64 / stage.rewrite,
        );
    }
    println!("SECONDS are of the whole stage with its waits, OBJECTS/S of the rewrite alone");
    Ok(())
}

fn heading(text: &str) {
    println!("\n== {text}");
}

fn rotate(plane: &ControlPlane, name: &'static str, more: &[&str]) -> Result<Stage, String> {
    let start = Instant::now();
    let mut command = atrest::rotate(plane, "run", more);
    // Nobody else has work for this cluster.
    command.arg("--gentle=false");
    let output = command
        .args(["--output", "json"])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(format!("atrest rotate ended with {}", output.status));
    }
    let seconds = start.elapsed().as_secs_f64();
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
    census(plane, 0)?;
    Ok(Stage {
        name,
        objects: report["objects"]["total"].as_u64().unwrap_or_default(),
        seconds,
        rewrite: report["objects"]["seconds"].as_f64().unwrap_or_default(),
    })
}

/// What `atrest verify` reads from etcd; its exit status must be the expected one.
fn census(plane: &ControlPlane, expected: i32) -> Result<(), String> {
    let mut arguments = vec!["verify".to_owned()];
    arguments.extend(atrest::flags(plane, 0));
    arguments.push("--config".into());
    arguments.push(plane.servers[0].encryption_config.display().to_string());
    arguments.extend(["--max-objects".into(), "1".into()]);
    let ended = atrest::run(&arguments);
    print!("{}", ended.stdout);
    match ended.status {
        Some(status) if status == expected => Ok(()),
        status => Err(format!(
            "atrest verify ended with {status:?}: {}",
            ended.stderr
        )),
    }
}

fn rotate_key_encryption_key(plane: &ControlPlane, plugin: &Plugin) -> Result<Stage, String> {
    let start = Instant::now();
    plugin.keyring(&["add"]);
    plugin.keyring(&["activate"]);
    let key_id = plugin.active_key_id();
    println!(
        "waiting until the API server has seen {key_id}: it asks once a minute, or when it is probed"
    );
    await_key_id(plane, &key_id)?;

    let mut arguments = vec![
        "reencrypt".to_owned(),
        "--gentle=false".into(),
        "--output".into(),
        "json".into(),
        "--kubeconfig".into(),
    ];
    arguments.push(plane.servers[0].kubeconfig.display().to_string());
    let report = atrest::run(&arguments);
    if report.status != Some(0) {
        return Err(format!("atrest reencrypt: {}", report.stderr));
    }
    let report = report.json();
    let seconds = start.elapsed().as_secs_f64();
    census(plane, 0)?;
    Ok(Stage {
        name: "key-encryption key",
        objects: report["objects"]["total"].as_u64().unwrap_or_default(),
        seconds,
        rewrite: report["seconds"].as_f64().unwrap_or_default(),
    })
}

/// The API server names, by its hash, the key_id that its last Status call brought.
fn await_key_id(plane: &ControlPlane, key_id: &str) -> Result<(), String> {
    let hash = data_encoding::HEXLOWER.encode(&Sha256::digest(key_id));
    let deadline = Instant::now() + Duration::from_secs(90);
    while Instant::now() < deadline {
        // A probe makes the server ask the plugin, at most every 20 s.
        let _ = plane
            .kubectl(0)
            .args(["get", "--raw=/readyz/kms-providers"])
            .output();
        let metrics = plane.kubectl(0).args(["get", "--raw=/metrics"]).output();
        let metrics = metrics.map_err(|error| error.to_string())?.stdout;
        let seen = String::from_utf8_lossy(&metrics).lines().any(|line| {
            line.starts_with(
                "apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds",
            ) && line.contains(&hash)
        });
        if seen {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    Err("the API server has not seen the new key_id".into())
}
