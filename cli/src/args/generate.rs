//! `atrest generate`

use std::path::PathBuf;
use std::time::Duration;

use atrest_core::encryption_config::{Kms, Profile};
use clap::ValueEnum;

/// Write a new EncryptionConfiguration with fresh keys, or extend one.
///
/// Keys are 32 bytes of the operating system's generator. The file is written whole or not at all,
/// readable for its owner only; one that exists is left alone. `--output json` writes JSON instead
/// of YAML.
#[derive(Debug, clap::Args)]
pub(crate) struct Generate {
    /// What encrypts.
    #[arg(long, value_enum, default_value_t = GenerateProvider::Secretbox)]
    pub(crate) provider: GenerateProvider,
    /// A resource that is encrypted: `secrets`, `widgets.example.com`, or a wildcard: `'*.'` for
    /// the core group, `'*.apps'` for another one, `'*.*'` for all. Can be repeated.
    #[arg(long = "resource", value_name = "RESOURCE", default_value = "secrets")]
    pub(crate) resources: Vec<String>,
    /// A common shape instead of single resources.
    #[arg(long, value_enum, value_name = "NAME", conflicts_with_all = ["resources", "from"])]
    pub(crate) profile: Option<GenerateProfile>,
    /// The configuration to start from; its comments are kept. Resources that it has already keep
    /// what writes them: the new key, or plugin, only reads them.
    #[arg(long, value_name = "FILE")]
    pub(crate) from: Option<PathBuf>,
    /// The file to write, `-` for stdout.
    #[arg(long, short = 'o', value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Replace the file if it exists. Unless --from names it, too, values under its keys can then not
    /// be read any more.
    #[arg(long)]
    pub(crate) force: bool,
    /// Leave `identity: {}` out: values that are stored in plaintext cannot be read then.
    #[arg(long)]
    pub(crate) no_identity: bool,
    /// The name that stands in front of each value which the KMS plugin wrote.
    #[arg(long, value_name = "NAME", default_value = "atrest")]
    pub(crate) kms_name: String,
    /// The KMS plugin's socket: `unix:///run/atrest/kms.sock`.
    #[arg(long, value_name = "URL", required_if_eq("provider", "kms"))]
    pub(crate) kms_endpoint: Option<String>,
    /// How long the API server waits for the KMS plugin: `3s`, `500ms`.
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = timeout)]
    pub(crate) kms_timeout: Duration,
}

/// What the new file encrypts.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum GenerateProfile {
    /// Secrets.
    Secrets,
    /// Secrets and ConfigMaps.
    SecretsAndConfigmaps,
    /// The core group but Events.
    Core,
    /// Everything, custom resources that come later, too, but Events and Leases.
    AllButEvents,
    /// Everything.
    All,
}

impl From<GenerateProfile> for Profile {
    fn from(profile: GenerateProfile) -> Self {
        match profile {
            GenerateProfile::Secrets => Self::Secrets,
            GenerateProfile::SecretsAndConfigmaps => Self::SecretsAndConfigMaps,
            GenerateProfile::Core => Self::Core,
            GenerateProfile::AllButEvents => Self::AllButEvents,
            GenerateProfile::All => Self::All,
        }
    }
}

/// The first provider of the new file.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum GenerateProvider {
    /// AES-CBC: not authenticated, for compatibility.
    Aescbc,
    /// AES-GCM: rotate its key before 2^32 writes.
    Aesgcm,
    /// XSalsa20-Poly1305.
    Secretbox,
    /// A KMS v2 plugin.
    Kms,
    /// No encryption.
    Identity,
}

fn timeout(text: &str) -> Result<Duration, &'static str> {
    Kms::parse_timeout(text).ok_or("write a positive number and its unit, as in 3s or 500ms")
}
