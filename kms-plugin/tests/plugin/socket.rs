//! The socket, the process and their end.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;

use atrest_proto::v2::{EncryptRequest, EncryptResponse};
use rustix::process::Signal;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use tonic::client::Grpc;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

use crate::folder::{Folder, read, write};
use crate::plugin::{Plugin, SEED, until};

#[tokio::test]
async fn the_socket_is_for_its_owner_and_goes_with_the_plugin() {
    let folder = Folder::with_keyring();
    let plugin = Plugin::start(&folder).await;
    let metadata = std::fs::symlink_metadata(folder.socket()).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.mode() & 0o7777, 0o600);
    plugin.terminate().await;
    assert_eq!(folder.entries(), ["keyring.json", "kms.sock.lock", "log"]);
}

#[tokio::test]
async fn both_signals_end_it_well() {
    for signal in [Signal::TERM, Signal::INT] {
        let folder = Folder::with_keyring();
        let mut plugin = Plugin::start(&folder).await;
        plugin.signal(signal);
        assert_eq!(plugin.ended().await.code(), Some(0));
    }
}

#[tokio::test]
async fn a_second_instance_is_refused_and_the_first_one_lives() {
    let folder = Folder::with_keyring();
    let plugin = Plugin::start(&folder).await;
    let said = folder.serve_fails(3, &[]);
    assert!(said.contains("another process serves"), "{said}");
    assert_eq!(plugin.client().await.status().await.healthz, "ok");

    // Also when somebody removed the lock file.
    std::fs::remove_file(folder.path("kms.sock.lock")).unwrap();
    folder.serve_fails(3, &[]);
    assert_eq!(plugin.client().await.status().await.healthz, "ok");
}

#[tokio::test]
async fn a_socket_that_a_crash_left_is_taken_over() {
    let folder = Folder::with_keyring();
    let mut plugin = Plugin::start(&folder).await;
    let stored = plugin.client().await.encrypt(&SEED).await.unwrap();
    plugin.signal(Signal::KILL);
    plugin.ended().await;
    assert!(folder.socket().exists());
    let plugin = Plugin::start(&folder).await;
    assert_eq!(plugin.client().await.decrypt(&stored).await.unwrap(), SEED);
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let folder = Folder::with_keyring();
    write(&folder.socket(), b"precious");
    let said = folder.serve_fails(2, &[]);
    assert!(said.contains("not a socket"), "{said}");
    assert_eq!(read(&folder.socket()), b"precious");

    std::fs::remove_file(folder.socket()).unwrap();
    let listener = UnixListener::bind(folder.socket()).unwrap();
    folder.serve_fails(3, &[]);
    assert!(folder.socket().exists());
    drop(listener);

    let nowhere = folder.path("nowhere/kms.sock");
    let said = folder.fails(2, &["serve", "--socket", nowhere.to_str().unwrap()]);
    assert!(said.contains("create the socket's directory"), "{said}");
    let long = folder.path(&"x".repeat(120));
    folder.fails(2, &["serve", "--socket", long.to_str().unwrap()]);
}

#[tokio::test]
async fn a_socket_of_somebody_else_is_not_removed_at_the_end() {
    let folder = Folder::with_keyring();
    let plugin = Plugin::start(&folder).await;
    std::fs::remove_file(folder.socket()).unwrap();
    let _theirs = UnixListener::bind(folder.socket()).unwrap();
    plugin.terminate().await;
    assert!(folder.socket().exists());
}

#[tokio::test]
async fn a_call_in_flight_is_finished_while_new_connections_are_refused() {
    let folder = Folder::with_keyring();
    let mut plugin = Plugin::start(&folder).await;
    let endpoint = Endpoint::from_shared(format!("unix:{}", folder.socket().display())).unwrap();
    let channel = endpoint.connect().await.unwrap();

    // On the wire a unary call is a stream of one message, which this one holds back.
    let (send, messages) = mpsc::channel::<EncryptRequest>(1);
    let mut grpc = Grpc::new(channel.clone());
    let call = tokio::spawn(async move {
        grpc.ready().await.unwrap();
        let path = "/v2.KeyManagementService/Encrypt".parse().unwrap();
        let codec = ProstCodec::<EncryptRequest, EncryptResponse>::default();
        grpc.client_streaming(Request::new(ReceiverStream::new(messages)), path, codec)
            .await
    });
    // One connection, in order: when this is answered, the plugin has the head of the first call.
    until("the first call is under way", async || {
        tokio::task::yield_now().await;
        let mut client =
            atrest_proto::v2::key_management_service_client::KeyManagementServiceClient::new(
                channel.clone(),
            );
        client
            .status(atrest_proto::v2::StatusRequest {})
            .await
            .is_ok()
            && !call.is_finished()
    })
    .await;

    plugin.signal(Signal::TERM);
    until("no connection is taken", async || {
        endpoint.connect().await.is_err()
    })
    .await;
    let request = EncryptRequest {
        plaintext: SEED.to_vec(),
        uid: "4f1b2c".to_owned(),
    };
    send.send(request).await.unwrap();
    drop(send);
    let stored = call.await.unwrap().unwrap().into_inner();
    assert_eq!(plugin.ended().await.code(), Some(0), "{}", plugin.log());

    let plugin = Plugin::start(&folder).await;
    assert_eq!(plugin.client().await.decrypt(&stored).await.unwrap(), SEED);
}

#[tokio::test]
async fn a_caller_who_never_finishes_does_not_hold_up_the_end() {
    let folder = Folder::with_keyring();
    let mut plugin = Plugin::start(&folder).await;
    // A connection that says nothing at all.
    let _idle = std::os::unix::net::UnixStream::connect(folder.socket()).unwrap();
    plugin.client().await.status().await;
    plugin.signal(Signal::TERM);
    assert_eq!(plugin.ended().await.code(), Some(0));
}
