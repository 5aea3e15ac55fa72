//! What the kernel keeps of the process, and from whom.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use data_encoding::BASE64;
use serde_json::Value;

use crate::folder::{Folder, PROGRAM, read, stderr};
use crate::plugin::{Plugin, SEED, until};

/// A user without any right, or who runs the test.
fn user() -> u32 {
    match rustix::process::geteuid().as_raw() {
        0 => 4242,
        own => own,
    }
}

/// `atrest-kms serve` as that user, who may lock so many KiB.
fn serve_as_user(folder: &Folder, kib: u32) -> Command {
    folder.give_to(user());
    let mut command = Command::new("sh");
    let limited = format!("ulimit -l {kib}; exec \"$0\" \"$@\"");
    command.args(["-c", &limited, PROGRAM, "serve"]);
    command.arg("--socket").arg(folder.socket());
    command.arg("--keyring").arg(folder.keyring());
    command.uid(user()).gid(user());
    command
}

async fn started(folder: &Folder, kib: u32, args: &[&str]) -> Plugin {
    let socket = folder.socket();
    let command = serve_as_user(folder, kib);
    let plugin = Plugin::spawn_command(folder, socket.to_str().unwrap(), command, args);
    until("it serves", async || plugin.log().contains("serving")).await;
    plugin
}

fn proc(plugin: &Plugin, name: &str) -> String {
    let file = File::open(format!("/proc/{}/{name}", plugin.pid())).unwrap();
    std::io::read_to_string(file).unwrap()
}

/// The value of a line `NAME: VALUE ...`.
fn field<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(name));
    let values = lines.flat_map(str::split_whitespace);
    values.collect()
}

#[tokio::test]
async fn there_is_no_core_no_debugger_of_its_user_and_no_new_privilege() {
    let folder = Folder::with_keyring();
    let plugin = started(&folder, 64, &[]).await;
    let limits = proc(&plugin, "limits");
    assert_eq!(
        field(&limits, "Max core file size")[..2],
        ["0", "0"],
        "{limits}"
    );
    let status = proc(&plugin, "status");
    assert_eq!(field(&status, "NoNewPrivs:"), ["1"], "{status}");
    assert_eq!(field(&status, "Uid:")[1], user().to_string(), "{status}");
    // What belongs to a process that cannot be dumped is root's.
    let path = format!("/proc/{}/environ", plugin.pid());
    assert_eq!(std::fs::metadata(path).unwrap().uid(), 0);
    assert!(!plugin.log().contains("keep this process to itself"));
}

#[tokio::test]
async fn what_is_not_locked_is_told_or_refused() {
    // The keys' pages fit, the process does not.
    let folder = Folder::with_keyring();
    let plugin = started(&folder, 64, &[]).await;
    let log = plugin.log();
    assert!(log.contains("seeds may reach the swap"), "{log}");
    assert!(log.contains("RLIMIT_MEMLOCK is 64 KiB"), "{log}");
    assert!(!log.contains("keys are not in locked memory"), "{log}");
    let status = proc(&plugin, "status");
    assert_ne!(field(&status, "VmLck:")[0], "0", "{status}");
    plugin.terminate().await;

    // Nothing fits.
    let folder = Folder::with_keyring();
    let plugin = started(&folder, 0, &[]).await;
    let log = plugin.log();
    assert!(log.contains("keys are not in locked memory"), "{log}");
    plugin.terminate().await;

    for kib in [64, 0] {
        let folder = Folder::with_keyring();
        let mut command = serve_as_user(&folder, kib);
        let output = command.arg("--require-locked-memory").output().unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains("memory cannot be locked"), "{said}");
        assert!(
            said.contains("hint: give the process CAP_IPC_LOCK"),
            "{said}"
        );
        assert!(!folder.socket().exists());
    }
}

/// A mapping of a process: where it is, what the kernel does with it, and what is in it.
struct Mapping {
    name: String,
    flags: Vec<String>,
    content: Vec<u8>,
}

impl Mapping {
    /// Locked, in no dump, wiped in children.
    fn is_for_keys(&self) -> bool {
        ["lo", "dd", "wf"].iter().all(|flag| self.has_flag(flag))
    }

    fn has_flag(&self, flag: &str) -> bool {
        self.flags.iter().any(|has| has == flag)
    }

    fn has(&self, secret: &[u8]) -> bool {
        self.content
            .windows(secret.len())
            .any(|part| part == secret)
    }
}

/// What the process can write to, which is where secrets can be.
fn mappings(pid: u32) -> Vec<Mapping> {
    let open = |name: &str| File::open(format!("/proc/{pid}/{name}")).unwrap();
    let memory = open("mem");
    let described = std::io::read_to_string(open("smaps")).unwrap();
    let mut found: Vec<Mapping> = Vec::new();
    let mut readable = false;
    for line in described.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        let range = words[0].split_once('-').and_then(|(start, end)| {
            let parse = |text| u64::from_str_radix(text, 16).ok();
            Some((parse(start)?, parse(end)?))
        });
        if let Some((start, end)) = range {
            readable = words[1].starts_with("rw");
            if readable {
                let mut content = vec![0; (end - start) as usize];
                // A mapping may go while this reads.
                if memory.read_exact_at(&mut content, start).is_err() {
                    content.clear();
                }
                found.push(Mapping {
                    name: line.to_owned(),
                    flags: Vec::new(),
                    content,
                });
            }
        } else if words[0] == "VmFlags:" && readable {
            let last = found.last_mut().unwrap();
            last.flags = words[1..].iter().map(|flag| (*flag).to_owned()).collect();
        }
    }
    found
}

#[tokio::test]
async fn keys_are_in_locked_pages_alone_also_under_load() {
    if rustix::process::geteuid().as_raw() != 0 {
        eprintln!("skipped: only root looks into a process that forbids it");
        return;
    }
    let folder = Folder::with_keyring();
    folder.ok(&["keyring", "add"]);
    folder.ok(&["keyring", "activate"]);
    let file: Value = serde_json::from_slice(&read(&folder.keyring())).unwrap();
    let keks: Vec<Vec<u8>> = file["generations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|generation| {
            let kek = generation["kek"].as_str().unwrap();
            BASE64.decode(kek.as_bytes()).unwrap()
        })
        .collect();
    assert_eq!(keks.len(), 2);

    let plugin = Plugin::start_with(&folder, &["--require-locked-memory"]).await;
    let status = proc(&plugin, "status");
    assert_ne!(field(&status, "VmLck:")[0], "0", "{status}");
    // No mapping goes into a dump, whatever it is marked with.
    assert_eq!(proc(&plugin, "coredump_filter").trim(), "00000000");

    let stop = Arc::new(AtomicBool::new(false));
    let mut calling = Vec::new();
    for _ in 0..4 {
        let (mut client, stop) = (plugin.client().await, Arc::clone(&stop));
        calling.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let stored = client.encrypt(&SEED).await.unwrap();
                assert_eq!(client.decrypt(&stored).await.unwrap(), SEED);
            }
        }));
    }
    let pid = plugin.pid();
    for _ in 0..20 {
        let taken = tokio::task::spawn_blocking(move || mappings(pid))
            .await
            .unwrap();
        for kek in &keks {
            let with: Vec<_> = taken.iter().filter(|mapping| mapping.has(kek)).collect();
            assert!(!with.is_empty());
            // The cipher spills round keys to the stack, for as long as a call takes.
            for mapping in with {
                let calling = mapping.name.ends_with("[stack]") && mapping.has_flag("lo");
                assert!(
                    mapping.is_for_keys() || calling,
                    "{} {:?}",
                    mapping.name,
                    mapping.flags
                );
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    for calling in calling {
        calling.await.unwrap();
    }

    // Once the calls are answered nothing is left of seeds, and keys are in their pages alone.
    until("no seed is in memory", async || {
        !mappings(pid).iter().any(|mapping| mapping.has(&SEED))
    })
    .await;
    let taken = mappings(pid);
    for kek in &keks {
        let mut with = taken.iter().filter(|mapping| mapping.has(kek));
        let elsewhere = with.find(|mapping| !mapping.is_for_keys());
        assert!(
            elsewhere.is_none(),
            "{:?}",
            elsewhere.map(|mapping| &mapping.name)
        );
    }
    plugin.terminate().await;
}
