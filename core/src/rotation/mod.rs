//! Rotation as a pure function: from what was observed to the next step.
//!
//! [`chain`] edits the provider chains of a configuration; [`next`] decides. Nothing here reads a
//! clock, a file or a server.

pub mod chain;
pub mod enable;
#[cfg(test)]
mod model;
mod step;

pub use self::step::{
    Await, CensusFacts, Facts, Progress, ServerFacts, Snapshot, State, Step, Stop, next,
};
