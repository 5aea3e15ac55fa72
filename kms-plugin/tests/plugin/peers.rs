//! Who may call, and how much of the plugin one of them may take.

use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixStream};
use std::thread;
use std::time::Duration;

use atrest_proto::v2::{EncryptRequest, EncryptResponse};
use rustix::process::{Gid, Uid};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::{Code, Request};
use tonic_prost::ProstCodec;

use crate::folder::Folder;
use crate::plugin::{GREETING, Plugin, SEED, is_served, until};

/// As many as the plugin has room for.
const CONNECTIONS: usize = 64;

/// Waits until the plugin has closed the connection, whatever it said before.
fn closed(mut stream: &UnixStream) {
    let patience = Some(Duration::from_secs(60));
    stream.set_read_timeout(patience).unwrap();
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// A thread has credentials of its own in Linux: connects with these, where the test is root.
fn connect_as(uid: u32, gid: u32, address: SocketAddr) -> std::io::Result<UnixStream> {
    let connecting = thread::spawn(move || {
        rustix::thread::set_thread_groups(&[])?;
        rustix::thread::set_thread_gid(Gid::from_raw(gid))?;
        rustix::thread::set_thread_uid(Uid::from_raw(uid))?;
        UnixStream::connect_addr(&address)
    });
    connecting.join().unwrap()
}

fn address(folder: &Folder) -> SocketAddr {
    SocketAddr::from_pathname(folder.socket()).unwrap()
}

#[tokio::test]
async fn r25_who_is_not_on_the_list_is_refused_also_where_the_file_lets_them_in() {
    let folder = Folder::with_keyring();
    let other = (own_uid() + 4242).to_string();
    let plugin = Plugin::spawn(&folder, &["--allow-uid", &other]);
    until("it listens", async || {
        UnixStream::connect(folder.socket()).is_ok()
    })
    .await;
    let stream = UnixStream::connect(folder.socket()).unwrap();
    assert!(!is_served(&stream));
    until("the refusal is logged", async || {
        plugin.log().contains("is not allowed to call")
    })
    .await;
    let log = plugin.log();
    let who = format!("uid {}, gid ", own_uid());
    assert!(log.contains(&who), "{log}");
    assert!(
        log.contains(&format!("pid {}", std::process::id())),
        "{log}"
    );
}

#[tokio::test]
async fn r25_a_list_of_groups_lets_their_processes_call() {
    let folder = Folder::with_keyring();
    let gid = rustix::process::getegid().as_raw().to_string();
    let plugin = Plugin::start_with(&folder, &["--allow-gid", &gid]).await;
    assert_eq!(plugin.client().await.status().await.healthz, "ok");
}

#[tokio::test]
async fn r25_the_group_of_the_socket_may_call_and_others_may_not() {
    if own_uid() != 0 {
        eprintln!("skipped: it takes root to be somebody else");
        return;
    }
    let folder = Folder::with_keyring();
    let plugin = Plugin::start_with(&folder, &["--socket-gid", "7070"]).await;
    let metadata = std::fs::symlink_metadata(folder.socket()).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.gid()), (0o660, 7070));
    folder.open_to_all();

    assert!(is_served(
        &connect_as(4242, 7070, address(&folder)).unwrap()
    ));
    let refused = connect_as(4242, 4242, address(&folder)).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    // Also if somebody opens the file to everybody.
    let open = std::fs::Permissions::from_mode(0o666);
    std::fs::set_permissions(folder.socket(), open).unwrap();
    assert!(!is_served(
        &connect_as(4242, 4242, address(&folder)).unwrap()
    ));
    assert_eq!(plugin.client().await.status().await.healthz, "ok");
}

#[tokio::test]
async fn r25_an_abstract_socket_is_for_its_user_and_root() {
    let folder = Folder::with_keyring();
    let name = format!("atrest-kms-test-{}", std::process::id());
    let socket = format!("@{name}");
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let said = folder.fails(2, &["serve", "--socket", &socket, "--socket-gid", "0"]);
    assert!(said.contains("--allow-gid"), "{said}");

    let plugin = Plugin::spawn_at(&folder, &socket, &[]);
    until("it listens", async || {
        UnixStream::connect_addr(&address).is_ok()
    })
    .await;
    assert!(is_served(&UnixStream::connect_addr(&address).unwrap()));
    // No file, and no second instance.
    assert_eq!(folder.entries(), ["keyring.json", "log"]);
    let said = folder.fails(3, &["serve", "--socket", &socket]);
    assert!(said.contains("another process serves"), "{said}");
    if own_uid() == 0 {
        assert!(!is_served(&connect_as(4242, 4242, address).unwrap()));
    }
    plugin.terminate().await;
}

#[tokio::test]
async fn there_is_room_for_so_many_connections_and_others_wait() {
    let folder = Folder::with_keyring();
    let plugin = Plugin::start(&folder).await;
    let mut client = plugin.client().await;
    client.status().await;
    let mut served = Vec::new();
    // The client has one.
    for _ in 1..CONNECTIONS {
        let stream = UnixStream::connect(folder.socket()).unwrap();
        assert!(is_served(&stream));
        served.push(stream);
    }
    let waiting = UnixStream::connect(folder.socket()).unwrap();
    until("it is logged that there is no more room", async || {
        plugin.log().contains("there are 64 connections")
    })
    .await;
    assert_eq!(client.status().await.healthz, "ok");
    drop(served);
    assert!(is_served(&waiting));
}

#[tokio::test]
async fn who_never_speaks_or_never_answers_a_ping_is_cut_off() {
    let folder = Folder::with_keyring();
    let plugin = Plugin::start(&folder).await;
    let mut client = plugin.client().await;
    let silent = UnixStream::connect(folder.socket()).unwrap();
    let cut = UnixStream::connect(folder.socket()).unwrap();
    (&cut).write_all(&GREETING[..20]).unwrap();
    let stopped = UnixStream::connect(folder.socket()).unwrap();
    assert!(is_served(&stopped));
    let waiting = tokio::task::spawn_blocking(move || {
        for stream in [&silent, &cut, &stopped] {
            closed(stream);
        }
    });
    waiting.await.unwrap();
    // One that answers pings stays.
    assert_eq!(client.status().await.healthz, "ok");
}

#[tokio::test]
async fn r19_a_call_whose_message_never_comes_ends() {
    let folder = Folder::with_keyring();
    let plugin = Plugin::start(&folder).await;
    let mut client = plugin.client().await;
    // On the wire a unary call is a stream of one message, which this one never sends.
    let (_held, messages) = mpsc::channel::<EncryptRequest>(1);
    let mut grpc = Grpc::new(plugin.channel().await);
    grpc.ready().await.unwrap();
    let path = "/v2.KeyManagementService/Encrypt".parse().unwrap();
    let codec = ProstCodec::<EncryptRequest, EncryptResponse>::default();
    let call = grpc.client_streaming(Request::new(ReceiverStream::new(messages)), path, codec);
    let ended = tokio::time::timeout(Duration::from_secs(60), call).await;
    let status = ended.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Cancelled, "{status}");
    client.encrypt(&SEED).await.unwrap();
}
