//! When the programs of static pods started, by `/proc`, and which of the files that they read at their
//! start alone were changed since.

use std::path::Path;

use atrest_core::check::{Node, Stale, StaticPod, Time};

use super::node::unread;

/// The programs whose kubeconfig's certificate is read once: client-go follows certificates in files of
/// their own, not those in the kubeconfig.
const READ_ONCE: [&str; 2] = ["kube-controller-manager", "kube-scheduler"];

/// The start of a process follows from that of the machine, which is told in whole seconds.
const BLUR: i64 = 2;

/// What runs since before its kubeconfig was changed. A program that cannot be found is unread.
pub(super) fn stale(node: &mut Node) -> Vec<Stale> {
    let mut stale = Vec::new();
    for program in READ_ONCE {
        let Some(pod) = node.facts.pod(program) else {
            continue;
        };
        let Some(path) = pod.file("kubeconfig") else {
            continue;
        };
        let Some(changed) = node.files.iter().find(|file| file.object == path) else {
            continue; // It could not be read, which was said.
        };
        let changed = changed.changed;
        match started(pod) {
            Err(reason) => unread(node, format!("the process of {program}"), reason),
            Ok(started) if changed.since(started) > BLUR => stale.push(Stale {
                program,
                object: path,
                evidence: format!("changed at {changed}, {program} runs since {started}"),
            }),
            Ok(_) => {}
        }
    }
    stale
}

/// When the process with just this command line started; the last one where there are several.
fn started(pod: &StaticPod) -> Result<Time, String> {
    let processes = atrest_files::names(Path::new("/proc")).map_err(|error| error.to_string())?;
    let times = processes.iter().filter_map(|name| {
        let number: u32 = name.to_str()?.parse().ok()?;
        let process = Path::new("/proc").join(number.to_string());
        let line = atrest_files::read_pseudo(&process.join("cmdline")).ok()?;
        pod.is_run_by(&line).then(|| start_time(&process))?
    });
    let none = "no process has the command line of its static pod";
    times.max().ok_or_else(|| none.to_owned())
}

/// From the 22nd field of `stat`, in ticks since the machine's start.
fn start_time(process: &Path) -> Option<Time> {
    let stat = atrest_files::read_pseudo(&process.join("stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    // The program's name, in parentheses, may hold blanks.
    let (_, fields) = stat.rsplit_once(") ")?;
    let ticks: i64 = fields.split(' ').nth(19)?.parse().ok()?;
    let boot = atrest_files::read_pseudo(Path::new("/proc/stat")).ok()?;
    let boot = String::from_utf8_lossy(&boot);
    let boot = boot.lines().find_map(|line| line.strip_prefix("btime "))?;
    let per_second = i64::try_from(rustix::param::clock_ticks_per_second()).ok()?;
    Some(Time::from_unix(
        boot.trim().parse::<i64>().ok()? + ticks / per_second,
    ))
}
