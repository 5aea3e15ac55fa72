//! The program as an operator and kube-apiserver see it: its command line and its socket.
#![allow(
    clippy::unwrap_used,
    reason = "clippy takes only #[test] functions for tests"
)]

mod examples;
mod folder;
mod handover;
mod keyring;
mod lifecycle;
mod memory;
mod peers;
mod plugin;
mod rules;
mod serve;
mod socket;
