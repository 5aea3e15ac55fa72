//! `atrest reencrypt --engine etcd`

use std::path::Path;
use std::time::Instant;

use atrest_core::at_rest::GroupResource;

use super::{Report, find, servers, would_rewrite};
use crate::args::{Global, Reencrypt};
use crate::commands::confirmed;
use crate::configuration::{self, Loaded};
use crate::etcd::{self, Question};
use crate::kms;
use crate::report;
use crate::report::progress::Progress;
use crate::rotate::Lock;
use crate::rotate::rewrite::Pace;
use crate::rotate::rewrite::etcd::{Barrier, Engine, Means, SKIPPED, Unverified};
use crate::status::{ExitStatus, Failure};

pub(super) async fn run(global: &Global, arguments: &Reencrypt) -> Result<ExitStatus, Failure> {
    let flags = &arguments.in_etcd;
    let path = config(arguments)?;
    let file = configuration::load(path)?;
    let servers = servers(global, arguments).await?;
    for name in &arguments.resources {
        find(&servers[0], name).await?;
    }
    let names = arguments.resources.iter();
    let resources: Vec<_> = names.map(|name| GroupResource::parse(name)).collect();
    let mut etcd = etcd::Client::connect(&arguments.etcd).await?;
    let barrier = Barrier {
        servers: &servers,
        prefix: arguments.etcd.prefix(),
        resources: &resources,
        path,
        file: &file,
        unverified: match flags.unverified_config {
            true => Unverified::Warned,
            false => Unverified::Refused,
        },
    };
    let dek_source = barrier.check(&etcd).await?;
    if arguments.dry_run {
        return dry_run(&mut etcd, arguments, &file, &resources).await;
    }
    if !flags.yes {
        ask()?;
    } else if !global.quiet {
        report::say(SKIPPED);
    }
    let _lock = Lock::acquire(&flags.state_dir)?;
    let pace = Pace::default().with(&arguments.pace);
    let mut engine = Engine::new(Means {
        servers: &servers,
        etcd,
        flags: &arguments.etcd,
        configuration: &file.configuration,
        sockets: &arguments.kms_sockets,
        dek_source,
        state_dir: &flags.state_dir,
        canary_namespace: &flags.canary_namespace,
        quiet: global.quiet,
    })
    .await?;
    let mut status = ExitStatus::Done;
    for (name, resource) in arguments.resources.iter().zip(&resources) {
        let start = Instant::now();
        let progress = Progress::start(name, global.quiet);
        let outcome = engine.rewrite(resource, pace, &progress).await?;
        drop(progress);
        if !outcome.set_aside.is_empty() {
            status = ExitStatus::Stopped;
        }
        let report = Report::new("etcd", name, outcome, start);
        report::render(global.output, &report, || report.text())?;
    }
    Ok(status)
}

fn config(arguments: &Reencrypt) -> Result<&Path, Failure> {
    let config = arguments.config.as_deref();
    config.ok_or_else(|| {
        Failure::unusable("--engine etcd encrypts by itself, and has no configuration")
            .hint("name the file that every API server runs with: --config FILE")
    })
}

fn ask() -> Result<(), Failure> {
    let no = || Failure::unusable("nothing was changed");
    report::say(SKIPPED);
    match confirmed("rewrite in etcd?") {
        Some(true) => Ok(()),
        Some(false) => Err(no()),
        None => Err(no().hint("say --yes where nobody can be asked")),
    }
}

/// What a census says: nothing is decrypted.
async fn dry_run(
    etcd: &mut etcd::Client,
    arguments: &Reencrypt,
    file: &Loaded,
    resources: &[GroupResource],
) -> Result<ExitStatus, Failure> {
    let configuration = &file.configuration;
    let key_ids = kms::key_ids(configuration, &arguments.kms_sockets).await;
    let question = Question::of(
        arguments.etcd.prefix(),
        resources,
        configuration,
        &key_ids,
        0,
    );
    would_rewrite(etcd, &question).await?;
    Ok(ExitStatus::Done)
}
