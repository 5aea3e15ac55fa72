//! `atrest verify`

use std::path::PathBuf;
use std::str::FromStr;

use atrest_core::at_rest::GroupResource;

use super::EtcdFlags;

/// Count what is stored in etcd by the key that wrote it, and judge it by a configuration.
///
/// Exit status: 0 every value is current; 1 some are stale, plaintext, under an unknown key or
/// unreadable; 3 not all could be judged.
#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// The EncryptionConfiguration that the API servers have.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The EncryptionConfiguration that should hold, where that is another one, such as the next one
    /// [default: --config].
    #[arg(long, value_name = "FILE")]
    pub(crate) expect: Option<PathBuf>,
    /// Ask no etcd: have the API server of the kubeconfig read every object, and take from its
    /// /metrics which keys it used. Nothing is written, and of objects only metadata is asked for.
    #[arg(long, conflicts_with_all = [
        "endpoints", "snapshot", "data_dir", "history", "decrypt", "kms_sockets",
        "etcd_servers_overrides",
    ])]
    pub(crate) api: bool,
    /// Decrypt every value with the configuration's keys and plugins, to prove that it can be read.
    #[arg(long, requires = "config")]
    pub(crate) decrypt: bool,
    /// Also count the copies that no reader of etcd gets: superseded revisions, free pages, the
    /// write-ahead log. Of a snapshot or a data directory.
    #[arg(long, conflicts_with_all = ["endpoints", "rehearse"])]
    pub(crate) history: bool,
    /// Say of each snapshot whether it could be restored with the configuration: every value is
    /// decrypted, and nothing is written anywhere.
    #[arg(long, requires = "config", conflicts_with_all = ["endpoints", "data_dir", "expect"])]
    pub(crate) rehearse: bool,
    /// Hold a certificate of `atrest rotate` against what is stored: whether nothing is under another key
    /// than the one that it names, and every count is as it says. Exit status 1 where it is not so.
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "config", "expect", "api", "decrypt", "history", "rehearse", "resources", "kms_sockets",
        "etcd_servers_overrides", "prefix",
    ])]
    pub(crate) certificate: Option<PathBuf>,
    /// A resource to count, such as secrets or widgets.example.com; repeatable [default: what the
    /// configuration names, else secrets].
    #[arg(long = "resource", value_name = "RESOURCE")]
    pub(crate) resources: Vec<String>,
    /// Where a KMS v2 plugin can be asked for its current key_id [default: the configuration's
    /// endpoint].
    #[arg(long = "kms-socket", value_name = "NAME=PATH")]
    pub(crate) kms_sockets: Vec<KmsSocket>,
    /// Have the KMS v2 plugins of the configuration vouch for the report, by encrypting its digest:
    /// the proof that `atrest-kms keyring retire` asks for. Of a running etcd, as JSON or YAML.
    #[arg(long, requires = "config", conflicts_with_all = [
        "api", "expect", "resources", "snapshot", "data_dir",
    ])]
    pub(crate) attest: bool,
    /// How many values that are not current are listed; 0 for all.
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    pub(crate) max_objects: usize,
    /// A file that `etcdctl snapshot save` wrote, instead of a running etcd. Of several, or with
    /// --rehearse: which of them needs which key.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "endpoints")]
    pub(crate) snapshot: Vec<PathBuf>,
    /// The data directory of a member of etcd that is stopped, instead of a running etcd.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["endpoints", "snapshot"])]
    pub(crate) data_dir: Option<PathBuf>,
    /// kube-apiserver's own --etcd-servers-overrides: what is kept in another etcd is not seen here.
    #[arg(long, value_name = "GROUP/RESOURCE#SERVERS", value_delimiter = ',')]
    pub(crate) etcd_servers_overrides: Vec<Override>,
    #[command(flatten)]
    pub(crate) etcd: EtcdFlags,
}

/// A resource that is kept in an etcd of its own.
#[derive(Clone, Debug)]
pub(crate) struct Override(pub(crate) GroupResource);

impl FromStr for Override {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let resource = text.split_once('#').and_then(|it| it.0.split_once('/'));
        match resource {
            Some((group, resource)) if !resource.is_empty() => Ok(Self(GroupResource {
                group: group.into(),
                resource: resource.into(),
            })),
            _ => Err("not GROUP/RESOURCE#SERVERS, such as /events#https://127.0.0.1:4379"),
        }
    }
}

/// A KMS provider's name and its plugin's socket.
#[derive(Clone, Debug)]
pub(crate) struct KmsSocket {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

impl FromStr for KmsSocket {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok(Self {
                name: name.into(),
                path: path.into(),
            }),
            _ => Err("not NAME=PATH"),
        }
    }
}
