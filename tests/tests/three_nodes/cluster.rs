//! The cluster itself: what the other tests take for granted.

use std::time::Duration;

use atrest_tests::nodes::{USER, run};
use serde_json::Value;

use crate::shared;

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn three_nodes_have_an_etcd_of_three_members_and_an_api_server_each() {
    let Some(mut nodes) = shared() else { return };
    let members = run(nodes.nodes()[0]
        .etcdctl()
        .args(["member", "list", "-w=json"]));
    let members: Value = serde_json::from_str(&members).unwrap();
    let members = members["members"].as_array().unwrap();
    assert_eq!(members.len(), 3, "{members:#?}");
    assert!(
        members.iter().all(|member| member["isLearner"] != true),
        "{members:#?}"
    );
    let mut addresses: Vec<_> = nodes
        .nodes()
        .iter()
        .map(|node| node.address().to_owned())
        .collect();
    addresses.sort();
    let node = &mut nodes.nodes()[0];
    node.wait("three endpoints and Leases", MINUTE, |node| {
        let words = |words: &str| {
            let mut kubectl = node.kubectl();
            run(kubectl.args(words.split('|')))
        };
        let endpoints = words(
            "get|endpointslices|-n|default|kubernetes|-o|jsonpath={.endpoints[*].addresses[*]}",
        );
        let mut endpoints: Vec<_> = endpoints.split_whitespace().map(str::to_owned).collect();
        endpoints.sort();
        let leases = words(
            "get|leases|-n|kube-system|-l|apiserver.kubernetes.io/identity=kube-apiserver|-o|name",
        );
        endpoints == addresses && leases.lines().count() == 3
    });
}

#[test]
fn root_of_a_node_becomes_root_of_the_others_over_ssh() {
    let Some(mut nodes) = shared() else { return };
    let nodes = nodes.nodes();
    for other in &nodes[1..] {
        let there = format!("{USER}@{}", other.address());
        let name = run(nodes[0].command("ssh").args([
            "-o",
            "BatchMode=yes",
            &there,
            "sudo -n cat /etc/hostname /proc/sys/kernel/hostname; sudo -n id -u; id -un",
        ]));
        assert!(name.contains(other.name()), "{name}");
        assert!(name.ends_with(&format!("0\n{USER}\n")), "{name}");
    }
}
