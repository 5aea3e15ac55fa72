//! The `svm` engine: the cluster's own controller does the work, the census says what came of it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use atrest_tests::atrest::{self, Ended};
use atrest_tests::processes::{ControlPlane, Options};
use atrest_tests::{schema, stored_values};

use crate::api_engine::{configuration, to_be_rewritten};

fn reencrypt(plane: &ControlPlane) -> Ended {
    let mut arguments = vec![
        "reencrypt".to_owned(),
        "--engine=svm".into(),
        "--output=json".into(),
    ];
    arguments.extend(atrest::flags(plane, 0));
    let config = plane.servers[0].encryption_config.display().to_string();
    arguments.extend(["--config".into(), config]);
    atrest::run(arguments)
}

/// As Kubernetes 1.33 does, whose migrator is behind a feature gate.
fn serves_no_migrations(plane: &ControlPlane) -> bool {
    let absent = !plane.tells_hashes();
    if absent {
        reencrypt(plane).expect(2);
    }
    absent
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_clusters_controller_is_woken_and_its_word_is_not_taken() {
    let (plane, stored) = to_be_rewritten(Options::default()).await;
    if serves_no_migrations(&plane) {
        return;
    }
    let _migrator = plane.start_migrator();
    let start = Instant::now();
    let report = reencrypt(&plane).expect(0).json();
    // Left alone it begins after a minute and a half.
    assert!(start.elapsed() < Duration::from_secs(60), "{report}");
    assert_eq!(schema::faults(&report), Vec::<String>::new());
    assert_eq!(report["engine"], "svm");
    assert_eq!(report["objects"]["rewritten"], report["objects"]["total"]);
    stored_values::assert_prefix(&plane, stored.len(), "k8s:enc:secretbox:v1:new:");
    stored.assert_readable(&plane.client(0).await).await;
    // A second run has nothing to ask for.
    let again = reencrypt(&plane).expect(0).json();
    assert_eq!(again["objects"]["rewritten"], 0);

    // What is written behind its back by a server with another key is what it leaves behind.
    plane.load(0, configuration(["old", "new"]).as_bytes());
    let report = reencrypt(&plane).expect(0).json();
    assert_eq!(report["objects"]["rewritten"], stored.len());
    let of_ours = plane
        .kubectl(0)
        .args(["get", "storageversionmigrations", "-o", "name"])
        .output();
    assert_eq!(of_ours.unwrap().stdout, b"", "a migration of ours is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_controller_leaves_behind_is_named() {
    let (plane, stored) = to_be_rewritten(Options::default()).await;
    if serves_no_migrations(&plane) {
        return;
    }
    // An update that admission refuses ends the migration where it is.
    let manifest = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: frozen}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules: [{apiGroups: [''], apiVersions: [v1], resources: [secrets], operations: [UPDATE]}]
  validations: [{expression: \"object.metadata.namespace != 'many-3'\"}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: frozen}
spec: {policyName: frozen, validationActions: [Deny]}
";
    let file = plane.directory().join("policy.yaml");
    std::fs::write(&file, manifest).unwrap();
    let applied = plane.kubectl(0).args(["apply", "-f"]).arg(&file).status();
    assert!(applied.unwrap().success());
    let deadline = Instant::now() + Duration::from_secs(30);
    let label = [
        "label",
        "secret",
        "-n",
        "many-3",
        "--all",
        "--dry-run=server",
        "a=b",
    ];
    while plane
        .kubectl(0)
        .args(label)
        .output()
        .unwrap()
        .status
        .success()
    {
        assert!(Instant::now() < deadline, "the policy is not asked");
    }

    let _migrator = plane.start_migrator();
    let report = reencrypt(&plane).expect(4).json();
    let named = report["set_aside"].as_array().unwrap().iter();
    let named: BTreeSet<String> = named
        .map(|object| {
            let part = |name: &str| object[name].as_str().unwrap().to_owned();
            format!("/registry/secrets/{}/{}", part("namespace"), part("name"))
        })
        .collect();
    let values = stored_values::secrets(&plane);
    let left = values
        .iter()
        .filter(|(_, value)| value.starts_with(b"k8s:enc:secretbox:v1:old:"));
    let left: BTreeSet<String> = left.map(|(key, _)| key.clone()).collect();
    assert_eq!(named, left);
    assert!(left.len() >= stored.len() / 4, "{}", left.len());
}
