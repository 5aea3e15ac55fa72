//! The result of `atrest validate`: schema `atrest/validate/v1`, and its form for people.

use std::fmt;
use std::path::Path;

use atrest_core::encryption_config::{Finding, Judgement, Server, Severity, Stage, Verdict};
use serde::Serialize;

use super::one_line;

/// What came out for all files.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    schema: &'static str,
    kubernetes_version: String,
    pub(crate) files: Vec<File>,
    pub(crate) unread: Vec<Unread>,
}

/// What came out for one file.
#[derive(Debug, Serialize)]
pub(crate) struct File {
    path: String,
    pub(crate) verdict: Verdict,
    stage: Stage,
    pub(crate) findings: Vec<Finding>,
}

/// A file that could not be read.
#[derive(Debug, Serialize)]
pub(crate) struct Unread {
    path: String,
    pub(crate) reason: String,
}

impl Report {
    pub(crate) fn new(server: &Server) -> Self {
        Self {
            schema: "atrest/validate/v1",
            kubernetes_version: format!("1.{}", server.minor),
            files: Vec::new(),
            unread: Vec::new(),
        }
    }
}

impl File {
    pub(crate) fn new(path: &Path, judgement: Judgement) -> Self {
        Self {
            path: path.to_string_lossy().into_owned(),
            verdict: judgement.verdict(),
            stage: judgement.stage,
            findings: judgement.findings,
        }
    }
}

impl Unread {
    pub(crate) fn new(path: &Path, reason: String) -> Self {
        Self {
            path: path.to_string_lossy().into_owned(),
            reason,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for file in &self.files {
            let path = one_line(&file.path);
            for finding in &file.findings {
                let Finding {
                    line,
                    column,
                    severity,
                    id,
                    message,
                    ..
                } = finding;
                writeln!(f, "{path}:{line}:{column}: {severity}[{id}]: {message}")?;
                if !finding.path.is_empty() {
                    writeln!(f, "    at:  {}", finding.path)?;
                }
                writeln!(f, "    fix: {}", finding.fix)?;
            }
            let version = &self.kubernetes_version;
            match file.verdict {
                Verdict::Accept => writeln!(f, "{path}: kube-apiserver {version} accepts it")?,
                Verdict::Reject => {
                    let errors = file.findings.iter();
                    let errors = errors.filter(|it| it.severity == Severity::Error).count();
                    let s = if errors == 1 { "" } else { "s" };
                    writeln!(
                        f,
                        "{path}: kube-apiserver {version} rejects it: {errors} error{s}"
                    )?;
                }
            }
        }
        Ok(())
    }
}
