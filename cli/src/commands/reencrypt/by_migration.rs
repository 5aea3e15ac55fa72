//! `atrest reencrypt --engine svm`

use std::time::Instant;

use atrest_core::at_rest::GroupResource;

use super::{Report, find, servers};
use crate::args::{Global, Reencrypt};
use crate::configuration;
use crate::etcd::{self, Question};
use crate::kms;
use crate::report;
use crate::report::progress::Progress;
use crate::rotate::rewrite::svm;
use crate::status::{ExitStatus, Failure};

pub(super) async fn run(global: &Global, arguments: &Reencrypt) -> Result<ExitStatus, Failure> {
    let Some(config) = &arguments.config else {
        return Err(Failure::unusable(
            "--engine svm counts what is left, and has no configuration to count by",
        )
        .hint("name the file that every API server runs with: --config FILE"));
    };
    let file = configuration::load(config)?;
    let servers = servers(global, arguments).await?;
    let mut etcd = etcd::Client::connect(&arguments.etcd).await?;
    let names = arguments.resources.iter();
    let names: Vec<_> = names.map(|name| GroupResource::parse(name)).collect();
    let mut resources = Vec::new();
    for name in &arguments.resources {
        resources.push(find(&servers[0], name).await?);
    }
    let key_ids = kms::key_ids(&file.configuration, &arguments.kms_sockets).await;
    let question = Question::of(
        arguments.etcd.prefix(),
        &names,
        &file.configuration,
        &key_ids,
        svm::TO_WAKE,
    );
    if arguments.dry_run {
        super::would_rewrite(&mut etcd, &question).await?;
        return Ok(ExitStatus::Done);
    }
    let mut status = ExitStatus::Done;
    for (name, resource) in names.iter().zip(&resources) {
        let start = Instant::now();
        let progress = Progress::start(&name.to_string(), global.quiet);
        let outcome = svm::rewrite(svm::Task {
            server: &servers[0],
            resource,
            name,
            etcd: etcd.clone(),
            question: Question {
                resources: std::slice::from_ref(name),
                ..question
            },
            progress: &progress,
        })
        .await?;
        drop(progress);
        if !outcome.set_aside.is_empty() {
            status = ExitStatus::Stopped;
        }
        let report = Report::new("svm", &name.to_string(), outcome, start);
        report::render(global.output, &report, || report.text())?;
    }
    Ok(status)
}
