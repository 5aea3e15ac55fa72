//! The pages of findings: schema `atrest/explain/v1`, and their form for people.

use atrest_core::check;
use atrest_core::encryption_config::{Origin, Rule, Severity};
use serde::Serialize;

use super::verify::table;

/// Some rules, or all.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    schema: &'static str,
    rules: Vec<Page>,
}

/// One rule.
#[derive(Debug, Serialize)]
pub(crate) struct Page {
    id: &'static str,
    origin: &'static str,
    severity: Severity,
    kind: String,
    title: &'static str,
    page: String,
}

impl From<&'static Rule> for Page {
    fn from(rule: &'static Rule) -> Self {
        Self {
            id: rule.id,
            origin: match rule.origin {
                Origin::Server => "server",
                Origin::Lint => "lint",
            },
            severity: rule.severity,
            kind: rule.kind.to_string(),
            title: rule.title(),
            page: rule.page(),
        }
    }
}

impl From<&'static check::Rule> for Page {
    fn from(rule: &'static check::Rule) -> Self {
        Self {
            id: rule.id,
            origin: "check",
            severity: rule.severity,
            kind: rule.effect.title().to_owned(),
            title: rule.title(),
            page: rule.page(),
        }
    }
}

impl Report {
    pub(crate) fn new(pages: impl IntoIterator<Item = Page>) -> Self {
        Self {
            schema: "atrest/explain/v1",
            rules: pages.into_iter().collect(),
        }
    }

    /// Each page as it is.
    pub(crate) fn pages(&self) -> String {
        let page = |page: &Page| {
            let Page {
                id,
                severity,
                title,
                page,
                ..
            } = page;
            format!("{severity}[{id}]: {title}\n\n{page}\n")
        };
        self.rules.iter().map(page).collect::<Vec<_>>().join("\n")
    }

    /// A line for each.
    pub(crate) fn table(&self) -> String {
        let rows: Vec<_> = self
            .rules
            .iter()
            .map(|page| {
                [
                    page.id.to_owned(),
                    page.severity.to_string(),
                    page.title.to_owned(),
                ]
            })
            .collect();
        table(["ID", "SEVERITY", "TITLE"], &rows)
    }
}
