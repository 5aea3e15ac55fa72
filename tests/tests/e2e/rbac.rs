//! The rights of `examples/rbac.yaml` are those that `reencrypt`, `rotate` and `verify --api` need.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use atrest_tests::atrest::{self, Ended};
use atrest_tests::processes::{ControlPlane, Options};
use atrest_tests::secrets::Population;
use atrest_tests::{schema, stored_values};
use serde_json::{Value, json};

const FEW: Population = Population {
    secrets: 20,
    namespaces: 2,
    smallest: 64,
    largest: 1024,
};

const ACCOUNT: &str = "system:serviceaccount:kube-system:atrest";

fn run(command: &mut Command) -> String {
    let ended = Ended::from(command.output().unwrap());
    ended.expect(0).stdout
}

/// A kubeconfig with a token of the account and nothing else.
fn kubeconfig(plane: &ControlPlane) -> PathBuf {
    let mut create = plane.kubectl(0);
    let token = run(create.args(["create", "token", "atrest", "--namespace=kube-system"]));
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {
            "server": plane.servers[0].url,
            "certificate-authority": plane.pki().join("ca.crt"),
        }}],
        "users": [{"name": "u", "user": {"token": token.trim()}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    });
    let path = plane.directory().join("account.conf");
    fs::write(&path, config.to_string()).unwrap();
    path
}

/// Applies rights to the account, and waits until the API server goes by them.
fn apply(plane: &ControlPlane, rights: &Path) {
    run(plane.kubectl(0).arg("apply").arg("--filename").arg(rights));
}

fn await_right(plane: &ControlPlane, verb: &str, what: &str, expected: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let output = plane
            .kubectl(0)
            .args(["auth", "can-i", verb, what, "--as", ACCOUNT])
            .args(["--namespace=kube-system"])
            .output()
            .unwrap();
        if String::from_utf8_lossy(&output.stdout).trim() == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{verb} {what} is not {expected}");
    }
}

/// The example without a verb on what names `what`.
fn without(verb: &str, what: &str) -> String {
    let rights = fs::read_to_string(example()).unwrap();
    let mut without = Vec::new();
    for document in rights.split("\n---\n") {
        let mut document: Value = serde_yaml::from_str(document).unwrap();
        let rules = document.get_mut("rules").and_then(Value::as_array_mut);
        for rule in rules.into_iter().flatten() {
            if rule.to_string().contains(what) {
                let verbs = rule["verbs"].as_array_mut().unwrap();
                verbs.retain(|there| there != verb);
            }
        }
        // A rule without verbs is none.
        if let Some(rules) = document.get_mut("rules").and_then(Value::as_array_mut) {
            rules.retain(|rule| rule["verbs"] != json!([]));
        }
        without.push(document.to_string());
    }
    without.join("\n---\n")
}

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/rbac.yaml")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_rights_are_enough_and_each_is_needed() {
    let plane = ControlPlane::start(Options::default());
    let stored = FEW.store(&plane.client(0).await, "rbac").await.unwrap();
    apply(&plane, &example());
    for (verb, what) in [
        ("list", "secrets"),
        ("get", "/metrics"),
        ("list", "leases.coordination.k8s.io"),
    ] {
        await_right(&plane, verb, what, "yes");
    }
    let kubeconfig = kubeconfig(&plane).display().to_string();
    let account = ["--kubeconfig", kubeconfig.as_str()];
    let json = ["--output", "json"];
    let rotate = |action: &str, more: &[&str]| -> Ended {
        let mut command = without_kubeconfig(&plane, action);
        command.args(account).args(json).args(more);
        command.output().unwrap().into()
    };
    let reencrypt = || atrest::run(["reencrypt"].iter().chain(&account).chain(&json));

    // Enough, for everything.
    let planned = rotate("plan", &["--to", "secretbox"]).expect(0).json();
    assert_eq!(schema::faults(&planned), [""; 0]);
    let rotated = rotate("run", &["--to", "secretbox"]).expect(0).json();
    assert_eq!(schema::faults(&rotated), [""; 0]);
    assert_eq!(rotated["state"], "done");
    stored_values::assert_prefix(&plane, stored.len(), "k8s:enc:secretbox:v1:");
    let touched = reencrypt().expect(0).json();
    assert_eq!(schema::faults(&touched), [""; 0]);
    assert_eq!(touched["objects"]["current"], stored.len());
    let status = rotate("status", &[]).expect(0).json();
    assert_eq!(schema::faults(&status), [""; 0]);
    let mut verify = vec!["verify".to_owned(), "--output".into(), "json".into()];
    verify.extend(plane.etcd_flags());
    assert_eq!(
        schema::faults(&atrest::run(&verify).expect(3).json()),
        [""; 0]
    );
    let config = plane.servers[0].encryption_config.display().to_string();
    let verify = ["verify", "--api", "--config", &config];
    let verify = || atrest::run(verify.iter().chain(&account).chain(&json));
    let proven = verify().expect(0).json();
    assert!(proven["cluster"]["uid"].is_string());
    assert_eq!(proven["resources"][0]["current"], stored.len());

    // Without any one of them the refusal names what is missing.
    let file = plane.directory().join("rights.yaml");
    for (verb, what, kind) in [
        ("list", "leases", "leases.coordination.k8s.io"),
        (
            "get",
            "atrest-rotation",
            "leases.coordination.k8s.io/atrest-rotation",
        ),
        ("get", "/metrics", "/metrics"),
        ("get", "namespaces", "namespaces/kube-system"),
        (
            "list",
            "webhookconfigurations",
            "mutatingwebhookconfigurations.admissionregistration.k8s.io",
        ),
        ("create", "secrets", "secrets"),
        ("patch", "secrets", "secrets"),
        ("list", "secrets", "secrets"),
        ("get", "secrets", "secrets"),
    ] {
        fs::write(&file, without(verb, what)).unwrap();
        apply(&plane, &file);
        await_right(&plane, verb, kind, "no");
        let ended = match verb {
            "patch" => reencrypt().expect(4),
            "list" if what == "secrets" => reencrypt().expect(3),
            "get" if what == "secrets" => verify().expect(3),
            _ => rotate("plan", &[]).expect(3),
        };
        let said = format!("{}{}", ended.stdout, ended.stderr);
        assert!(said.contains(&format!("cannot {verb}")), "{said}");
    }
}

/// `atrest rotate ACTION` for the first server, without the administrator's kubeconfig.
fn without_kubeconfig(plane: &ControlPlane, action: &str) -> Command {
    let rotate = atrest::rotate(plane, action, &[]);
    let mut arguments: Vec<_> = rotate.get_args().map(ToOwned::to_owned).collect();
    let flag = arguments.iter().position(|a| a == "--kubeconfig").unwrap();
    arguments.drain(flag..flag + 2);
    atrest::command(arguments)
}
