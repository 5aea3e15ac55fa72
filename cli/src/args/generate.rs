//! `atrest generate`

/// Write a new EncryptionConfiguration with fresh keys.
#[derive(Debug, clap::Args)]
pub(crate) struct Generate {}
