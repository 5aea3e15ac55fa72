//! What is left under the old key: what of it nobody can read, and what the operator has said of that.

use std::collections::BTreeMap;

use atrest_core::at_rest::NotCurrent;
use atrest_core::encryption_config::EncryptionConfiguration;
use atrest_core::rotation::chain::Selection;

use super::super::journal::Record;
use super::super::kept::{Kept, named};
use super::super::observe::{Observed, load};
use super::super::waiver::Readers;
use super::super::{hand, rewrite::SetAside};
use super::{Run, first_file};
use crate::args::{EtcdFlags, KmsSocket};
use crate::etcd::{Counted, describe};
use crate::report::verify::escape;
use crate::status::Failure;

/// A value that keeps the old key, as it is named to the operator.
pub(super) struct Remnant {
    key: String,
    /// The provider and the key that wrote it, and when.
    by: String,
    is_poison: bool,
    is_orphan: bool,
}

impl Remnant {
    /// With the reason that the engine gave, where it gave one.
    pub(super) fn text(&self, set_aside: &[SetAside]) -> String {
        let Self {
            key,
            by,
            is_poison,
            is_orphan,
        } = self;
        let is_it = |it: &&SetAside| {
            let namespace = it.namespace.as_deref().map(|it| format!("{it}/"));
            key.ends_with(&format!("/{}{}", namespace.unwrap_or_default(), it.name))
        };
        let why = match (is_poison, is_orphan, set_aside.iter().find(is_it)) {
            (true, true, _) => ": nobody can decrypt it, and its namespace is gone".to_owned(),
            (true, false, _) => ": nobody can decrypt it".to_owned(),
            (false, true, _) => ": its namespace is gone".to_owned(),
            (false, false, Some(set_aside)) => format!(": {}", set_aside.reason),
            (false, false, None) => String::new(),
        };
        format!("{} ({by}){why}", escape(key))
    }

    pub(super) fn hint(remnants: &[Self]) -> Option<&'static str> {
        let any = |is: fn(&Self) -> bool| remnants.iter().any(is);
        match (any(|it| it.is_poison), any(|it| it.is_orphan)) {
            (false, false) => None,
            (true, false) => Some("what nobody can decrypt can be waived: --waive KEY"),
            (false, true) => Some(
                "objects whose namespace is gone can be adopted or deleted: --orphans adopt, --orphans purge",
            ),
            (true, true) => Some(
                "objects whose namespace is gone can be adopted or deleted: --orphans adopt, --orphans purge; \
                 what nobody can decrypt can be waived: --waive KEY",
            ),
        }
    }
}

/// What [`Readers`] are made of.
struct Means {
    flags: EtcdFlags,
    selection: Selection,
    sockets: Vec<KmsSocket>,
    key_ids: BTreeMap<String, String>,
}

impl Means {
    fn readers<'a>(&'a self, configurations: &'a [&'a EncryptionConfiguration]) -> Readers<'a> {
        Readers {
            prefix: self.flags.prefix(),
            selection: &self.selection,
            configurations,
            sockets: &self.sockets,
            key_ids: &self.key_ids,
        }
    }
}

impl Run<'_> {
    async fn means(&self, configuration: &EncryptionConfiguration) -> Result<Means, Failure> {
        Ok(Means {
            flags: EtcdFlags::from(&self.settings.etcd),
            selection: self.selection(configuration)?,
            sockets: hand::sockets(&self.settings),
            key_ids: self.key_ids(configuration).await?,
        })
    }

    /// Keeps the bytes of what is to be waived, and has the journal say so.
    pub(super) async fn waive(&mut self) -> Result<(), Failure> {
        let keys = std::mem::take(&mut self.to_waive);
        if keys.is_empty() {
            return Ok(());
        }
        let mut files = Vec::new();
        for (server, machine) in self.settings.servers.iter().zip(&self.reached.machines) {
            if let Some(machine) = machine {
                files.push(load(machine, server).await?);
            }
        }
        let configurations: Vec<_> = files.iter().map(|it| &it.configuration).collect();
        let [first, ..] = &configurations[..] else {
            return Err(Failure::unusable("no server's file is in reach"));
        };
        let means = self.means(first).await?;
        let readers = means.readers(&configurations);
        for key in keys {
            let waived = self.journal.waived();
            let now = self.reached.etcd.mod_revision(&key).await?;
            if now.is_some() && waived.get(key.as_bytes()) == now.as_ref() {
                continue;
            }
            let poison = readers.poison(&mut self.reached.etcd, &key).await?;
            let writer = (poison.provider, poison.key_name);
            let kept = Kept::keep(&self.journal, &poison.value, writer)?;
            self.say(&format!("waived: {}", kept.text()));
            self.journal.append(Record::Waived(kept))?;
        }
        Ok(())
    }

    /// What a census listed that is not under the target.
    pub(super) async fn remnants(
        &mut self,
        counted: &Counted,
        listed: &[&NotCurrent],
        observed: &[Observed],
    ) -> Result<Vec<Remnant>, Failure> {
        let configurations = observed.iter().filter_map(|it| it.file.as_ref());
        let configurations: Vec<_> = configurations.map(|it| &it.configuration).collect();
        let first = &first_file(observed)?.configuration;
        let means = self.means(first).await?;
        let readers = means.readers(&configurations);
        let keys = listed.iter().map(|it| it.key.clone());
        let values = self.reached.etcd.values(keys).await.map_err(|status| {
            Failure::unread(format!("cannot read from etcd: {}", describe(&status)))
        })?;
        let remnants = listed.iter().zip(values).map(|(it, value)| Remnant {
            key: String::from_utf8_lossy(&it.key).into_owned(),
            by: format!(
                "{}, revision {}",
                named(&it.provider, it.key_name.as_deref()),
                it.mod_revision
            ),
            is_poison: value.is_some_and(|value| readers.is_poison(&value)),
            is_orphan: counted.orphans.iter().any(|orphan| orphan.key == it.key),
        });
        Ok(remnants.collect())
    }
}
