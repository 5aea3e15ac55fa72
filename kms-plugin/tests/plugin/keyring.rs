//! `atrest-kms keyring`.

use std::os::unix::fs::{MetadataExt, symlink};

use serde_json::json;

use crate::folder::{Folder, read, stderr, write};

const INIT: [&str; 4] = ["keyring", "init", "--seal", "none"];

#[test]
fn generations_are_minted_activated_and_listed() {
    let folder = Folder::with_keyring();
    let first = folder.list();
    assert_eq!(first["schema"], "atrest/keyring-list/v1");
    assert_eq!(
        (&first["serial"], &first["seal"]),
        (&json!(1), &json!("none"))
    );
    assert_eq!(first["generations"][0]["stage"], "active");
    let id = first["id"].as_str().unwrap();
    assert!(folder.key_id(1).starts_with(&format!("atrest1-{id}-1-")));

    folder.ok(&["keyring", "add"]);
    folder.ok(&["keyring", "add"]);
    let stages = |folder: &Folder| -> Vec<(u64, String)> {
        let list = folder.list();
        let row = |row: &serde_json::Value| {
            (
                row["n"].as_u64().unwrap(),
                row["stage"].as_str().unwrap().to_owned(),
            )
        };
        list["generations"]
            .as_array()
            .unwrap()
            .iter()
            .map(row)
            .collect()
    };
    let named = |rows: [(u64, &str); 3]| rows.map(|(n, stage)| (n, stage.to_owned()));
    assert_eq!(
        stages(&folder),
        named([(1, "active"), (2, "readable"), (3, "readable")])
    );

    folder.ok(&["keyring", "activate", "--generation", "2"]);
    assert_eq!(
        stages(&folder),
        named([(1, "readable"), (2, "active"), (3, "readable")])
    );
    folder.ok(&["keyring", "activate"]);
    assert_eq!(
        stages(&folder),
        named([(1, "readable"), (2, "readable"), (3, "active")])
    );
    assert_eq!(folder.list()["serial"], 5);

    let before = read(&folder.keyring());
    folder.ok(&["keyring", "activate"]);
    assert_eq!(read(&folder.keyring()), before);

    let text = String::from_utf8(folder.ok(&["keyring", "list"]).stdout).unwrap();
    assert!(
        text.contains(&folder.key_id(3)) && text.contains("active"),
        "{text}"
    );
    assert_eq!(folder.entries(), ["keyring.json"]);
    assert_eq!(
        std::fs::metadata(folder.keyring()).unwrap().mode() & 0o7777,
        0o600
    );
}

#[test]
fn init_never_overwrites() {
    let folder = Folder::with_keyring();
    let before = read(&folder.keyring());
    let said = folder.fails(2, &INIT);
    assert!(said.contains("never overwritten"), "{said}");
    assert_eq!(read(&folder.keyring()), before);
}

#[test]
fn init_asks_for_the_seal_and_for_what_it_needs() {
    let folder = Folder::new();
    folder.fails(2, &["keyring", "init"]);
    let key = folder.path("key");
    write(&key, &[7; 32]);
    let key = key.to_str().unwrap();
    for args in [
        &["--seal", "key-file"][..],
        &["--seal", "credential"],
        &["--seal", "passphrase-file"],
        &["--seal", "passphrase-file", "--key-file", key],
        &["--seal", "none", "--key-file", key],
        &[
            "--seal",
            "key-file",
            "--key-file",
            key,
            "--passphrase-file",
            key,
        ],
        &["--seal", "key-file", "--key-file", "/nowhere"],
        &["--seal", "credential", "--credential", "name"],
        &["--seal", "credential", "--credential", "../name"],
    ] {
        folder.fails(2, &[&["keyring", "init"], args].concat());
    }
    assert_eq!(folder.entries(), ["key"]);
}

#[test]
fn an_unsealed_keyring_is_warned_about() {
    let folder = Folder::new();
    let said = stderr(&folder.ok(&INIT));
    assert!(
        said.contains("warning: ") && said.contains("unsealed"),
        "{said}"
    );
}

#[test]
fn each_seal_opens_with_its_secret_alone() {
    for (kind, good, other) in [
        ("key-file", [1; 32], [2; 32]),
        (
            "passphrase-file",
            *b"correct horse battery and staple",
            *b"correct horse battery and cable\n",
        ),
    ] {
        let folder = Folder::new();
        let (path, wrong) = (folder.path("secret"), folder.path("wrong"));
        write(&path, &good);
        write(&wrong, &other);
        let option = format!("--{kind}");
        folder.ok(&[
            "keyring",
            "init",
            "--seal",
            kind,
            &option,
            path.to_str().unwrap(),
        ]);
        folder.ok(&["keyring", "add", &option, path.to_str().unwrap()]);
        let before = read(&folder.keyring());

        let said = folder.fails(2, &["keyring", "list"]);
        assert!(said.contains(&option), "{said}");
        let said = folder.fails(2, &["keyring", "add", &option, wrong.to_str().unwrap()]);
        assert!(said.contains("seal does not open"), "{said}");
        folder.fails(2, &["keyring", "activate", &option, "/nowhere"]);
        write(&wrong, b"short");
        let said = folder.fails(2, &["keyring", "list", &option, wrong.to_str().unwrap()]);
        assert!(said.contains("fewer than"), "{said}");

        assert_eq!(read(&folder.keyring()), before);
        assert_eq!(folder.entries(), ["keyring.json", "secret", "wrong"]);
    }
}

#[test]
fn a_systemd_credential_seals() {
    let folder = Folder::new();
    let credentials = folder.path("credentials");
    std::fs::create_dir(&credentials).unwrap();
    write(&credentials.join("atrest-kms"), &[3; 48]);
    let args = ["--credential", "atrest-kms"];
    let mut init = folder.command(&["keyring", "init", "--seal", "credential"]);
    let output = init
        .args(args)
        .env("CREDENTIALS_DIRECTORY", &credentials)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let mut list = folder.command(&["keyring", "list"]);
    let output = list
        .args(args)
        .env("CREDENTIALS_DIRECTORY", &credentials)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn an_unsealed_file_in_the_place_of_a_sealed_one_is_refused() {
    let folder = Folder::with_keyring();
    let key = folder.path("key");
    write(&key, &[7; 32]);
    let said = folder.serve_fails(2, &["--key-file", key.to_str().unwrap()]);
    assert!(said.contains("exchanged"), "{said}");
}

#[test]
fn what_is_no_keyring_is_refused_and_left_alone() {
    let folder = Folder::with_keyring();
    let good = read(&folder.keyring());
    let truncated = &good[..good.len() / 2];
    let cases: [(&[u8], &str); 6] = [
        (truncated, "cut off"),
        (b"", "cut off"),
        (b"\x00\xff garbage", "not JSON"),
        (
            b"{\"kind\": \"EncryptionConfiguration\"}",
            "not an atrest/keyring/v1",
        ),
        (&[b' '; (1 << 20) + 1], "no keyring has"),
        (
            &String::from_utf8(good.clone())
                .unwrap()
                .replace("\"active\"", "\"readable\"")
                .into_bytes(),
            "none is active",
        ),
    ];
    for (bytes, expected) in cases {
        write(&folder.keyring(), bytes);
        for args in [
            &["keyring", "list"][..],
            &["keyring", "add"],
            &["keyring", "activate"],
        ] {
            let said = folder.fails(2, args);
            assert!(
                said.contains(expected) && said.contains("\nhint: "),
                "{said}"
            );
        }
        let said = folder.serve_fails(2, &[]);
        assert!(
            said.contains(expected) && said.contains("\nhint: "),
            "{said}"
        );
        assert_eq!(read(&folder.keyring()), bytes);
        assert_eq!(folder.entries(), ["keyring.json"]);
    }
    std::fs::remove_file(folder.keyring()).unwrap();
    let said = folder.fails(2, &["keyring", "add"]);
    assert!(said.contains("keyring init"), "{said}");
    assert!(folder.entries().is_empty());
}

#[test]
fn a_command_that_fails_leaves_nothing_behind() {
    let folder = Folder::with_keyring();
    let before = read(&folder.keyring());
    let said = folder.fails(2, &["keyring", "activate", "--generation", "7"]);
    assert!(said.contains("no generation 7"), "{said}");
    assert_eq!(read(&folder.keyring()), before);

    let target = folder.path("target.json");
    write(&target, &before);
    std::fs::remove_file(folder.keyring()).unwrap();
    symlink(&target, folder.keyring()).unwrap();
    let said = folder.fails(2, &["keyring", "add"]);
    assert!(said.contains("symbolic link"), "{said}");
    assert_eq!(read(&target), before);
    assert_eq!(folder.entries(), ["keyring.json", "target.json"]);
}
