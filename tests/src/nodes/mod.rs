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
pub mod secrets;
mod ssh;

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

pub use machine::run;
pub use node::Node;
pub use ssh::USER;

use self::node::Candidate;
use crate::keeper::Keeper;
use crate::packages;
use crate::programs::Programs;

/// How long anything of a node may take before a test gives up. A node is up in 20 s on two cores.
const READY: Duration = Duration::from_secs(180);

/// What nodes are made of.
const NEEDED: [packages::Needed; 11] = [
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("hostname", "hostname"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("runc", "runc"),
    ("ssh", "openssh-client"),
    ("ssh-keygen", "openssh-client"),
    ("sshd", "openssh-server"),
    ("sudo", "sudo"),
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
    fn unavailable() -> Option<String> {
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

    /// Whether there can be nodes; says so once where there cannot.
    ///
    /// # Panics
    ///
    /// Where there cannot and `ATREST_REQUIRE_NODES=1` says that there must be.
    pub fn available() -> bool {
        static UNAVAILABLE: OnceLock<Option<String>> = OnceLock::new();
        let reason = UNAVAILABLE.get_or_init(|| {
            let reason = Self::unavailable()?;
            // Not eprintln!, which the test runner keeps to itself.
            let _ = writeln!(std::io::stderr(), "skipped: every test of nodes: {reason}");
            Some(reason)
        });
        let required = std::env::var_os("ATREST_REQUIRE_NODES").is_some_and(|value| value == "1");
        match reason {
            None => true,
            Some(reason) if required => panic!("ATREST_REQUIRE_NODES=1, but: {reason}"),
            Some(_) => false,
        }
    }

    /// Starts a cluster of `count` nodes and waits until its API server is ready. Each API server
    /// polls its EncryptionConfiguration every second, not once a minute.
    ///
    /// # Panics
    ///
    /// Where it cannot; see [`Nodes::available`].
    pub fn start(count: usize) -> Self {
        static STARTED: AtomicUsize = AtomicUsize::new(0);

        assert!(count > 0, "a cluster has a node");
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
        // Once all nodes' processes have ended: any of them would keep it.
        cgroups::remove(&keeper, &cgroup);
        let hub = machine::Hub::start(&keeper, programs);
        let prepare = |number| Candidate::prepare(&keeper, &hub, &directory, &cgroup, number);
        let nodes = std::thread::scope(|scope| {
            // The first node starts while the others load their images.
            let further = scope.spawn(|| (2..=count).map(prepare).collect::<Vec<_>>());
            let mut nodes = vec![prepare(1).init()];
            if count > 1 {
                nodes[0].admit();
            }
            for candidate in further.join().expect("it says itself why not") {
                // One member at a time joins an etcd.
                let node = candidate.join(&nodes[0]);
                nodes.push(node);
            }
            nodes
        });
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

    /// Starts an sshd in every node, in which [`USER`] may become root by `sudo -n`. Root of each
    /// node knows them all and has the key; on other machines it is in [`Nodes::directory`].
    pub fn open_ssh(&mut self) {
        let addresses: Vec<_> = self
            .nodes
            .iter()
            .map(|node| node.address().to_owned())
            .collect();
        let keys = ssh::Keys::make(&self.directory.join("ssh"), &addresses);
        for node in &mut self.nodes {
            node.open_ssh(&keys);
        }
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
