//! The chain of providers that reads and writes a resource's values, as kube-apiserver runs it
//! (`k8s.io/apiserver` `pkg/storage/value/transformer.go`, `.../encryptionconfig/config.go`).
//!
//! Keys of KMS plugins are not here: what a plugin has to unwrap is handed out as a [`WrappedKey`],
//! and whoever can talk to plugins keeps the answers in [`Plugins`].

use std::collections::BTreeMap;
use std::fmt;

use atrest_proto::stored::{EncryptedDekSourceType, EncryptedObject};
use prost::Message;
use sha2::{Digest, Sha256};

use super::body::{
    BodyError, open_cbc, open_gcm, open_secretbox, open_seeded, seal_cbc, seal_gcm, seal_secretbox,
    seal_seeded,
};
use super::object::is_plausible;
use super::storage_key::GroupResource;
use super::stored_value::{ENCRYPTED, encrypted_object};
use crate::encryption_config::{EncryptionConfiguration, Key, Kms, KmsVersion, Provider};
use crate::secret::{Fingerprint, SecretBytes};

/// The providers of one resource, in the server's order.
#[derive(Clone, Debug)]
pub struct Transformers<'a> {
    providers: Vec<&'a Provider>,
    trust: Trust,
    dek_source: DekSource,
}

/// What a KMS v2 plugin wraps for the servers. Values of the other form are stale to them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DekSource {
    /// The data-encryption key itself: up to Kubernetes 1.28.
    Key,
    /// A seed, from which each write expands a key of its own: since 1.29.
    Seed,
}

impl DekSource {
    fn stored(self) -> EncryptedDekSourceType {
        match self {
            Self::Key => EncryptedDekSourceType::AesGcmKey,
            Self::Seed => EncryptedDekSourceType::HkdfSha256XnonceAesGcmSeed,
        }
    }
}

/// What is believed of a cipher that authenticates nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trust {
    /// What kube-apiserver believes: any bytes with a valid padding.
    Upstream,
    /// Only what is an object: of wrong keys, one in 256 yields bytes.
    Objects,
}

/// A data-encryption key or seed as a plugin wrapped it.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct WrappedKey {
    /// The plugin API that wrapped it.
    pub version: KmsVersion,
    /// The provider's name.
    pub provider: String,
    /// Empty for v1, which has none.
    pub key_id: String,
    /// What the plugin's Encrypt returned.
    pub ciphertext: Vec<u8>,
    /// What it returned besides; none for v1.
    pub annotations: BTreeMap<String, Vec<u8>>,
}

impl WrappedKey {
    /// Tells wrapped keys apart, and says nothing about what is in them.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut digest = Sha256::new();
        let mut field = |bytes: &[u8]| {
            digest.update((bytes.len() as u64).to_be_bytes());
            digest.update(bytes);
        };
        field(self.version.to_string().as_bytes());
        field(self.provider.as_bytes());
        field(self.key_id.as_bytes());
        field(&self.ciphertext);
        for (name, value) in &self.annotations {
            field(name.as_bytes());
            field(value);
        }
        <[u8; 32]>::from(digest.finalize()).into()
    }
}

impl fmt::Debug for WrappedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            provider, key_id, ..
        } = self;
        let fingerprint = self.fingerprint().short(8);
        write!(f, "<key {fingerprint} of {provider}, key_id {key_id:?}>")
    }
}

/// What the plugins said so far.
pub trait Plugins {
    /// The key that was wrapped, the plugin's refusal, or `None` where it was not asked yet.
    fn unwrapped(&self, key: &WrappedKey) -> Option<Result<&SecretBytes, Refusal>>;

    /// The key_id that the Status of a v2 plugin gives, where it is known.
    fn key_id(&self, provider: &str) -> Option<&str>;
}

/// The plugin was asked and did not unwrap the key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Refusal;

/// For configurations without plugins, and where nobody can be asked.
#[derive(Clone, Copy, Debug)]
pub struct NoPlugins;

impl Plugins for NoPlugins {
    fn unwrapped(&self, _: &WrappedKey) -> Option<Result<&SecretBytes, Refusal>> {
        None
    }

    fn key_id(&self, _: &str) -> Option<&str> {
        None
    }
}

/// A value that was read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plaintext {
    /// The object's own bytes.
    pub bytes: SecretBytes,
    /// Whether an update that changes nothing rewrites it; `None` where that depends on a plugin
    /// whose key_id is not known.
    pub stale: Option<bool>,
    /// The provider that read it, by its place in the chain.
    pub provider: usize,
    /// The key of a local provider, by its place.
    pub key: usize,
}

/// Why a value was not read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// No provider or key of the chain has this prefix.
    #[error("no provider of the configuration wrote this value")]
    NoMatch,
    /// The plugin has to unwrap this key first.
    #[error("the plugin was not asked for its key")]
    Wrapped(Box<WrappedKey>),
    /// The plugin did not unwrap the key.
    #[error("the plugin does not unwrap its key")]
    PluginRefused,
    /// The envelope of a KMS value is damaged.
    #[error("its envelope is damaged: {0}")]
    Envelope(&'static str),
    /// The body is damaged, or the key is another one.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// What came out of a cipher that authenticates nothing is no object.
    #[error("what comes out of it is no object: another key, or changed bytes")]
    Implausible,
}

/// Why a value was not written.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The chain is empty, or its first provider is a plugin and no key of it was given.
    #[error("there is no key to write with")]
    NoKey,
    /// The cipher cannot.
    #[error(transparent)]
    Body(#[from] BodyError),
}

/// What writes a KMS value: a key in clear and as the plugin wrapped it.
#[derive(Clone, Debug)]
pub struct WritingKey {
    /// Of KMS v1 a data-encryption key, of v2 a seed; 32 bytes.
    pub key: SecretBytes,
    /// The same, wrapped.
    pub wrapped: WrappedKey,
}

impl<'a> Transformers<'a> {
    /// The chain of a resource; empty where the configuration does not cover it, which is the same
    /// as identity.
    pub fn of(
        configuration: &'a EncryptionConfiguration,
        resource: &GroupResource,
        trust: Trust,
    ) -> Self {
        Self {
            providers: configuration.chain(resource),
            trust,
            dek_source: DekSource::Seed,
        }
    }

    /// The same, of servers of another release.
    pub fn with_dek_source(self, dek_source: DekSource) -> Self {
        Self { dek_source, ..self }
    }

    /// The provider that writes; `None` for the identity of a resource that is not covered.
    pub fn writer(&self) -> Option<&'a Provider> {
        self.providers.first().copied()
    }

    /// Whether the envelope of a value says that it is current, so that no plugin has to unwrap its
    /// key to know: KMS v2's alone names the key_id.
    pub fn is_current_by_its_envelope(&self, value: &[u8], plugins: &dyn Plugins) -> bool {
        let Some(Provider::Kms(kms)) = self.writer() else {
            return false;
        };
        let envelope = (kms.api_version == KmsVersion::V2)
            .then(|| body(value, kms_prefix(kms), &kms.name))
            .flatten()
            .and_then(|body| envelope_v2(kms, body).ok());
        envelope.is_some_and(|(wrapped, _, source)| {
            source == Some(self.dek_source.stored())
                && plugins.key_id(&kms.name) == Some(&*wrapped.key_id)
        })
    }

    /// Reads a stored value. The errors of earlier providers are forgotten once a later one reads
    /// it; if none does, the first error is returned, but what a plugin still has to be asked comes
    /// before all.
    pub fn read(
        &self,
        storage_key: &[u8],
        value: &[u8],
        plugins: &dyn Plugins,
    ) -> Result<Plaintext, ReadError> {
        let mut first_error = None;
        let identity = [&Provider::Identity];
        let providers: &[&Provider] = match &*self.providers {
            [] => &identity,
            providers => providers,
        };
        for (place, provider) in providers.iter().enumerate() {
            let read = match provider {
                Provider::Identity if value.starts_with(ENCRYPTED) => continue,
                Provider::Identity => Ok((SecretBytes::new(value.to_vec()), Some(false), 0)),
                Provider::Kms(kms) => match body(value, kms_prefix(kms), &kms.name) {
                    Some(body) => self
                        .read_kms(kms, storage_key, body, plugins)
                        .map(|(bytes, stale)| (bytes, stale, 0)),
                    None => continue,
                },
                local => match value.strip_prefix(local_prefix(local)) {
                    Some(rest) => self.read_local(local, storage_key, rest),
                    None => continue,
                },
            };
            match read {
                Ok((bytes, stale, key)) => {
                    return Ok(Plaintext {
                        bytes,
                        stale: if place > 0 { Some(true) } else { stale },
                        provider: place,
                        key,
                    });
                }
                Err(error @ ReadError::Wrapped(_)) => return Err(error),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error.unwrap_or(ReadError::NoMatch))
    }

    fn read_local(
        &self,
        provider: &Provider,
        storage_key: &[u8],
        rest: &[u8],
    ) -> Result<(SecretBytes, Option<bool>, usize), ReadError> {
        let mut first_error = None;
        for (place, Key { name, secret }) in provider.keys().iter().enumerate() {
            let Some(body) = body(rest, b"", name) else {
                continue;
            };
            let read = match provider {
                Provider::AesCbc(_) => self.read_cbc(secret, body),
                Provider::AesGcm(_) => open_gcm(secret, storage_key, body).map_err(ReadError::from),
                _ => open_secretbox(secret, body).map_err(ReadError::from),
            };
            match read {
                Ok(bytes) => return Ok((bytes, Some(place > 0), place)),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error.unwrap_or(ReadError::NoMatch))
    }

    fn read_cbc(&self, key: &SecretBytes, body: &[u8]) -> Result<SecretBytes, ReadError> {
        let bytes = open_cbc(key, body)?;
        if self.trust == Trust::Objects && !is_plausible(bytes.expose()) {
            return Err(ReadError::Implausible);
        }
        Ok(bytes)
    }

    fn read_kms(
        &self,
        kms: &Kms,
        storage_key: &[u8],
        body: &[u8],
        plugins: &dyn Plugins,
    ) -> Result<(SecretBytes, Option<bool>), ReadError> {
        let (wrapped, body, source) = match kms.api_version {
            KmsVersion::V1 => {
                let (wrapped, body) = envelope_v1(kms, body)?;
                (wrapped, body.to_vec(), None)
            }
            KmsVersion::V2 => envelope_v2(kms, body)?,
        };
        let key = match plugins.unwrapped(&wrapped) {
            None => return Err(ReadError::Wrapped(Box::new(wrapped))),
            Some(Err(Refusal)) => return Err(ReadError::PluginRefused),
            Some(Ok(key)) => key,
        };
        match source {
            None => match open_gcm(key, storage_key, &body) {
                Ok(bytes) => Ok((bytes, Some(false))),
                // Kubernetes 1.24 and older wrote this.
                Err(error) => match self.read_cbc(key, &body) {
                    Ok(bytes) => Ok((bytes, Some(true))),
                    Err(_) => Err(error.into()),
                },
            },
            Some(source) => {
                let seeded = source == EncryptedDekSourceType::HkdfSha256XnonceAesGcmSeed;
                let bytes = if seeded {
                    open_seeded(key, storage_key, &body)?
                } else {
                    open_gcm(key, storage_key, &body)?
                };
                let stale = if source == self.dek_source.stored() {
                    plugins.key_id(&kms.name).map(|id| id != wrapped.key_id)
                } else {
                    Some(true)
                };
                Ok((bytes, stale))
            }
        }
    }

    /// Encodes an object's bytes with the first provider's first key. `plugin` is the key of a KMS
    /// provider; where it is no seed, its nonces are random, and it must not write 2^32 values.
    pub fn write(
        &self,
        storage_key: &[u8],
        plaintext: &[u8],
        plugin: Option<&WritingKey>,
    ) -> Result<Vec<u8>, WriteError> {
        let (prefix, body) = match self.providers.first().copied() {
            None | Some(Provider::Identity) => return Ok(plaintext.to_vec()),
            Some(Provider::Kms(kms)) => {
                let writing = plugin.ok_or(WriteError::NoKey)?;
                let prefix = [kms_prefix(kms), kms.name.as_bytes(), b":"].concat();
                let WritingKey { key, wrapped } = writing;
                let body = match kms.api_version {
                    KmsVersion::V1 => {
                        let length = u16::try_from(wrapped.ciphertext.len());
                        let length = length.map_err(|_| WriteError::NoKey)?.to_be_bytes();
                        let payload = seal_gcm(key, storage_key, plaintext)?;
                        [&length[..], &wrapped.ciphertext, &payload].concat()
                    }
                    KmsVersion::V2 => EncryptedObject {
                        encrypted_data: match self.dek_source {
                            DekSource::Key => seal_gcm(key, storage_key, plaintext)?,
                            DekSource::Seed => seal_seeded(key, storage_key, plaintext)?,
                        },
                        key_id: wrapped.key_id.clone(),
                        encrypted_dek_source: wrapped.ciphertext.clone(),
                        annotations: wrapped.annotations.clone().into_iter().collect(),
                        encrypted_dek_source_type: self.dek_source.stored() as i32,
                    }
                    .encode_to_vec(),
                };
                (prefix, body)
            }
            Some(local) => {
                let Key { name, secret } = local.keys().first().ok_or(WriteError::NoKey)?;
                let body = match local {
                    Provider::AesCbc(_) => seal_cbc(secret, plaintext)?,
                    Provider::AesGcm(_) => seal_gcm(secret, storage_key, plaintext)?,
                    _ => seal_secretbox(secret, plaintext)?,
                };
                ([local_prefix(local), name.as_bytes(), b":"].concat(), body)
            }
        };
        Ok([prefix, body].concat())
    }
}

fn local_prefix(provider: &Provider) -> &'static [u8] {
    match provider {
        Provider::AesCbc(_) => b"k8s:enc:aescbc:v1:",
        Provider::AesGcm(_) => b"k8s:enc:aesgcm:v1:",
        _ => b"k8s:enc:secretbox:v1:",
    }
}

fn kms_prefix(kms: &Kms) -> &'static [u8] {
    match kms.api_version {
        KmsVersion::V1 => b"k8s:enc:kms:v1:",
        KmsVersion::V2 => b"k8s:enc:kms:v2:",
    }
}

/// What follows after the prefix, the name and a colon. Names may hold colons: each one that fits
/// is tried.
fn body<'v>(value: &'v [u8], prefix: &[u8], name: &str) -> Option<&'v [u8]> {
    value
        .strip_prefix(prefix)?
        .strip_prefix(name.as_bytes())?
        .strip_prefix(b":")
}

/// `length (2, big-endian) || wrapped key || payload`
fn envelope_v1<'v>(kms: &Kms, body: &'v [u8]) -> Result<(WrappedKey, &'v [u8]), ReadError> {
    let cut_off = ReadError::Envelope("it is shorter than it says");
    let Some((length, rest)) = body.split_first_chunk() else {
        return Err(cut_off);
    };
    let length = usize::from(u16::from_be_bytes(*length));
    let (ciphertext, payload) = rest.split_at_checked(length).ok_or(cut_off)?;
    let wrapped = WrappedKey {
        version: KmsVersion::V1,
        provider: kms.name.clone(),
        key_id: String::new(),
        ciphertext: ciphertext.to_vec(),
        annotations: BTreeMap::new(),
    };
    Ok((wrapped, payload))
}

type EnvelopeV2 = (WrappedKey, Vec<u8>, Option<EncryptedDekSourceType>);

fn envelope_v2(kms: &Kms, body: &[u8]) -> Result<EnvelopeV2, ReadError> {
    let object = encrypted_object(body).ok_or(ReadError::Envelope("it is no EncryptedObject"))?;
    let source = EncryptedDekSourceType::try_from(object.encrypted_dek_source_type)
        .map_err(|_| ReadError::Envelope("the type of its key is unknown"))?;
    if let Some(fault) = fault(&object) {
        return Err(ReadError::Envelope(fault));
    }
    let wrapped = WrappedKey {
        version: KmsVersion::V2,
        provider: kms.name.clone(),
        key_id: object.key_id,
        ciphertext: object.encrypted_dek_source,
        annotations: object.annotations.into_iter().collect(),
    };
    Ok((wrapped, object.encrypted_data, Some(source)))
}

/// kube-apiserver's own limits (`kmsv2/envelope.go`, `ValidateEncryptedObject`).
fn fault(object: &EncryptedObject) -> Option<&'static str> {
    const KEY: std::ops::RangeInclusive<usize> = 1..=1024;
    const ANNOTATIONS: usize = 32 << 10;

    let size: usize = object
        .annotations
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if object.encrypted_data.is_empty() {
        Some("it has no data")
    } else if !KEY.contains(&object.encrypted_dek_source.len()) {
        Some("its wrapped key has no valid length")
    } else if !KEY.contains(&object.key_id.len()) {
        Some("its key_id has no valid length")
    } else if !object.annotations.keys().all(|name| is_domain_name(name)) {
        Some("the name of an annotation is no domain name")
    } else if size > ANNOTATIONS {
        Some("its annotations are too large")
    } else {
        None
    }
}

/// `IsFullyQualifiedDomainName` of `k8s.io/apimachinery` `pkg/util/validation`.
fn is_domain_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_label = |label: &str| {
        let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| word(byte) || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.contains('.') && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::encryption_config::ResourceEntry;

    const PLACE: &[u8] = b"/registry/secrets/default/db";

    /// One plugin; what it wraps is the key XOR 0x5a.
    struct Plugin {
        key_id: &'static str,
        unwrapped: BTreeMap<WrappedKey, Result<SecretBytes, Refusal>>,
    }

    impl Plugin {
        fn wrap(kms: &Kms, key_id: &'static str, key: &SecretBytes) -> WrappedKey {
            WrappedKey {
                version: kms.api_version,
                provider: kms.name.clone(),
                key_id: match kms.api_version {
                    KmsVersion::V1 => String::new(),
                    KmsVersion::V2 => key_id.to_owned(),
                },
                ciphertext: key.expose().iter().map(|byte| byte ^ 0x5a).collect(),
                annotations: BTreeMap::new(),
            }
        }

        fn unwrap(&mut self, key: &WrappedKey) {
            let bytes = key.ciphertext.iter().map(|byte| byte ^ 0x5a).collect();
            self.unwrapped
                .insert(key.clone(), Ok(SecretBytes::new(bytes)));
        }
    }

    impl Plugins for Plugin {
        fn unwrapped(&self, key: &WrappedKey) -> Option<Result<&SecretBytes, Refusal>> {
            let answer = self.unwrapped.get(key)?;
            Some(answer.as_ref().map_err(|refusal| *refusal))
        }

        fn key_id(&self, _: &str) -> Option<&str> {
            Some(self.key_id)
        }
    }

    fn key(name: &str, byte: u8) -> Key {
        Key {
            name: name.into(),
            secret: SecretBytes::new(vec![byte; 32]),
        }
    }

    fn kms(api_version: KmsVersion) -> Kms {
        Kms {
            api_version,
            name: "plug".into(),
            endpoint: "unix:///x".into(),
            timeout: Duration::from_secs(3),
            cachesize: None,
        }
    }

    fn configuration(providers: Vec<Provider>) -> EncryptionConfiguration {
        EncryptionConfiguration {
            resources: vec![ResourceEntry {
                resources: vec!["secrets".into()],
                providers,
            }],
        }
    }

    fn of(configuration: &EncryptionConfiguration) -> Transformers<'_> {
        Transformers::of(
            configuration,
            &GroupResource::parse("secrets"),
            Trust::Upstream,
        )
    }

    fn read(
        providers: Vec<Provider>,
        value: &[u8],
    ) -> Result<(usize, usize, Option<bool>), ReadError> {
        of(&configuration(providers))
            .read(PLACE, value, &NoPlugins)
            .map(|read| (read.provider, read.key, read.stale))
    }

    #[test]
    fn staleness_follows_the_place_in_the_chain() {
        let [a, b] = [key("a", 1), key("b", 2)];
        for local in [Provider::AesCbc, Provider::AesGcm, Provider::Secretbox] {
            let only = |key: &Key| local(vec![key.clone()]);
            let by_a = of(&configuration(vec![only(&a)]))
                .write(PLACE, b"text", None)
                .unwrap();
            let chain = |providers: Vec<Provider>| read(providers, &by_a);
            assert_eq!(chain(vec![only(&a)]), Ok((0, 0, Some(false))));
            assert_eq!(
                chain(vec![local(vec![b.clone(), a.clone()])]),
                Ok((0, 1, Some(true)))
            );
            assert_eq!(chain(vec![only(&b), only(&a)]), Ok((1, 0, Some(true))));
            assert_eq!(
                chain(vec![Provider::Identity, only(&a)]),
                Ok((1, 0, Some(true)))
            );
            assert_eq!(chain(vec![only(&b)]), Err(ReadError::NoMatch));
            assert_eq!(chain(vec![]), Err(ReadError::NoMatch));
        }
        assert_eq!(
            read(vec![Provider::Identity], b"text"),
            Ok((0, 0, Some(false)))
        );
        assert_eq!(read(vec![], b"text"), Ok((0, 0, Some(false))));
        let chain = vec![Provider::AesGcm(vec![a]), Provider::Identity];
        assert_eq!(read(chain, b"text"), Ok((1, 0, Some(true))));
        assert_eq!(
            read(vec![Provider::AesGcm(vec![b])], b"text"),
            Err(ReadError::NoMatch)
        );
    }

    #[test]
    fn names_with_colons_are_all_tried() {
        let by_long = of(&configuration(vec![Provider::AesGcm(vec![key("a:b", 2)])]))
            .write(PLACE, b"text", None)
            .unwrap();
        let keys = vec![key("a", 1), key("a:b", 2)];
        assert_eq!(
            read(vec![Provider::AesGcm(keys)], &by_long),
            Ok((0, 1, Some(true)))
        );
    }

    #[test]
    fn a_plugin_unwraps_what_it_wrapped_and_tells_what_is_stale() {
        for version in [KmsVersion::V1, KmsVersion::V2] {
            let kms = kms(version);
            let configuration = configuration(vec![Provider::Kms(kms.clone())]);
            let chain = of(&configuration);
            let key = SecretBytes::new(vec![7; 32]);
            let writing = WritingKey {
                wrapped: Plugin::wrap(&kms, "id-1", &key),
                key,
            };
            let value = chain.write(PLACE, b"text", Some(&writing)).unwrap();
            let mut plugin = Plugin {
                key_id: "id-1",
                unwrapped: BTreeMap::new(),
            };
            let Err(ReadError::Wrapped(wrapped)) = chain.read(PLACE, &value, &plugin) else {
                panic!("the plugin was not asked")
            };
            plugin.unwrap(&wrapped);
            let read = chain.read(PLACE, &value, &plugin).unwrap();
            assert_eq!(
                (read.bytes.expose(), read.stale),
                (&b"text"[..], Some(false))
            );
            plugin.key_id = "id-2";
            let stale = Some(version == KmsVersion::V2);
            assert_eq!(chain.read(PLACE, &value, &plugin).unwrap().stale, stale);
            plugin.unwrapped.insert(*wrapped, Err(Refusal));
            assert_eq!(
                chain.read(PLACE, &value, &plugin),
                Err(ReadError::PluginRefused)
            );
            assert!(chain.write(PLACE, b"text", None).is_err());
        }
    }

    #[test]
    fn values_of_the_other_form_are_stale_and_an_envelope_tells_without_its_plugin() {
        let kms = kms(KmsVersion::V2);
        let covered = configuration(vec![Provider::Kms(kms.clone())]);
        let seed = SecretBytes::new(vec![7; 32]);
        let writing = WritingKey {
            wrapped: Plugin::wrap(&kms, "id-1", &seed),
            key: seed,
        };
        let mut plugin = Plugin {
            key_id: "id-1",
            unwrapped: BTreeMap::new(),
        };
        let forms = [DekSource::Key, DekSource::Seed];
        for written in forms {
            let writer = of(&covered).with_dek_source(written);
            let value = writer.write(PLACE, b"text", Some(&writing)).unwrap();
            for expected in forms {
                let chain = of(&covered).with_dek_source(expected);
                let current = written == expected;
                plugin.unwrapped.clear();
                assert_eq!(chain.is_current_by_its_envelope(&value, &plugin), current);
                plugin.unwrap(&writing.wrapped);
                let read = chain.read(PLACE, &value, &plugin).unwrap();
                assert_eq!(
                    (read.bytes.expose(), read.stale),
                    (&b"text"[..], Some(!current))
                );
                plugin.key_id = "id-2";
                assert!(!chain.is_current_by_its_envelope(&value, &plugin));
                plugin.key_id = "id-1";
            }
            // By another provider than the one that writes it is stale in any form.
            let behind = configuration(vec![Provider::Identity, Provider::Kms(kms.clone())]);
            let chain = of(&behind).with_dek_source(written);
            assert!(!chain.is_current_by_its_envelope(&value, &plugin));
        }
        let local = configuration(vec![Provider::AesGcm(vec![key("a", 1)])]);
        let value = of(&local).write(PLACE, b"text", None).unwrap();
        assert!(!of(&local).is_current_by_its_envelope(&value, &plugin));
    }

    #[test]
    fn what_wrong_keys_make_of_cbc_is_not_believed() {
        let configuration = configuration(vec![Provider::AesCbc(vec![key("a", 1)])]);
        let value = of(&configuration).write(PLACE, b"garbage", None).unwrap();
        let secrets = GroupResource::parse("secrets");
        let doubting = Transformers::of(&configuration, &secrets, Trust::Objects);
        assert!(of(&configuration).read(PLACE, &value, &NoPlugins).is_ok());
        assert_eq!(
            doubting.read(PLACE, &value, &NoPlugins),
            Err(ReadError::Implausible)
        );
    }

    #[test]
    fn domain_names_are_those_of_upstream() {
        for name in ["a.com", "dev.k8s.io.", "10.0.0.1"] {
            assert!(is_domain_name(name), "{name}");
        }
        for name in [
            "",
            "com",
            "Dev.k8s.io",
            "*.example.com",
            "under_score.io",
            "http://x.io",
            "a..b",
        ] {
            assert!(!is_domain_name(name), "{name}");
        }
    }
}
