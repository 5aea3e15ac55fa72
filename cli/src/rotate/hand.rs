//! Who rewrites in a rotation: one of the engines, with what the rotation knows.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use atrest_core::at_rest::GroupResource;

use super::observe::Reached;
use super::rewrite::{Outcome, Pace, Source, Steward, api, etcd as in_etcd, svm};
use super::settings::{Settings, To};
use crate::args::{Engine, EtcdFlags, KmsSocket};
use crate::cluster::ApiResource;
use crate::configuration::Loaded;
use crate::etcd::{Question, Waived};
use crate::kms;
use crate::report::progress::Progress;
use crate::status::Failure;

/// Where the engine `etcd` makes its canaries.
const CANARY_NAMESPACE: &str = "kube-system";

/// What the engines work with.
pub(super) struct Means<'a> {
    pub(super) reached: &'a Reached,
    pub(super) settings: &'a Settings,
    pub(super) flags: &'a EtcdFlags,
    /// The first server's file, which all have loaded.
    pub(super) file: &'a Loaded,
    pub(super) resources: &'a [GroupResource],
    pub(super) sockets: &'a [KmsSocket],
    pub(super) state_dir: &'a Path,
    /// What need not be rewritten.
    pub(super) waived: &'a Waived,
    /// When nothing more may begin.
    pub(super) until: Option<Instant>,
    pub(super) quiet: bool,
}

/// One resource.
pub(super) struct Task<'a> {
    pub(super) name: &'a GroupResource,
    pub(super) resource: &'a ApiResource,
    /// What was written after it is current.
    pub(super) barrier: Option<i64>,
    /// Where an earlier process was.
    pub(super) behind: Option<String>,
    pub(super) progress: &'a Progress,
}

/// An engine that is ready.
pub(super) enum Hand<'a> {
    Api,
    Etcd(Box<in_etcd::Engine<'a>>),
    Svm(BTreeMap<String, String>),
}

impl<'a> Hand<'a> {
    pub(super) async fn of(means: &Means<'a>) -> Result<Self, Failure> {
        let Means {
            reached,
            settings,
            flags,
            file,
            sockets,
            ..
        } = *means;
        match settings.engine {
            Engine::Api => Ok(Self::Api),
            Engine::Svm => Ok(Self::Svm(kms::key_ids(&file.configuration, sockets).await)),
            Engine::Etcd => {
                let barrier = in_etcd::Barrier {
                    servers: &reached.servers,
                    prefix: flags.prefix(),
                    resources: means.resources,
                    path: &settings.servers[0].file,
                    file,
                    unverified: in_etcd::Unverified::Seen,
                };
                let dek_source = barrier.check(&reached.etcd).await?;
                let engine = in_etcd::Engine::new(in_etcd::Means {
                    servers: &reached.servers,
                    etcd: reached.etcd.clone(),
                    flags,
                    configuration: &file.configuration,
                    sockets,
                    dek_source,
                    state_dir: means.state_dir,
                    canary_namespace: CANARY_NAMESPACE,
                    quiet: means.quiet,
                });
                Ok(Self::Etcd(Box::new(engine.await?)))
            }
        }
    }

    /// Rewrites a resource. `reached` is told up to which object all is done, by engines that can say.
    pub(super) async fn rewrite(
        &mut self,
        means: &Means<'_>,
        task: Task<'_>,
        reached: impl FnMut(&str) -> Result<(), Failure>,
    ) -> Result<Outcome, Failure> {
        let Means {
            settings, flags, ..
        } = means;
        let (servers, etcd) = (&means.reached.servers, &means.reached.etcd);
        let pace: Pace = settings.pace;
        match self {
            Self::Api => {
                let task = api::Task {
                    servers,
                    resource: task.resource,
                    source: Source::Etcd {
                        client: Box::new(etcd.clone()),
                        resource: task.name,
                        prefix: flags.prefix(),
                        up_to: task.barrier,
                    },
                    steward: Some(Steward::new(etcd.clone(), flags, means.quiet).await?),
                    behind: task.behind,
                    until: means.until,
                    pace,
                    progress: task.progress,
                };
                api::rewrite(task, reached).await
            }
            Self::Etcd(engine) => {
                let rewrite = engine.rewrite(task.name, pace, task.progress);
                let Some(until) = means.until else {
                    return rewrite.await;
                };
                // It can be left at any point: what was written is whole, the next run finds the rest.
                let ended = tokio::time::timeout_at(until.into(), rewrite).await;
                ended.unwrap_or_else(|_| {
                    Ok(Outcome {
                        was_cut_short: true,
                        ..Outcome::default()
                    })
                })
            }
            Self::Svm(key_ids) => {
                let question = Question {
                    waived: means.waived,
                    ..Question::of(
                        flags.prefix(),
                        std::slice::from_ref(task.name),
                        &means.file.configuration,
                        key_ids,
                        svm::TO_WAKE,
                    )
                };
                let task = svm::Task {
                    server: &servers[0],
                    resource: task.resource,
                    name: task.name,
                    etcd: etcd.clone(),
                    question,
                    progress: task.progress,
                };
                svm::rewrite(task).await
            }
        }
    }
}

/// Where the plugin that is moved to can be asked; the others are where the configuration says.
pub(super) fn sockets(settings: &Settings) -> Vec<KmsSocket> {
    match &settings.to {
        To::Kms { name, socket } => vec![KmsSocket {
            name: name.clone(),
            path: socket.clone(),
        }],
        To::InUse | To::Provider(_) | To::Identity => Vec::new(),
    }
}
