//! Listening sockets that outlive the plugin.

use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::folder::{Folder, PROGRAM};
use crate::plugin::{Plugin, SEED, is_served, until};

fn hold(folder: &Folder) -> Plugin {
    let socket = folder.socket();
    let mut command = Command::new(PROGRAM);
    command.arg("hold").arg("--socket").arg(&socket);
    Plugin::spawn_command(folder, socket.to_str().unwrap(), command, &[])
}

/// Waits until the log, to which holder and plugins write, has the words so many times.
async fn logged(plugin: &Plugin, words: &str, times: usize) {
    until(words, async || plugin.log().matches(words).count() >= times).await;
}

#[tokio::test]
async fn l05_who_connects_while_there_is_no_plugin_waits_for_the_next_one() {
    let folder = Folder::with_keyring();
    let holder = hold(&folder);
    logged(&holder, "holding", 1).await;
    // Before the first plugin, too.
    let first = UnixStream::connect(folder.socket()).unwrap();
    let plugin = Plugin::start_with(&folder, &["--held"]).await;
    assert!(is_served(&first));
    let stored = plugin.client().await.encrypt(&SEED).await.unwrap();
    plugin.terminate().await;

    let waiting = UnixStream::connect(folder.socket()).unwrap();
    let plugin = Plugin::start_with(&folder, &["--held"]).await;
    assert!(is_served(&waiting));
    assert_eq!(plugin.client().await.decrypt(&stored).await.unwrap(), SEED);

    // An upgrade: the new one serves before the old one ends.
    let newer = Plugin::spawn(&folder, &["--held"]);
    logged(&newer, "serving", 3).await;
    plugin.terminate().await;
    assert_eq!(newer.client().await.decrypt(&stored).await.unwrap(), SEED);
    newer.terminate().await;

    holder.terminate().await;
    let left = [
        "keyring.json",
        "kms.sock.holder.lock",
        "kms.sock.lock",
        "log",
    ];
    assert_eq!(folder.entries(), left);
}

#[tokio::test]
async fn a_plugin_waits_for_its_holder_and_outlives_it() {
    let folder = Folder::with_keyring();
    // It can be ended meanwhile.
    let plugin = Plugin::spawn(&folder, &["--held"]);
    logged(&plugin, "waiting for who holds the socket", 1).await;
    plugin.terminate().await;

    let plugin = Plugin::spawn(&folder, &["--held"]);
    logged(&plugin, "waiting for who holds the socket", 2).await;
    let mut holder = hold(&folder);
    logged(&plugin, "serving", 1).await;

    holder.signal(Signal::KILL);
    holder.ended().await;
    assert_eq!(plugin.client().await.status().await.healthz, "ok");
    // The next one takes nothing from a plugin that lives.
    let holder = hold(&folder);
    logged(&holder, "waiting until the socket is free", 1).await;
    assert_eq!(plugin.client().await.status().await.healthz, "ok");
    plugin.terminate().await;
    logged(&holder, "holding", 2).await;
    let plugin = Plugin::start_with(&folder, &["--held"]).await;
    assert_eq!(plugin.client().await.status().await.healthz, "ok");
}

#[tokio::test]
async fn the_service_manager_learns_when_calls_are_answered() {
    let folder = Folder::with_keyring();
    let place = folder.path("notify");
    let manager = UnixDatagram::bind(&place).unwrap();
    manager
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let socket = folder.socket();
    let mut command = folder.command(&["serve", "--socket", socket.to_str().unwrap()]);
    command.env("NOTIFY_SOCKET", &place);
    let plugin = Plugin::spawn_command(&folder, socket.to_str().unwrap(), command, &[]);
    let mut said = [0; 64];
    let length = manager.recv(&mut said).unwrap();
    assert_eq!(&said[..length], b"READY=1");
    assert_eq!(plugin.client().await.status().await.healthz, "ok");
}

#[test]
fn a_socket_comes_from_one_place() {
    let folder = Folder::with_keyring();
    let said = folder.fails(2, &["serve", "--socket-activation"]);
    assert!(said.contains("passed 0 sockets"), "{said}");
    let socket = folder.socket();
    let socket = socket.to_str().unwrap();
    for wrong in [
        &["serve"][..],
        &["serve", "--held"],
        &["serve", "--socket-activation", "--socket", socket],
        &["serve", "--socket-activation", "--held"],
        &["serve", "--held", "--socket", socket, "--socket-gid", "0"],
    ] {
        let output = folder.run(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
}
