//! A rotation that is killed goes on: SIGKILL at the boundaries where it makes something durable,
//! injected by strace, so that the program needs no hook for it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use atrest_tests::atrest::{self, Ended};
use atrest_tests::processes::{ControlPlane, Options};
use atrest_tests::{packages, stored_values};

use crate::rotate::{FEW, key_names, rotate};

/// Steps in which something is made durable; PLAN and LOCK change nothing.
const STATES: [&str; 7] = [
    "mint",
    "add_read",
    "promote",
    "rewrite",
    "verify",
    "drop_read",
    "done",
];

fn quick() -> ControlPlane {
    ControlPlane::start(Options {
        reload_poll: Some(Duration::from_millis(300)),
        request_timeout: Duration::from_secs(2),
        ..Options::default()
    })
}

/// Runs a rotation that SIGKILL ends when it is about to do its `nth` call of `syscall`.
fn run_killed_at(plane: &ControlPlane, syscall: &str, nth: usize) -> Ended {
    let command = atrest::rotate(plane, "run", &["--to", "secretbox"]);
    Command::new("strace")
        .args(["-f", "-qqq", "-o", "/dev/null", "-e"])
        .arg(format!("trace={syscall}"))
        .arg("-e")
        .arg(format!("inject={syscall}:signal=SIGKILL:when={nth}"))
        .arg(command.get_program())
        .args(command.get_args())
        .env_remove("KUBECONFIG")
        .stdin(Stdio::null())
        .output()
        .unwrap()
        .into()
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// The state that the newest journal came to; `None` where no run has begun since.
fn last_state(state_dir: &Path, before: &BTreeSet<String>) -> Option<String> {
    let journals = names(state_dir);
    let journal = journals
        .difference(before)
        .find(|name| name.ends_with(".journal"))?;
    let text = fs::read_to_string(state_dir.join(journal)).ok()?;
    let mut states = text.lines().filter_map(|line| {
        let json: serde_json::Value = serde_json::from_str(line.split_once(' ')?.1).ok()?;
        Some(json["state"].as_str()?.to_owned())
    });
    Some(states.next_back().unwrap_or_else(|| "lock".into()))
}

#[tokio::test(flavor = "multi_thread")]
async fn sigkill_in_every_step_and_resume_ends_in_the_same_state_with_one_key() {
    if !packages::available(&[("strace", "strace")]) {
        return;
    }
    let plane = quick();
    let client = plane.client(0).await;
    let stored = FEW.store(&client, "killed").await.unwrap();
    let state_dir = plane.directory().join("state");
    let file = plane.servers[0].encryption_config.clone();
    let long = std::env::var_os("ATREST_LONG").is_some();

    let mut killed_in = BTreeSet::new();
    let mut kills = 0;
    // fdatasync makes the journal's records durable, fsync files and directories. In CI it is a
    // sample of the boundaries, which falls into each step: this is asserted below.
    for (syscall, stride) in [("fdatasync", 2), ("fsync", 4)] {
        for nth in (1..).step_by(if long { 1 } else { stride }) {
            let before = names(&state_dir);
            let escrow_before = names(&state_dir.join("escrow"));
            let config_before = fs::read(&file).unwrap();
            let ended = run_killed_at(&plane, syscall, nth);
            if ended.status == Some(0) {
                break; // there is no nth boundary any more
            }
            assert_ne!(ended.status, Some(2), "{}", ended.stderr);
            kills += 1;
            let at = format!("killed at {syscall} {nth}");
            let Some(state) = last_state(&state_dir, &before) else {
                assert_eq!(
                    fs::read(&file).unwrap(),
                    config_before,
                    "{at}, before it began"
                );
                continue;
            };
            killed_in.insert(state.clone());
            rotate(&plane, "resume", &[]).expect(0);
            let keys = key_names(&file);
            let escrow = names(&state_dir.join("escrow"));
            let minted: Vec<_> = escrow.difference(&escrow_before).collect();
            assert_eq!(
                (keys.len(), minted.len()),
                (1, 1),
                "{at}, in {state}: {minted:?}"
            );
            let prefix = format!("k8s:enc:secretbox:v1:{}:", keys[0]);
            stored_values::assert_prefix(&plane, stored.len(), &prefix);
            let leftovers = names(file.parent().unwrap());
            assert!(
                !leftovers.iter().any(|name| name.ends_with(".atrest-new")),
                "{leftovers:?}"
            );
        }
    }
    eprintln!("{kills} kills, in {killed_in:?}");
    let missed: Vec<_> = STATES
        .iter()
        .filter(|state| !killed_in.contains(**state))
        .collect();
    assert!(missed.is_empty(), "no kill in {missed:?}");
    stored.assert_readable(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigkill_in_the_middle_of_the_rewrite_loses_nothing() {
    let plane = quick();
    let client = plane.client(0).await;
    let stored = FEW.store(&client, "midway").await.unwrap();
    let mut command = atrest::rotate(&plane, "run", &["--to", "secretbox", "--max-rate", "20"]);
    let mut running = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let some_but_not_all = || {
        let values = stored_values::secrets(&plane);
        let encrypted = values
            .values()
            .filter(|value| value.starts_with(b"k8s:enc:"))
            .count();
        encrypted > 0 && encrypted < values.len()
    };
    while !some_but_not_all() {
        assert!(
            Instant::now() < deadline,
            "the rewrite never was in its middle"
        );
    }
    running.kill().unwrap();
    running.wait().unwrap();
    assert!(some_but_not_all());
    stored.assert_readable(&client).await;

    let status = rotate(&plane, "status", &["--output", "json"])
        .expect(0)
        .json();
    assert_eq!(status["state"], "rewrite");
    assert_eq!(status["step"], 6);
    rotate(&plane, "run", &["--to", "secretbox"]).expect(2);
    rotate(&plane, "resume", &[]).expect(0);
    let keys = key_names(&plane.servers[0].encryption_config);
    assert_eq!(keys.len(), 1);
    stored_values::assert_prefix(
        &plane,
        stored.len(),
        &format!("k8s:enc:secretbox:v1:{}:", keys[0]),
    );
    stored.assert_readable(&client).await;
}
