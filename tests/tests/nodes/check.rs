//! `atrest check certificates --live` on a node, beside what kubeadm does to it.

use std::time::Duration;

use atrest_tests::binaries;
use atrest_tests::nodes::{Node, run};
use serde_json::Value;

use crate::shared;

fn check(node: &Node) -> (Option<i32>, Value) {
    let output = node
        .command(binaries::path("atrest"))
        .args(["check", "certificates", "--live", "--output", "json"])
        .args(["--kubeconfig", "/etc/kubernetes/admin.conf"])
        .output()
        .unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    (output.status.code(), report)
}

/// Ids and objects at warning and above.
fn findings(report: &Value) -> Vec<(&str, &str)> {
    let findings = report["findings"].as_array().unwrap().iter();
    findings
        .filter(|it| it["severity"] != "info")
        .map(|it| (it["id"].as_str().unwrap(), it["object"].as_str().unwrap()))
        .collect()
}

#[test]
fn what_kubeadm_renewed_is_named_until_its_programs_are_restarted() {
    const MINUTES: Duration = Duration::from_secs(180);
    const STALE: [(&str, &str); 2] = [
        ("AR-X054", "/etc/kubernetes/controller-manager.conf"),
        ("AR-X054", "/etc/kubernetes/scheduler.conf"),
    ];

    let Some(mut nodes) = shared() else { return };
    let node = &mut nodes.nodes()[0];
    node.wait_ready(MINUTES);
    let (status, report) = check(node);
    assert_eq!(findings(&report), [], "{report:#}");
    assert_eq!(
        (status, &report["unread"]),
        (Some(0), &Value::Array(Vec::new()))
    );

    run(node.kubeadm().args(["certs", "renew", "all"]));
    // kube-apiserver and etcd take up their pairs by themselves.
    node.wait("what is taken up", MINUTES, |node| {
        findings(&check(node).1) == STALE
    });
    for pod in ["kube-controller-manager", "kube-scheduler"] {
        node.restart_pod(pod);
    }
    node.wait("nothing to be found", MINUTES, |node| {
        check(node).0 == Some(0)
    });
}
