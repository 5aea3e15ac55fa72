//! The result of `atrest validate`: schema `atrest/validate/v1`, for people, and in the two forms
//! that other programs show beside the code.

mod excerpt;
mod junit;
mod sarif;
mod text;

use std::path::{Path, PathBuf};

use atrest_core::encryption_config::{Finding, Judgement, Server, Severity, Stage, Verdict, mask};
use serde::Serialize;

use crate::args::{Global, Output};
use crate::report;
use crate::status::Failure;

/// The lints that say that two servers would load something different: what `--same` asks.
const DIFFERENT: [&str; 2] = ["AR-L058", "AR-L059"];

/// What came out for all files.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    schema: &'static str,
    kubernetes_version: String,
    pub(crate) files: Vec<File>,
    pub(crate) unread: Vec<Unread>,
    /// The least severity that fails an accepted file.
    #[serde(skip)]
    fail_on: Severity,
}

/// What came out for one file.
#[derive(Debug, Serialize)]
pub(crate) struct File {
    path: String,
    pub(crate) verdict: Verdict,
    stage: Stage,
    pub(crate) findings: Vec<Finding>,
    #[serde(skip)]
    location: PathBuf,
    /// Its text, masked; empty where nothing is to be shown of it.
    #[serde(skip)]
    masked: String,
}

/// A file that could not be read.
#[derive(Debug, Serialize)]
pub(crate) struct Unread {
    path: String,
    pub(crate) reason: String,
    #[serde(skip)]
    location: PathBuf,
}

impl Report {
    pub(crate) fn new(server: &Server, fail_on: Severity) -> Self {
        Self {
            schema: "atrest/validate/v1",
            kubernetes_version: format!("1.{}", server.minor),
            files: Vec::new(),
            unread: Vec::new(),
            fail_on,
        }
    }

    /// Whether a file is rejected, or has a finding that fails it.
    pub(crate) fn fails(&self) -> bool {
        self.files.iter().any(|file| {
            file.verdict == Verdict::Reject || file.findings.iter().any(|it| self.is_failure(it))
        })
    }

    fn is_failure(&self, finding: &Finding) -> bool {
        finding.severity >= self.fail_on || DIFFERENT.contains(&finding.id)
    }

    /// Prints it in the form that was asked for.
    pub(crate) fn print(&self, global: &Global) -> Result<(), Failure> {
        match global.output {
            Output::Sarif => report::json(&sarif::log(self)),
            Output::Junit => report::text(&junit::suites(self)),
            output => report::render(output, self, || {
                text::render(self, &report::Terminal::of_stdout(global.color))
            }),
        }
    }
}

impl File {
    pub(crate) fn new(path: &Path, source: &[u8], judgement: Judgement) -> Self {
        Self {
            path: path.to_string_lossy().into_owned(),
            verdict: judgement.verdict(),
            stage: judgement.stage,
            masked: match judgement.findings.is_empty() {
                true => String::new(),
                false => mask(source),
            },
            findings: judgement.findings,
            location: path.to_owned(),
        }
    }
}

/// What kube-apiserver itself logs, where it is known and is not what is said already.
fn server_words(finding: &Finding) -> Option<&str> {
    let words = finding.server.as_deref();
    words.filter(|words| *words != finding.message)
}

impl Unread {
    pub(crate) fn new(path: &Path, reason: String) -> Self {
        Self {
            path: path.to_string_lossy().into_owned(),
            reason,
            location: path.to_owned(),
        }
    }
}
