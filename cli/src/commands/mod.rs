//! One file a command, mirroring the command line.

mod decrypt;
mod generate;
mod reencrypt;
mod rotate;
mod validate;
mod verify;

use std::future::Future;

pub(crate) use self::reencrypt::server_failure;
use crate::args::{Args, Command};
use crate::status::{ExitStatus, Failure};

/// Runs the command that was asked for.
pub(crate) fn run(args: Args) -> Result<ExitStatus, Failure> {
    let global = &args.global;
    match &args.command {
        Command::Decrypt(decrypt) => wait(decrypt::run(global, decrypt)),
        Command::Generate(generate) => generate::run(global, generate),
        Command::Reencrypt(reencrypt) => wait(reencrypt::run(global, reencrypt)),
        Command::Rotate(rotate) => wait(rotate::run(global, rotate)),
        Command::Validate(validate) => validate::run(global, validate),
        Command::Verify(verify) => wait(verify::run(global, verify)),
    }
}

/// Runs a command that talks to others. When this returns, every connection and its buffers are
/// gone.
fn wait<F>(command: F) -> Result<ExitStatus, Failure>
where
    F: Future<Output = Result<ExitStatus, Failure>>,
{
    // One TLS provider; that another one was there first cannot be in a binary of ours.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::unread(format!("cannot start the runtime: {error}")))?
        .block_on(command)
}
