//! Rotation through the API is blind: no Secret's data crosses the wire, is printed, is written to
//! a file or stays in memory (promises I3 and I4). And it changes nothing but the storage.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use atrest_tests::atrest::{self, Ended};
use atrest_tests::memory_image;
use atrest_tests::planted::{self, Search};
use atrest_tests::processes::{ControlPlane, Options};
use atrest_tests::proxy::{Exchange, Proxy};
use atrest_tests::secrets::{self, Population};
use atrest_tests::stored_values;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

/// A thousand with the 75 that are planted.
const REST: Population = Population {
    secrets: 925,
    namespaces: 5,
    smallest: 64,
    largest: 2 << 10,
};

const FEW: Population = Population {
    secrets: 150,
    ..REST
};

const AS_DATA: usize = 50;
const APPLIED: usize = 25;

/// What is planted: 50 values as data, 25 by `kubectl apply`.
struct Planted {
    data: Vec<Vec<u8>>,
    applied: Vec<Vec<u8>>,
}

impl Planted {
    fn plant(plane: &ControlPlane) -> Self {
        let planted = Self {
            data: planted::values("data", AS_DATA),
            applied: planted::values("applied", APPLIED),
        };
        let ran = |words: &[&str]| {
            let output = plane.kubectl(0).args(words).output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{words:?}: {error}");
        };
        ran(&["create", "namespace", "planted"]);
        for (verb, name, values) in [
            ("create", "data", &planted.data),
            ("apply", "applied", &planted.applied),
        ] {
            let items: Vec<_> = values
                .iter()
                .enumerate()
                .map(|(i, value)| manifest(&format!("{name}-{i:02}"), i, value))
                .collect();
            let file = plane.directory().join(format!("{name}.json"));
            let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
            fs::write(&file, list.to_string()).unwrap();
            ran(&[verb, "--validate=false", "-f", &file.display().to_string()]);
            // It lies where the test looks for what our programs write.
            fs::remove_file(file).unwrap();
        }
        planted
    }

    fn all(&self) -> Vec<Vec<u8>> {
        [&self.data[..], &self.applied].concat()
    }
}

/// Text is given as text by every other, all else as base64.
fn manifest(name: &str, i: usize, value: &[u8]) -> Value {
    let mut secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": name, "namespace": "planted", "labels": { "planted": "yes" } },
    });
    match std::str::from_utf8(value) {
        Ok(text) if i.is_multiple_of(2) => secret["stringData"] = json!({ "value": text }),
        _ => secret["data"] = json!({ "value": BASE64_STANDARD.encode(value) }),
    }
    secret
}

fn found(search: &Search, exchanges: &[Exchange]) -> BTreeSet<usize> {
    exchanges
        .iter()
        .flat_map(Exchange::layers)
        .flat_map(|layer| search.find(&layer))
        .collect()
}

fn reencrypt(kubeconfig: &Path) -> Command {
    let mut command = atrest::command(["reencrypt", "--output", "json", "--kubeconfig"]);
    command.arg(kubeconfig);
    command
}

fn rotate(plane: &ControlPlane, kubeconfig: &Path, words: &[&str]) -> Command {
    let mut command = atrest::command(["rotate"]);
    command
        .args(words)
        .args(["--yes", "--request-timeout", "5s", "--kubeconfig"])
        .arg(kubeconfig)
        .arg("--config")
        .arg(&plane.servers[0].encryption_config)
        .arg("--state-dir")
        .arg(plane.directory().join("state"))
        .args(plane.etcd_flags());
    command
}

fn end(mut command: Command) -> Ended {
    Ended::from(command.output().unwrap()).expect(0)
}

/// Asserts that nothing planted is in what a program said, not even 8 bytes of it.
#[track_caller]
fn assert_silent(pieces: &Search, ended: &Ended) {
    for said in [&ended.stdout, &ended.stderr] {
        assert_eq!(pieces.find(said.as_bytes()), BTreeSet::new(), "{said}");
    }
}

fn files(folder: &Path) -> Vec<Vec<u8>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            files.push(fs::read(path).unwrap());
        }
    }
    files
}

/// Writes the API server's EncryptionConfiguration and waits until it is loaded.
fn enable_secretbox(plane: &ControlPlane) {
    let configuration = format!(
        "apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers:
  - secretbox: {{keys: [{{name: first, secret: '{}'}}]}}
  - identity: {{}}
",
        BASE64_STANDARD.encode([7; 32])
    );
    plane.load(0, configuration.as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_data_crosses_the_wire_or_is_printed_and_every_body_is_unchanged() {
    let plane = ControlPlane::start(Options::default());
    let client = plane.client(0).await;
    let stored = REST.store(&client, "rest").await.unwrap();
    let planted = Planted::plant(&plane);
    let secrets = stored.len() + AS_DATA + APPLIED;
    assert_eq!(secrets, 1000);
    stored_values::assert_prefix(&plane, secrets, "k8s\0");
    let bodies = secrets::bodies_digest(&client).await.unwrap();

    let proxy = Proxy::start(&plane, 0);
    let whole = Search::new(&planted.all(), 16);
    let pieces = Search::new(&planted.all(), 8);

    // The plan counts and names what crosses with the metadata.
    let plan = ["plan", "--to", "secretbox"];
    let text = end(rotate(&plane, &proxy.kubeconfig, &plan));
    let names: Vec<_> = (0..APPLIED)
        .map(|i| format!("planted/applied-{i:02}"))
        .collect();
    let named: Vec<_> = text
        .stdout
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("planted/"))
        .collect();
    assert_eq!(named, names);
    assert!(text.stdout.contains("25 carry a copy"), "{}", text.stdout);
    assert_silent(&pieces, &text);
    let json = end(rotate(
        &plane,
        &proxy.kubeconfig,
        &[&plan[..], &["--output", "json"]].concat(),
    ));
    assert_eq!(json.json()["resources"][0]["applied"], APPLIED);
    assert_eq!(json.json()["resources"][0]["applied_names"], json!(names));
    assert_silent(&pieces, &json);

    // Every object is rewritten twice, by reencrypt and by a rotation.
    enable_secretbox(&plane);
    let ended = end(reencrypt(&proxy.kubeconfig));
    assert_eq!(ended.json()["objects"]["rewritten"], secrets, "{ended:?}");
    assert_silent(&pieces, &ended);
    stored_values::assert_prefix(&plane, secrets, "k8s:enc:secretbox:v1:first:");
    assert_eq!(secrets::bodies_digest(&client).await.unwrap(), bodies);

    let ended = end(rotate(
        &plane,
        &proxy.kubeconfig,
        &["run", "--to", "aesgcm"],
    ));
    assert_silent(&pieces, &ended);
    let mut verify = atrest::command(["verify", "--output", "json", "--config"]);
    verify
        .arg(&plane.servers[0].encryption_config)
        .args(plane.etcd_flags());
    assert_silent(&pieces, &end(verify));
    let status = rotate(&plane, &proxy.kubeconfig, &["status"]);
    assert_silent(&pieces, &end(status));
    let written = files(&plane.directory().join("state"));
    assert!(written.len() >= 3, "a journal and two escrow files");
    for file in written {
        assert_eq!(pieces.find(&file), BTreeSet::new());
    }
    stored_values::assert_prefix(&plane, secrets, "k8s:enc:aesgcm:v1:");
    assert_eq!(secrets::bodies_digest(&client).await.unwrap(), bodies);
    stored.assert_readable(&client).await;

    // No body held data; what kubectl applied did cross, as annotations.
    let exchanges = proxy.take();
    let patches = exchanges
        .iter()
        .filter(|exchange| exchange.request.starts_with("PATCH "));
    assert!(patches.count() >= 2 * secrets);
    for exchange in &exchanges {
        let about_secrets = exchange.request.contains("/secrets");
        assert!(
            !about_secrets || exchange.accept.contains("PartialObjectMetadata"),
            "{}",
            exchange.request
        );
    }
    let annotations: BTreeSet<_> = (AS_DATA..AS_DATA + APPLIED).collect();
    assert_eq!(found(&whole, &exchanges), annotations);

    controls(&plane, &proxy, &whole).await;
}

/// The same proxy and the same search see all of it where it does cross, in each encoding.
async fn controls(plane: &ControlPlane, proxy: &Proxy, whole: &Search) {
    let read = plane
        .kubectl(0)
        .arg("--kubeconfig")
        .arg(&proxy.kubeconfig)
        .args(["get", "secrets", "-A", "-o", "json"])
        .output()
        .unwrap();
    assert!(read.status.success());
    let exchanges = proxy.take();
    let compressed = |exchange: &Exchange| exchange.gzip && exchange.request.contains("/secrets");
    assert!(exchanges.iter().any(compressed), "a list of this size is");
    assert_eq!(found(whole, &exchanges).len(), AS_DATA + APPLIED);

    let kubeconfig = kube::config::Kubeconfig::read_from(&proxy.kubeconfig).unwrap();
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .unwrap();
    let request = http::Request::get("/api/v1/secrets")
        .header("Accept", "application/vnd.kubernetes.protobuf")
        .body(kube::client::Body::empty())
        .unwrap();
    let client = kube::Client::try_from(config).unwrap();
    let response = client.send(request).await.unwrap();
    http_body_util::BodyExt::collect(response.into_body())
        .await
        .unwrap();
    let exchanges = proxy.take();
    assert!(exchanges[0].content_type.ends_with("kubernetes.protobuf"));
    assert!(exchanges[0].bodies[1].starts_with(b"k8s\0"));
    assert_eq!(found(whole, &exchanges).len(), AS_DATA + APPLIED);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_stays_in_memory() {
    if !memory_image::available() {
        return;
    }
    let plane = ControlPlane::start(Options {
        request_timeout: Duration::from_secs(20),
        ..Options::default()
    });
    let client = plane.client(0).await;
    let stored = FEW.store(&client, "rest").await.unwrap();
    let planted = Planted::plant(&plane);
    let secrets = stored.len() + AS_DATA + APPLIED;
    let all = Search::new(&planted.all(), 16);
    let applied = Search::new(&planted.applied, 16);
    let proxy = Proxy::start(&plane, 0);

    // A search that finds nothing is worth something if it can find: annotations do pass through
    // the process, and are there half way through a list.
    let held = proxy.hold("GET /api/v1/secrets?");
    let mut command = reencrypt(&proxy.kubeconfig);
    let mut child = plane
        .spawn(command.args(["--dry-run", "--quiet"]).stderr(Stdio::null()))
        .unwrap();
    held.reached.await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let image = memory_image::of_running(child.id()).unwrap();
        if !applied
            .find(&memory_image::written_pages(&image))
            .is_empty()
        {
            break;
        }
        assert!(Instant::now() < deadline, "half a list is nowhere");
    }
    held.release.send(()).unwrap();
    assert!(child.wait().unwrap().success());

    let at_exit = |command: &Command| {
        let image = memory_image::written_pages(&memory_image::at_exit(&plane, command));
        let program = command.get_program().as_encoded_bytes().to_vec();
        let itself = Search::new(&[program], 16).find(&image);
        assert!(!itself.is_empty(), "the image has a stack, with argv on it");
        all.find(&image)
    };
    // At the end of a process that does not wipe what it frees, the same look finds most.
    let mut kubectl = plane.kubectl(0);
    kubectl.args(["get", "secrets", "-n", "planted", "-o", "json"]);
    assert!(at_exit(&kubectl).len() >= AS_DATA);

    enable_secretbox(&plane);
    let plan = rotate(&plane, &proxy.kubeconfig, &["plan"]);
    assert_eq!(at_exit(&plan), BTreeSet::new());
    assert_eq!(at_exit(&reencrypt(&proxy.kubeconfig)), BTreeSet::new());
    stored_values::assert_prefix(&plane, secrets, "k8s:enc:secretbox:v1:first:");
}
