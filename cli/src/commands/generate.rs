//! `atrest generate`

use crate::args::{Generate, Global};
use crate::status::{ExitStatus, Failure};

/// Runs the command.
pub(crate) fn run(_global: &Global, _arguments: &Generate) -> Result<ExitStatus, Failure> {
    Err(Failure::unusable("not there yet"))
}
