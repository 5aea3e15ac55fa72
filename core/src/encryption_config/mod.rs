//! The `EncryptionConfiguration` file of kube-apiserver: reading it with the server's eyes, writing
//! one that it loads.

mod buffer;
mod decode;
mod dialect;
mod edit;
mod enablement;
mod fields;
mod finding;
mod fix;
mod form;
mod go;
mod ids;
mod json;
mod judge;
mod lint;
mod mask;
mod mint;
mod model;
mod profile;
mod quirks;
mod render;
mod resolve;
mod rules;
mod tree;
mod yaml;

pub use self::edit::{Change, EditError, Extended, Refusal, rewrite};
pub use self::enablement::{
    ClusterConfiguration, Error as EnablementError, HostFile, Manifest, Setting,
};
pub use self::finding::{Finding, Kind, Origin, Severity};
pub use self::fix::{Fixed, Mend, fix};
pub use self::ids::Rule;
pub use self::judge::{Judgement, Server, Stage, Verdict, judge};
pub use self::lint::{Directory, File, Served, Surroundings, compare, lint};
pub use self::mask::mask;
pub use self::mint::MintError;
pub use self::model::{EncryptionConfiguration, Key, Kms, KmsVersion, Provider, ResourceEntry};
pub use self::profile::Profile;
pub use self::render::{Format, render};
