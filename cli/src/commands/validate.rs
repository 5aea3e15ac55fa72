//! `atrest validate`

mod fix;
mod surroundings;

use std::io::{self, Read};
use std::path::Path;

use atrest_core::encryption_config::{Server, Surroundings, compare, judge, lint};
use atrest_core::secret::SecretBytes;

use crate::args::{Global, Validate};
use crate::report;
use crate::report::validate::{File, Report, Unread};
use crate::status::{ExitStatus, Failure};

/// Runs the command.
pub(crate) fn run(global: &Global, arguments: &Validate) -> Result<ExitStatus, Failure> {
    let server = server(global, arguments)?;
    let stdin = Path::new("-");
    if arguments.files.iter().filter(|file| *file == stdin).count() > 1 {
        return Err(Failure::unusable("stdin can be read once only").hint("name - once"));
    }
    if arguments.same && arguments.files.len() < 2 {
        return Err(Failure::unusable("--same compares two files or more")
            .hint("name the file of each API server"));
    }
    if arguments.fix {
        fix::run(global, arguments, &server)?;
    }
    // Asked of the cluster of the moment only where it is named.
    let served = match global.kubeconfig {
        Some(_) => Some(super::wait(surroundings::served(global))?),
        None => None,
    };
    let mut first: Option<SecretBytes> = None;
    let mut report = Report::new(&server, arguments.fail_on.into());
    for path in &arguments.files {
        let source = if path == stdin {
            read_stdin()
        } else {
            atrest_files::read(path).map_err(|error| error.to_string())
        };
        match source {
            Ok(source) => {
                let surroundings = Surroundings {
                    file: (path != stdin).then(|| surroundings::file(path)).flatten(),
                    served: served.clone(),
                };
                let mut lints = lint(source.expose(), &server, &surroundings);
                if let Some(first) = first.as_ref().filter(|_| arguments.same) {
                    lints.extend(compare(first.expose(), source.expose(), &server));
                    lints.sort_by_key(|lint| (lint.line, lint.column, lint.id));
                }
                lints.retain(|lint| !arguments.allow.iter().any(|allowed| allowed.0 == lint.id));
                let mut judgement = judge(source.expose(), &server);
                judgement.findings.extend(lints);
                report
                    .files
                    .push(File::new(path, source.expose(), judgement));
                first.get_or_insert(source);
            }
            Err(reason) => report.unread.push(Unread::new(path, reason)),
        }
    }
    report.print(global)?;

    if !report.unread.is_empty() {
        for unread in &report.unread {
            report::say(format_args!("error: {}", unread.reason));
        }
        return Ok(ExitStatus::Unusable);
    }
    Ok(if report.fails() {
        ExitStatus::Findings
    } else {
        ExitStatus::Done
    })
}

/// The server that judges: a release, its gates, and what the flags say about them.
fn server(global: &Global, arguments: &Validate) -> Result<Server, Failure> {
    let minor = arguments
        .kubernetes_version
        .map_or(Server::NEWEST, |version| version.0);
    if minor > Server::NEWEST && !global.quiet {
        report::say(format_args!(
            "1.{minor} is newer than what is known here: judging as 1.{}",
            Server::NEWEST
        ));
    }
    let minor = minor.min(Server::NEWEST);
    let mut server = Server {
        automatic_reload: arguments.automatic_reload,
        ..Server::release(minor)
    };
    for gate in &arguments.feature_gates {
        let unknown = || {
            let message = format!(
                "the API server of 1.{minor} has no feature gate {}",
                gate.name
            );
            Failure::unusable(message).hint("leave it out: the server would not start with it")
        };
        match gate.name.as_str() {
            "KMSv1" if minor < 28 => return Err(unknown()),
            "KMSv1" => server.kmsv1 = gate.enabled,
            "KMSv2" if minor >= 32 => return Err(unknown()),
            "KMSv2" if minor >= 29 && !gate.enabled => {
                let message = format!("the feature gate KMSv2 of 1.{minor} cannot be turned off");
                return Err(Failure::unusable(message).hint("leave it out"));
            }
            "KMSv2" => server.kmsv2 = gate.enabled,
            _ => {}
        }
    }
    Ok(server)
}

fn read_stdin() -> Result<SecretBytes, String> {
    let mut bytes = Vec::new();
    let read = io::stdin()
        .lock()
        .take(atrest_files::MAX_SIZE + 1)
        .read_to_end(&mut bytes);
    let bytes = SecretBytes::new(bytes);
    match read {
        Err(error) => Err(format!("cannot read stdin: {error}")),
        Ok(length) if length as u64 > atrest_files::MAX_SIZE => {
            Err("cannot read stdin: it has more than 16 MiB".to_owned())
        }
        Ok(_) => Ok(bytes),
    }
}
