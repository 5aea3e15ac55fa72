//! The API servers as rotation.yaml lists them (`atrest/servers/v1`), and the way to bring one up to date.

mod sync;

use std::fmt::Write as _;

use serde::Serialize;

pub(crate) use self::sync::Sync;
use super::observe::connect;
use super::settings::Server;
use super::{others, poll};
use crate::args::Global;
use crate::cluster;
use crate::machine::{Access, Machine};
use crate::status::{ExitStatus, Failure};

/// `atrest/servers/v1`.
#[derive(Debug, Serialize)]
pub(crate) struct List {
    schema: &'static str,
    servers: Vec<Listed>,
}

#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    url: String,
    file: String,
    access: &'static str,
    /// `None` where it could not be read, or is out of reach.
    file_sha256: Option<String>,
    /// Why it could not.
    file_error: Option<String>,
    loaded_sha256: Option<String>,
    status: &'static str,
    release: Option<String>,
    identity: Option<String>,
    next_poll: Option<String>,
}

impl List {
    /// Asks each, as far as it answers.
    pub(crate) async fn make(global: &Global, servers: &[Server]) -> Result<Self, Failure> {
        let mut listed = Vec::new();
        for server in servers {
            listed.push(Listed::of(global, server).await?);
        }
        Ok(Self {
            schema: "atrest/servers/v1",
            servers: listed,
        })
    }

    /// Whether all is as it should be.
    pub(crate) fn exit_status(&self) -> ExitStatus {
        let is = |status: &str| self.servers.iter().any(|it| it.status == status);
        let mut loaded = self
            .servers
            .iter()
            .filter_map(|it| it.loaded_sha256.as_ref());
        let first = loaded.next();
        let differ = loaded.any(|other| Some(other) != first);
        let unread = self.servers.iter().any(|it| it.file_error.is_some());
        if is("behind") || differ {
            ExitStatus::Findings
        } else if is("unreachable") || is("unknown") || unread {
            ExitStatus::Unread
        } else {
            ExitStatus::Done
        }
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut rows =
            vec![["SERVER", "FILE", "LOADED", "STATUS", "RELEASE", "IDENTITY"].map(str::to_owned)];
        for server in &self.servers {
            let short = |hash: &Option<String>| match hash {
                Some(hash) => hash.chars().take(8).collect(),
                None => "-".to_owned(),
            };
            let or = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
            rows.push([
                server.name.clone(),
                short(&server.file_sha256),
                short(&server.loaded_sha256),
                server.status.to_owned(),
                or(&server.release),
                or(&server.identity),
            ]);
        }
        let mut out = String::new();
        for row in &rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let widths = rows.iter().map(|row| row[column].chars().count());
                let width = widths.max().unwrap_or_default();
                let _ = write!(line, "{cell:width$}  ");
            }
            let _ = writeln!(out, "{}", line.trim_end());
        }
        for server in &self.servers {
            if let Some(error) = &server.file_error {
                let _ = writeln!(out, "{}: {error}", server.name);
            }
        }
        out
    }
}

impl Listed {
    async fn of(global: &Global, server: &Server) -> Result<Self, Failure> {
        let api = connect(global, server).await?;
        let (mut file_sha256, mut file_error) = (None, None);
        if let Some(machine) = Machine::of(&server.access) {
            match machine.read(&server.file).await {
                Ok(file) => file_sha256 = Some(file.fingerprint().to_string()),
                Err(error) => file_error = Some(error.to_string()),
            }
        }
        let metrics = api.metrics().await.ok();
        let loaded = metrics.as_ref().and_then(|it| it.loaded_config.clone());
        let identity = match metrics.as_ref().and_then(|it| it.identity.as_deref()) {
            Some(hash) => others::lease_of(&api, hash).await,
            None => None,
        };
        Ok(Self {
            name: server.name.clone(),
            url: api.url().to_owned(),
            file: server.file.display().to_string(),
            access: match server.access {
                Access::Local => "local",
                Access::Manual => "manual",
                Access::Ssh(_) => "ssh",
            },
            status: match (&metrics, &loaded, &file_sha256) {
                (None, ..) => "unreachable",
                (Some(_), Some(loaded), Some(file)) if loaded == file => "loaded",
                (Some(_), Some(_), Some(_)) => "behind",
                // The file is out of reach, or the server is too old to say.
                (Some(_), Some(_), None) if file_error.is_none() => "loaded",
                _ => "unknown",
            },
            next_poll: metrics
                .as_ref()
                .and_then(poll::next_look)
                .map(|at| format!("{at:.0}")),
            file_sha256,
            file_error,
            loaded_sha256: loaded,
            release: cluster::Version::of(&api).await.ok().map(|it| it.git),
            identity,
        })
    }
}
