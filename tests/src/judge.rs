//! Asks kube-apiserver's own code what it makes of configurations: one process for each release,
//! which answers until its stdin is closed (`tests/control-plane/judge`).

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use atrest_core::encryption_config::Server;
use serde::Deserialize;
use tempfile::TempDir;

use crate::programs;

/// A release of kube-apiserver that judges.
#[derive(Debug)]
pub struct Judge {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    _folder: TempDir,
}

/// What it says of one file.
#[derive(Clone, Debug, Deserialize)]
pub struct Answer {
    /// How far it gets.
    pub stage: Stage,
    /// What it logs, without what stands in front of it at this stage.
    pub message: String,
    /// For [`Stage::Validate`] each error, in its order.
    #[serde(default)]
    pub fields: Vec<FieldError>,
}

/// An error of validation.
#[derive(Clone, Debug, Deserialize)]
pub struct FieldError {
    /// `resources[0].providers[0].aescbc.keys[0].name`
    pub path: String,
    /// `Required value` or `Invalid value`
    pub kind: String,
    /// The whole text, path and kind included.
    pub text: String,
}

/// How far the server gets with a file.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// To the end: it accepts the file.
    Ok,
    /// The file has no byte.
    Empty,
    /// It cannot be decoded.
    Decode,
    /// It breaks a rule of the API.
    Validate,
    /// It cannot be made into transformers.
    Load,
    /// The server panics.
    Panic,
}

impl Judge {
    /// The releases that there are modules of, newest first.
    pub const RELEASES: [u32; 4] = [37, 33, 30, 27];

    /// Starts the judge of the release 1.`minor`, which has to be one of [`Self::RELEASES`]. A first
    /// time builds it.
    pub fn start(minor: u32) -> Self {
        let program = programs::judge(minor).unwrap_or_else(|error| panic!("{error}"));
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        let mut child = Command::new(program)
            .arg(folder.path().join("file"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the judge was just built");
        Self {
            requests: child.stdin.take(),
            answers: BufReader::new(child.stdout.take().expect("its stdout is a pipe")),
            child,
            _folder: folder,
        }
    }

    /// What a server with these settings makes of the file. The release is that of the judge.
    pub fn ask(&mut self, file: &[u8], server: &Server) -> Answer {
        let flags = u8::from(server.automatic_reload)
            | u8::from(server.kmsv1) << 1
            | u8::from(server.kmsv2) << 2;
        let length = u32::try_from(file.len()).expect("a small file");
        let request = [&[flags][..], &length.to_be_bytes(), file].concat();
        let requests = self.requests.as_mut().expect("open until it is dropped");
        requests.write_all(&request).expect("the judge reads on");
        let mut answer = String::new();
        self.answers
            .read_line(&mut answer)
            .expect("the judge answers in UTF-8");
        serde_json::from_str(&answer).expect("the judge's answer")
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        self.requests = None;
        let _ = self.child.wait();
    }
}
