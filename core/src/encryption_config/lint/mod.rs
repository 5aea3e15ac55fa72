//! What is legal and wrong: lints. They read what the server has decoded, and never change its
//! verdict.

mod builtin;
mod chains;
mod cluster;
mod coverage;
mod document;
mod endpoint;
mod file;
mod keys;
mod kms;
mod names;
mod same;
mod surroundings;
mod survey;

use std::collections::{HashMap, HashSet};

use super::finding::{Finding, Place, fault};
use super::ids::Rule;
use super::judge::{Server, decode_source};
use super::rules;
use survey::Survey;

pub use self::same::compare;
pub use self::surroundings::{Directory, File, Served, Surroundings};

/// The lints of a file that the server can decode, in the order of line and column. What the
/// server's own rules say of a place is not said again.
pub fn lint(source: &[u8], server: &Server, surroundings: &Surroundings) -> Vec<Finding> {
    let (tree, draft) = match decode_source(source, server) {
        Ok((tree, draft, findings)) if findings.is_empty() => (tree, draft),
        _ => return Vec::new(),
    };
    let survey = Survey::of(&draft);
    let mut said = rules::validate(&draft, server).into_findings();
    if said.is_empty() {
        said = rules::load(&draft, server).into_findings();
    }
    let mut lints = Lints::new(said);
    document::lint(source, &tree, &mut lints);
    let meant = names::lint(&survey, surroundings.served.as_deref(), &mut lints);
    coverage::lint(&survey, &meant, &mut lints);
    chains::lint(&survey, &mut lints);
    keys::lint(&survey, &mut lints);
    kms::lint(&survey, &mut lints);
    if let Some(file) = &surroundings.file {
        file::lint(file, &survey, &mut lints);
    }
    if let Some(served) = &surroundings.served {
        cluster::lint(&survey, served, &mut lints);
    }
    lints.into_findings()
}

/// The findings so far.
#[derive(Default)]
struct Lints {
    findings: Vec<Finding>,
    /// Paths of which the server has said what is wrong.
    said: HashSet<String>,
    /// Paths of the findings.
    paths: HashSet<String>,
    count: HashMap<&'static str, usize>,
}

impl Lints {
    /// Findings of one lint that are kept: nobody reads more.
    const MOST: usize = 100;

    fn new(said: Vec<Finding>) -> Self {
        Self {
            said: said.into_iter().map(|finding| finding.path).collect(),
            ..Self::default()
        }
    }

    /// Whether the server finds fault with this field.
    fn is_said(&self, path: &str) -> bool {
        self.said.contains(path)
    }

    /// Whether there is a finding of ours about exactly this field.
    fn has(&self, path: &str) -> bool {
        self.paths.contains(path)
    }

    fn push(
        &mut self,
        rule: &Rule,
        path: impl Into<String>,
        place: Place,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        let path = path.into();
        let count = self.count.entry(rule.id).or_default();
        if *count < Self::MOST && !self.said.contains(&path) {
            *count += 1;
            self.paths.insert(path.clone());
            self.findings.push(fault(rule, path, place, message, fix));
        }
    }

    fn into_findings(mut self) -> Vec<Finding> {
        self.findings
            .sort_by_key(|finding| (finding.line, finding.column, finding.id));
        self.findings
    }
}
