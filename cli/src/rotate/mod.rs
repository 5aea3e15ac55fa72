//! Rotation: what acts on the decisions of `atrest_core::rotation`.

mod barrier;
mod canary;
pub(crate) mod certificate;
mod counts;
mod covered;
mod driver;
mod enable;
mod escrow;
mod evidence;
mod hand;
mod html;
mod init;
mod journal;
mod kept;
mod lease;
mod manifest;
mod manual;
mod matrix;
mod observe;
mod plan;
mod plugin;
mod poll;
mod preflight;
mod recipients;
mod reload;
pub(crate) mod rewrite;
mod rollback;
mod scrub;
mod servers;
mod settings;
mod snapshots;
mod static_pod;
mod status;
mod target;
mod waiver;
mod window;

pub(crate) use self::counts::Counts;
pub(crate) use self::driver::Run;
pub(crate) use self::html::page;
pub(crate) use self::init::{Initial, init};
pub(crate) use self::journal::{Journal, Lock, Record, adopt, begin};
pub(crate) use self::lease::other as run_of_cluster;
pub(crate) use self::observe::Reached;
pub(crate) use self::plan::Plan;
pub(crate) use self::servers::{List, Sync};
pub(crate) use self::settings::{Settings, listed_servers, state_dir};
pub(crate) use self::status::Report;
pub(crate) use self::window::{Window, opened};

use atrest_core::rotation::chain::Stage;

/// As the journal names it.
fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Absent => "absent",
        Stage::Reads => "reads",
        Stage::Writes => "writes",
        Stage::Only => "only",
    }
}

fn stage_of(name: &str) -> Option<Stage> {
    [Stage::Absent, Stage::Reads, Stage::Writes, Stage::Only]
        .into_iter()
        .find(|stage| stage_name(*stage) == name)
}
