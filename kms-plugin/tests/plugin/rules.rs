//! The rules of a KMS v2 plugin that no other test is about, by their numbers in
//! docs/SPECIFICATION.md.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use atrest_proto::v2::{EncryptRequest, EncryptResponse};
use data_encoding::{BASE32_NOPAD, BASE64, HEXLOWER};
use serde_json::Value;
use tonic::client::Grpc;
use tonic::{Code, Request};
use tonic_prost::ProstCodec;

use crate::folder::{Folder, read};
use crate::plugin::{Client, GREETING, Plugin, SEED, until};

/// The keys of an unsealed keyring.
fn keks(folder: &Folder) -> Vec<Vec<u8>> {
    let file: Value = serde_json::from_slice(&read(&folder.keyring())).unwrap();
    let generations = file["generations"].as_array().unwrap();
    let kek = |generation: &Value| {
        let text = generation["kek"].as_str().unwrap();
        BASE64.decode(text.as_bytes()).unwrap()
    };
    generations.iter().map(kek).collect()
}

/// Adds a generation and waits until the plugin writes with it.
async fn rotate(folder: &Folder, plugin: &Plugin) -> String {
    let before = plugin.client().await.status().await.key_id;
    folder.ok(&["keyring", "add"]);
    folder.ok(&["keyring", "activate"]);
    until("the new key is served", async || {
        plugin.client().await.status().await.key_id != before
    })
    .await;
    plugin.client().await.status().await.key_id
}

#[tokio::test]
async fn r01_http2_in_clear_on_a_unix_socket() {
    let folder = Folder::with_keyring();
    let _plugin = Plugin::start(&folder).await;
    let mut stream = UnixStream::connect(folder.socket()).unwrap();
    stream.write_all(GREETING).unwrap();
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).unwrap();
    // SETTINGS, of the connection as a whole.
    assert_eq!((frame[3], &frame[5..]), (4, &[0; 4][..]));
}

#[tokio::test]
async fn r02_the_service_has_three_calls_and_no_other() {
    let folder = Folder::with_keyring();
    let plugin = Plugin::start(&folder).await;
    for (path, code) in [
        ("/v2.KeyManagementService/Encrypt", None),
        ("/v2.KeyManagementService/Decrypt", Some(Code::NotFound)),
        ("/v2.KeyManagementService/Rewrap", Some(Code::Unimplemented)),
        (
            "/v3.KeyManagementService/Encrypt",
            Some(Code::Unimplemented),
        ),
    ] {
        let mut grpc = Grpc::new(plugin.channel().await);
        grpc.ready().await.unwrap();
        let request = EncryptRequest {
            plaintext: SEED.to_vec(),
            uid: "4f1b2c".to_owned(),
        };
        let codec = ProstCodec::<EncryptRequest, EncryptResponse>::default();
        let answer = grpc.unary(Request::new(request), path.parse().unwrap(), codec);
        assert_eq!(
            answer.await.err().map(|status| status.code()),
            code,
            "{path}"
        );
    }
    assert_eq!(plugin.client().await.status().await.healthz, "ok");
}

#[tokio::test]
async fn r05_r10_key_ids_are_short_and_say_nothing_of_the_key() {
    let folder = Folder::with_keyring();
    let plugin = Plugin::start(&folder).await;
    rotate(&folder, &plugin).await;
    let key_id = plugin.client().await.status().await.key_id;
    assert!((1..=1024).contains(&key_id.len()), "{key_id}");
    assert!(
        key_id.bytes().all(|byte| byte.is_ascii_graphic()),
        "{key_id}"
    );
    for kek in keks(&folder) {
        // Any five bytes of the key, in the forms that a name could have.
        for part in kek.windows(5) {
            let base32 = BASE32_NOPAD.encode(part).to_lowercase();
            for form in [HEXLOWER.encode(part), base32] {
                assert!(!key_id.contains(&form), "{key_id}");
            }
        }
    }
}

#[tokio::test]
async fn r08_r09_l06_there_are_no_annotations() {
    let folder = Folder::with_keyring();
    let plugin = Plugin::start(&folder).await;
    let mut client = plugin.client().await;
    for _ in 0..3 {
        assert!(client.encrypt(&SEED).await.unwrap().annotations.is_empty());
    }
}

#[tokio::test]
async fn r11_the_key_id_is_the_same_for_every_call_connection_and_process() {
    let folder = Folder::with_keyring();
    let key_id = folder.key_id(1);
    let plugin = Plugin::start(&folder).await;
    let mut clients = [plugin.client().await, plugin.client().await];
    for _ in 0..100 {
        for client in &mut clients {
            assert_eq!(client.status().await.key_id, key_id);
        }
    }
    // A generation that only decrypts changes nothing either.
    folder.ok(&["keyring", "add"]);
    until("the file is taken up", async || {
        plugin.log().contains("serving the changed keyring")
    })
    .await;
    assert_eq!(clients[0].status().await.key_id, key_id);
    plugin.terminate().await;
    let plugin = Plugin::start(&folder).await;
    assert_eq!(plugin.client().await.status().await.key_id, key_id);
}

#[tokio::test]
async fn r12_a_former_key_id_never_comes_back() {
    let folder = Folder::with_keyring();
    let plugin = Plugin::start(&folder).await;
    let mut seen = vec![plugin.client().await.status().await.key_id];
    for _ in 0..3 {
        let key_id = rotate(&folder, &plugin).await;
        assert!(!seen.contains(&key_id), "{key_id}");
        seen.push(key_id);
        for former in ["1", &(seen.len() - 1).to_string()] {
            let said = folder.fails(2, &["keyring", "activate", "--generation", former]);
            assert!(said.contains("no key_id is used again"), "{said}");
        }
    }
    assert_eq!(plugin.client().await.status().await.key_id, seen[3]);
}

#[tokio::test]
async fn r13_the_key_id_names_the_key_that_wraps_the_seed() {
    let folder = Folder::with_keyring();
    let plugin = Plugin::start(&folder).await;
    let first = plugin.client().await.encrypt(&SEED).await.unwrap();
    rotate(&folder, &plugin).await;
    let mut client = plugin.client().await;
    let second = client.encrypt(&SEED).await.unwrap();
    // Each opens under its own name alone.
    for (mut stored, other) in [(first.clone(), &second), (second.clone(), &first)] {
        assert_eq!(client.decrypt(&stored).await.unwrap(), SEED);
        stored.key_id.clone_from(&other.key_id);
        let status = client.decrypt(&stored).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn r16_what_any_generation_encrypted_decrypts() {
    let folder = Folder::with_keyring();
    let plugin = Plugin::start(&folder).await;
    let mut stored = Vec::new();
    for _ in 0..4 {
        stored.push(plugin.client().await.encrypt(&SEED).await.unwrap());
        rotate(&folder, &plugin).await;
    }
    plugin.terminate().await;
    let plugin = Plugin::start(&folder).await;
    let mut client = plugin.client().await;
    for stored in &stored {
        assert_eq!(client.decrypt(stored).await.unwrap(), SEED);
    }
}

#[tokio::test]
async fn r18_l04_l07_thousands_of_seeds_at_once_are_decrypted_and_status_is_answered_meanwhile() {
    let folder = Folder::with_keyring();
    let plugin = Plugin::start(&folder).await;
    let mut client = plugin.client().await;
    let mut stored = Vec::new();
    for n in 0..2_000_u32 {
        let seed = [&n.to_be_bytes()[..], &SEED[4..]].concat();
        stored.push((client.encrypt(&seed).await.unwrap(), seed));
    }
    let calls: Vec<_> = stored
        .into_iter()
        .map(|(stored, seed)| {
            let mut client = client.clone();
            tokio::spawn(async move { client.decrypt(&stored).await.unwrap() == seed })
        })
        .collect();
    let mut other: Client = plugin.client().await;
    let mut meanwhile = 0;
    while calls.iter().any(|call| !call.is_finished()) {
        assert_eq!(other.status().await.healthz, "ok");
        meanwhile += 1;
    }
    for call in calls {
        assert!(call.await.unwrap());
    }
    assert!(meanwhile > 0);
}

#[tokio::test]
async fn r23_each_call_is_logged_with_its_uid() {
    let folder = Folder::with_keyring();
    let plugin = Plugin::start_with(&folder, &["--log-level", "debug"]).await;
    let mut client = plugin.client().await;
    let mut stored = client.encrypt(&SEED).await.unwrap();
    client.decrypt(&stored).await.unwrap();
    stored.ciphertext[20] ^= 1;
    client.decrypt(&stored).await.unwrap_err();
    let log = plugin.log();
    for (call, uid) in [
        ("Encrypt", "4f1b2c"),
        ("Decrypt", "4f1b2d"),
        ("Decrypt refused", "4f1b2d"),
    ] {
        let line = log
            .lines()
            .find(|line| line.contains(&format!("{call} uid=")));
        assert!(line.is_some_and(|line| line.contains(uid)), "{call}: {log}");
    }
}

#[tokio::test]
async fn l01_a_keyring_that_must_not_write_names_no_key() {
    let folder = Folder::with_keyring();
    let backup = read(&folder.keyring());
    let plugin = Plugin::start(&folder).await;
    rotate(&folder, &plugin).await;
    let newer = plugin.client().await.encrypt(&SEED).await.unwrap();
    // An unchanged key_id would let kube-apiserver write on, whatever healthz says.
    crate::folder::write(&folder.keyring(), &backup);
    until("the older keyring is served", async || {
        plugin.client().await.status().await.key_id != newer.key_id
    })
    .await;
    let mut client = plugin.client().await;
    client.decrypt(&newer).await.unwrap_err();
    let status = client.status().await;
    assert_eq!(status.key_id, "");
    assert_ne!(status.healthz, "ok");
}

#[tokio::test]
async fn l02_the_end_of_one_connection_does_not_disturb_the_other() {
    let folder = Folder::with_keyring();
    let plugin = Plugin::start(&folder).await;
    let mut stays = plugin.client().await;
    let stored = stays.encrypt(&SEED).await.unwrap();
    for _ in 0..20 {
        let mut goes = plugin.client().await;
        assert_eq!(goes.decrypt(&stored).await.unwrap(), SEED);
        drop(goes);
        // Rude ones, too.
        let mut rude = UnixStream::connect(folder.socket()).unwrap();
        rude.write_all(&[GREETING, &[0xff; 40]].concat()).unwrap();
        assert_eq!(stays.decrypt(&stored).await.unwrap(), SEED);
    }
}
