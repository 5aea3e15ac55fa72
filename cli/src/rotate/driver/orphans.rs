//! Objects whose namespace is gone: nobody gets to them, and before Kubernetes 1.37 no API server writes
//! them again.

use std::collections::BTreeSet;

use atrest_core::at_rest::{GroupResource, Orphan, State};
use atrest_core::rotation::chain::Target;
use atrest_proto::etcdserverpb::{DeleteRangeRequest, RequestOp, TxnRequest};
use atrest_proto::mvccpb::KeyValue;

use super::super::journal::Record;
use super::super::kept::Kept;
use super::super::rewrite::etcd::is_at;
use super::{Run, first_file};
use crate::args::{EtcdFlags, Orphans};
use crate::cluster::Error;
use crate::commands::server_failure;
use crate::etcd::describe;
use crate::report::verify::escape;
use crate::rotate::observe::Observed;
use crate::status::Failure;

impl Run<'_> {
    /// Before a rewrite: has those that are not under the target come within reach again, or deletes them.
    pub(super) async fn settle_orphans(&mut self, observed: &[Observed]) -> Result<(), Failure> {
        if self.settings.orphans == Orphans::Report && self.journal.purges().is_empty() {
            return Ok(());
        }
        let orphans = self.orphans(observed).await?;
        self.forget_purges(&orphans).await?;
        match self.settings.orphans {
            Orphans::Report => Ok(()),
            Orphans::Adopt => self.adopt(&orphans).await,
            Orphans::Purge => self.purge(&orphans).await,
        }
    }

    async fn orphans(&mut self, observed: &[Observed]) -> Result<Vec<Orphan>, Failure> {
        let configuration = &first_file(observed)?.configuration;
        let waived = self.journal.waived();
        let counted = self.count(configuration, &waived, 0).await?;
        let is_plain = matches!(self.target, Some(Target::Identity));
        let is_settled =
            |it: &Orphan| it.state == State::Current || is_plain && it.state == State::Plaintext;
        let orphans = counted.orphans.into_iter();
        Ok(orphans.filter(|it| !is_settled(it)).collect())
    }

    /// What a process that was killed, or another writer, did not let be deleted.
    async fn forget_purges(&mut self, orphans: &[Orphan]) -> Result<(), Failure> {
        for kept in self.journal.purges() {
            let is_orphan = |it: &Orphan| it.key == kept.key.as_bytes();
            let now = self.reached.etcd.mod_revision(&kept.key).await?;
            if now == Some(kept.mod_revision) && !orphans.iter().any(is_orphan) {
                self.journal.append(Record::Left {
                    key: kept.key,
                    mod_revision: kept.mod_revision,
                })?;
            }
        }
        Ok(())
    }

    /// Creates their namespaces, and leaves them: whoever deletes one deletes what is in it.
    async fn adopt(&mut self, orphans: &[Orphan]) -> Result<(), Failure> {
        let flags = EtcdFlags::from(&self.settings.etcd);
        let gone: BTreeSet<_> = orphans
            .iter()
            .filter_map(|it| namespace(&it.key, flags.prefix()))
            .collect();
        for namespace in gone {
            self.journal.append(Record::Adopted {
                namespace: namespace.clone(),
            })?;
            let server = &self.reached.servers[0];
            match server.create_namespace(&namespace, &self.journal.run).await {
                Err(Error::Answer { code: 409, .. }) | Ok(()) => {}
                Err(error) => {
                    return Err(server_failure(server, &error).hint(
                        "--orphans adopt creates the namespaces of objects whose own is gone: it needs the \
                         right to create namespaces",
                    ));
                }
            }
            self.say(&format!(
                "namespace {} is there again, for the objects that are left of it; to delete it is to \
                 delete them",
                escape(&namespace)
            ));
        }
        Ok(())
    }

    /// Deletes them in etcd, each as it was when it was kept, and while its namespace is gone.
    async fn purge(&mut self, orphans: &[Orphan]) -> Result<(), Failure> {
        let flags = EtcdFlags::from(&self.settings.etcd);
        let namespaces = GroupResource::parse("namespaces").directory(flags.prefix());
        for orphan in orphans {
            if self.window.is_over() {
                break;
            }
            let failed = |status: tonic::Status| {
                let key = String::from_utf8_lossy(&orphan.key).into_owned();
                let reason = describe(&status);
                Failure::unread(format!("cannot delete {} in etcd: {reason}", escape(&key)))
            };
            let Some(namespace) = namespace(&orphan.key, flags.prefix()) else {
                continue;
            };
            let values = self.reached.etcd.values([orphan.key.clone()]);
            let values = values.await.map_err(failed)?;
            let is_same = |it: &KeyValue| it.mod_revision == orphan.mod_revision;
            let Some(value) = values.into_iter().flatten().find(is_same) else {
                continue;
            };
            let writer = (orphan.provider.clone(), orphan.key_name.clone());
            let kept = Kept::keep(&self.journal, &value, writer)?;
            self.journal.append(Record::Purge(kept.clone()))?;
            let gone = format!("{namespaces}{namespace}").into_bytes();
            let request = TxnRequest {
                // Of a key that is not there the revision is 0.
                compare: vec![is_at(&orphan.key, orphan.mod_revision), is_at(&gone, 0)],
                success: vec![RequestOp {
                    request_delete_range: Some(DeleteRangeRequest {
                        key: orphan.key.clone(),
                        ..DeleteRangeRequest::default()
                    }),
                    ..RequestOp::default()
                }],
                ..TxnRequest::default()
            };
            let deleted = self.reached.etcd.transact(request).await;
            if deleted.map_err(failed)?.succeeded {
                self.say(&format!("deleted: {}", kept.text()));
            } else {
                self.journal.append(Record::Left {
                    key: kept.key,
                    mod_revision: kept.mod_revision,
                })?;
            }
        }
        Ok(())
    }
}

/// Of an object's key.
fn namespace(key: &[u8], prefix: &str) -> Option<String> {
    let (_, end) = GroupResource::of_key(key, prefix)?;
    atrest_core::at_rest::ObjectKey::parse(&key[end..])?.namespace
}
