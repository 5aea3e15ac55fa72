//! `atrest rotate`

use crate::args::{Global, Output, Rotate, RotateAction, RotateFlags};
use crate::commands::confirmed;
use crate::report;
use crate::rotate::{Journal, Lock, Plan, Report, Run, Settings, begin, state_dir};
use crate::status::{ExitStatus, Failure};

/// Runs the command.
pub(crate) async fn run(global: &Global, arguments: &Rotate) -> Result<ExitStatus, Failure> {
    let flags = &arguments.flags;
    let state_dir = state_dir(flags)?;
    match arguments.action.unwrap_or(RotateAction::Plan) {
        RotateAction::Plan => {
            let plan = Plan::make(global, &Settings::resolve(flags)?).await?;
            report::render(global.output, &plan, || plan.text())?;
            Ok(ExitStatus::Done)
        }
        RotateAction::Run => {
            let settings = Settings::resolve(flags)?;
            let _lock = Lock::acquire(&state_dir)?;
            let unfinished = Journal::newest(&state_dir)?.filter(|run| !run.is_done());
            if let Some(unfinished) = unfinished.as_ref().filter(|run| run.has_written()) {
                return Err(
                    Failure::unusable(format!("run {} is not finished", unfinished.run))
                        .hint("atrest rotate resume goes on with it"),
                );
            }
            let plan = Plan::make(global, &settings).await?;
            if !global.quiet {
                report::say(plan.text());
            }
            if !flags.yes {
                ask()?;
            }
            if let Some(unchanged) = unfinished {
                unchanged.abandon()?;
            }
            let journal = begin(&state_dir, settings, plan.etcd_id.clone())?;
            drive(global, flags, journal).await
        }
        RotateAction::Resume => {
            let _lock = Lock::acquire(&state_dir)?;
            let journal = newest(&state_dir)?;
            if journal.is_done() {
                report::say(format!(
                    "run {} is finished; there is nothing to resume",
                    journal.run
                ));
                return status(global, &journal).await;
            }
            drive(global, flags, journal).await
        }
        RotateAction::Status => status(global, &newest(&state_dir)?).await,
    }
}

fn newest(state_dir: &std::path::Path) -> Result<Journal, Failure> {
    Journal::newest(state_dir)?.ok_or_else(|| {
        Failure::unusable(format!("there is no run in {}", state_dir.display()))
            .hint("name the run's directory with --state-dir, or begin with atrest rotate run")
    })
}

async fn drive(
    global: &Global,
    flags: &RotateFlags,
    journal: Journal,
) -> Result<ExitStatus, Failure> {
    let state_dir = journal.directory();
    let has_written = journal.has_written();
    let run = Run::new(global, flags, journal)
        .await
        .map_err(|failure| match has_written {
            true => failure.in_the_middle("nothing was changed since"),
            false => failure,
        })?;
    let proof = run.drive().await?;
    if global.output == Output::Text {
        report::text(&format!(
            "run {}: done; at revision {} all {} values are under the new key\n",
            proof.run,
            proof.revision,
            proof.census.total(),
        ))?;
        return Ok(ExitStatus::Done);
    }
    status(global, &newest(&state_dir)?).await
}

async fn status(global: &Global, journal: &Journal) -> Result<ExitStatus, Failure> {
    let report = Report::make(global, journal).await?;
    report::render(global.output, &report, || report.text())?;
    Ok(ExitStatus::Done)
}

fn ask() -> Result<(), Failure> {
    let no = || Failure::unusable("nothing was changed");
    match confirmed("rotate?") {
        Some(true) => Ok(()),
        Some(false) => Err(no()),
        None => Err(no().hint("say --yes where nobody can be asked")),
    }
}
