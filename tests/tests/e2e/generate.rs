//! What `atrest generate` writes, and what stands in `examples`, kube-apiserver loads.

use std::fs;
use std::path::{Path, PathBuf};

use atrest_tests::atrest;
use atrest_tests::plugin::Plugin;
use atrest_tests::processes::{ControlPlane, Options};
use atrest_tests::stored_values;

fn assert_writes(plane: &ControlPlane, name: &str, prefix: &str) {
    let created = plane
        .kubectl(0)
        .args(["create", "secret", "generic", name, "--from-literal=k=v"])
        .output()
        .unwrap();
    assert!(
        created.status.success(),
        "{}",
        String::from_utf8_lossy(&created.stderr)
    );
    let value = &stored_values::secrets(plane)[&format!("/registry/secrets/default/{name}")];
    let start = String::from_utf8_lossy(&value[..40.min(value.len())]).into_owned();
    assert!(
        value.starts_with(prefix.as_bytes()),
        "{name}: {start:?}, not {prefix:?}"
    );
}

fn generate(plane: &ControlPlane, name: &str, arguments: &[&str]) -> PathBuf {
    let path = plane.directory().join(name);
    let file = path.to_str().unwrap();
    atrest::run(["generate", "--file", file].iter().chain(arguments)).expect(0);
    path
}

#[test]
fn kube_apiserver_loads_what_is_generated_and_writes_with_it() {
    let plane = ControlPlane::start(Options::default());
    let plugin = Plugin::start();
    let endpoint = format!("unix://{}", plugin.socket().display());
    let kms = [
        "--provider",
        "kms",
        "--kms-name",
        "atrest",
        "--kms-endpoint",
        &endpoint,
    ];
    for (i, (arguments, prefix)) in [
        (&["--provider", "aescbc"][..], "k8s:enc:aescbc:v1:"),
        (
            &["--provider", "aesgcm", "--output", "json"],
            "k8s:enc:aesgcm:v1:",
        ),
        (
            &[
                "--provider",
                "secretbox",
                "--resource",
                "secrets",
                "--resource",
                "widgets.example.com",
            ],
            "k8s:enc:secretbox:v1:",
        ),
        (
            &[
                "--provider",
                "secretbox",
                "--resource",
                "*.",
                "--resource",
                "*.apps",
            ],
            "k8s:enc:secretbox:v1:",
        ),
        (
            &["--provider", "aesgcm", "--resource", "*.*"],
            "k8s:enc:aesgcm:v1:",
        ),
        (&kms, "k8s:enc:kms:v2:atrest:"),
        (&["--provider", "identity"], "k8s\0"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = generate(&plane, &format!("generated-{i}"), arguments);
        plane.load(0, &fs::read(&path).unwrap());
        assert_writes(&plane, &format!("generated-{i}"), prefix);
        let verdict = atrest::run([Path::new("validate"), &path]);
        assert_eq!(verdict.status, Some(0), "{}", verdict.stdout);
    }
}

#[test]
fn kube_apiserver_loads_the_examples() {
    let plane = ControlPlane::start(Options::default());
    let plugin = Plugin::start();
    let examples =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/encryption-configuration");
    let mut seen = 0;
    for entry in fs::read_dir(examples).unwrap() {
        let path = entry.unwrap().path();
        let provider = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let mut text = fs::read_to_string(&path).unwrap();
        let prefix = match provider.as_str() {
            "identity" => "k8s\0".to_owned(),
            "kms" => {
                // The socket of the example is on a node; this one is ours.
                let socket = text
                    .split("unix://")
                    .nth(1)
                    .unwrap()
                    .split_whitespace()
                    .next()
                    .unwrap();
                text = text.replace(socket.trim_matches('"'), plugin.socket().to_str().unwrap());
                "k8s:enc:kms:v2:".to_owned()
            }
            local => format!("k8s:enc:{local}:v1:"),
        };
        plane.load(0, text.as_bytes());
        assert_writes(&plane, &format!("example-{provider}"), &prefix);
        seen += 1;
    }
    assert_eq!(seen, 5);
}
