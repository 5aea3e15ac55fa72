//! How long a run takes, about.

use std::time::Duration;

use super::Work;
use crate::args::Engine;
use crate::rotate::reload::Reload;
use crate::rotate::settings::Settings;

/// Times that each server gets a file.
const STAGES: u64 = 3;

/// Between two looks of an API server at its file, and of a manual server's operator.
const POLL: u64 = 60;

/// How long the kubelet takes until a static pod's API server is back.
const RESTART: u64 = 40;

/// In whole minutes, rounded up.
pub(super) fn minutes(settings: &Settings, work: &Work) -> u64 {
    let load = |reload: &Reload| if reload.restarts() { RESTART } else { POLL };
    let loads: u64 = settings.servers.iter().map(|it| load(&it.reload)).sum();
    let loads = if work.loads { STAGES * loads } else { POLL };
    // As measured on two cores (docs/benchmarks/rewrite.md), where nothing else goes on.
    let rate = match settings.engine {
        Engine::Api if settings.pace.gentle => 250,
        Engine::Api => 1_000,
        Engine::Etcd => 10_000,
        Engine::Svm => 80,
    };
    let rate = settings
        .pace
        .rate
        .map_or(rate, |most| rate.min(most.into()));
    let rewrite = Duration::from_secs(work.values.div_ceil(rate.max(1)));
    // The rewrite goes on while requests from before it end.
    let seconds =
        loads + RESTART * work.restarts as u64 + rewrite.max(settings.request_timeout).as_secs();
    seconds.div_ceil(60)
}
