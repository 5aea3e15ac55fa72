//! One rotation at a time in a cluster: the Lease `atrest-rotation` in `kube-system` is held by the run
//! that is not finished, also while no process works on it.
//!
//! No clock ends it, for what it keeps apart is not two processes but two keys: a second run would
//! mint another one and take the first for an old one.

use std::time::Duration;

use crate::cluster::{self, ApiServer, Error};
use crate::commands::server_failure;
use crate::status::Failure;

/// Times that a server is asked, and the pause between: a single one may be about to restart.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(2);

/// Who holds the Lease: a run, and which machine goes on with it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Holder(String);

impl Holder {
    pub(super) fn new(run: &str, machine: &str) -> Self {
        Self(format!("{run}/{machine}"))
    }

    fn run(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }
}

/// The Lease, held.
pub(super) struct Lease(Holder);

/// The run that holds the Lease and how far it says it is, unless it is one of these.
pub(crate) async fn other(
    servers: &[ApiServer],
    ours: &[&str],
) -> Result<Option<Failure>, Failure> {
    let lease = ask(servers, |server| server.lease()).await?;
    Ok(lease.and_then(|lease| held_by_other(&lease, ours)))
}

fn held_by_other(lease: &cluster::Lease, ours: &[&str]) -> Option<Failure> {
    let holder = Holder(lease.holder.clone()?);
    if ours.contains(&holder.run()) {
        return None;
    }
    let run = holder.run();
    let state = lease.state.as_deref().unwrap_or("an unknown state");
    let seen = lease
        .renewed
        .map(|time| format!(", last seen at {time:.0}"))
        .unwrap_or_default();
    Some(
        Failure::unusable(format!(
            "the cluster's rotation {run} is not finished (at {state}{seen})"
        ))
        .hint(format!(
            "atrest rotate resume on the machine where it began; if that is lost, with its escrow in \
             place: atrest rotate resume --adopt-run {run}"
        )),
    )
}

impl Lease {
    /// Takes it, also from runs that are ours to end.
    pub(super) async fn take(
        servers: &[ApiServer],
        holder: Holder,
        ours: &[&str],
        state: &str,
    ) -> Result<Self, Failure> {
        let seen = ask(servers, |server| server.lease()).await?;
        match seen {
            None => ask(servers, |server| server.create_lease(&holder.0, state)).await?,
            Some(seen) => {
                let is_this = seen.holder.as_deref() == Some(&*holder.0);
                if let (false, Some(failure)) = (is_this, held_by_other(&seen, ours)) {
                    return Err(failure);
                }
                ask(servers, |server| {
                    change(server, &seen, Some(&holder), state)
                })
                .await?
            }
        };
        Ok(Self(holder))
    }

    /// Says how far the run is, and fails where it is not ours any more.
    pub(super) async fn keep(&self, servers: &[ApiServer], state: &str) -> Result<(), Failure> {
        self.change(servers, Some(&self.0), state).await
    }

    /// The run is over.
    pub(super) async fn release(self, servers: &[ApiServer], state: &str) -> Result<(), Failure> {
        self.change(servers, None, state).await
    }

    /// Where it is still ours.
    async fn change(
        &self,
        servers: &[ApiServer],
        holder: Option<&Holder>,
        state: &str,
    ) -> Result<(), Failure> {
        let seen = ask(servers, |server| server.lease()).await?;
        let seen = seen.filter(|seen| seen.holder.as_deref() == Some(&*self.0.0));
        let Some(seen) = seen else {
            return Err(Failure::stopped(
                "the Lease kube-system/atrest-rotation is not this run's any more",
            )
            .hint("another machine has adopted the run, or somebody deleted it: find out who"));
        };
        ask(servers, |server| change(server, &seen, holder, state))
            .await
            .map(|_| ())
    }
}

async fn change(
    server: &ApiServer,
    seen: &cluster::Lease,
    holder: Option<&Holder>,
    state: &str,
) -> Result<cluster::Lease, Error> {
    let holder = holder.map(|holder| &*holder.0);
    server.change_lease(seen, holder, state).await
}

/// The first answer of any server.
async fn ask<'a, T, F: Future<Output = Result<T, Error>>>(
    servers: &'a [ApiServer],
    question: impl Fn(&'a ApiServer) -> F,
) -> Result<T, Failure> {
    let mut tries = 0;
    loop {
        let mut failed = None;
        for server in servers {
            match question(server).await {
                Ok(answer) => return Ok(answer),
                Err(error @ Error::Unreachable(_)) => failed = Some((server, error)),
                Err(error) if error.code() == Some(409) => {
                    return Err(Failure::stopped(
                        "the Lease kube-system/atrest-rotation changed while it was looked at",
                    )
                    .hint("another rotation begins, or goes on, elsewhere"));
                }
                Err(error) => return Err(server_failure(server, &error)),
            }
        }
        tries += 1;
        match failed {
            Some((server, error)) if tries == TRIES => return Err(server_failure(server, &error)),
            None => return Err(Failure::unusable("there is no API server")),
            Some(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
