//! Our own kit, read without Go. (`tests/tests/differential/kit.rs` made it, and asks upstream whether
//! it still says the same.)

use atrest_core::at_rest::{Object, Trust, manifest};
use serde_json::Value;

use crate::case::{self, Expect, cases, fields_and_bytes, kit};

#[test]
fn the_kit_reads_as_it_says() {
    let cases = cases();
    let mut failing = 0;
    for case in &cases {
        let name = &case.name;
        let read = case.read(Trust::Upstream);
        let seen = match &read {
            Ok(plaintext) => match plaintext.stale.unwrap() {
                false => Expect::Opens,
                true => Expect::Stale,
            },
            Err(error) => Expect::Fails(error.to_string()),
        };
        assert_eq!(seen, case.expect, "{name}: {}", case.what);
        match &read {
            Ok(plaintext) => {
                let digest = case::digest(plaintext.bytes.expose());
                assert_eq!(digest, case.plaintext, "{name}");
            }
            Err(_) => {
                assert!(
                    case.plaintext.is_empty() && !case.upstream.is_empty(),
                    "{name}"
                );
                failing += 1;
            }
        }
        // Where only objects are believed, nothing else that is read changes.
        let doubting = case.read(Trust::Objects);
        match read {
            Ok(plaintext) if doubting.is_err() => {
                assert!(Object::parse(plaintext.bytes.expose()).is_err(), "{name}");
            }
            Ok(plaintext) => assert_eq!(doubting, Ok(plaintext), "{name}"),
            Err(_) => assert!(doubting.is_err(), "{name}"),
        }
    }
    assert!(cases.len() >= 150 && failing * 2 > cases.len());
}

#[test]
fn the_kits_objects_read_as_they_say() {
    let objects = case::files(&kit().join("objects"));
    let mut failing = 0;
    for path in &objects {
        let (fields, stored) = fields_and_bytes(path);
        let read = manifest(&stored);
        let name = case::name(path);
        match fields["expect"].split_once(": ") {
            Some(("fails", reason)) => {
                failing += 1;
                assert_eq!(read.unwrap_err().to_string(), reason, "{name}");
            }
            _ => {
                assert_eq!(fields["expect"], "opens");
                let expected: Value = serde_json::from_str(&fields["manifest"]).unwrap();
                let object = Object::parse(&stored).unwrap();
                let said = |field: &str| expected["metadata"][field].as_str().unwrap_or_default();
                assert_eq!(object.name, said("name"), "{name}");
                assert_eq!(object.namespace, said("namespace"), "{name}");
                assert_eq!(object.uid, said("uid"), "{name}");
                assert_eq!(read.unwrap(), expected, "{name}");
            }
        }
    }
    assert!(failing * 2 > objects.len() && objects.len() > failing + 3);
}
