//! The control plane as plain processes on loopback: etcd and one to three API servers.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use kube::config::{KubeConfigOptions, Kubeconfig};
use sha2::{Digest, Sha256};

use crate::keeper::Keeper;
use crate::kubeadm;
use crate::programs::{self, Programs};

/// How long a start may take before a test gives up. It takes 4 s on two idle cores.
const READY: Duration = Duration::from_secs(120);

/// What an API server without encryption reads: every Secret in plaintext.
pub const PLAINTEXT: &str = "\
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources:
  - secrets
  providers:
  - identity: {}
";

/// How to start a control plane.
#[derive(Clone, Debug)]
pub struct Options {
    /// API servers, 1 to 3.
    pub servers: usize,
    /// How often each polls its EncryptionConfiguration; `None` is the stock 60 s.
    pub reload_poll: Option<Duration>,
    /// The API servers' `--request-timeout`; stock is 60 s.
    pub request_timeout: Duration,
    /// The EncryptionConfiguration that each starts with.
    pub encryption_config: String,
    /// Whether the API servers are those of [`programs::BEFORE_HASHES`]; where
    /// `ATREST_TEST_BEFORE_HASHES` is set, they always are.
    pub before_hashes: bool,
    /// One of [`programs::ETCD`]; without it the newest one, or that of `KUBEBUILDER_ASSETS`.
    pub etcd_release: Option<&'static str>,
    /// Further flags of etcd.
    pub etcd: &'static [&'static str],
    /// Whether each API server keeps an audit log, which kubeadm's do not.
    pub audit: bool,
    /// Whether the API servers keep the endpoints of the Service `default/kubernetes`, at addresses that
    /// nobody listens on.
    pub reconciles_endpoints: bool,
    /// Further flags of each API server.
    pub api_server: &'static [&'static str],
    /// A resource that is kept in a second etcd, as `--etcd-servers-overrides` names it.
    pub elsewhere: Option<&'static str>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            servers: 1,
            reload_poll: Some(Duration::from_secs(1)),
            request_timeout: Duration::from_secs(5),
            encryption_config: PLAINTEXT.into(),
            before_hashes: std::env::var_os("ATREST_TEST_BEFORE_HASHES").is_some(),
            etcd_release: None,
            etcd: &[],
            audit: true,
            reconciles_endpoints: false,
            api_server: &[],
            elsewhere: None,
        }
    }
}

/// A running control plane. Its processes and its directory go when it is dropped, or when this
/// process ends in whatever way.
pub struct ControlPlane {
    /// etcd, over mutual TLS with a CA of its own.
    pub etcd: Etcd,
    /// Of [`Options::elsewhere`].
    pub second_etcd: Option<Etcd>,
    /// The API servers.
    pub servers: Vec<ApiServer>,
    directory: PathBuf,
    options: Options,
    programs: &'static Programs,
    // Dropped last: it ends what is still running and removes the directory.
    keeper: Arc<Keeper>,
}

/// A running etcd.
pub struct Etcd {
    /// `https://127.0.0.1:PORT`.
    pub endpoint: String,
    /// The CA that signed its certificate.
    pub ca: PathBuf,
    /// The client certificate that kube-apiserver uses.
    pub cert: PathBuf,
    /// That certificate's key.
    pub key: PathBuf,
    process: Process,
}

/// A running API server.
pub struct ApiServer {
    /// `https://127.0.0.1:PORT`.
    pub url: String,
    /// Its port on 127.0.0.1.
    pub port: u16,
    /// Its own EncryptionConfiguration.
    pub encryption_config: PathBuf,
    /// An administrator's kubeconfig for this server.
    pub kubeconfig: PathBuf,
    /// What it logged.
    pub log: PathBuf,
    /// Where it runs: `unix:///proc/self/cwd/...` is another socket for each.
    pub directory: PathBuf,
    process: Option<Process>,
}

/// A running kube-controller-manager.
pub struct Migrator(Process);

impl Migrator {
    /// The process.
    pub fn pid(&self) -> u32 {
        self.0.0.id()
    }
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl ControlPlane {
    /// Starts etcd and the API servers, and waits until each is ready.
    pub fn start(options: Options) -> Self {
        let programs = Programs::required();
        let keeper = Arc::new(Keeper::start());
        let directory = tempfile::Builder::new()
            .prefix("atrest-control-plane-")
            .tempdir()
            .expect("the temporary directory can be written")
            .keep();
        keeper.remove(&directory);

        let [client, peer, second, second_peer, ports @ ..] = free_ports::<7>();
        pki(programs, &directory).expect("kubeadm makes the PKI");
        let program = etcd_program(programs, &options, "etcd");
        let start_etcd = |name: &str, ports: [u16; 2]| {
            start_etcd(&program, &keeper, &directory, name, ports, options.etcd)
        };
        let etcd = start_etcd("etcd", [client, peer]);
        let second_etcd = options
            .elsewhere
            .map(|_| start_etcd("etcd-2", [second, second_peer]));
        let mut plane = Self {
            etcd,
            second_etcd,
            servers: Vec::new(),
            directory,
            options,
            programs,
            keeper,
        };
        for (i, port) in ports.into_iter().take(plane.options.servers).enumerate() {
            let server = plane.prepare_server(i, port);
            plane.servers.push(server);
        }
        for i in 0..plane.servers.len() {
            plane.launch(i);
            // Servers of 1.33 that find an empty etcd together end: "another caller has already
            // initialized" the record of Services' addresses. A kubelet would start them again.
            if plane.options.before_hashes {
                plane.wait_ready(i);
            }
        }
        for i in 0..plane.servers.len() {
            plane.wait_ready(i);
        }
        plane.wait_for_leases();
        plane
    }

    /// Where this control plane keeps its files; tests may put theirs there.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The PKI of `kubeadm init phase certs all`.
    pub fn pki(&self) -> PathBuf {
        self.directory.join("pki")
    }

    /// The API servers' `--request-timeout`: how long a write may be in flight.
    pub fn request_timeout(&self) -> Duration {
        self.options.request_timeout
    }

    /// The audit log of an API server, at level Metadata.
    pub fn audit_log(&self, server: usize) -> PathBuf {
        self.directory.join(format!("audit-{server}.log"))
    }

    /// Kills an API server as a power cut would.
    pub fn kill(&mut self, server: usize) {
        self.servers[server].process = None;
    }

    /// Starts an API server again and waits until it is ready.
    pub fn restart(&mut self, server: usize) {
        self.relaunch(server);
        self.wait_ready(server);
    }

    /// Starts an API server again, which may not become ready yet.
    pub fn relaunch(&mut self, server: usize) {
        self.kill(server);
        self.launch(server);
    }

    /// A client of an API server, for the runtime that this is called in.
    pub async fn client(&self, server: usize) -> kube::Client {
        self.servers[server].client().await
    }

    /// `kubectl` as an administrator of an API server.
    pub fn kubectl(&self, server: usize) -> Command {
        let mut command = Command::new(self.programs.path("kubectl"));
        command
            .arg("--kubeconfig")
            .arg(&self.servers[server].kubeconfig);
        command.env("HOME", &self.directory);
        command
    }

    /// Whether its API servers say which EncryptionConfiguration they have loaded.
    pub fn tells_hashes(&self) -> bool {
        !self.options.before_hashes
    }

    /// Gives an EncryptionConfiguration to an API server and waits until it says that it runs with it.
    #[track_caller]
    pub fn load(&self, server: usize, content: &[u8]) {
        let ApiServer {
            encryption_config,
            log,
            ..
        } = &self.servers[server];
        if !self.tells_hashes() && fs::read(encryption_config).is_ok_and(|now| now == content) {
            return;
        }
        let before = self.metrics(server);
        fs::write(encryption_config, content).expect("our directory");
        let hash = HEXLOWER.encode(&Sha256::digest(content));
        let loaded = format!("hash=\"sha256:{hash}\"}} 1");
        let deadline = Instant::now() + Duration::from_secs(90);
        loop {
            let now = self.metrics(server);
            let is_loaded = match now.contains("last_config_info{") {
                true => now.contains(&loaded),
                false => reloads(&now) != reloads(&before),
            };
            if is_loaded {
                return;
            }
            let last = tail(log);
            assert!(Instant::now() < deadline, "not loaded: {last}");
        }
    }

    fn metrics(&self, server: usize) -> String {
        let mut kubectl = self.kubectl(server);
        let of = "/metrics?name%5B%5D=apiserver_encryption_config_controller";
        let raw = format!("--raw={of}_last_config_info&name%5B%5D={RELOADS}");
        let metrics = kubectl.args(["get", &raw]).output();
        let metrics = metrics.expect("kubectl was built").stdout;
        String::from_utf8_lossy(&metrics).into_owned()
    }

    /// `etcdctl` with the client certificate.
    pub fn etcdctl(&self) -> Command {
        let program = etcd_program(self.programs, &self.options, "etcdctl");
        let mut command = Command::new(program);
        command
            .args(["--endpoints", &self.etcd.endpoint])
            .arg("--cacert")
            .arg(&self.etcd.ca)
            .arg("--cert")
            .arg(&self.etcd.cert)
            .arg("--key")
            .arg(&self.etcd.key);
        command
    }

    /// The `--etcd-*` flags of `atrest`.
    pub fn etcd_flags(&self) -> Vec<String> {
        let path = |path: &Path| path.display().to_string();
        vec![
            "--etcd-endpoints".into(),
            self.etcd.endpoint.clone(),
            "--etcd-cacert".into(),
            path(&self.etcd.ca),
            "--etcd-cert".into(),
            path(&self.etcd.cert),
            "--etcd-key".into(),
            path(&self.etcd.key),
        ]
    }

    /// Starts the controller of StorageVersionMigrations, and waits until it sees all objects. It ends
    /// when what is returned is dropped.
    pub fn start_migrator(&self) -> Migrator {
        let log = self.directory.join("kube-controller-manager.log");
        let _ = fs::remove_file(&log);
        let mut command = Command::new(self.programs.path("kube-controller-manager"));
        command
            .arg("--kubeconfig")
            .arg(&self.servers[0].kubeconfig)
            .arg("--controllers=storage-version-migrator-controller,garbage-collector-controller")
            .args(["--leader-elect=false", "--secure-port=0"]);
        let process = start(&self.keeper, &mut command, &log);
        let deadline = Instant::now() + READY;
        while !fs::read_to_string(&log)
            .unwrap_or_default()
            .contains("all resource monitors have synced")
        {
            assert!(Instant::now() < deadline, "no migrator: {}", tail(&log));
            std::thread::sleep(Duration::from_millis(50));
        }
        Migrator(process)
    }

    /// Starts another process of the test, which ends with this control plane.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        let child = command.spawn()?;
        self.keeper.end(child.id());
        Ok(child)
    }

    fn prepare_server(&self, i: usize, port: u16) -> ApiServer {
        let url = format!("https://127.0.0.1:{port}");
        let encryption_config = self.directory.join(format!("encryption-{i}.yaml"));
        fs::write(&encryption_config, &self.options.encryption_config).expect("our directory");
        let kubeconfig = self.directory.join(format!("admin-{i}.conf"));
        let admin = fs::read_to_string(self.directory.join("super-admin.conf"))
            .expect("kubeadm wrote it")
            .replace("https://127.0.0.1:6443", &url);
        fs::write(&kubeconfig, admin).expect("our directory");
        let directory = self.directory.join(format!("server-{i}"));
        fs::create_dir_all(&directory).expect("our directory");
        ApiServer {
            url,
            directory,
            port,
            encryption_config,
            kubeconfig,
            log: self.directory.join(format!("kube-apiserver-{i}.log")),
            process: None,
        }
    }

    fn launch(&mut self, i: usize) {
        let server = &self.servers[i];
        let pki = |name: &str| self.pki().join(name).display().to_string();
        let (advertised, reconciler) = match self.options.reconciles_endpoints {
            false => ("127.0.0.1".into(), "none"),
            // No endpoint may be on loopback.
            true => (format!("10.77.0.{}", i + 1), "lease"),
        };
        let flags = [
            ("advertise-address", advertised),
            ("allow-privileged", "true".into()),
            ("authorization-mode", "Node,RBAC".into()),
            ("bind-address", "127.0.0.1".into()),
            ("client-ca-file", pki("ca.crt")),
            ("enable-admission-plugins", "NodeRestriction".into()),
            ("enable-bootstrap-token-auth", "true".into()),
            (
                "encryption-provider-config",
                server.encryption_config.display().to_string(),
            ),
            ("encryption-provider-config-automatic-reload", "true".into()),
            // Servers on one loopback address would fight over the endpoints of `kubernetes`.
            ("endpoint-reconciler-type", reconciler.into()),
            ("etcd-cafile", pki("etcd/ca.crt")),
            ("etcd-certfile", pki("apiserver-etcd-client.crt")),
            ("etcd-keyfile", pki("apiserver-etcd-client.key")),
            ("etcd-servers", self.etcd.endpoint.clone()),
            (
                "kubelet-client-certificate",
                pki("apiserver-kubelet-client.crt"),
            ),
            ("kubelet-client-key", pki("apiserver-kubelet-client.key")),
            ("proxy-client-cert-file", pki("front-proxy-client.crt")),
            ("proxy-client-key-file", pki("front-proxy-client.key")),
            (
                "request-timeout",
                format!("{}s", self.options.request_timeout.as_secs()),
            ),
            ("requestheader-allowed-names", "front-proxy-client".into()),
            ("requestheader-client-ca-file", pki("front-proxy-ca.crt")),
            (
                "requestheader-extra-headers-prefix",
                "X-Remote-Extra-".into(),
            ),
            ("requestheader-group-headers", "X-Remote-Group".into()),
            ("requestheader-username-headers", "X-Remote-User".into()),
            ("secure-port", server.port.to_string()),
            (
                "service-account-issuer",
                "https://kubernetes.default.svc.cluster.local".into(),
            ),
            ("service-account-key-file", pki("sa.pub")),
            ("service-account-signing-key-file", pki("sa.key")),
            ("service-cluster-ip-range", "10.96.0.0/16".into()),
            ("tls-cert-file", pki("apiserver.crt")),
            ("tls-private-key-file", pki("apiserver.key")),
        ];
        let mut command = self.on_a_machine_of_its_own(i, &self.kube_apiserver());
        for (name, value) in flags {
            command.arg(format!("--{name}={value}"));
        }
        if self.options.audit {
            let policy = self.directory.join("audit-policy.yaml");
            command.arg(format!("--audit-policy-file={}", policy.display()));
            let log = self.audit_log(i);
            command.arg(format!("--audit-log-path={}", log.display()));
        }
        command.args(self.options.api_server);
        if let (Some(resource), Some(etcd)) = (self.options.elsewhere, &self.second_etcd) {
            let servers = &etcd.endpoint;
            command.arg(format!("--etcd-servers-overrides={resource}#{servers}"));
        }
        if let Some(poll) = self.options.reload_poll {
            command.env("ATREST_TEST_RELOAD_POLL", format!("{}ms", poll.as_millis()));
        }
        command.current_dir(&server.directory);
        let process = start(&self.keeper, &mut command, &server.log);
        self.servers[i].process = Some(process);
    }

    fn kube_apiserver(&self) -> PathBuf {
        match self.options.before_hashes {
            true => {
                programs::kube_apiserver_before_hashes().unwrap_or_else(|error| panic!("{error}"))
            }
            false => self.programs.path("kube-apiserver"),
        }
    }

    /// A program under a host name that no other server has: API servers know each other by theirs.
    fn on_a_machine_of_its_own(&self, i: usize, program: &Path) -> Command {
        if self.options.servers == 1 && i == 0 {
            return Command::new(program);
        }
        let mut command = Command::new("unshare");
        command.arg("--uts");
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        let script = r#"echo "$0" > /proc/sys/kernel/hostname && exec "$@""#;
        command.args(["sh", "-c", script, &format!("atrest-cp{}", i + 1)]);
        command.arg(program);
        command
    }

    /// Starts one more API server, with the file of the first one as it is now.
    pub fn add_server(&mut self) {
        let i = self.servers.len();
        let [port] = free_ports::<1>();
        let content =
            fs::read_to_string(&self.servers[0].encryption_config).expect("our directory");
        let server = self.prepare_server(i, port);
        fs::write(&server.encryption_config, content).expect("our directory");
        self.servers.push(server);
        self.launch(i);
        self.wait_ready(i);
    }

    /// An API server that is ready has its identity Lease a little later.
    fn wait_for_leases(&self) {
        let selector = "--selector=apiserver.kubernetes.io/identity=kube-apiserver";
        let list = ["get", "leases", "--namespace=kube-system", "--output=name"];
        let deadline = Instant::now() + READY;
        while self.servers.len() > 1 {
            let leases = self.kubectl(0).args(list).arg(selector).output();
            let leases = leases.expect("kubectl was built").stdout;
            if String::from_utf8_lossy(&leases).lines().count() == self.servers.len() {
                return;
            }
            assert!(Instant::now() < deadline, "a server has no Lease");
        }
    }

    /// Waits until an API server is ready.
    pub fn wait_ready(&mut self, i: usize) {
        let deadline = Instant::now() + READY;
        loop {
            let server = &mut self.servers[i];
            let process = &mut server.process.as_mut().expect("launched before").0;
            if let Some(status) = process.try_wait().expect("our own child") {
                panic!("kube-apiserver ended with {status}:\n{}", tail(&server.log));
            }
            // A kubectl that starts takes as long as a good pause between two questions.
            let ready = self.kubectl(i).args(["get", "--raw=/readyz"]).output();
            if ready.is_ok_and(|output| output.stdout == b"ok") {
                return;
            }
            if Instant::now() > deadline {
                panic!(
                    "kube-apiserver is not ready:\n{}",
                    tail(&self.servers[i].log)
                );
            }
        }
    }
}

impl ApiServer {
    /// The running process.
    pub fn pid(&self) -> u32 {
        let process = self.process.as_ref();
        process.expect("it runs between launch and kill").0.id()
    }

    /// A client of this server, for the runtime that this is called in.
    pub async fn client(&self) -> kube::Client {
        install_crypto_provider();
        let kubeconfig = Kubeconfig::read_from(&self.kubeconfig).expect("kubeadm wrote it");
        let config =
            kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .expect("kubeadm wrote it");
        kube::Client::try_from(config).expect("kubeadm wrote it")
    }
}

/// One TLS provider for the whole process; a second call changes nothing.
pub fn install_crypto_provider() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// Ports that nobody listens on. They are asked for outside of the range from which the kernel takes one
/// for each connection that somebody makes: one of those could be taken before the server listens.
pub fn free_ports<const N: usize>() -> [u16; N] {
    const RANGE: u32 = 12_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);

    // Processes begin at places of their own, and each hands a port out once in a while.
    let start = std::process::id().wrapping_mul(7_919);
    [(); N].map(|()| {
        let candidates = (0..RANGE).map(|_| {
            let next = NEXT.fetch_add(1, Ordering::Relaxed);
            20_000 + (start.wrapping_add(next) % RANGE) as u16
        });
        let mut free =
            candidates.filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
        free.next().expect("loopback has a free port")
    })
}

fn pki(programs: &Programs, directory: &Path) -> io::Result<()> {
    let path = directory.display();
    let config = kubeadm::config(&format!(
        "certificatesDir: {path}/pki
controlPlaneEndpoint: 127.0.0.1:6443
apiServer: {{certSANs: [127.0.0.1, localhost]}}
etcd: {{local: {{dataDir: {path}/etcd, serverCertSANs: [127.0.0.1, localhost]}}}}
"
    ));
    let config_file = directory.join("kubeadm.yaml");
    fs::write(&config_file, config)?;
    fs::write(
        directory.join("audit-policy.yaml"),
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- level: Metadata\n",
    )?;
    for phase in [&["certs", "all"][..], &["kubeconfig", "super-admin"]] {
        let mut command = Command::new(programs.path("kubeadm"));
        command
            .args(["init", "phase"])
            .args(phase)
            .arg("--config")
            .arg(&config_file);
        if phase[0] == "kubeconfig" {
            command.arg("--kubeconfig-dir").arg(directory);
        }
        let output = command.output()?;
        if !output.status.success() {
            return Err(io::Error::other(
                String::from_utf8_lossy(&output.stderr).into_owned(),
            ));
        }
    }
    Ok(())
}

fn etcd_program(programs: &Programs, options: &Options, name: &str) -> PathBuf {
    match options.etcd_release {
        Some(release) => programs::etcd(release)
            .unwrap_or_else(|error| panic!("{error}"))
            .join(name),
        None => programs.path(name),
    }
}

fn start_etcd(
    program: &Path,
    keeper: &Keeper,
    directory: &Path,
    name: &str,
    [client, peer]: [u16; 2],
    flags: &[&str],
) -> Etcd {
    let pki = |name: &str| directory.join("pki").join(name);
    let endpoint = format!("https://127.0.0.1:{client}");
    let peer = format!("https://127.0.0.1:{peer}");
    let mut command = Command::new(program);
    for (name, value) in [
        ("advertise-client-urls", endpoint.clone()),
        ("cert-file", pki("etcd/server.crt").display().to_string()),
        ("client-cert-auth", "true".into()),
        ("data-dir", directory.join(name).display().to_string()),
        ("initial-advertise-peer-urls", peer.clone()),
        ("initial-cluster", format!("atrest={peer}")),
        ("key-file", pki("etcd/server.key").display().to_string()),
        ("listen-client-urls", endpoint.clone()),
        ("listen-peer-urls", peer),
        ("name", "atrest".into()),
        ("peer-cert-file", pki("etcd/peer.crt").display().to_string()),
        ("peer-client-cert-auth", "true".into()),
        ("peer-key-file", pki("etcd/peer.key").display().to_string()),
        (
            "peer-trusted-ca-file",
            pki("etcd/ca.crt").display().to_string(),
        ),
        ("trusted-ca-file", pki("etcd/ca.crt").display().to_string()),
    ] {
        command.arg(format!("--{name}={value}"));
    }
    command.args(flags);
    Etcd {
        endpoint,
        ca: pki("etcd/ca.crt"),
        cert: pki("apiserver-etcd-client.crt"),
        key: pki("apiserver-etcd-client.key"),
        process: start(keeper, &mut command, &directory.join(format!("{name}.log"))),
    }
}

impl Etcd {
    /// The process.
    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// Kills etcd as a power cut would.
    pub fn kill(&mut self) {
        let _ = self.process.0.kill();
        let _ = self.process.0.wait();
    }
}

fn start(keeper: &Keeper, command: &mut Command, log: &Path) -> Process {
    use std::os::unix::process::CommandExt;

    let output = File::options()
        .create(true)
        .append(true)
        .open(log)
        .and_then(|log| Ok((log.try_clone()?, log)))
        .expect("our directory");
    let child = command
        .stdin(Stdio::null())
        .stdout(output.0)
        .stderr(output.1)
        // A Ctrl-C ends the test; the keeper ends this.
        .process_group(0)
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    keeper.end(child.id());
    Process(child)
}

/// What counts files that were loaded, before Kubernetes 1.34 and since 1.30.
const RELOADS: &str = "apiserver_encryption_config_controller_automatic_reloads_total";

fn reloads(metrics: &str) -> Vec<&str> {
    let lines = metrics.lines();
    lines
        .filter(|line| line.starts_with(RELOADS) && line.contains("success"))
        .collect()
}

pub(crate) fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
