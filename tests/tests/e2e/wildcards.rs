//! What the wildcards of a configuration cover is found where the values are.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::Stdio;

use atrest_tests::atrest;
use atrest_tests::processes::{ControlPlane, Options};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

const EVERYTHING: &str = "apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: ['*.*']
  providers:
  - secretbox:
      keys:
      - {name: key, secret: b25lb25lb25lb25lb25lb25lb25lb25lb25lb25lb24=}
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
    let etcdctl = plane
        .etcdctl()
        .args(["get", "/registry/", "--prefix", "--write-out=json"])
        .output();
    let answer: serde_json::Value = serde_json::from_slice(&etcdctl.unwrap().stdout).unwrap();
    let decode =
        |value: &serde_json::Value| BASE64_STANDARD.decode(value.as_str().unwrap()).unwrap();
    let pairs = answer["kvs"].as_array().unwrap().iter();
    let pairs = pairs.filter(|pair| decode(&pair["value"]).starts_with(b"k8s:enc:"));
    pairs
        .map(|pair| String::from_utf8(decode(&pair["key"])).unwrap())
        .collect()
}

#[test]
fn wildcards_cover_what_the_server_encrypts() {
    let mut plane = ControlPlane::start(Options {
        encryption_config: EVERYTHING.into(),
        ..Options::default()
    });
    assert!(apply(&plane, OBJECTS));
    let established = [
        "wait",
        "--for=condition=Established",
        "--timeout=60s",
        "crd/widgets.example.com",
    ];
    assert!(
        plane
            .kubectl(0)
            .args(established)
            .output()
            .unwrap()
            .status
            .success()
    );
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
