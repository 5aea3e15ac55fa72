//! The way back: the same rotation, to the key that wrote before it began.
//!
//! No old file comes back, for it would lack the key that was used since. The old key is promoted again
//! in the files as they are, everything is rewritten, and the new key leaves on the proof on which
//! the old one would have left.

use std::path::{Path, PathBuf};

use atrest_core::at_rest::GroupResource;
use atrest_core::encryption_config::{EncryptionConfiguration, Key, KmsVersion, Provider};
use atrest_core::rotation::chain::{Local, Target};
use serde::{Deserialize, Serialize};

use super::escrow;
use super::observe::load;
use super::settings::Settings;
use crate::machine::Machine;
use crate::status::Failure;

/// What wrote before a run, without its bytes.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Writer {
    provider: String,
    /// Of the key, or of the KMS v2 plugin.
    name: String,
    /// Of a local key.
    fingerprint: Option<String>,
}

impl Writer {
    /// What writes all of the resources; `None` where that is not one.
    pub(super) fn of(
        configuration: &EncryptionConfiguration,
        resources: &[GroupResource],
    ) -> Option<Self> {
        let mut writers = resources.iter().map(|resource| {
            let provider = *configuration.chain(resource).first()?;
            let key = provider.keys().first();
            Some(Self {
                provider: provider.name().into(),
                name: match (provider, key) {
                    (Provider::Kms(kms), _) => kms.name.clone(),
                    (_, Some(key)) => key.name.clone(),
                    (_, None) => String::new(),
                },
                fingerprint: key.map(|key| key.secret.fingerprint().to_string()),
            })
        });
        let first = writers.next()??;
        writers
            .all(|writer| writer.as_ref() == Some(&first))
            .then_some(first)
    }

    pub(super) fn provider(&self) -> &str {
        &self.provider
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn fingerprint(&self) -> Option<&str> {
        self.fingerprint.as_deref()
    }

    /// For people.
    pub(crate) fn describe(&self) -> String {
        match self.is_plaintext() {
            true => "stored in plaintext".into(),
            false => format!("rewritten under {} {}", self.provider, self.name),
        }
    }

    /// Whether nothing was encrypted.
    pub(crate) fn is_plaintext(&self) -> bool {
        self.provider == Provider::Identity.name()
    }

    /// With its bytes: from a server's file, or from the escrow of the run that minted it.
    pub(super) async fn find(
        &self,
        settings: &Settings,
        machines: &[Option<Machine>],
    ) -> Result<Target, Failure> {
        let mut files = Vec::new();
        for (server, machine) in settings.servers.iter().zip(machines) {
            if let Some(machine) = machine {
                files.push(load(machine, server).await?.configuration);
            }
        }
        self.find_in(settings, &files.iter().collect::<Vec<_>>())
    }

    /// The same, of files that were read.
    pub(super) fn find_in(
        &self,
        settings: &Settings,
        files: &[&EncryptionConfiguration],
    ) -> Result<Target, Failure> {
        if self.is_plaintext() {
            return Ok(Target::Identity);
        }
        for file in files {
            let entries = file.resources.iter();
            let providers = entries.flat_map(|entry| &entry.providers);
            if let Some(target) = providers.filter_map(|it| self.among(it)).next() {
                return Ok(target);
            }
        }
        for deposit in deposits(settings) {
            if let Ok(Some((local, key))) = escrow::find(&[deposit])
                && self.is(local.name(), &key)
            {
                return Ok(Target::Key(local, key));
            }
        }
        Err(Failure::stopped(format!(
            "{} {} is in no server's file and not in the escrow any more",
            self.provider, self.name
        ))
        .hint(format!(
            "put the file of the run that minted it into {} again; else go on to the new key: it is \
             the only one that everything is under",
            parent(&settings.escrow).display()
        )))
    }

    fn among(&self, provider: &Provider) -> Option<Target> {
        match provider {
            Provider::Kms(kms) => (self.provider == "kms"
                && kms.name == self.name
                && kms.api_version == KmsVersion::V2)
                .then(|| Target::Kms(kms.clone())),
            local => {
                let key = local.keys().iter().find(|key| self.is(local.name(), key))?;
                Some(Target::Key(Local::parse(local.name())?, key.clone()))
            }
        }
    }

    fn is(&self, provider: &str, key: &Key) -> bool {
        provider == self.provider
            && self.name == key.name
            && self.fingerprint.as_deref() == Some(&key.secret.fingerprint().to_string())
    }
}

/// What stands beside this run's escrow: files of earlier runs.
fn deposits(settings: &Settings) -> Vec<PathBuf> {
    let bases = std::iter::once(&settings.escrow).chain(&settings.escrow_copies);
    let beside = bases.filter_map(|base| std::fs::read_dir(parent(base)).ok());
    let mut deposits: Vec<_> = beside
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_file())
        .collect();
    deposits.sort();
    deposits
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}
