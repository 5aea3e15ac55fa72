//! One file a command, mirroring the command line.

mod generate;
mod validate;

use crate::args::{Args, Command};
use crate::status::{ExitStatus, Failure};

/// Runs the command that was asked for.
pub(crate) fn run(args: Args) -> Result<ExitStatus, Failure> {
    match args.command {
        Command::Generate(generate) => generate::run(&args.global, &generate),
        Command::Validate(validate) => validate::run(&args.global, &validate),
    }
}
