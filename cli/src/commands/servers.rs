//! `atrest servers`

use crate::args::{Global, Servers, ServersAction, ServersFlags};
use crate::commands::confirmed;
use crate::report;
use crate::rotate::{List, Lock, Sync, listed_servers};
use crate::status::{ExitStatus, Failure};

/// Runs the command.
pub(crate) async fn run(global: &Global, arguments: &Servers) -> Result<ExitStatus, Failure> {
    let flags = &arguments.flags;
    match arguments.action.clone().unwrap_or(ServersAction::List) {
        ServersAction::List => {
            let (servers, _) = listed_servers(flags.file.as_deref())?;
            let list = List::make(global, &servers).await?;
            report::render(global.output, &list, || list.text())?;
            Ok(list.exit_status())
        }
        ServersAction::Sync { node, dry_run } => sync(global, flags, &node, dry_run).await,
    }
}

async fn sync(
    global: &Global,
    flags: &ServersFlags,
    node: &str,
    dry_run: bool,
) -> Result<ExitStatus, Failure> {
    let (servers, state_dir) = listed_servers(flags.file.as_deref())?;
    // A rotation that acts would write the same file.
    let _lock = match dry_run {
        true => None,
        false => Some(Lock::acquire(
            flags.state_dir.as_ref().unwrap_or(&state_dir),
        )?),
    };
    let sync = Sync::plan(global, &servers, node).await?;
    report::say(sync.text());
    if dry_run {
        return Ok(ExitStatus::Done);
    }
    if !flags.yes && !sync.is_there() {
        let no = || Failure::unusable("nothing was changed");
        match confirmed("go on?") {
            Some(true) => {}
            Some(false) => return Err(no()),
            None => return Err(no().hint("say --yes where nobody can be asked")),
        }
    }
    sync.act(flags.load_timeout).await?;
    Ok(ExitStatus::Done)
}
