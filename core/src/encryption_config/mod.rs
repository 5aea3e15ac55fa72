//! The `EncryptionConfiguration` file of kube-apiserver: reading it with the server's eyes, writing
//! one that it loads.

mod decode;
mod dialect;
mod fields;
mod finding;
mod ids;
mod json;
mod judge;
mod mint;
mod model;
mod render;
mod resolve;
mod rules;
mod tree;
mod yaml;

pub use self::finding::{Finding, Kind, Origin, Severity};
pub use self::ids::Rule;
pub use self::judge::{Judgement, Server, Stage, Verdict, judge};
pub use self::mint::MintError;
pub use self::model::{EncryptionConfiguration, Key, Kms, KmsVersion, Provider, ResourceEntry};
pub use self::render::{Format, render};
