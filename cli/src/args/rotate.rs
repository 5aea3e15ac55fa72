//! `atrest rotate`

use std::path::PathBuf;

use clap::Subcommand;

use super::reencrypt::Pace;
use super::{EtcdFlags, KmsSocket};

/// Rotate the key (or the provider) that writes, and prove it from etcd's bytes. Without a
/// subcommand it is `plan`, which changes nothing.
///
/// Exit status: 0 proven; 2 the run cannot start, nothing was changed; 3 something could not be
/// reached; 4 stopped: both keys stay readable, and `rotate resume` goes on.
#[derive(Debug, clap::Args)]
pub(crate) struct Rotate {
    #[command(subcommand)]
    pub(crate) action: Option<RotateAction>,
    #[command(flatten)]
    pub(crate) flags: RotateFlags,
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum RotateAction {
    /// Show what a run would do.
    Plan,
    /// Do it.
    Run,
    /// Show how far the run is.
    Status,
    /// Go on where a run was stopped or killed.
    Resume,
}

/// A rotation.yaml, or flags where there is one API server with its file on this machine.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RotateFlags {
    /// The rotation.yaml [default: ./rotation.yaml, then /etc/atrest/rotation.yaml].
    #[arg(long = "file", short = 'f', global = true, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// The one API server's EncryptionConfiguration on this machine, instead of a rotation.yaml.
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "file")]
    pub(crate) config: Option<PathBuf>,
    /// The provider to rotate to: aescbc, aesgcm, secretbox or kms [default: the one in use].
    #[arg(long, global = true, value_name = "PROVIDER")]
    pub(crate) to: Option<String>,
    /// The KMS v2 plugin to move to: its provider name and its socket.
    #[arg(long, global = true, value_name = "NAME=PATH")]
    pub(crate) kms_socket: Option<KmsSocket>,
    /// Where the new key is kept besides the configuration; the run's id is added to the name
    /// [default: STATE_DIR/escrow/key].
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) escrow: Option<PathBuf>,
    /// A second copy; repeatable [default: STATE_DIR/escrow-copy/key].
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) escrow_copy: Vec<PathBuf>,
    /// Where the journal is kept [default: /var/lib/atrest].
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Do not ask before the first change.
    #[arg(long, short = 'y', global = true)]
    pub(crate) yes: bool,
    /// Keep the old key readable for this long before it is dropped, such as 30m or 24h.
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration)]
    pub(crate) hold: Option<std::time::Duration>,
    /// The API servers' own --request-timeout: how long a write may be in flight.
    #[arg(long, global = true, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub(crate) request_timeout: std::time::Duration,
    /// How long an API server may take to load its file before the run stops.
    #[arg(long, global = true, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub(crate) load_timeout: std::time::Duration,
    #[command(flatten)]
    pub(crate) pace: Pace,
    #[command(flatten)]
    pub(crate) etcd: EtcdFlags,
}

fn duration(text: &str) -> Result<std::time::Duration, String> {
    text.parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|duration| duration.try_into().ok())
        .ok_or_else(|| "not a duration such as 90s, 30m or 24h".into())
}
