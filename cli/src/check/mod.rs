//! Reads what `atrest check` judges.

mod crypto;
mod file;
mod kubeconfig;
pub(crate) mod node;

pub(crate) use self::crypto::Crypto;
