//! A control-plane node: kubeadm's phases, containerd, the kubelet and its static pods.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::machine::{Hub, Machine, Service, run};
use super::{READY, cgroups, image, ssh};
use crate::keeper::Keeper;
use crate::programs::{KUBERNETES, Programs};

const CONTAINERD: &str = "unix:///run/containerd/containerd.sock";
const KUBEADM_CONFIG: &str = "/etc/kubeadm.yaml";
const KUBELET_CONFIG: &str = "/var/lib/kubelet/config.yaml";
const MANIFESTS: &str = "/etc/kubernetes/manifests";
const PKI: &str = "/etc/kubernetes/pki";

/// Of a node that joins: how, and where the cluster is found.
const JOIN_CONFIG: &str = "/etc/kubeadm-join.yaml";
const DISCOVERY: &str = "/etc/kubeadm-discovery.conf";

/// What `kubeadm join --control-plane` wants to be copied before.
const SHARED_BY_CONTROL_PLANES: [&str; 8] = [
    "ca.crt",
    "ca.key",
    "etcd/ca.crt",
    "etcd/ca.key",
    "front-proxy-ca.crt",
    "front-proxy-ca.key",
    "sa.key",
    "sa.pub",
];

/// The images of a control plane, by the program in each.
const IMAGES: [&str; 5] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "pause",
];

/// What a reboot does to files.
const EMPTY_RUN: &str = "
    cut -d ' ' -f 2 /proc/mounts | grep '^/run/' | sort -r | xargs -r umount --lazy
    rm -rf --one-file-system /run/*";

/// A machine that is ready to become a control-plane node: containerd runs, and has the images.
pub(super) struct Candidate {
    name: String,
    address: String,
    cgroup: String,
    machine: Machine,
    containerd: Service,
    programs: &'static Programs,
}

impl Candidate {
    pub(super) fn prepare(
        keeper: &Keeper,
        hub: &Hub,
        directory: &Path,
        cgroup: &str,
        number: usize,
    ) -> Self {
        let programs = Programs::required();
        let name = format!("node-{number}");
        let address = format!("10.77.0.{}", 10 + number);
        let cgroup = format!("{cgroup}/{name}");
        cgroups::create(&cgroup);
        let machine = Machine::start(
            keeper,
            programs,
            hub,
            directory.join(&name),
            &name,
            &address,
        );
        write(&machine, KUBEADM_CONFIG, &kubeadm_config(&name, &address));
        write(&machine, KUBELET_CONFIG, &kubelet_config(&cgroup));
        let names = kubeadm(
            &machine,
            programs,
            &format!("config images list --config {KUBEADM_CONFIG}"),
        );
        let name_of = |program: &str| {
            let found = names
                .lines()
                .find(|line| line.contains(&format!("/{program}:")));
            found.expect("kubeadm needs it").to_owned()
        };
        write(
            &machine,
            "/etc/containerd/config.toml",
            &containerd_config(&name_of("pause")),
        );
        let containerd = start_containerd(&machine);
        std::thread::scope(|scope| {
            for (i, program) in IMAGES.iter().enumerate() {
                let folder = machine.path(&format!("/var/tmp/{i}"));
                let (machine, image) = (&machine, name_of(program));
                scope.spawn(move || {
                    import(machine, &folder, &image, program, &programs.path(program));
                });
            }
        });
        Self {
            name,
            address,
            cgroup,
            machine,
            containerd,
            programs,
        }
    }

    /// The cluster's first node. Returns when its API server is ready.
    pub(super) fn init(self) -> Node {
        let kubeadm = |words: &str| {
            let words = format!("init phase {words} --config {KUBEADM_CONFIG}");
            kubeadm(&self.machine, self.programs, &words)
        };
        for phase in [
            "certs all",
            "kubeconfig all",
            "control-plane all",
            "etcd local",
        ] {
            kubeadm(phase);
        }
        let mut node = self.start_kubelet();
        // Before the next phase binds its role, the administrator may do nothing.
        let super_admin = node.path("/etc/kubernetes/super-admin.conf");
        node.wait("the node's registration", READY, |node| {
            let mut kubectl = node.command(node.programs.path("kubectl"));
            kubectl
                .arg("--kubeconfig=/etc/kubernetes/super-admin.conf")
                .args(["get", "node", &node.name]);
            super_admin.is_file() && kubectl.output().is_ok_and(|output| output.status.success())
        });
        for phase in ["upload-config all", "mark-control-plane"] {
            let mut command = node.kubeadm();
            command.args(["init", "phase"]).args(phase.split(' '));
            run(command.args(["--config", KUBEADM_CONFIG]));
        }
        node.wait_ready(READY);
        node
    }

    /// One more control-plane node with a member of etcd, by the phases of `kubeadm join
    /// --control-plane`. Returns when its API server is ready.
    pub(super) fn join(self, first: &Node) -> Node {
        for file in SHARED_BY_CONTROL_PLANES {
            let content = fs::read_to_string(first.path(PKI).join(file)).expect("kubeadm made it");
            write(&self.machine, &format!("{PKI}/{file}"), &content);
        }
        let admin = fs::read_to_string(first.path("/etc/kubernetes/admin.conf"));
        write(&self.machine, DISCOVERY, &admin.expect("kubeadm made it"));
        write(
            &self.machine,
            JOIN_CONFIG,
            &join_config(&self.name, &self.address),
        );
        let local = format!("init phase kubeconfig kubelet --config {KUBEADM_CONFIG}");
        kubeadm(&self.machine, self.programs, &local);
        let mut node = self.start_kubelet();
        for phase in [
            "control-plane-prepare certs",
            "control-plane-prepare kubeconfig",
            // Before the API server, which would fail without it and be kept waiting.
            "etcd-join",
            "control-plane-prepare control-plane",
        ] {
            let mut command = node.kubeadm();
            command.args(["join", "phase"]).args(phase.split(' '));
            run(command.args(["--config", JOIN_CONFIG]));
        }
        node.wait("the node's registration", READY, |node| {
            let mut kubectl = first.kubectl();
            kubectl.args(["get", "node", &node.name]);
            kubectl.output().is_ok_and(|output| output.status.success())
        });
        let mut command = node.kubeadm();
        command.args("join phase control-plane-join mark-control-plane".split(' '));
        run(command.args(["--config", JOIN_CONFIG]));
        node.wait_ready(READY);
        node
    }

    fn start_kubelet(self) -> Node {
        let kubelet = start_kubelet(&self.machine, self.programs, &self.address);
        Node {
            name: self.name,
            address: self.address,
            cgroup: self.cgroup,
            machine: self.machine,
            containerd: self.containerd,
            kubelet,
            sshd: None,
            images: AtomicUsize::new(IMAGES.len()),
            programs: self.programs,
        }
    }
}

/// A running control-plane node.
pub struct Node {
    name: String,
    address: String,
    cgroup: String,
    machine: Machine,
    containerd: Service,
    kubelet: Service,
    sshd: Option<Service>,
    images: AtomicUsize,
    programs: &'static Programs,
}

impl Node {
    /// The node's name in Kubernetes and its host name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The node's address in the nodes' network.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The API server's address, for whoever is on the node or on the hub.
    pub fn url(&self) -> String {
        format!("https://{}:6443", self.address)
    }

    /// Where on the host a path of the node is; it has to be below `/etc`, `/var` or `/run`.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.machine.path(inside)
    }

    /// A program of the host, run on the node as root: it sees the node's `/etc`, `/var`, `/run`,
    /// network and processes, and everything else as on the host.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.machine.command(program)
    }

    /// `kubeadm` on the node.
    pub fn kubeadm(&self) -> Command {
        self.command(self.programs.path("kubeadm"))
    }

    /// `kubectl` on the node, as the cluster's administrator.
    pub fn kubectl(&self) -> Command {
        let mut command = self.command(self.programs.path("kubectl"));
        command.arg("--kubeconfig=/etc/kubernetes/admin.conf");
        command
    }

    /// What kubeadm makes manifests from: the ClusterConfiguration that is stored in the cluster.
    pub fn cluster_configuration(&self) -> String {
        run(self.kubectl().args([
            "-n",
            "kube-system",
            "get",
            "configmap",
            "kubeadm-config",
            "-o",
            "jsonpath={.data.ClusterConfiguration}",
        ]))
    }

    /// `etcdctl` on the node, with the certificate of etcd's own probe.
    pub fn etcdctl(&self) -> Command {
        let mut command = self.command(self.programs.path("etcdctl"));
        command.args([
            "--endpoints=https://127.0.0.1:2379",
            "--cacert=/etc/kubernetes/pki/etcd/ca.crt",
            "--cert=/etc/kubernetes/pki/etcd/healthcheck-client.crt",
            "--key=/etc/kubernetes/pki/etcd/healthcheck-client.key",
        ]);
        command
    }

    /// The `--etcd-*` flags of `atrest` on the node.
    pub fn etcd_flags(&self) -> [&'static str; 8] {
        [
            "--etcd-endpoints",
            "https://127.0.0.1:2379",
            "--etcd-cacert",
            "/etc/kubernetes/pki/etcd/ca.crt",
            "--etcd-cert",
            "/etc/kubernetes/pki/etcd/healthcheck-client.crt",
            "--etcd-key",
            "/etc/kubernetes/pki/etcd/healthcheck-client.key",
        ]
    }

    /// Gives the node an image whose `/usr/local/bin/PROGRAM` is `binary`, named as `binary` is.
    pub fn load_image(&self, name: &str, binary: &Path) {
        let i = self.images.fetch_add(1, Ordering::Relaxed);
        let folder = self.path(&format!("/var/tmp/{i}"));
        let program = binary
            .file_name()
            .and_then(OsStr::to_str)
            .expect("a program");
        import(&self.machine, &folder, name, program, binary);
    }

    /// Writes a static pod's manifest; the kubelet starts the pod within a second or two.
    pub fn write_manifest(&self, name: &str, content: &str) {
        // The kubelet reads what it finds: the whole file or none.
        let new = self.path("/etc/kubernetes").join(format!(".{name}"));
        fs::write(&new, content).expect("our directory");
        fs::rename(&new, self.path(MANIFESTS).join(format!("{name}.yaml"))).expect("our directory");
    }

    /// Waits until the API server answers that it is ready.
    ///
    /// # Panics
    ///
    /// After the deadline, with the ends of the logs.
    pub fn wait_ready(&mut self, deadline: Duration) {
        self.wait("a ready API server", deadline, |node| {
            let mut kubectl = node.kubectl();
            let ready = kubectl.args(["--server", &node.url(), "get", "--raw=/readyz"]);
            ready.output().is_ok_and(|output| output.stdout == b"ok")
        });
    }

    /// Lets others join its cluster. Of a cluster of one node, a token would be one more Secret.
    pub(super) fn admit(&self) {
        let words = format!("init phase bootstrap-token --config {KUBEADM_CONFIG}");
        kubeadm(&self.machine, self.programs, &words);
    }

    /// Lets [`ssh::USER`] in over SSH, who may become root, and lets root of this node into the others
    /// so. `keys` is made once for all nodes.
    pub(super) fn open_ssh(&mut self, keys: &ssh::Keys) {
        ssh::configure(&self.machine, keys, &self.name, &self.address);
        self.sshd = Some(ssh::start(&self.machine));
    }

    /// Waits for a condition of the node; asks again and again.
    ///
    /// # Panics
    ///
    /// After the deadline, with the ends of the logs.
    pub fn wait(
        &mut self,
        what: &str,
        deadline: Duration,
        mut condition: impl FnMut(&Self) -> bool,
    ) {
        let start = Instant::now();
        while !condition(self) {
            let services = [
                ("containerd", self.containerd.has_ended()),
                ("kubelet", self.kubelet.has_ended()),
            ];
            if let Some((name, _)) = services.iter().find(|(_, ended)| *ended) {
                panic!("{name} ended before {what}\n{}", self.logs());
            }
            if start.elapsed() > deadline {
                panic!("after {deadline:?} still no {what}\n{}", self.logs());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The running containers of a static pod, given the name in its manifest, without the one that
    /// holds the pod's namespaces.
    pub fn containers(&self, pod: &str) -> Vec<String> {
        let filter = format!(
            "labels.\"io.kubernetes.pod.name\"=={pod}-{},labels.\"io.cri-containerd.kind\"==container",
            self.name
        );
        let running = self.tasks();
        let containers = run(self.ctr().args(["containers", "list", "--quiet", &filter]));
        let containers = containers.lines().map(str::to_owned);
        containers
            .filter(|container| running.contains(container))
            .collect()
    }

    /// Kills a static pod's containers and waits until the kubelet has started them again.
    pub fn restart_pod(&mut self, pod: &str) {
        let old = self.containers(pod);
        assert!(!old.is_empty(), "{pod} is not running\n{}", self.logs());
        for container in &old {
            run(self
                .ctr()
                .args(["tasks", "kill", "--signal", "SIGKILL", container]));
        }
        self.wait(&format!("new container of {pod}"), READY, |node| {
            let new = node.containers(pod);
            new.len() == old.len() && new.iter().all(|container| !old.contains(container))
        });
    }

    /// A reboot in small: every process of the node is killed at once, `/run` and its cgroups
    /// are empty, and containerd and the kubelet start again. Returns before the API server does.
    pub fn reboot(&mut self) {
        // All but the first, which holds the namespaces, and this shell.
        run(self.command("sh").args(["-c", "kill -s KILL -- -1"]));
        let start = Instant::now();
        while !(self.containerd.has_ended()
            && self.kubelet.has_ended()
            && self.machine.processes().is_empty())
        {
            assert!(
                start.elapsed() < READY,
                "{:?} live on",
                self.machine.processes()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        run(self.command("sh").args(["-c", EMPTY_RUN]));
        // What a kubelet finds here it takes for containers, and asks containerd at length.
        cgroups::empty(&self.cgroup);
        self.containerd = start_containerd(&self.machine);
        self.kubelet = start_kubelet(&self.machine, self.programs, &self.address);
        if self.sshd.is_some() {
            self.sshd = Some(ssh::start(&self.machine));
        }
    }

    /// The ends of what the kubelet, containerd and the pods logged.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        let mut logs: Vec<_> = ["containerd", "kubelet"]
            .map(|name| self.machine.log(name))
            .into();
        let pods = self
            .command("sh")
            .args(["-c", "ls -tr /var/log/pods/*/*/*.log"])
            .output();
        if let Ok(pods) = pods {
            let pods = String::from_utf8_lossy(&pods.stdout).into_owned();
            logs.extend(pods.lines().map(|log| self.path(log)));
        }
        for log in logs {
            let content = fs::read(&log).unwrap_or_default();
            let content = String::from_utf8_lossy(&content);
            let lines: Vec<_> = content.lines().collect();
            let _ = writeln!(text, "--- {}", log.display());
            for line in &lines[lines.len().saturating_sub(12)..] {
                let _ = writeln!(text, "{line:.400}");
            }
        }
        text
    }

    fn ctr(&self) -> Command {
        ctr(&self.machine)
    }

    /// Containers with a living process, those that hold pods' namespaces too.
    fn tasks(&self) -> Vec<String> {
        let list = run(self.ctr().args(["tasks", "list"]));
        let running = list.lines().filter(|line| line.ends_with("RUNNING"));
        running
            .filter_map(|line| line.split_whitespace().next())
            .map(str::to_owned)
            .collect()
    }
}

fn kubeadm(machine: &Machine, programs: &Programs, words: &str) -> String {
    let mut command = machine.command(programs.path("kubeadm"));
    run(command.args(words.split(' ')))
}

fn ctr(machine: &Machine) -> Command {
    let mut command = machine.command("ctr");
    command.args(["--namespace", "k8s.io"]);
    command
}

fn write(machine: &Machine, inside: &str, content: &str) {
    let path = machine.path(inside);
    fs::create_dir_all(path.parent().expect("below /etc or /var")).expect("our directory");
    fs::write(path, content).expect("our directory");
}

fn import(machine: &Machine, folder: &Path, name: &str, program: &str, binary: &Path) {
    let archive = image::archive(folder, name, program, binary);
    run(ctr(machine)
        .args(["images", "import", "--snapshotter", "native"])
        .arg(archive));
    let _ = fs::remove_dir_all(folder);
}

fn start_containerd(machine: &Machine) -> Service {
    let mut service = machine.service("containerd", Path::new("containerd"), &[]);
    let start = Instant::now();
    while !ctr(machine)
        .arg("version")
        .output()
        .is_ok_and(|output| output.status.success())
    {
        let log = machine.log("containerd");
        assert!(
            !service.has_ended() && start.elapsed() < READY,
            "containerd does not answer:\n{}",
            fs::read_to_string(log).unwrap_or_default()
        );
    }
    service
}

fn start_kubelet(machine: &Machine, programs: &Programs, address: &str) -> Service {
    machine.service(
        "kubelet",
        &programs.path("kubelet"),
        &[
            "--config",
            KUBELET_CONFIG,
            "--kubeconfig",
            "/etc/kubernetes/kubelet.conf",
            "--node-ip",
            address,
        ],
    )
}

fn kubeadm_config(name: &str, address: &str) -> String {
    format!(
        "\
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {{advertiseAddress: {address}, bindPort: 6443}}
nodeRegistration: {{name: {name}, criSocket: \"{CONTAINERD}\", imagePullPolicy: Never}}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: {KUBERNETES}
controlPlaneEndpoint: {address}:6443
encryptionAlgorithm: ECDSA-P256
apiServer:
  extraArgs:
  # For as long a write may be in flight, and rotations wait for that.
  - {{name: request-timeout, value: 5s}}
  extraEnvs:
  - {{name: ATREST_TEST_RELOAD_POLL, value: 1s}}
controllerManager:
  extraArgs:
  # kubeadm would mount one below the host's /usr.
  - {{name: flex-volume-plugin-dir, value: /var/lib/kubelet/volume-plugins}}
"
    )
}

fn join_config(name: &str, address: &str) -> String {
    format!(
        "\
apiVersion: kubeadm.k8s.io/v1beta4
kind: JoinConfiguration
discovery: {{file: {{kubeConfigPath: {DISCOVERY}}}}}
controlPlane: {{localAPIEndpoint: {{advertiseAddress: {address}, bindPort: 6443}}}}
nodeRegistration: {{name: {name}, criSocket: \"{CONTAINERD}\", imagePullPolicy: Never}}
timeouts: {{discovery: 60s}}
"
    )
}

fn kubelet_config(cgroup: &str) -> String {
    format!(
        "\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {{enabled: false}}
  webhook: {{enabled: true}}
  x509: {{clientCAFile: /etc/kubernetes/pki/ca.crt}}
authorization: {{mode: Webhook}}
cgroupDriver: cgroupfs
cgroupRoot: /{cgroup}
containerRuntimeEndpoint: \"{CONTAINERD}\"
enforceNodeAllocatable: []
evictionHard: {{memory.available: 1Mi, nodefs.available: 0%, imagefs.available: 0%}}
failCgroupV1: false
failSwapOn: false
fileCheckFrequency: 1s
imageGCHighThresholdPercent: 100
localStorageCapacityIsolation: false
staticPodPath: {MANIFESTS}
volumePluginDir: /var/lib/kubelet/volume-plugins
"
    )
}

/// The snapshotter copies; overlays cannot lie on the overlay that a container's own root is.
fn containerd_config(pause: &str) -> String {
    format!(
        "\
version = 2
[plugins.\"io.containerd.grpc.v1.cri\"]
sandbox_image = \"{pause}\"
disable_apparmor = true
restrict_oom_score_adj = true
[plugins.\"io.containerd.grpc.v1.cri\".containerd]
snapshotter = \"native\"
"
    )
}
