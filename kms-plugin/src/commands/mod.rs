//! One file a command, mirroring the command line.

mod keyring;

use crate::args::{Args, Command};
use crate::serve;
use crate::status::Failure;

/// Runs the command that was asked for.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Serve(args) => serve::run(&args),
        Command::Keyring(args) => keyring::run(&args),
    }
}
