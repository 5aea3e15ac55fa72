//! `atrest reencrypt` and `atrest verify` where the cluster is not all quiet.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use atrest_tests::atrest::{self, Ended};
use atrest_tests::processes::{ControlPlane, Options};
use atrest_tests::{schema, stored_values};

use crate::rotate::{FEW, key_names, rotate};

fn verify(plane: &ControlPlane) -> Ended {
    let mut arguments = vec!["verify".to_owned(), "--output".into(), "json".into()];
    arguments.extend(atrest::flags(plane, 0));
    arguments.push("--config".into());
    arguments.push(plane.servers[0].encryption_config.display().to_string());
    arguments.extend(["--max-objects".into(), "0".into()]);
    atrest::run(&arguments)
}

fn reencrypt(plane: &ControlPlane) -> Ended {
    let kubeconfig = plane.servers[0].kubeconfig.to_str().unwrap();
    atrest::run(["reencrypt", "--output", "json", "--kubeconfig", kubeconfig])
}

/// A webhook that nobody answers for, on updates of Secrets in one namespace.
fn apply_webhook(plane: &ControlPlane, namespace: &str) {
    let manifest = format!(
        "apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {{name: dead}}
webhooks:
- name: dead.example.com
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Fail
  timeoutSeconds: 1
  clientConfig: {{url: \"https://127.0.0.1:1/\"}}
  namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {namespace}}}}}
  rules: [{{apiGroups: [\"\"], apiVersions: [v1], resources: [secrets], operations: [UPDATE]}}]
"
    );
    let mut kubectl = plane.kubectl(0);
    let mut child = kubectl
        .args(["apply", "-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(manifest.as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success());
    // Admission learns of it by a watch: until then updates pass.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let labelled = plane
            .kubectl(0)
            .args([
                "label",
                "secret",
                "-n",
                namespace,
                "--all",
                "--overwrite",
                "--dry-run=server",
                "a=b",
            ])
            .output()
            .unwrap();
        if !labelled.status.success() {
            return;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "the webhook is not asked"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_webhook_covers_is_set_aside_and_keeps_the_old_key() {
    let plane = ControlPlane::start(Options::default());
    let client = plane.client(0).await;
    let stored = FEW.store(&client, "webhook").await.unwrap();
    let covered = stored.len() / FEW.namespaces;
    apply_webhook(&plane, "webhook-1");

    let stopped = rotate(&plane, "run", &["--to", "secretbox"]).expect(4);
    assert!(
        stopped
            .stderr
            .contains(&format!("{covered} values are not under the new key")),
        "{}",
        stopped.stderr
    );
    assert!(
        stopped.stderr.contains("dead.example.com"),
        "{}",
        stopped.stderr
    );
    assert!(
        stopped.stderr.contains("webhook-1/secret-"),
        "{}",
        stopped.stderr
    );
    // What reads the values that are left is still there.
    let config = fs::read_to_string(&plane.servers[0].encryption_config).unwrap();
    assert!(config.contains("identity"), "{config}");
    let report = verify(&plane).expect(1).json();
    assert_eq!(report["verdict"], "dirty");
    assert_eq!(report["resources"][0]["plaintext"], covered);
    assert_eq!(report["resources"][0]["current"], stored.len() - covered);

    let again = reencrypt(&plane).expect(4).json();
    assert_eq!(again["objects"]["set_aside"], covered);
    assert_eq!(again["objects"]["current"], stored.len() - covered);
    assert_eq!(schema::faults(&again), Vec::<String>::new());

    let deleted = plane
        .kubectl(0)
        .args(["delete", "validatingwebhookconfiguration", "dead"])
        .status();
    assert!(deleted.unwrap().success());
    rotate(&plane, "resume", &[]).expect(0);
    let keys = key_names(&plane.servers[0].encryption_config);
    assert_eq!(keys.len(), 1);
    stored_values::assert_prefix(
        &plane,
        stored.len(),
        &format!("k8s:enc:secretbox:v1:{}:", keys[0]),
    );
    stored.assert_readable(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_and_etcdctl_agree() {
    let plane = ControlPlane::start(Options::default());
    FEW.store(&plane.client(0).await, "agree").await.unwrap();
    let file = &plane.servers[0].encryption_config;
    let dirty = verify(&plane).expect(1).json();
    assert_eq!(schema::faults(&dirty), Vec::<String>::new());
    rotate(&plane, "run", &["--to", "aescbc"]).expect(0);
    let key = key_names(file).remove(0);
    // Some values that the configuration does not know, under names that etcd takes.
    let values = stored_values::secrets(&plane);
    let planted = [
        (
            "stale-name",
            "k8s:enc:aescbc:v1:another:0123456789abcdef",
            "unknown_key",
        ),
        ("plain", "k8s\\0plain", "plaintext"),
        ("torn", "k8s:enc:kms:v2:", "undecryptable"),
    ];
    for (name, value, _) in planted {
        let put = plane
            .etcdctl()
            .args(["put", &format!("/registry/secrets/agree-0/{name}"), value])
            .output();
        assert!(put.unwrap().status.success());
    }
    let report = verify(&plane).expect(1).json();
    assert_eq!(schema::faults(&report), Vec::<String>::new());
    let secrets = &report["resources"][0];
    assert_eq!(secrets["total"], values.len() + planted.len());
    assert_eq!(secrets["current"], values.len());
    for (name, _, state) in planted {
        assert_eq!(secrets[state], 1, "{report}");
        let listed = report["objects"].as_array().unwrap();
        let key = format!("/registry/secrets/agree-0/{name}");
        let object = listed
            .iter()
            .find(|object| object["key"] == key.as_str())
            .unwrap();
        assert_eq!(object["state"], state);
    }
    let by_key = secrets["by_key"].as_array().unwrap();
    let current = by_key
        .iter()
        .find(|group| group["state"] == "current")
        .unwrap();
    assert_eq!(
        (&current["provider"], &current["key"]),
        (&"aescbc".into(), &key.into())
    );
    assert_eq!(current["count"], values.len());
    assert!(!report.to_string().contains("0123456789abcdef"));
    // What nobody can read is named before anything is changed.
    let refused = rotate(&plane, "run", &[]).expect(3);
    assert!(
        refused.stderr.contains("/registry/secrets/agree-0/torn"),
        "{}",
        refused.stderr
    );
}
