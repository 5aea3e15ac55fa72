//! Import, roll-back, confirmation, and a keyring command that is killed at each system call.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Value, json};
use tonic::Code;

use crate::folder::{Folder, read, write};
use crate::plugin::{Plugin, SEED, until};

fn import(file: &Folder) -> Vec<String> {
    let file = file.keyring().to_str().unwrap().to_owned();
    vec!["keyring".into(), "import".into(), file]
}

fn words(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

fn json_file(folder: &Folder, name: &str, document: &Value) -> String {
    let path = folder.path(name);
    write(&path, document.to_string().as_bytes());
    path.to_str().unwrap().to_owned()
}

#[test]
fn import_takes_what_comes_from_the_present_one_and_refuses_forks() {
    let (first, second) = (Folder::with_keyring(), Folder::new());
    second.ok(&words(&import(&first)));
    assert_eq!(read(&second.keyring()), read(&first.keyring()));
    first.ok(&["keyring", "add"]);
    first.ok(&["keyring", "activate"]);
    second.ok(&words(&import(&first)));
    assert_eq!(second.list(), first.list());
    second.ok(&words(&import(&first)));

    // Minted on both.
    first.ok(&["keyring", "add"]);
    second.ok(&["keyring", "add"]);
    let before = read(&second.keyring());
    let said = second.fails(2, &words(&import(&first)));
    assert!(
        said.contains("minted twice") && said.contains("\nhint: "),
        "{said}"
    );
    let said = second.fails(2, &words(&import(&Folder::with_keyring())));
    assert!(said.contains("and here is keyring"), "{said}");
    assert_eq!(read(&second.keyring()), before);
    // Another's temporary file of the same keyring, older.
    let older = Folder::new();
    write(&older.keyring(), &before);
    second.ok(&["keyring", "activate"]);
    let said = second.fails(2, &words(&import(&older)));
    assert!(said.contains("it is older"), "{said}");
    assert_eq!(second.entries(), ["keyring.json"]);
}

/// A keyring with two generations of which the backup has one.
fn rolled_back() -> (Folder, Vec<u8>, Vec<u8>) {
    let folder = Folder::with_keyring();
    let backup = read(&folder.keyring());
    folder.ok(&["keyring", "add"]);
    folder.ok(&["keyring", "activate"]);
    let newer = read(&folder.keyring());
    (folder, backup, newer)
}

#[tokio::test]
async fn a_decrypt_of_a_newer_generation_stops_what_encrypts_until_it_is_confirmed() {
    let (folder, backup, _) = rolled_back();
    let plugin = Plugin::start(&folder).await;
    let newer = plugin.client().await.encrypt(&SEED).await.unwrap();
    plugin.terminate().await;

    write(&folder.keyring(), &backup);
    let plugin = Plugin::start(&folder).await;
    let mut client = plugin.client().await;
    let older = client.encrypt(&SEED).await.unwrap();
    client.decrypt(&newer).await.unwrap_err();
    let status = client.status().await;
    assert_eq!(
        (status.key_id.as_str(), status.version.as_str()),
        ("", "v2")
    );
    assert!(
        status.healthz.contains("keyring confirm"),
        "{}",
        status.healthz
    );
    let refused = client.encrypt(&SEED).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(client.decrypt(&older).await.unwrap(), SEED);
    until("the sign is kept", async || {
        folder.path("keyring.json.mark").exists()
    })
    .await;
    plugin.terminate().await;

    let plugin = Plugin::start(&folder).await;
    let mut client = plugin.client().await;
    assert_eq!(client.status().await.key_id, "");
    for args in [
        ["keyring", "add"],
        ["keyring", "activate"],
        ["keyring", "verify"],
    ] {
        let output = folder.run(&args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
    }
    folder.ok(&["keyring", "confirm"]);
    until("it encrypts again", async || {
        plugin.client().await.status().await.key_id == older.key_id
    })
    .await;
    folder.ok(&["keyring", "add"]);
    // The number that was seen is not given again.
    assert_eq!(folder.list()["generations"][1]["n"], 3);
    folder.ok(&["keyring", "verify"]);
}

#[tokio::test]
async fn a_peer_a_lease_and_a_census_are_signs_too_and_the_newer_file_ends_it() {
    for option in ["--peer", "--lease", "--census"] {
        let (folder, backup, newer) = rolled_back();
        let key_id = folder.key_id(2);
        let document = match option {
            "--peer" => folder.list(),
            "--lease" => json!({"kind": "Lease", "metadata": {"annotations": {"atrest": key_id}}}),
            _ => {
                json!({"schema": "atrest/verify/v1", "resources": [{"by_key": [{"key": key_id}]}]})
            }
        };
        let evidence = json_file(&folder, "evidence", &document);
        folder.ok(&["keyring", "verify", option, &evidence]);

        write(&folder.keyring(), &backup);
        let plugin = Plugin::start(&folder).await;
        assert_ne!(plugin.client().await.status().await.key_id, "");
        let output = folder.run(&["keyring", "verify", option, &evidence]);
        assert_eq!(output.status.code(), Some(1), "{option}");
        until("the running plugin stops", async || {
            plugin.client().await.status().await.key_id.is_empty()
        })
        .await;
        assert_eq!(folder.run(&["keyring", "add"]).status.code(), Some(1));

        let other = Folder::new();
        write(&other.keyring(), &newer);
        folder.ok(&words(&import(&other)));
        until("the newer file is served", async || {
            plugin.client().await.status().await.key_id == key_id
        })
        .await;
        let bad = json_file(&folder, "bad", &json!({}));
        folder.fails(2, &["keyring", "verify", option, &bad]);
    }
}

/// All by which a command changes or learns something.
const SYSCALLS: &str = "openat,read,write,fsync,fdatasync,rename,renameat,renameat2,unlink,fchmod,close,flistxattr,llistxattr";

fn strace(folder: &Folder, args: &[&str], trace: &[&str]) -> std::process::Output {
    let command = folder.command(args);
    Command::new("strace")
        .args(["-f", "-qqq", "-s", "0"])
        .args(trace)
        .arg(command.get_program())
        .args(command.get_args())
        .env_remove("CREDENTIALS_DIRECTORY")
        .output()
        .unwrap()
}

/// The calls that a command makes, in number by name.
fn calls(folder: &Folder, args: &[&str]) -> BTreeMap<String, usize> {
    let output = folder.path("trace");
    let only = format!("trace={SYSCALLS}");
    let ended = strace(folder, args, &["-e", &only, "-o", output.to_str().unwrap()]);
    assert!(ended.status.success(), "{args:?}");
    let text = String::from_utf8(read(&output)).unwrap();
    std::fs::remove_file(output).unwrap();
    let mut counts = BTreeMap::new();
    for line in text.lines() {
        let call = line.split_whitespace().nth(1).unwrap_or_default();
        if let Some((name, _)) = call.split_once('(') {
            *counts.entry(name.to_owned()).or_default() += 1;
        }
    }
    counts
}

/// Numbers and the keys that go by them, which must never change once they were seen.
fn names(list: &Value, seen: &mut BTreeMap<u64, String>) {
    for generation in list["generations"].as_array().unwrap() {
        let (n, key_id) = (&generation["n"], &generation["key_id"]);
        let key_id = key_id.as_str().unwrap().to_owned();
        let former = seen.insert(n.as_u64().unwrap(), key_id.clone());
        assert!(
            former.is_none_or(|former| former == key_id),
            "{n} was given twice"
        );
    }
}

#[tokio::test]
async fn every_cut_starts_again_decrypts_what_was_and_reuses_no_id() {
    if Command::new("strace").arg("-V").output().is_err() {
        assert!(
            std::env::var_os("ATREST_REQUIRE_NODES").is_none(),
            "it needs strace"
        );
        eprintln!("skipped: it needs strace");
        return;
    }
    let (before, _, newer) = rolled_back();
    let plugin = Plugin::start(&before).await;
    let stored = plugin.client().await.encrypt(&SEED).await.unwrap();
    plugin.terminate().await;
    let file = Folder::new();
    write(&file.keyring(), &newer);
    file.ok(&["keyring", "add"]);
    let import = import(&file);
    let sign = json!({"schema": "atrest/keyring-mark/v1", "keyring": before.list()["id"],
                      "generation": 5, "sign": "peer", "seen": "2026-11-25T00:00:00Z"});

    let newest = read(&file.keyring());
    let commands: [(&[&str], &[u8], bool); 4] = [
        (&["keyring", "add"], &newer, false),
        (&["keyring", "activate"], &newest, false),
        (&words(&import), &newer, false),
        (&["keyring", "confirm"], &newer, true),
    ];
    let mut cuts = 0;
    for (args, from, is_marked) in commands {
        let prepare = |folder: &Folder| {
            write(&folder.keyring(), from);
            if is_marked {
                write(
                    &folder.path("keyring.json.mark"),
                    sign.to_string().as_bytes(),
                );
            }
        };
        let folder = Folder::new();
        prepare(&folder);
        for (syscall, count) in calls(&folder, args) {
            for nth in 1..=count {
                let folder = Folder::new();
                prepare(&folder);
                let inject = format!("inject={syscall}:signal=SIGKILL:when={nth}");
                let only = format!("trace={syscall}");
                strace(
                    &folder,
                    args,
                    &["-e", &only, "-e", &inject, "-o", "/dev/null"],
                );
                cuts += 1;
                let at = format!("{args:?} at {syscall} {nth}");
                let mut seen = BTreeMap::new();
                names(&folder.list(), &mut seen);
                folder.ok(args);
                names(&folder.list(), &mut seen);
                let leftover = folder.entries();
                assert!(
                    !leftover.iter().any(|it| it.ends_with(".atrest-new")),
                    "{at}"
                );
                assert_decrypts(&folder, &stored.key_id, &at);
            }
        }
    }
    eprintln!("{cuts} cuts");
    assert!(cuts > 100, "only {cuts}");
    // One of each kind by the socket, too.
    let plugin = Plugin::start(&file).await;
    assert_eq!(plugin.client().await.decrypt(&stored).await.unwrap(), SEED);
}

/// `keyring verify` encrypts and decrypts with every key; the name is that of its key.
fn assert_decrypts(folder: &Folder, key_id: &str, at: &str) {
    let list: Value =
        serde_json::from_slice(&folder.ok(&["keyring", "verify", "-o", "json"]).stdout).unwrap();
    let generations = list["generations"].as_array().unwrap();
    let found = generations.iter().find(|it| it["key_id"] == key_id);
    assert!(found.is_some_and(|it| it["stage"] != "retired"), "{at}");
}
