//! Certificates with what a test asks for in them, made by OpenSSL.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

/// A place where certificates are made.
pub struct Issuer {
    directory: Arc<TempDir>,
    next: AtomicU32,
}

/// What is to stand in a certificate.
#[derive(Clone, Debug)]
pub struct Request {
    /// As `/O=a/CN=b`.
    pub subject: String,
    /// As OpenSSL's `x509v3_config` has them, such as `extendedKeyUsage = clientAuth`.
    pub extensions: Vec<String>,
    /// As `YYYYMMDDHHMMSSZ`.
    pub not_before: String,
    /// As `YYYYMMDDHHMMSSZ`.
    pub not_after: String,
    /// `sha256`, `sha1`, ...
    pub digest: &'static str,
    /// As `openssl genpkey` takes them.
    pub key: &'static [&'static str],
    /// A key that is there already.
    pub own_key: Option<PathBuf>,
}

/// ECDSA on P-256.
pub const P256: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];

impl Request {
    /// A certificate that was issued an hour ago for a year.
    pub fn new(subject: &str, extensions: &[&str]) -> Self {
        let now = jiff::Timestamp::now().as_second();
        Self {
            subject: subject.to_owned(),
            extensions: extensions.iter().map(|it| (*it).to_owned()).collect(),
            not_before: date(now - 3600),
            not_after: date(now - 3600 + 365 * 86_400),
            digest: "sha256",
            key: P256,
            own_key: None,
        }
    }

    /// From and to, in seconds from now.
    #[must_use]
    pub fn from_to(mut self, from: i64, to: i64) -> Self {
        let now = jiff::Timestamp::now().as_second();
        self.not_before = date(now + from);
        self.not_after = date(now + to);
        self
    }
}

/// Seconds since 1970 as OpenSSL takes them.
pub fn date(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds)
        .expect("a date of this era")
        .strftime("%Y%m%d%H%M%SZ")
        .to_string()
}

/// A certificate and its key, both PEM. The files go with the last of what one issuer made.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate's file.
    pub certificate: PathBuf,
    /// The key's file.
    pub key: PathBuf,
    _directory: Arc<TempDir>,
}

impl Issued {
    /// The certificate.
    pub fn certificate(&self) -> String {
        fs::read_to_string(&self.certificate).expect("it was made")
    }

    /// The key.
    pub fn key(&self) -> String {
        fs::read_to_string(&self.key).expect("it was made")
    }
}

impl Default for Issuer {
    fn default() -> Self {
        Self::new()
    }
}

impl Issuer {
    /// An empty one.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("the temporary directory can be written");
        Self {
            directory: Arc::new(directory),
            next: AtomicU32::new(0),
        }
    }

    /// A certificate that this CA signs; `None` signs itself.
    #[track_caller]
    pub fn issue(&self, request: &Request, ca: Option<(&Path, &Path)>) -> Issued {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = |name: &str| self.directory.path().join(format!("{number}.{name}"));
        let (key, csr, config, certificate) = (path("key"), path("csr"), path("cnf"), path("crt"));
        match &request.own_key {
            Some(own) => drop(fs::copy(own, &key).expect("it is there")),
            None => openssl(&["genpkey"], |command| {
                command.args(request.key).arg("-out").arg(&key);
            }),
        }
        let database = path("index");
        fs::write(&database, "").expect("our directory");
        let text = format!(
            "[req]
distinguished_name = none
string_mask = default
[none]
[ca]
default_ca = ca_default
[ca_default]
database = {}
new_certs_dir = {}
rand_serial = yes
policy = any
unique_subject = no
preserve = yes
x509_extensions = extensions
[any]
organizationName = optional
commonName = optional
[extensions]
{}
",
            database.display(),
            self.directory.path().display(),
            request.extensions.join("\n"),
        );
        fs::write(&config, text).expect("our directory");
        openssl(&["req", "-new", "-config"], |command| {
            command.arg(&config).arg("-key").arg(&key);
            command.args(["-subj", &request.subject, "-out"]).arg(&csr);
        });
        openssl(&["ca", "-batch", "-notext", "-config"], |command| {
            command.arg(&config).arg("-in").arg(&csr);
            command.arg("-out").arg(&certificate);
            command.args(["-startdate", &request.not_before]);
            command.args(["-enddate", &request.not_after]);
            command.args(["-md", request.digest]);
            match ca {
                Some((certificate, key)) => {
                    command
                        .arg("-cert")
                        .arg(certificate)
                        .arg("-keyfile")
                        .arg(key);
                }
                None => drop(command.arg("-selfsign").arg("-keyfile").arg(&key)),
            }
        });
        Issued {
            certificate,
            key,
            _directory: Arc::clone(&self.directory),
        }
    }
}

#[track_caller]
fn openssl(arguments: &[&str], more: impl FnOnce(&mut Command)) {
    let mut command = Command::new("openssl");
    command.args(arguments);
    more(&mut command);
    let output = command.output().expect("openssl is there");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {words}");
}
