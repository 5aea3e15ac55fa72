//! What was read on a node.

use super::certificate::Certificate;
use super::finding::Unread;
use super::key::{PublicHalf, PublicKey};
use super::kubeconfig::Kubeconfig;
use super::layout::Facts;
use super::live::Live;
use super::mode::FileState;
use super::role::{Anchor, Role};

/// What was read on a node.
#[derive(Debug, Default)]
pub struct Node {
    /// Its static pods and what its kubelet is told.
    pub facts: Facts,
    /// What is trusted.
    pub bundles: Vec<Bundle>,
    /// Certificates, those of kubeconfigs among them.
    pub credentials: Vec<Credential>,
    /// Kubeconfigs.
    pub kubeconfigs: Vec<Kubeconfig>,
    /// The keys of ServiceAccounts' tokens.
    pub service_accounts: Vec<ServiceAccountKeys>,
    /// All public keys that tokens are verified with; `None` where not all could be read.
    pub token_keys: Option<Vec<PublicKey>>,
    /// What runs; `None` where it was not asked for.
    pub live: Option<Live>,
    /// Who can read and change the files.
    pub files: Vec<FileState>,
    /// The id of the user whom the machine belongs to.
    pub owner: u32,
    /// Files that are not there and should be.
    pub missing: Vec<Missing>,
    /// What could not be read.
    pub unread: Vec<Unread>,
}

/// A file of certificates that somebody trusts.
#[derive(Debug)]
pub struct Bundle {
    /// Who.
    pub anchor: Anchor,
    /// Its path.
    pub object: String,
    /// What is in it.
    pub certificates: Vec<Certificate>,
}

/// A certificate, what is sent with it, and its key.
#[derive(Debug)]
pub struct Credential {
    /// What it is for.
    pub role: Role,
    /// Its path, and the user of a kubeconfig.
    pub object: String,
    /// Where its key is.
    pub key_object: String,
    /// The certificate first.
    pub presented: Vec<Certificate>,
    /// Its key.
    pub key: Key,
}

/// A private key, of which nothing but its public half is known here.
#[derive(Debug)]
pub enum Key {
    /// It was read.
    Half(PublicHalf),
    /// It is not there, and need not be, or that was said.
    Absent,
    /// It could not be read, which was said.
    Unread,
}

/// The keys of ServiceAccounts' tokens.
#[derive(Debug)]
pub struct ServiceAccountKeys {
    /// Where the private one is.
    pub private_object: String,
    /// The private one.
    pub private: PublicHalf,
    /// Where the public ones are, and what they are.
    pub public: Vec<(String, Vec<PublicKey>)>,
}

/// A file that is not there.
#[derive(Debug)]
pub struct Missing {
    /// Its path.
    pub object: String,
    /// Who needs it.
    pub needed_by: String,
}
