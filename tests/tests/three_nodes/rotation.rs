//! The whole way on three kubeadm nodes: from no flag at all to a key, to another one, to the plugin, and
//! to another key-encryption key in it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use atrest_tests::binaries;
use atrest_tests::nodes::{Node, Nodes, USER, run, secrets};
use atrest_tests::programs::Programs;
use serde_yaml::Value;

use crate::client::Client;
use crate::{NAMESPACE, shared};

const POD: &str = include_str!("../../../examples/atrest-kms/atrest-kms.yaml");

const ROTATION: &str = "/etc/atrest/rotation.yaml";
const CONFIG: &str = "/etc/kubernetes/enc/config.yaml";
const MANIFEST: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";
const KEYRING: &str = "/var/lib/atrest-kms/keyring.json";
const SEAL: &str = "/etc/atrest-kms/keyring.key";

const MINUTES: Duration = Duration::from_secs(300);

#[test]
fn three_nodes_go_from_no_flag_at_all_to_a_key_to_another_to_the_plugin_and_to_another_kek() {
    let Some(mut nodes) = shared() else { return };
    let first = &nodes.nodes()[0];
    run(first.kubectl().args(["create", "namespace", NAMESPACE]));
    let created = secrets::create(first, NAMESPACE, "secret", 20);
    secrets::assert_prefix(first, NAMESPACE, "", "k8s\0");
    let start = Instant::now();
    let lap = |what: &str| eprintln!("{what}: at {:.0} s", start.elapsed().as_secs_f64());

    init_over_ssh(&mut nodes);
    let manifests: Vec<_> = nodes.nodes().iter().map(manifest).collect();
    let client = Client::start(&mut nodes);
    let first = &nodes.nodes()[0];
    let plan = rotate(first, &["plan"]);
    assert!(
        plan.contains("API servers run without an EncryptionConfiguration"),
        "{plan}"
    );
    assert!(!first.path(CONFIG).exists(), "a plan changes nothing");
    rotate(first, &["run", "--yes"]);
    let (all, elsewhere) = client.stop();
    assert!(all > 50, "{all}");
    lap(&format!(
        "first enablement, {all} requests, {elsewhere} tried elsewhere, 0 failed"
    ));
    for (node, old) in nodes.nodes().iter().zip(&manifests) {
        assert_only_gained(old, &manifest(node), node.name());
    }
    let first_key = proven(&mut nodes, &created, "k8s:enc:secretbox:v1:");
    assert_kubeadm_keeps(&nodes.nodes()[0]);
    lap("kubeadm keeps it");

    rotate(&nodes.nodes()[0], &["run", "--yes"]);
    let second_key = proven(&mut nodes, &created, "k8s:enc:secretbox:v1:");
    assert_ne!(first_key, second_key);
    lap("key to key");

    let key_id = start_plugins(&mut nodes);
    rotate(&nodes.nodes()[0], &["run", "--yes", "--to", "kms"]);
    let (provider, key) = proven(&mut nodes, &created, "k8s:enc:kms:v2:atrest:");
    assert_eq!((provider.as_str(), key), ("kms:v2:atrest", key_id.clone()));
    lap("to the plugin");

    let new = rotate_kek(&mut nodes);
    assert_ne!(new, key_id);
    let (_, key) = proven(&mut nodes, &created, "k8s:enc:kms:v2:atrest:");
    assert_eq!(key, new);
    lap("KEK");

    a_file_that_is_mounted_by_itself_is_pinned_and_refused(&mut nodes);
    lap("pinned file refused");
}

/// `rotate init` on the first node finds the others over SSH.
fn init_over_ssh(nodes: &mut Nodes) {
    let first = &nodes.nodes()[0];
    let init = [
        "init",
        "--ssh",
        USER,
        "--kms-socket",
        "atrest=/run/atrest-kms/kms.sock",
    ];
    let printed = rotate(first, &[&init[..], &["-o", "-"]].concat());
    std::fs::create_dir_all(first.path("/etc/atrest")).unwrap();
    rotate(first, &[&init[..], &["-o", ROTATION]].concat());
    let text = std::fs::read_to_string(first.path(ROTATION)).unwrap();
    assert!(printed.contains(&text), "{printed}");
    let again = atrest(first, &["rotate", "init", "-o", ROTATION]);
    assert_eq!(again.0, 2, "{}", again.1);
    assert!(again.1.contains("exists"), "{}", again.1);

    let file: Value = serde_yaml::from_str(&text).unwrap();
    let servers = file["servers"].as_sequence().unwrap();
    assert_eq!(servers.len(), 3, "{text}");
    for (server, node) in servers.iter().zip(nodes.nodes()) {
        assert_eq!(server["name"], node.name());
        assert_eq!(server["url"], node.url().as_str());
        assert_eq!(server["file"], CONFIG);
        match node.name() {
            "node-1" => assert_eq!(server["access"], "local"),
            _ => assert_eq!(server["access"]["ssh"]["host"], node.address()),
        }
    }
    assert_eq!(file["etcd"]["endpoints"][0], "https://127.0.0.1:2379");
}

/// Every value is under one key, and every server reads every Secret; returns provider and key.
fn proven(nodes: &mut Nodes, created: &BTreeMap<String, String>, prefix: &str) -> (String, String) {
    secrets::assert_prefix(&nodes.nodes()[0], NAMESPACE, "", prefix);
    for node in nodes.nodes() {
        let read = secrets::read(node, NAMESPACE);
        assert_eq!(&read, created, "{}", node.name());
    }
    key_of_all(&nodes.nodes()[0])
}

/// The one key that every Secret of the cluster is under, by a census of etcd: its provider and name.
fn key_of_all(node: &Node) -> (String, String) {
    let (status, census) = secrets::verify(node, CONFIG);
    assert_eq!(status, 0, "{census:#}");
    assert_eq!(census["verdict"], "clean", "{census:#}");
    let secrets = &census["resources"][0];
    assert_eq!(secrets["resource"], "secrets", "{census:#}");
    assert_eq!(secrets["current"], secrets["total"], "{census:#}");
    let keys = secrets["by_key"].as_array().unwrap();
    assert_eq!(keys.len(), 1, "{census:#}");
    let text = |name: &str| keys[0][name].as_str().unwrap().to_owned();
    (text("provider"), text("key"))
}

fn manifest(node: &Node) -> String {
    std::fs::read_to_string(node.path(MANIFEST)).unwrap()
}

/// Every line of the old one is there, in its order.
fn assert_only_gained(old: &str, new: &str, name: &str) {
    let mut lines = new.lines();
    for line in old.lines() {
        assert!(
            lines.any(|it| it == line),
            "{name}: {line:?} is gone of\n{new}"
        );
    }
    assert_eq!(
        new.lines().count(),
        old.lines().count() + 16,
        "{name}:\n{new}"
    );
    assert!(new.contains(&format!("--encryption-provider-config={CONFIG}")));
}

/// What kubeadm writes by the setting in the cluster says the same as what `rotate` made of the manifest.
fn assert_kubeadm_keeps(node: &Node) {
    const SCRIPT: &str = "
        mount -t tmpfs none /etc/kubernetes/manifests
        \"$0\" init phase control-plane apiserver --config /etc/try.yaml >&2
        cat /etc/kubernetes/manifests/kube-apiserver.yaml";
    let stored = node.cluster_configuration();
    let local = std::fs::read_to_string(node.path("/etc/kubeadm.yaml")).unwrap();
    let (init, _) = local.split_once("---\n").unwrap();
    std::fs::write(node.path("/etc/try.yaml"), format!("{init}---\n{stored}")).unwrap();
    let written = run(node
        .command("unshare")
        .args(["--mount", "sh", "-ec", SCRIPT])
        .arg(Programs::required().path("kubeadm")));
    assert_eq!(entries(&written), entries(&manifest(node)), "{stored}");
}

/// The entries of the lists in a manifest, whatever their order.
fn entries(manifest: &str) -> Vec<String> {
    let pod: Value = serde_yaml::from_str(manifest).unwrap();
    let container = &pod["spec"]["containers"][0];
    let lists = [
        &container["command"],
        &container["volumeMounts"],
        &pod["spec"]["volumes"],
    ];
    let entries = lists.into_iter().flat_map(|it| it.as_sequence().unwrap());
    let mut entries: Vec<_> = entries
        .map(|it| serde_yaml::to_string(it).unwrap())
        .collect();
    entries.sort();
    entries
}

/// The static pod of the examples on every node, all with one keyring; returns its key_id.
fn start_plugins(nodes: &mut Nodes) -> String {
    let pod: Value = serde_yaml::from_str(POD).unwrap();
    let image = pod["spec"]["containers"][0]["image"].as_str().unwrap();
    for node in nodes.nodes() {
        node.load_image(image, binaries::path("atrest-kms"));
        for file in [KEYRING, SEAL] {
            let folder = Path::new(file).parent().unwrap();
            run(node
                .command("install")
                .args(["-d", "-m", "0700"])
                .arg(folder));
        }
    }
    let first = &nodes.nodes()[0];
    run(first
        .command("sh")
        .args(["-c", "umask 077 && head -c 32 /dev/urandom > \"$0\"", SEAL]));
    let listing = keyring(first, &["init", "--seal", "key-file"]);
    push(nodes, SEAL);
    push(nodes, KEYRING);
    for node in nodes.nodes() {
        node.write_manifest("atrest-kms", POD);
        let socket = node.path("/run/atrest-kms/kms.sock");
        node.wait("the plugin's socket", MINUTES, |node| {
            socket.exists() && node.containers("atrest-kms").len() == 1
        });
    }
    listing["generations"][0]["key_id"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// A generation is added, readable everywhere, and then activated, as the guide says; `rotate` does the
/// rest. Returns its key_id.
fn rotate_kek(nodes: &mut Nodes) -> String {
    keyring(&nodes.nodes()[0], &["add"]);
    push(nodes, KEYRING);
    wait_for_log(nodes, "serial=2 ");
    let listing = keyring(&nodes.nodes()[0], &["activate"]);
    push(nodes, KEYRING);
    wait_for_log(nodes, "serial=3 ");
    rotate(&nodes.nodes()[0], &["run", "--yes", "--to", "kms"]);
    let new = &listing["generations"][1]["key_id"];
    new.as_str().unwrap().to_owned()
}

/// Every plugin has logged it.
fn wait_for_log(nodes: &mut Nodes, words: &str) {
    for node in nodes.nodes() {
        node.wait(words, MINUTES, |node| {
            let log = node
                .command("sh")
                .args(["-c", "cat /var/log/pods/*atrest-kms*/*/*.log"])
                .output()
                .unwrap();
            String::from_utf8_lossy(&log.stdout).contains(words)
        });
    }
}

/// Copies a file of the first node to the others, renamed into place.
fn push(nodes: &mut Nodes, file: &str) {
    let nodes = nodes.nodes();
    let bytes = std::fs::read(nodes[0].path(file)).unwrap();
    for node in &nodes[1..] {
        let new = node.path(&format!("{file}.new"));
        std::fs::write(&new, &bytes).unwrap();
        run(node.command("chmod").arg("0600").arg(format!("{file}.new")));
        std::fs::rename(new, node.path(file)).unwrap();
    }
}

fn keyring(node: &Node, words: &[&str]) -> serde_json::Value {
    let mut command = node.command(binaries::path("atrest-kms"));
    command.arg("keyring").args(words).args([
        "--keyring",
        KEYRING,
        "--key-file",
        SEAL,
        "--output",
        "json",
    ]);
    serde_json::from_str(&run(&mut command)).unwrap()
}

/// A File-type hostPath gives the pod an inode: what is renamed into its place is never loaded. `rotate`
/// refuses such a node before it changes anything, with the patch that mends it.
fn a_file_that_is_mounted_by_itself_is_pinned_and_refused(nodes: &mut Nodes) {
    let node = &mut nodes.nodes()[2];
    let pinned = manifest(node)
        .replace(
            "    - mountPath: /etc/kubernetes/enc\n",
            &format!("    - mountPath: {CONFIG}\n"),
        )
        .replace(
            "      path: /etc/kubernetes/enc\n      type: Directory\n",
            &format!("      path: {CONFIG}\n      type: File\n"),
        );
    assert_ne!(pinned, manifest(node));
    let before = metric(node, "process_start_time_seconds");
    node.write_manifest("kube-apiserver", &pinned);
    node.wait("another API server", MINUTES, |node| {
        let now = metric(node, "process_start_time_seconds");
        now.is_some() && now != before
    });
    node.wait_ready(MINUTES);
    const HASH: &str = "apiserver_encryption_config_controller_last_config_info";
    let loaded = metric(node, HASH);
    let changed = std::fs::read_to_string(node.path(CONFIG)).unwrap() + "# replaced\n";
    std::fs::write(node.path("/etc/kubernetes/enc/.new"), &changed).unwrap();
    std::fs::rename(node.path("/etc/kubernetes/enc/.new"), node.path(CONFIG)).unwrap();
    // The pod's own view is the old file, and five polls load nothing else.
    let pod = node.containers("kube-apiserver");
    assert_eq!(pod.len(), 1);
    let seen = run(node.command("sh").args([
        "-c",
        "cat /proc/$(pgrep -x kube-apiserver | head -n 1)/root/etc/kubernetes/enc/config.yaml",
    ]));
    assert!(!seen.contains("# replaced"), "{seen}");
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        assert_eq!(metric(node, HASH), loaded);
        std::thread::sleep(Duration::from_millis(500));
    }

    let (status, said) = atrest(
        &nodes.nodes()[0],
        &["rotate", "run", "--yes", "--to", "secretbox"],
    );
    assert_eq!(status, 2, "{said}");
    assert!(
        said.contains("node-3") && said.contains("by itself"),
        "{said}"
    );
    assert!(
        said.contains("path: /etc/kubernetes/enc, type: Directory"),
        "{said}"
    );
    assert_eq!(
        std::fs::read_to_string(nodes.nodes()[2].path(CONFIG)).unwrap(),
        changed
    );
}

/// The line of a metric of a node's own API server.
fn metric(node: &Node, name: &str) -> Option<String> {
    let mut kubectl = node.kubectl();
    let output = kubectl
        .args(["--server", &node.url(), "get", "--raw=/metrics"])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .find(|line| line.starts_with(name))
        .map(str::to_owned)
}

/// `atrest rotate` on a node, which has to succeed; returns all that it said.
fn rotate(node: &Node, words: &[&str]) -> String {
    let (status, said) = atrest(node, &[&["rotate"], words].concat());
    assert_eq!(status, 0, "{words:?}\n{said}\n{}", node.logs());
    said
}

/// Its exit status, and all that it said.
fn atrest(node: &Node, words: &[&str]) -> (i32, String) {
    let output = node
        .command(binaries::path("atrest"))
        .args(words)
        .args(["--kubeconfig", "/etc/kubernetes/admin.conf"])
        .args(["--request-timeout", "5s"])
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].map(|it| String::from_utf8_lossy(&it).into_owned());
    (output.status.code().unwrap(), said.concat())
}
