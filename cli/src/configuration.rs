//! EncryptionConfiguration files that a command works with.

use std::path::Path;

use atrest_core::at_rest::GroupResource;
use atrest_core::encryption_config::{EncryptionConfiguration, Server, judge};
use atrest_core::secret::Fingerprint;

use crate::status::Failure;

/// A file that kube-apiserver accepts, and what it was when it was read.
pub(crate) struct Loaded {
    pub(crate) configuration: EncryptionConfiguration,
    /// The SHA-256 of the file: what an API server that has loaded it reports.
    pub(crate) fingerprint: Fingerprint,
}

/// Reads a file and insists that kube-apiserver accepts it.
pub(crate) fn load(path: &Path) -> Result<Loaded, Failure> {
    let source = atrest_files::read(path).map_err(|error| {
        Failure::unusable(error).hint("name the EncryptionConfiguration that the API server reads")
    })?;
    // Every gate on: what an older server accepts can be read, too.
    let server = Server {
        kmsv1: true,
        automatic_reload: true,
        ..Server::default()
    };
    let judgement = judge(source.expose(), &server);
    match judgement.configuration {
        Some(configuration) => Ok(Loaded {
            configuration,
            fingerprint: source.fingerprint(),
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

/// Every resource that an entry names, wildcards among them.
pub(crate) fn named_resources(configuration: &EncryptionConfiguration) -> Vec<GroupResource> {
    let names = configuration
        .resources
        .iter()
        .flat_map(|entry| &entry.resources);
    names.map(|name| GroupResource::parse(name)).collect()
}
