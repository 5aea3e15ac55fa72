//! `atrest` as its users run it: arguments in; stdout, stderr, files and an exit status out.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic and use std"
)]

mod editor;
mod explain;
mod fix;
mod generate;
mod junit;
mod sarif;
mod schema;
mod validate;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a run of the program left.
struct Run {
    status: i32,
    stdout: String,
    stderr: String,
}

impl Run {
    /// Everything that was said.
    fn said(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

fn atrest<A: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = A>) -> Run {
    atrest_with(arguments, b"")
}

fn atrest_with<A: AsRef<std::ffi::OsStr>>(
    arguments: impl IntoIterator<Item = A>,
    stdin: &[u8],
) -> Run {
    let mut program = Command::new(env!("CARGO_BIN_EXE_atrest"))
        .args(arguments)
        .env_remove("KUBECONFIG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end without reading all of it.
    let _ = program.stdin.take().unwrap().write_all(stdin);
    let output = program.wait_with_output().unwrap();
    Run {
        status: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}
