//! Certificates with damaged bytes, beside OpenSSL.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;

use atrest_core::check::{Certificate, San, Usage, pem};
use atrest_core::secret::Fingerprint;
use atrest_tests::issuer::{Issuer, Request};
use atrest_tests::kubeadm::Node;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::random::Random;
use super::seed;

/// What both say of a certificate that they take.
#[derive(Debug, Eq, PartialEq)]
struct Reading {
    not_before: String,
    not_after: String,
    names: Vec<String>,
    usages: Vec<String>,
    /// SHA-256 of the key; `None` where OpenSSL cannot use the key.
    spki: Option<String>,
}

fn ours(der: &[u8]) -> Option<Reading> {
    let certificate = Certificate::parse(der).ok()?;
    let name = |name: &San| match name {
        San::Dns(name) => format!("DNS:{name}"),
        San::Ip(address) => format!("IP:{address}"),
        other => other.to_string(),
    };
    let usage = |usage: &Usage| usage.to_string();
    Some(Reading {
        not_before: certificate.not_before.to_string(),
        not_after: certificate.not_after.to_string(),
        names: certificate.names.iter().map(name).collect(),
        usages: certificate.usages.iter().flatten().map(usage).collect(),
        spki: Some(certificate.key.fingerprint.to_string()),
    })
}

/// Where OpenSSL cannot use the key, it is asked for the rest.
fn openssl(der: &[u8]) -> Option<Reading> {
    openssl_x509(der, &["-pubkey"]).or_else(|| openssl_x509(der, &[]))
}

fn openssl_x509(der: &[u8], more: &[&str]) -> Option<Reading> {
    let mut child = Command::new("openssl")
        .args([
            "x509", "-inform", "DER", "-noout", "-dates", "-dateopt", "iso_8601",
        ])
        .args(["-ext", "subjectAltName,extendedKeyUsage"])
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end before it has read all.
    let _ = child.stdin.take().unwrap().write_all(der);
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim().replace(' ', "T"))
    };
    let list = |title: &str| {
        let mut lines = text.lines().skip_while(|line| !line.starts_with(title));
        let line = lines.nth(1).unwrap_or_default();
        let parts = line
            .split(", ")
            .map(str::trim)
            .filter(|part| !part.is_empty());
        parts.map(str::to_owned).collect::<Vec<_>>()
    };
    let address = |name: String| match name.strip_prefix("IP Address:") {
        Some(address) => match address.parse::<std::net::IpAddr>() {
            Ok(address) => format!("IP:{address}"),
            Err(_) => format!("IP:{address}"),
        },
        None => name,
    };
    let usage = |name: String| match name.as_str() {
        "TLS Web Server Authentication" => "serverAuth".to_owned(),
        "TLS Web Client Authentication" => "clientAuth".to_owned(),
        _ => name,
    };
    let key = pem::blocks(text.as_bytes()).ok();
    let key = key.and_then(|blocks| blocks.into_iter().next());
    Some(Reading {
        not_before: value("notBefore=")?,
        not_after: value("notAfter=")?,
        names: list("X509v3 Subject Alternative Name")
            .into_iter()
            .map(address)
            .collect(),
        usages: list("X509v3 Extended Key Usage")
            .into_iter()
            .map(usage)
            .collect(),
        spki: key.map(|key| Fingerprint::of(key.content.expose()).to_string()),
    })
}

fn sources() -> Vec<Vec<u8>> {
    let node = Node::new();
    let mut texts: Vec<_> = ["ca", "apiserver", "front-proxy-client", "etcd/server"]
        .iter()
        .map(|name| fs::read(node.pki(&format!("{name}.crt"))).unwrap())
        .collect();
    let issuer = Issuer::new();
    for key in [
        &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"][..],
        &["-algorithm", "ED25519"],
    ] {
        let mut request = Request::new(
            "/O=a/CN=b",
            &[
                "basicConstraints = critical, CA:FALSE",
                "keyUsage = critical, digitalSignature",
                "extendedKeyUsage = serverAuth, clientAuth",
                "subjectAltName = DNS:a.example, IP:10.0.0.1, IP:fd00::1, email:a@example.org",
            ],
        );
        request.key = key;
        request.not_after = "20991231235959Z".into();
        texts.push(issuer.issue(&request, None).certificate().into_bytes());
    }
    let der = |text: &Vec<u8>| {
        let blocks = pem::blocks(text).unwrap();
        blocks[0].content.expose().to_vec()
    };
    texts.iter().map(der).collect()
}

/// One to three bytes become others, or a piece goes.
fn damage(random: &mut Random, der: &[u8]) -> Vec<u8> {
    let mut der = der.to_vec();
    for _ in 0..1 + random.below(3) {
        let place = random.below(der.len());
        match random.below(10) {
            0 => drop(der.remove(place)),
            1 => der.insert(place, random.byte()),
            2..=5 => der[place] ^= 1 << random.below(8),
            _ => der[place] = random.byte(),
        }
    }
    der
}

/// Why both take a certificate and read it otherwise.
fn is_read_otherwise(ours: &Reading, theirs: &Reading) -> Option<&'static str> {
    let is_plain = |texts: &[String]| {
        let mut texts = texts.iter();
        texts.all(|text| {
            text.bytes()
                .all(|byte| byte.is_ascii_graphic() && !b",<>\\".contains(&byte))
        })
    };
    if theirs.spki.is_none() {
        return Some("OpenSSL cannot use the key, nor can the TLS provider");
    }
    if !is_plain(&ours.names) {
        return Some("OpenSSL prints names of other characters in its own way");
    }
    if ours
        .names
        .iter()
        .any(|name| !name.starts_with("DNS:") && !name.starts_with("IP:"))
    {
        return Some("OpenSSL has other words for other kinds of names");
    }
    if ours.usages.iter().any(|usage| !usage.ends_with("Auth")) {
        return Some("OpenSSL has words for other usages");
    }
    None
}

/// 50,000 with `ATREST_LONG=1`.
#[test]
fn damaged_certificates_are_read_as_openssl_reads_them_or_not_at_all() {
    let is_long = std::env::var_os("ATREST_LONG").is_some();
    let count = if is_long { 50_000 } else { 600 };
    let sources = sources();
    for der in &sources {
        let (ours, theirs) = (ours(der).unwrap(), openssl(der).unwrap());
        let is_other = is_read_otherwise(&ours, &theirs).is_some();
        assert!(is_other || ours == theirs, "{ours:#?} {theirs:#?}");
    }
    let seed = seed();
    let workers = 2;
    let (mut both, mut stricter) = (0, 0);
    let mut wrong = Vec::new();
    thread::scope(|scope| {
        let handles: Vec<_> = (0..workers)
            .map(|worker| {
                let sources = &sources;
                scope.spawn(move || {
                    let mut random = Random::new(seed.wrapping_add(worker));
                    let (mut both, mut stricter, mut wrong) = (0, 0, Vec::new());
                    for _ in 0..count / workers as usize {
                        let source = &sources[random.below(sources.len())];
                        let der = damage(&mut random, source);
                        match (ours(&der), openssl(&der)) {
                            (None, None) => {}
                            // Go reads DER alone, and names of known characters; OpenSSL looks into
                            // extensions when they are asked for. What is refused here is unread.
                            (None, Some(_)) => stricter += 1,
                            (Some(ours), Some(theirs)) if ours == theirs => both += 1,
                            (Some(ours), Some(theirs))
                                if is_read_otherwise(&ours, &theirs).is_some() => {}
                            (ours, theirs) => {
                                let der = STANDARD.encode(&der);
                                wrong.push(format!("{ours:?} {theirs:?} {der}"));
                            }
                        }
                    }
                    (both, stricter, wrong)
                })
            })
            .collect();
        for handle in handles {
            let (b, s, w) = handle.join().unwrap();
            both += b;
            stricter += s;
            wrong.extend(w);
        }
    });
    eprintln!("{both} read alike, {stricter} taken by OpenSSL alone");
    assert!(wrong.is_empty(), "{} of {count}: {wrong:#?}", wrong.len());
    assert!(both > count / 8, "only {both} are read by both");
}
