//! The plugin as the static pod of `examples`, on a kubeadm node whose API server writes through it.

use std::path::Path;
use std::time::Duration;

use atrest_tests::binaries;
use atrest_tests::nodes::{Node, run, secrets};
use serde_json::{Value, json};

use crate::{job, kubeadm, shared};

const POD: &str = include_str!("../../../examples/atrest-kms/atrest-kms.yaml");
const ENCRYPTION: &str = include_str!("../../../examples/atrest-kms/encryption-configuration.yaml");

const NAMESPACE: &str = "kms-static-pod";
const CONFIG: &str = "/etc/kubernetes/enc/config.yaml";

/// An API server that restarts is away for 40 s, and longer on a busy machine.
const MINUTES: Duration = Duration::from_secs(300);

#[test]
fn a_kubeadm_nodes_secrets_go_through_the_plugins_static_pod_and_survive_a_reboot() {
    let Some(mut nodes) = shared() else { return };
    let node = &mut nodes.nodes()[0];
    run(node.kubectl().args(["create", "namespace", NAMESPACE]));
    let mut created = secrets::create(node, NAMESPACE, "before", 10);
    secrets::assert_prefix(node, NAMESPACE, "before-", "k8s\0");

    let key_id = start_plugin(node);
    write_config(node);
    kubeadm::encrypt_at_rest(node);
    node.wait_ready(MINUTES);
    created.extend(secrets::create(node, NAMESPACE, "after", 20));
    secrets::assert_prefix(node, NAMESPACE, "after-", "k8s:enc:kms:v2:atrest:");
    assert_eq!(secrets::read(node, NAMESPACE), created);

    // What was there before is plaintext still, and verify says so; then it is rewritten.
    let (status, census) = secrets::verify(node, CONFIG);
    assert_eq!(
        (status, &census["verdict"]),
        (1, &json!("dirty")),
        "{census:#}"
    );
    assert_eq!(census["resources"][0]["plaintext"], 10, "{census:#}");
    run(node.command(binaries::path("atrest")).args([
        "reencrypt",
        "--kubeconfig",
        "/etc/kubernetes/admin.conf",
    ]));
    assert_clean(node, &key_id, created.len());
    secrets::assert_prefix(node, NAMESPACE, "before-", "k8s:enc:kms:v2:atrest:");

    node.restart_pod("atrest-kms");
    wait_healthy(node);
    assert_eq!(secrets::read(node, NAMESPACE), created);
    created.extend(secrets::create(node, NAMESPACE, "plugin-restarted", 5));
    assert_clean(node, &key_id, created.len());

    // Nothing is in the API server's memory after this: each value is the plugin's to unwrap.
    node.reboot();
    node.wait_ready(MINUTES);
    assert_eq!(node.containers("atrest-kms").len(), 1);
    assert_eq!(secrets::read(node, NAMESPACE), created);
    created.extend(secrets::create(node, NAMESPACE, "rebooted", 5));
    assert_eq!(secrets::read(node, NAMESPACE), created);
    assert_clean(node, &key_id, created.len());

    as_jobs(node);
    assert_eq!(secrets::read(node, NAMESPACE), created);
}

/// A key comes before the plugin by hand, and a Job rewrites everything under it; another one rotates to a
/// new key. What they say stands in etcd.
fn as_jobs(node: &mut Node) {
    job::load_image(node);
    let key = data_encoding::BASE64.encode(&[7; 32]);
    let secretbox = format!(
        "providers:\n      - secretbox: {{keys: [{{name: by-hand, secret: \"{key}\"}}]}}\n"
    );
    let config = ENCRYPTION.replace("providers:\n", &secretbox);
    let new = node.path("/etc/kubernetes/enc/.new");
    std::fs::write(&new, &config).unwrap();
    std::fs::rename(new, node.path(CONFIG)).unwrap();
    let hash = secrets::sha256(config.as_bytes());
    node.wait("the file to be loaded", MINUTES, |node| {
        run(node.kubectl().args(["get", "--raw=/metrics"])).contains(&hash)
    });
    let report = job::reencrypt(node);
    assert_eq!(report["objects"]["set_aside"], 0, "{report:#}");
    for name in ["before", "after", "rebooted"] {
        secrets::assert_prefix(
            node,
            NAMESPACE,
            &format!("{name}-"),
            "k8s:enc:secretbox:v1:by-hand:",
        );
    }

    run(node.command(binaries::path("atrest")).args([
        "rotate",
        "init",
        "--kubeconfig=/etc/kubernetes/admin.conf",
        "-o",
        "/var/lib/rotation.yaml",
    ]));
    std::fs::create_dir_all(node.path("/etc/atrest")).unwrap();
    let rotation = std::fs::read_to_string(node.path("/var/lib/rotation.yaml")).unwrap();
    assert!(
        rotation.contains("plugin: {socket: /run/atrest-kms/kms.sock}"),
        "{rotation}"
    );
    std::fs::write(node.path("/etc/atrest/rotation.yaml"), rotation).unwrap();
    let report = job::rotate(node);
    assert_eq!(report["state"], "done", "{report:#}");
    assert_eq!(report["servers"][0]["status"], "loaded", "{report:#}");
    let config = std::fs::read_to_string(node.path(CONFIG)).unwrap();
    assert!(
        !config.contains("by-hand") && !config.contains("- kms:"),
        "the old ones have left"
    );
    let (_, census) = secrets::verify(node, CONFIG);
    let keys = &census["resources"][0]["by_key"];
    assert_eq!(keys.as_array().unwrap().len(), 1, "{census:#}");
    let key = keys[0]["key"].as_str().unwrap();
    for name in ["before", "after", "rebooted"] {
        secrets::assert_prefix(
            node,
            NAMESPACE,
            &format!("{name}-"),
            &format!("k8s:enc:secretbox:v1:{key}:"),
        );
    }
}

/// Loads the image, makes a keyring and starts the pod, as the guide says; returns the key_id.
fn start_plugin(node: &mut Node) -> String {
    let pod: serde_yaml::Value = serde_yaml::from_str(POD).unwrap();
    let container = &pod["spec"]["containers"][0];
    node.load_image(
        container["image"].as_str().unwrap(),
        binaries::path("atrest-kms"),
    );
    let words = container["command"].as_sequence().unwrap();
    let flag = |name: &str| {
        let mut values = words
            .iter()
            .filter_map(|word| word.as_str()?.strip_prefix(name));
        values
            .next()
            .unwrap_or_else(|| panic!("the pod has no {name}"))
    };
    let (keyring, seal) = (flag("--keyring="), flag("--key-file="));
    for file in [keyring, seal] {
        let folder = Path::new(file).parent().unwrap();
        run(node
            .command("install")
            .args(["-d", "-m", "0700"])
            .arg(folder));
    }
    run(node
        .command("sh")
        .args(["-c", "umask 077 && head -c 32 /dev/urandom > \"$0\"", seal]));
    let atrest_kms = |words: &[&str]| {
        let mut command = node.command(binaries::path("atrest-kms"));
        command
            .args(words)
            .args(["--keyring", keyring, "--output", "json"]);
        run(&mut command)
    };
    let listing = atrest_kms(&["keyring", "init", "--seal", "key-file", "--key-file", seal]);
    let listing: Value = serde_json::from_str(&listing).unwrap();

    node.write_manifest("atrest-kms", POD);
    let socket = node.path(flag("--socket="));
    node.wait("the plugin's socket", MINUTES, |node| {
        socket.exists() && node.containers("atrest-kms").len() == 1
    });
    listing["generations"][0]["key_id"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn write_config(node: &Node) {
    let config = node.path(CONFIG);
    std::fs::create_dir_all(config.parent().unwrap()).unwrap();
    std::fs::write(config, ENCRYPTION).unwrap();
}

/// Every value is under the key_id, and nothing else is there.
fn assert_clean(node: &Node, key_id: &str, at_least: usize) {
    let (status, census) = secrets::verify(node, CONFIG);
    assert_eq!(
        (status, &census["verdict"]),
        (0, &json!("clean")),
        "{census:#}"
    );
    let secrets = &census["resources"][0];
    assert_eq!(secrets["resource"], "secrets", "{census:#}");
    assert_eq!(secrets["by_key"].as_array().unwrap().len(), 1, "{census:#}");
    assert_eq!(
        secrets["by_key"][0]["provider"], "kms:v2:atrest",
        "{census:#}"
    );
    assert_eq!(secrets["by_key"][0]["key"], key_id, "{census:#}");
    let total = secrets["total"].as_u64().unwrap();
    assert!(total >= at_least as u64, "{census:#}");
    assert_eq!(secrets["current"], total, "{census:#}");
}

/// The API server asks its plugin for the status at every probe.
fn wait_healthy(node: &mut Node) {
    node.wait("healthy plugin", MINUTES, |node| {
        let mut kubectl = node.kubectl();
        let healthy = kubectl
            .args(["get", "--raw=/healthz/kms-providers"])
            .output();
        healthy.is_ok_and(|output| output.stdout == b"ok")
    });
}
