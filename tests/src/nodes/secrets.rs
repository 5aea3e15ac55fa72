//! Secrets of a node's cluster: what each server reads of them, and what stands in etcd.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::Stdio;

use data_encoding::{BASE64, HEXLOWER};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Node, run};
use crate::binaries;

/// Creates Secrets with bytes that nothing else has, named `<start>-0` and so on; returns the digest of each
/// by its name.
pub fn create(node: &Node, namespace: &str, start: &str, count: usize) -> BTreeMap<String, String> {
    let mut digests = BTreeMap::new();
    let mut items = Vec::new();
    for i in 0..count {
        let name = format!("{start}-{i}");
        let value = sha256(format!("{name} {}", std::process::id()).as_bytes());
        digests.insert(name.clone(), sha256(value.as_bytes()));
        items.push(json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"namespace": namespace, "name": name},
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
        .expect("kubectl was built");
    let mut input = child.stdin.take().expect("it is piped");
    let written = input.write_all(list.to_string().as_bytes());
    drop(input);
    let created = child.wait().is_ok_and(|status| status.success());
    assert!(created && written.is_ok(), "{}", node.logs());
    digests
}

/// The digest of the data of every Secret of a namespace, each read by a GET of its own through this node's
/// API server.
pub fn read(node: &Node, namespace: &str) -> BTreeMap<String, String> {
    let get = || {
        let mut kubectl = node.kubectl();
        kubectl.args(["--server", &node.url(), "get", "-n", namespace]);
        kubectl
    };
    let names = run(get().args(["secrets", "-o", "name"]));
    let list = parsed(&run(get().args(["-o", "json"]).args(names.lines())));
    let digest = |secret: &Value| {
        let value = BASE64.decode(text(&secret["data"]["value"]).as_bytes());
        let name = text(&secret["metadata"]["name"]).to_owned();
        (name, sha256(&value.expect("the API server's base64")))
    };
    array(&list["items"]).iter().map(digest).collect()
}

/// Each stored value of the Secrets whose name begins with `start` begins with `prefix`.
pub fn assert_prefix(node: &Node, namespace: &str, start: &str, prefix: &str) {
    let values = run(node
        .etcdctl()
        .args(["get", "--prefix", "--write-out=json"])
        .arg(format!("/registry/secrets/{namespace}/{start}")));
    for pair in array(&parsed(&values)["kvs"]) {
        let value = BASE64.decode(text(&pair["value"]).as_bytes());
        let value = value.expect("etcdctl's base64");
        let begins = String::from_utf8_lossy(&value[..prefix.len().min(value.len())]);
        assert_eq!(begins, prefix, "{pair}");
    }
}

/// `atrest verify` on the node: its exit status and its report.
pub fn verify(node: &Node, config: &str) -> (i32, Value) {
    let output = node
        .command(binaries::path("atrest"))
        .args(["verify", "--config", config, "--output", "json"])
        .args(["--kubeconfig", "/etc/kubernetes/admin.conf"])
        .args(node.etcd_flags())
        .output()
        .expect("atrest was built");
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().expect("no signal ends it"), report)
}

/// SHA-256 in hex.
pub fn sha256(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

fn parsed(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_else(|_| panic!("no JSON: {json}"))
}

fn array(value: &Value) -> &[Value] {
    value.as_array().expect("there are some")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("it is text")
}
