//! `atrest reencrypt`

use std::path::PathBuf;

use clap::{ArgAction, ValueEnum};
use serde::{Deserialize, Serialize};

use super::{EtcdFlags, KmsSocket};

/// Rewrite what is not under the current key: through the API, without ever asking for data, or in
/// etcd.
///
/// Exit status: 0 every object was rewritten, is current or gone; 2 the run cannot start; 3 something
/// could not be read; 4 stopped, or objects were set aside: they are named, and the next run tries
/// them again.
#[derive(Debug, clap::Args)]
pub(crate) struct Reencrypt {
    /// A resource to rewrite; repeatable.
    #[arg(long = "resource", value_name = "RESOURCE", default_value = "secrets")]
    pub(crate) resources: Vec<String>,
    /// What rewrites.
    #[arg(long, value_enum, value_name = "ENGINE", default_value_t = Engine::Api)]
    pub(crate) engine: Engine,
    /// An API server of the cluster; repeatable, until all are named: never a load balancer
    /// [default: the kubeconfig's].
    #[arg(long = "server", value_name = "URL")]
    pub(crate) servers: Vec<String>,
    /// The EncryptionConfiguration that every API server runs with; of --engine etcd and svm.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where a KMS plugin can be asked; of --engine etcd and svm [default: the configuration's endpoint].
    #[arg(long = "kms-socket", value_name = "NAME=PATH")]
    pub(crate) kms_sockets: Vec<KmsSocket>,
    #[command(flatten)]
    pub(crate) pace: Pace,
    /// Only count what would be asked to be rewritten.
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) in_etcd: InEtcd,
    #[command(flatten)]
    pub(crate) etcd: EtcdFlags,
}

/// What rewrites.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Engine {
    /// The API servers, asked by empty patches. With --etcd-endpoints the objects are found by etcd's keys,
    /// not by lists.
    Api,
    /// This program, in etcd: ten times as fast, and past admission and audit.
    Etcd,
    /// The cluster's own StorageVersionMigration controller.
    Svm,
}

/// What the engine that writes to etcd needs besides.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "--engine etcd")]
pub(crate) struct InEtcd {
    /// The namespace in which canaries are made.
    #[arg(long, value_name = "NAMESPACE", default_value = "kube-system")]
    pub(crate) canary_namespace: String,
    /// Where the canaries' names are kept while there are any.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/atrest")]
    pub(crate) state_dir: PathBuf,
    /// Go on though an API server before Kubernetes 1.34 cannot say which file it has loaded.
    #[arg(long)]
    pub(crate) unverified_config: bool,
    /// Do not ask before the first change.
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
}

/// How hard a rewrite may work the API server.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Pace {
    /// Send no more than leaves other clients their answers as quickly as before; with `=false`, as
    /// many as the API servers take [default: true].
    #[arg(
        long,
        global = true,
        value_name = "BOOL",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub(crate) gentle: Option<bool>,
    /// Requests in flight at most [default: 8, or 64 with --gentle=false]; of --engine etcd
    /// transactions [default: 1, or 4].
    #[arg(long, global = true, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) max_in_flight: Option<u16>,
    /// Objects a second [default: no limit].
    #[arg(long, global = true, value_name = "RATE", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_rate: Option<u32>,
}
