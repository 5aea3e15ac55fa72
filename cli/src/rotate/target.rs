//! Where a rotation leads, as far as the settings and the configuration say it.

use std::time::Duration;

use atrest_core::at_rest::GroupResource;
use atrest_core::encryption_config::{EncryptionConfiguration, Kms, KmsVersion, Provider};
use atrest_core::rotation::chain::Local;

use super::settings::Settings;
use crate::status::Failure;

pub(crate) fn kms_provider(name: &str, socket: &std::path::Path) -> Kms {
    Kms {
        api_version: KmsVersion::V2,
        name: name.into(),
        endpoint: format!("unix://{}", socket.display()),
        timeout: Duration::from_secs(3),
        cachesize: None,
    }
}

/// The local provider that writes now, for a rotation to a fresh key of the same.
pub(crate) fn provider_in_use(
    configuration: &EncryptionConfiguration,
    settings: &Settings,
) -> Option<Local> {
    let resources = settings.resources();
    let resource = resources.first().cloned().or_else(|| {
        let name = configuration.resources.first()?.resources.first()?;
        Some(GroupResource::parse(name))
    })?;
    let chain = configuration.chain(&resource);
    chain
        .first()
        .map(|provider: &&Provider| provider.name())
        .and_then(Local::parse)
}

pub(crate) fn no_provider_in_use() -> Failure {
    Failure::unusable("the provider that writes now has no local key to rotate").hint(
        "say where to go with --to secretbox; a KMS plugin's key-encryption key is rotated with \
         atrest-kms keyring add and activate, then atrest rotate run --to kms",
    )
}
