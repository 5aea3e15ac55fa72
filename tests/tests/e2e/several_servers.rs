//! Rotations of several API servers that do not behave, and in windows that are too short.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use atrest_tests::atrest::{self, Ended};
use atrest_tests::processes::{ControlPlane, Options};
use atrest_tests::secrets::Stored;
use atrest_tests::stored_values;

use crate::rotate::{FEW, key_names};

struct Rotated {
    plane: ControlPlane,
    file: PathBuf,
    stored: Stored,
}

impl Rotated {
    fn rotate(&self, action: &str, more: &[&str]) -> Ended {
        atrest::rotate_by(&self.plane, &self.file, action, more)
            .output()
            .unwrap()
            .into()
    }

    /// What was said until it was done.
    fn resume(&mut self, more: &[&str]) -> Vec<Ended> {
        let deadline = Instant::now() + Duration::from_secs(180);
        let mut said = Vec::new();
        loop {
            let ended = self.rotate("resume", more);
            assert!(
                matches!(ended.status, Some(0 | 4)),
                "{ended:?} after {said:?}"
            );
            let is_done = ended.status == Some(0);
            if ended.stderr.contains("restart this API server") {
                assert!(!self.plane.tells_hashes(), "{}", ended.stderr);
                let is_named = |i: &usize| {
                    let told = format!("error: cp{} has not loaded", i + 1);
                    ended.stderr.contains(&told)
                };
                let named = (0..self.plane.servers.len()).find(is_named);
                self.plane.restart(named.unwrap());
            }
            said.push(ended);
            if is_done {
                return said;
            }
            assert!(Instant::now() < deadline, "{said:?}");
        }
    }

    fn config(&self, server: usize) -> &Path {
        &self.plane.servers[server].encryption_config
    }

    /// Every server has one key, everything is stored under it, and each server reads everything.
    async fn assert_done(&self, more: usize) {
        let keys = key_names(self.config(0));
        assert_eq!(keys.len(), 1);
        for (i, server) in self.plane.servers.iter().enumerate() {
            assert_eq!(key_names(self.config(i)), keys);
            self.stored.assert_readable(&server.client().await).await;
        }
        let prefix = format!("k8s:enc:secretbox:v1:{}:", keys[0]);
        stored_values::assert_prefix(&self.plane, self.stored.len() + more, &prefix);
    }

    fn create_through(&self, server: usize, name: &str) {
        let mut kubectl = self.plane.kubectl(server);
        let create = ["create", "secret", "generic", "--from-literal=a=b", name];
        assert!(kubectl.args(create).status().unwrap().success());
    }

    /// Gives a server another file for a while, and has it write meanwhile.
    fn go_back(&self, server: usize, to: &[u8], name: &str) {
        self.plane.load(server, to);
        self.create_through(server, name);
    }
}

fn said(ended: &[Ended], words: &str) -> bool {
    ended.iter().any(|ended| ended.stderr.contains(words))
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_go_back_or_appear_strand_nothing() {
    let plane = ControlPlane::start(Options {
        servers: 3,
        ..Options::default()
    });
    let stored = FEW.store(&plane.client(0).await, "several").await.unwrap();
    let file = atrest::rotation_yaml(&plane, 3, "");
    let mut rotated = Rotated {
        plane,
        file,
        stored,
    };

    // One that is forgotten is seen before anything is changed.
    let two = atrest::rotation_yaml(&rotated.plane, 2, "");
    let ended = rotated.rotate("run", &["--to", "secretbox"]).expect(2);
    let told = "the cluster has 3 API servers, and 2 are listed";
    assert!(ended.stderr.contains(told), "{}", ended.stderr);
    assert_eq!(two, atrest::rotation_yaml(&rotated.plane, 3, ""));
    rotated.rotate("run", &["--to", "secretbox"]).expect(0);
    rotated.assert_done(0).await;

    // Windows that are too short even for the rewrite: each goes on where the one before was.
    let short = ["--max-duration", "11s", "--max-rate", "4"];
    let first = rotated.rotate("run", &short).expect(4);
    assert!(
        first.stderr.contains("the maintenance window is over"),
        "{}",
        first.stderr
    );
    assert_eq!(key_names(rotated.config(0)).len(), 2, "both stay readable");
    let ended = rotated.resume(&short);
    assert!(said(&ended, "step 12: done"), "{ended:?}");
    rotated.assert_done(0).await;
    let escrowed = fs::read_dir(rotated.plane.directory().join("state/escrow")).unwrap();
    assert_eq!(escrowed.count(), 2, "one key a run");

    // A server goes back to its old file, writes, and comes back unseen.
    let old = fs::read(rotated.config(1)).unwrap();
    rotated.rotate("run", &["--hold", "5s"]).expect(4);
    let new = fs::read(rotated.config(1)).unwrap();
    rotated.go_back(1, &old, "unseen");
    rotated.plane.load(1, &new);
    let ended = rotated.resume(&[]);
    let told = "cp2: has restarted or loaded another file";
    assert!(said(&ended, told), "{ended:?}");
    rotated.assert_done(1).await;

    // It goes back, and stays there.
    let old = fs::read(rotated.config(2)).unwrap();
    rotated.rotate("run", &["--hold", "5s"]).expect(4);
    rotated.go_back(2, &old, "seen");
    let ended = rotated.resume(&[]);
    assert!(said(&ended, "cp3: wrote"), "{ended:?}");
    rotated.assert_done(2).await;

    // A server that nobody listed appears: no key leaves before it is listed.
    rotated.rotate("run", &["--hold", "5s"]).expect(4);
    rotated.plane.add_server();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let ended = rotated.rotate("resume", &[]).expect(4);
    let told = "the cluster has 4 API servers, and 3 are listed";
    assert!(ended.stderr.contains(told), "{}", ended.stderr);
    assert_eq!(key_names(rotated.config(0)).len(), 2);
    atrest::rotation_yaml(&rotated.plane, 4, "");
    rotated.resume(&[]);
    rotated.assert_done(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_nobody_listed_is_named() {
    let plane = ControlPlane::start(Options {
        servers: 2,
        reconciles_endpoints: true,
        ..Options::default()
    });
    let kubectl = |words: &str| {
        let output = plane.kubectl(0).args(words.split(' ')).output().unwrap();
        assert!(output.status.success(), "{words}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let deadline = Instant::now() + Duration::from_secs(120);
    let slice =
        "get endpointslice kubernetes -o jsonpath={.endpoints[*].addresses} --ignore-not-found";
    while kubectl(slice).matches("10.77.0.").count() < 2 {
        assert!(Instant::now() < deadline, "no endpoints");
    }
    let plan = |plane: &ControlPlane, file: &Path| -> Ended {
        let mut command = atrest::rotate_by(plane, file, "plan", &["--to", "secretbox"]);
        command.output().unwrap().into()
    };
    let file = atrest::rotation_yaml(&plane, 1, "");
    let told = "the cluster has 2 API servers, and 1 are listed: atrest-cp2 is not among these";
    let refused = plan(&plane, &file).expect(2);
    assert!(refused.stderr.contains(told), "{}", refused.stderr);
    atrest::rotation_yaml(&plane, 2, "");
    plan(&plane, &file).expect(0);

    // The same server under two addresses.
    let text = fs::read_to_string(&file).unwrap();
    let [first, second] = [0, 1].map(|i| plane.servers[i].url.clone());
    let alias = first.replace("127.0.0.1", "localhost");
    fs::write(&file, text.replace(&second, &alias)).unwrap();
    let told = "the cluster has 2 API servers, and 2 are listed: atrest-cp2 is not among these";
    let refused = plan(&plane, &file).expect(2);
    assert!(refused.stderr.contains(told), "{}", refused.stderr);
}

/// Where somebody else keeps the endpoints.
#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_no_listed_server_is_named() {
    let plane = ControlPlane::start(Options::default());
    let manifest = plane.directory().join("slice.yaml");
    let plan = |addresses: &[&str]| -> Ended {
        let endpoints = addresses.iter().map(|it| format!("{{addresses: [{it}]}}"));
        let endpoints = endpoints.collect::<Vec<_>>().join(", ");
        let text = format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n\
             metadata: {{name: kubernetes, namespace: default}}\nendpoints: [{endpoints}]\n"
        );
        fs::write(&manifest, text).unwrap();
        let mut kubectl = plane.kubectl(0);
        let apply = kubectl.args(["apply", "--filename"]).arg(&manifest);
        assert!(apply.output().unwrap().status.success());
        let plan = atrest::rotate(&plane, "plan", &["--to", "secretbox"]);
        { plan }.output().unwrap().into()
    };
    // One is the server, by a balancer's address perhaps.
    plan(&["10.77.0.8"]).expect(0);
    let refused = plan(&["10.77.0.8", "10.77.0.9"]).expect(2);
    let told =
        "default/kubernetes has 2 API servers, and 1 are listed: 10.77.0.8, 10.77.0.9 is not";
    assert!(refused.stderr.contains(told), "{}", refused.stderr);
}
