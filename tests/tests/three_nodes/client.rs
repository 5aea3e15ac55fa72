//! A client that reads and writes all the time, and asks the next API server where one does not answer.

use std::path::PathBuf;
use std::process::{Child, Stdio};

use atrest_tests::nodes::Nodes;
use atrest_tests::programs::Programs;

use crate::NAMESPACE;

/// A line for each request: `ok`, with how often it was tried, or `failed`.
const SCRIPT: &str = r#"
kubectl=$1 kubeconfig=$2 stop=$3 namespace=$4; shift 4
i=0
while [ ! -e "$stop" ]; do
    i=$((i + 1)) tries=0 said=
    for server in "$@"; do
        tries=$((tries + 1))
        case $((i % 2)) in
        0) said=$("$kubectl" --kubeconfig "$kubeconfig" --server "$server" --request-timeout 4s \
            get --raw "/api/v1/namespaces/$namespace/secrets/secret-0" 2>&1 >/dev/null) && break ;;
        1) said=$("$kubectl" --kubeconfig "$kubeconfig" --server "$server" --request-timeout 4s \
            -n "$namespace" annotate --overwrite secret secret-1 "test/count=$i" 2>&1 >/dev/null) && break ;;
        esac
        said="failed $said"
    done
    case $said in
    failed*) echo "failed: $said" | tr '\n' ' '; echo ;;
    *) echo "ok $tries" ;;
    esac
    # The next one is asked first next time.
    first=$1; shift; set -- "$@" "$first"
    sleep 0.3
done
"#;

/// It runs until it is asked what it saw.
pub(crate) struct Client {
    child: Child,
    stop: PathBuf,
    log: PathBuf,
}

impl Client {
    pub(crate) fn start(nodes: &mut Nodes) -> Self {
        let urls: Vec<_> = nodes.nodes().iter().map(|node| node.url()).collect();
        let stop = nodes.directory().join("client.stop");
        let log = nodes.directory().join("client.log");
        let output = std::fs::File::create(&log).unwrap();
        let mut command = nodes.command("sh");
        command
            .args(["-c", SCRIPT, "sh"])
            .arg(Programs::required().path("kubectl"))
            .arg(nodes.kubeconfig())
            .arg(&stop)
            .arg(NAMESPACE)
            .args(urls)
            .stdout(output)
            .stderr(Stdio::inherit());
        let child = command.spawn().unwrap();
        Self { child, stop, log }
    }

    /// How many requests were answered, and how many of them by another server than was asked first.
    ///
    /// # Panics
    ///
    /// Where one was answered by none.
    pub(crate) fn stop(mut self) -> (usize, usize) {
        std::fs::write(&self.stop, "").unwrap();
        assert!(self.child.wait().unwrap().success());
        let log = std::fs::read_to_string(&self.log).unwrap();
        let (mut all, mut elsewhere) = (0, 0);
        for line in log.lines() {
            assert!(line.starts_with("ok "), "{line}");
            all += 1;
            elsewhere += usize::from(line != "ok 1");
        }
        (all, elsewhere)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = std::fs::write(&self.stop, "");
        let _ = self.child.wait();
    }
}
