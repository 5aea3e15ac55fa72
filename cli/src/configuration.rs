//! EncryptionConfiguration files that a command works with.

use std::path::Path;

use atrest_core::at_rest::GroupResource;
use atrest_core::encryption_config::{EncryptionConfiguration, Format, Server, judge, render};
use atrest_core::secret::{Fingerprint, SecretBytes};

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
    let judgement = judge(source.expose(), &server());
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

/// The bytes of a configuration, if kube-apiserver accepts them for what was meant.
pub(crate) fn render_accepted(
    configuration: &EncryptionConfiguration,
) -> Result<SecretBytes, Failure> {
    let bytes = render(configuration, Format::Yaml);
    match judge(bytes.expose(), &server()).configuration {
        Some(read) if read == *configuration => Ok(bytes),
        _ => Err(Failure::unusable(
            "the edited configuration would not be accepted; nothing was written",
        )
        .hint("atrest validate --automatic-reload says what is wrong with the one that there is")),
    }
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
