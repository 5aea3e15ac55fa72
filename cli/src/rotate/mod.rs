//! Rotation: what acts on the decisions of `atrest_core::rotation`.

mod barrier;
mod canary;
mod covered;
mod driver;
mod escrow;
mod hand;
mod journal;
mod lease;
mod matrix;
mod observe;
mod plan;
pub(crate) mod rewrite;
mod rollback;
mod settings;
mod status;
mod target;
mod window;

pub(crate) use self::driver::Run;
pub(crate) use self::journal::{Journal, Lock, adopt, begin};
pub(crate) use self::lease::other as run_of_cluster;
pub(crate) use self::observe::Reached;
pub(crate) use self::plan::Plan;
pub(crate) use self::settings::{Settings, state_dir};
pub(crate) use self::status::Report;
pub(crate) use self::window::{Window, opened};
