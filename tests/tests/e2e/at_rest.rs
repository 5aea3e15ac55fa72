//! What `atrest verify` counts in a running etcd, in a snapshot and in the files of a killed member
//! is what is there, object by object.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use atrest_tests::atrest;
use atrest_tests::plugin::Plugin;
use atrest_tests::processes::{ControlPlane, Options};
use atrest_tests::secrets::Population;
use atrest_tests::stored_values;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

/// Each writes in its turn; all of them read all the time.
pub(crate) const WRITERS: [&str; 8] = [
    "identity",
    "aescbc/c1",
    "aescbc/c2",
    "aesgcm/g1",
    "aesgcm/g2",
    "secretbox/s1",
    "secretbox/s2",
    "kms",
];

/// Secrets that each of them writes.
const EACH: usize = 4;

/// A configuration whose first provider and key is `writer`.
pub(crate) fn configuration(writer: &str, socket: &Path) -> String {
    let (first, first_key) = writer.split_once('/').unwrap_or((writer, ""));
    let mut names = ["aescbc", "aesgcm", "secretbox", "kms", "identity"];
    names.sort_by_key(|name| *name != first);
    let mut text = String::from(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n\
         - resources: [secrets]\n  providers:\n",
    );
    for name in names {
        match name {
            "identity" => text += "  - identity: {}\n",
            "kms" => {
                text += &format!(
                    "  - kms: {{apiVersion: v2, name: plug, endpoint: 'unix://{}'}}\n",
                    socket.display()
                );
            }
            local => {
                let letter = &local[if local == "aescbc" { 3..4 } else { 0..1 }];
                let letter = if local == "aesgcm" { "g" } else { letter };
                let mut keys = [1_u8, 2].map(|n| (format!("{letter}{n}"), n));
                keys.sort_by_key(|(key, _)| key != first_key);
                text += &format!("  - {local}:\n      keys:\n");
                for (key, n) in keys {
                    let bytes = Sha256::digest(format!("{local} {n}"));
                    let secret = BASE64_STANDARD.encode(bytes);
                    text += &format!("      - {{name: {key}, secret: \"{secret}\"}}\n");
                }
            }
        }
    }
    text
}

fn feed(command: &mut Command, input: &[u8]) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    assert!(child.wait().unwrap().success());
}

fn create(plane: &ControlPlane, name: &str) {
    let items = (0..EACH).map(|i| {
        serde_json::json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": format!("{name}-{i}"), "namespace": "default"},
            "stringData": {"password": format!("{name} {i}")},
        })
    });
    let list = serde_json::json!({
        "apiVersion": "v1", "kind": "List", "items": items.collect::<Vec<_>>(),
    });
    feed(
        plane.kubectl(0).args(["create", "-f", "-"]),
        list.to_string().as_bytes(),
    );
}

pub(crate) fn put(plane: &ControlPlane, key: &str, value: &[u8]) {
    feed(plane.etcdctl().args(["put", key]), value);
}

/// Every key that is not current, and how it stands.
fn truth(values: &BTreeMap<String, Vec<u8>>) -> BTreeMap<String, String> {
    let state = |key: &str, value: &[u8]| {
        if key.ends_with("/poison") {
            "undecryptable"
        } else if key.ends_with("/unknown") {
            "unknown_key"
        } else if value.starts_with(b"k8s\0") {
            "plaintext"
        } else if value.starts_with(b"k8s:enc:kms:v2:plug:") {
            "current"
        } else {
            "stale"
        }
    };
    values
        .iter()
        .map(|(key, value)| (key.clone(), state(key, value).to_owned()))
        .filter(|(_, state)| state != "current")
        .collect()
}

/// What a census says, in the same form, after its totals were compared with its list.
fn census(
    source: &[String],
    config: &Path,
    total: usize,
    cluster_uid: &str,
) -> BTreeMap<String, String> {
    let config = config.display().to_string();
    let arguments = [
        "verify",
        "--config",
        &config,
        "--decrypt",
        "--max-objects",
        "0",
        "--output",
        "json",
    ];
    let ended = atrest::run(
        arguments
            .iter()
            .map(|it| (*it).to_owned())
            .chain(source.iter().cloned()),
    )
    .expect(1);
    let report = ended.json();
    assert!(atrest_tests::schema::faults(&report).is_empty());
    assert_eq!(report["cluster"]["uid"], cluster_uid);
    let secrets = &report["resources"][0];
    assert_eq!(secrets["total"], total, "{}", ended.stderr);
    assert_eq!(secrets["orphaned"], 1);
    let mut listed = BTreeMap::new();
    for object in report["objects"].as_array().unwrap() {
        let is_orphan = object["key"] == "/registry/secrets/gone/orphan";
        assert_eq!(object["orphaned"], is_orphan, "{object}");
        let text = |field: &str| object[field].as_str().unwrap().to_owned();
        listed.insert(text("key"), text("state"));
    }
    for state in [
        "stale",
        "plaintext",
        "unknown_key",
        "undecryptable",
        "unread",
    ] {
        let count = listed.values().filter(|it| *it == state).count();
        assert_eq!(secrets[state], count, "{state}");
    }
    assert_eq!(secrets["current"], total - listed.len());
    listed
}

/// One object of each writer, from etcd, from the snapshot and as a value of its own.
fn decrypts(plane: &ControlPlane, values: &BTreeMap<String, Vec<u8>>, snapshot: &[String]) {
    let config = plane.servers[0].encryption_config.display().to_string();
    let decrypt = |more: &[&str], source: &[String]| {
        let first = ["decrypt", "--config", &config, "--output", "json"];
        let arguments = first.iter().chain(more).map(|it| (*it).to_owned());
        atrest::run(arguments.chain(source.iter().cloned()))
    };
    let password = |ended: atrest::Ended| {
        let manifest = ended.expect(0).json();
        BASE64_STANDARD
            .decode(manifest["data"]["password"].as_str().unwrap())
            .unwrap()
    };
    let value = plane.directory().join("value");
    let value_flag = value.to_str().unwrap();
    for writer in WRITERS {
        let name = writer.replace('/', "-");
        let expected = format!("{name} 0").into_bytes();
        let object = format!("secrets/default/{name}-0");
        assert_eq!(password(decrypt(&[&object], &plane.etcd_flags())), expected);
        assert_eq!(password(decrypt(&[&object], snapshot)), expected);
        let key = format!("/registry/{object}");
        fs::write(&value, &values[&key]).unwrap();
        let of_value = ["--value", value_flag, "--storage-key", &key];
        assert_eq!(password(decrypt(&of_value, &[])), expected);
        // Under another key.
        let moved = [
            "--value",
            value_flag,
            "--storage-key",
            "/registry/secrets/default/moved",
        ];
        let is_bound = writer.starts_with("aesgcm") || writer == "kms";
        let ended = decrypt(&moved, &[]).expect(if is_bound { 3 } else { 0 });
        assert_eq!(is_bound, ended.stderr.contains("--original-key"));
        let original = [&moved[..], &["--original-key", &key]].concat();
        assert_eq!(password(decrypt(&original, &[])), expected);
    }
    let absent = decrypt(&["secrets/default/absent"], snapshot).expect(2);
    assert!(
        absent
            .stderr
            .contains("there is no /registry/secrets/default/absent")
    );
    let poison = decrypt(&["secrets/default/poison"], &plane.etcd_flags()).expect(3);
    assert!(poison.stdout.is_empty() && poison.stderr.contains("cannot be decrypted"));
}

#[test]
fn live_snapshot_and_files_of_a_killed_member_agree_with_the_truth() {
    agree_with_the_truth(None);
}

/// Of the etcd that tests run with Kubernetes, or of an older release.
pub(crate) fn agree_with_the_truth(etcd_release: Option<&'static str>) {
    let plugin = Plugin::start();
    let mut plane = ControlPlane::start(Options {
        encryption_config: configuration(WRITERS[0], &plugin.socket()),
        etcd_release,
        // What is written at the end stays in the log.
        etcd: &["--backend-batch-interval=30s"],
        ..Options::default()
    });
    for writer in WRITERS {
        plane.load(0, configuration(writer, &plugin.socket()).as_bytes());
        create(&plane, &writer.replace('/', "-"));
    }
    let values = stored_values::secrets(&plane);
    let mut poison = values["/registry/secrets/default/aesgcm-g2-0"].clone();
    *poison.last_mut().unwrap() ^= 1;
    put(&plane, "/registry/secrets/default/poison", &poison);
    put(
        &plane,
        "/registry/secrets/gone/orphan",
        &values["/registry/secrets/default/secretbox-s1-0"],
    );
    put(
        &plane,
        "/registry/secrets/default/unknown",
        b"k8s:enc:aesgcm:v1:nobody:0123456789abcdef0123456789abcdef",
    );

    let config = plane.servers[0].encryption_config.clone();
    let values = stored_values::secrets(&plane);
    let total = values.len();
    assert_eq!(total, WRITERS.len() * EACH + 3);
    let expected = truth(&values);
    let uid = [
        "get",
        "namespace",
        "kube-system",
        "--output=jsonpath={.metadata.uid}",
    ];
    let uid = plane.kubectl(0).args(uid).output().unwrap().stdout;
    let uid = String::from_utf8(uid).unwrap();
    assert_eq!(census(&plane.etcd_flags(), &config, total, &uid), expected);

    let snapshot = plane.directory().join("snapshot.db");
    let saved = plane
        .etcdctl()
        .args(["snapshot", "save"])
        .arg(&snapshot)
        .output()
        .unwrap();
    assert!(saved.status.success());
    let flags = |flag: &str, path: &Path| [flag.to_owned(), path.display().to_string()];
    assert_eq!(
        census(&flags("--snapshot", &snapshot), &config, total, &uid),
        expected
    );

    decrypts(&plane, &values, &flags("--snapshot", &snapshot));

    // Changed, removed and new behind the last commit of the database.
    put(&plane, "/registry/secrets/default/aescbc-c1-0", b"k8s\0");
    plane
        .etcdctl()
        .args(["del", "/registry/secrets/default/aescbc-c1-1"])
        .output()
        .unwrap();
    create(&plane, "last");
    let values = stored_values::secrets(&plane);
    plane.etcd.kill();
    let total = values.len();
    let expected = truth(&values);
    let data = plane.directory().join("etcd");
    assert_eq!(
        census(&flags("--data-dir", &data), &config, total, &uid),
        expected
    );

    // The database alone lacks some of that, or the log was not needed.
    let mut database = fs::read(data.join("member/snap/db")).unwrap();
    database.extend(Sha256::digest(&database));
    let alone = plane.directory().join("alone.db");
    fs::write(&alone, database).unwrap();
    let arguments = [
        "verify",
        "--snapshot",
        alone.to_str().unwrap(),
        "--output",
        "json",
    ];
    let report = atrest::run(arguments).json();
    let in_database = report["resources"][0]["total"].as_u64().unwrap();
    assert!(in_database < total as u64, "{in_database} of {total}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_does_not_stream_is_read_page_by_page() {
    // Before etcd 3.7 there is no such request.
    for release in ["3.6", "3.7"] {
        let plane = ControlPlane::start(Options {
            etcd_release: Some(release),
            ..Options::default()
        });
        // More than fit on the first pages.
        let many = Population {
            secrets: 500,
            namespaces: 1,
            smallest: 64,
            largest: 1 << 10,
        };
        many.store(&plane.client(0).await, "many").await.unwrap();
        let expected: Vec<_> = stored_values::secrets(&plane).into_keys().collect();
        let flags = ["verify", "--output", "json", "--max-objects", "0"].map(str::to_owned);
        let report = atrest::run(flags.into_iter().chain(plane.etcd_flags()));
        let report = report.expect(1).json();
        let objects = report["objects"].as_array().unwrap().iter();
        let listed: Vec<_> = objects.map(|it| it["key"].as_str().unwrap()).collect();
        assert_eq!(listed, expected, "{release}");
        assert_eq!(expected.len(), many.secrets);
    }
}

#[test]
fn damaged_files_are_refused() {
    let plane = ControlPlane::start(Options::default());
    let snapshot = plane.directory().join("snapshot.db");
    let saved = plane
        .etcdctl()
        .args(["snapshot", "save"])
        .arg(&snapshot)
        .output();
    assert!(saved.unwrap().status.success());
    let whole = fs::read(&snapshot).unwrap();
    let refused = |name: &str, bytes: &[u8], reason: &str| {
        let path = plane.directory().join(name);
        fs::write(&path, bytes).unwrap();
        let ended = atrest::run([Path::new("verify"), Path::new("--snapshot"), &path]).expect(2);
        assert!(ended.stderr.contains(reason), "{name}: {}", ended.stderr);
        assert!(ended.stdout.is_empty(), "{name}");
    };
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    refused("flipped.db", &flipped, "its hash is another one");
    refused("cut.db", &whole[..whole.len() / 2], "carries no hash");
    refused("empty.db", b"", "carries no hash");
    refused("text.db", b"not a database at all", "carries no hash");
    let foreign = [&[7; 4096][..], &Sha256::digest([7; 4096])].concat();
    refused("foreign.db", &foreign, "no bbolt database");
    // Its own files, while it runs.
    let data = plane.directory().join("etcd");
    let ended = atrest::run([Path::new("verify"), Path::new("--data-dir"), &data]).expect(2);
    assert!(
        ended.stderr.contains("etcd has it open"),
        "{}",
        ended.stderr
    );
}
