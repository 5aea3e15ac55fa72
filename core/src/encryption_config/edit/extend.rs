//! One more provider for some resources, whether the configuration has them or not.

use crate::at_rest::GroupResource;

use super::super::model::{EncryptionConfiguration, Provider, ResourceEntry};
use super::change::{Change, Refusal};

/// A configuration with one more provider.
#[derive(Clone, Debug)]
pub struct Extended {
    /// The configuration.
    pub configuration: EncryptionConfiguration,
    /// Resources that no entry included: the provider writes them.
    pub writes: Vec<String>,
    /// Resources that an entry included: the provider reads them, behind the one that writes.
    pub reads: Vec<String>,
}

impl EncryptionConfiguration {
    /// Adds the provider for the resources. Where something is encrypted by this configuration
    /// already, it only reads: other servers could not read yet what it would write. Resources that
    /// were none of the configuration's get an entry that it writes in, with `identity` behind it if
    /// what is in plaintext is to be read.
    pub fn extended(
        &self,
        resources: &[String],
        provider: &Provider,
        reads_plaintext: bool,
    ) -> Result<Extended, Refusal> {
        let mut extended = Extended {
            configuration: self.clone(),
            writes: Vec::new(),
            reads: Vec::new(),
        };
        for name in resources {
            let resource = GroupResource::parse(name);
            let chain = self.chain(&resource);
            if chain.is_empty() {
                extended.writes.push(name.clone());
                continue;
            }
            extended.reads.push(name.clone());
            let names = |entry: &ResourceEntry| {
                let mut names = entry.resources.iter().map(|it| GroupResource::parse(it));
                names.any(|it| it == resource)
            };
            let mut entry = extended.configuration.resources.iter().position(names);
            if entry.is_none() {
                // A wildcard's chain, for this resource alone.
                let new = Change::AddEntry(ResourceEntry {
                    resources: vec![name.clone()],
                    providers: chain.into_iter().cloned().collect(),
                });
                extended.configuration = extended.configuration.changed(&new)?;
                entry = extended.configuration.resources.iter().position(names);
            }
            if let Some(entry) = entry {
                extended.configuration = extended.configuration.with_reader(entry, provider)?;
            }
        }
        if !extended.writes.is_empty() {
            let mut providers = vec![provider.clone()];
            if reads_plaintext && *provider != Provider::Identity {
                providers.push(Provider::Identity);
            }
            let entry = Change::AddEntry(ResourceEntry {
                resources: extended.writes.clone(),
                providers,
            });
            extended.configuration = extended.configuration.changed(&entry)?;
        }
        Ok(extended)
    }

    /// In the provider of the same kind where there is one, else as the second one. What is there
    /// already is not added again.
    fn with_reader(&self, entry: usize, provider: &Provider) -> Result<Self, Refusal> {
        let there = &self.resources[entry].providers;
        if there.contains(provider) {
            return Ok(self.clone());
        }
        let same = there.iter().position(|it| it.name() == provider.name());
        let Some(same) = same.filter(|_| !provider.keys().is_empty()) else {
            return self.changed(&Change::AddProvider {
                entry,
                provider: provider.clone(),
            });
        };
        let mut next = self.clone();
        for key in provider.keys() {
            if !there[same].keys().contains(key) {
                next = next.changed(&Change::AddKey {
                    entry,
                    provider: same,
                    key: key.clone(),
                })?;
            }
        }
        Ok(next)
    }
}
