//! How long the client certificates last that a run shows to the API servers and to etcd.

use std::path::Path;
use std::time::Duration;

use atrest_core::check::{Certificate, Time};
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Serialize;

use crate::args::{EtcdFlags, Global, RotateFlags};
use crate::cluster::ApiServer;
use crate::rotate::settings::Settings;
use crate::status::Failure;

/// A run that is stopped in one window goes on in the next.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A client certificate.
#[derive(Debug, Serialize)]
pub(in crate::rotate) struct Credential {
    /// `the kubeconfig's client certificate`, or the file.
    credential: String,
    /// RFC 3339; null where that could not be read.
    expires_at: Option<String>,
    /// It ends before the window does, or within a day.
    expires_soon: bool,
}

impl Credential {
    /// Those that the run has. One that has expired is refused, as a handshake would do in other words.
    pub(in crate::rotate) async fn all(
        global: &Global,
        flags: &RotateFlags,
        settings: &Settings,
    ) -> Result<Vec<Self>, Failure> {
        let now = Timestamp::now();
        let window = flags.max_duration.and_then(|it| now.checked_add(it).ok());
        let needed = [now.checked_add(DAY).ok(), window, flags.until];
        let needed = Time::from(needed.into_iter().flatten().max().unwrap_or(now));
        let now = Time::from(now);
        let mut credentials = Vec::new();
        for (credential, pem, mend) in certificates(global, settings).await? {
            let expires_at = end(&pem);
            if let Some(end) = expires_at.filter(|end| *end <= now) {
                return Err(Failure::unusable(format!("{credential} expired at {end}")).hint(mend));
            }
            credentials.push(Self {
                credential,
                expires_at: expires_at.map(|end| end.to_string()),
                expires_soon: expires_at.is_some_and(|end| end < needed),
            });
        }
        Ok(credentials)
    }

    pub(super) fn warning(&self) -> Option<String> {
        let Self {
            credential,
            expires_at,
            expires_soon,
        } = self;
        match (expires_at, expires_soon) {
            (None, _) => Some(format!("when {credential} expires could not be read")),
            (Some(end), true) => Some(format!(
                "{credential} expires at {end}: renew it before the run needs it"
            )),
            (Some(_), false) => None,
        }
    }
}

/// Their names, their PEM, and how they are renewed.
async fn certificates(
    global: &Global,
    settings: &Settings,
) -> Result<Vec<(String, Vec<u8>, &'static str)>, Failure> {
    let mut found = Vec::new();
    if let Some(pem) = ApiServer::client_certificate(global).await? {
        found.push((
            "the kubeconfig's client certificate".to_owned(),
            pem,
            "take another kubeconfig; kubeadm certs renew admin.conf makes one",
        ));
    }
    if let Some(path) = EtcdFlags::from(&settings.etcd).cert {
        found.push((
            format!("etcd's client certificate {}", path.display()),
            read(&path)?,
            "renew it, as kubeadm certs renew apiserver-etcd-client does",
        ));
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let pem = atrest_files::read(path).map_err(Failure::unusable)?;
    Ok(pem.expose().to_vec())
}

/// Of the first one in a file, which is the client's own.
fn end(pem: &[u8]) -> Option<Time> {
    let certificate = CertificateDer::from_pem_slice(pem).ok()?;
    Some(Certificate::parse(&certificate).ok()?.not_after)
}
