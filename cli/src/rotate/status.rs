//! How far a run is (`atrest/rotation/v1`).

use std::fmt::Write as _;

use atrest_core::rotation::State;
use serde::Serialize;

use super::journal::{Journal, Record};
use super::observe::connect;
use super::poll;
use crate::args::Global;
use crate::machine::Machine;
use crate::report::verify::escape;
use crate::status::Failure;

/// `atrest/rotation/v1`.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    schema: &'static str,
    run: String,
    state: &'static str,
    step: usize,
    objects: Objects,
    /// Keys of values that nobody can decrypt, which are passed over.
    waived: Vec<String>,
    /// Keys of objects whose namespace was gone, deleted in etcd.
    purged: Vec<String>,
    servers: Vec<Server>,
    next: Option<String>,
}

#[derive(Debug, Default, Serialize)]
struct Objects {
    total: u64,
    done: u64,
    set_aside: u64,
    /// Of all rewrites.
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct Server {
    name: String,
    file_sha256: Option<String>,
    loaded_sha256: Option<String>,
    status: &'static str,
    next_poll: Option<String>,
}

impl Report {
    /// From the journal, and from the servers as far as they answer.
    pub(crate) async fn make(global: &Global, journal: &Journal) -> Result<Self, Failure> {
        let mut state = State::Plan;
        let mut objects = Objects::default();
        for record in &journal.records {
            match record {
                Record::State { state: name } => state = State::parse(name).unwrap_or(state),
                Record::Rewrote {
                    total,
                    set_aside,
                    milliseconds,
                    ..
                } => {
                    objects = Objects {
                        total: *total,
                        done: total - set_aside,
                        set_aside: *set_aside,
                        seconds: objects.seconds + *milliseconds as f64 / 1000.0,
                    };
                }
                Record::Done { .. } => state = State::Done,
                _ => {}
            }
        }
        let mut servers = Vec::new();
        let settings = journal.settings();
        for server in settings.iter().flat_map(|(settings, _)| &settings.servers) {
            let file = match Machine::of(&server.access) {
                Some(machine) => machine.read(&server.file).await.ok(),
                None => None,
            };
            let file = file.map(|bytes| bytes.fingerprint().to_string());
            let metrics = match connect(global, server).await {
                Ok(api) => api.metrics().await.ok(),
                Err(_) => None,
            };
            let next_poll = metrics.as_ref().and_then(poll::next_look);
            let loaded = metrics.map(|it| it.loaded_config);
            servers.push(Server {
                name: server.name.clone(),
                status: match &loaded {
                    None => "unreachable",
                    Some(Some(loaded)) if file.as_ref() == Some(loaded) => "loaded",
                    Some(_) => "behind",
                },
                file_sha256: file,
                loaded_sha256: loaded.flatten(),
                next_poll: next_poll.map(|at| format!("{at:.0}")),
            });
        }
        let waived: Vec<_> = journal.waived().into_keys().collect();
        Ok(Self {
            schema: "atrest/rotation/v1",
            run: journal.run.clone(),
            state: state.name(),
            step: state.number(),
            objects,
            waived: waived
                .iter()
                .map(|key| escape(&String::from_utf8_lossy(key)))
                .collect(),
            purged: journal
                .purges()
                .into_iter()
                .map(|it| escape(&it.key))
                .collect(),
            servers,
            next: (!journal.is_done()).then(|| "atrest rotate resume".into()),
        })
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut out = format!("run {}: step {}, {}\n", self.run, self.step, self.state);
        let Objects {
            total,
            done,
            set_aside,
            ..
        } = self.objects;
        let _ = writeln!(
            out,
            "objects: {done} of {total} done, {set_aside} set aside"
        );
        for (what, keys) in [("waived", &self.waived), ("deleted", &self.purged)] {
            for key in keys {
                let _ = writeln!(out, "{what}: {key}");
            }
        }
        for server in &self.servers {
            let next = server.next_poll.iter();
            let next: String = next
                .map(|at| format!(", looks at its file again at {at}"))
                .collect();
            let _ = writeln!(out, "{}: {}{next}", server.name, server.status);
        }
        if let Some(next) = &self.next {
            let _ = writeln!(out, "next: {next}");
        }
        out
    }
}
