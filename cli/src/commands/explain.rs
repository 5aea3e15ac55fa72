//! `atrest explain`

use atrest_core::check;
use atrest_core::encryption_config::Rule;

use crate::args::{Explain, Global};
use crate::report;
use crate::report::explain::{Page, Report};
use crate::status::{ExitStatus, Failure};

/// Runs the command.
pub(crate) fn run(global: &Global, arguments: &Explain) -> Result<ExitStatus, Failure> {
    let report = match &arguments.id {
        None => Report::new(
            Rule::all()
                .map(Page::from)
                .chain(check::Rule::all().map(Page::from)),
        ),
        Some(id) => Report::new([page(id).ok_or_else(|| unknown(id))?]),
    };
    let is_one = arguments.id.is_some();
    report::render(global.output, &report, || match is_one {
        true => report.pages(),
        false => report.table(),
    })?;
    Ok(ExitStatus::Done)
}

fn page(id: &str) -> Option<Page> {
    let of_check = || check::Rule::find(id).map(Page::from);
    Rule::find(id).map(Page::from).or_else(of_check)
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
