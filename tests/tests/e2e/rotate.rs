//! `atrest rotate`, judged by etcd's own bytes.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use atrest_tests::atrest::{self, Ended};
use atrest_tests::plugin::Plugin;
use atrest_tests::processes::{ControlPlane, Options, PLAINTEXT};
use atrest_tests::secrets::{self, Population};
use atrest_tests::stored_values;

pub(crate) const FEW: Population = Population {
    secrets: 60,
    namespaces: 3,
    smallest: 64,
    largest: 16 << 10,
};

pub(crate) fn rotate(plane: &ControlPlane, action: &str, more: &[&str]) -> Ended {
    atrest::rotate(plane, action, more).output().unwrap().into()
}

pub(crate) fn key_names(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let names = text
        .lines()
        .filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix("name:"));
    names
        .map(|name| name.trim().trim_matches('"').to_owned())
        .collect()
}

/// Values under a key of secretbox.
pub(crate) fn under(plane: &ControlPlane, key: &str) -> usize {
    let prefix = format!("k8s:enc:secretbox:v1:{key}:");
    let values = stored_values::secrets(plane);
    let values = values.values();
    values
        .filter(|it| it.starts_with(prefix.as_bytes()))
        .count()
}

/// Kills a run as soon as something is so.
pub(crate) fn kill_when(run: &mut Command, is_so: impl Fn() -> bool) {
    let run = run.stdout(Stdio::null()).stderr(Stdio::null());
    let mut run = run.spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(180);
    while !is_so() {
        assert!(run.try_wait().unwrap().is_none(), "it ended before");
        assert!(Instant::now() < deadline, "it never came so far");
    }
    run.kill().unwrap();
    run.wait().unwrap();
}

/// Seconds from each write of a file until its server had loaded it.
pub(crate) fn load_times(ended: &Ended) -> Vec<f64> {
    let told = ended.stderr.lines();
    let told = told.filter_map(|line| line.split_once(": loaded after ")?.1.strip_suffix(" s"));
    told.map(|seconds| seconds.parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn from_plaintext_to_a_key_to_another_to_kms_with_every_byte_intact() {
    let notes = [
        "# of this cluster",
        "- resources: # what is secret",
        "  # who writes",
    ];
    let encryption_config = PLAINTEXT
        .replace("apiVersion", "# of this cluster\napiVersion")
        .replace("- resources:", "- resources: # what is secret")
        .replace("  providers", "  # who writes\n  providers");
    let plane = ControlPlane::start(Options {
        encryption_config,
        ..Options::default()
    });
    let client = plane.client(0).await;
    let stored = FEW.store(&client, "stage").await.unwrap();
    let bodies = secrets::bodies_digest(&client).await.unwrap();
    stored_values::assert_prefix(&plane, stored.len(), "k8s\0");
    let file = &plane.servers[0].encryption_config;

    let planned = rotate(&plane, "plan", &["--to", "secretbox"]).expect(0);
    assert!(
        planned.stdout.contains("secretbox <new key>, identity"),
        "{}",
        planned.stdout
    );
    stored_values::assert_prefix(&plane, stored.len(), "k8s\0");

    rotate(&plane, "run", &["--to", "secretbox"]).expect(0);
    let first = key_names(file);
    assert_eq!(first.len(), 1);
    stored_values::assert_prefix(
        &plane,
        stored.len(),
        &format!("k8s:enc:secretbox:v1:{}:", first[0]),
    );

    // The old key stays readable while it is held, and goes after that.
    let held = rotate(&plane, "run", &["--hold", "3s"]).expect(4);
    assert!(held.stderr.contains("holding"), "{}", held.stderr);
    assert_eq!(key_names(file).len(), 2);
    let deadline = Instant::now() + Duration::from_secs(60);
    while rotate(&plane, "resume", &[]).status != Some(0) {
        assert!(Instant::now() < deadline, "the hold does not end");
    }
    let second = key_names(file);
    assert_eq!(second.len(), 1);
    assert_ne!(first, second);
    stored_values::assert_prefix(
        &plane,
        stored.len(),
        &format!("k8s:enc:secretbox:v1:{}:", second[0]),
    );

    let plugin = Plugin::start();
    let socket = format!("plugin={}", plugin.socket().display());
    rotate(&plane, "run", &["--to", "kms", "--kms-socket", &socket]).expect(0);
    stored_values::assert_prefix(&plane, stored.len(), "k8s:enc:kms:v2:plugin:");

    stored.assert_readable(&client).await;
    assert_eq!(secrets::bodies_digest(&client).await.unwrap(), bodies);
    let text = fs::read_to_string(file).unwrap();
    for note in notes {
        assert!(
            text.lines().any(|line| line == note),
            "{note} is not in\n{text}"
        );
    }
}

/// Everything from a rotation.yaml: the server's address, CA and file, etcd, escrow, state directory.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_yaml_says_it_all() {
    let plane = ControlPlane::start(Options::default());
    let client = plane.client(0).await;
    let stored = FEW.store(&client, "yaml").await.unwrap();
    let server = &plane.servers[0];
    let directory = plane.directory().display();
    let rotation = plane.directory().join("rotation.yaml");
    fs::write(
        &rotation,
        format!(
            "apiVersion: atrest/v1
kind: Rotation
servers:
- name: one
  url: {url}
  tlsServerName: kubernetes.default
  caFile: {directory}/pki/ca.crt
  file: {file}
  access: local
  reload: automatic
etcd:
  endpoints: [\"{etcd}\"]
  caFile: {directory}/pki/etcd/ca.crt
  certFile: {directory}/pki/apiserver-etcd-client.crt
  keyFile: {directory}/pki/apiserver-etcd-client.key
resources: [secrets]
to: {{provider: aesgcm}}
escrow: {{file: {directory}/kept/key, copies: [{directory}/kept-too/key]}}
limits: {{maxRate: 500, maxInFlight: 8}}
stateDir: {directory}/runs
",
            url = server.url,
            file = server.encryption_config.display(),
            etcd = plane.etcd.endpoint,
        ),
    )
    .unwrap();
    let rotate = |action: &str| -> Ended {
        let mut command =
            atrest::command(["rotate", action, "--yes", "--request-timeout", "5s", "-f"]);
        command
            .arg(&rotation)
            .arg("--kubeconfig")
            .arg(&server.kubeconfig);
        command.output().unwrap().into()
    };
    assert!(rotate("plan").expect(0).stdout.contains("one: "));
    rotate("run").expect(0);
    assert!(rotate("status").expect(0).stdout.contains("step 12, done"));
    let keys = key_names(&server.encryption_config);
    assert_eq!(keys.len(), 1);
    stored_values::assert_prefix(
        &plane,
        stored.len(),
        &format!("k8s:enc:aesgcm:v1:{}:", keys[0]),
    );
    for folder in ["kept", "kept-too"] {
        let entries = fs::read_dir(plane.directory().join(folder)).unwrap();
        assert_eq!(entries.count(), 1, "{folder}");
    }
    // Every server that is listed has to be reached.
    let text = fs::read_to_string(&rotation).unwrap();
    let twice = text.replace(
        "etcd:\n  end",
        "- {name: two, url: \"https://127.0.0.1:1\", file: /nonexistent}\netcd:\n  end",
    );
    fs::write(&rotation, twice).unwrap();
    assert_eq!(rotate("plan").status, Some(3));
}

/// The servers poll their files once a minute, and the second of the list does so first.
#[tokio::test(flavor = "multi_thread")]
async fn a_whole_rotation_with_the_stock_poll() {
    let mut plane = ControlPlane::start(Options {
        servers: 2,
        reload_poll: None,
        request_timeout: Duration::from_secs(30),
        ..Options::default()
    });
    plane.restart(0);
    // How often a server looks is not known of one that has just started.
    tokio::time::sleep(Duration::from_secs(15)).await;
    let client = plane.client(0).await;
    let stored = FEW.store(&client, "stock").await.unwrap();
    let yaml = atrest::rotation_yaml(&plane, 2, "");
    let run = atrest::rotate_by(&plane, &yaml, "run", &["--to", "aesgcm"]).output();
    let done = Ended::from(run.unwrap()).expect(0);
    let loads = load_times(&done);
    assert_eq!(loads.len(), 6, "{}", done.stderr);
    // A busy machine may miss a look, which costs a minute each time.
    let in_time = loads.iter().filter(|load| **load <= 5.0).count();
    assert!(in_time >= 3, "{}", done.stderr);
    let told = [
        "when the servers look at their files is seen first",
        "yet, next poll in ",
        "just before the next look at it",
    ];
    for told in told {
        assert!(done.stderr.contains(told), "{}", done.stderr);
    }
    let canary = |server: &str| done.stderr.find(&format!("{server}: its canary was"));
    assert!(canary("cp2") < canary("cp1"), "{}", done.stderr);
    let keys = key_names(&plane.servers[0].encryption_config);
    assert_eq!(keys.len(), 1);
    stored_values::assert_prefix(
        &plane,
        stored.len(),
        &format!("k8s:enc:aesgcm:v1:{}:", keys[0]),
    );
    for server in &plane.servers {
        stored.assert_readable(&server.client().await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_engines_rotate_too() {
    let plane = ControlPlane::start(Options::default());
    let client = plane.client(0).await;
    let stored = FEW.store(&client, "engines").await.unwrap();
    let bodies = secrets::bodies_digest(&client).await.unwrap();
    let file = &plane.servers[0].encryption_config;
    let _migrator = plane.start_migrator();
    for (engine, provider) in [("etcd", "secretbox"), ("svm", "aesgcm"), ("etcd", "aesgcm")] {
        if engine == "svm" && !plane.tells_hashes() {
            continue;
        }
        rotate(&plane, "run", &["--engine", engine, "--to", provider]).expect(0);
        let keys = key_names(file);
        assert_eq!(keys.len(), 1, "{engine}");
        let prefix = format!("k8s:enc:{provider}:v1:{}:", keys[0]);
        stored_values::assert_prefix(&plane, stored.len(), &prefix);
    }
    stored.assert_readable(&client).await;
    assert_eq!(secrets::bodies_digest(&client).await.unwrap(), bodies);
}

/// Back from wherever a run was stopped: before anything was changed, with both keys in the files, amid
/// the rewrite, held, and with a plugin that writes.
#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_ends_under_the_key_that_wrote_before() {
    let plane = ControlPlane::start(Options::default());
    let client = plane.client(0).await;
    let stored = FEW.store(&client, "back").await.unwrap();
    let bodies = secrets::bodies_digest(&client).await.unwrap();
    let file = &plane.servers[0].encryption_config;

    // To plaintext it does not go back.
    rotate(&plane, "run", &["--to", "secretbox", "--hold", "2s"]).expect(4);
    let refused = rotate(&plane, "rollback", &[]).expect(2);
    assert!(
        refused.stderr.contains("in plaintext"),
        "{}",
        refused.stderr
    );
    std::thread::sleep(Duration::from_secs(2));
    rotate(&plane, "resume", &[]).expect(0);
    let old = key_names(file);
    rotate(&plane, "rollback", &[]).expect(2);

    let plugin = Plugin::start();
    let socket = format!("plugin={}", plugin.socket().display());
    let cases: [&[&str]; 4] = [
        // Long enough to change a file, not to rewrite anything.
        &["--max-duration", "2500ms"],
        &["--max-duration", "9s", "--max-rate", "10"],
        &["--hold", "1h", "--to", "aesgcm"],
        &["--hold", "1h", "--to", "kms", "--kms-socket", &socket],
    ];
    for case in cases {
        rotate(&plane, "run", case).expect(4);
        let back = rotate(&plane, "rollback", &[]).expect(0);
        let told = "values are under the old key";
        // A window may close before anything was changed.
        let nothing = "had not changed anything";
        assert!(
            back.stdout.contains(told) || back.stderr.contains(nothing),
            "{case:?}: {back:?}"
        );
        assert_eq!(key_names(file), old, "{case:?}");
        let prefix = format!("k8s:enc:secretbox:v1:{}:", old[0]);
        stored_values::assert_prefix(&plane, stored.len(), &prefix);
    }
    stored.assert_readable(&client).await;
    assert_eq!(secrets::bodies_digest(&client).await.unwrap(), bodies);

    // And forward again.
    rotate(&plane, "run", &[]).expect(0);
    assert_ne!(key_names(file), old);
}
