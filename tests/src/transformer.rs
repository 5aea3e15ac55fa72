//! kube-apiserver's own transformers and codecs, as a process that encrypts, decrypts, encodes and
//! decodes values (`tests/control-plane/transformer`).

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::programs;

/// A server's transformers, with a KMS plugin of each version behind them.
#[derive(Debug)]
pub struct Transformer {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    _folder: TempDir,
}

/// What kube-apiserver makes of a value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// The plaintext, or the stored value.
    pub data: Vec<u8>,
    /// Whether an update that changes nothing would rewrite it.
    pub stale: bool,
}

impl Transformer {
    /// Starts it with a configuration; `V1` and `V2` in it stand for the endpoints of the plugins.
    /// A first time builds it.
    pub fn start(configuration: &str) -> Self {
        let program = programs::transformer().unwrap_or_else(|error| panic!("{error}"));
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        let path = |name: &str| folder.path().join(name);
        let text = ["v1", "v2"]
            .iter()
            .fold(configuration.to_owned(), |text, name| {
                let endpoint = format!("unix://{}", path(name).display());
                text.replace(&name.to_uppercase(), &endpoint)
            });
        std::fs::write(path("config"), text).expect("our folder");
        let mut child = Command::new(program)
            .args([path("config"), path("v1"), path("v2")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it was just built");
        Self {
            requests: child.stdin.take(),
            answers: BufReader::new(child.stdout.take().expect("its stdout is a pipe")),
            child,
            _folder: folder,
        }
    }

    /// Encrypts a plaintext.
    pub fn write(&mut self, storage_key: &str, plaintext: &[u8]) -> Result<Answer, String> {
        self.ask(false, false, storage_key, plaintext)
    }

    /// Decrypts a stored value.
    pub fn read(&mut self, storage_key: &str, value: &[u8]) -> Result<Answer, String> {
        self.ask(true, false, storage_key, value)
    }

    /// Encodes a manifest as it is stored, without encryption.
    pub fn encode(&mut self, manifest: &[u8]) -> Result<Vec<u8>, String> {
        self.ask(false, true, "", manifest)
            .map(|answer| answer.data)
    }

    /// Decodes a stored object into its manifest.
    pub fn decode(&mut self, stored: &[u8]) -> Result<Vec<u8>, String> {
        self.ask(true, true, "", stored).map(|answer| answer.data)
    }

    fn ask(
        &mut self,
        read: bool,
        object: bool,
        storage_key: &str,
        data: &[u8],
    ) -> Result<Answer, String> {
        let request = json!({
            "read": read,
            "object": object,
            "resource": "secrets",
            "key": storage_key,
            "data": BASE64_STANDARD.encode(data),
        });
        let requests = self.requests.as_mut().expect("open until it is dropped");
        writeln!(requests, "{request}").expect("it reads on");
        let mut answer = String::new();
        let answers = &mut self.answers;
        answers.read_line(&mut answer).expect("it answers in UTF-8");
        let answer: Value = serde_json::from_str(&answer).expect("its answer");
        if let Some(error) = answer["error"].as_str().filter(|error| !error.is_empty()) {
            return Err(error.to_owned());
        }
        let data = answer["data"].as_str().unwrap_or_default();
        Ok(Answer {
            data: BASE64_STANDARD.decode(data).expect("Go's base64"),
            stale: answer["stale"] == true,
        })
    }
}

impl Drop for Transformer {
    fn drop(&mut self) {
        self.requests = None;
        let _ = self.child.wait();
    }
}
