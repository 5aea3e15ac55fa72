//! The control plane as kubeadm makes it: nodes with a real kubelet and containerd that run the
//! control plane's static pods, in namespaces of their own. Needs root, and Debian for what is
//! not installed yet.
//!
//! A node is one process tree below the first process of a PID namespace, with a root directory in
//! which `/etc`, `/var` and `/run` are its own: nothing of the host's is written, and everything
//! ends with that process. The nodes' network is a namespace too; the host has no way into it, so
//! what talks to a node is run by [`Node::command`] or [`Nodes::command`].

mod cgroups;
mod image;
mod machine;
mod node;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

pub use node::Node;

use crate::keeper::Keeper;
use crate::packages;
use crate::programs::Programs;

/// How long anything of a node may take before a test gives up. A node is up in 20 s on two cores.
const READY: Duration = Duration::from_secs(180);

/// What nodes are made of.
const NEEDED: [packages::Needed; 7] = [
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("hostname", "hostname"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("runc", "runc"),
    ("unshare", "util-linux"),
];

/// A cluster of control-plane nodes. All of it goes when this is dropped, or when this process
/// ends in whatever way.
pub struct Nodes {
    nodes: Vec<Node>,
    hub: machine::Hub,
    directory: PathBuf,
    programs: &'static Programs,
    // Dropped last: it ends what is running and then removes cgroups and directory.
    _keeper: Keeper,
}

impl Nodes {
    /// Why there can be no nodes here; also installs the packages that they need.
    pub fn unavailable() -> Option<String> {
        if !rustix::process::geteuid().is_root() {
            return Some("nodes need root".into());
        }
        if let Err(error) = packages::install(&NEEDED) {
            return Some(error);
        }
        let namespaces = [
            "--net", "--uts", "--mount", "--ipc", "--pid", "--fork", "true",
        ];
        match machine::host("unshare").args(namespaces).output() {
            Ok(output) if output.status.success() => None,
            Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Some(format!("unshare: {error}")),
        }
    }

    /// Starts a cluster of `count` nodes and waits until its API server is ready. Each API server
    /// polls its EncryptionConfiguration every second, not once a minute.
    ///
    /// # Panics
    ///
    /// Where it cannot; see [`Nodes::unavailable`].
    pub fn start(count: usize) -> Self {
        static STARTED: AtomicUsize = AtomicUsize::new(0);

        assert_eq!(count, 1, "the harness cannot join further nodes yet");
        let programs = Programs::required();
        let keeper = Keeper::start();
        let directory = tempfile::Builder::new()
            .prefix("atrest-nodes-")
            .tempdir()
            .expect("the temporary directory can be written")
            .keep();
        keeper.remove(&directory);
        let started = STARTED.fetch_add(1, Ordering::Relaxed);
        let cgroup = format!("atrest-{}-{started}", std::process::id());
        let hub = machine::Hub::start(&keeper, programs);
        let nodes = (1..=count)
            .map(|number| Node::start_first(&keeper, &hub, &directory, &cgroup, number))
            .collect();
        Self {
            nodes,
            hub,
            directory,
            programs,
            _keeper: keeper,
        }
    }

    /// The nodes; the first one was there first.
    pub fn nodes(&mut self) -> &mut [Node] {
        &mut self.nodes
    }

    /// Below which everything of this cluster is; tests may put their files there.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// An administrator's kubeconfig, for [`Nodes::command`].
    pub fn kubeconfig(&self) -> PathBuf {
        self.nodes[0].path("/etc/kubernetes/admin.conf")
    }

    /// A program on the host, as on an administrator's machine beside the nodes: it sees the
    /// nodes' network, and the host's files and processes.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.hub.command(program);
        command.env("HOME", &self.directory);
        command
    }

    /// `kubectl` beside the nodes, as the cluster's administrator.
    pub fn kubectl(&self) -> Command {
        let mut command = self.command(self.programs.path("kubectl"));
        command.arg("--kubeconfig").arg(self.kubeconfig());
        command
    }
}
