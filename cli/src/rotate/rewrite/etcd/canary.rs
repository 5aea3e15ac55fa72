//! Objects of ours that are rewritten first: what an API server cannot read afterwards is no object
//! of anybody.
//!
//! Their names are on disk before the first one exists, so that the next run deletes what a killed
//! one left behind.

use std::path::{Path, PathBuf};

use atrest_core::at_rest::GroupResource;
use atrest_core::secret::SecretBytes;
use atrest_proto::etcdserverpb::{DeleteRangeRequest, RequestOp, TxnRequest};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures::future::{join_all, try_join_all};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use super::batch::{is_at, put};
use super::cipher::{Cipher, Value};
use crate::cluster::{self, ApiResource, ApiServer, Error};
use crate::commands::server_failure;
use crate::etcd;
use crate::report;
use crate::status::Failure;

const COUNT: usize = 10;
const NAME: &str = "atrest-canary-";

/// A label that finds them; its value is the run.
const LABEL: &str = "atrest-canary";

/// Where the canaries live, and in which of their kinds.
pub(super) struct Perch {
    pub(super) servers: Vec<ApiServer>,
    pub(super) etcd: etcd::Client,
    /// kube-apiserver's `--etcd-prefix`.
    pub(super) prefix: String,
    /// `secrets` or `configmaps`.
    pub(super) resource: GroupResource,
    pub(super) namespace: String,
    pub(super) state_dir: PathBuf,
}

/// Canaries that exist.
struct Canaries {
    perch: Perch,
    api: ApiResource,
    note: Note,
}

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

/// What is on disk while canaries may exist.
#[derive(Deserialize, Serialize)]
struct Note {
    run: String,
    resource: String,
    namespace: String,
    names: Vec<String>,
}

/// A canary as it was written through an API server.
struct Written {
    key: Vec<u8>,
    mod_revision: i64,
    value: Vec<u8>,
}

impl Note {
    fn new(resource: &GroupResource, namespace: &str) -> Self {
        let now = jiff::Timestamp::now();
        // Names of objects are in lower case.
        let run = now.strftime("%Y%m%dt%H%M%S%3fz").to_string();
        Self {
            resource: resource.to_string(),
            namespace: namespace.into(),
            names: (0..COUNT).map(|n| format!("{NAME}{run}-{n}")).collect(),
            run,
        }
    }

    /// Of a cluster: the next one may be another.
    fn path(state_dir: &Path, cluster: &str) -> PathBuf {
        state_dir.join(format!("canaries-{cluster}.json"))
    }

    fn write(&self, path: &Path) -> Result<(), Failure> {
        let text = serde_json::to_vec(self)
            .map_err(|error| Failure::unusable(format!("cannot note the canaries: {error}")))?;
        atrest_files::create_private_directory(path.parent().unwrap_or(Path::new("/")))
            .and_then(|()| atrest_files::create(path, &text))
            .map_err(|error| {
                Failure::unusable(error)
                    .hint("name a directory that can be written with --state-dir")
            })
    }

    fn remove(path: &Path) {
        let removed = std::fs::remove_file(path);
        if let Err(error) = removed
            .map_err(|error| error.to_string())
            .and_then(|()| atrest_files::sync_parent(path).map_err(|error| error.to_string()))
        {
            let path = path.display();
            report::say(format_args!("warning: cannot remove {path}: {error}"));
        }
    }
}

impl Perch {
    /// Has API servers write canaries, each some, and rewrites these as everything else is going to be.
    /// Succeeds once every API server reads every one; else they are gone when this returns.
    pub(super) async fn prove(self, cipher: &mut Cipher<'_>) -> Result<Leaving, Failure> {
        let first = first(&self.servers)?;
        let api = cluster::find(first, &self.resource).await;
        let api = api.map_err(|error| server_failure(first, &error))?;
        let api = api.ok_or_else(|| {
            Failure::unusable(format!("{} serves no {}", first.url(), self.resource))
        })?;
        let note = Note::new(&self.resource, &self.namespace);
        note.write(&self.note_path())?;
        let mut canaries = Canaries {
            perch: self,
            api,
            note,
        };
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
            .map(|(server, name)| self.create(server, name));
        join_all(created).await.into_iter().collect()
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
        let answer = answer.map_err(|status| self.perch.unwritten(&status))?;
        if !answer.succeeded {
            return Err(Failure::stopped("somebody else wrote the canaries").hint(
                "look for a controller that touches them, or name another --canary-namespace",
            ));
        }
        Ok(answer.header.map_or(0, |header| header.revision))
    }

    async fn create(&self, server: &ApiServer, name: &str) -> Result<(), Failure> {
        let bytes = SecretBytes::generate(32).map_err(|error| {
            Failure::unread(format!("the system gives no random bytes: {error}"))
        })?;
        let value = BASE64_STANDARD.encode(bytes.expose());
        let object = serde_json::json!({
            "metadata": {"name": name, "labels": {LABEL: self.note.run}},
            "data": {"canary": value},
        });
        let created = server.create(&self.api, &self.note.namespace, object.to_string());
        created.await.map_err(|error| {
            server_failure(server, &error).hint(format!(
                "{COUNT} {} named {NAME}* are made in {} before anything else is written: let them \
                 pass, or name another --canary-namespace",
                self.note.resource, self.note.namespace
            ))
        })
    }

    /// What the servers wrote; each has to write with the key that everything is going to be under.
    async fn read_at_rest(&mut self, cipher: &mut Cipher<'_>) -> Result<Vec<Written>, Failure> {
        let keys = self.keys();
        let read = self.perch.etcd.values(keys.iter().cloned()).await;
        let read = read.map_err(|status| self.perch.unwritten(&status))?;
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
        answer.map_err(|status| self.perch.unwritten(&status))?;
        Ok(())
    }

    /// Takes them away. What cannot be deleted is left to the next run.
    async fn delete(mut self) {
        let path = self.perch.note_path();
        if self.perch.delete(&self.api, &self.note).await {
            Note::remove(&path);
        }
    }

    fn keys(&self) -> Vec<Vec<u8>> {
        let names = self.note.names.iter();
        names.map(|name| self.perch.key(&self.note, name)).collect()
    }

    fn unusable(&self, key: &[u8], reason: &str) -> Failure {
        let key = String::from_utf8_lossy(key);
        Failure::unusable(format!("the canary {key} cannot be rewritten: {reason}"))
            .hint("nothing else was written")
    }
}

impl Perch {
    /// Deletes what a killed run left behind.
    pub(super) async fn clear(mut self) -> Result<(), Failure> {
        let path = self.note_path();
        if !path.exists() {
            return Ok(());
        }
        let text = atrest_files::read(&path).map_err(Failure::unusable)?;
        let note: Option<Note> = serde_json::from_slice(text.expose()).ok();
        let note = note.filter(|note| note.names.iter().all(|name| name.starts_with(NAME)));
        let note = note.ok_or_else(|| {
            Failure::unusable(format!("{} does not say what it should", path.display())).hint(
                format!("delete the Secrets and ConfigMaps named {NAME}*, then this file"),
            )
        })?;
        self.resource = GroupResource::parse(&note.resource);
        let first = first(&self.servers)?;
        let api = cluster::find(first, &self.resource).await;
        let api = api.map_err(|error| server_failure(first, &error))?;
        if let Some(api) = api {
            if !self.delete(&api, &note).await {
                return Err(
                    Failure::unread("canaries of an earlier run cannot be deleted").hint(format!(
                        "delete what is named {NAME}* in {}, then run this again",
                        note.namespace
                    )),
                );
            }
            report::say(format_args!(
                "deleted {} canaries of a run that did not end",
                note.names.len()
            ));
        }
        Note::remove(&path);
        Ok(())
    }

    /// Whether none is left.
    async fn delete(&mut self, api: &ApiResource, note: &Note) -> bool {
        let through_servers = note.names.iter().map(|name| async {
            for server in &self.servers {
                match server.delete(api, Some(&note.namespace), name).await {
                    Ok(()) => return None,
                    Err(error) if error.code() == Some(404) => return None,
                    Err(_) => {}
                }
            }
            Some(self.key(note, name))
        });
        let left: Vec<_> = join_all(through_servers)
            .await
            .into_iter()
            .flatten()
            .collect();
        let mut is_clean = true;
        for key in left {
            // No server can read it: it was killed between a canary and its proof.
            if let Err(status) = self.delete_at_rest(key.clone()).await {
                let (key, reason) = (String::from_utf8_lossy(&key), etcd::describe(&status));
                report::say(format_args!(
                    "warning: cannot delete the canary {key}: {reason}"
                ));
                is_clean = false;
            }
        }
        is_clean
    }

    /// Only what stands there now, and it is ours.
    async fn delete_at_rest(&mut self, key: Vec<u8>) -> Result<(), tonic::Status> {
        let now = self
            .etcd
            .values([key.clone()])
            .await?
            .into_iter()
            .flatten()
            .next();
        let Some(now) = now else {
            return Ok(());
        };
        let request = TxnRequest {
            compare: vec![is_at(&key, now.mod_revision)],
            success: vec![RequestOp {
                request_delete_range: Some(DeleteRangeRequest {
                    key,
                    ..DeleteRangeRequest::default()
                }),
                ..RequestOp::default()
            }],
            ..TxnRequest::default()
        };
        match self.etcd.transact(request).await?.succeeded {
            true => Ok(()),
            false => Err(tonic::Status::aborted("somebody wrote it")),
        }
    }

    fn key(&self, note: &Note, name: &str) -> Vec<u8> {
        let directory = self.resource.directory(&self.prefix);
        format!("{directory}{}/{name}", note.namespace).into_bytes()
    }

    fn note_path(&self) -> PathBuf {
        Note::path(&self.state_dir, &self.etcd.cluster_id)
    }

    fn unwritten(&self, status: &tonic::Status) -> Failure {
        let reason = etcd::describe(status);
        Failure::unread(format!("cannot write the canaries to etcd: {reason}"))
            .hint("nothing else was written")
    }
}

fn first(servers: &[ApiServer]) -> Result<&ApiServer, Failure> {
    servers
        .first()
        .ok_or_else(|| Failure::unusable("no API server is named"))
}
