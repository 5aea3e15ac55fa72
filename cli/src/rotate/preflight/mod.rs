//! What is looked at before a run for its own sake: what would stop it half way, or surprise later.

mod credentials;
mod database;
mod disk;
mod pace;

use std::fmt::Write as _;

use serde::Serialize;

pub(super) use self::credentials::Credential;
use self::database::Database;
use self::disk::Disk;
use super::observe::Reached;
use super::settings::Settings;
use crate::args::{Engine, RotateFlags};
use crate::cluster::{ApiResource, Webhook, webhooks_on_update};
use crate::commands::server_failure;
use crate::status::Failure;

/// What it found, where it refuses nothing.
#[derive(Debug, Serialize)]
pub(super) struct Preflight {
    database: Database,
    credentials: Vec<Credential>,
    disks: Vec<Disk>,
    /// Those that a rewrite goes through; empty where it goes past the API.
    webhooks: Vec<Webhook>,
    /// From the first wait to the last census, holds and questions left out.
    expected_minutes: u64,
}

/// What a run would do.
pub(super) struct Work {
    /// Values of the rotated resources.
    pub(super) values: u64,
    /// Theirs, with their keys.
    pub(super) bytes: u64,
    /// Those that are served.
    pub(super) resources: Vec<ApiResource>,
    /// Whether files are written.
    pub(super) loads: bool,
    /// API servers that are restarted before anything else.
    pub(super) restarts: usize,
}

impl Preflight {
    pub(super) async fn look(
        flags: &RotateFlags,
        settings: &Settings,
        reached: &mut Reached,
        credentials: Vec<Credential>,
        work: &Work,
    ) -> Result<Self, Failure> {
        let database = Database::look(&mut reached.etcd, work.bytes, settings.engine).await?;
        let server = &reached.servers[0];
        let webhooks = match settings.engine {
            Engine::Etcd => Vec::new(),
            Engine::Api | Engine::Svm => webhooks_on_update(server, &work.resources)
                .await
                .map_err(|error| server_failure(server, &error))?,
        };
        Ok(Self {
            webhooks,
            credentials,
            disks: disk::look(settings, flags, database.file_bytes())?,
            expected_minutes: pace::minutes(settings, work),
            database,
        })
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut out = format!("\netcd: {}\n", self.database.text());
        if !self.webhooks.is_empty() {
            out += "webhooks that each rewrite goes through:\n";
        }
        for webhook in &self.webhooks {
            let Webhook {
                configuration,
                name,
                failure_policy,
                ..
            } = webhook;
            let some = if webhook.is_narrowed {
                ", some objects"
            } else {
                ""
            };
            let _ = writeln!(
                out,
                "  {name} of {configuration}, failurePolicy {failure_policy}{some}"
            );
        }
        for dead in self.webhooks.iter().filter(|it| it.is_dead()) {
            let Webhook { name, service, .. } = dead;
            let service = service.as_deref().unwrap_or_default();
            let _ = writeln!(
                out,
                "warning: the Service {service} of the webhook {name} has no endpoint that is ready: what \
                 the webhook covers cannot be rewritten, and keeps the old key, unless by --engine etcd"
            );
        }
        let credentials = self.credentials.iter().filter_map(Credential::warning);
        let disks = self.disks.iter().filter_map(Disk::warning);
        for warning in credentials.chain(disks) {
            let _ = writeln!(out, "warning: {warning}");
        }
        out
    }

    pub(super) fn expected_minutes(&self) -> u64 {
        self.expected_minutes
    }
}
