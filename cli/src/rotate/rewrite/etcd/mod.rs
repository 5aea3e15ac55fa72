//! The `etcd` engine: reads values from etcd, encrypts them with the key that writes now, and puts them
//! back in transactions that compare the revision of each.
//!
//! What an API server does when it finds a stale value, without the API server: no admission, no audit,
//! no priority. Its watchers see ordinary updates. Nothing is written before canaries of ours prove
//! that every API server reads what this writes.

mod barrier;
mod batch;
mod canary;
mod cipher;
mod pass;

use std::collections::BTreeMap;
use std::path::Path;

use atrest_core::at_rest::{DekSource, GroupResource, Transformers, Trust, WritingKey};
use atrest_core::encryption_config::{EncryptionConfiguration, Kms, KmsVersion, Provider};

pub(crate) use self::barrier::{Barrier, Unverified};
pub(in crate::rotate) use self::batch::is_at;
use self::cipher::Cipher;
use self::pass::Rewrite;
use super::connection::Connection;
use super::{Outcome, Pace};
use crate::args::{EtcdFlags, KmsSocket};
use crate::cluster::ApiServer;
use crate::etcd;
use crate::kms::{self, Unwrapper};
use crate::report::progress::Progress;
use crate::rotate::canary::{KINDS, Perch};
use crate::status::Failure;

/// What to tell before anything is asked.
pub(crate) const SKIPPED: &str = "\
this writes to etcd behind the API servers: admission, audit and API priority see nothing of it;
watchers see ordinary updates. Values that somebody changes meanwhile are left as they were written,
no object is created or deleted but ten canaries, which prove first that every API server reads what
is written";

/// What the engine works with. That every API server runs with the configuration is checked before.
pub(crate) struct Means<'a> {
    /// All of them.
    pub(crate) servers: &'a [ApiServer],
    pub(crate) etcd: etcd::Client,
    /// How etcd is reached, and kube-apiserver's `--etcd-prefix`.
    pub(crate) flags: &'a EtcdFlags,
    pub(crate) configuration: &'a EncryptionConfiguration,
    pub(crate) sockets: &'a [KmsSocket],
    /// What the API servers have a KMS v2 plugin wrap.
    pub(crate) dek_source: DekSource,
    /// Where the canaries' names are kept while there are any. Whoever calls holds its lock.
    pub(crate) state_dir: &'a Path,
    pub(crate) canary_namespace: &'a str,
    /// No talk.
    pub(crate) quiet: bool,
}

/// The engine, for a run over some resources.
pub(crate) struct Engine<'a> {
    means: Means<'a>,
    plugins: Unwrapper,
    /// By the provider's name: one seed a run.
    seeds: BTreeMap<String, WritingKey>,
}

impl<'a> Engine<'a> {
    /// Takes away what a killed run left behind.
    pub(crate) async fn new(means: Means<'a>) -> Result<Self, Failure> {
        let plugins = Unwrapper::new(means.configuration, means.sockets, BTreeMap::new());
        let engine = Self {
            means,
            plugins,
            seeds: BTreeMap::new(),
        };
        engine.perch(GroupResource::parse(KINDS[0])).clear().await?;
        Ok(engine)
    }

    /// Rewrites every value of a resource that is not under the key that writes now.
    pub(crate) async fn rewrite(
        &mut self,
        resource: &GroupResource,
        pace: Pace,
        progress: &Progress,
    ) -> Result<Outcome, Failure> {
        let perch = self.perch(self.kind_of_canary(resource)?);
        let chain = self.chain(resource);
        if let Some(Provider::Kms(kms)) = chain.writer() {
            self.wrap_seed(kms).await?;
        }
        let Means { etcd, flags, .. } = &self.means;
        let cipher = Cipher {
            writing: match chain.writer() {
                Some(Provider::Kms(kms)) => self.seeds.get(&kms.name),
                _ => None,
            },
            chain,
            plugins: &mut self.plugins,
        };
        let directory = resource.directory(flags.prefix());
        let connection = Connection::new(etcd.clone(), flags);
        let quiet = self.means.quiet;
        Rewrite::new(directory, connection, cipher, perch, pace, progress, quiet)
            .await?
            .run()
            .await
    }

    fn chain(&self, resource: &GroupResource) -> Transformers<'a> {
        let Means {
            configuration,
            dek_source,
            ..
        } = self.means;
        Transformers::of(configuration, resource, Trust::Objects).with_dek_source(dek_source)
    }

    async fn wrap_seed(&mut self, kms: &Kms) -> Result<(), Failure> {
        if kms.api_version == KmsVersion::V1 {
            return Err(Failure::unusable(format!(
                "the KMS v1 plugin {} wraps a key for each write",
                kms.name
            ))
            .hint("let the API server write through it: --engine api"));
        }
        if !self.seeds.contains_key(&kms.name) {
            let seed = kms::fresh_seed(kms, self.means.sockets).await?;
            self.plugins.learn(&seed);
            self.seeds.insert(kms.name.clone(), seed);
        }
        Ok(())
    }

    /// A kind of object that is written as those of the resource are: it shows whether they are read.
    fn kind_of_canary(&self, resource: &GroupResource) -> Result<GroupResource, Failure> {
        let writer = |resource: &GroupResource| {
            let writer = self.chain(resource).writer();
            writer.unwrap_or(&Provider::Identity)
        };
        let mut kinds = KINDS.map(GroupResource::parse).to_vec();
        // Its own kind shows most.
        kinds.sort_by_key(|kind| kind != resource);
        let kind = kinds
            .into_iter()
            .find(|kind| writer(kind) == writer(resource));
        kind.ok_or_else(|| {
            Failure::unusable(format!(
                "{resource} are written with another key than Secrets and ConfigMaps, of which canaries \
                 are made"
            ))
            .hint("let the API server rewrite them: --engine api")
        })
    }

    fn perch(&self, resource: GroupResource) -> Perch {
        let means = &self.means;
        Perch {
            servers: means.servers.to_vec(),
            etcd: means.etcd.clone(),
            prefix: means.flags.prefix().into(),
            resource,
            namespace: means.canary_namespace.into(),
            state_dir: means.state_dir.into(),
        }
    }
}
