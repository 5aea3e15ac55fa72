//! What cannot be read is named, and never passes: each file of a node with each fault.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use atrest_tests::kubeadm::Node;
use atrest_tests::{atrest, binaries};
use rustix::fs::Mode;

const FILES: [&str; 27] = [
    "/etc/kubernetes/admin.conf",
    "/etc/kubernetes/controller-manager.conf",
    "/etc/kubernetes/kubelet.conf",
    "/etc/kubernetes/scheduler.conf",
    "/etc/kubernetes/super-admin.conf",
    "/etc/kubernetes/manifests/etcd.yaml",
    "/etc/kubernetes/manifests/kube-apiserver.yaml",
    "/etc/kubernetes/manifests/kube-controller-manager.yaml",
    "/etc/kubernetes/manifests/kube-scheduler.yaml",
    "/etc/kubernetes/pki/apiserver-etcd-client.crt",
    "/etc/kubernetes/pki/apiserver-etcd-client.key",
    "/etc/kubernetes/pki/apiserver-kubelet-client.crt",
    "/etc/kubernetes/pki/apiserver-kubelet-client.key",
    "/etc/kubernetes/pki/apiserver.crt",
    "/etc/kubernetes/pki/apiserver.key",
    "/etc/kubernetes/pki/ca.crt",
    "/etc/kubernetes/pki/ca.key",
    "/etc/kubernetes/pki/etcd/ca.crt",
    "/etc/kubernetes/pki/etcd/healthcheck-client.crt",
    "/etc/kubernetes/pki/etcd/peer.key",
    "/etc/kubernetes/pki/etcd/server.crt",
    "/etc/kubernetes/pki/front-proxy-ca.crt",
    "/etc/kubernetes/pki/front-proxy-client.crt",
    "/etc/kubernetes/pki/front-proxy-client.key",
    "/etc/kubernetes/pki/sa.key",
    "/etc/kubernetes/pki/sa.pub",
    "/var/lib/kubelet/config.yaml",
];

type Fault = (&'static str, fn(&Path));

const FAULTS: [Fault; 9] = [
    ("cut in the middle", |path| {
        let length = fs::metadata(path).unwrap().len();
        File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_len(length / 2)
            .unwrap();
    }),
    ("empty", |path| fs::write(path, "").unwrap()),
    ("huge", |path| {
        File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_len(17 << 20)
            .unwrap();
    }),
    ("a FIFO", |path| {
        fs::remove_file(path).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, path, Mode::from_raw_mode(0o600)).unwrap();
    }),
    ("a link to itself", |path| {
        fs::remove_file(path).unwrap();
        symlink(path.file_name().unwrap(), path).unwrap();
    }),
    ("a directory", |path| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
    }),
    ("not UTF-8", |path| fs::write(path, [0xff; 4_000]).unwrap()),
    ("text", |path| {
        fs::write(path, "lorem ipsum\n".repeat(50)).unwrap()
    }),
    ("another kind of PEM", |path| {
        fs::write(
            path,
            "-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n",
        )
        .unwrap();
    }),
];

fn node() -> Node {
    let node = Node::new();
    node.write(
        "/var/lib/kubelet/config.yaml",
        "kind: KubeletConfiguration\nauthentication: {x509: {clientCAFile: /etc/kubernetes/pki/ca.crt}}\n",
    );
    node.chmod("/var/lib/kubelet/config.yaml", 0o644);
    node
}

fn assert_named(ended: &atrest::Ended, path: &str, cell: &str) {
    assert_eq!(ended.status, Some(3), "{cell}: {}", ended.stdout);
    let report = ended.json();
    assert_eq!(report["verdict"], "unknown", "{cell}");
    let unread = report["unread"].as_array().unwrap();
    let names = |it: &serde_json::Value| it["input"].as_str().unwrap().starts_with(path);
    assert!(unread.iter().any(names), "{cell}: {unread:?}");
}

#[test]
fn every_fault_of_every_file_is_named_and_none_passes() {
    let node = node();
    super::check(&node, &[]).expect(0);
    let aside = tempfile::tempdir().unwrap();
    let aside = aside.path().join("whole");
    for path in FILES {
        let place = node.path(path);
        for (name, fault) in FAULTS {
            fs::copy(&place, &aside).unwrap();
            fault(&place);
            assert_named(&super::check(&node, &[]), path, &format!("{path}: {name}"));
            let _ = fs::remove_file(&place).or_else(|_| fs::remove_dir(&place));
            fs::copy(&aside, &place).unwrap();
        }
        super::check(&node, &[]).expect(0);
    }
}

/// As a user for whom modes count.
#[test]
fn a_file_or_directory_that_may_not_be_read_is_named() {
    const NOBODY: u32 = 65_534;

    let is_root = rustix::process::geteuid().is_root();
    let program = tempfile::tempdir().unwrap();
    fs::set_permissions(program.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = program.path().join("atrest");
    // A process of its own: what this one has open for writing, a fork of another test would have, too,
    // and nothing could run it.
    let cp = Command::new("cp")
        .arg(binaries::path("atrest"))
        .arg(&copy)
        .status();
    assert!(cp.unwrap().success());
    let check = |node: &Node| {
        let mut command = Command::new(&copy);
        command.args(["check", "certificates", "--output", "json", "--root"]);
        command.arg(node.root());
        if is_root {
            let chown = Command::new("chown")
                .args(["-R", &format!("{NOBODY}:{NOBODY}")])
                .arg(node.root())
                .status();
            assert!(chown.unwrap().success());
            command.uid(NOBODY).gid(NOBODY);
        }
        atrest::Ended::from(command.output().unwrap())
    };
    let node = node();
    check(&node).expect(0);
    for path in FILES {
        let mode = fs::metadata(node.path(path)).unwrap().permissions().mode();
        node.chmod(path, 0);
        assert_named(&check(&node), path, path);
        node.chmod(path, mode & 0o7777);
    }
    for path in [
        "/etc/kubernetes",
        "/etc/kubernetes/manifests",
        "/etc/kubernetes/pki",
        "/etc/kubernetes/pki/etcd",
        "/var/lib/kubelet",
    ] {
        node.chmod(path, 0);
        assert_named(&check(&node), path, path);
        node.chmod(path, 0o755);
    }
    check(&node).expect(0);
}

/// A link is followed inside the directory that stands for `/`, and never out of it.
#[test]
fn links_stay_below_the_root() {
    let node = node();
    let crt = "/etc/kubernetes/pki/apiserver.crt";
    let moved = node.path("/srv/apiserver.crt");
    fs::create_dir(node.path("/srv")).unwrap();
    fs::rename(node.path(crt), &moved).unwrap();
    symlink("/srv/apiserver.crt", node.path(crt)).unwrap();
    super::check(&node, &[]).expect(0);
    fs::remove_file(node.path(crt)).unwrap();
    symlink(&moved, node.path(crt)).unwrap();
    let report = super::check(&node, &[]).expect(1).json();
    assert_eq!(
        super::findings(&report),
        [("AR-X009".to_owned(), crt.to_owned())]
    );
}

/// What is damaged says so in words of ours: nothing of a file is quoted.
#[test]
fn no_byte_of_a_key_is_in_any_output() {
    let node = node();
    let key = "/etc/kubernetes/pki/apiserver.key";
    let canary = "QVRSRVNUQ0FOQVJZQVRSRVNUQ0FOQVJZ";
    let conf = node.text("/etc/kubernetes/admin.conf");
    let line = conf
        .lines()
        .find(|line| line.contains("client-key-data"))
        .unwrap();
    let pieces: Vec<String> = line
        .split(": ")
        .nth(1)
        .unwrap()
        .as_bytes()
        .chunks(12)
        .map(|piece| String::from_utf8(piece.to_vec()).unwrap())
        .filter(|piece| piece.len() == 12)
        .skip(6) // what every key begins with
        .collect();
    node.write(
        key,
        format!("-----BEGIN PRIVATE KEY-----\n{canary}\n-----END PRIVATE KEY-----\n"),
    );
    node.write(
        "/etc/kubernetes/scheduler.conf",
        format!("users: [{{name: a, user: {{token: {canary}, client-key-data: [{canary}}}]\n{canary}: : :"),
    );
    node.write(
        "/etc/kubernetes/controller-manager.conf",
        format!(
            "clusters: []\nusers: [{{name: a, user: {{token: {canary}, password: {canary}}}}}]\n"
        ),
    );
    node.write(
        "/etc/kubernetes/manifests/etcd.yaml",
        format!("{canary}\n- {canary}: ["),
    );
    for output in ["text", "json", "yaml"] {
        let root = node.root().to_str().unwrap();
        let ended = atrest::run(["check", "certificates", "--output", output, "--root", root]);
        for piece in pieces.iter().map(String::as_str).chain([canary]) {
            assert!(
                !ended.stdout.contains(piece) && !ended.stderr.contains(piece),
                "{output}"
            );
        }
        assert!(ended.stdout.contains("apiserver.key"));
    }
}
