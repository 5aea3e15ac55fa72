//! An X.509 certificate, as far as Kubernetes and etcd look at it.

use std::fmt;
use std::net::IpAddr;

use data_encoding::HEXLOWER;
use serde::{Serialize, Serializer};
use x509_cert::certificate::{CertificateInner, Raw, Version};
use x509_cert::der::asn1::{Any, ObjectIdentifier};
use x509_cert::der::{Decode, Tag, Tagged};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    BasicConstraints, ExtendedKeyUsage, KeyUsage, NameConstraints, SubjectAltName,
};
use x509_cert::name::Name;

use super::der::{self, Element};
use super::key::PublicKey;
use super::time::Time;
use crate::secret::Fingerprint;

/// A certificate. All of it is public.
#[derive(Clone)]
pub struct Certificate {
    /// As it stands.
    pub der: Vec<u8>,
    /// SHA-256 of that, which API servers write into their audit log as `X509SHA256`.
    pub fingerprint: Fingerprint,
    /// Whom it is of.
    pub subject: Subject,
    /// Who signed it.
    pub issuer: Subject,
    /// In hex.
    pub serial: String,
    /// The first second in which it is valid.
    pub not_before: Time,
    /// The last second in which it is valid.
    pub not_after: Time,
    /// The names by which clients may call whom it is of.
    pub names: Vec<San>,
    /// The key that it is of.
    pub key: PublicKey,
    /// How it was signed.
    pub signature_algorithm: SignatureAlgorithm,
    /// What it says about being a CA; `None` where it says nothing.
    pub authority: Option<Authority>,
    /// What its key may be used for; `None` where it says nothing, which allows everything.
    pub key_usage: Option<Usages>,
    /// What it may be used for; `None` where it says nothing, which allows everything.
    pub usages: Option<Vec<Usage>>,
    /// Whether it limits the names of what it signs.
    pub has_name_constraints: bool,
    /// Critical extensions that no program of Kubernetes knows, by their object identifiers.
    pub unknown_critical: Vec<String>,
    /// Whether it has extensions at all: those of X.509 version 1 have none, and are no CA's.
    pub is_version_3: bool,
    signed: Vec<u8>,
    signature: Vec<u8>,
}

/// A distinguished name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Subject {
    /// As RFC 4514 writes it.
    pub text: String,
    /// CN, of which Kubernetes takes the last for the user's name.
    pub common_names: Vec<String>,
    /// O, which Kubernetes takes for the user's groups.
    pub organizations: Vec<String>,
    der: Vec<u8>,
}

impl Subject {
    /// Whether two names are the same byte for byte, which is how Go compares them.
    pub fn is(&self, other: &Self) -> bool {
        self.der == other.der
    }

    /// Whether it is this name, in DER.
    pub fn is_named(&self, der: &[u8]) -> bool {
        self.der == der
    }

    /// The user's name.
    pub fn common_name(&self) -> Option<&str> {
        self.common_names.last().map(String::as_str)
    }
}

/// basicConstraints.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Authority {
    /// Whether it may sign certificates.
    pub is_ca: bool,
    /// How many CAs may stand between it and a leaf.
    pub path_length: Option<u8>,
}

/// The bits of keyUsage that matter to TLS.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Usages {
    /// digitalSignature: handshakes.
    pub digital_signature: bool,
    /// keyCertSign: certificates.
    pub cert_sign: bool,
}

/// An extended key usage.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Usage {
    /// serverAuth.
    Server,
    /// clientAuth.
    Client,
    /// Everything.
    Any,
    /// Another one, by its object identifier.
    Other(String),
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "serverAuth",
            Self::Client => "clientAuth",
            Self::Any => "anyExtendedKeyUsage",
            Self::Other(oid) => oid,
        })
    }
}

impl Serialize for Usage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A subject alternative name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum San {
    /// A DNS name.
    Dns(String),
    /// An address.
    Ip(IpAddr),
    /// A URI.
    Uri(String),
    /// An e-mail address.
    Email(String),
    /// Another kind.
    Other(&'static str),
}

impl fmt::Display for San {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => write!(f, "DNS:{name}"),
            Self::Ip(address) => write!(f, "IP:{address}"),
            Self::Uri(uri) => write!(f, "URI:{uri}"),
            Self::Email(address) => write!(f, "email:{address}"),
            Self::Other(kind) => f.write_str(kind),
        }
    }
}

impl Serialize for San {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How a certificate was signed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SignatureAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256, 384 or 512.
    RsaPkcs1(u16),
    /// RSASSA-PSS with SHA-256, 384 or 512.
    RsaPss(u16),
    /// ECDSA with SHA-256, 384 or 512.
    Ecdsa(u16),
    /// Ed25519.
    Ed25519,
    /// With SHA-1 or MD5, which Go refuses.
    Broken(&'static str),
    /// One that is not known here.
    Unknown,
}

impl fmt::Display for SignatureAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RsaPkcs1(bits) => write!(f, "SHA{bits}-RSA"),
            Self::RsaPss(bits) => write!(f, "SHA{bits}-RSAPSS"),
            Self::Ecdsa(bits) => write!(f, "ECDSA-SHA{bits}"),
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::Broken(name) => f.write_str(name),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// Why bytes are no certificate that can be judged.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It is no X.509 in DER.
    #[error("it is no X.509 certificate")]
    Malformed,
    /// An extension that decides what the certificate is good for is damaged, or there twice.
    #[error("its extension {0} is damaged")]
    Extension(&'static str),
    /// The algorithm in the signed part is another one than that of the signature.
    #[error("its two signature algorithms differ")]
    Algorithms,
    /// A name in it is of a type, or has characters, that Go does not take.
    #[error("a name in it is damaged")]
    Name,
    /// Its key is damaged.
    #[error("its public key is damaged")]
    Key,
}

impl Certificate {
    /// Reads one certificate.
    pub fn parse(der: &[u8]) -> Result<Self, Error> {
        let certificate = CertificateInner::<Raw>::from_der(der).map_err(|_| Error::Malformed)?;
        let parts = Parts::of(der).ok_or(Error::Malformed)?;
        let tbs = certificate.tbs_certificate();
        if tbs.signature() != certificate.signature_algorithm() {
            return Err(Error::Algorithms);
        }
        let is_version_3 = tbs.version() == Version::V3;
        if tbs.extensions().is_some() && !is_version_3 {
            return Err(Error::Malformed);
        }
        let authority = extension::<BasicConstraints>(&certificate, "basicConstraints")?;
        let key_usage = extension::<KeyUsage>(&certificate, "keyUsage")?;
        let usages = extension::<ExtendedKeyUsage>(&certificate, "extKeyUsage")?;
        let names = extension::<SubjectAltName>(&certificate, "subjectAltName")?;
        let constraints = extension::<NameConstraints>(&certificate, "nameConstraints")?;
        let seconds = |time: &x509_cert::time::Time| {
            // At most the end of the year 9999.
            Time::from_unix(time.to_unix_duration().as_secs() as i64)
        };
        Ok(Self {
            fingerprint: Fingerprint::of(der),
            subject: subject(tbs.subject(), parts.subject)?,
            issuer: subject(tbs.issuer(), parts.issuer)?,
            serial: HEXLOWER.encode(tbs.serial_number().as_bytes()),
            not_before: seconds(&tbs.validity().not_before),
            not_after: seconds(&tbs.validity().not_after),
            names: names
                .iter()
                .flat_map(|names| &names.0)
                .map(san)
                .collect::<Result<_, _>>()?,
            key: PublicKey::parse(parts.key.whole).ok_or(Error::Key)?,
            signature_algorithm: signature_algorithm(&certificate, parts.algorithm.whole),
            authority: authority.map(|constraints| Authority {
                is_ca: constraints.ca,
                path_length: constraints.path_len_constraint,
            }),
            key_usage: key_usage.map(|usage| Usages {
                digital_signature: usage.digital_signature(),
                cert_sign: usage.key_cert_sign(),
            }),
            usages: usages.map(|usages| usages.0.iter().map(usage).collect()),
            has_name_constraints: constraints.is_some(),
            unknown_critical: unknown_critical(&certificate),
            is_version_3,
            signed: parts.signed.whole.to_vec(),
            signature: parts.signature.to_vec(),
            der: der.to_vec(),
        })
    }

    /// The bytes that were signed.
    pub fn signed(&self) -> &[u8] {
        &self.signed
    }

    /// The signature over them.
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// Whether it may sign others, as Go asks it (`crypto/x509`, `CheckSignatureFrom`).
    pub fn may_sign(&self) -> bool {
        let is_ca = self.authority.is_some_and(|authority| authority.is_ca);
        is_ca && self.key_usage.is_none_or(|usage| usage.cert_sign)
    }

    /// Whether it may be used for this.
    pub fn may_serve_for(&self, usage: &Usage) -> bool {
        self.usages
            .as_ref()
            .is_none_or(|usages| usages.contains(usage) || usages.contains(&Usage::Any))
    }

    /// Whether it is signed by itself, going by the names.
    pub fn is_self_issued(&self) -> bool {
        self.subject.is(&self.issuer)
    }

    /// Seconds in which it is valid.
    pub fn lifetime(&self) -> i64 {
        self.not_after.since(self.not_before)
    }

    /// Whether a client that calls this name finds it in the certificate, as Go matches them
    /// (`crypto/x509`, `VerifyHostname`).
    pub fn is_for(&self, host: &str) -> bool {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse::<IpAddr>() {
            return self.names.contains(&San::Ip(address));
        }
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let dns = self.names.iter().filter_map(|name| match name {
            San::Dns(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        });
        dns.into_iter().any(|name| match name.strip_prefix("*.") {
            None => name == host,
            Some(parent) => host.split_once('.').is_some_and(|(_, rest)| rest == parent),
        })
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.subject.text, self.fingerprint.short(16))
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Eq for Certificate {}

/// The parts whose bytes count as they stand.
struct Parts<'a> {
    signed: Element<'a>,
    algorithm: Element<'a>,
    signature: &'a [u8],
    issuer: &'a [u8],
    subject: &'a [u8],
    key: Element<'a>,
}

impl<'a> Parts<'a> {
    fn of(der: &'a [u8]) -> Option<Self> {
        const VERSION: u8 = 0xa0;

        let [signed, algorithm, signature] = der::sequence(der)?.try_into().ok()?;
        let fields = der::elements(signed.value)?;
        let has_version = fields.first()?.tag == VERSION;
        // serial number, algorithm, issuer, validity, subject, key
        let fields = &fields[usize::from(has_version)..];
        Some(Self {
            signed,
            algorithm,
            signature: der::bits(&signature)?,
            issuer: fields.get(2)?.whole,
            subject: fields.get(4)?.whole,
            key: *fields.get(5)?,
        })
    }
}

fn extension<'a, T>(
    certificate: &'a CertificateInner<Raw>,
    name: &'static str,
) -> Result<Option<T>, Error>
where
    T: Decode<'a> + x509_cert::der::oid::AssociatedOid,
{
    let found = certificate.tbs_certificate().get_extension::<T>();
    // A type of its own for each extension; what it says would be of no help.
    let found = found.map_err(|_| Error::Extension(name))?;
    Ok(found.map(|(_, extension)| extension))
}

/// Those that `crypto/x509` of Go handles are known; nameConstraints are asked for elsewhere.
fn unknown_critical(certificate: &CertificateInner<Raw>) -> Vec<String> {
    const KNOWN: [&str; 10] = [
        "2.5.29.14", // subjectKeyIdentifier
        "2.5.29.15", // keyUsage
        "2.5.29.17", // subjectAltName
        "2.5.29.19", // basicConstraints
        "2.5.29.30", // nameConstraints
        "2.5.29.32", // certificatePolicies
        "2.5.29.33", // policyMappings
        "2.5.29.35", // authorityKeyIdentifier
        "2.5.29.36", // policyConstraints
        "2.5.29.37", // extKeyUsage
    ];

    let extensions = certificate.tbs_certificate().extensions();
    let critical = extensions.into_iter().flatten().filter(|it| it.critical);
    critical
        .map(|extension| extension.extn_id.to_string())
        .filter(|id| !KNOWN.contains(&id.as_str()))
        .collect()
}

fn usage(id: &ObjectIdentifier) -> Usage {
    match id.to_string().as_str() {
        "1.3.6.1.5.5.7.3.1" => Usage::Server,
        "1.3.6.1.5.5.7.3.2" => Usage::Client,
        "2.5.29.37.0" => Usage::Any,
        other => Usage::Other(other.to_owned()),
    }
}

fn san(name: &GeneralName) -> Result<San, Error> {
    Ok(match name {
        GeneralName::DnsName(name) => San::Dns(name.as_str().to_owned()),
        GeneralName::UniformResourceIdentifier(uri) => San::Uri(uri.as_str().to_owned()),
        GeneralName::Rfc822Name(address) => San::Email(address.as_str().to_owned()),
        GeneralName::IpAddress(octets) => {
            let octets = octets.as_bytes();
            let four = <[u8; 4]>::try_from(octets).map(IpAddr::from);
            let sixteen = || <[u8; 16]>::try_from(octets).map(IpAddr::from);
            San::Ip(
                four.or_else(|_| sixteen())
                    .map_err(|_| Error::Extension("subjectAltName"))?,
            )
        }
        GeneralName::DirectoryName(_) => San::Other("directoryName"),
        GeneralName::RegisteredId(_) => San::Other("registeredID"),
        GeneralName::OtherName(_) | GeneralName::EdiPartyName(_) => San::Other("otherName"),
    })
}

fn subject(name: &Name, der: &[u8]) -> Result<Subject, Error> {
    const COMMON_NAME: &str = "2.5.4.3";
    const ORGANIZATION: &str = "2.5.4.10";

    let mut subject = Subject {
        text: name.to_string(),
        common_names: Vec::new(),
        organizations: Vec::new(),
        der: der.to_vec(),
    };
    for attribute in name.iter() {
        let text = text(&attribute.value).ok_or(Error::Name)?;
        match attribute.oid.to_string().as_str() {
            COMMON_NAME => subject.common_names.push(text),
            ORGANIZATION => subject.organizations.push(text),
            _ => {}
        }
    }
    Ok(subject)
}

/// The characters of a string of a type that Go knows (`crypto/x509`, `parseASN1String`).
fn text(value: &Any) -> Option<String> {
    let bytes = value.value();
    let is = |allowed: fn(&u8) -> bool| bytes.iter().all(allowed);
    match value.tag() {
        Tag::Utf8String => String::from_utf8(bytes.to_vec()).ok(),
        Tag::PrintableString => {
            let is_printable =
                is(|byte| byte.is_ascii_alphanumeric() || b" '()+,-./:=?*&".contains(byte));
            is_printable.then(|| String::from_utf8_lossy(bytes).into_owned())
        }
        Tag::Ia5String => is(u8::is_ascii).then(|| String::from_utf8_lossy(bytes).into_owned()),
        Tag::NumericString => {
            let is_numeric = is(|byte| byte.is_ascii_digit() || *byte == b' ');
            is_numeric.then(|| String::from_utf8_lossy(bytes).into_owned())
        }
        Tag::BmpString => {
            let pairs = bytes.chunks_exact(2);
            let is_even = pairs.remainder().is_empty();
            let units: Vec<_> = pairs
                .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
                .collect();
            is_even.then(|| String::from_utf16(&units).ok())?
        }
        // Latin-1 in practice.
        Tag::TeletexString => Some(bytes.iter().map(|byte| char::from(*byte)).collect()),
        _ => None,
    }
}

fn signature_algorithm(certificate: &CertificateInner<Raw>, der: &[u8]) -> SignatureAlgorithm {
    use SignatureAlgorithm::{Broken, Ecdsa, Ed25519, RsaPkcs1, Unknown};

    match certificate.signature_algorithm().oid.to_string().as_str() {
        "1.2.840.113549.1.1.11" => RsaPkcs1(256),
        "1.2.840.113549.1.1.12" => RsaPkcs1(384),
        "1.2.840.113549.1.1.13" => RsaPkcs1(512),
        "1.2.840.113549.1.1.10" => pss(der),
        "1.2.840.10045.4.3.2" => Ecdsa(256),
        "1.2.840.10045.4.3.3" => Ecdsa(384),
        "1.2.840.10045.4.3.4" => Ecdsa(512),
        "1.3.101.112" => Ed25519,
        "1.2.840.113549.1.1.5" => Broken("SHA1-RSA"),
        "1.2.840.113549.1.1.4" => Broken("MD5-RSA"),
        "1.2.840.113549.1.1.2" => Broken("MD2-RSA"),
        "1.2.840.10045.4.1" => Broken("ECDSA-SHA1"),
        _ => Unknown,
    }
}

/// The hash of RSASSA-PSS, by the object identifiers in its parameters (RFC 4055).
fn pss(der: &[u8]) -> SignatureAlgorithm {
    const HASHES: [(&[u8], u16); 3] = [
        (&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01], 256),
        (&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02], 384),
        (&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03], 512),
    ];
    let has = |id: &[u8]| der.windows(id.len()).any(|window| window == id);
    let mut found = HASHES.iter().filter(|(id, _)| has(id));
    match (found.next(), found.next()) {
        (Some((_, bits)), None) => SignatureAlgorithm::RsaPss(*bits),
        _ => SignatureAlgorithm::Unknown,
    }
}
