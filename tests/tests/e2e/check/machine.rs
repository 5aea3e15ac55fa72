//! A control plane as a node: its directory is the machine's `/`, its programs are in the manifests there.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use atrest_tests::atrest::{self, Ended};
use atrest_tests::processes::{ControlPlane, Options, free_ports};
use atrest_tests::programs::Programs;

/// kube-apiserver, etcd, kube-controller-manager and kube-scheduler, with kubeadm's PKI and kubeconfigs.
pub(super) struct Machine {
    pub(super) plane: ControlPlane,
    children: Vec<(&'static str, Child)>,
}

impl Drop for Machine {
    fn drop(&mut self) {
        for (_, child) in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

const CONFS: [&str; 5] = [
    "admin",
    "super-admin",
    "controller-manager",
    "scheduler",
    "kubelet",
];

impl Machine {
    pub(super) fn start() -> Self {
        let plane = ControlPlane::start(Options::default());
        let directory = plane.directory().to_owned();
        let kubernetes = directory.join("etc/kubernetes");
        fs::create_dir_all(kubernetes.join("manifests")).unwrap();
        symlink("/pki", kubernetes.join("pki")).unwrap();
        let kubeadm = Command::new(Programs::required().path("kubeadm"))
            .args(["init", "phase", "kubeconfig", "all", "--config"])
            .arg(directory.join("kubeadm.yaml"))
            .arg("--kubeconfig-dir")
            .arg(&kubernetes)
            .output()
            .unwrap();
        assert!(kubeadm.status.success(), "{kubeadm:?}");
        let mut machine = Self {
            plane,
            children: Vec::new(),
        };
        let url = machine.plane.servers[0].url.clone();
        for name in CONFS {
            let path = format!("/etc/kubernetes/{name}.conf");
            let text = machine.text(&path);
            // By the end point of the cluster, and by that of this node.
            let text = text.replace("https://127.0.0.1:6443", &url);
            machine.write(&path, text.replace("https://10.77.0.1:6443", &url));
        }
        machine.manifest("kube-apiserver", machine.plane.servers[0].pid());
        machine.manifest("etcd", machine.plane.etcd.pid());
        // Others want files and flags of a whole cluster, and end without.
        let controllers = &["--controllers=ttl-controller"][..];
        machine.launch(
            "kube-controller-manager",
            "controller-manager.conf",
            controllers,
        );
        machine.launch("kube-scheduler", "scheduler.conf", &[]);
        machine
    }

    fn launch(&mut self, program: &'static str, conf: &str, more: &[&str]) {
        let [port] = free_ports::<1>();
        let log = fs::File::create(self.path(&format!("/{program}.log"))).unwrap();
        let mut command = Command::new(Programs::required().path(program));
        command
            .arg("--kubeconfig")
            .arg(self.path(&format!("/etc/kubernetes/{conf}")))
            .args(["--leader-elect=false", "--bind-address=127.0.0.1"])
            .arg(format!("--secure-port={port}"))
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let mut child = self.plane.spawn(&mut command).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = child.try_wait().unwrap();
            let is_waiting = Instant::now() < deadline && ended.is_none();
            assert!(
                is_waiting,
                "{program}: {}",
                self.text(&format!("/{program}.log"))
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        self.manifest(program, child.id());
        self.children.push((program, child));
    }

    /// A static pod's manifest for a process: the very same command line.
    fn manifest(&self, program: &str, pid: u32) {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        let line = String::from_utf8(line).unwrap();
        let words = line.trim_end_matches('\0').split('\0');
        let words: Vec<_> = words.map(|word| format!("    - {word:?}\n")).collect();
        let directory = self.plane.directory().display();
        let manifest = format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: {program}, namespace: kube-system}}
spec:
  containers:
  - name: {program}
    image: registry.k8s.io/{program}
    command:
{}    volumeMounts:
    - {{name: pki, mountPath: {directory}/pki}}
    - {{name: kubernetes, mountPath: {directory}/etc/kubernetes}}
  volumes:
  - {{name: pki, hostPath: {{path: /pki}}}}
  - {{name: kubernetes, hostPath: {{path: /etc/kubernetes}}}}
",
            words.concat()
        );
        self.write(
            &format!("/etc/kubernetes/manifests/{program}.yaml"),
            manifest,
        );
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.plane.directory().join(path.trim_start_matches('/'))
    }

    pub(super) fn text(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub(super) fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(path), text).unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    /// `atrest check certificates --live`, as JSON.
    pub(super) fn check(&self) -> Ended {
        for (program, child) in &self.children {
            let is_there = fs::exists(format!("/proc/{}/exe", child.id())).unwrap();
            assert!(
                is_there,
                "{program}: {}",
                self.text(&format!("/{program}.log"))
            );
        }
        let root = self.plane.directory().to_str().unwrap();
        let kubeconfig = self.plane.servers[0].kubeconfig.to_str().unwrap();
        atrest::run([
            "check",
            "certificates",
            "--live",
            "--output",
            "json",
            "--root",
            root,
            "--kubeconfig",
            kubeconfig,
        ])
    }
}
