//! What API servers write, and whether every one reads it: a canary through each, looked at in etcd and
//! read through all.
//!
//! A server that reports the new file as loaded may still be another process, behind another address,
//! with another file. What it stored and what it can read cannot be mistaken, whatever its release.

use std::path::PathBuf;
use std::time::Duration;

use atrest_core::at_rest::{Census, Expectation, GroupResource, Proof, State, Stored};
use atrest_core::encryption_config::EncryptionConfiguration;
use atrest_core::rotation::chain::Selection;
use futures::future::join_all;

use super::canary::{Canaries, KINDS, Perch};
use super::observe::Reached;
use super::settings::Settings;
use crate::args::EtcdFlags;
use crate::cluster::{ApiServer, Error};
use crate::commands::server_failure;
use crate::etcd;
use crate::status::Failure;

/// Where the canaries of a rotation are made.
const NAMESPACE: &str = "kube-system";

/// How often a server is asked that answers nothing, or that it has too much to do.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// Canaries can be made: of a resource that is rotated.
pub(super) struct Matrix<'a> {
    settings: &'a Settings,
    reached: &'a Reached,
    perch: Perch,
}

/// What canaries of a rotation are made of; `None` where they cannot be made.
pub(super) fn kind(
    selection: &Selection,
    configuration: &EncryptionConfiguration,
) -> Option<GroupResource> {
    let mut kinds = KINDS.map(GroupResource::parse).into_iter();
    kinds.find(|kind| selection.covers(configuration, kind))
}

impl<'a> Matrix<'a> {
    pub(super) fn new(
        settings: &'a Settings,
        reached: &'a Reached,
        kind: GroupResource,
        state_dir: PathBuf,
    ) -> Self {
        let perch = Perch {
            servers: reached.servers.clone(),
            etcd: reached.etcd.clone(),
            prefix: EtcdFlags::from(&settings.etcd).prefix().into(),
            resource: kind,
            namespace: NAMESPACE.into(),
            state_dir,
        };
        Self {
            settings,
            reached,
            perch,
        }
    }

    /// Whether canaries could be made; none is.
    pub(super) async fn rehearse(&self) -> Result<(), Failure> {
        self.perch.rehearse().await
    }

    /// Takes away what a killed run left behind.
    pub(super) async fn clear(self) -> Result<(), Failure> {
        self.perch.clear().await
    }

    /// Has these servers write a canary each. They are gone when this returns.
    pub(super) async fn prove(
        self,
        through: &[usize],
        expectation: &Expectation<'_>,
    ) -> Result<(), Failure> {
        let Self {
            settings,
            reached,
            perch,
        } = self;
        let canaries = perch.name(through.len()).await?;
        let look = Look {
            settings,
            reached,
            canaries: &canaries,
            through,
        };
        let seen = look.at_all(expectation).await;
        canaries.delete().await;
        seen
    }
}

struct Look<'a> {
    settings: &'a Settings,
    reached: &'a Reached,
    canaries: &'a Canaries,
    through: &'a [usize],
}

impl Look<'_> {
    async fn at_all(&self, expectation: &Expectation<'_>) -> Result<(), Failure> {
        let names = self.canaries.note.names.iter();
        let created = self.through.iter().zip(names).map(|(i, name)| async {
            let server = &self.reached.servers[*i];
            // One that came into being though its answer got lost is there the next time.
            let created = patiently(|| self.canaries.create(server, name)).await;
            match created {
                Err(error) if error.code() != Some(409) => {
                    Err(self.canaries.perch.refused(server, &error))
                }
                _ => Ok(()),
            }
        });
        // All are waited for: one that comes into being later would outlive its deletion.
        let created = join_all(created).await;
        created.into_iter().collect::<Result<(), _>>()?;
        self.at_rest(expectation).await?;
        let all = self.reached.servers.iter().enumerate();
        let read = join_all(all.map(|(i, server)| self.through(i, server))).await;
        read.into_iter().collect()
    }

    /// Each has to be under the target.
    async fn at_rest(&self, expectation: &Expectation<'_>) -> Result<(), Failure> {
        let keys = self.canaries.keys();
        let values = self.reached.etcd.clone().values(keys.clone()).await;
        let values = values.map_err(|status| {
            let reason = etcd::describe(&status);
            Failure::unread(format!("cannot read the canaries in etcd: {reason}"))
        })?;
        for ((i, key), value) in self.through.iter().zip(keys).zip(values) {
            let name = self.name(*i);
            let Some(value) = value else {
                return Err(Failure::stopped(format!(
                    "{name} wrote a canary, and it is not in this etcd"
                ))
                .hint("look for --etcd-servers and --etcd-servers-overrides among its flags"));
            };
            let kind = &self.canaries.perch.resource;
            let mut census = Census::new([kind.clone()], Some(expectation), 1);
            let stored = Stored {
                key: &key,
                object: b"",
                value: &value.value,
                mod_revision: value.mod_revision,
            };
            census.add(0, &stored, Proof::NotTried);
            if census.settled() == 1 {
                continue;
            }
            let under = census.not_current.first();
            let under = under.map_or_else(String::new, |it| {
                let key = it.key_name.as_deref().unwrap_or_default();
                format!(" ({} {key})", it.provider)
            });
            let message = match census.count(State::Unread) {
                1 => format!("whether {name} writes with the new key could not be judged{under}"),
                _ => {
                    format!("{name} reports its file as loaded, and writes with another key{under}")
                }
            };
            return Err(Failure::stopped(message).hint(format!(
                "what it wrote just now was a canary, which is gone; see which file the process behind \
                 {} reads, then atrest rotate resume",
                self.reached.servers[*i].url()
            )));
        }
        Ok(())
    }

    /// Metadata is enough: no server knows an object's without decrypting all of it.
    async fn through(&self, reader: usize, server: &ApiServer) -> Result<(), Failure> {
        for (writer, name) in self.through.iter().zip(&self.canaries.note.names) {
            let Canaries { api, note, .. } = self.canaries;
            let seen = patiently(|| server.metadata(api, Some(&note.namespace), name)).await;
            let Err(error) = seen else { continue };
            if error.code().is_none() {
                return Err(server_failure(server, &error));
            }
            let (reads, writes) = (self.name(reader), self.name(*writer));
            return Err(Failure::stopped(format!(
                "{reads} does not read what {writes} writes: {error}"
            ))
            .hint(format!(
                "the canary is gone, and nothing else was written by this run; see which file the \
                 process behind {} reads, then atrest rotate resume",
                server.url()
            )));
        }
        Ok(())
    }

    fn name(&self, server: usize) -> &str {
        &self.settings.servers[server].name
    }
}

/// Asks again where a server did not answer, or has too much to do.
async fn patiently<T, F: Future<Output = Result<T, Error>>>(
    ask: impl Fn() -> F,
) -> Result<T, Error> {
    let mut tries = 1;
    loop {
        match ask().await {
            Err(error) if tries < TRIES && matches!(error.code(), None | Some(429 | 503 | 504)) => {
                tries += 1;
                tokio::time::sleep(PAUSE).await;
            }
            answer => return answer,
        }
    }
}
