//! Changes of a configuration that leave it one that kube-apiserver accepts.

use crate::at_rest::GroupResource;

use super::super::judge::{Server, judge};
use super::super::model::{EncryptionConfiguration, Key, Provider, ResourceEntry};
use super::super::render::{Format, render};

/// A change of one entry, by the numbers of the entry, its provider and the provider's key.
#[derive(Clone, Debug)]
pub enum Change {
    /// A key that reads: behind all others of its provider.
    AddKey {
        /// Of the entry.
        entry: usize,
        /// Of the provider, which keeps its keys in the file.
        provider: usize,
        /// No other key of the provider has its name.
        key: Key,
    },
    /// A key becomes the first of its provider.
    PromoteKey {
        /// Of the entry.
        entry: usize,
        /// Of the provider.
        provider: usize,
        /// Of the key.
        key: usize,
    },
    /// A key leaves its provider, in which another one stays.
    DropKey {
        /// Of the entry.
        entry: usize,
        /// Of the provider.
        provider: usize,
        /// Of the key.
        key: usize,
    },
    /// A provider that reads: right behind the one that writes.
    AddProvider {
        /// Of the entry.
        entry: usize,
        /// The new one.
        provider: Provider,
    },
    /// A provider takes the place of another one.
    ReplaceProvider {
        /// Of the entry.
        entry: usize,
        /// Of the one that leaves.
        provider: usize,
        /// The one that comes.
        with: Provider,
    },
    /// A provider becomes the first one: it writes.
    PromoteProvider {
        /// Of the entry.
        entry: usize,
        /// Of the provider.
        provider: usize,
    },
    /// A provider leaves the entry, in which another one stays.
    DropProvider {
        /// Of the entry.
        entry: usize,
        /// Of the provider.
        provider: usize,
    },
    /// A resource gets an entry of its own behind the one that it was in, with the same providers.
    SplitResource {
        /// Of the entry.
        entry: usize,
        /// As the entry has it.
        resource: String,
    },
    /// An entry for resources that no other entry names, before the wildcards that include them.
    AddEntry(ResourceEntry),
}

/// Why a change is not made.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// There is no entry, provider, key or resource of this number or name.
    #[error("what is to be changed is not in the configuration")]
    NotThere,
    /// Values could not be told from those of the key that is there.
    #[error("there is another key named {0:?} in the configuration")]
    NameTaken(String),
    /// A provider without a key, a chain without a provider, an entry without a resource.
    #[error("the {0} is the only one of its list and cannot leave it")]
    Last(&'static str),
    /// Another entry names the resource.
    #[error("another entry of the configuration names {0} already")]
    Covered(String),
    /// The result would be rejected.
    #[error("kube-apiserver would reject the changed configuration: {0}")]
    Rejected(String),
}

impl EncryptionConfiguration {
    /// The configuration after the change, if it is one that kube-apiserver accepts.
    pub fn changed(&self, change: &Change) -> Result<Self, Refusal> {
        let mut next = self.clone();
        next.make(change)?;
        // What was told to accept KMS v1 is not refused here.
        let server = Server {
            kmsv1: true,
            ..Server::default()
        };
        accepted(&next, &server).map_err(Refusal::Rejected)?;
        Ok(next)
    }

    fn make(&mut self, change: &Change) -> Result<(), Refusal> {
        match change {
            Change::AddKey {
                entry,
                provider,
                key,
            } => {
                let keys = self.keys_of(*entry, *provider)?;
                if keys.iter().any(|there| there.name == key.name) {
                    return Err(Refusal::NameTaken(key.name.clone()));
                }
                keys.push(key.clone());
            }
            Change::PromoteKey {
                entry,
                provider,
                key,
            } => to_front(self.keys_of(*entry, *provider)?, *key)?,
            Change::DropKey {
                entry,
                provider,
                key,
            } => remove(self.keys_of(*entry, *provider)?, *key, "key")?,
            Change::AddProvider { entry, provider } => {
                let providers = self.providers_of(*entry)?;
                let second = providers.len().min(1);
                providers.insert(second, provider.clone());
            }
            Change::ReplaceProvider {
                entry,
                provider,
                with,
            } => {
                let there = self.providers_of(*entry)?.get_mut(*provider);
                *there.ok_or(Refusal::NotThere)? = with.clone();
            }
            Change::PromoteProvider { entry, provider } => {
                to_front(self.providers_of(*entry)?, *provider)?;
            }
            Change::DropProvider { entry, provider } => {
                remove(self.providers_of(*entry)?, *provider, "provider")?;
            }
            Change::SplitResource { entry, resource } => self.split(*entry, resource)?,
            Change::AddEntry(entry) => self.add_entry(entry)?,
        }
        Ok(())
    }

    /// The chain of every resource stays what it was: both entries are where the one was, and no
    /// list may name a wildcard with what it includes.
    fn split(&mut self, index: usize, resource: &str) -> Result<(), Refusal> {
        let entry = self.resources.get_mut(index).ok_or(Refusal::NotThere)?;
        let place = entry.resources.iter().position(|name| name == resource);
        remove(
            &mut entry.resources,
            place.ok_or(Refusal::NotThere)?,
            "resource",
        )?;
        let new = ResourceEntry {
            resources: vec![resource.to_owned()],
            providers: entry.providers.clone(),
        };
        self.resources.insert(index + 1, new);
        Ok(())
    }

    fn add_entry(&mut self, entry: &ResourceEntry) -> Result<(), Refusal> {
        let parse = |name: &String| GroupResource::parse(name);
        let new: Vec<_> = entry.resources.iter().map(parse).collect();
        let mut place = self.resources.len();
        for (index, there) in self.resources.iter().enumerate() {
            for name in &there.resources {
                let there = parse(name);
                if new.contains(&there) {
                    return Err(Refusal::Covered(name.clone()));
                }
                if new.iter().any(|new| there.includes(new)) {
                    place = place.min(index);
                }
            }
        }
        self.resources.insert(place, entry.clone());
        Ok(())
    }

    fn providers_of(&mut self, entry: usize) -> Result<&mut Vec<Provider>, Refusal> {
        let entry = self.resources.get_mut(entry).ok_or(Refusal::NotThere)?;
        Ok(&mut entry.providers)
    }

    fn keys_of(&mut self, entry: usize, provider: usize) -> Result<&mut Vec<Key>, Refusal> {
        let provider = self.providers_of(entry)?.get_mut(provider);
        provider
            .and_then(Provider::keys_mut)
            .ok_or(Refusal::NotThere)
    }
}

fn to_front<T>(list: &mut [T], index: usize) -> Result<(), Refusal> {
    let until = list.get_mut(..=index).ok_or(Refusal::NotThere)?;
    until.rotate_right(1);
    Ok(())
}

fn remove<T>(list: &mut Vec<T>, index: usize, what: &'static str) -> Result<(), Refusal> {
    if index >= list.len() {
        return Err(Refusal::NotThere);
    }
    if list.len() == 1 {
        return Err(Refusal::Last(what));
    }
    list.remove(index);
    Ok(())
}

/// What the server says against the configuration, by its own rules.
pub(super) fn accepted(
    configuration: &EncryptionConfiguration,
    server: &Server,
) -> Result<(), String> {
    let judgement = judge(render(configuration, Format::Yaml).expose(), server);
    match (judgement.findings.first(), judgement.configuration) {
        (Some(finding), _) => Err(format!("{}: {}", finding.path, finding.message)),
        (None, Some(read)) if read == *configuration => Ok(()),
        (None, _) => Err("it cannot be written down".to_owned()),
    }
}
