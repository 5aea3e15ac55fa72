//! Two operators, and one whose machine is lost.

use std::fs;

use atrest_tests::atrest::{self, Ended};
use atrest_tests::processes::{ControlPlane, Options};
use atrest_tests::stored_values;

use crate::rotate::{FEW, key_names, rotate};

fn lease(plane: &ControlPlane, field: &str) -> String {
    let path = format!("-o=jsonpath={{{field}}}");
    let get = [
        "get",
        "lease",
        "atrest-rotation",
        "-n",
        "kube-system",
        &path,
    ];
    let output = plane.kubectl(0).args(get).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A server before Kubernetes 1.34 does not say that it has loaded what another run wrote: a later start is
/// the evidence.
fn restart_where_nothing_is_told(
    plane: &mut ControlPlane,
    resume: impl Fn(&ControlPlane) -> Ended,
) {
    if plane.tells_hashes() {
        return;
    }
    let told = resume(plane).expect(4).stderr;
    assert!(told.contains("restart this API server"), "{told}");
    plane.restart(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_run_at_a_time_and_a_lost_machine_is_replaced() {
    let mut plane = ControlPlane::start(Options::default());
    let stored = FEW
        .store(&plane.client(0).await, "operators")
        .await
        .unwrap();
    let directory = plane.directory().to_owned();
    let path = |name: &str| directory.join(name).display().to_string();
    let elsewhere = path("elsewhere");
    let there = |plane: &ControlPlane, action: &str, more: &[&str]| -> Ended {
        let here = atrest::rotate(plane, action, more);
        let mut arguments: Vec<_> = here.get_args().map(ToOwned::to_owned).collect();
        let flag = arguments.iter().position(|it| it == "--state-dir").unwrap();
        arguments[flag + 1] = elsewhere.clone().into();
        atrest::run(arguments)
    };
    let config = &plane.servers[0].encryption_config.clone();

    rotate(&plane, "run", &["--to", "secretbox", "--hold", "1h"]).expect(4);
    let holder = lease(&plane, ".spec.holderIdentity");
    let run = holder.split('/').next().unwrap();
    let before = fs::read(config).unwrap();

    // Another machine sees the run, and begins none.
    let refused = there(&plane, "run", &["--to", "aesgcm"]).expect(2);
    assert!(
        refused.stderr.contains(&format!("--adopt-run {run}")),
        "{}",
        refused.stderr
    );
    let status = there(&plane, "status", &[]).expect(2);
    assert!(
        status
            .stderr
            .contains(&format!("rotation {run} is not finished (at hold")),
        "{}",
        status.stderr
    );
    // Nor does it adopt one whose key it does not have.
    let adopt = ["--adopt-run", run, "--to", "secretbox"];
    let keyless = there(&plane, "resume", &adopt).expect(2);
    assert!(
        keyless.stderr.contains("the key of run"),
        "{}",
        keyless.stderr
    );
    assert_eq!(fs::read(config).unwrap(), before);
    assert_eq!(lease(&plane, ".spec.holderIdentity"), holder);

    // With the escrow it does, and the first machine is told.
    let escrow = path("state/escrow/key");
    let adopt = [&adopt[..], &["--escrow", &escrow]].concat();
    let and_hold = [&adopt[..], &["--hold", "1h"]].concat();
    restart_where_nothing_is_told(&mut plane, |plane| there(plane, "resume", &and_hold));
    let held = there(&plane, "resume", &and_hold).expect(4);
    assert!(held.stderr.contains("holding"), "{}", held.stderr);
    assert_ne!(lease(&plane, ".spec.holderIdentity"), holder);
    let late = rotate(&plane, "resume", &[]).expect(4);
    assert!(late.stderr.contains("is not finished"), "{}", late.stderr);
    assert_eq!(key_names(config).len(), 1);

    // Its journal goes as well, and a third one ends it.
    fs::remove_dir_all(&elsewhere).unwrap();
    restart_where_nothing_is_told(&mut plane, |plane| there(plane, "resume", &adopt));
    there(&plane, "resume", &adopt).expect(0);
    assert_eq!(lease(&plane, ".spec.holderIdentity"), "");
    let keys = key_names(config);
    let prefix = format!("k8s:enc:secretbox:v1:{}:", keys[0]);
    stored_values::assert_prefix(&plane, stored.len(), &prefix);
    let escrowed = fs::read_dir(plane.directory().join("state/escrow")).unwrap();
    assert_eq!(escrowed.count(), 1, "one key was minted");

    // Free again for everybody.
    there(&plane, "run", &[]).expect(0);
}
