//! The guide for kubeadm clusters (`docs/guide/kubeadm.md`): its settings, applied as it says.

use std::collections::BTreeSet;

use atrest_tests::nodes::{Node, run};
use atrest_tests::programs::Programs;
use serde_yaml::{Mapping, Value};

use crate::shared;

const GUIDE: &str = include_str!("../../../docs/guide/kubeadm.md");
const SETTING: &str = include_str!("../../../examples/kubeadm/cluster-configuration.yaml");
const PATCH: &str = include_str!("../../../examples/kubeadm/patches/kube-apiserver+json.yaml");

/// Steps 2 and 3 of the guide.
pub(crate) fn encrypt_at_rest(node: &Node) {
    std::fs::write(
        node.path("/etc/cluster.yaml"),
        with_setting(&node.cluster_configuration()),
    )
    .unwrap();
    let mut upload = node.kubeadm();
    run(upload.args("init phase upload-config kubeadm --config /etc/cluster.yaml".split(' ')));
    let upgrade =
        "upgrade node phase control-plane --certificate-renewal=false --etcd-upgrade=false";
    assert!(GUIDE.contains(upgrade));
    run(node.kubeadm().args(upgrade.split(' ')));
}

#[test]
fn the_guide_shows_the_files_of_the_examples() {
    for file in [SETTING, PATCH] {
        assert!(GUIDE.contains(file), "not in the guide:\n{file}");
    }
}

#[test]
fn the_setting_and_the_patch_make_the_same_manifest() {
    let Some(mut nodes) = shared() else { return };
    let node = &nodes.nodes()[0];
    let local = std::fs::read_to_string(node.path("/etc/kubeadm.yaml")).unwrap();
    let (init, cluster) = local.split_once("---\n").unwrap();

    let plain = manifest(node, &local);
    let set = manifest(node, &format!("{init}---\n{}", with_setting(cluster)));
    let patches = node.path("/etc/patches");
    std::fs::create_dir_all(&patches).unwrap();
    std::fs::write(patches.join("kube-apiserver+json.yaml"), PATCH).unwrap();
    let patched = manifest(
        node,
        &format!("{init}patches: {{directory: /etc/patches}}\n---\n{cluster}"),
    );

    assert_eq!(set, patched);
    let gained: Vec<_> = set.difference(&plain).collect();
    assert_eq!(
        gained.len(),
        6,
        "two flags, two mounts, two volumes: {gained:#?}"
    );
    assert_eq!(plain.difference(&set).next(), None);
}

/// Adds the example's entries to those that are there, as somebody with an editor does.
fn with_setting(cluster: &str) -> String {
    let mut cluster: Mapping = serde_yaml::from_str(cluster).unwrap();
    let setting: Mapping = serde_yaml::from_str(SETTING).unwrap();
    let server = cluster["apiServer"].as_mapping_mut().unwrap();
    for (name, entries) in setting["apiServer"].as_mapping().unwrap() {
        let old = server
            .entry(name.clone())
            .or_insert(Value::Sequence(Vec::new()));
        old.as_sequence_mut()
            .unwrap()
            .extend(entries.as_sequence().unwrap().clone());
    }
    serde_yaml::to_string(&cluster).unwrap()
}

/// The entries of the lists in the manifest that kubeadm writes with a configuration; it writes
/// over the node's own manifests, so a file system of this process's own lies over them.
fn manifest(node: &Node, configuration: &str) -> BTreeSet<String> {
    const SCRIPT: &str = "
        mount -t tmpfs none /etc/kubernetes/manifests
        \"$0\" init phase control-plane apiserver --config /etc/try.yaml >&2
        cat /etc/kubernetes/manifests/kube-apiserver.yaml";
    std::fs::write(node.path("/etc/try.yaml"), configuration).unwrap();
    let text = run(node
        .command("unshare")
        .args(["--mount", "sh", "-ec", SCRIPT])
        .arg(Programs::required().path("kubeadm")));
    let pod: Value = serde_yaml::from_str(&text).unwrap();
    let container = &pod["spec"]["containers"][0];
    [
        &container["command"],
        &container["volumeMounts"],
        &pod["spec"]["volumes"],
    ]
    .into_iter()
    .flat_map(|list| list.as_sequence().unwrap())
    .map(|entry| serde_yaml::to_string(entry).unwrap())
    .collect()
}
