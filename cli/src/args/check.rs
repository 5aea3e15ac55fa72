//! `atrest check`

use std::path::PathBuf;

use atrest_core::check::Time;
use clap::Subcommand;

use super::validate::FailOn;

/// Say what expires, what does not fit together and what is open.
#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    #[command(subcommand)]
    pub(crate) action: CheckAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CheckAction {
    Certificates(Certificates),
}

/// Check every certificate of a node that kubeadm made: dates, keys, who verifies it with what, what
/// stands in it, and who can read and change its files.
///
/// Without --live nothing is asked of the cluster, so it works while the API server is down. Paths are
/// those that the static pods and the kubelet name, else kubeadm's own.
///
/// Exit status: 0 where everything was read and nothing is found at or above `--fail-on`, 1 where
/// something is, 3 where something could not be read.
#[derive(Debug, clap::Args)]
pub(crate) struct Certificates {
    /// The directory that is the node's `/`: a mounted disk, or a copy of one.
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) root: PathBuf,
    /// Judge as of a day or a time, such as 2027-03-01 or 2027-03-01T12:00:00Z [default: now].
    #[arg(long, value_name = "DATE", conflicts_with = "live")]
    pub(crate) at: Option<Time>,
    /// Compare with what runs on this machine, too: shake hands with its servers, show them the
    /// certificates that are for them, and ask the API what it trusts.
    #[arg(long)]
    pub(crate) live: bool,
    /// The severity of findings that makes the exit status 1.
    #[arg(long, value_enum, default_value_t = FailOn::Error)]
    pub(crate) fail_on: FailOn,
}
