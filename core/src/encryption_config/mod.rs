//! The `EncryptionConfiguration` file of kube-apiserver: reading it with the server's eyes, writing
//! one that it loads.

mod finding;
mod judge;
mod mint;
mod model;
mod render;
mod resolve;
mod tree;

pub use self::finding::{Finding, Kind, Origin, Severity};
pub use self::judge::{Judgement, Server, Stage, Verdict, judge};
pub use self::mint::MintError;
pub use self::model::{EncryptionConfiguration, Key, Kms, KmsVersion, Provider, ResourceEntry};
pub use self::render::{Format, render};
