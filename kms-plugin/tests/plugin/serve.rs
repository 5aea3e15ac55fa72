//! Status, Encrypt and Decrypt, and the keyring that changes under them.

use std::time::{Duration, Instant};

use atrest_core::keyring::MAX_PLAINTEXT;
use data_encoding::{BASE64, HEXLOWER};
use serde_json::Value;
use tonic::Code;

use crate::folder::{Folder, read, write};
use crate::plugin::{Plugin, SEED, until};

#[tokio::test]
async fn r06_status_and_encrypt_name_the_same_key_and_decrypt_takes_it() {
    let folder = Folder::with_keyring();
    let plugin = Plugin::start(&folder).await;
    let mut client = plugin.client().await;

    let status = client.status().await;
    assert_eq!(
        (status.version.as_str(), status.healthz.as_str()),
        ("v2", "ok")
    );
    assert_eq!(status.key_id, folder.key_id(1));

    let stored = client.encrypt(&SEED).await.unwrap();
    assert_eq!(stored.key_id, status.key_id);
    assert!(stored.annotations.is_empty());
    assert_eq!(stored.ciphertext.len(), 2 + 12 + 32 + 16);
    assert!(
        !stored
            .ciphertext
            .windows(8)
            .any(|part| SEED.windows(8).any(|seed| seed == part))
    );
    assert_eq!(client.decrypt(&stored).await.unwrap(), SEED);

    // A second connection, as after a reload of the API server.
    assert_eq!(plugin.client().await.decrypt(&stored).await.unwrap(), SEED);
}

#[tokio::test]
async fn r03_status_names_the_version_that_the_api_server_takes() {
    for (args, version) in [
        (&[][..], "v2"),
        (&["--status-version", "v2"], "v2"),
        (&["--status-version", "v2beta1"], "v2beta1"),
    ] {
        let folder = Folder::with_keyring();
        let plugin = Plugin::start_with(&folder, args).await;
        assert_eq!(plugin.client().await.status().await.version, version);
    }
}

#[tokio::test]
async fn a_restart_keeps_decrypting() {
    let folder = Folder::with_keyring();
    let plugin = Plugin::start(&folder).await;
    let stored = plugin.client().await.encrypt(&SEED).await.unwrap();
    plugin.terminate().await;
    let plugin = Plugin::start(&folder).await;
    assert_eq!(plugin.client().await.decrypt(&stored).await.unwrap(), SEED);
}

#[tokio::test]
async fn a_sealed_keyring_is_served() {
    let folder = Folder::new();
    let key = folder.path("key");
    write(&key, &[9; 32]);
    let option = ["--key-file", key.to_str().unwrap()];
    folder.ok(&[&["keyring", "init", "--seal", "key-file"], &option[..]].concat());
    let plugin = Plugin::start_with(&folder, &option).await;
    let mut client = plugin.client().await;
    let stored = client.encrypt(&SEED).await.unwrap();
    folder.ok(&[&["keyring", "add"], &option[..]].concat());
    folder.ok(&[&["keyring", "activate"], &option[..]].concat());
    until("the new key is served", async || {
        plugin.client().await.status().await.key_id != stored.key_id
    })
    .await;
    assert_eq!(client.decrypt(&stored).await.unwrap(), SEED);
}

#[tokio::test]
async fn r22_a_new_generation_is_served_within_two_seconds_and_the_old_one_still_decrypts() {
    let folder = Folder::with_keyring();
    let plugin = Plugin::start(&folder).await;
    let mut client = plugin.client().await;
    let old = client.encrypt(&SEED).await.unwrap();

    folder.ok(&["keyring", "add"]);
    assert_eq!(client.status().await.key_id, old.key_id);
    folder.ok(&["keyring", "activate"]);
    let activated = Instant::now();
    let new_id = folder.key_id(2);
    // Status and Encrypt change together, and nothing fails on the way.
    loop {
        let status = client.status().await.key_id;
        let stored = client.encrypt(&SEED).await.unwrap();
        assert_eq!(client.decrypt(&stored).await.unwrap(), SEED);
        assert_eq!(client.decrypt(&old).await.unwrap(), SEED);
        if status == new_id {
            assert_eq!(stored.key_id, new_id);
            break;
        }
        assert_eq!(status, old.key_id);
        // The file is looked at every second; a busy machine may take longer than that.
        assert!(activated.elapsed() < Duration::from_secs(10));
    }
}

#[tokio::test]
async fn r15_what_it_did_not_encrypt_is_refused() {
    let folder = Folder::with_keyring();
    let plugin = Plugin::start(&folder).await;
    let mut client = plugin.client().await;
    let good = client.encrypt(&SEED).await.unwrap();

    let mut unknown = good.clone();
    unknown.key_id = "arn:aws:kms:key/1".to_owned();
    let status = client.decrypt(&unknown).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains("arn:aws:kms:key/1"), "{status}");

    let mut tampered = good.clone();
    tampered.ciphertext[20] ^= 1;
    let mut cut = good.clone();
    cut.ciphertext.truncate(13);
    let mut empty = good.clone();
    empty.ciphertext.clear();
    let mut annotated = good.clone();
    annotated
        .annotations
        .insert("a.example".to_owned(), b"1".to_vec());
    let mut messages = Vec::new();
    for bad in [tampered, cut, empty, annotated] {
        let status = client.decrypt(&bad).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        messages.push(status.message().to_owned());
    }
    // Which of them it was is not told.
    messages.dedup();
    assert_eq!(messages.len(), 1);
    assert_eq!(client.decrypt(&good).await.unwrap(), SEED);
}

#[tokio::test]
async fn r07_sizes_are_bounded() {
    let folder = Folder::with_keyring();
    let plugin = Plugin::start(&folder).await;
    let mut client = plugin.client().await;

    let largest = vec![7; MAX_PLAINTEXT];
    let stored = client.encrypt(&largest).await.unwrap();
    assert_eq!(stored.ciphertext.len(), 1024);
    assert_eq!(client.decrypt(&stored).await.unwrap(), largest);

    let status = client.encrypt(&[7; MAX_PLAINTEXT + 1]).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let status = client.encrypt(&[7; 70_000]).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    assert_eq!(client.status().await.healthz, "ok");
}

#[tokio::test]
async fn r17_a_file_that_is_broken_or_missing_changes_nothing() {
    let folder = Folder::with_keyring();
    let plugin = Plugin::start(&folder).await;
    let mut client = plugin.client().await;
    let stored = client.encrypt(&SEED).await.unwrap();
    let good = read(&folder.keyring());

    write(&folder.keyring(), &good[..good.len() - 40]);
    until("the cut file is logged", async || {
        plugin.log().contains("it is cut off")
    })
    .await;
    assert_eq!(client.decrypt(&stored).await.unwrap(), SEED);
    assert_eq!(client.status().await.key_id, stored.key_id);

    std::fs::remove_file(folder.keyring()).unwrap();
    until("the missing file is logged", async || {
        plugin.log().contains("No such file")
    })
    .await;
    assert_eq!(client.decrypt(&stored).await.unwrap(), SEED);

    write(&folder.keyring(), &good);
    until("the file is back", async || {
        plugin.log().contains("again the one that is served")
    })
    .await;
    // Each was said once, however often it was looked at.
    assert_eq!(plugin.log().matches("it is cut off").count(), 1);
    assert_eq!(plugin.log().matches("No such file").count(), 1);
}

#[tokio::test]
async fn a_key_that_is_missing_is_named_and_works_again_once_it_is_back() {
    let folder = Folder::with_keyring();
    folder.ok(&["keyring", "add"]);
    let before = read(&folder.keyring());
    folder.ok(&["keyring", "activate"]);
    let plugin = Plugin::start(&folder).await;
    let mut client = plugin.client().await;
    let stored = client.encrypt(&SEED).await.unwrap();
    let after = read(&folder.keyring());

    let other = Folder::with_keyring();
    write(&folder.keyring(), &read(&other.keyring()));
    until("the other keyring is served", async || {
        plugin.client().await.status().await.key_id != stored.key_id
    })
    .await;
    let status = client.decrypt(&stored).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains(&stored.key_id), "{status}");
    assert!(plugin.log().contains("a key is gone"), "{}", plugin.log());

    write(&folder.keyring(), &after);
    until("the key is back", async || {
        plugin
            .client()
            .await
            .decrypt(&stored)
            .await
            .is_ok_and(|seed| seed == SEED)
    })
    .await;

    write(&folder.keyring(), &before);
    until("the roll-back is logged", async || {
        plugin.log().contains("older than the former")
    })
    .await;
}

/// Keys and seeds in every form in which they could show up.
fn forms(bytes: &[u8]) -> Vec<Vec<u8>> {
    let debug = format!("{bytes:?}");
    let debug = debug.trim_matches(['[', ']']);
    vec![
        bytes.to_vec(),
        bytes.iter().rev().copied().collect(),
        BASE64.encode(bytes)[..40].into(),
        HEXLOWER.encode(bytes).into(),
        HEXLOWER.encode(bytes).to_uppercase().into(),
        debug.into(),
    ]
}

#[tokio::test]
async fn r04_keys_and_seeds_are_in_no_output() {
    for format in ["text", "json"] {
        let folder = Folder::with_keyring();
        folder.ok(&["keyring", "add"]);
        let file: Value = serde_json::from_slice(&read(&folder.keyring())).unwrap();
        let mut secrets = forms(&SEED);
        for generation in file["generations"].as_array().unwrap() {
            let kek = BASE64
                .decode(generation["kek"].as_str().unwrap().as_bytes())
                .unwrap();
            secrets.extend(forms(&kek));
        }

        let plugin =
            Plugin::start_with(&folder, &["--log-level", "trace", "--log-format", format]).await;
        let mut client = plugin.client().await;
        let stored = client.encrypt(&SEED).await.unwrap();
        client.decrypt(&stored).await.unwrap();
        client.encrypt(&[&SEED[..]; 64].concat()).await.unwrap_err();
        let mut bad = stored.clone();
        bad.ciphertext[30] ^= 1;
        client.decrypt(&bad).await.unwrap_err();
        // A caller who puts the seed where names belong.
        bad.key_id = "?".repeat(200) + &HEXLOWER.encode(&SEED);
        client.decrypt(&bad).await.unwrap_err();

        let mut said = Vec::new();
        for args in [
            &["list"][..],
            &["activate"],
            &["activate", "--generation", "9"],
            &["add"],
        ] {
            let output = folder.run(&[&["keyring"], args].concat());
            said.extend([output.stdout, output.stderr].concat());
        }
        // A broken file with all the keys in it.
        let text = String::from_utf8(read(&folder.keyring())).unwrap();
        write(
            &folder.keyring(),
            text.replace("\"kek\"", "\"kak\"").as_bytes(),
        );
        until("the broken file is logged", async || {
            plugin.log().contains("not usable")
        })
        .await;
        let output = folder.run(&["keyring", "list"]);
        assert_eq!(output.status.code(), Some(2));
        said.extend([output.stdout, output.stderr].concat());

        let log = plugin.log();
        assert!(
            log.contains("Decrypt refused") && log.contains("Encrypt"),
            "{log}"
        );
        if format == "json" {
            for line in log.lines() {
                serde_json::from_str::<Value>(line).unwrap();
            }
        }
        plugin.terminate().await;
        said.extend(log.into_bytes());
        for secret in &secrets {
            assert!(
                !said.windows(secret.len()).any(|part| part == secret),
                "{format}"
            );
        }
    }
}
