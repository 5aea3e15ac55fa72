//! The `api` engine of `atrest reencrypt` and `rotate`: past what nobody can read, through several
//! servers, through servers that have enough to do, and on from where a killed run was.

use std::collections::BTreeSet;
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use atrest_tests::atrest::{self, Ended};
use atrest_tests::processes::{ControlPlane, Options};
use atrest_tests::secrets::Population;
use atrest_tests::stored_values;
use serde_json::Value;

use crate::rotate::{key_names, rotate};

/// Two pages and a bit.
const PAGES: Population = Population {
    secrets: 1_200,
    namespaces: 4,
    smallest: 64,
    largest: 128,
};

/// Keys of two names; the first one of them writes.
pub(crate) fn configuration(names: [&str; 2]) -> String {
    let key = |name: &str| {
        let letter = name.bytes().next().unwrap();
        let secret = data_encoding::BASE64.encode(&[letter; 32]);
        format!("      - {{name: {name}, secret: {secret}}}\n")
    };
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n\
         - resources: [secrets]\n  providers:\n  - secretbox:\n      keys:\n{}{}",
        key(names[0]),
        key(names[1])
    )
}

/// A control plane with one server or more, whose Secrets are all under the old key and which
/// writes with the new one.
pub(crate) async fn to_be_rewritten(
    options: Options,
) -> (ControlPlane, atrest_tests::secrets::Stored) {
    let plane = ControlPlane::start(Options {
        encryption_config: configuration(["old", "new"]),
        ..options
    });
    let stored = PAGES.store(&plane.client(0).await, "many").await.unwrap();
    for server in 0..plane.servers.len() {
        plane.load(server, configuration(["new", "old"]).as_bytes());
    }
    (plane, stored)
}

fn reencrypt(plane: &ControlPlane, more: &[String]) -> Ended {
    let kubeconfig = plane.servers[0].kubeconfig.display().to_string();
    let mut arguments = vec!["reencrypt".to_owned(), "--output=json".into()];
    arguments.extend(["--gentle=false".into(), "--kubeconfig".into(), kubeconfig]);
    arguments.extend(more.iter().cloned());
    atrest::run(arguments)
}

/// What atrest asked of an API server, by the audit log.
fn requests(plane: &ControlPlane, server: usize, verb: &str) -> usize {
    let log = fs::read_to_string(plane.audit_log(server)).unwrap();
    let events = log.lines().map(|line| serde_json::from_str(line).unwrap());
    let of_ours = |event: &Value| {
        event["verb"] == verb
            && event["stage"] == "ResponseComplete"
            && event["objectRef"]["resource"] == "secrets"
            && !event["userAgent"]
                .as_str()
                .unwrap_or_default()
                .contains("kube")
    };
    events.filter(of_ours).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_read_is_walked_past_and_named() {
    let (plane, stored) = to_be_rewritten(Options::default()).await;
    let keys: Vec<String> = stored_values::secrets(&plane).into_keys().collect();
    // The first of a page and the last, two side by side, and the last of all.
    let poison: BTreeSet<_> = [0, 499, 700, 701, keys.len() - 1]
        .map(|i| keys[i].clone())
        .into();
    for key in &poison {
        let put = plane
            .etcdctl()
            .args(["put", key, "k8s:enc:secretbox:v1:old:0123456789abcdef"])
            .output();
        assert!(put.unwrap().status.success());
    }

    let lists = requests(&plane, 0, "list");
    let by_list = reencrypt(&plane, &[]).expect(4).json();
    let lists = requests(&plane, 0, "list") - lists;
    let named = |report: &Value| -> BTreeSet<String> {
        let set_aside = report["set_aside"].as_array().unwrap().iter();
        let key = |object: &Value| {
            let part = |name: &str| object[name].as_str().unwrap().to_owned();
            assert!(part("reason").contains("cannot be decrypted"), "{object}");
            format!("/registry/secrets/{}/{}", part("namespace"), part("name"))
        };
        set_aside.map(key).collect()
    };
    assert_eq!(named(&by_list), poison);
    assert_eq!(by_list["objects"]["total"], keys.len());
    assert_eq!(by_list["objects"]["rewritten"], keys.len() - poison.len());
    assert!(
        lists <= keys.len() / 500 + 12 * poison.len(),
        "{lists} lists"
    );
    for (key, value) in stored_values::secrets(&plane) {
        let is_new = value.starts_with(b"k8s:enc:secretbox:v1:new:");
        assert_eq!(is_new, !poison.contains(&key), "{key}");
    }

    // etcd's keys are the same work without a list; what is current stays as it is.
    let lists = requests(&plane, 0, "list");
    let before = stored_values::secrets(&plane);
    let by_key = reencrypt(&plane, &plane.etcd_flags()).expect(4).json();
    assert_eq!(requests(&plane, 0, "list"), lists);
    assert_eq!(named(&by_key), poison);
    assert_eq!(by_key["objects"]["current"], keys.len() - poison.len());
    assert_eq!(by_key["objects"]["rewritten"], 0);
    assert!(stored_values::secrets(&plane) == before);
    assert!(keys.len() >= stored.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn three_servers_take_turns_and_each_may_have_enough_to_do() {
    let (plane, stored) = to_be_rewritten(Options {
        servers: 3,
        // Of 64 requests in flight most are refused: 429, and when to ask again.
        api_server: &[
            "--enable-priority-and-fairness=false",
            "--max-mutating-requests-inflight=4",
        ],
        ..Options::default()
    })
    .await;
    let servers = plane.servers.iter();
    let servers: Vec<_> = servers.map(|it| format!("--server={}", it.url)).collect();
    let report = reencrypt(&plane, &servers).expect(0).json();
    assert_eq!(report["objects"]["set_aside"], 0);
    assert_eq!(report["objects"]["rewritten"], report["objects"]["total"]);
    for server in 0..3 {
        let patches = requests(&plane, server, "patch");
        assert!(patches >= stored.len() / 4, "{patches} at server {server}");
    }
    stored_values::assert_prefix(&plane, stored.len(), "k8s:enc:secretbox:v1:new:");
    stored.assert_readable(&plane.client(1).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_rewrite_goes_on_at_the_object() {
    const RATE: usize = 150;

    let plane = ControlPlane::start(Options {
        reload_poll: Some(Duration::from_millis(300)),
        request_timeout: Duration::from_secs(2),
        ..Options::default()
    });
    let client = plane.client(0).await;
    let stored = PAGES.store(&client, "cursor").await.unwrap();
    let rate = RATE.to_string();
    let mut command = atrest::rotate(&plane, "run", &["--to", "secretbox", "--max-rate", &rate]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut running = command.spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while requests(&plane, 0, "patch") < stored.len() / 2 {
        assert!(
            Instant::now() < deadline,
            "the rewrite never was in its middle"
        );
    }
    running.kill().unwrap();
    running.wait().unwrap();
    let before = requests(&plane, 0, "patch");

    rotate(&plane, "resume", &["--gentle=false"]).expect(0);
    let after = requests(&plane, 0, "patch") - before;
    // The journal was a second behind, and as many were in flight as there may be.
    let again = (before + after).saturating_sub(stored.len());
    assert!(again <= 2 * RATE, "{again} were asked for twice");
    let keys = key_names(&plane.servers[0].encryption_config);
    let prefix = format!("k8s:enc:secretbox:v1:{}:", keys[0]);
    stored_values::assert_prefix(&plane, stored.len(), &prefix);
    stored.assert_readable(&client).await;
}
