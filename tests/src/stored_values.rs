//! etcd's own bytes, read by etcdctl and not by the code that is tested.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::processes::ControlPlane;

/// Every value below `/registry/secrets/`, by its key.
pub fn secrets(plane: &ControlPlane) -> BTreeMap<String, Vec<u8>> {
    let output = plane
        .etcdctl()
        .args(["get", "/registry/secrets/", "--prefix", "--write-out=json"])
        .output()
        .expect("etcdctl was built");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("etcdctl's JSON");
    let decode = |value: &serde_json::Value| {
        BASE64_STANDARD
            .decode(value.as_str().unwrap_or_default())
            .expect("etcdctl's base64")
    };
    let pairs = answer["kvs"].as_array().cloned().unwrap_or_default();
    pairs
        .iter()
        .map(|pair| {
            let key = String::from_utf8(decode(&pair["key"])).expect("storage keys are UTF-8");
            (key, decode(&pair["value"]))
        })
        .collect()
}

/// Asserts that there are `count` Secrets and that every value starts with `prefix`.
pub fn assert_prefix(plane: &ControlPlane, count: usize, prefix: &str) {
    let values = secrets(plane);
    assert_eq!(values.len(), count);
    for (key, value) in values {
        let start = String::from_utf8_lossy(&value[..value.len().min(64)]).into_owned();
        assert!(
            value.starts_with(prefix.as_bytes()),
            "{key} starts with {start:?}, not {prefix:?}"
        );
    }
}
