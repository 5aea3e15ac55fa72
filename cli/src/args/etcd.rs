//! The flags that say where etcd is, the same for every command.

use std::path::PathBuf;

use atrest_core::at_rest::DEFAULT_PREFIX;

/// Where etcd is, named as etcdctl and kube-apiserver name it.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "etcd")]
pub(crate) struct EtcdFlags {
    /// An address such as https://127.0.0.1:2379; repeatable or separated by commas.
    #[arg(
        long = "etcd-endpoints",
        global = true,
        value_name = "URL",
        value_delimiter = ','
    )]
    pub(crate) endpoints: Vec<String>,
    /// The CA that signed etcd's server certificate.
    #[arg(long = "etcd-cacert", global = true, value_name = "FILE")]
    pub(crate) cacert: Option<PathBuf>,
    /// The client certificate.
    #[arg(
        long = "etcd-cert",
        global = true,
        value_name = "FILE",
        requires = "key"
    )]
    pub(crate) cert: Option<PathBuf>,
    /// The client certificate's key.
    #[arg(
        long = "etcd-key",
        global = true,
        value_name = "FILE",
        requires = "cert"
    )]
    pub(crate) key: Option<PathBuf>,
    /// kube-apiserver's own --etcd-prefix [default: /registry].
    #[arg(long = "etcd-prefix", global = true, value_name = "PREFIX")]
    pub(crate) prefix: Option<String>,
}

impl EtcdFlags {
    /// Below which kube-apiserver stores everything.
    pub(crate) fn prefix(&self) -> &str {
        self.prefix.as_deref().unwrap_or(DEFAULT_PREFIX)
    }
}
