//! What a plan finds out before anything is changed.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use atrest_tests::atrest;
use atrest_tests::processes::{ControlPlane, Options};
use atrest_tests::programs::Programs;
use atrest_tests::{schema, stored_values};

use crate::at_rest::put;
use crate::rotate::{FEW, rotate};

const ORPHAN: &str = "/registry/secrets/gone/orphan";

/// A Secret of the namespace, which is gone from etcd after that.
pub(crate) fn orphan(plane: &ControlPlane, namespace: &str) {
    for words in [
        format!("create namespace {namespace}"),
        format!("create secret generic orphan --namespace={namespace} --from-literal=a=b"),
    ] {
        let created = plane.kubectl(0).args(words.split(' ')).output().unwrap();
        assert!(created.status.success(), "{created:?}");
    }
    let key = format!("/registry/namespaces/{namespace}");
    let deleted = plane.etcdctl().args(["del", &key]).output().unwrap();
    assert!(deleted.status.success(), "{deleted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_is_named_by_the_plan_and_rewritten() {
    let plane = ControlPlane::start(Options::default());
    let client = plane.client(0).await;
    let stored = FEW.store(&client, "preflight").await.unwrap();
    orphan(&plane, "gone");

    let values = stored_values::secrets(&plane);
    let bytes = values.iter().map(|(key, value)| key.len() + value.len());
    let bytes: usize = bytes.sum();
    let plan = rotate(&plane, "plan", &["--to", "secretbox", "--output", "json"]).expect(0);
    let plan = plan.json();
    assert_eq!(schema::faults(&plan), [""; 0]);
    assert_eq!(plan["resources"][0]["orphaned"], 1);
    assert_eq!(plan["resources"][0]["bytes"], bytes);
    assert_eq!(plan["orphans"], serde_json::json!([ORPHAN]));
    assert_eq!(plan["database"]["growth_bytes"], bytes);
    assert!(plan["database"]["quota_bytes"].as_u64() > plan["database"]["file_bytes"].as_u64());
    let plan = rotate(&plane, "plan", &["--to", "secretbox"]).expect(0);
    assert!(plan.stdout.contains(ORPHAN), "{}", plan.stdout);
    assert_eq!(stored_values::secrets(&plane), values);

    rotate(&plane, "run", &["--to", "secretbox"]).expect(0);
    stored_values::assert_prefix(&plane, stored.len() + 1, "k8s:enc:secretbox:v1:");
    stored.assert_readable(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_etcd_may_not_take_once_they_are_encrypted_are_named() {
    let plane = ControlPlane::start(Options {
        etcd: &["--max-request-bytes=4000000"],
        ..Options::default()
    });
    FEW.store(&plane.client(0).await, "large").await.unwrap();
    let values = stored_values::secrets(&plane);
    let mut both = values.iter();
    let ((small, small_value), (large, large_value)) = (both.next().unwrap(), both.next().unwrap());
    // A field that nobody knows, as protobuf has it: its number, its length in two digits and more.
    let grown = |value: &[u8], to: usize| {
        let mut grown = value.to_vec();
        let mut length = to - value.len() - 4;
        grown.push(0x7a);
        for _ in 0..2 {
            grown.push(0x80 | (length & 0x7f) as u8);
            length >>= 7;
        }
        grown.push(length as u8);
        grown.resize(to, b'x');
        grown
    };
    put(&plane, small, &grown(small_value, 1_400_000));
    put(&plane, large, &grown(large_value, 1_572_000));
    let json = ["--to", "secretbox", "--output", "json"];
    let plan = rotate(&plane, "plan", &json).expect(0).json();
    assert_eq!(plan["large"], serde_json::json!([large]));
    let plan = rotate(&plane, "plan", &["--to", "secretbox"]).expect(0);
    assert!(plan.stdout.contains(large), "{}", plan.stdout);
}

#[test]
fn nothing_begins_while_etcd_takes_no_writes() {
    let plane = ControlPlane::start(Options {
        etcd: &["--quota-backend-bytes=33554432"],
        ..Options::default()
    });
    let mebibyte = plane.directory().join("mebibyte");
    fs::write(&mebibyte, vec![b'x'; 1 << 20]).unwrap();
    let has_room = |i: &i32| {
        let mut put = plane.etcdctl();
        put.args(["put", &format!("/filler/{i}")]);
        put.stdin(File::open(&mebibyte).unwrap());
        put.output().unwrap().status.success()
    };
    assert!((0..64).take_while(has_room).count() < 64);

    for action in ["plan", "run"] {
        let refused = rotate(&plane, action, &["--to", "secretbox"]).expect(2);
        assert!(refused.stderr.contains("NOSPACE"), "{}", refused.stderr);
        assert!(refused.stderr.contains("hint: "), "{}", refused.stderr);
    }
    assert!(!plane.directory().join("state/escrow").exists());
}

/// A client certificate for etcd that ends so much later than now, of the control plane's own CA.
fn client_certificate(plane: &ControlPlane, valid_for: &str) -> PathBuf {
    let pki = plane.directory().join(format!("pki-{valid_for}"));
    fs::create_dir_all(pki.join("etcd")).unwrap();
    for file in ["etcd/ca.crt", "etcd/ca.key"] {
        fs::copy(plane.pki().join(file), pki.join(file)).unwrap();
    }
    let config = fs::read_to_string(plane.directory().join("kubeadm.yaml")).unwrap();
    let of = plane.pki().display().to_string();
    let config = config.replace(&of, &pki.display().to_string());
    let config = format!("{config}certificateValidityPeriod: {valid_for}\n");
    let path = pki.join("kubeadm.yaml");
    fs::write(&path, config).unwrap();
    let mut command = Command::new(Programs::required().path("kubeadm"));
    command.args([
        "init",
        "phase",
        "certs",
        "apiserver-etcd-client",
        "--config",
    ]);
    let made = command.arg(&path).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    pki.join("apiserver-etcd-client")
}

#[test]
fn a_client_certificate_that_ends_soon_is_named_and_one_that_has_ended_is_refused_at_once() {
    let plane = ControlPlane::start(Options::default());
    let plan = |certificate: &PathBuf, action: &str| {
        let [crt, key] = ["crt", "key"].map(|it| certificate.with_extension(it));
        let (crt, key) = (crt.to_str().unwrap(), key.to_str().unwrap());
        let flags = ["--to", "secretbox", "--etcd-cert", crt, "--etcd-key", key];
        rotate_once(&plane, action, &flags)
    };
    let usual = plane.pki().join("apiserver-etcd-client");
    let said = plan(&usual, "plan").expect(0).stdout;
    assert!(!said.contains("expires at"), "{said}");
    let soon = client_certificate(&plane, "1h");
    let said = plan(&soon, "plan").expect(0).stdout;
    assert!(
        said.contains("apiserver-etcd-client.crt expires at"),
        "{said}"
    );

    let ends = client_certificate(&plane, "3s");
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let ended = plan(&ends, "plan");
        if ended
            .stderr
            .contains("apiserver-etcd-client.crt expired at")
        {
            assert_eq!(ended.status, Some(2), "{}", ended.stderr);
            assert!(ended.stderr.contains("hint: "), "{}", ended.stderr);
            break;
        }
        assert!(Instant::now() < deadline, "{}", ended.stderr);
    }
}

/// Without the etcd certificate of the harness.
fn rotate_once(plane: &ControlPlane, action: &str, more: &[&str]) -> atrest::Ended {
    let command = atrest::rotate(plane, action, &[]);
    let mut arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    for flag in ["--etcd-cert", "--etcd-key"] {
        let at = arguments.iter().position(|it| it == flag).unwrap();
        arguments.drain(at..at + 2);
    }
    arguments.extend(more.iter().map(Into::into));
    atrest::run(arguments)
}

/// A webhook of a Service that nobody is behind, and one of a URL; neither is asked about this Secret.
const WEBHOOKS: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: policy}
webhooks:
- name: dead.example.com
  admissionReviewVersions: [v1]
  sideEffects: None
  clientConfig: {service: {namespace: policy, name: nobody}}
  namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: elsewhere}}
  rules: [{apiGroups: ['*'], apiVersions: [v1], resources: ['*'], operations: [UPDATE]}]
- name: pods.example.com
  admissionReviewVersions: [v1]
  sideEffects: None
  clientConfig: {service: {namespace: policy, name: nobody}}
  rules: [{apiGroups: ['*'], apiVersions: [v1], resources: [pods], operations: [UPDATE]}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: labels}
webhooks:
- name: unasked.example.com
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Ignore
  clientConfig: {url: 'https://127.0.0.1:1/'}
  objectSelector: {matchLabels: {asked: for}}
  rules: [{apiGroups: [''], apiVersions: [v1], resources: [secrets], operations: ['*']}]
";

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_that_a_rewrite_goes_through_are_named_and_dead_ones_warned_of() {
    let plane = ControlPlane::start(Options::default());
    FEW.store(&plane.client(0).await, "webhooks").await.unwrap();
    let manifest = plane.directory().join("webhooks.yaml");
    fs::write(&manifest, WEBHOOKS).unwrap();
    let mut create = plane.kubectl(0);
    let created = create.args(["create", "-f"]).arg(&manifest).output();
    assert!(created.unwrap().status.success());

    let json = ["--to", "secretbox", "--output", "json"];
    let plan = rotate(&plane, "plan", &json).expect(0).json();
    assert_eq!(schema::faults(&plan), [""; 0]);
    let expected = serde_json::json!([
        {
            "configuration": "mutatingwebhookconfigurations/labels",
            "name": "unasked.example.com",
            "failure_policy": "Ignore",
            "is_narrowed": true,
            "service": null,
            "is_reachable": null,
        },
        {
            "configuration": "validatingwebhookconfigurations/policy",
            "name": "dead.example.com",
            "failure_policy": "Fail",
            "is_narrowed": true,
            "service": "policy/nobody",
            "is_reachable": false,
        },
    ]);
    assert_eq!(plan["webhooks"], expected);
    let plan = rotate(&plane, "plan", &["--to", "secretbox"]).expect(0);
    let told = "warning: the Service policy/nobody of the webhook dead.example.com has no endpoint";
    assert!(plan.stdout.contains(told), "{}", plan.stdout);
    let past = ["--to", "secretbox", "--engine", "etcd", "--output", "json"];
    let past = rotate(&plane, "plan", &past).expect(0).json();
    assert_eq!(past["webhooks"], serde_json::json!([]));
}
