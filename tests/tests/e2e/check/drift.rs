//! What runs is not what is on disk.

use std::fs;
use std::time::{Duration, Instant, SystemTime};

use atrest_tests::issuer::{Issuer, Request};
use atrest_tests::schema;
use serde_json::Value;

use super::findings;
use super::machine::Machine;

const CA_TRUE: &str = "basicConstraints = critical, CA:TRUE";
const CA_USAGE: &str = "keyUsage = critical, digitalSignature, keyCertSign";
const MANIFESTS: &str = "/etc/kubernetes/manifests";

type Act = Box<dyn Fn(&Machine, &Issuer)>;

/// A change of the disk behind the back of what runs.
struct Drift {
    name: &'static str,
    files: Vec<String>,
    act: Act,
    /// The id, and what the object begins with.
    found: (&'static str, &'static str),
}

fn drift(
    name: &'static str,
    files: &[&str],
    found: (&'static str, &'static str),
    act: impl Fn(&Machine, &Issuer) + 'static,
) -> Drift {
    Drift {
        name,
        files: files.iter().map(|file| (*file).to_owned()).collect(),
        act: Box::new(act),
        found,
    }
}

fn manifest(program: &str) -> String {
    format!("{MANIFESTS}/{program}.yaml")
}

/// Has a manifest name another file than the one that the process was started with.
fn point(machine: &Machine, program: &str, flag: &str, from: &str, to: &str) {
    let path = manifest(program);
    let text = machine.text(&path);
    let directory = machine.plane.directory().display();
    let (old, new) = (
        format!("--{flag}={directory}/pki/{from}\""),
        format!("--{flag}={directory}/pki/{to}\""),
    );
    assert!(text.contains(&old), "{text}");
    machine.write(&path, text.replace(&old, &new));
}

fn other_ca(issuer: &Issuer, name: &str) -> String {
    let request = Request::new(name, &[CA_TRUE, CA_USAGE]).from_to(-60, 3000 * 86_400);
    issuer.issue(&request, None).certificate()
}

fn append(machine: &Machine, path: &str, pem: &str) {
    let text = machine.text(path);
    machine.write(path, text + pem);
}

/// The public half of another key.
fn other_key(issuer: &Issuer) -> String {
    let issued = issuer.issue(&Request::new("/CN=key", &[]), None);
    let output = std::process::Command::new("openssl")
        .args(["pkey", "-pubout", "-in"])
        .arg(&issued.key)
        .output();
    String::from_utf8(output.unwrap().stdout).unwrap()
}

fn drifts() -> Vec<Drift> {
    let api = manifest("kube-apiserver");
    let etcd = manifest("etcd");
    vec![
        drift(
            "half of kube-apiserver's pair is written",
            &["/pki/apiserver.crt"],
            ("AR-X050", "kube-apiserver at "),
            |machine, issuer| {
                let names = "DNS:kubernetes, DNS:kubernetes.default, DNS:kubernetes.default.svc, \
                             DNS:kubernetes.default.svc.cluster.local, DNS:atrest, IP:10.96.0.1, \
                             IP:127.0.0.1";
                let sans = format!("subjectAltName = {names}");
                let request = Request::new(
                    "/CN=kube-apiserver",
                    &["extendedKeyUsage = serverAuth", &sans],
                );
                let (crt, key) = (machine.path("/pki/ca.crt"), machine.path("/pki/ca.key"));
                let issued = issuer.issue(&request, Some((&crt, &key)));
                machine.write("/pki/apiserver.crt", issued.certificate());
            },
        ),
        drift(
            "kube-apiserver is to serve with another pair",
            &[&api],
            ("AR-X050", "kube-apiserver at "),
            |machine, _| {
                point(
                    machine,
                    "kube-apiserver",
                    "tls-cert-file",
                    "apiserver.crt",
                    "etcd/server.crt",
                );
                point(
                    machine,
                    "kube-apiserver",
                    "tls-private-key-file",
                    "apiserver.key",
                    "etcd/server.key",
                );
            },
        ),
        drift(
            "etcd is to serve with another pair",
            &[&etcd],
            ("AR-X050", "etcd at "),
            |machine, _| {
                point(
                    machine,
                    "etcd",
                    "cert-file",
                    "etcd/server.crt",
                    "etcd/peer.crt",
                );
                point(
                    machine,
                    "etcd",
                    "key-file",
                    "etcd/server.key",
                    "etcd/peer.key",
                );
            },
        ),
        drift(
            "etcd is to trust one CA more",
            &["/pki/etcd/ca.crt"],
            ("AR-X051", "etcd at "),
            |machine, issuer| {
                append(
                    machine,
                    "/pki/etcd/ca.crt",
                    &other_ca(issuer, "/CN=new-etcd-ca"),
                )
            },
        ),
        drift(
            "etcd is to trust another CA",
            &[&etcd],
            ("AR-X051", "etcd at "),
            |machine, _| {
                point(
                    machine,
                    "etcd",
                    "trusted-ca-file",
                    "etcd/ca.crt",
                    "front-proxy-ca.crt",
                )
            },
        ),
        drift(
            "kube-apiserver is to trust clients of one CA more",
            &[&api, "/pki/two.crt"],
            ("AR-X051", "kube-apiserver at "),
            |machine, issuer| {
                let two = machine.text("/pki/ca.crt") + &other_ca(issuer, "/CN=new-ca");
                machine.write("/pki/two.crt", two);
                point(
                    machine,
                    "kube-apiserver",
                    "client-ca-file",
                    "ca.crt",
                    "two.crt",
                );
            },
        ),
        drift(
            "kube-apiserver is to trust clients of a CA of the same name",
            &[&api, "/pki/two.crt"],
            (
                "AR-X051",
                "ConfigMap/kube-system/extension-apiserver-authentication",
            ),
            |machine, issuer| {
                let two = machine.text("/pki/ca.crt") + &other_ca(issuer, "/CN=kubernetes");
                machine.write("/pki/two.crt", two);
                point(
                    machine,
                    "kube-apiserver",
                    "client-ca-file",
                    "ca.crt",
                    "two.crt",
                );
            },
        ),
        drift(
            "another front proxy is to be trusted",
            &[&api, "/pki/two.crt"],
            ("AR-X051", "kube-apiserver at "),
            |machine, issuer| {
                machine.write("/pki/two.crt", other_ca(issuer, "/CN=new-front-proxy-ca"));
                let flag = "requestheader-client-ca-file";
                point(
                    machine,
                    "kube-apiserver",
                    flag,
                    "front-proxy-ca.crt",
                    "two.crt",
                );
            },
        ),
        drift(
            "tokens are to be verified with another key",
            &["/pki/sa.pub"],
            ("AR-X052", "/openid/v1/jwks"),
            |machine, issuer| machine.write("/pki/sa.pub", other_key(issuer)),
        ),
        drift(
            "tokens are to be verified with one key more",
            &["/pki/sa.pub"],
            ("AR-X052", "/openid/v1/jwks"),
            |machine, issuer| append(machine, "/pki/sa.pub", &other_key(issuer)),
        ),
        drift(
            "a client of a CA that is not loaded",
            &[&api, "/pki/two.crt", "/etc/kubernetes/admin.conf"],
            (
                "AR-X053",
                "/etc/kubernetes/admin.conf: user kubernetes-admin",
            ),
            |machine, issuer| {
                let ca =
                    Request::new("/CN=new-ca", &[CA_TRUE, CA_USAGE]).from_to(-60, 3000 * 86_400);
                let ca = issuer.issue(&ca, None);
                let usages = ["extendedKeyUsage = clientAuth"];
                let admin = Request::new("/O=kubeadm:cluster-admins/CN=kubernetes-admin", &usages);
                let admin = issuer.issue(&admin, Some((&ca.certificate, &ca.key)));
                machine.write(
                    "/pki/two.crt",
                    machine.text("/pki/ca.crt") + &ca.certificate(),
                );
                point(
                    machine,
                    "kube-apiserver",
                    "client-ca-file",
                    "ca.crt",
                    "two.crt",
                );
                for (field, pem) in [
                    ("client-certificate-data", admin.certificate()),
                    ("client-key-data", admin.key()),
                ] {
                    super::mutations::replace_data(
                        &machine.path("/etc/kubernetes/admin.conf"),
                        field,
                        &pem,
                    );
                }
            },
        ),
        drift(
            "kube-controller-manager was not restarted",
            &["/etc/kubernetes/controller-manager.conf"],
            ("AR-X054", "/etc/kubernetes/controller-manager.conf"),
            |machine, _| touch(machine, "/etc/kubernetes/controller-manager.conf"),
        ),
        drift(
            "kube-scheduler was not restarted",
            &["/etc/kubernetes/scheduler.conf"],
            ("AR-X054", "/etc/kubernetes/scheduler.conf"),
            |machine, _| touch(machine, "/etc/kubernetes/scheduler.conf"),
        ),
    ]
}

/// As `kubeadm certs renew` writes a file anew, a minute after this one.
fn touch(machine: &Machine, path: &str) {
    let file = fs::File::options()
        .write(true)
        .open(machine.path(path))
        .unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(60))
        .unwrap();
}

#[test]
fn every_drift_is_found_and_none_without() {
    let machine = Machine::start();
    let issuer = Issuer::new();
    let report = machine.check().expect(0).json();
    assert_eq!(schema::faults(&report), Vec::<String>::new());
    assert_eq!(report["verdict"], "pass");
    assert_eq!(findings(&report), []);
    let served = |name: &str| {
        let inventory = report["inventory"].as_array().unwrap();
        let object = |it: &Value| it["object"].as_str().unwrap().starts_with(name);
        assert!(inventory.iter().any(object), "{name} was not looked at");
    };
    for name in [
        "kube-apiserver at ",
        "etcd at ",
        "kube-controller-manager at ",
        "kube-scheduler at ",
    ] {
        served(name);
    }

    let mut wrong = Vec::new();
    for drift in drifts() {
        let before: Vec<_> = drift
            .files
            .iter()
            .map(|file| machine.path(file))
            .map(|path| {
                let content = fs::read(&path).ok();
                let changed = fs::metadata(&path).and_then(|it| it.modified()).ok();
                (path, content, changed)
            })
            .collect();
        (drift.act)(&machine, &issuer);
        let found = findings(&machine.check().json());
        let (id, object) = drift.found;
        if !found
            .iter()
            .any(|(it, whose)| it == id && whose.starts_with(object))
        {
            wrong.push(format!("{}: {found:?}", drift.name));
        }
        for (path, content, changed) in before {
            match content {
                Some(content) => fs::write(&path, content).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            if let Some(changed) = changed {
                fs::File::options()
                    .write(true)
                    .open(&path)
                    .unwrap()
                    .set_modified(changed)
                    .unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");

    let runs = if std::env::var_os("ATREST_LONG").is_some() {
        1_000
    } else {
        10
    };
    for _ in 0..runs {
        assert_eq!(findings(&machine.check().expect(0).json()), []);
    }
}

/// What kube-apiserver takes up by itself is no drift, once it has.
#[test]
fn what_is_taken_up_while_running_is_no_drift() {
    let machine = Machine::start();
    let issuer = Issuer::new();
    append(&machine, "/pki/ca.crt", &other_ca(&issuer, "/CN=new-ca"));
    append(
        &machine,
        "/pki/front-proxy-ca.crt",
        &other_ca(&issuer, "/CN=new-front-proxy-ca"),
    );
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        let ended = machine.check();
        if ended.status == Some(0) {
            break;
        }
        assert!(Instant::now() < deadline, "{ended:?}");
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// A server that is not there, one that stalls, and an API that cannot be asked are unread.
#[test]
fn what_does_not_answer_is_unread() {
    let mut machine = Machine::start();
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let stalls = listener.local_addr().unwrap().port();
    let path = manifest("kube-scheduler");
    let text = machine.text(&path);
    let port = text.split("--secure-port=").nth(1).unwrap();
    let port: String = port.chars().take_while(char::is_ascii_digit).collect();
    machine.write(&path, text.replace(&port, &stalls.to_string()));
    machine.plane.kill(0);
    let report = machine.check().expect(3).json();
    assert_eq!(report["verdict"], "unknown");
    let unread: Vec<_> = report["unread"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["input"].as_str().unwrap())
        .collect();
    for input in [
        "kube-apiserver at ",
        "kube-scheduler at ",
        "the process of kube-scheduler",
        "https://127.0.0.1",
        "/etc/kubernetes/admin.conf: user",
    ] {
        assert!(
            unread.iter().any(|it| it.starts_with(input)),
            "{input}: {unread:?}"
        );
    }
    drop(listener);
}
