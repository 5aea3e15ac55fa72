//! Secrets, read through each API server and in etcd.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::Stdio;

use atrest_tests::binaries;
use atrest_tests::nodes::Node;
use data_encoding::{BASE64, HEXLOWER};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::run;

pub(crate) const NAMESPACE: &str = "three-nodes";

/// Creates Secrets with bytes that nothing else has; returns the digest of each by its name.
pub(crate) fn create(node: &Node, count: usize) -> BTreeMap<String, String> {
    run(node.kubectl().args(["create", "namespace", NAMESPACE]));
    let mut digests = BTreeMap::new();
    let mut items = Vec::new();
    for i in 0..count {
        let name = format!("secret-{i}");
        let value = sha256(format!("{name} {}", std::process::id()).as_bytes());
        digests.insert(name.clone(), sha256(value.as_bytes()));
        items.push(json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"namespace": NAMESPACE, "name": name},
            "stringData": {"value": value},
        }));
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    let mut child = node
        .kubectl()
        .args(["create", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(list.to_string().as_bytes()).unwrap();
    drop(input);
    assert!(child.wait().unwrap().success(), "{}", node.logs());
    digests
}

/// The digest of every Secret's data, each by a GET of its own through one server.
pub(crate) fn read(node: &Node, names: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let url = node.url();
    let mut kubectl = node.kubectl();
    kubectl.args([
        "--server", &url, "get", "secrets", "-n", NAMESPACE, "-o", "json",
    ]);
    let list: Value = serde_json::from_str(&run(kubectl.args(names.keys()))).unwrap();
    let items = list["items"].as_array().unwrap();
    items
        .iter()
        .map(|secret| {
            let value = secret["data"]["value"].as_str().unwrap();
            let name = secret["metadata"]["name"].as_str().unwrap();
            (
                name.to_owned(),
                sha256(&BASE64.decode(value.as_bytes()).unwrap()),
            )
        })
        .collect()
}

/// Each stored value begins so.
pub(crate) fn assert_prefix(node: &Node, prefix: &str) {
    let values = run(node
        .etcdctl()
        .args(["get", "--prefix", "--write-out=json"])
        .arg(format!("/registry/secrets/{NAMESPACE}/")));
    let values: Value = serde_json::from_str(&values).unwrap();
    for pair in values["kvs"].as_array().expect("there are some") {
        let value = pair["value"].as_str().unwrap();
        let value = BASE64.decode(value.as_bytes()).unwrap();
        let start = String::from_utf8_lossy(&value[..prefix.len().min(value.len())]);
        assert_eq!(start, prefix, "{pair}");
    }
}

/// The one key that every Secret of the cluster is under, by a census of etcd: its provider and name.
pub(crate) fn key_of_all(node: &Node, config: &str) -> (String, String) {
    let output = node
        .command(binaries::path("atrest"))
        .args(["verify", "--config", config, "--output", "json"])
        .args(["--kubeconfig", "/etc/kubernetes/admin.conf"])
        .args(node.etcd_flags())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let census: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(census["verdict"], "clean", "{census:#}");
    let secrets = &census["resources"][0];
    assert_eq!(secrets["resource"], "secrets", "{census:#}");
    assert_eq!(secrets["current"], secrets["total"], "{census:#}");
    let keys = secrets["by_key"].as_array().unwrap();
    assert_eq!(keys.len(), 1, "{census:#}");
    let text = |name: &str| keys[0][name].as_str().unwrap().to_owned();
    (text("provider"), text("key"))
}

fn sha256(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}
