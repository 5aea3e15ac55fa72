//! Waivers: single values that nobody can decrypt, by their exact keys. The removal of the old key does not
//! wait for them.

use std::collections::BTreeMap;

use atrest_core::at_rest::{Census, Expectation, GroupResource, Proof, Stored};
use atrest_core::encryption_config::EncryptionConfiguration;
use atrest_core::rotation::chain::Selection;
use atrest_proto::mvccpb::KeyValue;
use serde::Serialize;

use super::kept::named;
use crate::args::KmsSocket;
use crate::etcd::{self, Prover, describe};
use crate::kms::Unwrapper;
use crate::report::verify::escape;
use crate::status::Failure;

/// A value that may be waived.
#[derive(Debug, Serialize)]
pub(super) struct Poison {
    pub(super) key: String,
    pub(super) provider: String,
    /// Of its key, or the key_id.
    pub(super) key_name: Option<String>,
    pub(super) mod_revision: i64,
    #[serde(skip)]
    pub(super) value: KeyValue,
}

/// What decides whether a value can be read.
pub(super) struct Readers<'a> {
    pub(super) prefix: &'a str,
    pub(super) selection: &'a Selection,
    /// Of every server whose file is in reach.
    pub(super) configurations: &'a [&'a EncryptionConfiguration],
    pub(super) sockets: &'a [KmsSocket],
    pub(super) key_ids: &'a BTreeMap<String, String>,
}

impl Poison {
    pub(super) fn text(&self) -> String {
        let by = named(&self.provider, self.key_name.as_deref());
        format!(
            "{} ({by}, revision {})",
            escape(&self.key),
            self.mod_revision
        )
    }
}

impl Readers<'_> {
    /// Looks at the value of a key, and refuses one that is not there, that is of no rotated resource, or
    /// that somebody can read.
    pub(super) async fn poison(
        &self,
        etcd: &mut etcd::Client,
        key: &str,
    ) -> Result<Poison, Failure> {
        let shown = escape(key);
        let resource = GroupResource::of_key(key.as_bytes(), self.prefix)
            .map(|(resource, _)| resource)
            .filter(|it| {
                let mut all = self.configurations.iter();
                all.any(|configuration| self.selection.covers(configuration, it))
            })
            .ok_or_else(|| {
                Failure::unusable(format!("{shown} is no key of a resource that is rotated"))
                    .hint("it looks like /registry/secrets/NAMESPACE/NAME, as the plan names it")
            })?;
        let values = etcd.values([key.as_bytes().to_vec()]).await;
        let values = values.map_err(|status| {
            Failure::unread(format!(
                "cannot read {shown} from etcd: {}",
                describe(&status)
            ))
        })?;
        let value = values.into_iter().flatten().next();
        let value = value.ok_or_else(|| {
            Failure::unusable(format!("there is no {shown} in etcd to be waived"))
        })?;
        for configuration in self.configurations {
            match self.prove(configuration, &resource, &value) {
                Proof::Opens | Proof::OpensStale => {
                    return Err(Failure::unusable(format!(
                        "{shown} can be read, and needs no waiver"
                    ))
                    .hint("only what nobody can decrypt is waived; anything else is rewritten"));
                }
                Proof::Unknown => {
                    return Err(Failure::unread(format!(
                        "whether {shown} can be read is not known: its plugin could not be asked"
                    )));
                }
                Proof::Fails | Proof::NotTried => {}
            }
        }
        let (provider, key_name) = self.writer(resource, &value);
        Ok(Poison {
            key: key.to_owned(),
            provider,
            key_name,
            mod_revision: value.mod_revision,
            value,
        })
    }

    /// Whether it can be read, by any server whose file is in reach.
    pub(super) fn is_poison(&self, value: &KeyValue) -> bool {
        let Some((resource, _)) = GroupResource::of_key(&value.key, self.prefix) else {
            return false;
        };
        self.configurations.iter().all(|configuration| {
            let proof = self.prove(configuration, &resource, value);
            matches!(proof, Proof::Fails | Proof::NotTried)
        })
    }

    fn prove(
        &self,
        configuration: &EncryptionConfiguration,
        resource: &GroupResource,
        value: &KeyValue,
    ) -> Proof {
        let plugins = Unwrapper::new(configuration, self.sockets, self.key_ids.clone());
        Prover::new(vec![(configuration, plugins)]).prove_one(resource, value)
    }

    /// As far as its first bytes tell.
    fn writer(&self, resource: GroupResource, value: &KeyValue) -> (String, Option<String>) {
        let expectation = self
            .configurations
            .first()
            .map(|configuration| Expectation {
                configuration,
                also_read_by: None,
                key_ids: self.key_ids,
            });
        let mut census = Census::new([resource], expectation.as_ref(), 0);
        let stored = Stored {
            key: &value.key,
            object: b"",
            value: &value.value,
            mod_revision: value.mod_revision,
        };
        census.add(0, &stored, Proof::NotTried);
        let group = census.groups().next();
        group.map_or(("unknown".into(), None), |(group, _)| {
            (group.provider.clone(), group.key.clone())
        })
    }
}
