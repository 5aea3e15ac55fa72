//! Objects of ours that are rewritten first: what an API server cannot read afterwards is no object
//! of anybody.

use atrest_proto::etcdserverpb::TxnRequest;
use futures::future::{join_all, try_join_all};
use tokio::task::JoinHandle;

use super::batch::{is_at, put};
use super::cipher::{Cipher, Value};
use crate::cluster::{ApiServer, Error};
use crate::commands::server_failure;
use crate::etcd;
use crate::report;
use crate::rotate::canary::{Canaries, LABEL, NAME, Perch};
use crate::status::Failure;

/// Through each server some.
const COUNT: usize = 10;

/// Canaries that have proven what they are for, and are being deleted.
pub(super) struct Leaving {
    keys: Vec<Vec<u8>>,
    deletion: JoinHandle<()>,
}

impl Leaving {
    /// Whether a storage key is that of one of them.
    pub(super) fn own(&self, key: &[u8]) -> bool {
        self.keys.iter().any(|it| it == key)
    }

    /// Waits until they are gone.
    pub(super) async fn gone(self) {
        let _ = self.deletion.await;
    }
}

/// A canary as it was written through an API server.
struct Written {
    key: Vec<u8>,
    mod_revision: i64,
    value: Vec<u8>,
}

impl Perch {
    /// Has API servers write canaries, each some, and rewrites these as everything else is going to be.
    /// Succeeds once every API server reads every one; else they are gone when this returns.
    pub(super) async fn prove(self, cipher: &mut Cipher<'_>) -> Result<Leaving, Failure> {
        let mut canaries = self.name(COUNT).await?;
        let proof = canaries.create_and_rewrite(cipher).await;
        let keys = canaries.keys();
        // Nothing waits for it but the end of the run.
        let leaving = Leaving {
            keys,
            deletion: tokio::spawn(canaries.delete()),
        };
        if let Err(failure) = proof {
            leaving.gone().await;
            return Err(failure);
        }
        Ok(leaving)
    }
}

impl Canaries {
    async fn create_and_rewrite(&mut self, cipher: &mut Cipher<'_>) -> Result<(), Failure> {
        let servers = self.perch.servers.iter();
        let lists = join_all(servers.map(|server| self.listed(server))).await;
        self.create_all().await?;
        let written = self.read_at_rest(cipher).await?;
        let revision = self.rewrite(&written, cipher).await?;
        let checks = self
            .perch
            .servers
            .iter()
            .zip(lists)
            .map(|(server, before)| {
                if let Err(error) = &before {
                    let url = server.url();
                    report::say(format_args!(
                        "warning: {url} could not list before: {error}"
                    ));
                }
                self.read_through(server, revision, before.is_ok())
            });
        let read = join_all(checks)
            .await
            .into_iter()
            .collect::<Result<(), _>>();
        if read.is_err() {
            // What nobody can read, nobody can list around and nobody can delete.
            if let Err(failure) = self.restore(written, revision).await {
                report::failure(&failure);
            }
        }
        read
    }

    /// All of them are waited for: one that comes into being later would outlive its deletion.
    async fn create_all(&self) -> Result<(), Failure> {
        let servers = self.perch.servers.iter().cycle();
        let created = servers
            .zip(&self.note.names)
            .map(|(server, name)| async move {
                self.create(server, name)
                    .await
                    .map_err(|error| (server, error))
            });
        let created: Result<(), (&ApiServer, Error)> =
            join_all(created).await.into_iter().collect();
        created.map_err(|(server, error)| {
            server_failure(server, &error).hint(format!(
                "{COUNT} {} named {NAME}* are made in {} before anything else is written: let them \
                 pass, or name another --canary-namespace",
                self.note.resource, self.note.namespace
            ))
        })
    }

    /// As everything else is going to be, though they are not stale. Returns the revision.
    async fn rewrite(
        &mut self,
        written: &[Written],
        cipher: &mut Cipher<'_>,
    ) -> Result<i64, Failure> {
        let mut request = TxnRequest::default();
        for it in written {
            let value = cipher
                .decrypt(&it.key, &it.value)
                .await
                .and_then(|plaintext| cipher.encrypt(&it.key, &plaintext))
                .map_err(|reason| self.unusable(&it.key, &reason))?;
            request.compare.push(is_at(&it.key, it.mod_revision));
            request.success.push(put(it.key.clone(), value));
        }
        let answer = self.perch.etcd.transact(request).await;
        let answer = answer.map_err(|status| unwritten(&status))?;
        if !answer.succeeded {
            return Err(Failure::stopped("somebody else wrote the canaries").hint(
                "look for a controller that touches them, or name another --canary-namespace",
            ));
        }
        Ok(answer.header.map_or(0, |header| header.revision))
    }

    /// What the servers wrote; each has to write with the key that everything is going to be under.
    async fn read_at_rest(&mut self, cipher: &mut Cipher<'_>) -> Result<Vec<Written>, Failure> {
        let keys = self.keys();
        let read = self.perch.etcd.values(keys.iter().cloned()).await;
        let read = read.map_err(|status| unwritten(&status))?;
        let mut written = Vec::new();
        for (i, (key, pair)) in keys.into_iter().zip(read).enumerate() {
            let server = &self.perch.servers[i % self.perch.servers.len()];
            let pair = pair.ok_or_else(|| self.unusable(&key, "it is not in this etcd"))?;
            match cipher.read(&key, &pair.value).await {
                Value::Current => {}
                Value::Stale(_) => {
                    return Err(Failure::unusable(format!(
                        "{} writes with another key than the configuration's first",
                        server.url()
                    ))
                    .hint("name the configuration that it has loaded, and wait until every API server has"));
                }
                Value::Unreadable(reason) => {
                    return Err(
                        self.unusable(&key, &format!("{} wrote it, and {reason}", server.url()))
                    );
                }
            }
            written.push(Written {
                key,
                mod_revision: pair.mod_revision,
                value: pair.value,
            });
        }
        Ok(written)
    }

    /// Metadata is enough: no server knows an object's without decrypting all of it.
    async fn read_through(
        &self,
        server: &ApiServer,
        revision: i64,
        could_list: bool,
    ) -> Result<(), Failure> {
        let names = &self.note.names;
        let lag = |error: &Error| {
            let url = server.url();
            match error.code() {
                None => server_failure(server, error),
                Some(_) => Failure::unusable(format!(
                    "{url} does not read what is written with the new key: {error}"
                ))
                .hint("nothing but canaries was written, and they are gone; give this server the key, \
                       then run this again"),
            }
        };
        let read = names.iter().map(|name| {
            let namespace = Some(&*self.note.namespace);
            server.metadata(&self.api, namespace, name)
        });
        for object in try_join_all(read).await.map_err(|error| lag(&error))? {
            if object.resource_version != revision.to_string() {
                return Err(Failure::unusable(format!(
                    "{} reads {object} from elsewhere than it was written to",
                    server.url()
                ))
                .hint("look for --etcd-servers and --etcd-servers-overrides among its flags"));
            }
        }
        if !could_list {
            return Ok(());
        }
        let listed = self.listed(server).await.map_err(|error| lag(&error))?;
        if listed != names.len() {
            let (url, all) = (server.url(), names.len());
            return Err(Failure::unusable(format!(
                "{url} lists {listed} of {all} canaries"
            )));
        }
        Ok(())
    }

    /// How many a server lists. A value that it cannot decrypt fails every list.
    async fn listed(&self, server: &ApiServer) -> Result<usize, Error> {
        let label = (LABEL, &*self.note.run);
        server
            .list_labelled(&self.api, &self.note.namespace, label)
            .await
    }

    /// Puts back what the API servers wrote.
    async fn restore(&mut self, written: Vec<Written>, revision: i64) -> Result<(), Failure> {
        let mut request = TxnRequest::default();
        for it in written {
            request.compare.push(is_at(&it.key, revision));
            request.success.push(put(it.key, it.value));
        }
        let answer = self.perch.etcd.transact(request).await;
        answer.map_err(|status| unwritten(&status))?;
        Ok(())
    }

    fn unusable(&self, key: &[u8], reason: &str) -> Failure {
        let key = String::from_utf8_lossy(key);
        Failure::unusable(format!("the canary {key} cannot be rewritten: {reason}"))
            .hint("nothing else was written")
    }
}

fn unwritten(status: &tonic::Status) -> Failure {
    let reason = etcd::describe(status);
    Failure::unread(format!("cannot write the canaries to etcd: {reason}"))
        .hint("nothing else was written")
}
