//! What kubeadm puts on the disk of a control-plane node, without the node: its PKI, kubeconfigs and
//! static pods below a directory of ours.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::keeper::Keeper;
use crate::programs::{KUBERNETES, Programs};

const CONFIG: &str = "kubeadm.yaml";

/// A directory that is a node's `/`. It goes when it is dropped.
pub struct Node(TempDir);

impl Default for Node {
    fn default() -> Self {
        Self::new()
    }
}

impl Node {
    /// A copy of a node that kubeadm made, once for all tests of a process.
    pub fn new() -> Self {
        static TEMPLATE: OnceLock<(PathBuf, Keeper)> = OnceLock::new();

        // What is static is never dropped: the keeper removes it after this process.
        let (template, _) = TEMPLATE.get_or_init(|| {
            let keeper = Keeper::start();
            let template = make().keep();
            keeper.remove(&template);
            (template, keeper)
        });
        let copy = directory();
        let status = Command::new("cp")
            .args(["-a", "-T"])
            .args([template, copy.path()])
            .status();
        assert!(status.expect("cp is there").success());
        Self(copy)
    }

    /// Its `/`.
    pub fn root(&self) -> &Path {
        self.0.path()
    }

    /// Where a file of the node is.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root().join(path.trim_start_matches('/'))
    }

    /// A file of its PKI.
    pub fn pki(&self, name: &str) -> PathBuf {
        self.path("/etc/kubernetes/pki").join(name)
    }

    /// A file's text.
    pub fn text(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Gives a file another text; its mode stays.
    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(path), text).unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    /// Sets a mode.
    pub fn chmod(&self, path: &str, mode: u32) {
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(self.path(path), permissions).expect("it is ours");
    }

    /// kubeadm, for which the directory is `/`.
    pub fn kubeadm(&self, arguments: &[&str]) -> Output {
        kubeadm(self.root(), arguments)
    }
}

/// For `kubeadm init phase`, with more of the ClusterConfiguration.
pub(crate) fn config(more: &str) -> String {
    format!(
        "apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {{advertiseAddress: 10.77.0.1, bindPort: 6443}}
nodeRegistration: {{name: atrest}}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: {KUBERNETES}
encryptionAlgorithm: ECDSA-P256
{more}"
    )
}

fn directory() -> TempDir {
    let directory = tempfile::Builder::new()
        .prefix("atrest-disk-")
        .tempdir()
        .expect("the temporary directory can be written");
    let permissions = fs::Permissions::from_mode(0o755);
    fs::set_permissions(directory.path(), permissions).expect("it is ours");
    directory
}

fn make() -> TempDir {
    let directory = directory();
    let root = directory.path();
    fs::create_dir_all(root.join("etc")).expect("it is ours");
    fs::create_dir_all(root.join("var/lib/kubelet")).expect("it is ours");
    let config = config("controlPlaneEndpoint: api.example.org:6443\n");
    fs::write(root.join(CONFIG), config).expect("it is ours");
    for phase in [
        ["certs", "all"],
        ["kubeconfig", "all"],
        ["control-plane", "all"],
        ["etcd", "local"],
    ] {
        let mut arguments = vec!["init", "phase"];
        arguments.extend(phase);
        let output = kubeadm(root, &arguments);
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubeadm {phase:?}: {words}");
    }
    directory
}

/// `--rootfs` needs a user who may call chroot: in a namespace of its own everybody may.
fn kubeadm(root: &Path, arguments: &[&str]) -> Output {
    let program = Programs::required().path("kubeadm");
    let mut command = match rustix::process::geteuid().is_root() {
        true => Command::new(program),
        false => {
            let mut command = Command::new("unshare");
            command.arg("--map-root-user").arg(program);
            command
        }
    };
    command.arg("--rootfs").arg(root).args(arguments);
    command.args(["--config", &format!("/{CONFIG}")]);
    command.output().expect("kubeadm was built")
}
