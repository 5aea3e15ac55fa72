//! What a test starts ends with it, also when it panics or is killed.
//!
//! A shell outside the test's process group reads, line by line, how to undo what the test did.
//! When its input ends, because the test ended in whatever way, it runs the lines, last first.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;

const SCRIPT: &str = include_str!("keeper.sh");

/// Undoes what was registered with it when it is dropped, or when this process ends.
pub struct Keeper {
    shell: Child,
    lines: Mutex<Option<ChildStdin>>,
}

impl Keeper {
    /// Starts the shell.
    pub fn start() -> Self {
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("sh is on every machine that runs the tests");
        let lines = shell.stdin.take();
        Self {
            shell,
            lines: Mutex::new(lines),
        }
    }

    /// Ends this process, politely and then not, unless it ended before.
    pub fn end(&self, pid: u32) {
        let started = start_time(pid).unwrap_or_default();
        self.line(&format!("end {pid} {started}"));
    }

    /// Removes a directory and all that is in it.
    pub fn remove(&self, directory: &Path) {
        self.undo(&[
            "rm",
            "-rf",
            "--one-file-system",
            &directory.display().to_string(),
        ]);
    }

    /// Runs a command at the end.
    pub fn undo(&self, command: &[&str]) {
        let mut line = String::new();
        for word in command {
            let _ = write!(line, "'{}' ", word.replace('\'', r"'\''"));
        }
        self.line(&line);
    }

    fn line(&self, line: &str) {
        assert!(!line.contains('\n'), "one command a line");
        let mut lines = self.lines.lock().expect("no holder of this lock panics");
        if let Some(lines) = lines.as_mut() {
            writeln!(lines, "{line}").expect("the shell ignores signals and reads to the end");
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Ok(mut lines) = self.lines.lock() {
            lines.take();
        }
        let _ = self.shell.wait();
    }
}

/// The kernel's start time of a process tells it from a later one of the same pid.
fn start_time(pid: u32) -> Option<String> {
    let stat = std::fs::File::open(format!("/proc/{pid}/stat")).ok()?;
    let stat = std::io::read_to_string(stat).ok()?;
    // The command's name, in parentheses, may hold spaces; start time is the 20th field behind it.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_started_ends_and_what_was_made_goes_last_first() {
        let folder = tempfile::tempdir().unwrap();
        let made = folder.path().join("made");
        std::fs::create_dir(&made).unwrap();
        let keeper = Keeper::start();
        keeper.remove(&made);
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        keeper.end(child.id());
        // Holds only if the directory is removed after this.
        keeper.undo(&["mkdir", &made.join("it's").display().to_string()]);
        drop(keeper);
        assert!(!child.wait().unwrap().success());
        assert!(!made.exists());
    }
}
