//! How long the client certificates last that a run shows to the API servers and to etcd.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Serialize;

use super::not_after::not_after;
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
    /// Those that the run has. One that has expired is refused: nothing could be reached with it.
    pub(super) async fn all(
        global: &Global,
        flags: &RotateFlags,
        settings: &Settings,
    ) -> Result<Vec<Self>, Failure> {
        let now = Timestamp::now();
        let window = flags.max_duration.and_then(|it| now.checked_add(it).ok());
        let needed = [now.checked_add(DAY).ok(), window, flags.until];
        let needed = needed.into_iter().flatten().max().unwrap_or(now);
        let mut credentials = Vec::new();
        for (credential, pem, mend) in certificates(global, settings).await? {
            let expires_at = end(&pem);
            if let Some(end) = expires_at.filter(|end| *end <= now) {
                return Err(
                    Failure::unusable(format!("{credential} expired at {end:.0}")).hint(mend),
                );
            }
            credentials.push(Self {
                credential,
                expires_at: expires_at.map(|end| format!("{end:.0}")),
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

/// Says at once what a handshake would say in other words.
pub(in crate::rotate) async fn refuse_expired(
    global: &Global,
    flags: &RotateFlags,
    settings: &Settings,
) -> Result<(), Failure> {
    Credential::all(global, flags, settings).await.map(|_| ())
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
fn end(pem: &[u8]) -> Option<Timestamp> {
    let certificate = CertificateDer::from_pem_slice(pem).ok()?;
    not_after(&certificate)
}
