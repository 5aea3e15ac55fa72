//! `atrest`: keeps a Kubernetes cluster's Secrets encrypted at rest, and proves it.
#![forbid(unsafe_code)]

mod args;
mod check;
mod cluster;
mod commands;
mod configuration;
mod etcd;
mod kms;
mod machine;
mod report;
mod rotate;
mod status;

use std::alloc::System;
use std::process::ExitCode;

use clap::Parser;
use zeroizing_alloc::ZeroAlloc;

use crate::args::Args;

// Promise I3: lists carry annotations, where `kubectl apply` keeps a copy of what it applied. The
// buffers of TLS, HTTP and JSON that they pass through are zeroized when they are freed.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    // Core dumps would hold keys (promise I4).
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let args = Args::parse();
    match commands::run(args) {
        Ok(status) => status.into(),
        Err(failure) => {
            report::failure(&failure);
            failure.status.into()
        }
    }
}
