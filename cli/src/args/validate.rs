//! `atrest validate`

/// Give kube-apiserver's verdict on EncryptionConfiguration files.
#[derive(Debug, clap::Args)]
pub(crate) struct Validate {}
