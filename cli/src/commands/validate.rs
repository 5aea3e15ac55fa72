//! `atrest validate`

use crate::args::{Global, Validate};
use crate::status::{ExitStatus, Failure};

/// Runs the command.
pub(crate) fn run(_global: &Global, _arguments: &Validate) -> Result<ExitStatus, Failure> {
    Err(Failure::unusable("not there yet"))
}
