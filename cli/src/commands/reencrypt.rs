//! `atrest reencrypt`

mod in_etcd;

use std::fmt::Write as _;
use std::time::Instant;

use atrest_core::at_rest::GroupResource;
use serde::Serialize;

use crate::args::{Engine, Global, Reencrypt};
use crate::cluster::{self, ApiResource, ApiServer, Error};
use crate::report;
use crate::report::progress::Progress;
use crate::rotate::rewrite::{Outcome, Pace, SetAside, api};
use crate::status::{ExitStatus, Failure};

/// `atrest/reencrypt/v1`, once for each resource.
#[derive(Debug, Serialize)]
struct Report {
    schema: &'static str,
    engine: &'static str,
    resource: String,
    objects: Objects,
    seconds: f64,
    set_aside: Vec<SetAside>,
}

#[derive(Debug, Serialize)]
struct Objects {
    total: u64,
    rewritten: u64,
    current: u64,
    gone: u64,
    set_aside: u64,
}

/// Runs the command.
pub(crate) async fn run(global: &Global, arguments: &Reencrypt) -> Result<ExitStatus, Failure> {
    match arguments.engine {
        Engine::Api if arguments.in_etcd.is_given() => Err(Failure::unusable(
            "--config, --server, --kms-socket and --unverified-config are of --engine etcd",
        )
        .hint("leave them out, or say --engine etcd")),
        Engine::Api => through_api(global, arguments).await,
        Engine::Etcd => in_etcd::run(global, arguments).await,
    }
}

async fn through_api(global: &Global, arguments: &Reencrypt) -> Result<ExitStatus, Failure> {
    let server = ApiServer::connect(global).await?;
    let pace = Pace::new(arguments.pace.max_in_flight, arguments.pace.max_rate);
    // All of them are found before the first is touched.
    let mut resources = Vec::new();
    for name in &arguments.resources {
        resources.push((name, find(&server, name).await?));
    }
    let mut status = ExitStatus::Done;
    for (name, resource) in resources {
        if arguments.dry_run {
            dry_run(&server, name, &resource).await?;
            continue;
        }
        let start = Instant::now();
        let progress = Progress::start(name, global.quiet);
        let outcome = api::rewrite(&server, &resource, pace, &progress)
            .await
            .map_err(|error| list_failure(&server, name, &error))?;
        drop(progress);
        if !outcome.set_aside.is_empty() {
            status = ExitStatus::Stopped;
        }
        let report = Report::new("api", name, outcome, start.elapsed().as_secs_f64());
        report::render(global.output, &report, || report.text())?;
    }
    Ok(status)
}

/// Where a resource is served, or why not.
pub(crate) async fn find(server: &ApiServer, name: &str) -> Result<ApiResource, Failure> {
    let resource = GroupResource::parse(name);
    if resource.is_wildcard() {
        return Err(
            Failure::unusable(format!("{name} stands for many resources"))
                .hint("name them one by one: --resource secrets --resource configmaps"),
        );
    }
    match cluster::find(server, &resource).await {
        Ok(Some(found)) => Ok(found),
        Ok(None) => Err(
            Failure::unusable(format!("{} serves no resource {name}", server.url())).hint(
                "kubectl api-resources lists what there is; it is RESOURCE or RESOURCE.GROUP",
            ),
        ),
        Err(error) => Err(server_failure(server, &error)),
    }
}

/// A server that did not answer as it should.
pub(crate) fn server_failure(server: &ApiServer, error: &Error) -> Failure {
    let url = server.url();
    match error {
        Error::Unreachable(reason) => Failure::unread(format!("cannot reach {url}: {reason}"))
            .hint("check the server's address and CA in the kubeconfig, and that it runs"),
        Error::Answer {
            code: 401 | 403, ..
        } => Failure::unread(format!("{url} refused: {error}"))
            .hint("use an administrator's kubeconfig; docs/guide/rbac.md lists the rights"),
        _ => Failure::unread(format!("{url} answered {error}")),
    }
}

fn list_failure(server: &ApiServer, name: &str, error: &Error) -> Failure {
    let poison = matches!(
        error,
        Error::Answer {
            code: 500,
            detail: Some(_),
            ..
        }
    );
    let failure = server_failure(server, error);
    if poison {
        failure.hint(format!(
            "one value that cannot be decrypted fails every list of {name}; atrest verify shows which \
             key wrote it, and with that key back in the configuration it reads again"
        ))
    } else {
        failure
    }
}

async fn dry_run(server: &ApiServer, name: &str, resource: &ApiResource) -> Result<(), Failure> {
    let page = server
        .list(resource, None)
        .await
        .map_err(|error| list_failure(server, name, &error))?;
    let total = page.objects.len() as u64 + page.remaining;
    report::say(format!(
        "would touch {total} {name}; those that are not under the current key would be rewritten"
    ));
    Ok(())
}

impl Report {
    fn new(engine: &'static str, resource: &str, outcome: Outcome, seconds: f64) -> Self {
        Self {
            schema: "atrest/reencrypt/v1",
            engine,
            resource: resource.into(),
            objects: Objects {
                total: outcome.total(),
                rewritten: outcome.rewritten,
                current: outcome.current,
                gone: outcome.gone,
                set_aside: outcome.set_aside.len() as u64,
            },
            seconds: (seconds * 1000.0).round() / 1000.0,
            set_aside: outcome.set_aside,
        }
    }

    fn text(&self) -> String {
        let Objects {
            total,
            rewritten,
            current,
            gone,
            set_aside,
        } = self.objects;
        let mut out = format!(
            "{}: {total} objects, {rewritten} rewritten, {current} already current, {gone} gone, \
             {set_aside} set aside, in {:.1} s\n",
            self.resource, self.seconds,
        );
        for object in &self.set_aside {
            let namespace = object
                .namespace
                .as_deref()
                .map(|n| format!("{n}/"))
                .unwrap_or_default();
            let _ = writeln!(
                out,
                "set aside: {namespace}{}: {}",
                object.name, object.reason
            );
        }
        out
    }
}
