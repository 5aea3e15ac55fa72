//! What expires, what does not fit together and what is open on a node of kubeadm's, from facts that the
//! caller read.

mod certificate;
mod chain;
mod contract;
mod der;
mod expected;
mod finding;
mod judge;
mod key;
mod kubeconfig;
mod layout;
mod live;
mod mode;
mod node;
pub mod pem;
mod policy;
mod role;
mod rules;
mod static_pod;
mod time;

pub use self::certificate::{
    Authority, Certificate, Error, San, SignatureAlgorithm, Subject, Usage, Usages,
};
pub use self::chain::{Fault, Paths, Signature, Signatures};
pub use self::finding::{Entry, Finding, Report, Unread, Verdict};
pub use self::judge::judge;
pub use self::key::{KeyKind, PublicHalf, PublicKey, private};
pub use self::kubeconfig::{Cluster, Context, Kubeconfig, Trust, User, UserCredential};
pub use self::layout::{Facts, Layout, Pair, Path};
pub use self::live::{Api, Live, Served, Stale, Target, Trial};
pub use self::mode::{AclEntry, FileState, acl};
pub use self::node::{Bundle, Credential, Key, Missing, Node, ServiceAccountKeys};
pub use self::policy::Policy;
pub use self::role::{Anchor, ConfOwner, Role};
pub use self::rules::{Effect, Rule};
pub use self::static_pod::StaticPod;
pub use self::time::Time;
