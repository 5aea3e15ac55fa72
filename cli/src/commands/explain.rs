//! `atrest explain`

use atrest_core::encryption_config::Rule;

use crate::args::{Explain, Global};
use crate::report;
use crate::report::explain::Report;
use crate::status::{ExitStatus, Failure};

/// Runs the command.
pub(crate) fn run(global: &Global, arguments: &Explain) -> Result<ExitStatus, Failure> {
    let report = match &arguments.id {
        None => Report::new(Rule::all()),
        Some(id) => Report::new([Rule::find(id).ok_or_else(|| unknown(id))?]),
    };
    let is_one = arguments.id.is_some();
    report::render(global.output, &report, || match is_one {
        true => report.pages(),
        false => report.table(),
    })?;
    Ok(ExitStatus::Done)
}

fn unknown(id: &str) -> Failure {
    let failure = Failure::unusable(format!("no finding has the id {}", report::one_line(id)));
    match Rule::nearest(id) {
        Some(rule) => failure.hint(format!(
            "the nearest is {}; `atrest explain` lists all",
            rule.id
        )),
        None => failure,
    }
}
