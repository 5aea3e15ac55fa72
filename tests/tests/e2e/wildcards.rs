//! What the wildcards of a configuration cover is found where the values are.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::Stdio;

use atrest_tests::atrest;
use atrest_tests::processes::{ControlPlane, Options};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::rotate::{key_names, rotate};

const EVERYTHING: &str = "apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: ['*.*']
  providers:
  - secretbox:
      keys:
      - name: key
        secret: b25lb25lb25lb25lb25lb25lb25lb25lb25lb25lb24=
";

/// One of each odd directory, and a custom resource.
const OBJECTS: &str = "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget, listKind: WidgetList}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
---
{apiVersion: v1, kind: Service, metadata: {name: a, namespace: default}, spec: {ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Endpoints, metadata: {name: a, namespace: default}}
---
{apiVersion: v1, kind: Node, metadata: {name: a}}
---
{apiVersion: v1, kind: Secret, metadata: {name: a, namespace: default}}
---
apiVersion: v1
kind: ReplicationController
metadata: {name: a, namespace: default}
spec: {selector: {a: b}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: a}]}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: a, namespace: default}
spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: a}]}}}
---
{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: a, namespace: default}, spec: {defaultBackend: {service: {name: a, port: {number: 80}}}}}
";

const WIDGET: &str =
    "{apiVersion: example.com/v1, kind: Widget, metadata: {name: a, namespace: default}}";

fn apply(plane: &ControlPlane, text: &str) -> bool {
    let mut kubectl = plane.kubectl(0);
    kubectl.args(["apply", "--server-side", "-f", "-"]);
    let mut child = kubectl
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    child.wait().unwrap().success()
}

/// The keys of all encrypted values.
fn encrypted(plane: &ControlPlane) -> BTreeSet<String> {
    writers(plane).into_keys().collect()
}

/// The key of every encrypted value, and the key that wrote it.
fn writers(plane: &ControlPlane) -> BTreeMap<String, String> {
    let etcdctl = plane
        .etcdctl()
        .args(["get", "/registry/", "--prefix", "--write-out=json"])
        .output();
    let answer: serde_json::Value = serde_json::from_slice(&etcdctl.unwrap().stdout).unwrap();
    let decode =
        |value: &serde_json::Value| BASE64_STANDARD.decode(value.as_str().unwrap()).unwrap();
    let pairs = answer["kvs"].as_array().unwrap().iter();
    let pairs = pairs.filter_map(|pair| {
        let value = decode(&pair["value"]);
        let named = value.strip_prefix(b"k8s:enc:secretbox:v1:")?;
        let name = named.split(|byte| *byte == b':').next().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Some((text(&decode(&pair["key"])), text(name)))
    });
    pairs.collect()
}

fn await_type(plane: &ControlPlane, name: &str) {
    let crd = format!("crd/{name}");
    let wait = ["wait", "--for=condition=Established", "--timeout=60s", &crd];
    assert!(
        plane
            .kubectl(0)
            .args(wait)
            .output()
            .unwrap()
            .status
            .success()
    );
}

#[test]
fn wildcards_cover_what_the_server_encrypts() {
    let mut plane = ControlPlane::start(Options {
        encryption_config: EVERYTHING.into(),
        ..Options::default()
    });
    assert!(apply(&plane, OBJECTS));
    await_type(&plane, "widgets.example.com");
    assert!(apply(&plane, WIDGET));
    let served = plane
        .kubectl(0)
        .args(["api-resources", "--output=name"])
        .output()
        .unwrap();
    let served: BTreeSet<_> = String::from_utf8(served.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();

    // Leases come and go; what counts is that nothing writes between the two looks.
    let config = plane.servers[0].encryption_config.display().to_string();
    let saved = plane.directory().join("all.db");
    plane.kill(0);
    let expected = encrypted(&plane);
    let snapshot = plane
        .etcdctl()
        .args(["snapshot", "save"])
        .arg(&saved)
        .output();
    assert!(snapshot.unwrap().status.success());
    let flags = [
        "verify",
        "--config",
        &config,
        "--decrypt",
        "--max-objects",
        "0",
        "--output",
        "json",
    ];
    let census = |source: Vec<String>| {
        let ended = atrest::run(flags.iter().map(|it| (*it).to_owned()).chain(source)).expect(0);
        let report = ended.json();
        let resources = report["resources"]
            .as_array()
            .unwrap()
            .iter()
            .map(|resource| {
                assert_eq!(resource["total"], resource["current"], "{resource}");
                let name = resource["resource"].as_str().unwrap().to_owned();
                (name, resource["total"].as_u64().unwrap())
            });
        resources.collect::<BTreeMap<_, _>>()
    };
    let live = census(plane.etcd_flags());
    println!("{live:?}");
    assert_eq!(live.values().sum::<u64>(), expected.len() as u64);
    for resource in live.keys() {
        assert!(served.contains(resource), "{resource} is not served");
    }
    for resource in [
        "services",
        "endpoints",
        "nodes",
        "replicationcontrollers",
        "deployments.apps",
        "ingresses.networking.k8s.io",
        "widgets.example.com",
        "customresourcedefinitions.apiextensions.k8s.io",
    ] {
        assert!(live.contains_key(resource), "{resource} was not found");
    }
    assert_eq!(
        census(vec!["--snapshot".into(), saved.display().to_string()]),
        live
    );

    // A file in which less is covered: what is encrypted all the same is not passed over.
    let less = plane.directory().join("less.yaml");
    std::fs::write(&less, EVERYTHING.replace("'*.*'", "secrets")).unwrap();
    let less = less.display().to_string();
    let saved = saved.display().to_string();
    let ended = atrest::run([
        "verify",
        "--config",
        &less,
        "--output",
        "json",
        "--snapshot",
        &saved,
    ]);
    let report = ended.expect(1).json();
    let unknown = report["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["unknown_key"].as_u64().unwrap());
    assert_eq!(
        unknown.sum::<u64>() + live["secrets"],
        expected.len() as u64
    );
}

/// Everything that is stored, and a type that nobody knew when the rotation began.
#[test]
fn a_rotation_of_a_wildcard_rewrites_all_that_it_covers() {
    let plane = ControlPlane::start(Options {
        encryption_config: EVERYTHING.into(),
        ..Options::default()
    });
    assert!(apply(&plane, OBJECTS));
    await_type(&plane, "widgets.example.com");
    assert!(apply(&plane, WIDGET));
    let file = &plane.servers[0].encryption_config;
    let old = std::fs::read(file).unwrap();
    let planned = rotate(&plane, "plan", &[]).expect(0).stdout;
    for told in [
        "  *.*\n    now        secretbox key\n",
        "\nwidgets.example.com: 1 objects",
        "\nminions",
    ] {
        assert_eq!(
            planned.contains(told),
            told != "\nminions",
            "{told:?} in {planned}"
        );
    }
    rotate(&plane, "run", &["--hold", "1s"]).expect(4);
    let new = std::fs::read(file).unwrap();
    let before = writers(&plane);
    let key = key_names(file)[0].clone();
    assert!(
        before.len() > 100 && before.values().all(|it| *it == key),
        "{before:?}"
    );

    // With the old file again for a while, and with another type.
    plane.load(0, &old);
    let gadgets = |text: &str| {
        text.replace("example.com", "example.org")
            .replace("widget", "gadget")
            .replace("Widget", "Gadget")
    };
    let (crd, _) = OBJECTS.split_once("---").unwrap();
    assert!(apply(&plane, &gadgets(crd)));
    await_type(&plane, "gadgets.example.org");
    assert!(apply(&plane, &gadgets(WIDGET)));
    let gadget = "/registry/example.org/gadgets/default/a";
    assert_eq!(writers(&plane)[gadget], "key");
    plane.load(0, &new);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
    while rotate(&plane, "resume", &[]).status != Some(0) {
        assert!(
            std::time::Instant::now() < deadline,
            "the hold does not end"
        );
    }
    assert_eq!(key_names(file), [key.as_str()]);
    let after = writers(&plane);
    assert!(after.contains_key(gadget) && after.len() > before.len());
    assert!(after.values().all(|it| *it == key), "{after:?}");

    // One of all, by its name.
    rotate(&plane, "run", &["--resource", "secrets"]).expect(0);
    let keys = key_names(file);
    assert_eq!((keys.len(), &keys[1]), (2, &key));
    let of_secrets = |it: &&String| it.starts_with("/registry/secrets/");
    let after = writers(&plane);
    assert!(after.keys().any(|it| of_secrets(&it)));
    for (stored, writer) in &after {
        let expected = if of_secrets(&stored) { &keys[0] } else { &key };
        assert_eq!(writer, expected, "{stored}");
    }
}
