//! Findings for people: place, rule and sentence, the masked line, what to do.

use std::fmt::{self, Write};

use anstyle::{AnsiColor, Style};
use atrest_core::encryption_config::{Finding, Severity, Verdict};

use super::excerpt::excerpt;
use super::{File, Report, server_words};
use crate::report::{Terminal, one_line};

/// The whole report.
pub(super) fn render(report: &Report, terminal: &Terminal) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write(report, terminal, &mut out);
    out
}

fn write(report: &Report, terminal: &Terminal, out: &mut String) -> fmt::Result {
    for file in &report.files {
        let path = one_line(&file.path);
        let mut shown = None;
        for finding in &file.findings {
            let place = (finding.line, finding.column);
            heading(&path, finding, terminal, out)?;
            // Several findings at one place share its excerpt.
            if shown != Some(place) {
                lines(file, finding, terminal, out)?;
            }
            shown = Some(place);
            if !finding.path.is_empty() {
                writeln!(out, "    at:  {}", finding.path)?;
            }
            writeln!(out, "    fix: {}", finding.fix)?;
            if let Some(words) = server_words(finding) {
                writeln!(out, "    kube-apiserver says: {}", one_line(words))?;
            }
        }
        let version = &report.kubernetes_version;
        let verdict = match file.verdict {
            Verdict::Accept => "accepts",
            Verdict::Reject => "rejects",
        };
        writeln!(
            out,
            "{path}: kube-apiserver {version} {verdict} it{}",
            counts(file)
        )?;
    }
    if report.files.len() + report.unread.len() > 1 {
        writeln!(out, "{}", summary(report))?;
    }
    Ok(())
}

fn heading(path: &str, finding: &Finding, terminal: &Terminal, out: &mut String) -> fmt::Result {
    let Finding {
        line,
        column,
        severity,
        id,
        message,
        ..
    } = finding;
    let color = terminal.style(severity_style(*severity));
    writeln!(
        out,
        "{path}:{line}:{column}: {color}{severity}[{id}]{color:#}: {message}"
    )
}

fn lines(file: &File, finding: &Finding, terminal: &Terminal, out: &mut String) -> fmt::Result {
    const GUTTER: usize = 8; // five digits, a blank, a bar, a blank

    let room = terminal.width.saturating_sub(GUTTER);
    let Some((text, caret)) = excerpt(&file.masked, finding.line, finding.column, room) else {
        return Ok(());
    };
    let color = terminal.style(severity_style(finding.severity));
    writeln!(out, "{:>5} | {text}", finding.line)?;
    writeln!(out, "      | {:caret$}{color}^{color:#}", "")
}

fn severity_style(severity: Severity) -> Style {
    let color = match severity {
        Severity::Error => AnsiColor::Red,
        Severity::Warning => AnsiColor::Yellow,
        Severity::Info => AnsiColor::Cyan,
    };
    color.on_default().bold()
}

/// `: 2 errors, 1 warning`
fn counts(file: &File) -> String {
    let mut counts = String::new();
    for (severity, word) in [
        (Severity::Error, "error"),
        (Severity::Warning, "warning"),
        (Severity::Info, "note"),
    ] {
        let findings = file.findings.iter();
        let count = findings.filter(|it| it.severity == severity).count();
        if count > 0 {
            let separator = if counts.is_empty() { ":" } else { "," };
            let s = if count == 1 { "" } else { "s" };
            // Writing to a string does not fail.
            let _ = write!(counts, "{separator} {count} {word}{s}");
        }
    }
    counts
}

/// `3 files: 1 accepted, 1 rejected, 1 unread`
fn summary(report: &Report) -> String {
    let of = |verdict| {
        report
            .files
            .iter()
            .filter(|file| file.verdict == verdict)
            .count()
    };
    let parts = [
        (of(Verdict::Accept), "accepted"),
        (of(Verdict::Reject), "rejected"),
        (report.unread.len(), "unread"),
    ];
    let total = report.files.len() + report.unread.len();
    let parts = parts.iter().filter(|(count, _)| *count > 0);
    let parts: Vec<_> = parts
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    format!("{total} files: {}", parts.join(", "))
}
