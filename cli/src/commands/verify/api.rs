//! The census without etcd: an API server is made to read every object, and its own counters say
//! which keys it used.
//!
//! A GET that names no resourceVersion is answered from etcd by every release (`k8s.io/apiserver`
//! `pkg/storage/cacher/delegator.go`); lists may come from the watch cache, which decrypts nothing.
//! So objects are listed for their names and read one by one, metadata only.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use atrest_core::at_rest::{Census, GroupResource, Tally};
use futures::stream::{self, StreamExt, TryStreamExt};

use crate::args::Global;
use crate::cluster::{self, ApiResource, ApiServer, Error, Object};
use crate::commands::{find, server_failure};
use crate::configuration::Loaded;
use crate::etcd::{Counted, Question};
use crate::report;
use crate::report::progress::Progress;
use crate::rotate::rewrite::{Found, List, TRIES, is_passing, pause};
use crate::status::Failure;

/// Requests in flight.
const IN_FLIGHT: usize = 16;

/// Where others read at the same time, fewer objects are read at once, and not fewer than these.
const FEWEST: usize = 8;

/// Times that so few are read until nobody else reads.
const PATIENCE: u32 = 5;

/// Times that objects are read until the process that counts is the one that reads.
const TRIES_ELSEWHERE: u32 = 2;

/// The server that reads.
pub(super) struct Server {
    api: ApiServer,
    /// The hash of the key_id that each KMS v2 plugin gave it last, by the provider's name.
    pub(super) key_ids: BTreeMap<String, String>,
}

impl Server {
    /// Connects, and insists that the server has loaded the configuration, where it can tell.
    pub(super) async fn connect(global: &Global, config: Option<&Loaded>) -> Result<Self, Failure> {
        let api = ApiServer::connect_once(global).await?;
        let metrics = api.metrics().await;
        let metrics = metrics.map_err(|error| server_failure(&api, &error))?;
        let fingerprint = config.map(|config| config.fingerprint.to_string());
        if let (Some(loaded), Some(named)) = (&metrics.loaded_config, fingerprint)
            && *loaded != named
        {
            let what = "has loaded another EncryptionConfiguration than --config";
            return Err(Failure::unread(format!("{} {what}", api.url())).hint(
                "give the very file: its SHA-256 is compared; to judge by another one, use --expect",
            ));
        }
        Ok(Self {
            key_ids: metrics.current_key_ids,
            api,
        })
    }

    /// Has every object of every resource read.
    pub(super) async fn census(
        &self,
        question: &Question<'_>,
        quiet: bool,
    ) -> Result<Counted, Failure> {
        let server = &self.api;
        // All of them are found before the first is read.
        let mut served = Vec::new();
        for name in &self.resources(question).await? {
            served.push((name.clone(), find(server, &name.to_string()).await?));
        }
        let mut census = Census::new([], None, question.max_listed);
        let mut revision = 0;
        for (name, resource) in served {
            let progress = Progress::start(&name.to_string(), quiet);
            let mut reader = Reader {
                server,
                resource,
                name: name.to_string(),
                directory: name.directory(question.prefix),
                place: census.cover(name, question.expectation.as_ref()),
                census: &mut census,
                is_hopeless: false,
                revision: &mut revision,
            };
            reader.read_all(&progress).await?;
        }
        Ok(Counted {
            census,
            revision,
            cluster_uid: self.api.cluster_uid().await.ok(),
            orphans: Vec::new(),
            bytes: Vec::new(),
            large: Vec::new(),
            residue: None,
        })
    }

    /// What was asked for, and what the configuration's wildcards cover of what the server stores.
    async fn resources(&self, question: &Question<'_>) -> Result<Vec<GroupResource>, Failure> {
        let mut resources = question.resources.to_vec();
        let Some(expectation) = question.wildcards() else {
            return Ok(resources);
        };
        let stored = cluster::stored(&self.api).await;
        let stored = stored.map_err(|error| server_failure(&self.api, &error))?;
        let covered = stored
            .into_iter()
            .filter(|it| !expectation.configuration.chain(it).is_empty());
        resources.extend(covered);
        // Events of two groups are the same ones.
        let mut directories = BTreeSet::new();
        resources.retain(|it| directories.insert(it.directory(question.prefix)));
        Ok(resources)
    }
}

struct Reader<'a> {
    server: &'a ApiServer,
    resource: ApiResource,
    name: String,
    /// Of its keys in etcd.
    directory: String,
    place: usize,
    census: &'a mut Census,
    /// Reads are not counted where the counters are read.
    is_hopeless: bool,
    /// The newest that was seen.
    revision: &'a mut i64,
}

enum Got {
    /// At this revision.
    Read(i64),
    Gone,
    Unreadable,
    Failed,
}

impl Reader<'_> {
    async fn read_all(&mut self, progress: &Progress) -> Result<(), Failure> {
        // One page after the other: a list that comes from etcd would be counted, too.
        let resource = self.resource.clone();
        let mut list = List::new(self.server, &resource, None, progress);
        while let Some(found) = list.next().await? {
            let mut objects = Vec::with_capacity(found.len());
            for found in found {
                match found {
                    Found::Object(object) => objects.push(object),
                    Found::Current => {} // of etcd's lists
                    Found::Unreadable(object) => {
                        let namespace = object.namespace.map(|it| it + "/").unwrap_or_default();
                        let key = format!("{}{namespace}{}", self.directory, object.name);
                        self.census.add_unreadable(self.place, key.into(), 0);
                    }
                }
            }
            self.read(&objects, progress).await?;
        }
        Ok(())
    }

    /// Reads objects until the counters say whose they are, in ever smaller parts where others read
    /// meanwhile.
    async fn read(&mut self, objects: &[Object], progress: &Progress) -> Result<(), Failure> {
        let mut parts = vec![(objects, 1)];
        while let Some((part, tries)) = parts.pop() {
            if self.is_hopeless {
                self.add_unread(part);
                progress.advance(part.len() as u64);
                continue;
            }
            let failed = |error: Error| server_failure(self.server, &error);
            let before = self.server.metrics().await.map_err(failed)?;
            let got: Vec<_> = stream::iter(part)
                .map(|object| get(self.server, &self.resource, object))
                .buffered(IN_FLIGHT)
                .try_collect()
                .await
                .map_err(failed)?;
            let after = self.server.metrics().await.map_err(failed)?;
            let is_read = |got: &&Got| matches!(got, Got::Read(_));
            let count = got.iter().filter(is_read).count() as u64;
            let reads = after.reads_since(&before, &self.name);
            let census = &self.census.resources[self.place];
            match reads.map_or(Tally::Fewer, |reads| census.tally(&reads, count)) {
                Tally::Exact(writers) => {
                    self.census.add_read(self.place, &writers, &revisions(&got));
                }
                // The process may have ended, or the connection.
                Tally::Fewer if tries < TRIES_ELSEWHERE => {
                    parts.push((part, tries + 1));
                    continue;
                }
                Tally::Fewer => {
                    self.is_hopeless = true;
                    self.warn();
                    parts.push((part, 1));
                    continue;
                }
                Tally::More if part.len() > FEWEST => {
                    let (first, rest) = part.split_at(part.len() / 2);
                    parts.extend([(rest, 1), (first, 1)]);
                    continue;
                }
                Tally::More if tries < PATIENCE => {
                    parts.push((part, tries + 1));
                    continue;
                }
                Tally::More => {
                    self.census.add_unread(self.place, count, &revisions(&got));
                }
            }
            for (object, got) in part.iter().zip(&got) {
                match got {
                    Got::Read(revision) => *self.revision = (*self.revision).max(*revision),
                    Got::Gone => {}
                    Got::Failed => self.add_unread(std::slice::from_ref(object)),
                    Got::Unreadable => {
                        let key = format!("{}{object}", self.directory);
                        self.census
                            .add_unreadable(self.place, key.into(), revision_of(object));
                    }
                }
            }
            progress.advance(part.len() as u64);
        }
        Ok(())
    }

    fn add_unread(&mut self, objects: &[Object]) {
        let mut revisions = objects.iter().map(revision_of);
        if let Some(first) = revisions.next() {
            let newest = revisions.clone().fold(first, i64::max);
            let oldest = revisions.fold(first, i64::min);
            let count = objects.len() as u64;
            self.census
                .add_unread(self.place, count, &(oldest..=newest));
        }
    }

    fn warn(&self) {
        report::say(format_args!(
            "warning: {} did not count that it read {}: either no entry of its \
             EncryptionConfiguration covers them, or several API servers share that address; then \
             name one of them in the kubeconfig",
            self.server.url(),
            self.name
        ));
    }
}

/// Fails where none can be read.
async fn get(server: &ApiServer, resource: &ApiResource, object: &Object) -> Result<Got, Error> {
    let mut tries = 0;
    loop {
        let namespace = object.namespace.as_deref();
        let error = match server.metadata(resource, namespace, &object.name).await {
            Ok(now) => return Ok(Got::Read(revision_of(&now))),
            Err(error) => error,
        };
        tries += 1;
        match &error {
            Error::Answer { code: 404, .. } => return Ok(Got::Gone),
            Error::Answer {
                code: 401 | 403, ..
            } => return Err(error),
            // No webhook is asked for a read: it is about the stored value.
            Error::Answer {
                code: 500,
                detail: Some(_),
                ..
            } => return Ok(Got::Unreadable),
            _ if tries < TRIES && is_passing(&error) => {
                tokio::time::sleep(pause(&error, tries)).await;
            }
            _ => return Ok(Got::Failed),
        }
    }
}

fn revision_of(object: &Object) -> i64 {
    object.resource_version.parse().unwrap_or_default()
}

/// Of what was read, the oldest and the newest.
fn revisions(got: &[Got]) -> RangeInclusive<i64> {
    let revisions = got.iter().filter_map(|got| match got {
        Got::Read(revision) => Some(*revision),
        Got::Gone | Got::Unreadable | Got::Failed => None,
    });
    revisions.clone().min().unwrap_or_default()..=revisions.max().unwrap_or_default()
}
