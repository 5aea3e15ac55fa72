//! Objects of ours, made through API servers and looked at in etcd: what a server writes with, and
//! what it cannot read, shows in these, and in no object of anybody.
//!
//! Their names are on disk before the first one exists, so that the next run deletes what a killed
//! one left behind.

use std::path::{Path, PathBuf};

use atrest_core::at_rest::GroupResource;
use atrest_proto::etcdserverpb::{DeleteRangeRequest, RequestOp, TxnRequest};
use futures::future::join_all;
use serde::{Deserialize, Serialize};

use super::rewrite::etcd::is_at;
use crate::cluster::{self, ApiResource, ApiServer, Error};
use crate::commands::server_failure;
use crate::etcd;
use crate::report;
use crate::status::Failure;

/// What canaries can be made of.
pub(super) const KINDS: [&str; 2] = ["secrets", "configmaps"];

/// How their names begin.
pub(super) const NAME: &str = "atrest-canary-";

/// A label that finds them; its value is the run.
pub(super) const LABEL: &str = "atrest-canary";

/// Where the canaries live, and in which of their kinds.
pub(super) struct Perch {
    pub(super) servers: Vec<ApiServer>,
    pub(super) etcd: etcd::Client,
    /// kube-apiserver's `--etcd-prefix`.
    pub(super) prefix: String,
    /// One of [`KINDS`].
    pub(super) resource: GroupResource,
    pub(super) namespace: String,
    pub(super) state_dir: PathBuf,
}

/// Canaries that have names, and may exist.
pub(super) struct Canaries {
    pub(super) perch: Perch,
    pub(super) api: ApiResource,
    pub(super) note: Note,
}

/// What is on disk while canaries may exist.
#[derive(Deserialize, Serialize)]
pub(super) struct Note {
    pub(super) run: String,
    pub(super) resource: String,
    pub(super) namespace: String,
    pub(super) names: Vec<String>,
}

impl Note {
    fn new(resource: &GroupResource, namespace: &str, count: usize) -> Self {
        let now = jiff::Timestamp::now();
        // Names of objects are in lower case.
        let run = now.strftime("%Y%m%dt%H%M%S%3fz").to_string();
        Self {
            resource: resource.to_string(),
            namespace: namespace.into(),
            names: (0..count).map(|n| format!("{NAME}{run}-{n}")).collect(),
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
    /// Chooses names and puts them on disk; none is made yet.
    pub(super) async fn name(self, count: usize) -> Result<Canaries, Failure> {
        let first = first(&self.servers)?;
        let api = cluster::find(first, &self.resource).await;
        let api = api.map_err(|error| server_failure(first, &error))?;
        let api = api.ok_or_else(|| {
            Failure::unusable(format!("{} serves no {}", first.url(), self.resource))
        })?;
        let note = Note::new(&self.resource, &self.namespace, count);
        note.write(&self.note_path())?;
        Ok(Canaries {
            perch: self,
            api,
            note,
        })
    }

    /// Asks every server whether it would make one, and makes none.
    pub(super) async fn rehearse(&self) -> Result<(), Failure> {
        let first = first(&self.servers)?;
        let api = cluster::find(first, &self.resource).await;
        let Some(api) = api.map_err(|error| server_failure(first, &error))? else {
            return Ok(());
        };
        let note = Note::new(&self.resource, &self.namespace, 1);
        for server in &self.servers {
            let object = object(&note, &note.names[0]);
            match server.would_create(&api, &self.namespace, object).await {
                Ok(()) => {}
                // Some webhook cannot say before.
                Err(error) if error.to_string().contains("does not support dry run") => {}
                Err(error) => return Err(self.refused(server, &error)),
            }
        }
        Ok(())
    }

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

    /// A server that does not make one.
    pub(super) fn refused(&self, server: &ApiServer, error: &Error) -> Failure {
        server_failure(server, error).hint(format!(
            "{} named {NAME}* are made in {} for a moment, to see what servers write and read: let them \
             pass (docs/guide/rbac.md lists the rights)",
            self.resource, self.namespace
        ))
    }

    fn key(&self, note: &Note, name: &str) -> Vec<u8> {
        let directory = self.resource.directory(&self.prefix);
        format!("{directory}{}/{name}", note.namespace).into_bytes()
    }

    fn note_path(&self) -> PathBuf {
        Note::path(&self.state_dir, &self.etcd.cluster_id)
    }
}

impl Canaries {
    /// Has a server make one of them.
    pub(super) async fn create(&self, server: &ApiServer, name: &str) -> Result<(), Error> {
        let object = object(&self.note, name);
        server.create(&self.api, &self.note.namespace, object).await
    }

    /// Their keys in etcd, in the order of their names.
    pub(super) fn keys(&self) -> Vec<Vec<u8>> {
        let names = self.note.names.iter();
        names.map(|name| self.perch.key(&self.note, name)).collect()
    }

    /// Takes them away. What cannot be deleted is left to the next run.
    pub(super) async fn delete(mut self) {
        let path = self.perch.note_path();
        if self.perch.delete(&self.api, &self.note).await {
            Note::remove(&path);
        }
    }
}

/// As a Secret and as a ConfigMap. What it holds is no secret.
fn object(note: &Note, name: &str) -> String {
    let object = serde_json::json!({
        "metadata": {"name": name, "labels": {LABEL: note.run}},
        "data": {"canary": "YXRyZXN0"},
    });
    object.to_string()
}

fn first(servers: &[ApiServer]) -> Result<&ApiServer, Failure> {
    servers
        .first()
        .ok_or_else(|| Failure::unusable("no API server is named"))
}
