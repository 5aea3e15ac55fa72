//! Programs that are measured as whole processes.

use std::fs;
use std::io::{Read, Seek};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// Between two looks at a process.
const LOOK: Duration = Duration::from_millis(5);

/// What a run of one program, or of several at once, took.
#[derive(Debug, Default)]
pub(crate) struct Run {
    pub(crate) time: Duration,
    /// The most that was resident, in bytes, in sum.
    pub(crate) memory: u64,
    /// Of all processors, user and system, in sum.
    pub(crate) cpu: Duration,
    /// What the last one printed.
    pub(crate) stdout: Vec<u8>,
}

/// Runs a program to its good end.
pub(crate) fn run(command: &mut Command) -> Result<Run, String> {
    let mut output = tempfile::tempfile().map_err(|error| error.to_string())?;
    let start = Instant::now();
    command.stdout(output.try_clone().map_err(|error| error.to_string())?);
    let child = spawn(command)?;
    let mut run = wait(start, vec![child])?;
    output
        .rewind()
        .and_then(|()| output.read_to_end(&mut run.stdout))
        .map_err(|error| error.to_string())?;
    Ok(run)
}

/// Starts a program.
pub(crate) fn spawn(command: &mut Command) -> Result<Child, String> {
    let name = command.get_program().display().to_string();
    command.spawn().map_err(|error| format!("{name}: {error}"))
}

/// Waits until all of them have ended well. The kernel keeps a process's figures until it is waited
/// for.
pub(crate) fn wait(start: Instant, mut children: Vec<Child>) -> Result<Run, String> {
    let mut run = Run::default();
    let mut memory = vec![0; children.len()];
    let mut used = vec![Duration::ZERO; children.len()];
    let mut running = children.len();
    let mut ended = vec![false; children.len()];
    while running > 0 {
        for (i, child) in children.iter_mut().enumerate() {
            if ended[i] {
                continue;
            }
            // A zombie still says how much time it has used.
            used[i] = cpu(child.id()).unwrap_or(used[i]).max(used[i]);
            memory[i] = peak_memory(child.id()).max(memory[i]);
            let state = child.try_wait().map_err(|error| error.to_string())?;
            if let Some(status) = state {
                if !status.success() {
                    return Err(format!("process {}: {status}", child.id()));
                }
                ended[i] = true;
                running -= 1;
            }
        }
        std::thread::sleep(if running > 0 { LOOK } else { Duration::ZERO });
    }
    run.time = start.elapsed();
    run.memory = memory.iter().sum();
    run.cpu = used.iter().sum();
    Ok(run)
}

/// The processor time that a process has used, user and system (`proc_pid_stat(5)`).
pub(crate) fn cpu(pid: u32) -> Option<Duration> {
    const USER: usize = 11; // counted from behind the name, which may hold anything

    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split_ascii_whitespace().skip(USER);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let ticks = ticks()? + ticks()?;
    let second = rustix::param::clock_ticks_per_second();
    Some(Duration::from_secs_f64(ticks as f64 / second as f64))
}

/// The most that was resident, in bytes.
pub(crate) fn peak_memory(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or_default() << 10
}
