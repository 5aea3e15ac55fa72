//! The certificate of a rotation, held against etcd and its snapshots.

use std::fs;
use std::path::{Path, PathBuf};

use atrest_tests::atrest::{self, Ended};
use atrest_tests::processes::{ControlPlane, Options};
use atrest_tests::{schema, stored_values};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::at_rest::put;
use crate::history::{compact, snapshot};
use crate::rotate::{FEW, key_names, rotate};

const KUBE_SYSTEM: &str = "/registry/namespaces/kube-system";

/// Where a run that is done says that its certificate is.
fn path_of(done: &Ended) -> PathBuf {
    let mut lines = done.stdout.lines();
    let path = lines.find_map(|line| line.strip_prefix("certificate: "));
    path.unwrap_or_else(|| panic!("{done:?}")).into()
}

fn read(path: &Path) -> Value {
    let certificate = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    assert_eq!(schema::faults(&certificate), Vec::<String>::new());
    certificate
}

/// Holds it against a snapshot, or against the running etcd.
fn check(plane: &ControlPlane, certificate: &Path, snapshot: Option<&Path>) -> Ended {
    let mut arguments = vec!["verify".to_owned(), "--output=json".into()];
    arguments.extend(["--certificate".into(), certificate.display().to_string()]);
    match snapshot {
        Some(path) => arguments.extend(["--snapshot".into(), path.display().to_string()]),
        None => arguments.extend(plane.etcd_flags()),
    }
    let ended = atrest::run(arguments);
    if !ended.stdout.is_empty() {
        assert_eq!(schema::faults(&ended.json()), Vec::<String>::new());
    }
    ended
}

fn differences(ended: &Ended) -> String {
    ended.json()["differences"].to_string()
}

/// With another content, and the hash of that.
fn forged(plane: &ControlPlane, certificate: &Value, change: impl FnOnce(&mut Value)) -> PathBuf {
    let mut certificate = certificate.clone();
    change(&mut certificate);
    let fields = certificate.as_object_mut().unwrap();
    fields.remove("sha256");
    let digest = Sha256::digest(serde_json::to_vec(fields).unwrap());
    fields.insert(
        "sha256".into(),
        data_encoding::HEXLOWER.encode(&digest).into(),
    );
    let path = plane.directory().join("forged.json");
    fs::write(&path, serde_json::to_vec(&certificate).unwrap()).unwrap();
    path
}

fn create(plane: &ControlPlane, name: &str) {
    let mut kubectl = plane.kubectl(0);
    let create = ["create", "secret", "generic", "--from-literal=a=b", name];
    assert!(kubectl.args(create).output().unwrap().status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_holds_as_long_as_nothing_is_under_another_key() {
    let plane = ControlPlane::start(Options::default());
    let client = plane.client(0).await;
    let stored = FEW.store(&client, "certified").await.unwrap();
    rotate(&plane, "run", &["--to", "secretbox", "--hold", "1s"]).expect(4);
    let ended = loop {
        let resumed = rotate(&plane, "resume", &[]);
        if resumed.status == Some(0) {
            break resumed;
        }
        assert!(resumed.stderr.contains("holding"), "{resumed:?}");
    };
    let path = path_of(&ended);
    let certificate = read(&path);
    let key = key_names(&plane.servers[0].encryption_config).remove(0);

    // What it says is what is there.
    let counted = |when: &str| certificate[when]["resources"][0]["by_key"][0].clone();
    assert_eq!(counted("before")["provider"], "identity");
    assert_eq!(counted("before")["count"], stored.len());
    for when in ["verified", "done"] {
        assert_eq!(counted(when)["provider"], "secretbox", "{when}");
        assert_eq!(counted(when)["key"], key.as_str(), "{when}");
        assert_eq!(counted(when)["count"], stored.len(), "{when}");
    }
    let file = fs::read(&plane.servers[0].encryption_config).unwrap();
    let files = certificate["servers"][0]["files"].as_array().unwrap();
    let stages: Vec<_> = files
        .iter()
        .map(|it| it["stage"].as_str().unwrap())
        .collect();
    assert_eq!(stages, ["reads", "writes", "only"]);
    assert!(
        files
            .iter()
            .all(|it| it["loaded_at"].as_str() > it["written_at"].as_str())
    );
    let hash = |bytes: &[u8]| data_encoding::HEXLOWER.encode(&Sha256::digest(bytes));
    assert_eq!(files[2]["sha256"], hash(&file).as_str());
    let stops = certificate["stops"].to_string();
    assert!(stops.contains("holding"), "{stops}");
    let run = certificate["run"].as_str().unwrap();
    let journal = fs::read_to_string(path.with_file_name(format!("{run}.journal"))).unwrap();
    let last = journal.lines().last().unwrap();
    assert_eq!(
        certificate["journal"]["sha256"],
        last.split(' ').next().unwrap()
    );
    assert_eq!(certificate["journal"]["records"], journal.lines().count());
    let escrow = plane.directory().join(format!("state/escrow/key.{run}"));
    let escrow: Value = serde_json::from_slice(&fs::read(escrow).unwrap()).unwrap();
    assert_eq!(certificate["target"]["fingerprint"], escrow["fingerprint"]);
    let text = fs::read_to_string(path.with_file_name(format!("{run}.certificate.txt"))).unwrap();
    assert!(text.contains(&key) && text.contains("stopped at"), "{text}");
    for said in [text, certificate.to_string()] {
        assert!(!said.contains(escrow["secret"].as_str().unwrap()));
    }

    // One that was lost is written again, the same.
    let bytes = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    rotate(&plane, "resume", &[]).expect(0);
    assert_eq!(fs::read(&path).unwrap(), bytes);

    // Against etcd and a snapshot; and after writes and deletions, while there is history.
    let done = &certificate["done"]["revision"];
    let first = snapshot(&plane, "first.db");
    for source in [None, Some(&*first)] {
        let held = check(&plane, &path, source).expect(0).json();
        assert_eq!(
            (&held["recounted_at"], &held["verdict"]),
            (done, &"holds".into())
        );
    }
    create(&plane, "later");
    let gone = stored_values::secrets(&plane).into_keys().next().unwrap();
    assert!(
        plane
            .etcdctl()
            .args(["del", &gone])
            .output()
            .unwrap()
            .status
            .success()
    );
    let second = snapshot(&plane, "second.db");
    for source in [None, Some(&*second)] {
        let held = check(&plane, &path, source).expect(0).json();
        assert_eq!(&held["recounted_at"], done);
    }
    compact(&plane);
    let third = snapshot(&plane, "third.db");
    for source in [None, Some(&*third)] {
        let unknown = check(&plane, &path, source).expect(3).json();
        assert_eq!(unknown["recounted_at"], Value::Null);
    }

    // What does not hold.
    let wrong = forged(&plane, &certificate, |it| {
        it["done"]["resources"][0]["total"] = 1.into();
    });
    let differs = check(&plane, &wrong, Some(&second)).expect(1);
    assert!(
        differences(&differs).contains("and the certificate has 1"),
        "{differs:?}"
    );
    let wrong = forged(&plane, &certificate, |it| {
        it["cluster"]["uid"] = "another".into()
    });
    let differs = check(&plane, &wrong, Some(&first)).expect(1);
    assert!(
        differences(&differs).contains("the uid of kube-system is"),
        "{differs:?}"
    );
    let wrong = forged(&plane, &certificate, |it| {
        it["cluster"]["etcd_id"] = "1".into()
    });
    check(&plane, &wrong, Some(&first)).expect(0);
    assert!(differences(&check(&plane, &wrong, None).expect(1)).contains("the etcd cluster"));
    let wrong = forged(&plane, &certificate, |it| {
        it["target"]["key"] = "other".into()
    });
    let differs = differences(&check(&plane, &wrong, Some(&first)).expect(1));
    assert!(differs.contains(&format!(
        "{} secrets are under secretbox {key}",
        stored.len()
    )));

    // Something comes back under another key.
    put(
        &plane,
        "/registry/secrets/default/old",
        b"k8s:enc:aescbc:v1:old:and more",
    );
    let differs = differences(&check(&plane, &path, None).expect(1));
    assert!(
        differs.contains("1 secrets are under aescbc old"),
        "{differs}"
    );

    // Damage is no difference.
    let shown = fs::read_to_string(&path).unwrap();
    let damaged = plane.directory().join("damaged.json");
    for text in [
        &shown.replacen("secretbox", "aesgcm", 1),
        &shown[..shown.len() / 2],
        "",
        "{}",
    ] {
        fs::write(&damaged, text).unwrap();
        check(&plane, &damaged, Some(&first)).expect(2);
    }
    check(&plane, &plane.directory().join("none"), Some(&first)).expect(2);
    // The order of its fields and its layout are not.
    fs::write(&damaged, serde_json::to_vec(&certificate).unwrap()).unwrap();
    check(&plane, &damaged, Some(&first)).expect(0);
}

/// A snapshot from before the proof holds old keys, whatever its counts.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_on_in_its_own_cluster_alone() {
    let plane = ControlPlane::start(Options::default());
    FEW.store(&plane.client(0).await, "pinned").await.unwrap();
    let before = snapshot(&plane, "before.db");
    rotate(&plane, "run", &["--to", "aesgcm", "--hold", "1h"]).expect(4);

    // The same etcd, and the namespace of another cluster in it.
    let get = ["get", KUBE_SYSTEM, "--print-value-only"];
    let mut namespace = plane.etcdctl().args(get).output().unwrap().stdout;
    namespace.pop();
    let uid = [
        "get",
        "namespace",
        "kube-system",
        "--output=jsonpath={.metadata.uid}",
    ];
    let uid = plane.kubectl(0).args(uid).output().unwrap().stdout;
    let at = namespace
        .windows(uid.len())
        .position(|it| it == uid)
        .unwrap();
    let other = match namespace[at] {
        b'0' => b'1',
        _ => b'0',
    };
    let own = std::mem::replace(&mut namespace[at], other);
    put(&plane, KUBE_SYSTEM, &namespace);
    let refused = rotate(&plane, "resume", &[]).expect(4);
    assert!(
        refused.stderr.contains("kube-system has the uid"),
        "{refused:?}"
    );
    namespace[at] = own;
    put(&plane, KUBE_SYSTEM, &namespace);

    let done = rotate(&plane, "rollback", &[]);
    assert!(done.expect(2).stderr.contains("in plaintext"));
    rotate(&plane, "run", &[]).expect(2);
    let held = rotate(&plane, "resume", &[]).expect(4);
    assert!(held.stderr.contains("holding"), "{held:?}");

    let plane = ControlPlane::start(Options::default());
    FEW.store(&plane.client(0).await, "early").await.unwrap();
    let done = rotate(&plane, "run", &["--to", "aesgcm"]).expect(0);
    let differs = check(&plane, &path_of(&done), Some(&before)).expect(1);
    let differs = differences(&differs);
    assert!(differs.contains("nothing was proven before"), "{differs}");
    assert!(differs.contains("secrets are under identity"), "{differs}");
}
