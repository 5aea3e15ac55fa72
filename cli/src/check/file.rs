//! A file with certificates or keys.

use atrest_core::check::pem::{self, Block};
use atrest_core::check::{Certificate, Error, PublicHalf, PublicKey};
use atrest_core::secret::SecretBytes;

use super::crypto::{is_key, public_half};

/// What is in a file.
#[derive(Default)]
pub(crate) struct Content {
    pub(crate) certificates: Vec<Certificate>,
    /// The first private key.
    pub(crate) key: Option<Result<PrivateKey, String>>,
    pub(crate) public_keys: Vec<PublicKey>,
}

/// A private key that can be used.
#[derive(Clone)]
pub(crate) struct PrivateKey {
    pub(crate) half: PublicHalf,
    pub(crate) label: String,
    pub(crate) der: SecretBytes,
}

/// Reads PEM. The reason quotes nothing of it.
pub(crate) fn content(source: &[u8]) -> Result<Content, String> {
    let blocks = pem::blocks(source).map_err(|error| error.to_string())?;
    let mut content = Content::default();
    for Block {
        label,
        content: bytes,
        has_headers,
    } in &blocks
    {
        let der = bytes.expose();
        match label.as_str() {
            "CERTIFICATE" | "TRUSTED CERTIFICATE" | "X509 CERTIFICATE" => {
                let parsed = certificate(der);
                let place = content.certificates.len() + 1;
                let parsed = parsed.map_err(|error| format!("certificate {place}: {error}"))?;
                content.certificates.push(parsed);
            }
            "PUBLIC KEY" => {
                let key = PublicKey::parse(der).ok_or("its public key is damaged")?;
                content.public_keys.push(key);
            }
            "ENCRYPTED PRIVATE KEY" => {
                let encrypted = Err("its private key is encrypted".to_owned());
                content.key.get_or_insert(encrypted);
            }
            label if label.ends_with("PRIVATE KEY") => {
                let half = match has_headers {
                    true => Err("its private key is encrypted".to_owned()),
                    false => private_key(label, bytes).map_err(str::to_owned),
                };
                content.key.get_or_insert(half);
            }
            _ => {}
        }
    }
    Ok(content)
}

/// Reads a certificate whose key can be used.
pub(crate) fn certificate(der: &[u8]) -> Result<Certificate, Error> {
    let certificate = Certificate::parse(der)?;
    match is_key(&certificate.key) {
        true => Ok(certificate),
        false => Err(Error::Key),
    }
}

fn private_key(label: &str, der: &SecretBytes) -> Result<PrivateKey, &'static str> {
    Ok(PrivateKey {
        half: public_half(label, der.expose())?,
        label: label.to_owned(),
        der: der.clone(),
    })
}
