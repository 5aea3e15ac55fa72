//! EncryptionConfiguration files that a command works with.

use std::path::Path;

use atrest_core::at_rest::GroupResource;
use atrest_core::encryption_config::{EditError, EncryptionConfiguration, Server, judge, rewrite};
use atrest_core::secret::{Fingerprint, SecretBytes};

use crate::status::Failure;

/// A file that kube-apiserver accepts, and what it was when it was read.
pub(crate) struct Loaded {
    pub(crate) configuration: EncryptionConfiguration,
    /// What it is read from.
    pub(crate) source: SecretBytes,
    /// The SHA-256 of the file: what an API server that has loaded it reports.
    pub(crate) fingerprint: Fingerprint,
}

/// Reads a file and insists that kube-apiserver accepts it.
pub(crate) fn load(path: &Path) -> Result<Loaded, Failure> {
    let source = atrest_files::read(path).map_err(|error| {
        Failure::unusable(error).hint("name the EncryptionConfiguration that the API server reads")
    })?;
    judged(source, path)
}

/// Insists that kube-apiserver accepts what a file holds.
pub(crate) fn judged(source: SecretBytes, path: &Path) -> Result<Loaded, Failure> {
    let judgement = judge(source.expose(), &server());
    match judgement.configuration {
        Some(configuration) => Ok(Loaded {
            configuration,
            fingerprint: source.fingerprint(),
            source,
        }),
        None => {
            let path = path.display();
            let reason = judgement.findings.first().map_or_else(
                || "it is rejected".to_owned(),
                |finding| format!("{}:{}: {}", finding.line, finding.column, finding.message),
            );
            Err(
                Failure::unusable(format!("kube-apiserver would reject {path}: {reason}"))
                    .hint(format!("atrest validate {path} says all that is wrong")),
            )
        }
    }
}

/// The text of a file edited until it says what is meant, if kube-apiserver accepts that. Comments
/// and whatever else is not concerned stay as they are: where they cannot, it is refused.
pub(crate) fn edit(
    source: &SecretBytes,
    to: &EncryptionConfiguration,
) -> Result<SecretBytes, Failure> {
    rewrite(source.expose(), to, &server()).map_err(|error| {
        let hint = match error {
            EditError::Obstacle { .. } => {
                "give each item of the list lines of its own, with its comments above it"
            }
            EditError::Utf16 => "iconv -f UTF-16 -t UTF-8 does it",
            EditError::Rejected | EditError::Unacceptable(_) => {
                "atrest validate --automatic-reload says what is wrong with the one that there is"
            }
            _ => "write the file out without anchors, aliases and tags",
        };
        Failure::unusable(format!("the configuration cannot be edited: {error}")).hint(hint)
    })
}

/// Every gate on: what a server was told to accept is not refused by us.
fn server() -> Server {
    Server {
        kmsv1: true,
        automatic_reload: true,
        ..Server::default()
    }
}

/// Every resource that an entry names, wildcards among them.
pub(crate) fn named_resources(configuration: &EncryptionConfiguration) -> Vec<GroupResource> {
    let names = configuration
        .resources
        .iter()
        .flat_map(|entry| &entry.resources);
    names.map(|name| GroupResource::parse(name)).collect()
}
