//! `atrest verify`

use std::collections::BTreeMap;

use atrest_core::at_rest::{GroupResource, Verdict};
use atrest_core::encryption_config::EncryptionConfiguration;
use atrest_core::secret::Fingerprint;

use crate::args::{Global, Verify};
use crate::configuration;
use crate::etcd::{self, Question};
use crate::kms;
use crate::report;
use crate::report::verify::{Report, Source};
use crate::status::{ExitStatus, Failure};

/// Runs the command.
pub(crate) async fn run(global: &Global, arguments: &Verify) -> Result<ExitStatus, Failure> {
    let config = match &arguments.config {
        Some(path) => Some(configuration::load(path)?),
        None => None,
    };
    let (configuration, fingerprint): (Option<&EncryptionConfiguration>, Option<Fingerprint>) =
        match &config {
            Some(config) => (Some(&config.configuration), Some(config.fingerprint)),
            None => (None, None),
        };
    let resources = resources(&arguments.resources, configuration)?;
    let key_ids = match configuration {
        Some(configuration) => kms::key_ids(configuration, &arguments.kms_sockets).await,
        None => BTreeMap::new(),
    };
    let question = Question {
        prefix: arguments.etcd.prefix(),
        resources: &resources,
        configuration,
        key_ids: &key_ids,
        max_listed: match arguments.max_objects {
            0 => usize::MAX,
            limit => limit,
        },
    };
    let prover = match configuration {
        Some(configuration) if arguments.decrypt => {
            let plugins =
                kms::Unwrapper::new(configuration, &arguments.kms_sockets, key_ids.clone());
            Some(etcd::Prover::new(configuration, &resources, plugins))
        }
        _ => None,
    };
    let (kind, etcd_id, (census, revision)) = match (&arguments.snapshot, &arguments.data_dir) {
        (Some(path), _) => {
            let keyspace = etcd::Keyspace::snapshot(path)?;
            (
                "snapshot",
                None,
                etcd::census_of_file(keyspace, &question, prover)?,
            )
        }
        (None, Some(path)) => {
            let keyspace = etcd::Keyspace::data_directory(path)?;
            (
                "datadir",
                None,
                etcd::census_of_file(keyspace, &question, prover)?,
            )
        }
        (None, None) => {
            let mut etcd = etcd::Client::connect(&arguments.etcd).await?;
            let counted = etcd::census(&mut etcd, &question, prover).await?;
            ("etcd", Some(etcd.cluster_id), counted)
        }
    };
    let source = Source {
        kind,
        etcd_id,
        revision,
        config: fingerprint,
    };
    let report = Report::new(&census, &source);
    report::render(global.output, &report, || report.text())?;
    Ok(match census.verdict() {
        Verdict::Clean => ExitStatus::Done,
        Verdict::Dirty => ExitStatus::Findings,
        Verdict::Unknown => ExitStatus::Unread,
    })
}

/// What was asked for, else what the configuration names, else Secrets.
fn resources(
    asked: &[String],
    configuration: Option<&EncryptionConfiguration>,
) -> Result<Vec<GroupResource>, Failure> {
    let mut resources: Vec<_> = match configuration {
        _ if !asked.is_empty() => asked
            .iter()
            .map(|name| GroupResource::parse(name))
            .collect(),
        Some(configuration) => configuration::named_resources(configuration),
        None => vec![GroupResource::parse("secrets")],
    };
    resources.sort();
    resources.dedup();
    match resources.iter().find(|resource| resource.is_wildcard()) {
        None => Ok(resources),
        Some(wildcard) => Err(Failure::unusable(format!(
            "the configuration covers {wildcard}, and a census counts resources by name"
        ))
        .hint("name what to count: --resource secrets --resource configmaps")),
    }
}
