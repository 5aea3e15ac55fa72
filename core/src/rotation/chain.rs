//! The provider chains of a configuration on their way from an old key to a new one.
//!
//! ```text
//! absent   secretbox(old), identity
//! reads    secretbox(old, new), identity     every server can read what the new key writes
//! writes   secretbox(new, old), identity     no server writes with the old key
//! only     secretbox(new)                    nothing stored needs the old key
//! ```

use std::collections::BTreeSet;

use crate::at_rest::GroupResource;
use crate::encryption_config::{
    Change, EncryptionConfiguration, Key, Kms, KmsVersion, Provider, Refusal, ResourceEntry,
};

/// A provider that keeps its keys in the configuration.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Local {
    /// AES-CBC.
    AesCbc,
    /// AES-GCM.
    AesGcm,
    /// XSalsa20-Poly1305.
    Secretbox,
}

impl Local {
    /// The provider of this name in the file.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "aescbc" => Some(Self::AesCbc),
            "aesgcm" => Some(Self::AesGcm),
            "secretbox" => Some(Self::Secretbox),
            _ => None,
        }
    }

    /// The provider's name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::AesCbc => "aescbc",
            Self::AesGcm => "aesgcm",
            Self::Secretbox => "secretbox",
        }
    }

    fn provider(self, keys: Vec<Key>) -> Provider {
        match self {
            Self::AesCbc => Provider::AesCbc(keys),
            Self::AesGcm => Provider::AesGcm(keys),
            Self::Secretbox => Provider::Secretbox(keys),
        }
    }
}

/// What a rotation leads to.
#[derive(Clone, Debug)]
pub enum Target {
    /// A new key of a local provider.
    Key(Local, Key),
    /// A KMS v2 plugin.
    Kms(Kms),
    /// No encryption.
    Identity,
}

impl Target {
    /// The provider as it stands in a chain of its own.
    pub fn provider(&self) -> Provider {
        match self {
            Self::Key(local, key) => local.provider(vec![key.clone()]),
            Self::Kms(kms) => Provider::Kms(kms.clone()),
            Self::Identity => Provider::Identity,
        }
    }

    /// The provider that holds, or would hold, the target.
    fn position(&self, entry: &ResourceEntry) -> Option<usize> {
        entry
            .providers
            .iter()
            .position(|provider| match (self, provider) {
                (Self::Key(local, _), provider) => provider.name() == local.name(),
                (Self::Kms(kms), Provider::Kms(there)) => {
                    there.name == kms.name && there.api_version == KmsVersion::V2
                }
                (Self::Identity, Provider::Identity) => true,
                (Self::Kms(_) | Self::Identity, _) => false,
            })
    }
}

/// How far a chain is. The order is that of a rotation.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Stage {
    /// The target is not in the chain.
    Absent,
    /// The target is read, something else writes.
    Reads,
    /// The target writes, something else is still read.
    Writes,
    /// There is nothing but the target.
    Only,
}

/// Why a configuration cannot be rotated.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No entry names the resource.
    #[error("no entry of the configuration covers {0}")]
    NotCovered(GroupResource),
    /// An entry with a plugin would be split, or several entries were to come to one plugin.
    #[error(
        "the KMS plugin {0:?} can stand in one entry of a configuration, and {1} needs it in another"
    )]
    OnePlugin(String, GroupResource),
    /// The plugin is there under another endpoint, which the servers have loaded.
    #[error("the configuration reaches the plugin at {0}")]
    OtherEndpoint(String),
    /// A key of this name is there, with other bytes.
    #[error("there is another key named {0:?} in the configuration")]
    NameTaken(String),
    /// The next configuration would be none that kube-apiserver accepts.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// What is rotated: the resources that were asked for, all of them where none is named.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Selection {
    asked: Vec<GroupResource>,
    /// What the entries name of it, wildcards among it.
    pub resources: Vec<GroupResource>,
}

impl Selection {
    /// Chooses resources.
    pub fn new(
        configuration: &EncryptionConfiguration,
        resources: &[GroupResource],
    ) -> Result<Self, Error> {
        let is_uncovered = |asked: &&GroupResource| configuration.chain(asked).is_empty();
        if let Some(uncovered) = resources.iter().find(is_uncovered) {
            return Err(Error::NotCovered(uncovered.clone()));
        }
        let entries = configuration.resources.iter();
        let names = entries.flat_map(|entry| &entry.resources);
        let named: BTreeSet<_> = match resources {
            [] => names.map(|name| GroupResource::parse(name)).collect(),
            asked => asked.iter().cloned().collect(),
        };
        Ok(Self {
            asked: resources.to_vec(),
            resources: named.into_iter().collect(),
        })
    }

    /// Whether anything that an entry names is among it.
    pub fn is_of(&self, entry: &ResourceEntry) -> bool {
        !self.of(entry).is_empty()
    }

    /// Whether a resource is among it, by its name or by a wildcard's.
    pub fn covers(
        &self,
        configuration: &EncryptionConfiguration,
        resource: &GroupResource,
    ) -> bool {
        self.asked.contains(resource)
            || configuration
                .deciding_name(resource)
                .is_some_and(|name| self.resources.contains(&name))
    }

    /// With an entry for each resource that was asked for by its name, and that only a wildcard covers: it
    /// has the wildcard's providers.
    fn named(
        &self,
        configuration: &EncryptionConfiguration,
    ) -> Result<EncryptionConfiguration, Error> {
        let mut next = configuration.clone();
        for asked in &self.asked {
            if next.deciding_name(asked).as_ref() == Some(asked) {
                continue;
            }
            let providers: Vec<_> = next.chain(asked).into_iter().cloned().collect();
            if let Some(plugin) = providers.iter().find_map(plugin) {
                return Err(Error::OnePlugin(plugin, asked.clone()));
            }
            next = next.changed(&Change::AddEntry(ResourceEntry {
                resources: vec![asked.to_string()],
                providers,
            }))?;
        }
        Ok(next)
    }

    /// What is chosen of an entry.
    fn of<'e>(&self, entry: &'e ResourceEntry) -> Vec<&'e String> {
        let is_asked = |name: &&String| {
            self.asked.is_empty() || self.asked.contains(&GroupResource::parse(name))
        };
        entry.resources.iter().filter(is_asked).collect()
    }

    /// The same configuration with an entry of its own for each resource that is chosen of an entry that
    /// has others, and the entries that are rotated. No resource gets another chain.
    pub fn split(
        &self,
        configuration: &EncryptionConfiguration,
    ) -> Result<(EncryptionConfiguration, Vec<usize>), Error> {
        let configuration = self.named(configuration)?;
        let mut next = configuration.clone();
        let mut entries = Vec::new();
        let mut place = 0;
        for entry in &configuration.resources {
            let chosen = self.of(entry);
            if chosen.len() == entry.resources.len() {
                entries.push(place);
            } else {
                for resource in chosen.iter().rev() {
                    if let Some(plugin) = entry.providers.iter().find_map(plugin) {
                        return Err(Error::OnePlugin(plugin, GroupResource::parse(resource)));
                    }
                    let resource = (*resource).clone();
                    let entry = place;
                    next = next.changed(&Change::SplitResource { entry, resource })?;
                }
                entries.extend(place + 1..=place + chosen.len());
                place += chosen.len();
            }
            place += 1;
        }
        Ok((next, entries))
    }

    /// The chain's stage: the earliest one among the entries.
    pub fn stage(
        &self,
        configuration: &EncryptionConfiguration,
        target: &Target,
    ) -> Result<Stage, Error> {
        let deciding = |asked: &GroupResource| configuration.deciding_name(asked);
        let deciding: Vec<_> = self.asked.iter().filter_map(deciding).collect();
        let mut least = Stage::Only;
        for entry in &configuration.resources {
            let mut names = entry
                .resources
                .iter()
                .map(|name| GroupResource::parse(name));
            if deciding.is_empty() || names.any(|name| deciding.contains(&name)) {
                least = least.min(stage(entry, target)?);
            }
        }
        Ok(least)
    }

    /// The configuration with every selected entry brought up to the stage, and never back.
    pub fn advance(
        &self,
        configuration: &EncryptionConfiguration,
        target: &Target,
        to: Stage,
    ) -> Result<EncryptionConfiguration, Error> {
        if self.stage(configuration, target)? >= to {
            return Ok(configuration.clone());
        }
        let (mut next, entries) = self.split(configuration)?;
        if let (Target::Kms(kms), [_, second, ..]) = (target, &entries[..]) {
            let resource = GroupResource::parse(&next.resources[*second].resources[0]);
            return Err(Error::OnePlugin(kms.name.clone(), resource));
        }
        for i in entries {
            for step in [Stage::Reads, Stage::Writes, Stage::Only] {
                let entry = &next.resources[i];
                if step > to || stage(entry, target)? >= step {
                    continue;
                }
                for change in changes(i, entry, target, step) {
                    next = next.changed(&change)?;
                }
            }
        }
        Ok(next)
    }
}

fn plugin(provider: &Provider) -> Option<String> {
    match provider {
        Provider::Kms(kms) => Some(kms.name.clone()),
        _ => None,
    }
}

fn stage(entry: &ResourceEntry, target: &Target) -> Result<Stage, Error> {
    let Some(position) = target.position(entry) else {
        return Ok(Stage::Absent);
    };
    let provider = &entry.providers[position];
    if let Target::Key(_, key) = target {
        let place = provider
            .keys()
            .iter()
            .position(|there| there.name == key.name);
        match place {
            None => return Ok(Stage::Absent),
            Some(place) if provider.keys()[place].secret != key.secret => {
                return Err(Error::NameTaken(key.name.clone()));
            }
            Some(0) => {}
            Some(_) => return Ok(Stage::Reads),
        }
    } else if let (Target::Kms(kms), Provider::Kms(there)) = (target, provider)
        && there.endpoint != kms.endpoint
    {
        return Err(Error::OtherEndpoint(there.endpoint.clone()));
    }
    if position > 0 {
        return Ok(Stage::Reads);
    }
    let alone = entry.providers.len() == 1 && provider.keys().len() <= 1;
    Ok(if alone { Stage::Only } else { Stage::Writes })
}

/// What takes an entry from the stage before to this one.
fn changes(i: usize, entry: &ResourceEntry, target: &Target, to: Stage) -> Vec<Change> {
    let there = target.position(entry);
    let key_of = |provider: usize, key: &Key| {
        let keys = entry.providers[provider].keys();
        keys.iter().position(|there| there.name == key.name)
    };
    match (to, there, target) {
        (Stage::Absent, ..) => Vec::new(),
        (Stage::Reads, Some(provider), Target::Key(_, key)) => vec![Change::AddKey {
            entry: i,
            provider,
            key: key.clone(),
        }],
        (Stage::Reads, ..) => vec![Change::AddProvider {
            entry: i,
            provider: target.provider(),
        }],
        (_, None, _) => Vec::new(),
        (Stage::Writes, Some(provider), target) => {
            let mut changes = vec![Change::PromoteProvider { entry: i, provider }];
            if let Target::Key(_, key) = target
                && let Some(key) = key_of(provider, key)
            {
                changes.push(Change::PromoteKey {
                    entry: i,
                    provider: 0,
                    key,
                });
            }
            changes
        }
        // The provider stays as it stands in the chain, where every server has loaded it.
        (Stage::Only, Some(provider), target) => {
            let others = (0..entry.providers.len()).filter(|other| *other != provider);
            let mut changes: Vec<_> = others
                .rev()
                .map(|provider| Change::DropProvider { entry: i, provider })
                .collect();
            if let Target::Key(_, key) = target {
                let keys = entry.providers[provider].keys().iter().enumerate().rev();
                let others = keys.filter(|(_, there)| there.name != key.name);
                changes.extend(others.map(|(key, _)| Change::DropKey {
                    entry: i,
                    provider: 0,
                    key,
                }));
            }
            changes
        }
    }
}

/// A chain in words, without secrets: `secretbox new old, identity`.
pub fn describe(providers: &[Provider]) -> String {
    let words = providers.iter().map(|provider| match provider {
        Provider::Kms(kms) => format!("kms {} {}", kms.api_version, kms.name),
        local => {
            let mut words = local.name().to_owned();
            for key in local.keys() {
                words += " ";
                words += &key.name;
            }
            words
        }
    });
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::secret::SecretBytes;

    fn key(name: &str) -> Key {
        Key {
            name: name.into(),
            secret: SecretBytes::new(vec![name.as_bytes()[0]; 32]),
        }
    }

    fn configuration(entries: &[(&[&str], Vec<Provider>)]) -> EncryptionConfiguration {
        EncryptionConfiguration {
            resources: entries
                .iter()
                .map(|(resources, providers)| ResourceEntry {
                    resources: resources.iter().map(|name| (*name).to_owned()).collect(),
                    providers: providers.clone(),
                })
                .collect(),
        }
    }

    fn kms() -> Target {
        Target::Kms(Kms {
            api_version: KmsVersion::V2,
            name: "plugin".into(),
            endpoint: "unix:///run/kms.sock".into(),
            timeout: Duration::from_secs(3),
            cachesize: None,
        })
    }

    fn walk(providers: Vec<Provider>, target: &Target) -> Vec<String> {
        let mut now = configuration(&[(&["secrets"], providers)]);
        let selection = Selection::new(&now, &[]).unwrap();
        assert_eq!(selection.stage(&now, target).unwrap(), Stage::Absent);
        [Stage::Reads, Stage::Writes, Stage::Only]
            .map(|stage| {
                now = selection.advance(&now, target, stage).unwrap();
                assert_eq!(selection.stage(&now, target).unwrap(), stage);
                // Once more changes nothing.
                assert_eq!(selection.advance(&now, target, stage).unwrap(), now);
                describe(&now.resources[0].providers)
            })
            .to_vec()
    }

    #[test]
    fn every_migration_goes_through_read_write_only() {
        use Provider::{AesCbc, Identity, Secretbox};
        let new = Target::Key(Local::Secretbox, key("new"));
        for (from, target, expected) in [
            (
                vec![Identity],
                &new,
                [
                    "identity, secretbox new",
                    "secretbox new, identity",
                    "secretbox new",
                ],
            ),
            (
                vec![Secretbox(vec![key("old")])],
                &new,
                ["secretbox old new", "secretbox new old", "secretbox new"],
            ),
            (
                vec![AesCbc(vec![key("old")]), Identity],
                &new,
                [
                    "aescbc old, secretbox new, identity",
                    "secretbox new, aescbc old, identity",
                    "secretbox new",
                ],
            ),
            (
                vec![Identity, Secretbox(vec![key("old")])],
                &new,
                [
                    "identity, secretbox old new",
                    "secretbox new old, identity",
                    "secretbox new",
                ],
            ),
            (
                vec![Secretbox(vec![key("old")]), Identity],
                &kms(),
                [
                    "secretbox old, kms v2 plugin, identity",
                    "kms v2 plugin, secretbox old, identity",
                    "kms v2 plugin",
                ],
            ),
            (
                vec![kms().provider()],
                &new,
                [
                    "kms v2 plugin, secretbox new",
                    "secretbox new, kms v2 plugin",
                    "secretbox new",
                ],
            ),
            (
                vec![kms().provider(), Secretbox(vec![key("old")])],
                &Target::Identity,
                [
                    "kms v2 plugin, identity, secretbox old",
                    "identity, kms v2 plugin, secretbox old",
                    "identity",
                ],
            ),
        ] {
            assert_eq!(walk(from, target), expected);
        }
    }

    #[test]
    fn the_earliest_entry_counts() {
        let target = Target::Key(Local::Secretbox, key("new"));
        let mixed = configuration(&[
            (&["secrets"], vec![Provider::Secretbox(vec![key("new")])]),
            (&["configmaps"], vec![Provider::Identity]),
        ]);
        let all = Selection::new(&mixed, &[]).unwrap();
        assert_eq!(all.stage(&mixed, &target).unwrap(), Stage::Absent);
        let secrets = Selection::new(&mixed, &[GroupResource::parse("secrets")]).unwrap();
        assert_eq!(secrets.stage(&mixed, &target).unwrap(), Stage::Only);
        let advanced = secrets.advance(&mixed, &target, Stage::Only).unwrap();
        assert_eq!(describe(&advanced.resources[1].providers), "identity");
    }

    #[test]
    fn one_resource_of_several_gets_an_entry_of_its_own() {
        let old = || vec![Provider::Secretbox(vec![key("old")]), Provider::Identity];
        let mut now = configuration(&[
            (&["pods"], vec![Provider::Identity]),
            (
                &["secrets", "configmaps", "leases.coordination.k8s.io"],
                old(),
            ),
            (&["events"], old()),
        ]);
        let asked = ["configmaps", "secrets", "events"].map(GroupResource::parse);
        let selection = Selection::new(&now, &asked).unwrap();
        let target = Target::Key(Local::Secretbox, key("new"));
        for (to, chain) in [
            (Stage::Reads, "secretbox old new, identity"),
            (Stage::Writes, "secretbox new old, identity"),
            (Stage::Only, "secretbox new"),
        ] {
            now = selection.advance(&now, &target, to).unwrap();
            assert_eq!(selection.stage(&now, &target).unwrap(), to);
            assert_eq!(selection.advance(&now, &target, to).unwrap(), now);
            let entries = now.resources.iter();
            let entries = entries.map(|it| (it.resources.join(" "), describe(&it.providers)));
            let expected = [
                ("pods", "identity"),
                ("leases.coordination.k8s.io", "secretbox old, identity"),
                ("secrets", chain),
                ("configmaps", chain),
                ("events", chain),
            ];
            let expected = expected.map(|(names, chain)| (names.to_owned(), chain.to_owned()));
            assert_eq!(entries.collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn what_cannot_be_rotated_says_why() {
        let secrets = GroupResource::parse("secrets");
        let Target::Kms(plugin) = kms() else {
            unreachable!("kms() makes a plugin");
        };
        let shared = configuration(&[(&["secrets", "configmaps"], vec![Provider::Kms(plugin)])]);
        let selection = Selection::new(&shared, std::slice::from_ref(&secrets)).unwrap();
        assert_eq!(
            selection.advance(&shared, &Target::Identity, Stage::Reads),
            Err(Error::OnePlugin("plugin".into(), secrets.clone()))
        );
        let two = configuration(&[
            (&["secrets"], vec![Provider::Identity]),
            (&["configmaps"], vec![Provider::Identity]),
        ]);
        let selection = Selection::new(&two, &[]).unwrap();
        assert!(matches!(
            selection.advance(&two, &kms(), Stage::Reads),
            Err(Error::OnePlugin(..))
        ));
        let other = GroupResource::parse("pods");
        assert_eq!(
            Selection::new(&two, std::slice::from_ref(&other)),
            Err(Error::NotCovered(other))
        );
    }

    #[test]
    fn a_wildcard_is_rotated_with_what_it_covers_and_without_what_has_its_own_entry() {
        let old = || vec![Provider::Secretbox(vec![key("old")])];
        let now = configuration(&[
            (&["*.apps", "secrets"], old()),
            (&["leases.coordination.k8s.io"], old()),
            (&["*.*"], old()),
        ]);
        let covers = |asked: &[&str], resource: &str| {
            let asked: Vec<_> = asked
                .iter()
                .map(|name| GroupResource::parse(name))
                .collect();
            let selection = Selection::new(&now, &asked).unwrap();
            selection.covers(&now, &GroupResource::parse(resource))
        };
        for resource in [
            "deployments.apps",
            "secrets",
            "pods",
            "leases.coordination.k8s.io",
        ] {
            assert!(covers(&[], resource), "{resource}");
        }
        assert!(covers(&["*.*"], "pods") && covers(&["*.apps"], "deployments.apps"));
        for other in ["secrets", "deployments.apps", "leases.coordination.k8s.io"] {
            assert!(!covers(&["*.*"], other), "{other}");
        }

        // One that a wildcard covers gets an entry of its own, before that.
        let asked = ["configmaps", "*.apps"].map(GroupResource::parse);
        let selection = Selection::new(&now, &asked).unwrap();
        let target = Target::Key(Local::Secretbox, key("new"));
        assert_eq!(selection.stage(&now, &target).unwrap(), Stage::Absent);
        let next = selection.advance(&now, &target, Stage::Only).unwrap();
        assert_eq!(selection.stage(&next, &target).unwrap(), Stage::Only);
        let entries = next.resources.iter();
        let entries = entries.map(|it| (it.resources.join(" "), describe(&it.providers)));
        let expected = [
            ("secrets", "secretbox old"),
            ("*.apps", "secretbox new"),
            ("leases.coordination.k8s.io", "secretbox old"),
            ("configmaps", "secretbox new"),
            ("*.*", "secretbox old"),
        ];
        let expected = expected.map(|(names, chain)| (names.to_owned(), chain.to_owned()));
        assert_eq!(entries.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_plugin_that_is_there_stays_as_it_is() {
        let Target::Kms(mut there) = kms() else {
            unreachable!("kms() makes a plugin");
        };
        there.timeout = Duration::from_secs(10);
        let chain = vec![
            Provider::Secretbox(vec![key("old")]),
            Provider::Kms(there.clone()),
        ];
        let now = configuration(&[(&["secrets"], chain)]);
        let selection = Selection::new(&now, &[]).unwrap();
        assert_eq!(selection.stage(&now, &kms()).unwrap(), Stage::Reads);
        let only = selection.advance(&now, &kms(), Stage::Only).unwrap();
        assert_eq!(only.resources[0].providers, [Provider::Kms(there.clone())]);
        there.endpoint = "unix:///elsewhere.sock".into();
        let elsewhere = Target::Kms(there);
        assert!(matches!(
            selection.stage(&now, &elsewhere),
            Err(Error::OtherEndpoint(_))
        ));
    }

    #[test]
    fn a_name_with_other_bytes_is_refused() {
        let there = configuration(&[(&["secrets"], vec![Provider::Secretbox(vec![key("new")])])]);
        let selection = Selection::new(&there, &[]).unwrap();
        let other = Key {
            name: "new".into(),
            secret: SecretBytes::new(vec![1]),
        };
        assert_eq!(
            selection.stage(&there, &Target::Key(Local::Secretbox, other)),
            Err(Error::NameTaken("new".into()))
        );
    }
}
