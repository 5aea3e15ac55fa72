//! Reads what `atrest check` judges.

mod crypto;
mod file;
mod handshake;
mod kubeconfig;
pub(crate) mod live;
pub(crate) mod node;
mod process;

pub(crate) use self::crypto::Crypto;
