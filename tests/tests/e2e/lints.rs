//! `atrest validate` knows the resources that a real API server serves, and asks it for those that
//! nobody covers.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use atrest_tests::atrest;
use atrest_tests::processes::{ControlPlane, Options};

/// A custom resource that holds a password.
const CRD: &str = "\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: dbcredentials.lints.example}
spec:
  group: lints.example
  names: {plural: dbcredentials, singular: dbcredential, kind: DbCredential}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
";

/// `ID resource` of the findings about names of resources, of an entry that has all these.
fn said(plane: &ControlPlane, resources: &[&str], arguments: &[&str]) -> Vec<String> {
    let path = plane.directory().join("linted.yaml");
    let list: String = resources.iter().map(|it| format!("  - '{it}'\n")).collect();
    let file = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n\
         - resources:\n{list}  providers:\n  \
         - kms: {{apiVersion: v2, name: a, endpoint: 'unix:///run/kms.sock'}}\n"
    );
    fs::write(&path, file).unwrap();
    let file = path.to_str().unwrap();
    let ended = atrest::run(["validate", "--output=json", file].iter().chain(arguments)).expect(0);
    let findings = ended.json()["files"][0]["findings"].clone();
    let findings = findings.as_array().unwrap().iter();
    findings
        .map(|it| {
            let line = usize::try_from(it["line"].as_u64().unwrap()).unwrap();
            let name = resources
                .get(line.wrapping_sub(5))
                .copied()
                .unwrap_or_default();
            format!("{} {name}", it["id"].as_str().unwrap())
        })
        // Events and Leases are advised against by their right names.
        .filter(|it| !it.starts_with("AR-L045"))
        .collect()
}

fn await_served(plane: &ControlPlane, group: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let is_served = || {
        let path = format!("--raw=/apis/{group}/v1");
        plane
            .kubectl(0)
            .args(["get", &path])
            .output()
            .unwrap()
            .status
            .success()
    };
    while !is_served() {
        assert!(Instant::now() < deadline, "{group} is not served");
    }
}

fn create(plane: &ControlPlane, manifest: &str) {
    let mut kubectl = plane.kubectl(0);
    kubectl.args(["create", "-f", "-"]);
    let mut child = kubectl
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(manifest.as_bytes()).unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_resources_of_a_real_server_are_known_and_its_custom_ones_are_asked_for() {
    let plane = ControlPlane::start(Options::default());
    let kubeconfig: &Path = &plane.servers[0].kubeconfig;
    let asked = ["--kubeconfig", kubeconfig.to_str().unwrap()];

    let output = plane
        .kubectl(0)
        .args(["api-resources", "-o", "name"])
        .output()
        .unwrap();
    let names = String::from_utf8(output.stdout).unwrap();
    let served: Vec<&str> = names
        .lines()
        .filter(|it| *it != "events.events.k8s.io")
        .collect();
    assert!(served.len() > 50, "{served:?}");
    // Those that are not stored, the server says itself: nobody can list them.
    let output = plane
        .kubectl(0)
        .args(["api-resources", "-o", "name", "--verbs=list"])
        .output()
        .unwrap();
    let listed = String::from_utf8(output.stdout).unwrap();
    let mut expected: Vec<String> = served
        .iter()
        .filter(|it| **it == "componentstatuses" || !listed.lines().any(|name| name == **it))
        .map(|it| format!("AR-L044 {it}"))
        .collect();
    expected.sort();
    for arguments in [&[][..], &asked] {
        let mut said = said(&plane, &served, arguments);
        said.sort();
        assert_eq!(said, expected, "{arguments:?}");
    }

    create(&plane, CRD);
    await_served(&plane, "lints.example");
    let one = "dbcredentials.lints.example";
    assert_eq!(
        said(&plane, &["secrets", "configmaps"], &asked),
        ["AR-L055 "]
    );
    assert_eq!(
        said(&plane, &["secrets", "configmaps", one], &asked),
        [""; 0]
    );
    assert_eq!(said(&plane, &["secrets", one], &asked), ["AR-L056 "]);
    let other = "dbpasswords.lints.example";
    let names = ["secrets", "configmaps", one, other];
    assert_eq!(said(&plane, &names, &asked), [format!("AR-L054 {other}")]);
    assert_eq!(
        said(&plane, &names, &[]),
        [""; 0],
        "the file alone does not tell"
    );
}
