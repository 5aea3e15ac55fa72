//! A rotation that is killed goes on: SIGKILL at any call by which it does or learns something, injected
//! by strace, so that the program needs no hook for it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use atrest_tests::atrest::{self, Ended};
use atrest_tests::processes::{ControlPlane, Options};
use atrest_tests::secrets::Population;
use atrest_tests::{packages, stored_values};
use sha2::{Digest, Sha256};

use crate::rotate::{FEW, key_names, rotate};

/// Steps in which something is sent or written; PLAN and LOCK change nothing.
const STATES: [&str; 8] = [
    "mint",
    "add_read",
    "promote",
    "rewrite",
    "verify",
    "drop_read",
    "scrub",
    "done",
];

/// What a run does to the world, and what it asks of it: files, the journal, requests (`write`).
const SYSCALLS: [&str; 6] = [
    "openat",
    "write",
    "fsync",
    "fdatasync",
    "renameat2",
    "unlink",
];

const SECRETS: Population = Population {
    secrets: 200,
    namespaces: 4,
    smallest: 64,
    largest: 1024,
};

fn quick(servers: usize) -> ControlPlane {
    ControlPlane::start(Options {
        servers,
        reload_poll: Some(Duration::from_millis(100)),
        request_timeout: Duration::from_secs(1),
        ..Options::default()
    })
}

/// A rotation of all servers under strace.
fn traced(plane: &ControlPlane, file: &Path, output: &Path, trace: &[String]) -> Ended {
    let command = atrest::rotate_by(plane, file, "run", &["--to", "secretbox"]);
    Command::new("strace")
        .args(["-f", "-qqq", "-s", "0", "-o"])
        .arg(output)
        .args(trace)
        .arg(command.get_program())
        .args(command.get_args())
        .env_remove("KUBECONFIG")
        .env("HOME", "/nonexistent")
        .stdin(Stdio::null())
        .output()
        .unwrap()
        .into()
}

/// Runs a rotation that SIGKILL ends when it is about to do its `nth` call of `syscall`.
fn run_killed_at(plane: &ControlPlane, file: &Path, syscall: &str, nth: usize) -> Ended {
    let inject = format!("inject={syscall}:signal=SIGKILL:when={nth}");
    let trace = ["-e", &format!("trace={syscall}"), "-e", &inject].map(str::to_owned);
    traced(plane, file, Path::new("/dev/null"), &trace)
}

/// How often a whole rotation does each of the calls.
fn count_syscalls(plane: &ControlPlane, file: &Path) -> BTreeMap<&'static str, usize> {
    let output = plane.directory().join("trace");
    let trace = ["-e".to_owned(), format!("trace={}", SYSCALLS.join(","))];
    traced(plane, file, &output, &trace).expect(0);
    let text = fs::read_to_string(&output).unwrap();
    let mut counts = BTreeMap::new();
    for line in text.lines() {
        // `PID name(...`, or `PID <... name resumed>` for the second half of one.
        let call = line.split_whitespace().nth(1).unwrap_or_default();
        let found = SYSCALLS
            .iter()
            .find(|it| call.starts_with(&format!("{it}(")));
        if let Some(name) = found {
            *counts.entry(*name).or_default() += 1;
        }
    }
    counts
}

/// Points of as many kinds as there are: in turn of each call, somewhere, and none that was tried before.
fn points(
    counts: &BTreeMap<&'static str, usize>,
    most: usize,
    seed: u64,
    before: &BTreeSet<(String, usize)>,
) -> Vec<(&'static str, usize)> {
    let mut left: Vec<(&str, Vec<usize>)> = counts
        .iter()
        .map(|(syscall, count)| {
            let is_new = |nth: &usize| !before.contains(&((*syscall).to_owned(), *nth));
            let mut all: Vec<_> = (1..=*count).filter(is_new).collect();
            all.sort_by_key(|nth| Sha256::digest(format!("{seed} {syscall} {nth}")).to_vec());
            (*syscall, all)
        })
        .collect();
    let mut points = Vec::new();
    while points.len() < most && left.iter().any(|(_, all)| !all.is_empty()) {
        for (syscall, all) in &mut left {
            points.extend(all.pop().map(|nth| (*syscall, nth)));
        }
    }
    points.truncate(most);
    points
}

/// The points of earlier runs, in the file that `ATREST_KILL_POINTS` names: a thousand take more than an hour.
struct Kept {
    path: Option<OsString>,
    points: BTreeSet<(String, usize)>,
}

impl Kept {
    fn open() -> Self {
        let path = std::env::var_os("ATREST_KILL_POINTS");
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let text = path.as_ref().map(read).unwrap_or_default();
        let points = text.lines().map(|line| {
            let mut words = line.split(' ');
            let syscall = words.next().unwrap_or_default().to_owned();
            (syscall, words.next().unwrap_or_default().parse().unwrap())
        });
        Self {
            points: points.collect(),
            path,
        }
    }

    /// One that was resumed to the one end that there is.
    fn add(&self, at: &str, state: &str) {
        let Some(path) = &self.path else { return };
        let mut options = fs::OpenOptions::new();
        let mut file = options.append(true).create(true).open(path).unwrap();
        writeln!(file, "{at} {state}").unwrap();
    }
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
async fn sigkill_anywhere_and_resume_ends_in_the_same_state_with_one_key() {
    if !packages::available(&[("strace", "strace")]) {
        return;
    }
    let plane = quick(3);
    let stored = SECRETS
        .store(&plane.client(0).await, "killed")
        .await
        .unwrap();
    let rotation = atrest::rotation_yaml(&plane, 3, "");
    let state_dir = plane.directory().join("state");
    let configs: Vec<_> = plane
        .servers
        .iter()
        .map(|it| &it.encryption_config)
        .collect();
    let kept = Kept::open();
    let most = match std::env::var_os("ATREST_LONG") {
        Some(_) => 1_000_usize.saturating_sub(kept.points.len()),
        None => 50,
    };
    let seed = match std::env::var("ATREST_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => u64::from(std::process::id()),
    };
    eprintln!("ATREST_SEED={seed}");
    let counts = count_syscalls(&plane, &rotation);
    let points = points(&counts, most, seed, &kept.points);
    eprintln!("{} points of {counts:?}", points.len());

    let mut killed_in = BTreeMap::<_, usize>::new();
    for (i, (syscall, nth)) in points.iter().enumerate() {
        let before = names(&state_dir);
        let escrow_before = names(&state_dir.join("escrow"));
        let config_before = fs::read(configs[0]).unwrap();
        let ended = run_killed_at(&plane, &rotation, syscall, *nth);
        let at = format!("{syscall} {nth}");
        // No two runs do equally many: one may end before its last call.
        assert_ne!(ended.status, Some(2), "{at}: {}", ended.stderr);
        let Some(state) = last_state(&state_dir, &before) else {
            let config = fs::read(configs[0]).unwrap();
            assert_eq!(config, config_before, "{at}, before it began");
            *killed_in.entry("plan".to_owned()).or_default() += 1;
            kept.add(&at, "plan");
            continue;
        };
        eprintln!("{at} in {state}");
        *killed_in.entry(state.clone()).or_default() += 1;
        let resumed = atrest::rotate_by(&plane, &rotation, "resume", &[]).output();
        Ended::from(resumed.unwrap()).expect(0);
        let escrow = names(&state_dir.join("escrow"));
        let minted: Vec<_> = escrow.difference(&escrow_before).collect();
        assert_eq!(minted.len(), 1, "{at}, in {state}");
        let keys = key_names(configs[0]);
        for config in &configs {
            assert_eq!(key_names(config), keys, "{at}, in {state}");
        }
        assert_eq!(keys.len(), 1, "{at}, in {state}");
        let prefix = format!("k8s:enc:secretbox:v1:{}:", keys[0]);
        stored_values::assert_prefix(&plane, stored.len(), &prefix);
        let leftovers = names(plane.directory());
        let is_leftover = |name: &&String| name.ends_with(".atrest-new");
        assert_eq!(leftovers.iter().find(is_leftover), None, "{at}");
        kept.add(&at, &state);
        if i % 10 == 9 {
            for server in &plane.servers {
                stored.assert_readable(&server.client().await).await;
            }
        }
    }
    eprintln!("{} kills, in {killed_in:?}", points.len());
    let missed = STATES.iter().filter(|it| !killed_in.contains_key(**it));
    let missed: Vec<_> = missed.collect();
    // Of few points the short ones may have none.
    let may_miss = if points.len() < 500 { 2 } else { 0 };
    assert!(missed.len() <= may_miss, "no kill in {missed:?}");
    for server in &plane.servers {
        stored.assert_readable(&server.client().await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigkill_in_the_middle_of_the_rewrite_loses_nothing() {
    let plane = quick(1);
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
        let mut values = stored_values::secrets(&plane);
        values.retain(|key, _| !key.contains("atrest-canary"));
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
