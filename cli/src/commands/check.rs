//! `atrest check`

use atrest_core::check::{Policy, Time, Verdict, judge};
use atrest_core::encryption_config::Severity;
use jiff::Timestamp;

use crate::args::{Certificates, Check, CheckAction, Global};
use crate::check::{Crypto, live, node};
use crate::report::check::Report;
use crate::status::{ExitStatus, Failure};

/// Runs the command.
pub(crate) fn run(global: &Global, arguments: &Check) -> Result<ExitStatus, Failure> {
    match &arguments.action {
        CheckAction::Certificates(certificates) => run_certificates(global, certificates),
    }
}

fn run_certificates(global: &Global, arguments: &Certificates) -> Result<ExitStatus, Failure> {
    let at = arguments.at.unwrap_or_else(|| Time::from(Timestamp::now()));
    let root = atrest_files::Root::open(&arguments.root).map_err(Failure::unusable)?;
    let (mut node, pairs) = node::read(&root);
    if arguments.live {
        super::wait(async {
            live::look(global, &mut node, pairs).await;
            Ok(())
        })?;
    }
    let fail_on = Severity::from(arguments.fail_on);
    let judged = judge(node, &Policy::default(), at, &Crypto::default());
    let report = Report::new(judged, at, fail_on);
    report.print(global)?;
    Ok(match report.verdict {
        Verdict::Pass => ExitStatus::Done,
        Verdict::Fail => ExitStatus::Findings,
        Verdict::Unknown => ExitStatus::Unread,
    })
}
