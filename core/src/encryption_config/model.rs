//! An `EncryptionConfiguration` that kube-apiserver accepts
//! (`k8s.io/apiserver/pkg/apis/apiserver/v1/types_encryption.go`).

use std::fmt;
use std::time::Duration;

use super::dialect;
use crate::at_rest::GroupResource;
use crate::secret::SecretBytes;

/// The whole file. The first entry that matches a resource decides.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct EncryptionConfiguration {
    /// In file order.
    pub resources: Vec<ResourceEntry>,
}

/// Resources and the chain of providers that reads and writes them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ResourceEntry {
    /// `secrets`, `configmaps`, `widgets.example.com`, `*.`, `*.apps`, `*.*`.
    pub resources: Vec<String>,
    /// The first one writes; all are tried for reading, in this order.
    pub providers: Vec<Provider>,
}

/// One link of the chain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Provider {
    /// AES-CBC with PKCS#7 padding, not authenticated.
    AesCbc(Vec<Key>),
    /// AES-GCM with a random nonce.
    AesGcm(Vec<Key>),
    /// No encryption.
    Identity,
    /// A KMS plugin.
    Kms(Kms),
    /// XSalsa20-Poly1305.
    Secretbox(Vec<Key>),
}

impl Provider {
    /// The field's name in the file: `aescbc`, `aesgcm`, `identity`, `kms`, `secretbox`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::AesCbc(_) => "aescbc",
            Self::AesGcm(_) => "aesgcm",
            Self::Identity => "identity",
            Self::Kms(_) => "kms",
            Self::Secretbox(_) => "secretbox",
        }
    }

    /// The keys of a local provider; the first one writes.
    pub fn keys(&self) -> &[Key] {
        match self {
            Self::AesCbc(keys) | Self::AesGcm(keys) | Self::Secretbox(keys) => keys,
            Self::Identity | Self::Kms(_) => &[],
        }
    }

    /// The keys of a local provider, to change.
    pub fn keys_mut(&mut self) -> Option<&mut Vec<Key>> {
        match self {
            Self::AesCbc(keys) | Self::AesGcm(keys) | Self::Secretbox(keys) => Some(keys),
            Self::Identity | Self::Kms(_) => None,
        }
    }
}

/// A named key of a local provider.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Key {
    /// Stands in front of each value that the key wrote.
    pub name: String,
    /// 16, 24 or 32 bytes; 32 for secretbox.
    pub secret: SecretBytes,
}

/// A KMS plugin behind a unix socket.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Kms {
    /// The plugin API.
    pub api_version: KmsVersion,
    /// Stands in front of each value.
    pub name: String,
    /// `unix:///path` or `unix:///@abstract`.
    pub endpoint: String,
    /// Of each call; 3 s unless the file says otherwise.
    pub timeout: Duration,
    /// DEKs kept in memory, v1 only; negative for none, absent for the server's 1000.
    pub cachesize: Option<i32>,
}

impl Kms {
    /// What the server takes where the file gives no timeout.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3);

    /// A timeout as the file has it, in Go's form: `3s`, `500ms`, `1m30s`. `None` for what is no
    /// duration, or not a positive one.
    pub fn parse_timeout(text: &str) -> Option<Duration> {
        let nanoseconds = u64::try_from(dialect::duration(text).ok()?).ok()?;
        (nanoseconds > 0).then(|| Duration::from_nanos(nanoseconds))
    }
}

/// The version of the KMS plugin API.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum KmsVersion {
    /// `v1beta1` on the wire: one plugin call a write.
    V1,
    /// One plugin call a seed.
    V2,
}

impl fmt::Display for KmsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        })
    }
}

impl EncryptionConfiguration {
    /// The providers of a resource, in the server's order: those of its own entries, else of its
    /// group's wildcard, else of `*.*` (`k8s.io/apiserver` `encryptionconfig/config.go`,
    /// `transformerFromOverrides`). Empty where no entry matches.
    pub fn chain(&self, resource: &GroupResource) -> Vec<&Provider> {
        let Some(deciding) = self.deciding_name(resource) else {
            return Vec::new();
        };
        let entries = self.resources.iter();
        let entries = entries.filter(|entry| names(entry).any(|name| name == deciding));
        entries.flat_map(|entry| &entry.providers).collect()
    }

    /// The name whose entries decide on a resource: its own, else its group's wildcard, else `*.*`.
    pub fn deciding_name(&self, resource: &GroupResource) -> Option<GroupResource> {
        let wildcard = |group: &str| GroupResource {
            group: group.into(),
            resource: "*".into(),
        };
        let candidates = [resource.clone(), wildcard(&resource.group), wildcard("*")];
        let is_named = |it: &GroupResource| {
            let mut all = self.resources.iter().flat_map(names);
            all.any(|name| name == *it)
        };
        candidates.into_iter().find(is_named)
    }
}

fn names(entry: &ResourceEntry) -> impl Iterator<Item = GroupResource> {
    entry
        .resources
        .iter()
        .map(|name| GroupResource::parse(name))
}
