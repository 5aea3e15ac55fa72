//! What goes on while its certificate is broken already, and ends at its next start.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use atrest_tests::issuer::{Issuer, Request};
use atrest_tests::processes::free_ports;

use super::findings;
use super::machine::Machine;

const CERTIFICATE: &str = "/pki/apiserver-etcd-client.crt";
const KEY: &str = "/pki/apiserver-etcd-client.key";
const OBJECT: &str = "/pki/apiserver-etcd-client";
const DAY: i64 = 86_400;

/// How the pair that kube-apiserver has for etcd is broken; the id, or none where it is unread.
type Break = (&'static str, Option<&'static str>, fn(&Machine, &Issuer));

const BREAKS: [Break; 10] = [
    ("of another CA", Some("AR-X007"), |machine, issuer| {
        issue(machine, issuer, request(), "ca");
    }),
    ("signed by itself", Some("AR-X007"), |machine, issuer| {
        let issued = issuer.issue(&request(), None);
        machine.write(CERTIFICATE, issued.certificate());
        machine.write(KEY, issued.key());
    }),
    ("expired", Some("AR-X001"), |machine, issuer| {
        issue(
            machine,
            issuer,
            request().from_to(-400 * DAY, -DAY),
            "etcd/ca",
        );
    }),
    ("not valid yet", Some("AR-X004"), |machine, issuer| {
        issue(
            machine,
            issuer,
            request().from_to(DAY, 300 * DAY),
            "etcd/ca",
        );
    }),
    ("for servers alone", Some("AR-X012"), |machine, issuer| {
        let request = Request::new(
            "/CN=kube-apiserver-etcd-client",
            &["extendedKeyUsage = serverAuth"],
        );
        issue(machine, issuer, request, "etcd/ca");
    }),
    (
        "with a critical extension",
        Some("AR-X019"),
        |machine, issuer| {
            let mut request = request();
            request
                .extensions
                .push("1.2.3.4.5 = critical, ASN1:NULL".into());
            issue(machine, issuer, request, "etcd/ca");
        },
    ),
    ("signed with SHA-1", Some("AR-X021"), |machine, issuer| {
        let mut request = request();
        request.digest = "sha1";
        issue(machine, issuer, request, "etcd/ca");
    }),
    ("with another key", Some("AR-X008"), |machine, issuer| {
        machine.write(KEY, issuer.issue(&request(), None).key());
    }),
    ("cut off", None, |machine, _| {
        let text = machine.text(CERTIFICATE);
        machine.write(CERTIFICATE, &text[..text.len() / 2]);
    }),
    ("gone", Some("AR-X009"), |machine, _| {
        fs::remove_file(machine.path(KEY)).unwrap()
    }),
];

fn request() -> Request {
    Request::new(
        "/CN=kube-apiserver-etcd-client",
        &["extendedKeyUsage = clientAuth"],
    )
}

fn issue(machine: &Machine, issuer: &Issuer, request: Request, ca: &str) {
    let certificate = machine.path(&format!("/pki/{ca}.crt"));
    let key = machine.path(&format!("/pki/{ca}.key"));
    let issued = issuer.issue(&request, Some((&certificate, &key)));
    machine.write(CERTIFICATE, issued.certificate());
    machine.write(KEY, issued.key());
}

/// Three of them are started anew, all with `ATREST_LONG=1`.
#[test]
fn what_breaks_at_the_next_start_is_found_while_all_is_well() {
    let machine = Machine::start();
    let issuer = Issuer::new();
    let whole = [CERTIFICATE, KEY].map(|path| (path, machine.text(path)));
    let is_long = std::env::var_os("ATREST_LONG").is_some();
    for (i, (name, id, act)) in BREAKS.into_iter().enumerate() {
        act(&machine, &issuer);
        let ended = machine.check();
        let report = ended.json();
        match id {
            Some(id) => {
                assert_eq!(ended.status, Some(1), "{name}");
                let found = findings(&report);
                let is_it =
                    |(it, object): &(String, String)| it == id && object.starts_with(OBJECT);
                assert!(found.iter().any(is_it), "{name}: {found:?}");
            }
            None => {
                assert_eq!(ended.status, Some(3), "{name}");
                let unread = report["unread"].as_array().unwrap();
                let is_it =
                    |it: &serde_json::Value| it["input"].as_str().unwrap().starts_with(OBJECT);
                assert!(unread.iter().any(is_it), "{name}: {unread:?}");
            }
        }
        let ready = machine
            .plane
            .kubectl(0)
            .args(["get", "--raw=/readyz"])
            .output();
        assert_eq!(ready.unwrap().stdout, b"ok", "{name}");
        if is_long || i % 4 == 0 {
            does_not_start(&machine, name);
        }
        for (path, text) in &whole {
            machine.write(path, text);
        }
        let private = fs::Permissions::from_mode(0o600);
        fs::set_permissions(machine.path(KEY), private).unwrap();
    }
    machine.check().expect(0);
}

/// A second kube-apiserver of the same command line, but for its port, never gets to etcd.
fn does_not_start(machine: &Machine, name: &str) {
    let line = fs::read(format!("/proc/{}/cmdline", machine.plane.servers[0].pid())).unwrap();
    let line = String::from_utf8(line).unwrap();
    let [port] = free_ports::<1>();
    let mut words = line.trim_end_matches('\0').split('\0').map(|word| {
        match word.starts_with("--secure-port=") {
            true => format!("--secure-port={port}"),
            false => word.to_owned(),
        }
    });
    let path = machine.path("/second.log");
    let log = fs::File::create(&path).unwrap();
    let mut command = Command::new(words.next().unwrap());
    command
        .args(words)
        .current_dir(&machine.plane.servers[0].directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    let mut child = machine.plane.spawn(&mut command).unwrap();
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        let text = fs::read_to_string(&path).unwrap();
        let ended = child.try_wait().unwrap();
        if ended.is_some_and(|status| !status.success())
            || text.contains("authentication handshake failed")
        {
            break;
        }
        assert!(!text.contains("Serving securely"), "{name}: it started");
        assert!(Instant::now() < deadline, "{name}: {text}");
        std::thread::sleep(Duration::from_millis(100));
    }
    let _ = child.kill();
    let _ = child.wait();
}
