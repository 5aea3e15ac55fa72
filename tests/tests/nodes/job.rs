//! `reencrypt` and `rotate` as the Jobs of `examples/job`, run as pods by the cluster's own controllers.

use std::time::Duration;

use atrest_tests::binaries;
use atrest_tests::nodes::{Node, run};
use serde_json::Value;

const REENCRYPT: &str = include_str!("../../../examples/job/reencrypt.yaml");
const ROTATE: &str = include_str!("../../../examples/job/rotate.yaml");

const MINUTES: Duration = Duration::from_secs(300);

/// Gives the node the image of the Jobs.
pub(crate) fn load_image(node: &Node) {
    let image = |manifest: &str| {
        let line = manifest.lines().find_map(|line| line.split_once("image: "));
        line.unwrap().1.to_owned()
    };
    assert_eq!(image(REENCRYPT), image(ROTATE));
    node.load_image(&image(ROTATE), binaries::path("atrest"));
}

/// Runs the Job to its end, and returns what it printed.
pub(crate) fn reencrypt(node: &mut Node) -> Value {
    apply(node, REENCRYPT, "atrest-reencrypt")
}

/// The same. This cluster's API servers end requests after 5 s, and `rotate` waits as long.
pub(crate) fn rotate(node: &mut Node) -> Value {
    let manifest = ROTATE.replace(
        "        - --yes\n",
        "        - --yes\n        - --request-timeout=5s\n",
    );
    assert_ne!(manifest, ROTATE);
    apply(node, &manifest, "atrest-rotate")
}

fn apply(node: &mut Node, manifest: &str, job: &str) -> Value {
    std::fs::write(node.path("/etc/job.yaml"), manifest).unwrap();
    run(node.kubectl().args(["apply", "-f", "/etc/job.yaml"]));
    let ended = |node: &Node, condition: &str| {
        let path = format!("jsonpath={{.status.conditions[?(@.type==\"{condition}\")].status}}");
        let mut kubectl = node.kubectl();
        kubectl.args(["get", "job", job, "-n", "kube-system", "-o", &path]);
        run(&mut kubectl) == "True"
    };
    node.wait(&format!("end of {job}"), MINUTES, |node| {
        ended(node, "Complete") || ended(node, "Failed")
    });
    let pod = run(node.command("sh").args([
        "-c",
        "cat /var/log/pods/kube-system_\"$0\"-*/atrest/*.log",
        job,
    ]));
    assert!(ended(node, "Complete"), "{pod}");
    // containerd puts time, stream and a flag before each line.
    let stdout = pod.lines().filter_map(|line| line.split_once(" stdout F "));
    let stdout: String = stdout.map(|(_, line)| line).collect();
    serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{pod}"))
}
