//! `atrest verify`

mod api;
mod certificate;

use std::collections::BTreeMap;
use std::path::PathBuf;

use atrest_core::at_rest::{Expectation, GroupResource, Verdict};
use atrest_core::encryption_config::EncryptionConfiguration;
use atrest_core::secret::Fingerprint;

use crate::args::{Global, Verify};
use crate::configuration;
use crate::etcd::{self, Keyspace, NONE_WAIVED, Prover, Question, census_of_file};
use crate::kms;
use crate::report;
use crate::report::backups::{Backups, Restorable};
use crate::report::progress::Progress;
use crate::report::verify::{Report, Source};
use crate::status::{ExitStatus, Failure};

/// Runs the command.
pub(crate) async fn run(global: &Global, arguments: &Verify) -> Result<ExitStatus, Failure> {
    if let Some(path) = &arguments.certificate {
        return certificate::run(global, arguments, path).await;
    }
    let load = |path: &Option<PathBuf>| path.as_deref().map(configuration::load).transpose();
    let config = load(&arguments.config)?;
    let expect = load(&arguments.expect)?;
    let judge = expect.as_ref().or(config.as_ref());
    let configuration = judge.map(|it| &it.configuration);
    // What the servers read besides what should hold.
    let also_read_by = match (&expect, &config) {
        (Some(_), Some(config)) => Some(&config.configuration),
        _ => None,
    };
    let resources = resources(&arguments.resources, configuration)?;
    let server = match arguments.api {
        true => Some(api::Server::connect(global, config.as_ref()).await?),
        false => None,
    };
    let key_ids = match (configuration, &server) {
        (_, Some(server)) => server.key_ids.clone(),
        (Some(configuration), None) => kms::key_ids(configuration, &arguments.kms_sockets).await,
        (None, None) => BTreeMap::new(),
    };
    let elsewhere = arguments
        .etcd_servers_overrides
        .iter()
        .map(|it| it.0.clone());
    let elsewhere: Vec<_> = elsewhere.collect();
    let max_listed = match arguments.max_objects {
        0 => usize::MAX,
        limit => limit,
    };
    let question = Question {
        elsewhere: &elsewhere,
        prefix: arguments.etcd.prefix(),
        resources: &resources,
        among: None,
        and_others: arguments.resources.is_empty() && configuration.is_some(),
        expectation: configuration.map(|configuration| Expectation {
            configuration,
            also_read_by,
            key_ids: &key_ids,
        }),
        max_listed,
        max_orphans: max_listed,
        waived: &NONE_WAIVED,
        at: None,
    };
    let readers: Vec<_> = configuration.into_iter().chain(also_read_by).collect();
    let prover = || {
        let readers = readers.iter().copied().map(|configuration| {
            let sockets = &arguments.kms_sockets;
            let plugins = kms::Unwrapper::new(configuration, sockets, key_ids.clone());
            (configuration, plugins)
        });
        let proves = arguments.decrypt || arguments.rehearse;
        proves.then(|| Prover::new(readers.collect()))
    };
    let fingerprint = judge.map(|it| it.fingerprint);
    if arguments.rehearse || arguments.snapshot.len() > 1 {
        if arguments.history {
            return Err(Failure::unusable("--history is of one file")
                .hint("name one snapshot, or leave --history out"));
        }
        return backups(global, arguments, &question, prover, fingerprint);
    }
    let (kind, etcd_id, counted) = match (&*arguments.snapshot, &arguments.data_dir) {
        _ if let Some(server) = &server => {
            ("api", None, server.census(&question, global.quiet).await?)
        }
        ([path, ..], _) => {
            let keyspace = Keyspace::snapshot(path, global.quiet)?;
            let counted = census_of_file(keyspace, &question, prover(), arguments.history)?;
            ("snapshot", None, counted)
        }
        ([], Some(path)) => {
            let keyspace = Keyspace::data_directory(path, global.quiet)?;
            let counted = census_of_file(keyspace, &question, prover(), arguments.history)?;
            ("datadir", None, counted)
        }
        ([], None) if arguments.history => {
            return Err(Failure::unusable(
                "--history is of files: a running etcd shows neither free pages nor its log",
            )
            .hint(
                "etcdctl snapshot save, then --snapshot FILE; or --data-dir of a stopped member",
            ));
        }
        ([], None) if arguments.etcd.endpoints.is_empty() => {
            let others = "--snapshot FILE, --data-dir DIR, or --api to ask the API server alone";
            return Err(Failure::unusable("no etcd endpoint").hint(format_args!(
                "{}; instead of it: {others}",
                etcd::ON_KUBEADM
            )));
        }
        ([], None) => {
            let mut etcd = etcd::Client::connect(&arguments.etcd).await?;
            let progress = Progress::start("values", global.quiet);
            let counted = etcd::census_shown(&mut etcd, &question, prover(), &progress).await?;
            ("etcd", Some(etcd.cluster_id), counted)
        }
    };
    let source = Source {
        kind,
        etcd_id,
        config: fingerprint,
    };
    let mut report = Report::new(&counted, &source);
    if let (true, Some(configuration)) = (arguments.attest, configuration) {
        report.attest(configuration, &arguments.kms_sockets).await?;
    }
    report::render(global.output, &report, || report.text())?;
    Ok(match counted.census.verdict() {
        Verdict::Clean => ExitStatus::Done,
        Verdict::Dirty => ExitStatus::Findings,
        Verdict::Unknown => ExitStatus::Unread,
    })
}

/// Which snapshot needs which key.
fn backups<'a>(
    global: &Global,
    arguments: &Verify,
    question: &Question<'_>,
    prover: impl Fn() -> Option<Prover<'a>>,
    config: Option<Fingerprint>,
) -> Result<ExitStatus, Failure> {
    if arguments.snapshot.is_empty() {
        return Err(Failure::unusable("there is no backup to rehearse")
            .hint("name what etcdctl snapshot save wrote: --snapshot FILE..."));
    }
    let mut counted = Vec::new();
    for path in &arguments.snapshot {
        let keyspace = Keyspace::snapshot(path, global.quiet)?;
        let backup = census_of_file(keyspace, question, prover(), false)?;
        counted.push((path.as_path(), backup));
    }
    let report = Backups::new(&counted, arguments.rehearse, config);
    report::render(global.output, &report, || report.text())?;
    Ok(match report.verdict() {
        Restorable::Yes => ExitStatus::Done,
        Restorable::No => ExitStatus::Findings,
        Restorable::Unknown => ExitStatus::Unread,
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
    if asked.is_empty() {
        // What they stand for is found where the values are.
        resources.retain(|resource| !resource.is_wildcard());
    }
    match resources.iter().find(|resource| resource.is_wildcard()) {
        None => Ok(resources),
        Some(wildcard) => Err(Failure::unusable(format!(
            "{wildcard} stands for no list of resources here"
        ))
        .hint(
            "leave --resource out: what the configuration's wildcards cover is found in etcd; \
             or name what to count",
        )),
    }
}
