//! Whether keys and signatures belong together, by the TLS provider.

use std::cell::RefCell;
use std::collections::HashMap;

use atrest_core::check::{
    Certificate, KeyKind, PublicHalf, PublicKey, Signature, SignatureAlgorithm, Signatures, private,
};
use atrest_core::secret::Fingerprint;
use aws_lc_rs::signature::{
    self, KeyPair, ParsedPublicKey, UnparsedPublicKey, VerificationAlgorithm,
};

/// Signatures that were verified, each once: many certificates have the same consumers.
#[derive(Default)]
pub(crate) struct Crypto(RefCell<HashMap<(Fingerprint, Fingerprint), Signature>>);

impl Signatures for Crypto {
    fn check(&self, certificate: &Certificate, issuer: &Certificate) -> Signature {
        let pair = (certificate.fingerprint, issuer.key.fingerprint);
        *self
            .0
            .borrow_mut()
            .entry(pair)
            .or_insert_with(|| verify(certificate, issuer))
    }
}

fn verify(certificate: &Certificate, issuer: &Certificate) -> Signature {
    let algorithm = match (certificate.signature_algorithm, issuer.key.kind) {
        (SignatureAlgorithm::Unknown | SignatureAlgorithm::Broken(_), _) => {
            return Signature::Unknown;
        }
        (_, KeyKind::Unknown) => return Signature::Unknown,
        (algorithm, kind) => algorithm_of(algorithm, kind),
    };
    match algorithm {
        // A key of another kind than the signature did not make it.
        Algorithm::Impossible => Signature::Invalid,
        Algorithm::Unknown => Signature::Unknown,
        Algorithm::Known(algorithm) => {
            let key = UnparsedPublicKey::new(algorithm, &issuer.key.bits);
            match key.verify(certificate.signed(), certificate.signature()) {
                Ok(()) => Signature::Valid,
                Err(_) => Signature::Invalid,
            }
        }
    }
}

enum Algorithm {
    Known(&'static dyn VerificationAlgorithm),
    Impossible,
    Unknown,
}

fn algorithm_of(algorithm: SignatureAlgorithm, kind: KeyKind) -> Algorithm {
    use Algorithm::{Impossible, Known, Unknown};
    use SignatureAlgorithm::{Ecdsa, Ed25519, RsaPkcs1, RsaPss};

    match (algorithm, kind) {
        (RsaPkcs1(_) | RsaPss(_), KeyKind::Rsa(bits)) if !(1024..=8192).contains(&bits) => Unknown,
        (RsaPkcs1(256), KeyKind::Rsa(_)) => {
            Known(&signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY)
        }
        (RsaPkcs1(512), KeyKind::Rsa(_)) => {
            Known(&signature::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY)
        }
        (RsaPkcs1(384) | RsaPss(_), KeyKind::Rsa(..2048)) => Unknown,
        (RsaPkcs1(384), KeyKind::Rsa(_)) => Known(&signature::RSA_PKCS1_2048_8192_SHA384),
        (RsaPss(256), KeyKind::Rsa(_)) => Known(&signature::RSA_PSS_2048_8192_SHA256),
        (RsaPss(384), KeyKind::Rsa(_)) => Known(&signature::RSA_PSS_2048_8192_SHA384),
        (RsaPss(512), KeyKind::Rsa(_)) => Known(&signature::RSA_PSS_2048_8192_SHA512),
        (Ecdsa(256), KeyKind::Ec(256)) => Known(&signature::ECDSA_P256_SHA256_ASN1),
        (Ecdsa(384), KeyKind::Ec(256)) => Known(&signature::ECDSA_P256_SHA384_ASN1),
        (Ecdsa(512), KeyKind::Ec(256)) => Known(&signature::ECDSA_P256_SHA512_ASN1),
        (Ecdsa(256), KeyKind::Ec(384)) => Known(&signature::ECDSA_P384_SHA256_ASN1),
        (Ecdsa(384), KeyKind::Ec(384)) => Known(&signature::ECDSA_P384_SHA384_ASN1),
        (Ecdsa(512), KeyKind::Ec(384)) => Known(&signature::ECDSA_P384_SHA512_ASN1),
        (Ecdsa(256), KeyKind::Ec(521)) => Known(&signature::ECDSA_P521_SHA256_ASN1),
        (Ecdsa(384), KeyKind::Ec(521)) => Known(&signature::ECDSA_P521_SHA384_ASN1),
        (Ecdsa(512), KeyKind::Ec(521)) => Known(&signature::ECDSA_P521_SHA512_ASN1),
        (Ed25519, KeyKind::Ed25519) => Known(&signature::ED25519),
        (Ecdsa(_), KeyKind::Ec(_)) => Unknown,
        (RsaPkcs1(_) | RsaPss(_), KeyKind::Rsa(_)) => Unknown,
        _ => Impossible,
    }
}

/// Whether a public key is one: a point has to be on its curve. What is of a kind that is not known here
/// is for others to judge.
pub(crate) fn is_key(key: &PublicKey) -> bool {
    let bits = &key.bits;
    let parsed = match key.kind {
        KeyKind::Ec(256) => ParsedPublicKey::new(&signature::ECDSA_P256_SHA256_ASN1, bits),
        KeyKind::Ec(384) => ParsedPublicKey::new(&signature::ECDSA_P384_SHA384_ASN1, bits),
        KeyKind::Ec(521) => ParsedPublicKey::new(&signature::ECDSA_P521_SHA512_ASN1, bits),
        KeyKind::Ed25519 => ParsedPublicKey::new(&signature::ED25519, bits),
        KeyKind::Ec(_) | KeyKind::Rsa(_) | KeyKind::Unknown => return true,
    };
    parsed.is_ok()
}

/// The public half of a private key in a PEM block. The reason quotes nothing of it.
pub(crate) fn public_half(label: &str, der: &[u8]) -> Result<PublicHalf, &'static str> {
    const DAMAGED: &str = "its private key is damaged";

    let (kind, half) = private(label, der).ok_or(DAMAGED)?;
    let is_pkcs8 = label == "PRIVATE KEY";
    let bits = match kind {
        // What is computed from a damaged key does not match what stands in it.
        KeyKind::Rsa(2048..=8192) => match is_pkcs8 {
            true => signature::RsaKeyPair::from_pkcs8(der),
            false => signature::RsaKeyPair::from_der(der),
        }
        .map(|pair| pair.public_key().as_ref().to_vec())
        .map_err(|_| DAMAGED)?,
        KeyKind::Rsa(_) => half.ok_or(DAMAGED)?.bits,
        KeyKind::Ec(curve) => {
            let algorithm = match curve {
                256 => &signature::ECDSA_P256_SHA256_ASN1_SIGNING,
                384 => &signature::ECDSA_P384_SHA384_ASN1_SIGNING,
                521 => &signature::ECDSA_P521_SHA512_ASN1_SIGNING,
                _ => return Err("its private key is on a curve that is not known here"),
            };
            signature::EcdsaKeyPair::from_private_key_der(algorithm, der)
                .map_err(|_| DAMAGED)?
                .public_key()
                .as_ref()
                .to_vec()
        }
        KeyKind::Ed25519 => signature::Ed25519KeyPair::from_pkcs8_maybe_unchecked(der)
            .map_err(|_| DAMAGED)?
            .public_key()
            .as_ref()
            .to_vec(),
        KeyKind::Unknown => return Err("its private key is of a kind that is not known here"),
    };
    Ok(PublicHalf { kind, bits })
}
