//! Shapes of a configuration that many clusters have.

use super::model::{Provider, ResourceEntry};

/// What a new configuration encrypts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Profile {
    /// Secrets.
    Secrets,
    /// Secrets and ConfigMaps, which hold passwords more often than they should.
    SecretsAndConfigMaps,
    /// The core group but Events.
    Core,
    /// Everything, custom resources that come later, too, but what is written all the time and holds
    /// nothing confidential: Events and Leases.
    AllButEvents,
    /// Everything.
    All,
}

impl Profile {
    /// The entries, with this chain of providers for what is encrypted. What is left out has an entry
    /// of its own, for the exact name is looked up before a wildcard, and stands first, since a
    /// wildcard hides what follows. Only the last entry encrypts, as no two can have the same KMS
    /// plugin.
    pub fn entries(self, providers: Vec<Provider>) -> Vec<ResourceEntry> {
        let (encrypted, left_out): (&[&str], &[&str]) = match self {
            Self::Secrets => (&["secrets"], &[]),
            Self::SecretsAndConfigMaps => (&["secrets", "configmaps"], &[]),
            Self::Core => (&["*."], &["events"]),
            Self::AllButEvents => (&["*.*"], &["events", "leases.coordination.k8s.io"]),
            Self::All => (&["*.*"], &[]),
        };
        let entry = |resources: &[&str], providers| ResourceEntry {
            resources: resources.iter().map(|&name| name.to_owned()).collect(),
            providers,
        };
        let mut entries = Vec::new();
        if !left_out.is_empty() {
            entries.push(entry(left_out, vec![Provider::Identity]));
        }
        entries.push(entry(encrypted, providers));
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        EncryptionConfiguration, Format, Key, Kms, KmsVersion, Server, judge, render,
    };
    use super::*;
    use crate::at_rest::GroupResource;
    use crate::secret::SecretBytes;

    #[test]
    fn each_is_accepted_and_encrypts_what_it_says() {
        let secretbox = Provider::Secretbox(vec![Key {
            name: "a".into(),
            secret: SecretBytes::new(vec![7; 32]),
        }]);
        let kms = Provider::Kms(Kms {
            api_version: KmsVersion::V2,
            name: "a".into(),
            endpoint: "unix:///a".into(),
            timeout: Kms::DEFAULT_TIMEOUT,
            cachesize: None,
        });
        let some = [
            "secrets",
            "configmaps",
            "pods",
            "events",
            "leases.coordination.k8s.io",
            "a.b",
        ];
        for (profile, encrypted) in [
            (Profile::Secrets, &some[..1]),
            (Profile::SecretsAndConfigMaps, &some[..2]),
            (Profile::Core, &some[..3]),
            (
                Profile::AllButEvents,
                &["secrets", "configmaps", "pods", "a.b"],
            ),
            (Profile::All, &some),
        ] {
            for first in [&secretbox, &kms] {
                let providers = vec![first.clone(), Provider::Identity];
                let configuration = EncryptionConfiguration {
                    resources: profile.entries(providers),
                };
                let bytes = render(&configuration, Format::Yaml);
                for minor in [Server::OLDEST, Server::NEWEST] {
                    let judgement = judge(bytes.expose(), &Server::release(minor));
                    assert_eq!(judgement.findings, [], "{profile:?}");
                    assert_eq!(judgement.configuration.as_ref(), Some(&configuration));
                }
                for resource in some {
                    let chain = configuration.chain(&GroupResource::parse(resource));
                    let writes = chain.first() == Some(&first);
                    assert_eq!(
                        writes,
                        encrypted.contains(&resource),
                        "{profile:?} {resource}"
                    );
                }
            }
        }
    }
}
