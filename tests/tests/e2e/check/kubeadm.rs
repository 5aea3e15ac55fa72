//! Beside kubeadm's own view.

use std::collections::BTreeMap;

use atrest_tests::kubeadm::Node;
use atrest_tests::{atrest, schema};
use serde_json::Value;

use super::{check, findings};

#[test]
fn what_kubeadm_made_passes_and_names_every_certificate() {
    let node = Node::new();
    let ended = check(&node, &[]).expect(0);
    let report = ended.json();
    assert_eq!(schema::faults(&report), Vec::<String>::new());
    assert_eq!(report["verdict"], "pass");
    assert_eq!(report["findings"], Value::Array(Vec::new()));
    assert_eq!(report["unread"], Value::Array(Vec::new()));
    let inventory = report["inventory"].as_array().unwrap();
    assert_eq!(inventory.len(), 15, "{inventory:#?}");
    for entry in inventory {
        assert_eq!(entry["valid_until"], entry["not_after"], "{entry:#}");
        let verified_by = entry["verified_by"].as_array().unwrap();
        assert!(!verified_by.is_empty(), "{entry:#}");
    }

    let root = node.root().to_str().unwrap();
    let text = atrest::run(["check", "certificates", "--root", root]).expect(0);
    assert!(
        text.stdout.ends_with("15 certificates\npass\n"),
        "{}",
        text.stdout
    );
}

#[test]
fn every_date_is_that_of_kubeadm() {
    let node = Node::new();
    let output = node.kubeadm(&["certs", "check-expiration", "-o", "json"]);
    let theirs: Value = serde_json::from_slice(&output.stdout).unwrap();
    let objects = BTreeMap::from([
        (
            "admin.conf",
            "/etc/kubernetes/admin.conf: user kubernetes-admin",
        ),
        ("apiserver", "/etc/kubernetes/pki/apiserver.crt"),
        (
            "apiserver-etcd-client",
            "/etc/kubernetes/pki/apiserver-etcd-client.crt",
        ),
        (
            "apiserver-kubelet-client",
            "/etc/kubernetes/pki/apiserver-kubelet-client.crt",
        ),
        (
            "controller-manager.conf",
            "/etc/kubernetes/controller-manager.conf: user system:kube-controller-manager",
        ),
        (
            "etcd-healthcheck-client",
            "/etc/kubernetes/pki/etcd/healthcheck-client.crt",
        ),
        ("etcd-peer", "/etc/kubernetes/pki/etcd/peer.crt"),
        ("etcd-server", "/etc/kubernetes/pki/etcd/server.crt"),
        (
            "front-proxy-client",
            "/etc/kubernetes/pki/front-proxy-client.crt",
        ),
        (
            "scheduler.conf",
            "/etc/kubernetes/scheduler.conf: user system:kube-scheduler",
        ),
        (
            "super-admin.conf",
            "/etc/kubernetes/super-admin.conf: user kubernetes-super-admin",
        ),
        ("ca", "/etc/kubernetes/pki/ca.crt"),
        ("etcd-ca", "/etc/kubernetes/pki/etcd/ca.crt"),
        ("front-proxy-ca", "/etc/kubernetes/pki/front-proxy-ca.crt"),
    ]);
    let report = check(&node, &[]).json();
    let ours = |object: &str| {
        let inventory = report["inventory"].as_array().unwrap();
        let entry = inventory.iter().find(|entry| entry["object"] == object);
        entry.unwrap_or_else(|| panic!("{object} is not listed"))["not_after"].clone()
    };
    let mut seen = 0;
    for list in ["certificates", "certificateAuthorities"] {
        for certificate in theirs[list].as_array().unwrap() {
            let name = certificate["name"].as_str().unwrap();
            assert_eq!(certificate["expirationDate"], ours(objects[name]), "{name}");
            seen += 1;
        }
    }
    assert_eq!(seen, objects.len());
}

/// A year is the life of what kubeadm issues; ten are that of its CAs.
#[test]
fn time_travel_finds_what_will_expire() {
    let node = Node::new();
    let day = |days: i64| {
        let at = jiff::Timestamp::now().as_second() + days * 86_400;
        jiff::Timestamp::from_second(at).unwrap().to_string()
    };
    let ids_at = |days: i64, status: i32| {
        let report = check(&node, &["--at", &day(days)]).expect(status).json();
        let mut ids: Vec<_> = findings(&report).into_iter().map(|(id, _)| id).collect();
        ids.sort();
        ids.dedup();
        ids
    };
    assert!(ids_at(100, 0).is_empty());
    assert_eq!(ids_at(300, 0), ["AR-X003"]);
    assert_eq!(ids_at(360, 1), ["AR-X002"]);
    assert_eq!(ids_at(400, 1), ["AR-X001"]);
    assert_eq!(ids_at(3_400, 1), ["AR-X001", "AR-X005"]);
    assert_eq!(ids_at(-2, 1), ["AR-X004"]);
    let usage = check(&node, &["--at", "tomorrow"]);
    assert_eq!(usage.status, Some(2));
}

#[test]
fn flags_decide_which_files_count() {
    let node = Node::new();
    let manifest = "/etc/kubernetes/manifests/kube-apiserver.yaml";
    let text = node.text(manifest);
    // The last of two flags counts.
    let flag = "    - --client-ca-file=/etc/kubernetes/pki/ca.crt\n";
    assert!(text.contains(flag));
    let other = "    - --client-ca-file=/etc/kubernetes/pki/front-proxy-ca.crt\n";
    node.write(manifest, text.replace(flag, &format!("{flag}{other}")));
    let report = check(&node, &[]).expect(1).json();
    let found = findings(&report);
    let refused: Vec<_> = found.iter().filter(|(id, _)| id == "AR-X007").collect();
    assert_eq!(refused.len(), 5, "{found:?}"); // the users of the kubeconfigs
    assert!(found.contains(&(
        "AR-X024".to_owned(),
        "/etc/kubernetes/pki/front-proxy-ca.crt".to_owned()
    )));
}

#[test]
fn a_machine_that_is_no_node_is_unknown() {
    let empty = tempfile::tempdir().unwrap();
    let root = empty.path().to_str().unwrap();
    let ended = atrest::run(["check", "certificates", "--output", "json", "--root", root]);
    let report = ended.expect(3).json();
    assert_eq!(report["verdict"], "unknown");
    let absent = format!("{root}/absent");
    let ended = atrest::run(["check", "certificates", "--root", &absent]);
    assert_eq!(ended.status, Some(2));
}
