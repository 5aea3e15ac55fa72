//! `atrest reencrypt`

use clap::ArgAction;

use super::EtcdFlags;

/// Rewrite what is not under the current key, through the API, without ever asking for data.
///
/// Exit status: 0 every object was rewritten, is current or gone; 3 a list could not be read;
/// 4 objects were set aside: they are named, and the next run tries them again.
#[derive(Debug, clap::Args)]
pub(crate) struct Reencrypt {
    /// A resource to rewrite; repeatable.
    #[arg(long = "resource", value_name = "RESOURCE", default_value = "secrets")]
    pub(crate) resources: Vec<String>,
    /// An API server of the cluster; repeatable: they take turns [default: the kubeconfig's].
    #[arg(long = "server", value_name = "URL")]
    pub(crate) servers: Vec<String>,
    #[command(flatten)]
    pub(crate) pace: Pace,
    /// With an etcd, the objects are found by its keys, not by lists of the API.
    #[command(flatten)]
    pub(crate) etcd: EtcdFlags,
    /// Only count what would be asked to be rewritten.
    #[arg(long)]
    pub(crate) dry_run: bool,
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
    /// Requests in flight at most [default: 8, or 64 with --gentle=false].
    #[arg(long, global = true, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) max_in_flight: Option<u16>,
    /// Objects a second [default: no limit].
    #[arg(long, global = true, value_name = "RATE", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_rate: Option<u32>,
}
