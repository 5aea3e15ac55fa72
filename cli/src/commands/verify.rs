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
    let mut etcd = etcd::Client::connect(&arguments.etcd).await?;
    let namespace = format!(
        "{}kube-system",
        GroupResource::parse("namespaces").directory(arguments.etcd.prefix())
    );
    if etcd.mod_revision(&namespace).await?.is_none() {
        // An empty census would be clean.
        return Err(Failure::unread(format!(
            "this etcd has no {namespace}: it is not where a kube-apiserver keeps its objects"
        ))
        .hint("check --etcd-endpoints and --etcd-prefix against the API server's own flags"));
    }
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
    let (census, revision) = etcd::census(&mut etcd, &question).await?;
    let source = Source {
        etcd_id: etcd.cluster_id.clone(),
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
