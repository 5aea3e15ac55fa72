//! One file a command, mirroring the command line.

mod hold;
mod keyring;

use crate::args::{Args, Command};
use crate::serve;
use crate::status::Failure;

/// Runs the command that was asked for, in a process for which the kernel refused this.
pub(crate) fn run(args: Args, refused: &[String]) -> Result<(), Failure> {
    match args.command {
        Command::Serve(args) => serve::run(&args, refused),
        Command::Hold(args) => hold::run(&args),
        Command::Keyring(args) => keyring::run(&args),
    }
}
