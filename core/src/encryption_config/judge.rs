//! kube-apiserver's verdict on a file, with every reason that it has and where it lies.

use std::time::Duration;

use serde::Serialize;

use super::decode::{At, Draft, Element, Entry, List, NamedKey, decode};
use super::finding::{Finding, Place, Report, fault};
use super::model::{EncryptionConfiguration, Key, Kms, KmsVersion, Provider, ResourceEntry};
use super::tree::{MAX_BYTES, Text, Tree};
use super::{dialect, ids, json, rules, yaml};

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
    let reject = |stage, findings| Judgement {
        stage,
        findings,
        configuration: None,
    };
    if source.is_empty() {
        let finding = fault(
            ids::EMPTY,
            "",
            Place::START,
            "the file is empty",
            "make one with `atrest generate`",
        );
        return reject(Stage::Empty, vec![finding]);
    }
    let draft = match decode_source(source, server) {
        Ok((_, draft, findings)) if findings.is_empty() => draft,
        Ok((_, _, mut findings)) => {
            findings.sort_by_key(|finding| (finding.line, finding.column));
            findings.truncate(Report::MOST);
            return reject(Stage::Decode, findings);
        }
        Err(findings) => return reject(Stage::Decode, findings),
    };
    for (stage, rules) in [
        (
            Stage::Validate,
            rules::validate as fn(&Draft, &Server) -> Report,
        ),
        (Stage::Load, rules::load),
    ] {
        let findings = rules(&draft, server).into_findings();
        if !findings.is_empty() {
            return reject(stage, findings);
        }
    }
    Judgement {
        stage: Stage::Ok,
        findings: Vec::new(),
        configuration: Some(configuration(&draft)),
    }
}

/// The tree and the draft of a file, and what the server's decoder refuses in it.
pub(super) fn decode_source(
    source: &[u8],
    server: &Server,
) -> Result<(Tree, Draft, Vec<Finding>), Vec<Finding>> {
    if source.len() > MAX_BYTES {
        return Err(vec![fault(
            ids::TOO_LARGE,
            "",
            Place::START,
            "the file has more than 16 MiB",
            "an EncryptionConfiguration has a few KiB: check that this is one",
        )]);
    }
    if is_json(source) {
        let tree = json::read(source).map_err(|finding| vec![finding])?;
        let (draft, findings) = decode(&tree, false, server)?;
        return Ok((tree, draft, findings));
    }
    let (tree, duplicates) = yaml::read(source).map_err(|finding| vec![finding])?;
    let (draft, mut findings) = decode(&tree, true, server)?;
    if server.is_strict() {
        findings.extend(duplicates);
    }
    Ok((tree, draft, findings))
}

/// Go's own test: the first character that is no white space, of any script, is a brace.
pub(super) fn is_json(source: &[u8]) -> bool {
    let text = match std::str::from_utf8(source) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&source[..error.valid_up_to()]).unwrap_or_default(),
    };
    text.trim_start().starts_with('{')
}

/// Takes over a draft in which no rule found fault.
fn configuration(draft: &Draft) -> EncryptionConfiguration {
    let entry = |entry: &Entry| ResourceEntry {
        resources: entry.resources.iter().map(text).collect(),
        providers: entry.providers.iter().filter_map(provider).collect(),
    };
    EncryptionConfiguration {
        resources: draft.entries.iter().map(entry).collect(),
    }
}

fn provider(element: &Element) -> Option<Provider> {
    let keys = |keys: &At<List<NamedKey>>| keys.value.iter().filter_map(key).collect();
    if let Some(plugin) = &element.kms {
        let timeout = plugin
            .timeout
            .as_ref()
            .and_then(|at| u64::try_from(at.value).ok());
        return Some(Provider::Kms(Kms {
            api_version: match plugin.api_version.value.expose() {
                "v1" => KmsVersion::V1,
                _ => KmsVersion::V2,
            },
            name: text(&plugin.name),
            endpoint: text(&plugin.endpoint),
            timeout: timeout.map_or(Kms::DEFAULT_TIMEOUT, Duration::from_nanos),
            cachesize: plugin.cachesize.as_ref().map(|at| at.value),
        }));
    }
    if let Some(at) = &element.aesgcm {
        return Some(Provider::AesGcm(keys(at)));
    }
    if let Some(at) = &element.aescbc {
        return Some(Provider::AesCbc(keys(at)));
    }
    if let Some(at) = &element.secretbox {
        return Some(Provider::Secretbox(keys(at)));
    }
    element.identity.then_some(Provider::Identity)
}

fn key(key: &NamedKey) -> Option<Key> {
    Some(Key {
        name: text(&key.name),
        secret: dialect::base64(key.secret.value.expose())?,
    })
}

fn text(at: &At<Text>) -> String {
    at.value.expose().to_owned()
}
