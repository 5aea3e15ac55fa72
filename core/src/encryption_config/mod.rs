//! The `EncryptionConfiguration` file of kube-apiserver.

mod model;

pub use self::model::{EncryptionConfiguration, Key, Kms, KmsVersion, Provider, ResourceEntry};
