//! Public keys, and what can be said of a private one without using it.

use std::fmt;

use x509_cert::der::asn1::ObjectIdentifier;

use super::der::{self, Element, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE};
use crate::secret::Fingerprint;

/// A SubjectPublicKeyInfo.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PublicKey {
    /// Its algorithm and size.
    pub kind: KeyKind,
    /// The key itself: RSAPublicKey, a point, or 32 bytes.
    pub bits: Vec<u8>,
    /// SHA-256 of the SubjectPublicKeyInfo; in base64url it is the `kid` of a ServiceAccount's token.
    pub fingerprint: Fingerprint,
}

/// An algorithm, and the size that its strength follows from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyKind {
    /// RSA, by the bits of its modulus.
    Rsa(usize),
    /// A curve of NIST, by its bits.
    Ec(u16),
    /// Ed25519.
    Ed25519,
    /// One that is not known here.
    Unknown,
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(bits) => write!(f, "RSA-{bits}"),
            Self::Ec(bits) => write!(f, "ECDSA-P{bits}"),
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
const CURVES: [(&[u8], u16); 4] = [
    (&[0x2b, 0x81, 0x04, 0x00, 0x21], 224),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07], 256),
    (&[0x2b, 0x81, 0x04, 0x00, 0x22], 384),
    (&[0x2b, 0x81, 0x04, 0x00, 0x23], 521),
];

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo.
    pub fn parse(der: &[u8]) -> Option<Self> {
        let [algorithm, bits] = der::sequence(der)?.try_into().ok()?;
        let bits = der::bits(&bits)?;
        let kind = match kind(algorithm.whole)? {
            KeyKind::Rsa(_) => KeyKind::Rsa(modulus_bits(bits)?),
            kind => kind,
        };
        Some(Self {
            kind,
            bits: bits.to_vec(),
            fingerprint: Fingerprint::of(der),
        })
    }

    /// Whether it is the public half that was computed from a private key.
    pub fn is_of(&self, pair: &PublicHalf) -> bool {
        self.kind == pair.kind && self.bits == pair.bits
    }
}

/// What was computed from a private key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PublicHalf {
    /// Its algorithm and size.
    pub kind: KeyKind,
    /// As in [`PublicKey::bits`].
    pub bits: Vec<u8>,
}

/// The algorithm of a private key in a PEM block, and for RSA its public half, which stands in it. That
/// of the others has to be computed. `None`: damaged, or no private key.
pub fn private(label: &str, der: &[u8]) -> Option<(KeyKind, Option<PublicHalf>)> {
    match label {
        "RSA PRIVATE KEY" => rsa(der),
        "EC PRIVATE KEY" => ec(der, None),
        "PRIVATE KEY" => {
            let fields = der::sequence(der)?;
            let (algorithm, key) = (fields.get(1)?, fields.get(2)?);
            let key = (key.tag == OCTET_STRING).then_some(key.value)?;
            match kind(algorithm.whole)? {
                KeyKind::Rsa(_) => rsa(key),
                KeyKind::Ec(curve) => ec(key, Some(curve)),
                kind => Some((kind, None)),
            }
        }
        _ => None,
    }
}

fn rsa(der: &[u8]) -> Option<(KeyKind, Option<PublicHalf>)> {
    let fields = der::sequence(der)?;
    // version, modulus, public exponent, and seven numbers more
    let numbers = fields.len() == 9 && fields.iter().all(|field| field.tag == INTEGER);
    let bits = numbers.then(|| der::wrap(SEQUENCE, &[fields[1].whole, fields[2].whole]))?;
    let kind = KeyKind::Rsa(modulus_bits(&bits)?);
    Some((kind, Some(PublicHalf { kind, bits })))
}

fn ec(der: &[u8], curve: Option<u16>) -> Option<(KeyKind, Option<PublicHalf>)> {
    const PARAMETERS: u8 = 0xa0;

    let fields = der::sequence(der)?;
    (fields.len() >= 2 && fields[1].tag == OCTET_STRING).then_some(())?;
    let own = fields.iter().find(|field| field.tag == PARAMETERS);
    let own = own.and_then(|field| curve_of(der::split(field.value)?.0.value));
    Some((KeyKind::Ec(own.or(curve)?), None))
}

/// Of an AlgorithmIdentifier; the size of RSA is not in it.
fn kind(algorithm: &[u8]) -> Option<KeyKind> {
    let fields = der::sequence(algorithm)?;
    Some(match identifier(fields.first()?)? {
        RSA => KeyKind::Rsa(0),
        // A curve by its numbers is refused by Go.
        EC => match curve_of(identifier(fields.get(1)?)?) {
            Some(bits) => KeyKind::Ec(bits),
            None => KeyKind::Unknown,
        },
        ED25519 => KeyKind::Ed25519,
        _ => KeyKind::Unknown,
    })
}

/// The bytes of an OBJECT IDENTIFIER that is whole.
fn identifier<'a>(element: &Element<'a>) -> Option<&'a [u8]> {
    let is_whole = ObjectIdentifier::from_bytes(element.value).is_ok();
    (element.tag == OBJECT_IDENTIFIER && is_whole).then_some(element.value)
}

fn curve_of(id: &[u8]) -> Option<u16> {
    let found = CURVES.iter().find(|(curve, _)| *curve == id);
    found.map(|(_, bits)| *bits)
}

fn modulus_bits(rsa_public_key: &[u8]) -> Option<usize> {
    let [modulus, _] = der::sequence(rsa_public_key)?.try_into().ok()?;
    let modulus = der::unsigned(&modulus)?;
    let zeros = modulus.first()?.leading_zeros() as usize;
    Some(modulus.len() * 8 - zeros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spki(curve: &[u8]) -> Vec<u8> {
        let algorithm = der::wrap(
            SEQUENCE,
            &[
                &der::wrap(OBJECT_IDENTIFIER, &[EC]),
                &der::wrap(OBJECT_IDENTIFIER, &[curve]),
            ],
        );
        let bits = der::wrap(der::BIT_STRING, &[&[0, 4, 1, 2]]);
        der::wrap(SEQUENCE, &[&algorithm, &bits])
    }

    #[test]
    fn a_curve_is_known_unknown_or_damaged() {
        let kind = |curve: &[u8]| PublicKey::parse(&spki(curve)).map(|key| key.kind);
        assert_eq!(kind(CURVES[1].0), Some(KeyKind::Ec(256)));
        assert_eq!(
            kind(&[0x2b, 0x81, 0x04, 0x00, 0x0a]),
            Some(KeyKind::Unknown)
        );
        assert_eq!(kind(&[0x2b, 0x81, 0x04, 0x00, 0x8a]), None); // cut off
        assert_eq!(kind(&[]), None);
    }
}
