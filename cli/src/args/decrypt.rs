//! `atrest decrypt`

use std::path::PathBuf;

use super::{EtcdFlags, KmsSocket};

/// Decrypt one object of etcd, with a configuration: for the day on which no API server can.
///
/// The result is a secret: it is not printed to a terminal without --show.
#[derive(Debug, clap::Args)]
pub(crate) struct Decrypt {
    /// `secrets/NAMESPACE/NAME`, `widgets.example.com/NAMESPACE/NAME`, or a key of etcd, which begins
    /// with a slash.
    #[arg(
        value_name = "OBJECT",
        required_unless_present = "value",
        conflicts_with = "value"
    )]
    pub(crate) object: Option<String>,
    /// The EncryptionConfiguration that has the keys.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// A stored value in a file of its own, `-` for stdin, instead of an object of etcd.
    #[arg(
        long,
        value_name = "FILE",
        requires = "storage_key",
        conflicts_with = "endpoints"
    )]
    pub(crate) value: Option<PathBuf>,
    /// The key of etcd that --value stood under.
    #[arg(long, value_name = "KEY", conflicts_with = "object")]
    pub(crate) storage_key: Option<String>,
    /// The key of etcd that the value was written under, where it stands under another one now: most
    /// providers bind a value to its key.
    #[arg(long, value_name = "KEY")]
    pub(crate) original_key: Option<String>,
    /// The resource whose providers are tried, for a key that does not say [default: the one that
    /// the key belongs to].
    #[arg(long, value_name = "RESOURCE")]
    pub(crate) resource: Option<String>,
    /// The plaintext's own bytes instead of a manifest.
    #[arg(long)]
    pub(crate) raw: bool,
    /// Print to a terminal, too.
    #[arg(long)]
    pub(crate) show: bool,
    /// Where a KMS plugin can be asked [default: the configuration's endpoint].
    #[arg(long = "kms-socket", value_name = "NAME=PATH")]
    pub(crate) kms_sockets: Vec<KmsSocket>,
    /// A file that `etcdctl snapshot save` wrote, instead of a running etcd.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["endpoints", "value"])]
    pub(crate) snapshot: Option<PathBuf>,
    /// The data directory of a member of etcd that is stopped, instead of a running etcd.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["endpoints", "snapshot", "value"])]
    pub(crate) data_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) etcd: EtcdFlags,
}
