//! Values as kube-apiserver stores them.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test may panic, use std and say that it was skipped"
)]

mod case;
mod kit;
mod vectors;
