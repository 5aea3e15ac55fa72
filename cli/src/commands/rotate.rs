//! `atrest rotate`

use std::path::Path;

use crate::args::{Engine, Global, Init, Output, Rotate, RotateAction, RotateFlags};
use crate::cluster::ApiServer;
use crate::commands::confirmed;
use crate::report;
use crate::rotate::rewrite::etcd::SKIPPED;
use crate::rotate::{
    Initial, Journal, Lock, Plan, Reached, Record, Report, Run, Settings, Window, adopt, begin,
    certificate, init, opened, page, run_of_cluster, state_dir,
};
use crate::status::{ExitStatus, Failure};

/// Runs the command.
pub(crate) async fn run(global: &Global, arguments: &Rotate) -> Result<ExitStatus, Failure> {
    let flags = &arguments.flags;
    let action = arguments.action.as_ref().unwrap_or(&RotateAction::Plan);
    if let RotateAction::Init(arguments) = action {
        return write_rotation(global, flags, arguments).await;
    }
    let state_dir = state_dir(flags)?;
    match action {
        RotateAction::Init(_) => Ok(ExitStatus::Done), // above
        RotateAction::Plan => {
            let newest = Journal::newest(&state_dir)?;
            let plan = Plan::make(
                global,
                flags,
                &Settings::resolve(flags)?,
                &ours(newest.as_ref()),
            )
            .await?;
            report::render(global.output, &plan, || plan.text())?;
            Ok(ExitStatus::Done)
        }
        RotateAction::Run => {
            let settings = Settings::resolve(flags)?;
            let window = opened(flags).await?;
            let _lock = Lock::acquire(&state_dir)?;
            let newest = Journal::newest(&state_dir)?;
            refuse_unfinished(newest.as_ref())?;
            let ended = newest.as_ref().map(|run| run.run.clone());
            let plan = Plan::make(global, flags, &settings, &ours(newest.as_ref())).await?;
            if !global.quiet {
                report::say(plan.text());
                if flags.engine == Engine::Etcd {
                    report::say(SKIPPED);
                }
            }
            if !flags.yes {
                ask()?;
            }
            if plan.decrypts {
                ask_for_plaintext(flags)?;
            }
            if let Some(unchanged) = newest.filter(|run| !run.is_done()) {
                unchanged.abandon()?;
            }
            let mut journal = begin(&state_dir, settings, plan.cluster, plan.writer, None)?;
            let (revision, resources) = plan.stored;
            journal.append(Record::Counted {
                revision,
                resources,
            })?;
            drive(global, flags, window, journal, ended.as_deref()).await
        }
        RotateAction::Resume => {
            let window = opened(flags).await?;
            let _lock = Lock::acquire(&state_dir)?;
            let known = Journal::newest(&state_dir)?;
            if let Some(run) = &flags.adopt_run
                && known.as_ref().is_none_or(|known| known.run != *run)
            {
                refuse_unfinished(known.as_ref())?;
                let settings = Settings::resolve(flags)?;
                let reached = Reached::connect(global, &settings).await?;
                let journal = adopt(&state_dir, settings, reached.cluster().await?, run)?;
                return drive(global, flags, window, journal, Some(run)).await;
            }
            let mut journal = known.ok_or_else(|| no_run(&state_dir))?;
            if journal.is_done() {
                report::say(format!(
                    "run {} is finished; there is nothing to resume",
                    journal.run
                ));
                say_certificate(&journal)?;
                return status(global, &journal).await;
            }
            if flags.file.is_some() {
                journal.join(&Settings::resolve(flags)?.servers)?;
            }
            drive(global, flags, window, journal, None).await
        }
        RotateAction::Rollback => {
            let window = opened(flags).await?;
            let _lock = Lock::acquire(&state_dir)?;
            roll_back(global, flags, window, newest(&state_dir)?).await
        }
        RotateAction::Status => match Journal::newest(&state_dir)? {
            Some(journal) => status(global, &journal).await,
            None => Err(elsewhere(global, &state_dir).await),
        },
    }
}

/// A file that exists may hold somebody's work.
async fn write_rotation(
    global: &Global,
    flags: &RotateFlags,
    arguments: &Init,
) -> Result<ExitStatus, Failure> {
    let Initial { text, notes } = init(global, flags, arguments).await?;
    let path = &arguments.to_file;
    if path == Path::new("-") {
        report::text(&text)?;
    } else {
        atrest_files::create(path, text.as_bytes()).map_err(|error| {
            Failure::unusable(error).hint("name another file with -o, or print it with -o -")
        })?;
        report::say(format!("wrote {}", path.display()));
    }
    for note in notes {
        report::say(format!("note: {note}"));
    }
    Ok(ExitStatus::Done)
}

async fn roll_back(
    global: &Global,
    flags: &RotateFlags,
    window: Window,
    mut journal: Journal,
) -> Result<ExitStatus, Failure> {
    let run = journal.run.clone();
    if journal.is_done() {
        return Err(Failure::unusable(format!("run {run} is finished")).hint(
            "the key before it is needed for nothing any more; atrest rotate run makes another",
        ));
    }
    if !journal.has_written() {
        journal.abandon()?;
        report::say(format!("run {run} had not changed anything, and ends here"));
        return Ok(ExitStatus::Done);
    }
    if !journal.has_written_files() {
        return Err(
            Failure::unusable("the run changed no file: only the plugin has another key").hint(
                "make another generation of its keyring the active one, then atrest rotate resume: it goes to \
                 the key that the plugin has",
            ),
        );
    }
    let unknown = || {
        Failure::unusable("it is not known what wrote before this run")
            .hint("it was adopted, or several keys wrote; atrest rotate resume goes on")
    };
    let writer = journal.writer().ok_or_else(unknown)?.clone();
    if !flags.yes {
        report::say(format!(
            "everything is {} again, and the run's key leaves every file",
            writer.describe()
        ));
        ask()?;
    }
    if writer.is_plaintext() {
        ask_for_plaintext(flags)?;
    }
    journal.roll_back()?;
    drive(global, flags, window, journal, None).await
}

/// One that was killed between its end and its certificate gets it now.
fn say_certificate(journal: &Journal) -> Result<(), Failure> {
    if journal.is_proven() {
        let path = certificate::write(journal)?;
        report::say(format!("certificate: {}", path.display()));
    }
    Ok(())
}

/// One run at a time for a state directory, too.
fn refuse_unfinished(newest: Option<&Journal>) -> Result<(), Failure> {
    match newest.filter(|run| !run.is_done() && run.has_written()) {
        None => Ok(()),
        Some(unfinished) => Err(Failure::unusable(format!(
            "run {} is not finished",
            unfinished.run
        ))
        .hint("atrest rotate resume goes on with it")),
    }
}

/// What the cluster says of a run that this machine does not know.
async fn elsewhere(global: &Global, state_dir: &Path) -> Failure {
    let no_run = no_run(state_dir);
    match ApiServer::connect(global).await {
        Ok(server) => match run_of_cluster(&[server], &[]).await {
            Ok(Some(other)) => other,
            Ok(None) => no_run,
            Err(failure) => failure,
        },
        Err(_) => no_run,
    }
}

/// The run that this machine knows is nobody else's.
fn ours(newest: Option<&Journal>) -> Vec<&str> {
    newest.iter().map(|run| run.run.as_str()).collect()
}

fn newest(state_dir: &Path) -> Result<Journal, Failure> {
    Journal::newest(state_dir)?.ok_or_else(|| no_run(state_dir))
}

fn no_run(state_dir: &Path) -> Failure {
    Failure::unusable(format!("there is no run in {}", state_dir.display()))
        .hint("name the run's directory with --state-dir, or begin with atrest rotate run")
}

async fn drive(
    global: &Global,
    flags: &RotateFlags,
    window: Window,
    journal: Journal,
    ended: Option<&str>,
) -> Result<ExitStatus, Failure> {
    let state_dir = journal.directory();
    let has_written = journal.has_written();
    let ended: Vec<_> = ended.into_iter().collect();
    let run = Run::new(global, flags, window, journal, &ended)
        .await
        .map_err(|failure| match has_written {
            true => failure.in_the_middle("nothing was changed since"),
            false => failure,
        })?;
    let proof = run.drive().await?;
    if global.output == Output::Text {
        report::text(&format!(
            "run {}: done; at revision {} all {} values are {}\n{}\n",
            proof.run,
            proof.revision,
            proof.census.total(),
            proof.under,
            proof.took,
        ))?;
        report::text(&format!("certificate: {}\n", proof.certificate.display()))?;
        return Ok(ExitStatus::Done);
    }
    status(global, &newest(&state_dir)?).await
}

async fn status(global: &Global, journal: &Journal) -> Result<ExitStatus, Failure> {
    if global.output == Output::Html {
        // Of the journal alone: also where no server answers any more.
        return report::text(&page(journal)).map(|()| ExitStatus::Done);
    }
    let report = Report::make(global, journal).await?;
    report::render(global.output, &report, || report.text())?;
    Ok(ExitStatus::Done)
}

/// The second time: `--yes` says nothing of this.
fn ask_for_plaintext(flags: &RotateFlags) -> Result<(), Failure> {
    if flags.accept_plaintext {
        return Ok(());
    }
    let no = || Failure::unusable("nothing was changed: everything would be stored in plaintext");
    match confirmed(
        "whoever can read etcd, a snapshot or a backup will read it. store it in plaintext?",
    ) {
        Some(true) => Ok(()),
        Some(false) => Err(no()),
        None => Err(no().hint("say --accept-plaintext where nobody can be asked")),
    }
}

fn ask() -> Result<(), Failure> {
    let no = || Failure::unusable("nothing was changed");
    match confirmed("go on?") {
        Some(true) => Ok(()),
        Some(false) => Err(no()),
        None => Err(no().hint("say --yes where nobody can be asked")),
    }
}
