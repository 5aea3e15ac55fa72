//! All that a process holds in memory: while it runs, and at the moment of its end.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};

use crate::packages;
use crate::processes::ControlPlane;

/// Pages of nothing but zeros hold nothing, and most pages do.
const PAGE: usize = 4096;

/// Whether a test that looks into processes can go on; without root it may be skipped.
pub fn available() -> bool {
    if !rustix::process::geteuid().is_root() {
        let reason = "only root looks into a process that forbids it";
        assert!(
            std::env::var_os("ATREST_REQUIRE_NODES").is_none(),
            "{reason}"
        );
        eprintln!("skipped: {reason}");
        return false;
    }
    packages::available(&[("gdb", "gdb")])
}

/// The image of a running process that forbids core dumps: every mapping that can be written.
pub fn of_running(pid: u32) -> io::Result<Vec<u8>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let mut image = Vec::new();
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let (Some(range), Some(rights)) = (fields.next(), fields.next()) else {
            continue;
        };
        let Some((start, end)) = range.split_once('-') else {
            continue;
        };
        let (Ok(start), Ok(end)) = (u64::from_str_radix(start, 16), u64::from_str_radix(end, 16))
        else {
            continue;
        };
        if !rights.starts_with("rw") {
            continue;
        }
        let mut bytes = vec![0; usize::try_from(end - start).unwrap_or_default()];
        // A mapping may go while this reads.
        if memory.read_exact_at(&mut bytes, start).is_ok() {
            image.extend(bytes);
        }
    }
    Ok(image)
}

/// Runs a command, which has to succeed, under gdb to its `exit_group`, and gives its image then:
/// every mapping, and the registers of every thread.
pub fn at_exit(plane: &ControlPlane, command: &Command) -> Vec<u8> {
    let core = plane.directory().join("core-at-exit");
    let mut gdb = Command::new("gdb");
    gdb.args(["--batch", "--nx", "--quiet"]);
    for line in [
        "set debuginfod enabled off",
        "set startup-with-shell off",
        // Else the kernel's word on what belongs into a core dump would be ours.
        "set use-coredump-filter off",
        "set dump-excluded-mappings on",
        "handle all nostop noprint pass",
        "catch syscall exit_group",
        "run",
        &format!("gcore {}", core.display()),
        "delete",
        "continue",
    ] {
        gdb.args(["-ex", line]);
    }
    gdb.arg("--args")
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => gdb.env(name, value),
            None => gdb.env_remove(name),
        };
    }
    let output = plane
        .spawn(&mut gdb)
        .and_then(std::process::Child::wait_with_output)
        .expect("gdb is installed");
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("exited normally"),
        "{command:?}\n{said}\n{complained}"
    );
    let image = fs::read(&core).unwrap_or_else(|error| panic!("{error}\n{said}\n{complained}"));
    fs::remove_file(&core).expect("it was just read");
    image
}

/// The image without pages that are all zeros.
pub fn written_pages(image: &[u8]) -> Vec<u8> {
    let mut pages = Vec::new();
    for page in image.chunks(PAGE) {
        if page != [0; PAGE].as_slice() {
            pages.extend_from_slice(page);
        }
    }
    pages
}
