//! kube-apiserver's verdict on a file, with every reason that it has and where it lies.

use serde::Serialize;

use super::finding::Finding;
use super::model::EncryptionConfiguration;

/// The kube-apiserver that judges.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Server {
    /// The NN of its release 1.NN.
    pub minor: u32,
    /// The feature gate KMSv1.
    pub kmsv1: bool,
    /// The feature gate KMSv2, or whether it is there without one.
    pub kmsv2: bool,
    /// `--encryption-provider-config-automatic-reload`.
    pub automatic_reload: bool,
}

impl Server {
    /// The newest release whose rules are known here.
    pub const NEWEST: u32 = 37;
    /// The oldest release that has these rules: resource names and wildcards came with it.
    pub const OLDEST: u32 = 27;

    /// The release 1.`minor` with its default feature gates, without automatic reload.
    pub fn release(minor: u32) -> Self {
        Self {
            minor,
            kmsv1: minor < 29,
            kmsv2: minor >= 27,
            automatic_reload: false,
        }
    }

    /// Whether unknown and duplicate fields are errors.
    pub(crate) fn is_strict(self) -> bool {
        self.minor >= 31
    }
}

impl Default for Server {
    /// The newest known release.
    fn default() -> Self {
        Self::release(Self::NEWEST)
    }
}

/// How far the server gets with a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// To the end: it accepts the file.
    Ok,
    /// The file has no byte.
    Empty,
    /// It is not the YAML or JSON of an EncryptionConfiguration.
    Decode,
    /// It breaks a rule of the API.
    Validate,
    /// It cannot be made into transformers.
    Load,
}

/// Whether the server takes the file.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It runs with it.
    Accept,
    /// It refuses to start, or keeps the file that it has.
    Reject,
}

/// A verdict and its reasons.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// Where the server stops.
    pub stage: Stage,
    /// In the server's order.
    pub findings: Vec<Finding>,
    /// `Some` exactly when the server accepts the file.
    pub configuration: Option<EncryptionConfiguration>,
}

impl Judgement {
    /// Whether the server takes the file.
    pub fn verdict(&self) -> Verdict {
        match self.stage {
            Stage::Ok => Verdict::Accept,
            _ => Verdict::Reject,
        }
    }
}

/// What the server makes of the bytes of a file.
pub fn judge(source: &[u8], server: &Server) -> Judgement {
    let _ = (source, server.is_strict());
    Judgement {
        stage: Stage::Empty,
        findings: Vec::new(),
        configuration: None,
    }
}
