//! The result of `atrest check`: schema `atrest/check/v1`, and its form for people.

use std::fmt::{self, Write};

use anstyle::{AnsiColor, Style};
use atrest_core::check::{self, Entry, Finding, Time, Unread, Verdict};
use atrest_core::encryption_config::Severity;
use serde::Serialize;

use super::verify::table;
use super::{Terminal, one_line, render};
use crate::args::Global;
use crate::status::Failure;

/// What came out.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    schema: &'static str,
    at: Time,
    findings: Vec<Finding>,
    unread: Vec<Unread>,
    inventory: Vec<Entry>,
    pub(crate) verdict: Verdict,
}

impl Report {
    pub(crate) fn new(judged: check::Report, at: Time, fail_on: Severity) -> Self {
        let verdict = judged.verdict(fail_on);
        Self {
            schema: "atrest/check/v1",
            at,
            findings: judged.findings,
            unread: judged.unread,
            inventory: judged.inventory,
            verdict,
        }
    }

    /// Prints it in the form that was asked for.
    pub(crate) fn print(&self, global: &Global) -> Result<(), Failure> {
        render(global.output, self, || {
            self.text(&Terminal::of_stdout(global.color))
        })
    }

    fn text(&self, terminal: &Terminal) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = self.write(terminal, &mut out);
        out
    }

    fn write(&self, terminal: &Terminal, out: &mut String) -> fmt::Result {
        if !self.inventory.is_empty() {
            writeln!(out, "{}", self.certificates())?;
        }
        let mut effects: Vec<_> = self.findings.iter().map(|it| it.effect).collect();
        effects.sort_unstable();
        effects.dedup();
        let heading = terminal.style(Style::new().bold());
        for effect in effects {
            writeln!(out, "{heading}{}{heading:#}\n", effect.title())?;
            for finding in self.findings.iter().filter(|it| it.effect == effect) {
                write_finding(finding, terminal, out)?;
            }
        }
        if !self.unread.is_empty() {
            writeln!(out, "{heading}Could not be read{heading:#}\n")?;
            for Unread { input, reason } in &self.unread {
                writeln!(out, "{}: {}", one_line(input), one_line(reason))?;
            }
            writeln!(out)?;
        }
        writeln!(out, "{}", self.summary())
    }

    fn certificates(&self) -> String {
        let rows: Vec<_> = self
            .inventory
            .iter()
            .map(|entry| {
                let left = entry.not_after.since(self.at) / 86_400;
                [
                    left.to_string(),
                    entry.not_after.to_string(),
                    entry.role.clone(),
                    one_line(&entry.object),
                ]
            })
            .collect();
        table(["DAYS LEFT", "NOT AFTER", "FOR", "CERTIFICATE"], &rows)
    }

    fn summary(&self) -> String {
        let mut summary = format!("as of {}: {} certificates", self.at, self.inventory.len());
        for (severity, one, many) in [
            (Severity::Error, "error", "errors"),
            (Severity::Warning, "warning", "warnings"),
            (Severity::Info, "note", "notes"),
        ] {
            let found = self.findings.iter().filter(|it| it.severity == severity);
            match found.count() {
                0 => {}
                1 => summary.push_str(&format!(", 1 {one}")),
                count => summary.push_str(&format!(", {count} {many}")),
            }
        }
        if !self.unread.is_empty() {
            summary.push_str(&format!(", {} unread", self.unread.len()));
        }
        let verdict = match self.verdict {
            Verdict::Pass => "pass",
            Verdict::Fail => "fail",
            Verdict::Unknown => "unknown: not everything could be read",
        };
        format!("{summary}\n{verdict}")
    }
}

fn write_finding(finding: &Finding, terminal: &Terminal, out: &mut String) -> fmt::Result {
    let color = match finding.severity {
        Severity::Error => AnsiColor::Red,
        Severity::Warning => AnsiColor::Yellow,
        Severity::Info => AnsiColor::Cyan,
    };
    let color = terminal.style(color.on_default().bold());
    let Finding { id, severity, .. } = finding;
    writeln!(
        out,
        "{color}{severity}[{id}]{color:#}: {}: {}",
        one_line(&finding.object),
        one_line(&finding.message)
    )?;
    writeln!(out, "    seen:    {}", one_line(&finding.evidence))?;
    writeln!(out, "    so:      {}", one_line(&finding.consequence))?;
    writeln!(out, "    fix:     {}", one_line(&finding.fix))?;
    if !finding.restart.is_empty() {
        writeln!(out, "    restart: {}", finding.restart.join(", "))?;
    }
    writeln!(out)
}
