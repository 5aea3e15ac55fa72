//! The node itself: what the other tests take for granted.

use std::process::Command;
use std::time::Duration;

use crate::shared;

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_node_runs_kubeadms_static_pods_and_nothing_of_the_host_changes() {
    let Some(mut nodes) = shared() else { return };
    let node = &mut nodes.nodes()[0];
    for pod in [
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
    ] {
        node.wait(&format!("mirror pod of {pod}"), MINUTE, |node| {
            let mirror = format!("{pod}-{}", node.name());
            let mut kubectl = node.kubectl();
            kubectl.args([
                "get",
                "pod",
                "-n",
                "kube-system",
                &mirror,
                "-o",
                "jsonpath={.status.phase}",
            ]);
            kubectl
                .output()
                .is_ok_and(|output| output.stdout == b"Running")
        });
        assert_eq!(node.containers(pod).len(), 1, "{pod}");
    }
    // The kubelet wants these two set, and was given files instead.
    let parameter = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let inside = node
        .command("cat")
        .arg("/proc/sys/kernel/panic_on_oops")
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&inside.stdout).trim(), "1");
    let mounts = parameter("/proc/self/mountinfo");
    assert!(!mounts.contains("atrest-nodes-"), "{mounts}");
    let links = Command::new("ip")
        .args(["-brief", "link"])
        .output()
        .unwrap();
    let links = String::from_utf8_lossy(&links.stdout);
    assert!(
        !links.contains("node-1") && !links.contains("hub"),
        "{links}"
    );
}

#[test]
fn the_nodes_network_is_reached_from_beside_them() {
    let Some(nodes) = shared() else { return };
    let ready = nodes
        .kubectl()
        .args(["get", "--raw=/readyz"])
        .output()
        .unwrap();
    assert_eq!(
        ready.stdout,
        b"ok",
        "{}",
        String::from_utf8_lossy(&ready.stderr)
    );
}
