//! One thing of a node is changed, and just that is found.

use std::fs;
use std::path::{Path, PathBuf};

use atrest_tests::issuer::{Issued, Issuer, Request};
use atrest_tests::kubeadm::Node;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{check, findings};

/// A certificate of a node.
#[derive(Clone, Copy)]
struct Leaf {
    /// A file of the PKI without its ending, or a kubeconfig.
    name: &'static str,
    /// The user of the kubeconfig.
    user: Option<&'static str>,
    ca: &'static str,
    subject: &'static str,
    usage: &'static str,
    names: &'static [&'static str],
}

const SERVER: &str = "serverAuth";
const CLIENT: &str = "clientAuth";
const BOTH: &str = "serverAuth, clientAuth";
const ETCD_NAMES: &[&str] = &[
    "DNS:atrest",
    "DNS:localhost",
    "IP:127.0.0.1",
    "IP:0:0:0:0:0:0:0:1",
    "IP:10.77.0.1",
];

const fn pair(
    name: &'static str,
    ca: &'static str,
    subject: &'static str,
    usage: &'static str,
    names: &'static [&'static str],
) -> Leaf {
    Leaf {
        name,
        user: None,
        ca,
        subject,
        usage,
        names,
    }
}

const fn conf(name: &'static str, user: &'static str, subject: &'static str) -> Leaf {
    Leaf {
        name,
        user: Some(user),
        ca: "ca",
        subject,
        usage: CLIENT,
        names: &[],
    }
}

const LEAVES: [Leaf; 12] = [
    pair(
        "apiserver",
        "ca",
        "/CN=kube-apiserver",
        SERVER,
        &[
            "DNS:kubernetes",
            "DNS:kubernetes.default",
            "DNS:kubernetes.default.svc",
            "DNS:kubernetes.default.svc.cluster.local",
            "DNS:atrest",
            "DNS:api.example.org",
            "IP:10.96.0.1",
            "IP:10.77.0.1",
        ],
    ),
    pair(
        "apiserver-kubelet-client",
        "ca",
        "/CN=kube-apiserver-kubelet-client",
        CLIENT,
        &[],
    ),
    pair(
        "apiserver-etcd-client",
        "etcd/ca",
        "/CN=kube-apiserver-etcd-client",
        CLIENT,
        &[],
    ),
    pair(
        "front-proxy-client",
        "front-proxy-ca",
        "/CN=front-proxy-client",
        CLIENT,
        &[],
    ),
    pair("etcd/server", "etcd/ca", "/CN=atrest", BOTH, ETCD_NAMES),
    pair("etcd/peer", "etcd/ca", "/CN=atrest", BOTH, ETCD_NAMES),
    pair(
        "etcd/healthcheck-client",
        "etcd/ca",
        "/CN=kube-etcd-healthcheck-client",
        CLIENT,
        &[],
    ),
    conf(
        "admin.conf",
        "kubernetes-admin",
        "/O=kubeadm:cluster-admins/CN=kubernetes-admin",
    ),
    conf(
        "super-admin.conf",
        "kubernetes-super-admin",
        "/O=system:masters/CN=kubernetes-super-admin",
    ),
    conf(
        "controller-manager.conf",
        "system:kube-controller-manager",
        "/CN=system:kube-controller-manager",
    ),
    conf(
        "scheduler.conf",
        "system:kube-scheduler",
        "/CN=system:kube-scheduler",
    ),
    conf(
        "kubelet.conf",
        "system:node:atrest",
        "/O=system:nodes/CN=system:node:atrest",
    ),
];

impl Leaf {
    fn object(&self) -> String {
        match self.user {
            None => format!("/etc/kubernetes/pki/{}.crt", self.name),
            Some(user) => format!("/etc/kubernetes/{}: user {user}", self.name),
        }
    }

    /// The file with its key.
    fn key_file(&self) -> String {
        match self.user {
            None => format!("/etc/kubernetes/pki/{}.key", self.name),
            Some(_) => format!("/etc/kubernetes/{}", self.name),
        }
    }

    fn file(&self) -> String {
        match self.user {
            None => format!("/etc/kubernetes/pki/{}.crt", self.name),
            Some(_) => self.key_file(),
        }
    }

    fn request(&self) -> Request {
        let usage = format!("extendedKeyUsage = {}", self.usage);
        let mut request = Request::new(self.subject, &[CA_FALSE, KEY_USAGE, &usage]);
        request.extensions.extend(self.sans(None));
        request
    }

    /// The names, one left out.
    fn sans(&self, without: Option<usize>) -> Option<String> {
        let names = self.names.iter().enumerate();
        let names = names.filter(|(i, _)| Some(*i) != without);
        let names: Vec<_> = names.map(|(_, name)| *name).collect();
        (!names.is_empty()).then(|| format!("subjectAltName = {}", names.join(", ")))
    }

    fn issue(&self, node: &Node, request: &Request) -> Issued {
        self.issue_by(node, request, self.ca)
    }

    fn issue_by(&self, node: &Node, request: &Request, ca: &str) -> Issued {
        let certificate = node.pki(&format!("{ca}.crt"));
        let key = node.pki(&format!("{ca}.key"));
        Issuer::new().issue(request, Some((&certificate, &key)))
    }

    fn put(&self, node: &Node, issued: &Issued) {
        self.put_certificate(node, &issued.certificate());
        self.put_key(node, &issued.key());
    }

    fn put_certificate(&self, node: &Node, pem: &str) {
        match self.user {
            None => node.write(&self.file(), pem),
            Some(_) => replace_data(&node.path(&self.file()), "client-certificate-data", pem),
        }
    }

    fn put_key(&self, node: &Node, pem: &str) {
        match self.user {
            None => node.write(&self.key_file(), pem),
            Some(_) => replace_data(&node.path(&self.file()), "client-key-data", pem),
        }
    }
}

const CA_FALSE: &str = "basicConstraints = critical, CA:FALSE";
const CA_TRUE: &str = "basicConstraints = critical, CA:TRUE";
const KEY_USAGE: &str = "keyUsage = critical, digitalSignature, keyEncipherment";
const CA_USAGE: &str = "keyUsage = critical, digitalSignature, keyEncipherment, keyCertSign";
const DAY: i64 = 86_400;

pub(super) fn replace_data(path: &Path, field: &str, pem: &str) {
    let text = fs::read_to_string(path).unwrap();
    let line = text.lines().find(|line| line.trim().starts_with(field));
    let line = line.unwrap_or_else(|| panic!("{} has no {field}", path.display()));
    let indent = &line[..line.find(field).unwrap()];
    let new = format!("{indent}{field}: {}", STANDARD.encode(pem));
    fs::write(path, text.replace(line, &new)).unwrap();
}

/// What is done to a node, and what then has to be found.
struct Mutation {
    name: String,
    act: Box<dyn Fn(&Node)>,
    /// The ids at warning and above, each of this object.
    found: Vec<(&'static str, String)>,
}

fn mutations() -> Vec<Mutation> {
    let mut all = Vec::new();
    for leaf in LEAVES {
        of_leaf(leaf, &mut all);
    }
    for ca in ["ca", "front-proxy-ca", "etcd/ca"] {
        of_ca(ca, &mut all);
    }
    of_kubeconfigs(&mut all);
    all
}

fn of_leaf(leaf: Leaf, all: &mut Vec<Mutation>) {
    let object = leaf.object();
    let mut add = |name: &str, ids: &[&'static str], act: Box<dyn Fn(&Node)>| {
        all.push(Mutation {
            name: format!("{}: {name}", leaf.name),
            act,
            found: ids.iter().map(|id| (*id, object.clone())).collect(),
        });
    };
    // What a certificate with other fields is found for.
    let mut reissue = |name: &str, ids: &[&'static str], change: Box<dyn Fn(&mut Request)>| {
        let act = move |node: &Node| {
            let mut request = leaf.request();
            change(&mut request);
            leaf.put(node, &leaf.issue(node, &request));
        };
        add(name, ids, Box::new(act));
    };
    reissue("nothing is changed", &[], Box::new(|_| {}));
    for (name, id, from, to) in [
        ("has expired", "AR-X001", -400 * DAY, -DAY),
        ("expired this minute", "AR-X001", -400 * DAY, -60),
        ("expires today", "AR-X002", -360 * DAY, 5 * 3600),
        ("expires in days", "AR-X002", -360 * DAY, 5 * DAY),
        ("begins tomorrow", "AR-X004", DAY, 300 * DAY),
        ("lives for four years", "AR-X022", -DAY, 4 * 366 * DAY),
    ] {
        let change = move |request: &mut Request| *request = request.clone().from_to(from, to);
        reissue(name, &[id], Box::new(change));
    }
    let soon = if leaf.name == "kubelet.conf" { 25 } else { 60 };
    reissue(
        "expires in weeks",
        &["AR-X003"],
        Box::new(move |request| *request = request.clone().from_to(-340 * DAY, soon * DAY)),
    );
    if !matches!(leaf.name, "etcd/server" | "etcd/peer") {
        let change = |request: &mut Request| {
            let (before, _) = request.subject.rsplit_once("/CN=").unwrap();
            request.subject = format!("{before}/CN=somebody-else");
        };
        reissue("has another CN", &["AR-X010"], Box::new(change));
    }
    let masters: &[_] = match leaf.name {
        "super-admin.conf" => &["AR-X011"],
        // It was of this group in older releases.
        "apiserver-kubelet-client" | "apiserver-etcd-client" | "etcd/healthcheck-client" => {
            &["AR-X014"]
        }
        _ => &["AR-X011", "AR-X014"],
    };
    reissue(
        "has a group more",
        masters,
        Box::new(|request| {
            let more = match request.subject.contains("system:masters") {
                true => "developers",
                false => "system:masters",
            };
            request.subject = format!("/O={more}{}", request.subject);
        }),
    );
    for (name, ids, old, new) in [
        (
            "is for mail",
            &["AR-X012"][..],
            leaf.usage,
            "emailProtection",
        ),
        ("may sign others", &["AR-X016"], CA_FALSE, CA_TRUE),
        (
            "is not for handshakes",
            &["AR-X018"],
            KEY_USAGE,
            "keyUsage = critical, keyEncipherment",
        ),
        (
            "has a critical extension that nobody knows",
            &["AR-X019"],
            KEY_USAGE,
            "1.2.3.4.5 = critical, ASN1:NULL",
        ),
    ] {
        let change = move |request: &mut Request| {
            for extension in &mut request.extensions {
                *extension = extension.replace(old, new);
            }
        };
        reissue(name, ids, Box::new(change));
    }
    for (i, name) in leaf.names.iter().enumerate() {
        let change = move |request: &mut Request| {
            request.extensions.pop();
            request.extensions.extend(leaf.sans(Some(i)));
        };
        reissue(&format!("lacks {name}"), &["AR-X013"], Box::new(change));
    }
    reissue(
        "has a short key",
        &["AR-X020"],
        Box::new(|request| {
            request.key = &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"];
        }),
    );
    reissue(
        "is signed with SHA-1",
        &["AR-X021"],
        Box::new(|request| request.digest = "sha1"),
    );
    for key in [
        &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"][..],
        &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
        &["-algorithm", "ED25519"],
    ] {
        let name = format!("is of another kind that is fine: {key:?}");
        reissue(&name, &[], Box::new(|request| request.key = key));
    }

    for ca in ["ca", "front-proxy-ca", "etcd/ca"] {
        if ca != leaf.ca {
            let act = move |node: &Node| {
                leaf.put(node, &leaf.issue_by(node, &leaf.request(), ca));
            };
            add(&format!("is signed by {ca}"), &["AR-X007"], Box::new(act));
        }
    }
    let act = move |node: &Node| leaf.put(node, &Issuer::new().issue(&leaf.request(), None));
    add("is signed by itself", &["AR-X007"], Box::new(act));
    let act = move |node: &Node| {
        let issued = leaf.issue(node, &leaf.request());
        leaf.put_certificate(node, &issued.certificate());
    };
    add("has the key of before", &["AR-X008"], Box::new(act));
    let act = move |node: &Node| leaf.put_key(node, &leaf.issue(node, &leaf.request()).key());
    add("has the certificate of before", &["AR-X008"], Box::new(act));

    let (file, key_file) = (leaf.file(), leaf.key_file());
    let mut touch = |name: &str, id: &'static str, path: &str, act: fn(&Node, &str)| {
        let place = path.to_owned();
        all.push(Mutation {
            name: format!("{}: {name}", leaf.name),
            act: Box::new(move |node| act(node, &place)),
            found: vec![(id, path.to_owned())],
        });
    };
    touch("a key for all", "AR-X030", &key_file, |node, path| {
        node.chmod(path, 0o644)
    });
    touch("a key for a group", "AR-X031", &key_file, |node, path| {
        node.chmod(path, 0o640)
    });
    touch(
        "a file that all can change",
        "AR-X032",
        &file,
        |node, path| node.chmod(path, 0o602),
    );
    touch(
        "a file that a group can change",
        "AR-X032",
        &file,
        |node, path| node.chmod(path, 0o620),
    );
    let is_needed = !matches!(
        leaf.name,
        "admin.conf" | "super-admin.conf" | "etcd/healthcheck-client"
    );
    if is_needed {
        let remove = |node: &Node, path: &str| fs::remove_file(node.path(path)).unwrap();
        touch("the file is gone", "AR-X009", &file, remove);
        if key_file != file {
            touch("the key is gone", "AR-X009", &key_file, remove);
        }
    }
}

fn of_ca(ca: &'static str, all: &mut Vec<Mutation>) {
    let path = format!("/etc/kubernetes/pki/{ca}.crt");
    let name = match ca {
        "ca" => "/CN=kubernetes",
        "etcd/ca" => "/CN=etcd-ca",
        _ => "/CN=front-proxy-ca",
    };
    // The CA's certificate anew, with its own key: what it signed is still signed by it.
    let mut add = |what: &str, id: &'static str, change: fn(Request) -> Request| {
        let act = move |node: &Node| {
            let mut request =
                change(Request::new(name, &[CA_TRUE, CA_USAGE]).from_to(-DAY, 3000 * DAY));
            request.own_key = Some(node.pki(&format!("{ca}.key")));
            let issued = Issuer::new().issue(&request, None);
            fs::write(node.pki(&format!("{ca}.crt")), issued.certificate()).unwrap();
        };
        all.push(Mutation {
            name: format!("{ca}: {what}"),
            act: Box::new(act),
            found: vec![(id, path.clone())],
        });
    };
    add("ends within a year", "AR-X005", |it| {
        it.from_to(-DAY, 200 * DAY)
    });
    add("ends within days", "AR-X002", |it| {
        it.from_to(-DAY, 20 * DAY)
    });
    add("has expired", "AR-X001", |it| it.from_to(-9 * DAY, -DAY));
    add("begins tomorrow", "AR-X004", |it| {
        it.from_to(DAY, 900 * DAY)
    });
    add("is no CA", "AR-X015", |mut it| {
        it.extensions[0] = CA_FALSE.into();
        it
    });
    add("says nothing of being a CA", "AR-X015", |mut it| {
        it.extensions.remove(0);
        it
    });
    add("does not sign", "AR-X015", |mut it| {
        it.extensions[1] = KEY_USAGE.into();
        it
    });
    let key = format!("/etc/kubernetes/pki/{ca}.key");
    let place = key.clone();
    all.push(Mutation {
        name: format!("{ca}: a key for all"),
        act: Box::new(move |node| node.chmod(&place, 0o644)),
        found: vec![("AR-X030", key.clone())],
    });
    let object = path.clone();
    all.push(Mutation {
        name: format!("{ca}: another key"),
        act: Box::new(move |node| {
            let other = Issuer::new().issue(&Request::new("/CN=other", &[]), None);
            node.write(&key, other.key());
        }),
        found: vec![("AR-X008", object)],
    });
}

fn of_kubeconfigs(all: &mut Vec<Mutation>) {
    let mut add = |path: &'static str, what: &str, id: &'static str, object: String, old, new| {
        all.push(Mutation {
            name: format!("{path}: {what}"),
            act: Box::new(move |node: &Node| {
                let text = node.text(path);
                let line = text.lines().find(|line| line.contains(old));
                let line = line.unwrap_or_else(|| panic!("{path} has no {old}"));
                node.write(path, text.replace(line, new));
            }),
            found: vec![(id, object)],
        });
    };
    for path in [
        "/etc/kubernetes/admin.conf",
        "/etc/kubernetes/super-admin.conf",
        "/etc/kubernetes/controller-manager.conf",
        "/etc/kubernetes/scheduler.conf",
        "/etc/kubernetes/kubelet.conf",
    ] {
        let cluster = format!("{path}: cluster kubernetes");
        let authority = "certificate-authority-data";
        add(
            path,
            "not verified",
            "AR-X040",
            cluster.clone(),
            authority,
            "    insecure-skip-tls-verify: true",
        );
        add(path, "no CA", "AR-X044", cluster.clone(), authority, "");
        add(
            path,
            "plaintext",
            "AR-X041",
            cluster,
            "server:",
            "    server: http://api.example.org:6443",
        );
        add(
            path,
            "no such context",
            "AR-X043",
            path.into(),
            "current-context",
            "current-context: absent",
        );
        add(
            path,
            "no such cluster",
            "AR-X043",
            path.into(),
            "    cluster: ",
            "    cluster: absent",
        );
        let api = "/etc/kubernetes/pki/apiserver.crt".to_owned();
        add(
            path,
            "another server",
            "AR-X013",
            api.clone(),
            "server:",
            "    server: https://lb.example.org",
        );
        let name = "    tls-server-name: other\n    server: https://api.example.org:6443";
        add(path, "another name", "AR-X013", api, "server:", name);
    }
}

#[test]
fn one_change_has_one_finding() {
    let all = mutations();
    assert!(all.len() >= 400, "only {} mutations", all.len());
    let mut wrong = Vec::new();
    for mutation in &all {
        let node = Node::new();
        (mutation.act)(&node);
        let ended = check(&node, &[]);
        let report = ended.json();
        let mut found = findings(&report);
        let mut expected: Vec<_> = mutation
            .found
            .iter()
            .map(|(id, object)| ((*id).to_owned(), object.clone()))
            .collect();
        // A CA that is not believed takes with it what it signed.
        let takes_along = expected.iter().any(|(id, object)| {
            object.ends_with("ca.crt") && matches!(id.as_str(), "AR-X001" | "AR-X004" | "AR-X015")
        });
        if takes_along {
            found.retain(|(id, _)| id != "AR-X007");
        }
        // What outlives its CA is another finding.
        found.retain(|(id, _)| {
            id != "AR-X006" || !expected.iter().any(|it| it.1.ends_with("ca.crt"))
        });
        found.sort();
        expected.sort();
        let unread = report["unread"].as_array().unwrap();
        if found != expected || !unread.is_empty() {
            wrong.push(format!(
                "{}: {found:?} instead of {expected:?}; {unread:?}",
                mutation.name
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} are wrong: {wrong:#?}",
        wrong.len(),
        all.len()
    );
}

/// Keys of two certificates, and of two CAs.
#[test]
fn keys_are_compared_and_not_paths() {
    let node = Node::new();
    let (first, second) = (LEAVES[1], LEAVES[3]);
    let mut request = second.request();
    request.own_key = Some(node.path(&first.key_file()));
    second.put(&node, &second.issue(&node, &request));
    let found = findings(&check(&node, &[]).json());
    assert_eq!(found, [("AR-X023".to_owned(), second.object())]);

    let node = Node::new();
    let mut request = Request::new("/CN=etcd-ca", &[CA_TRUE, CA_USAGE]).from_to(-DAY, 3000 * DAY);
    request.own_key = Some(node.pki("ca.key"));
    let ca = Issuer::new().issue(&request, None);
    fs::write(node.pki("etcd/ca.crt"), ca.certificate()).unwrap();
    fs::copy(node.pki("ca.key"), node.pki("etcd/ca.key")).unwrap();
    for leaf in LEAVES.iter().filter(|leaf| leaf.ca == "etcd/ca") {
        leaf.put(&node, &leaf.issue(&node, &leaf.request()));
    }
    let found = findings(&check(&node, &[]).json());
    assert_eq!(
        found,
        [(
            "AR-X024".to_owned(),
            "/etc/kubernetes/pki/etcd/ca.crt".to_owned()
        )]
    );
}

/// An old CA that is left in a bundle alarms nobody, in whatever order they stand.
#[test]
fn a_superseded_ca_is_no_alarm() {
    for is_first in [true, false] {
        let node = Node::new();
        let old = Request::new("/CN=kubernetes", &[CA_TRUE, CA_USAGE]).from_to(-9 * DAY, -DAY);
        let old = Issuer::new().issue(&old, None).certificate();
        let new = node.text("/etc/kubernetes/pki/ca.crt");
        let bundle = if is_first { old + &new } else { new + &old };
        node.write("/etc/kubernetes/pki/ca.crt", bundle);
        // What signs takes the first one in the file for that of its key.
        fs::remove_file(node.pki("ca.key")).unwrap();
        let report = check(&node, &["--fail-on", "warning"]).expect(0).json();
        let ids: Vec<_> = report["findings"].as_array().unwrap().iter().collect();
        assert_eq!(ids.len(), 1);
        assert_eq!(ids[0]["id"], "AR-X025");
    }
}

/// What is signed by a CA of a short life ends with it.
#[test]
fn the_end_is_that_of_the_path() {
    let node = Node::new();
    let mut request =
        Request::new("/CN=front-proxy-ca", &[CA_TRUE, CA_USAGE]).from_to(-DAY, 300 * DAY);
    request.own_key = Some(node.pki("front-proxy-ca.key"));
    let ca = Issuer::new().issue(&request, None);
    fs::write(node.pki("front-proxy-ca.crt"), ca.certificate()).unwrap();
    let report = check(&node, &[]).expect(0).json();
    let object = "/etc/kubernetes/pki/front-proxy-client.crt";
    assert!(findings(&report).contains(&("AR-X006".to_owned(), object.to_owned())));
    let of = |object: &str, field: &str| {
        let inventory = report["inventory"].as_array().unwrap();
        let entry = inventory.iter().find(|entry| entry["object"] == object);
        entry.unwrap()[field].clone()
    };
    let end = of("/etc/kubernetes/pki/front-proxy-ca.crt", "not_after");
    assert_eq!(of(object, "valid_until"), end);
    assert_ne!(of(object, "not_after"), end);
    let at = end.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let after = (at + jiff::SignedDuration::from_secs(1)).to_string();
    let ids_of = |at: &str| {
        let found = findings(&check(&node, &["--at", at]).json()).into_iter();
        let ids = found.filter(|(_, it)| it == object).map(|(id, _)| id);
        ids.collect::<Vec<_>>()
    };
    assert!(!ids_of(end.as_str().unwrap()).contains(&"AR-X007".to_owned()));
    assert!(ids_of(&after).contains(&"AR-X007".to_owned()));
}

/// A kubeconfig of an administrator's home counts where it is of this cluster.
#[test]
fn kubeconfigs_of_homes_are_looked_at() {
    let node = Node::new();
    let home: PathBuf = node.path("/root/.kube");
    fs::create_dir_all(&home).unwrap();
    let stale = LEAVES[7].request().from_to(-400 * DAY, -DAY);
    let issued = LEAVES[7].issue(&node, &stale);
    fs::copy(node.path("/etc/kubernetes/admin.conf"), home.join("config")).unwrap();
    let path = "/root/.kube/config";
    replace_data(
        &node.path(path),
        "client-certificate-data",
        &issued.certificate(),
    );
    replace_data(&node.path(path), "client-key-data", &issued.key());
    let found = findings(&check(&node, &[]).expect(1).json());
    assert_eq!(
        found,
        [(
            "AR-X001".to_owned(),
            format!("{path}: user kubernetes-admin")
        )]
    );
}
