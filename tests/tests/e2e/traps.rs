//! Where others report success: `atrest verify` does not.

use std::process::{Command, Stdio};

use atrest_tests::atrest;
use atrest_tests::processes::{ControlPlane, Options};
use atrest_tests::secrets::Population;

const KEYS: &str = "apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers:
  - secretbox:
      keys:
";
const OLD: &str = "      - {name: old, secret: b25lb25lb25lb25lb25lb25lb25lb25lb25lb25lb24=}\n";
const NEW: &str = "      - {name: new, secret: dHdvdHdvdHdvdHdvdHdvdHdvdHdvdHdvdHdvdHdvdHc=}\n";

/// Of this many Secrets kubectl reads three pages.
const MANY: Population = Population {
    secrets: 1300,
    namespaces: 1,
    smallest: 64,
    largest: 65,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_replace_that_left_secrets_behind_is_found() {
    let plane = ControlPlane::start(Options {
        encryption_config: format!("{KEYS}{OLD}"),
        ..Options::default()
    });
    let client = plane.client(0).await;
    let stored = MANY.store(&client, "trap").await.unwrap();
    let put = |key: &str, value: &[u8]| {
        use std::io::Write;
        let mut etcdctl = plane.etcdctl();
        etcdctl
            .args(["put", key])
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        let mut child = etcdctl.spawn().unwrap();
        child.stdin.take().unwrap().write_all(value).unwrap();
        assert!(child.wait().unwrap().success());
    };
    // The last one by its name, so that it is on the third page.
    let poison = "/registry/secrets/trap-0/zz-poison";
    put(
        poison,
        b"k8s:enc:secretbox:v1:old:0123456789abcdef0123456789abcdef0123456789abcdef",
    );
    plane.load(0, format!("{KEYS}{NEW}{OLD}").as_bytes());

    // As the documentation has it.
    let mut get = plane.kubectl(0);
    get.args(["get", "secrets", "--all-namespaces", "-o", "json"]);
    let mut get = get
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut replace: Command = plane.kubectl(0);
    replace
        .args(["replace", "-f", "-"])
        .stdin(get.stdout.take().unwrap());
    let replaced = replace.output().unwrap();
    assert!(!get.wait().unwrap().success());
    assert!(replaced.status.success(), "the pipe reports success");
    let count = String::from_utf8_lossy(&replaced.stdout).lines().count();
    println!(
        "get | replace: exit status 0, {count} of {} replaced",
        stored.len()
    );
    assert!(count > 0 && count < stored.len());

    let config = plane.servers[0].encryption_config.display().to_string();
    let verify = |more: &[&str], status: i32| {
        let first = [
            "verify",
            "--config",
            &config,
            "--decrypt",
            "--output",
            "json",
        ];
        let arguments = first.iter().chain(more).map(|it| (*it).to_owned());
        atrest::run(arguments.chain(plane.etcd_flags()))
            .expect(status)
            .json()
    };
    let report = verify(&[], 1);
    assert_eq!(report["verdict"], "dirty");
    let secrets = &report["resources"][0];
    assert_eq!(secrets["current"], count);
    assert_eq!(secrets["stale"], stored.len() - count);
    assert_eq!(secrets["undecryptable"], 1);
    let objects = report["objects"].as_array().unwrap();
    let named = objects
        .iter()
        .find(|object| object["state"] == "undecryptable");
    assert_eq!(
        named.unwrap()["key"],
        poison,
        "it is named although 100 are listed"
    );
    // Without --decrypt its name is believed, and it is one of those that are stale.
    let believed = atrest::run(
        ["verify", "--config", &config]
            .iter()
            .map(|it| (*it).to_owned())
            .chain(plane.etcd_flags()),
    );
    believed.expect(1);

    // With etcd gone nothing is clean.
    let mut plane = plane;
    let flags = plane.etcd_flags();
    plane.etcd.kill();
    let arguments = ["verify", "--config", &config].map(str::to_owned);
    let unreached = atrest::run(arguments.into_iter().chain(flags)).expect(3);
    assert!(unreached.stdout.is_empty(), "{}", unreached.stdout);
}

#[test]
fn what_is_kept_in_another_etcd_is_not_called_clean() {
    let plane = ControlPlane::start(Options {
        encryption_config: format!("{KEYS}{NEW}").replace("[secrets]", "[secrets, configmaps]"),
        elsewhere: Some("/secrets"),
        ..Options::default()
    });
    let create = |words: &[&str]| {
        let created = plane.kubectl(0).args(words).output().unwrap();
        assert!(created.status.success());
    };
    create(&["create", "secret", "generic", "a", "--from-literal=a=b"]);
    create(&["create", "configmap", "a", "--from-literal=a=b"]);
    let config = plane.servers[0].encryption_config.display().to_string();
    let verify = |flags: Vec<String>, overrides: &str, status: i32| {
        let first = ["verify", "--config", &config, "--output", "json"];
        let first = first
            .into_iter()
            .chain(["--etcd-servers-overrides", overrides]);
        let report = atrest::run(first.map(str::to_owned).chain(flags))
            .expect(status)
            .json();
        assert!(atrest_tests::schema::faults(&report).is_empty());
        report
    };
    let main = verify(plane.etcd_flags(), "/secrets#https://127.0.0.1:1", 3);
    assert_eq!(main["verdict"], "unknown");
    let resource = |name: &str| {
        let resources = main["resources"].as_array().unwrap();
        resources.iter().find(|it| it["resource"] == name).unwrap()
    };
    assert_eq!(
        (
            &resource("secrets")["elsewhere"],
            &resource("secrets")["total"]
        ),
        (&true.into(), &0.into())
    );
    assert_eq!(resource("configmaps")["elsewhere"], false);
    assert_eq!(
        resource("configmaps")["current"],
        resource("configmaps")["total"]
    );
    // What the configuration does not cover may be wherever it likes.
    verify(plane.etcd_flags(), "/events#https://127.0.0.1:1", 0);

    let snapshot = plane.directory().join("main.db");
    let saved = plane
        .etcdctl()
        .args(["snapshot", "save"])
        .arg(&snapshot)
        .output();
    assert!(saved.unwrap().status.success());
    let of_file = vec!["--snapshot".to_owned(), snapshot.display().to_string()];
    let main = verify(of_file, "/secrets#https://127.0.0.1:1", 3);
    assert_eq!(main["verdict"], "unknown");
    let status = atrest::run(["verify", "--etcd-servers-overrides", "secrets"]);
    status.expect(2);
}
