//! What `atrest verify --api` finds through an API server alone is what etcd holds, and where it cannot
//! be found it is not called clean.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use atrest_tests::atrest::{self, Ended};
use atrest_tests::plugin::Plugin;
use atrest_tests::processes::{ApiServer, ControlPlane, Options};
use atrest_tests::proxy::Proxy;
use atrest_tests::schema;
use atrest_tests::secrets::Population;
use serde_json::Value;

const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers:
";
const OLD: &str =
    "  - secretbox: {keys: [{name: key, secret: b25lb25lb25lb25lb25lb25lb25lb25lb25lb25lb24=}]}\n";
/// Another key of another provider, under the same name, and one more.
const NEW: &str = "  - aesgcm:
      keys:
      - {name: key, secret: dHdvdHdvdHdvdHdvdHdvdHdvdHdvdHdvdHdvdHdvdHc=}
      - {name: other, secret: dGhyZWV0aHJlZXRocmVldGhyZWV0aHJlZXRocmVldGg=}\n";
const IDENTITY: &str = "  - identity: {}\n";

fn configuration(providers: &[&str]) -> String {
    [HEAD, &providers.concat()].concat()
}

async fn store(plane: &ControlPlane, secrets: usize, prefix: &str) {
    let population = Population {
        secrets,
        namespaces: 1,
        smallest: 64,
        largest: 256,
    };
    let client = plane.client(0).await;
    population.store(&client, prefix).await.unwrap();
}

fn run(kubeconfig: &Path, config: &Path, more: &[&str]) -> Ended {
    let flags = ["--output", "json", "--api", "--kubeconfig"].map(Path::new);
    let first = ["verify", "--config"].map(Path::new);
    let more = more.iter().map(Path::new);
    atrest::run(
        first
            .into_iter()
            .chain([config])
            .chain(flags)
            .chain([kubeconfig])
            .chain(more),
    )
}

fn by_api(server: &ApiServer, status: i32) -> Value {
    let report = run(&server.kubeconfig, &server.encryption_config, &[]).expect(status);
    let report = report.json();
    assert_eq!(schema::faults(&report), Vec::<String>::new());
    assert_eq!(report["source"], "api");
    report
}

fn by_etcd(plane: &ControlPlane, config: &Path, status: impl Into<Option<i32>>) -> Value {
    let first = ["verify", "--output", "json", "--decrypt", "--config"].map(Into::into);
    let flags = plane.etcd_flags();
    let ended = atrest::run(
        first
            .into_iter()
            .chain([config.display().to_string()])
            .chain(flags),
    );
    match status.into() {
        Some(status) => ended.expect(status).json(),
        None => ended.json(),
    }
}

const STATES: [&str; 7] = [
    "total",
    "current",
    "stale",
    "plaintext",
    "unknown_key",
    "undecryptable",
    "unread",
];

fn counts(report: &Value) -> BTreeMap<(String, &'static str), u64> {
    let resources = report["resources"].as_array().unwrap().iter();
    let counts = resources.flat_map(|resource| {
        let name = resource["resource"].as_str().unwrap().to_owned();
        STATES.map(|state| ((name.clone(), state), resource[state].as_u64().unwrap()))
    });
    counts.collect()
}

fn groups(report: &Value) -> Vec<[Value; 4]> {
    let groups = report["resources"][0]["by_key"].as_array().unwrap().iter();
    let mut groups: Vec<_> = groups
        .map(|group| ["provider", "key", "state", "count"].map(|field| group[field].clone()))
        .collect();
    groups.sort_by_key(|group| format!("{group:?}"));
    groups
}

/// Both proofs, which have to say the same.
fn agree(plane: &ControlPlane, status: i32) -> Value {
    let server = &plane.servers[0];
    let api = by_api(server, status);
    let etcd = by_etcd(plane, &server.encryption_config, status);
    assert_eq!(counts(&api), counts(&etcd));
    assert_eq!(groups(&api), groups(&etcd));
    assert_eq!(api["verdict"], etcd["verdict"]);
    assert_eq!(api["cluster"]["uid"], etcd["cluster"]["uid"]);
    assert!(api["cluster"]["uid"].is_string());
    api
}

fn reencrypt(plane: &ControlPlane) {
    let kubeconfig = plane.servers[0].kubeconfig.display().to_string();
    atrest::run(["reencrypt", "--kubeconfig", &kubeconfig]).expect(0);
}

fn put(plane: &ControlPlane, key: &str, value: &[u8]) {
    let mut etcdctl = plane.etcdctl();
    etcdctl.args(["put", key]);
    let mut child = etcdctl
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(value).unwrap();
    assert!(child.wait().unwrap().success());
}

/// Secrets that the API server read from etcd since it started.
fn read_from_etcd(plane: &ControlPlane) -> u64 {
    let metrics = plane.kubectl(0).args(["get", "--raw=/metrics"]).output();
    let metrics = String::from_utf8(metrics.unwrap().stdout).unwrap();
    let counters = metrics.lines().filter(|line| {
        line.starts_with("apiserver_storage_transformation_operations_total{resource=\"secrets\"")
            && line.contains("\"from_storage\"")
            && !line.contains("k8s:enc:")
    });
    let counts = counters.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap());
    counts.sum::<f64>() as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_and_etcd_prove_the_same() {
    let plane = ControlPlane::start(Options {
        // A watch cache that comes upon poison lets lists wait for 3 s.
        request_timeout: Duration::from_secs(60),
        ..Options::default()
    });
    store(&plane, 60, "plain").await;
    let plaintext = agree(&plane, 1);
    assert_eq!(plaintext["resources"][0]["plaintext"], 60);

    plane.load(0, configuration(&[OLD, IDENTITY]).as_bytes());
    store(&plane, 50, "old").await;
    let half = agree(&plane, 1);
    assert_eq!(half["resources"][0]["current"], 50);
    reencrypt(&plane);
    assert_eq!(agree(&plane, 0)["verdict"], "clean");

    plane.load(0, configuration(&[NEW, OLD, IDENTITY]).as_bytes());
    store(&plane, 40, "new").await;
    let stale = agree(&plane, 1);
    assert_eq!(stale["resources"][0]["stale"], 110);
    assert_eq!(stale["objects_omitted"], 110, "their names are not known");
    reencrypt(&plane);

    // Several pages; and a list alone would have proven nothing.
    store(&plane, 600, "many").await;
    let before = read_from_etcd(&plane);
    let list = plane
        .kubectl(0)
        .args(["get", "--raw=/api/v1/secrets?limit=500"])
        .output();
    assert!(list.unwrap().status.success());
    assert_eq!(
        read_from_etcd(&plane),
        before,
        "the list came from the cache"
    );
    assert_eq!(agree(&plane, 0)["resources"][0]["current"], 750);
    assert!(read_from_etcd(&plane) >= before + 750);

    // By the next file, whose keys are all that is needed; it is not the one that the server has.
    let next = plane.directory().join("next.yaml");
    fs::write(&next, configuration(&[NEW])).unwrap();
    let server = &plane.servers[0];
    let expect = ["--expect", next.to_str().unwrap()];
    run(&server.kubeconfig, &server.encryption_config, &expect).expect(0);
    if plane.tells_hashes() {
        let other = run(&server.kubeconfig, &next, &[]).expect(3);
        assert!(
            other.stderr.contains("has loaded another"),
            "{}",
            other.stderr
        );
    }

    // What the configuration does not cover is not counted by the server.
    let more = ["--resource", "configmaps"];
    let uncovered = run(&server.kubeconfig, &server.encryption_config, &more).expect(3);
    let report = uncovered.json();
    let configmaps = &report["resources"][0];
    assert_eq!(configmaps["unread"], configmaps["total"]);
    assert!(
        configmaps["total"].as_u64() > Some(0),
        "kube-root-ca.crt at least"
    );
    assert!(
        uncovered.stderr.contains("did not count"),
        "{}",
        uncovered.stderr
    );

    // Without a configuration only plaintext is wrong.
    let alone = ["verify", "--api", "--output", "json", "--kubeconfig"].map(Path::new);
    let alone = || atrest::run(alone.into_iter().chain([&*server.kubeconfig]));
    assert_eq!(alone().expect(3).json()["verdict"], "unknown");
    let left = server.kubeconfig.with_file_name("left.yaml");
    fs::write(
        &left,
        "{apiVersion: v1, kind: Secret, metadata: {name: left}}",
    )
    .unwrap();
    plane.load(0, configuration(&[IDENTITY, NEW]).as_bytes());
    let mut create = plane.kubectl(0);
    assert!(
        create
            .arg("create")
            .arg("-f")
            .arg(&left)
            .output()
            .unwrap()
            .status
            .success()
    );
    assert_eq!(alone().expect(1).json()["verdict"], "dirty");
    agree(&plane, 1);

    // Poison fails every list.
    let poison = "/registry/secrets/plain-0/poison";
    put(
        &plane,
        poison,
        b"k8s:enc:aesgcm:v1:key:0123456789abcdef0123456789abcdef",
    );
    let api = by_api(server, 1);
    assert_eq!(api["objects"][0]["key"], poison);
    assert_eq!(api["objects"][0]["state"], "undecryptable");
    let etcd = by_etcd(&plane, &server.encryption_config, 1);
    let (api, etcd) = (&api["resources"][0], &etcd["resources"][0]);
    for state in ["total", "undecryptable", "current"] {
        assert_eq!(api[state], etcd[state], "{state}");
    }
    // The cache tries to read all again and again, and is counted when it does.
    println!(
        "beside poison: {} stale of {}, {} unread",
        api["stale"], etcd["stale"], api["unread"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn key_ids_of_a_plugin_are_told_apart() {
    let plugin = Plugin::start();
    let socket = plugin.socket().display().to_string();
    let kms = format!("  - kms: {{apiVersion: v2, name: plug, endpoint: 'unix://{socket}'}}\n");
    let plane = ControlPlane::start(Options {
        encryption_config: configuration(&[&kms, OLD]),
        ..Options::default()
    });
    let agree = |status: i32| {
        let server = &plane.servers[0];
        let api = by_api(server, status);
        let etcd = by_etcd(&plane, &server.encryption_config, status);
        assert_eq!(counts(&api), counts(&etcd));
        api
    };
    store(&plane, 30, "first").await;
    let clean = agree(0);
    let hash = {
        use sha2::{Digest, Sha256};
        let hash = Sha256::digest(plugin.active_key_id());
        format!("sha256:{}", data_encoding::HEXLOWER.encode(&hash))
    };
    assert_eq!(groups(&clean)[0][1], hash);

    plugin.keyring(&["add"]);
    plugin.keyring(&["activate"]);
    // The plugin takes it up, and a file that is loaded anew asks the plugin at once.
    let deadline = Instant::now() + Duration::from_secs(30);
    while by_etcd(&plane, &plane.servers[0].encryption_config, None)["verdict"] == "clean" {
        assert!(Instant::now() < deadline, "{}", plugin.log());
    }
    let anew = format!("{}# anew\n", configuration(&[&kms, OLD]));
    plane.load(0, anew.as_bytes());
    store(&plane, 20, "second").await;
    let stale = agree(1);
    assert_eq!(stale["resources"][0]["stale"], 30);
    reencrypt(&plane);
    assert_ne!(groups(&agree(0))[0][1], hash);
}

/// Reads and writes a Secret again and again until it is dropped.
struct Traffic {
    ends: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<usize>>,
}

impl Traffic {
    fn start(plane: &ControlPlane) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let (client, stop) = (plane.client(0), Arc::clone(&ends));
        let runtime = tokio::runtime::Handle::current();
        let client = tokio::task::block_in_place(|| runtime.block_on(client));
        let thread = thread::spawn(move || {
            use k8s_openapi::api::core::v1::Secret;
            use kube::api::{Api, Patch, PatchParams};
            let api: Api<Secret> = Api::namespaced(client, "old-0");
            let mut rounds = 0;
            while !stop.load(Ordering::Relaxed) {
                let name = format!("secret-{:05}", rounds % 40);
                runtime.block_on(async {
                    api.get(&name).await.unwrap();
                    let label =
                        serde_json::json!({"metadata": {"labels": {"round": rounds.to_string()}}});
                    let patch = Patch::Merge(label);
                    let plain = PatchParams::default();
                    let busy = api.patch("secret-00001", &plain, &patch);
                    busy.await.unwrap();
                });
                rounds += 1;
            }
            rounds
        });
        Self {
            ends,
            thread: Some(thread),
        }
    }

    fn end(mut self) -> usize {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_read_meanwhile_is_not_taken_for_what_was_asked() {
    let plane = ControlPlane::start(Options {
        encryption_config: configuration(&[OLD]),
        ..Options::default()
    });
    store(&plane, 40, "old").await;
    let server = &plane.servers[0];
    // All are read by the old key, which others do as well; and one becomes current.
    plane.load(0, configuration(&[NEW, OLD]).as_bytes());
    let traffic = Traffic::start(&plane);
    let report = run(&server.kubeconfig, &server.encryption_config, &[]).json();
    let secrets = &report["resources"][0];
    println!(
        "busy: {} stale, {} unread",
        secrets["stale"], secrets["unread"]
    );
    assert_ne!(report["verdict"], "clean");
    assert!(secrets["current"].as_u64().unwrap() <= 1, "{secrets}");
    assert_eq!(secrets["total"], 40);
    println!("{} rounds of others", traffic.end());
    reencrypt(&plane);
    let traffic = Traffic::start(&plane);
    let ended = run(&server.kubeconfig, &server.encryption_config, &[]);
    let report = ended.json();
    let secrets = &report["resources"][0];
    println!(
        "busy: {} current, {} unread",
        secrets["current"], secrets["unread"]
    );
    assert_ne!(report["verdict"], "dirty");
    println!("{} rounds of others", traffic.end());
    agree(&plane, 0);
}

/// Gives each connection to another API server, in turn.
fn balancer(plane: &ControlPlane) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let servers: Vec<_> = plane.servers.iter().map(|server| server.port).collect();
    thread::spawn(move || {
        let turn = AtomicUsize::new(0);
        for client in listener.incoming().map_while(Result::ok) {
            let port = servers[turn.fetch_add(1, Ordering::Relaxed) % servers.len()];
            let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
            let pump = |mut from: TcpStream, mut to: TcpStream| {
                thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                })
            };
            pump(client.try_clone().unwrap(), server.try_clone().unwrap());
            pump(server, client);
        }
    });
    port
}

fn kubeconfig_of(plane: &ControlPlane, port: u16) -> PathBuf {
    let server = &plane.servers[0];
    let text = fs::read_to_string(&server.kubeconfig).unwrap();
    let path = plane.directory().join("balanced.conf");
    let balanced = text.replace(&server.url, &format!("https://127.0.0.1:{port}"));
    fs::write(&path, balanced).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_of_another_process_prove_nothing() {
    let plane = ControlPlane::start(Options {
        servers: 2,
        encryption_config: configuration(&[OLD]),
        ..Options::default()
    });
    store(&plane, 40, "old").await;
    for server in 0..2 {
        plane.load(server, configuration(&[NEW, OLD]).as_bytes());
    }
    store(&plane, 40, "new").await;
    let config = &plane.servers[0].encryption_config;
    let truth = by_etcd(&plane, config, 1);

    // Whoever reads at one server and counts at another.
    let crossed = Proxy::start_crossed(&plane, 0, 1);
    let ended = run(&crossed.kubeconfig, config, &[]).expect(3);
    let report = ended.json();
    assert_eq!(report["verdict"], "unknown");
    assert_eq!(report["resources"][0]["unread"], 80);
    assert!(
        ended.stderr.contains("share that address"),
        "{}",
        ended.stderr
    );

    // One connection leads to one server: behind a balancer of connections it takes longer.
    let balanced = kubeconfig_of(&plane, balancer(&plane));
    let report = run(&balanced, config, &[]).expect(1).json();
    assert_eq!(counts(&report), counts(&truth));
    assert_eq!(counts(&by_api(&plane.servers[1], 1)), counts(&truth));
}

#[test]
fn what_wildcards_cover_is_found_by_discovery() {
    let everything = configuration(&[OLD]).replace("[secrets]", "['*.*']");
    let plane = ControlPlane::start(Options {
        encryption_config: everything,
        ..Options::default()
    });
    let widgets = "{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: \
        widgets.example.com}, spec: {group: example.com, scope: Namespaced, names: {plural: widgets, \
        singular: widget, kind: Widget, listKind: WidgetList}, versions: [{name: v1, served: true, \
        storage: true, schema: {openAPIV3Schema: {type: object}}}]}}";
    let widget =
        "{apiVersion: example.com/v1, kind: Widget, metadata: {name: a, namespace: default}}";
    for text in [widgets, widget] {
        let file = plane.directory().join("object.yaml");
        fs::write(&file, text).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        let apply = || {
            let mut kubectl = plane.kubectl(0);
            kubectl.args(["apply", "--server-side", "-f"]).arg(&file);
            kubectl.output().unwrap().status.success()
        };
        while !apply() {
            assert!(Instant::now() < deadline, "{text}");
        }
    }
    let server = &plane.servers[0];
    let ended = run(&server.kubeconfig, &server.encryption_config, &[]);
    let api = ended.json();
    assert_ne!(api["verdict"], "dirty", "{}", ended.stderr);
    let etcd = by_etcd(&plane, &server.encryption_config, 0);
    // Namespaces are encrypted here, too: the key tells, where it may be used.
    assert_eq!(api["cluster"]["uid"], etcd["cluster"]["uid"]);
    assert!(api["cluster"]["uid"].is_string());
    let config = server.encryption_config.display().to_string();
    let undecrypted = ["verify", "--output", "json", "--config", &config].map(str::to_owned);
    let undecrypted = atrest::run(undecrypted.into_iter().chain(plane.etcd_flags()));
    assert_eq!(undecrypted.expect(0).json()["cluster"]["uid"], Value::Null);
    let (api, etcd) = (counts(&api), counts(&etcd));
    // The API server itself renews its Lease.
    let is_stable = |(resource, _): &(String, &str)| resource != "leases.coordination.k8s.io";
    let stable = |counts: &BTreeMap<(String, &'static str), u64>| {
        let counts = counts
            .iter()
            .filter(|(key, count)| is_stable(key) && **count > 0);
        counts
            .map(|(key, count)| (key.clone(), *count))
            .collect::<BTreeMap<_, _>>()
    };
    println!("{:?}", stable(&api));
    assert_eq!(stable(&api), stable(&etcd));
    assert!(api.contains_key(&("widgets.example.com".into(), "current")));
}

#[test]
fn without_anything_to_ask_it_says_what_there_could_be() {
    let nothing = atrest::run(["verify"]).expect(2);
    for hint in ["--etcd-endpoints", "--snapshot", "--data-dir", "--api"] {
        assert!(nothing.stderr.contains(hint), "{}", nothing.stderr);
    }
    let no_kubeconfig = atrest::run(["verify", "--api"]).expect(2);
    assert!(no_kubeconfig.stderr.contains("--kubeconfig"));
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("config");
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    let text = format!(
        "{{apiVersion: v1, kind: Config, current-context: c, contexts: [{{name: c, context: {{cluster: c, \
         user: u}}}}], clusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:{port}'}}}}], users: \
         [{{name: u, user: {{}}}}]}}"
    );
    fs::write(&kubeconfig, text).unwrap();
    let arguments = ["verify", "--api", "--kubeconfig"].map(Path::new);
    let unreachable = atrest::run(arguments.into_iter().chain([&*kubeconfig])).expect(3);
    assert!(unreachable.stdout.is_empty());
    assert!(
        unreachable.stderr.contains("cannot reach"),
        "{}",
        unreachable.stderr
    );
    let both = ["verify", "--api", "--etcd-endpoints", "https://127.0.0.1:1"];
    assert!(atrest::run(both).expect(2).stderr.contains("--api"));
}
