//! `atrest-kms`: a KMS v2 plugin for kube-apiserver with a keyring of its own.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod process;
mod report;
mod serve;
mod status;
mod store;

use std::alloc::System;
use std::process::ExitCode;

use clap::Parser;
use zeroizing_alloc::ZeroAlloc;

use crate::args::Args;

// Seeds pass through buffers of gRPC and HTTP/2 that know nothing of zeroizing (promise I4).
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    let refused = process::keep_to_itself();
    let args = Args::parse();
    match commands::run(args, &refused) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            report::say(&failure);
            failure.status.into()
        }
    }
}
