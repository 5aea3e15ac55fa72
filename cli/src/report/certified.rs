//! What came of holding a certificate against what is stored (`atrest/certified/v1`).

use std::fmt::Write as _;

use atrest_core::at_rest::{Group, GroupResource};
use serde::Serialize;

use super::verify::{escape, name_of};
use crate::rotate::Counts;
use crate::rotate::certificate::Certificate;

/// `atrest/certified/v1`.
#[derive(Debug, Serialize)]
pub(crate) struct Certified {
    schema: &'static str,
    run: String,
    source: &'static str,
    revision: i64,
    /// The certified revision at which all was counted again; null where that cannot be told.
    recounted_at: Option<i64>,
    differences: Vec<String>,
    unread: Vec<String>,
    verdict: Verdict,
}

/// In a word.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Holds,
    Differs,
    Unknown,
}

impl Certified {
    pub(crate) fn new(certificate: &Certificate, source: &'static str, revision: i64) -> Self {
        Self {
            schema: "atrest/certified/v1",
            run: certificate.run.clone(),
            source,
            revision,
            recounted_at: None,
            differences: Vec::new(),
            unread: Vec::new(),
            verdict: Verdict::Holds,
        }
    }

    pub(crate) fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// What is certified of a name, and what is found.
    pub(crate) fn same(&mut self, what: &str, (certified, found): (Option<&str>, Option<&str>)) {
        match (certified, found) {
            (Some(certified), Some(found)) if certified != found => {
                let found = escape(found);
                self.differs(format!(
                    "{what} is {found}, and the certificate's {certified}"
                ));
            }
            (Some(_), Some(_)) | (None, _) => {}
            (Some(_), None) => self.is_unread(format!("{what} cannot be read")),
        }
    }

    pub(crate) fn is_under_another_key(&mut self, resource: &GroupResource, group: &Group) {
        self.differs(format!(
            "{} {resource} are under {} {}",
            group.count,
            escape(&group.provider),
            name_of(group.key.as_deref())
        ));
    }

    pub(crate) fn recounted_at(&mut self, revision: i64) {
        self.recounted_at = Some(revision);
    }

    pub(crate) fn counts_differ(&mut self, revision: i64, proven: &Counts, found: Option<&Counts>) {
        let total = found.map_or(0, |found| found.total);
        let (resource, certified) = (&proven.resource, proven.total);
        self.differs(match total == certified {
            true => format!("the keys of the {certified} {resource} at revision {revision} are other ones"),
            false => format!(
                "at revision {revision} there are {total} {resource}, and the certificate has {certified}"
            ),
        });
    }

    pub(crate) fn cannot_recount(&mut self, revision: i64) {
        self.is_unread(format!(
            "values were written or deleted since revision {revision}, of which the history is gone: the \
             certificate's counts cannot be told any more"
        ));
    }

    /// It is not as the certificate says.
    pub(crate) fn differs(&mut self, how: String) {
        self.differences.push(how);
        self.verdict = Verdict::Differs;
    }

    fn is_unread(&mut self, what: String) {
        self.unread.push(what);
        if self.verdict == Verdict::Holds {
            self.verdict = Verdict::Unknown;
        }
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut out = format!(
            "certificate of run {}, held against a {} at revision {}\n",
            self.run, self.source, self.revision
        );
        if let Some(revision) = self.recounted_at {
            let _ = writeln!(out, "counted again as of revision {revision}");
        }
        for difference in &self.differences {
            let _ = writeln!(out, "differs: {difference}");
        }
        for unread in &self.unread {
            let _ = writeln!(out, "unread:  {unread}");
        }
        let verdict = match self.verdict {
            Verdict::Holds => "it holds",
            Verdict::Differs => "it does not hold",
            Verdict::Unknown => "unknown",
        };
        let _ = writeln!(out, "verdict: {verdict}");
        out
    }
}
