//! `atrest reencrypt`

mod by_migration;
mod in_etcd;

use std::fmt::Write as _;
use std::time::Instant;

use atrest_core::at_rest::{GroupResource, State};
use atrest_core::encryption_config::Provider;
use serde::Serialize;

use crate::args::{Engine, Global, Reencrypt};
use crate::cluster::{self, ApiResource, ApiServer, Error};
use crate::etcd::{self, Question};
use crate::report;
use crate::report::progress::Progress;
use crate::rotate::rewrite::{Outcome, Pace, SetAside, Source, Steward, api};
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
    if arguments.engine == Engine::Api && arguments.config.is_some() {
        return Err(Failure::unusable("--config is of --engine etcd and svm")
            .hint("leave it out: API servers know what they run with"));
    }
    match arguments.engine {
        Engine::Api => through_api(global, arguments).await,
        Engine::Etcd => in_etcd::run(global, arguments).await,
        Engine::Svm => by_migration::run(global, arguments).await,
    }
}

/// Those that are named, else the kubeconfig's.
async fn servers(global: &Global, arguments: &Reencrypt) -> Result<Vec<ApiServer>, Failure> {
    let mut servers = Vec::new();
    for url in &arguments.servers {
        servers.push(ApiServer::connect_to(global, url, None, None).await?);
    }
    if servers.is_empty() {
        servers.push(ApiServer::connect(global).await?);
    }
    Ok(servers)
}

async fn through_api(global: &Global, arguments: &Reencrypt) -> Result<ExitStatus, Failure> {
    let servers = servers(global, arguments).await?;
    let etcd = match arguments.etcd.endpoints.is_empty() {
        true => None,
        false => Some(etcd::Client::connect(&arguments.etcd).await?),
    };
    // All of them are found before the first is touched.
    let mut resources = Vec::new();
    for name in &arguments.resources {
        resources.push((GroupResource::parse(name), find(&servers[0], name).await?));
    }
    let mut status = ExitStatus::Done;
    for (name, resource) in &resources {
        if arguments.dry_run {
            dry_run(&servers[0], name, resource).await?;
            continue;
        }
        let start = Instant::now();
        let progress = Progress::start(&name.to_string(), global.quiet);
        let task = api::Task {
            servers: &servers,
            resource,
            source: match &etcd {
                None => Source::Api(&servers[0]),
                Some(client) => Source::Etcd {
                    client: Box::new(client.clone()),
                    resource: name,
                    prefix: arguments.etcd.prefix(),
                    up_to: None,
                },
            },
            steward: match &etcd {
                None => None,
                Some(client) => {
                    Some(Steward::new(client.clone(), &arguments.etcd, global.quiet).await?)
                }
            },
            behind: None,
            until: None,
            pace: Pace::default().with(&arguments.pace),
            progress: &progress,
        };
        let outcome = api::rewrite(task, |_| Ok(())).await?;
        drop(progress);
        if !outcome.set_aside.is_empty() {
            status = ExitStatus::Stopped;
        }
        let report = Report::new("api", &name.to_string(), outcome, start);
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

async fn dry_run(
    server: &ApiServer,
    name: &GroupResource,
    resource: &ApiResource,
) -> Result<(), Failure> {
    let page = server
        .list(resource, None, cluster::PAGE)
        .await
        .map_err(|error| server_failure(server, &error))?;
    let total = page.objects.len() as u64 + page.remaining;
    report::say(format!(
        "would touch {total} {name}; those that are not under the current key would be rewritten"
    ));
    Ok(())
}

/// What a census says: nothing is decrypted.
async fn would_rewrite(etcd: &mut etcd::Client, question: &Question<'_>) -> Result<(), Failure> {
    let counted = etcd::census(etcd, question, None).await?;
    for resource in &counted.census.resources {
        let expected = question
            .expectation
            .map(|it| it.configuration.chain(&resource.resource));
        let chain = expected.unwrap_or_default();
        let plaintext = resource.count(State::Plaintext);
        let (mut stale, mut current) =
            (resource.count(State::Stale), resource.count(State::Current));
        match chain.first() {
            None | Some(Provider::Identity) => current += plaintext,
            Some(_) => stale += plaintext,
        }
        let total = resource.total();
        report::say(format!(
            "{}: of {total} objects {stale} would be rewritten, {current} are current, {} cannot be judged \
             or read",
            resource.resource,
            total - stale - current,
        ));
    }
    Ok(())
}

impl Report {
    fn new(engine: &'static str, resource: &str, outcome: Outcome, start: Instant) -> Self {
        let seconds = start.elapsed().as_secs_f64();
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
