//! The pages of findings: schema `atrest/explain/v1`, and their form for people.

use atrest_core::encryption_config::{Kind, Origin, Rule, Severity};
use serde::Serialize;

use super::verify::table;

/// Some rules, or all.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    schema: &'static str,
    rules: Vec<Page>,
}

#[derive(Debug, Serialize)]
struct Page {
    id: &'static str,
    origin: Origin,
    severity: Severity,
    kind: Kind,
    title: &'static str,
    page: String,
}

impl Report {
    pub(crate) fn new(rules: impl IntoIterator<Item = &'static Rule>) -> Self {
        let page = |rule: &'static Rule| Page {
            id: rule.id,
            origin: rule.origin,
            severity: rule.severity,
            kind: rule.kind,
            title: rule.title(),
            page: rule.page(),
        };
        Self {
            schema: "atrest/explain/v1",
            rules: rules.into_iter().map(page).collect(),
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
