use data_encoding::HEXLOWER;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::keyring::SealKind;

const KEY: [u8; 32] = [0x5a; 32];

fn text(value: &Value) -> SecretBytes {
    SecretBytes::new(serde_json::to_vec(value).unwrap())
}

fn secret() -> SecretBytes {
    SecretBytes::new(KEY.to_vec())
}

/// An unsealed keyring of two generations, and as JSON to be spoilt.
fn unsealed() -> (Keyring, Value) {
    let mut keyring = Keyring::mint(Timestamp::UNIX_EPOCH).unwrap();
    keyring.add(Timestamp::UNIX_EPOCH).unwrap();
    let seal = Seal::new(SealKind::None).unwrap();
    let text = keyring.to_file(&seal, &SealKey(None)).unwrap();
    let value = serde_json::from_slice(text.expose()).unwrap();
    (keyring, value)
}

fn sealed() -> (Keyring, Value) {
    let (keyring, _) = unsealed();
    let seal = Seal::new(SealKind::KeyFile).unwrap();
    let key = seal.key(Some((SealKind::KeyFile, &secret()))).unwrap();
    let text = keyring.to_file(&seal, &key).unwrap();
    let value = serde_json::from_slice(text.expose()).unwrap();
    (keyring, value)
}

fn open(text: &SecretBytes) -> Result<Keyring, Error> {
    let file = KeyringFile::parse(text)?;
    let secret = secret();
    let given = match file.seal().kind() {
        SealKind::None => None,
        kind => Some((kind, &secret)),
    };
    let key = file.seal().key(given)?;
    file.open(&key)
}

#[test]
fn a_keyring_comes_back_from_its_file() {
    for (keyring, value) in [unsealed(), sealed()] {
        assert_eq!(open(&text(&value)).unwrap(), keyring);
    }
}

#[test]
fn a_passphrase_seals_too() {
    let (keyring, _) = unsealed();
    let passphrase = SecretBytes::new(b"correct horse battery\n".to_vec());
    let seal = Seal::new(SealKind::PassphraseFile).unwrap();
    let key = seal
        .key(Some((SealKind::PassphraseFile, &passphrase)))
        .unwrap();
    let text = keyring.to_file(&seal, &key).unwrap();
    let file = KeyringFile::parse(&text).unwrap();
    let key = file
        .seal()
        .key(Some((SealKind::PassphraseFile, &passphrase)))
        .unwrap();
    assert_eq!(file.open(&key).unwrap(), keyring);
}

#[test]
fn a_tombstone_comes_back_without_a_key() {
    let (mut keyring, _) = unsealed();
    keyring.generations[1].stage = Stage::Retired;
    keyring.generations[1].backend = Backend::Local(None);
    keyring.generations[1].retired = Some(Timestamp::UNIX_EPOCH);
    keyring.generations[1].proof = Some("proof".to_owned());
    let text = keyring
        .to_file(&Seal::new(SealKind::None).unwrap(), &SealKey(None))
        .unwrap();
    assert_eq!(open(&text).unwrap(), keyring);
}

// Files written by this version must open in every later one.
#[test]
fn files_of_the_first_version_open() {
    for text in [
        include_str!("testdata/unsealed.json"),
        include_str!("testdata/key-file.json"),
        include_str!("testdata/credential.json"),
    ] {
        let keyring = open(&SecretBytes::new(text.into())).unwrap();
        assert_eq!(keyring.id().to_string(), "0a1b2c3d");
        assert_eq!((keyring.serial(), keyring.active().n()), (4, 2));
        let stages: Vec<_> = keyring
            .generations()
            .iter()
            .map(Generation::stage)
            .collect();
        assert_eq!(stages, [Stage::Readable, Stage::Active]);
        // Made by Go under the key 00..1f, which is generation 1 here.
        let ciphertext = "0101a0a1a2a3a4a5a6a7a8a9aaab9270155f31b22fcb150aa7b17e0ea5ad50c33f30f3973609ef7a\
                          06f51ace112007e0dc6c0b6806633bc339fa7043e6cd";
        let plaintext = keyring
            .find("atrest1-0a1b2c3d-1-fxflsx4kyhzylsd45pycnxtx3m")
            .unwrap()
            .decrypt([], &HEXLOWER.decode(ciphertext.as_bytes()).unwrap())
            .unwrap();
        assert_eq!(plaintext.expose(), b"thirty-two bytes of a test seed!");
    }
}

#[test]
fn no_key_is_readable_in_a_sealed_file() {
    let (keyring, value) = sealed();
    let text = value.to_string();
    for generation in keyring.generations() {
        let Backend::Local(Some(kek)) = generation.backend() else {
            panic!("both have keys");
        };
        assert!(!text.contains(&BASE64.encode(kek.expose())));
        assert!(!text.contains(generation.key_id().as_str()));
    }
}

#[test]
fn the_wrong_secret_does_not_open_it() {
    let (_, value) = sealed();
    let file = KeyringFile::parse(&text(&value)).unwrap();
    let other = SecretBytes::new(vec![0x5b; 32]);
    let key = file.seal().key(Some((SealKind::KeyFile, &other))).unwrap();
    assert!(matches!(file.open(&key), Err(Error::Unsealing)));
}

#[test]
fn every_changed_byte_of_a_sealed_file_is_refused() {
    let (_, value) = sealed();
    let good = text(&value).expose().to_vec();
    for at in 0..good.len() {
        for flip in [0x01, 0x20, 0x80] {
            let mut changed = good.clone();
            changed[at] ^= flip;
            assert!(
                open(&SecretBytes::new(changed)).is_err(),
                "byte {at} ^ {flip:#x}"
            );
        }
    }
}

#[test]
fn every_cut_is_refused() {
    for (_, value) in [unsealed(), sealed()] {
        let good = text(&value).expose().to_vec();
        for at in 0..good.len() {
            let result = open(&SecretBytes::new(good[..at].to_vec()));
            assert!(matches!(result, Err(Error::NotJson { .. })), "cut at {at}");
        }
    }
}

#[test]
fn parts_of_another_sealed_file_are_refused() {
    let (_, ours) = sealed();
    let (_, theirs) = sealed();
    for field in ["id", "seal", "sealed"] {
        let mut mixed = ours.clone();
        mixed[field] = theirs[field].clone();
        assert!(
            matches!(open(&text(&mixed)), Err(Error::Unsealing)),
            "{field}"
        );
    }
    let mut later = ours.clone();
    later["serial"] = json!(3);
    assert!(matches!(open(&text(&later)), Err(Error::Unsealing)));
    let mut renamed = ours;
    renamed["seal"]["kind"] = json!("credential");
    assert!(matches!(open(&text(&renamed)), Err(Error::Unsealing)));
}

type Spoil = fn(&mut Value);

#[test]
fn contradictions_are_refused_by_name() {
    let cases: &[(&str, Spoil)] = &[
        ("schema", |v| v["schema"] = json!("atrest/keyring/v2")),
        ("id", |v| v["id"] = json!("0A1B2C3D")),
        ("id", |v| v["id"] = json!("0a1b")),
        ("serial", |v| v["serial"] = json!(0)),
        ("generations", |v| v["sealed"] = json!("")),
        (
            "sealed",
            |v| v["seal"] = json!({"kind": "key-file", "kdf": "hkdf-sha256", "salt": "AAAAAAAAAAAAAAAAAAAAAA=="}),
        ),
        ("seal", |v| {
            v["seal"] = json!({"kind": "passphrase-file", "kdf": "argon2id", "memory_kib": 4294967295_u32, "passes": 3, "lanes": 4, "salt": "AAAAAAAAAAAAAAAAAAAAAA=="});
        }),
        ("seal", |v| {
            v["seal"] = json!({"kind": "passphrase-file", "kdf": "argon2id", "memory_kib": 1, "passes": 3, "lanes": 4, "salt": "AAAAAAAAAAAAAAAAAAAAAA=="});
        }),
        ("generations", |v| v["generations"] = json!([])),
        ("generations", |v| {
            v["generations"][1]["stage"] = json!("active")
        }),
        ("generations", |v| {
            v["generations"][0]["stage"] = json!("readable")
        }),
        ("generation 1", |v| {
            v["generations"].as_array_mut().unwrap().swap(0, 1)
        }),
        ("generation 2", |v| {
            let second = v["generations"][1].clone();
            v["generations"][1]["stage"] = json!("readable");
            v["generations"].as_array_mut().unwrap().push(second);
        }),
        ("generation 2", |v| {
            v["generations"][1]["backend"] = json!("pkcs11")
        }),
        ("generation 3", |v| v["generations"][1]["n"] = json!(3)),
        ("generation 2", |v| {
            v["generations"][1]["key_id"] = json!("key-2")
        }),
        ("generation 2", |v| {
            v["generations"][1]["key_id"] = v["generations"][0]["key_id"].clone()
        }),
        ("generation 2", |v| {
            v["generations"][1]["kek"] = v["generations"][0]["kek"].clone()
        }),
        ("generation 2", |v| {
            let id = v["generations"][1]["key_id"].as_str().unwrap();
            let id = format!("atrest1-00000000-{}", &id["atrest1-00000000-".len()..]);
            v["generations"][1]["key_id"] = json!(id);
        }),
        ("generation 2", |v| {
            v["generations"][1]["created"] = json!("yesterday")
        }),
        ("generation 2", |v| {
            v["generations"][1]["retired"] = json!("1970-01-01T00:00:00Z")
        }),
        ("generation 2", |v| {
            v["generations"][1]["proof"] = json!("proof")
        }),
        ("generation 2", |v| {
            v["generations"][1]["stage"] = json!("retired")
        }),
        ("generation 2", |v| {
            v["generations"][1].as_object_mut().unwrap().remove("kek");
        }),
        ("generation 2", |v| {
            v["generations"][1].as_object_mut().unwrap().remove("kek");
            v["generations"][1]["stage"] = json!("retired");
        }),
    ];
    for (number, (named, spoil)) in cases.iter().enumerate() {
        let (_, mut value) = unsealed();
        spoil(&mut value);
        let error = open(&text(&value)).unwrap_err();
        let Error::Invalid { what, .. } = &error else {
            panic!("case {number}: {error}");
        };
        assert_eq!(what, named, "case {number}: {error}");
    }
}

#[test]
fn other_forms_are_refused_by_place_and_never_quoted() {
    let planted = "hunter2hunter2";
    let cases: &[Spoil] = &[
        |v| *v = json!(["hunter2hunter2"]),
        |v| *v = json!({"hunter2hunter2": 1}),
        |v| v["hunter2hunter2"] = json!(1),
        |v| v["serial"] = json!("hunter2hunter2"),
        |v| v["serial"] = json!(-1),
        |v| v["serial"] = json!(1.5),
        |v| v["seal"] = json!("hunter2hunter2"),
        |v| v["seal"] = json!({"kind": "hunter2hunter2"}),
        |v| v["seal"] = json!({"kind": "none", "salt": "hunter2hunter2"}),
        |v| v["seal"] = json!({"kind": "key-file", "kdf": "hunter2hunter2", "salt": ""}),
        |v| v["seal"] = json!({"kind": "key-file", "kdf": "hkdf-sha256", "salt": "hunter2hunter2"}),
        |v| v["generations"][0]["hunter2hunter2"] = json!(1),
        |v| v["generations"][0]["stage"] = json!("hunter2hunter2"),
        |v| v["generations"][0]["kek"] = json!("hunter2hunter2"),
        |v| v["generations"][0]["kek"] = json!(["hunter2hunter2"]),
        |v| v["generations"][0]["n"] = json!("hunter2hunter2"),
        |v| {
            v["generations"][0].as_object_mut().unwrap().remove("n");
        },
        |v| {
            v.as_object_mut().unwrap().remove("schema");
        },
    ];
    for (number, spoil) in cases.iter().enumerate() {
        let (_, mut value) = unsealed();
        spoil(&mut value);
        let error = open(&text(&value)).unwrap_err();
        assert!(
            matches!(error, Error::NotAKeyring { .. }),
            "case {number}: {error}"
        );
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(planted), "case {number}: {shown}");
    }
}

#[test]
fn a_field_that_stands_twice_is_refused() {
    let (_, value) = unsealed();
    let text = value.to_string().replacen('{', "{\"serial\": 9, ", 1);
    let result = open(&SecretBytes::new(text.into_bytes()));
    assert!(matches!(result, Err(Error::NotAKeyring { .. })));
}

#[test]
fn a_key_with_escapes_is_refused_rather_than_copied() {
    let (_, value) = unsealed();
    let kek = value["generations"][0]["kek"].as_str().unwrap();
    let escaped = format!("\\u{:04x}{}", kek.as_bytes()[0], &kek[1..]);
    let text = value.to_string().replace(kek, &escaped);
    let result = open(&SecretBytes::new(text.into_bytes()));
    assert!(matches!(result, Err(Error::NotAKeyring { .. })));
}

#[test]
fn what_is_no_keyring_is_refused() {
    let too_large = vec![b' '; MAX_FILE_SIZE + 1];
    assert!(matches!(
        open(&SecretBytes::new(too_large)),
        Err(Error::TooLarge)
    ));
    let nested = vec![b'['; MAX_FILE_SIZE];
    assert!(open(&SecretBytes::new(nested)).is_err());
    for text in ["", "null", "{}", "\u{feff}{}", "kind: Keyring"] {
        assert!(open(&SecretBytes::new(text.into())).is_err(), "{text}");
    }
}

#[test]
fn the_largest_keyring_fits_its_file() {
    let (mut keyring, _) = unsealed();
    while keyring.generations.len() < MAX_GENERATIONS {
        keyring.add(Timestamp::UNIX_EPOCH).unwrap();
    }
    for kind in [SealKind::None, SealKind::KeyFile] {
        let secret = secret();
        let seal = Seal::new(kind).unwrap();
        let key = seal
            .key((kind != SealKind::None).then_some((kind, &secret)))
            .unwrap();
        let text = keyring.to_file(&seal, &key).unwrap();
        assert_eq!(open(&text).unwrap(), keyring);
    }
}

proptest! {
    #[test]
    fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        prop_assert!(open(&SecretBytes::new(bytes)).is_err());
    }

    #[test]
    fn an_unsealed_file_with_a_changed_byte_opens_to_the_same_or_not_at_all(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let (keyring, value) = unsealed();
        let mut changed = text(&value).expose().to_vec();
        let at = at.index(changed.len());
        changed[at] = byte;
        if let Ok(read) = open(&SecretBytes::new(changed)) {
            // Times, the serial and a pair of stages are not bound to anything in an unsealed file.
            let keys = |keyring: &Keyring| -> Vec<_> {
                keyring.generations().iter().map(|g| (g.key_id().clone(), g.backend().clone())).collect()
            };
            prop_assert_eq!(keys(&read), keys(&keyring));
        }
    }
}
