//! One file a command, mirroring the command line.

mod check;
mod decrypt;
mod explain;
mod generate;
mod reencrypt;
mod rotate;
mod servers;
mod validate;
mod verify;

use std::future::Future;
use std::io::{self, BufRead, IsTerminal, Write};

pub(crate) use self::reencrypt::{find, server_failure};
use crate::args::{Args, Command, Output};
use crate::report;
use crate::status::{ExitStatus, Failure};

/// Runs the command that was asked for.
pub(crate) fn run(args: Args) -> Result<ExitStatus, Failure> {
    let global = &args.global;
    let is_for_validate = matches!(global.output, Output::Sarif | Output::Junit);
    if is_for_validate && !matches!(args.command, Command::Validate(_)) {
        return Err(report::only_for_validate());
    }
    if global.output == Output::Html && !matches!(args.command, Command::Rotate(_)) {
        return Err(report::only_for_rotate());
    }
    match &args.command {
        Command::Check(check) => check::run(global, check),
        Command::Decrypt(decrypt) => wait(decrypt::run(global, decrypt)),
        Command::Explain(explain) => explain::run(global, explain),
        Command::Generate(generate) => generate::run(global, generate),
        Command::Reencrypt(reencrypt) => wait(reencrypt::run(global, reencrypt)),
        Command::Rotate(rotate) => wait(rotate::run(global, rotate)),
        Command::Servers(servers) => wait(servers::run(global, servers)),
        Command::Validate(validate) => validate::run(global, validate),
        Command::Verify(verify) => wait(verify::run(global, verify)),
    }
}

/// Runs a command that talks to others. When this returns, every connection and its buffers are
/// gone.
fn wait<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    // One TLS provider; that another one was there first cannot be in a binary of ours.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::unread(format!("cannot start the runtime: {error}")))?
        .block_on(command)
}

/// Asks whether to go on. `None` where nobody can be asked.
fn confirmed(question: &str) -> Option<bool> {
    if !io::stdin().is_terminal() {
        return None;
    }
    let _ = write!(io::stderr().lock(), "{question} [y/N] ");
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    Some(read.is_ok() && matches!(answer.trim(), "y" | "yes"))
}
