//! Paths beside those of OpenSSL, on random graphs of CAs: renewed, cross-signed, superseded, in bundles.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use atrest_tests::issuer::{Issued, Issuer, Request, date};
use atrest_tests::kubeadm::Node;
use serde_json::Value;

use super::random::Random;
use super::seed;

const DAY: i64 = 86_400;
const LEAF: &str = "/etc/kubernetes/pki/front-proxy-client.crt";

/// A certificate of a graph, with what decides on its paths.
struct Vertex {
    issued: Issued,
    name: usize,
    key: usize,
    /// Name and key of who signed it; `None` where it did itself.
    signed_by: Option<(usize, usize)>,
    from: i64,
    to: i64,
}

struct Graph {
    vertices: Vec<Vertex>,
    /// What is trusted, and what is sent, as places in `vertices`.
    trusted: Vec<usize>,
    sent: Vec<usize>,
    leaf: Issued,
    leaf_signed_by: (usize, usize),
    edges: Vec<i64>,
}

/// Three names, each with one or two keys, some of them signed by several others.
fn graph(random: &mut Random, issuer: &Issuer, keys: &[PathBuf], now: i64) -> Graph {
    let mut vertices: Vec<Vertex> = Vec::new();
    let mut edges = Vec::new();
    let mut span = |random: &mut Random| {
        let from = now - 10 * DAY + random.below(20) as i64 * DAY;
        let to = from + (1 + random.below(30)) as i64 * DAY;
        edges.extend([from, to]);
        (from, to)
    };
    for level in 0..3 {
        for _ in 0..1 + random.below(3) {
            let (from, to) = span(random);
            // Names and keys of a level: 0 and 1 of roots, 2 and 3 of what they sign, ...
            let own = 2 * level + random.below(2);
            let mut request = request(&format!("/CN=ca-{level}"), from, to, true);
            request.own_key = Some(keys[own].clone());
            let above: Vec<_> = (0..vertices.len())
                .filter(|place| vertices[*place].name + 1 == level)
                .collect();
            let ca = match above.is_empty() {
                true => None,
                false => Some(&vertices[above[random.below(above.len())]]),
            };
            let pair = ca.map(|ca| (ca.issued.certificate.as_path(), keys[ca.key].as_path()));
            let issued = issuer.issue(&request, pair);
            let signed_by = ca.map(|ca| (ca.name, ca.key));
            vertices.push(Vertex {
                issued,
                name: level,
                key: own,
                signed_by,
                from,
                to,
            });
        }
    }
    let (from, to) = span(random);
    let ca = &vertices[random.below(vertices.len())];
    let leaf_signed_by = (ca.name, ca.key);
    let pair = (ca.issued.certificate.as_path(), keys[ca.key].as_path());
    let leaf = issuer.issue(
        &request("/CN=front-proxy-client", from, to, false),
        Some(pair),
    );
    let mut some = |percent: usize| {
        let places = 0..vertices.len();
        places
            .filter(|_| random.percent(percent))
            .collect::<Vec<_>>()
    };
    let mut trusted = some(50);
    if trusted.is_empty() {
        trusted.push(0);
    }
    Graph {
        sent: some(70),
        trusted,
        leaf,
        leaf_signed_by,
        edges,
        vertices,
    }
}

fn request(subject: &str, from: i64, to: i64, is_ca: bool) -> Request {
    let extensions: &[_] = match is_ca {
        true => &[
            "basicConstraints = critical, CA:TRUE",
            "keyUsage = critical, digitalSignature, keyCertSign",
        ],
        false => &["extendedKeyUsage = clientAuth"],
    };
    let mut request = Request::new(subject, extensions);
    request.not_before = date(from);
    request.not_after = date(to);
    request
}

impl Graph {
    fn bundle(&self, places: &[usize]) -> String {
        places
            .iter()
            .map(|place| self.vertices[*place].issued.certificate())
            .collect()
    }

    /// Whether OpenSSL takes one of the paths. It takes the first issuer that it finds and never goes back,
    /// where Go tries all: each path is shown to it alone. For it, too, what is trusted need not be a root.
    fn openssl(&self, directory: &Path, at: i64) -> bool {
        let mut paths = Vec::new();
        self.paths(self.leaf_signed_by, &mut Vec::new(), &mut paths);
        paths.iter().any(|path| {
            let (anchor, between) = path.split_last().unwrap();
            let (trusted, sent) = (directory.join("trusted.pem"), directory.join("sent.pem"));
            fs::write(&trusted, self.bundle(&[*anchor])).unwrap();
            fs::write(&sent, self.bundle(between)).unwrap();
            let mut command = Command::new("openssl");
            command
                .args(["verify", "-partial_chain", "-purpose", "sslclient"])
                .args(["-attime", &at.to_string(), "-CAfile"])
                .arg(trusted);
            if !between.is_empty() {
                command.arg("-untrusted").arg(sent);
            }
            command.arg(&self.leaf.certificate);
            command.output().unwrap().status.success()
        })
    }

    /// From who signed to what is trusted, by way of what is sent.
    fn paths(&self, signer: (usize, usize), path: &mut Vec<usize>, found: &mut Vec<Vec<usize>>) {
        for (place, vertex) in self.vertices.iter().enumerate() {
            if (vertex.name, vertex.key) != signer || path.contains(&place) {
                continue;
            }
            path.push(place);
            if self.trusted.contains(&place) {
                found.push(path.clone());
            }
            if let (true, Some(signer)) = (self.sent.contains(&place), vertex.signed_by) {
                self.paths(signer, path, found);
            }
            path.pop();
        }
    }

    fn words(&self) -> String {
        let vertices = self.vertices.iter().enumerate();
        let vertices: Vec<_> = vertices
            .map(|(i, it)| format!("{i}: ca-{} key {} {}..{}", it.name, it.key, it.from, it.to))
            .collect();
        format!(
            "{vertices:?}, trusted {:?}, sent {:?}",
            self.trusted, self.sent
        )
    }
}

/// 10,000 graphs with `ATREST_LONG=1`.
#[test]
fn the_end_is_that_of_openssl() {
    let is_long = std::env::var_os("ATREST_LONG").is_some();
    let graphs = if is_long { 10_000 } else { 15 };
    let mut random = Random::new(seed());
    let now = jiff::Timestamp::now().as_second();
    let keys = Issuer::new();
    let keys: Vec<_> = (0..6)
        .map(|_| keys.issue(&Request::new("/CN=key", &[]), None).key())
        .collect();
    let directory = tempfile::tempdir().unwrap();
    let keys: Vec<_> = keys
        .iter()
        .enumerate()
        .map(|(i, key)| {
            let path = directory.path().join(format!("{i}.key"));
            fs::write(&path, key).unwrap();
            path
        })
        .collect();
    let node = Node::new();
    fs::remove_file(node.pki("front-proxy-ca.key")).unwrap();
    let (mut ends, mut refused) = (0, 0);
    for _ in 0..graphs {
        let issuer = Issuer::new();
        let graph = graph(&mut random, &issuer, &keys, now);
        let trusted = graph.bundle(&graph.trusted);
        let sent = graph.bundle(&graph.sent);
        node.write("/etc/kubernetes/pki/front-proxy-ca.crt", trusted);
        node.write(LEAF, graph.leaf.certificate() + &sent);
        node.write(
            "/etc/kubernetes/pki/front-proxy-client.key",
            graph.leaf.key(),
        );
        for _ in 0..5 {
            let edge = graph.edges[random.below(graph.edges.len())];
            // Not the last second itself: for OpenSSL a certificate has expired in it, for Go after it.
            let at = edge - 1 + 2 * random.below(2) as i64;
            let end = valid_until(&node, at);
            let is_valid = graph.openssl(directory.path(), at);
            assert_eq!(end.is_some(), is_valid, "at {at}: {}", graph.words());
            match end {
                None => refused += 1,
                Some(end) => {
                    ends += 1;
                    let (last, next) = (end - 1, end + 1);
                    assert!(
                        graph.openssl(directory.path(), last),
                        "{last}: {}",
                        graph.words()
                    );
                    assert!(
                        !graph.openssl(directory.path(), next),
                        "{next}: {}",
                        graph.words()
                    );
                }
            }
        }
    }
    // A few graphs may be all of one kind.
    assert!(
        !is_long || (ends > graphs / 4 && refused > graphs / 4),
        "{ends} ends, {refused} refused"
    );
}

fn valid_until(node: &Node, at: i64) -> Option<i64> {
    let at = jiff::Timestamp::from_second(at).unwrap().to_string();
    let report = super::check(node, &["--at", &at]).json();
    let inventory = report["inventory"].as_array().unwrap();
    let entry = inventory
        .iter()
        .find(|entry| entry["object"] == LEAF)
        .unwrap();
    match &entry["valid_until"] {
        Value::String(text) => Some(text.parse::<jiff::Timestamp>().unwrap().as_second()),
        _ => None,
    }
}
