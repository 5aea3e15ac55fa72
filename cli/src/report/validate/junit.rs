//! JUnit's XML, as CI systems read it: a suite for each file, with a case for the verdict and one
//! for each finding.

use std::fmt::{self, Write};

use atrest_core::encryption_config::{Finding, Verdict};

use super::{File, Report, Unread, server_words};

/// The document.
pub(super) fn suites(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write(report, &mut out);
    out
}

fn write(report: &Report, out: &mut String) -> fmt::Result {
    writeln!(out, r#"<?xml version="1.0" encoding="UTF-8"?>"#)?;
    writeln!(out, r#"<testsuites name="atrest validate">"#)?;
    for file in &report.files {
        suite(report, file, out)?;
    }
    for unread in &report.unread {
        let Unread { path, reason, .. } = unread;
        let (path, reason) = (xml(path), xml(reason));
        writeln!(
            out,
            r#"  <testsuite name="{path}" tests="1" failures="0" errors="1">"#
        )?;
        writeln!(
            out,
            r#"    <testcase classname="{path}" name="the file can be read">"#
        )?;
        writeln!(out, r#"      <error type="unread" message="{reason}"/>"#)?;
        writeln!(out, "    </testcase>\n  </testsuite>")?;
    }
    writeln!(out, "</testsuites>")
}

fn suite(report: &Report, file: &File, out: &mut String) -> fmt::Result {
    let failing = file
        .findings
        .iter()
        .filter(|it| report.is_failure(it))
        .count();
    let rejected = file.verdict == Verdict::Reject;
    let path = xml(&file.path);
    let version = &report.kubernetes_version;
    writeln!(
        out,
        r#"  <testsuite name="{path}" tests="{}" failures="{}" errors="0">"#,
        file.findings.len() + 1,
        failing + usize::from(rejected)
    )?;
    let verdict = format!(r#"classname="{path}" name="kube-apiserver {version} accepts it""#);
    if rejected {
        writeln!(out, "    <testcase {verdict}>")?;
        writeln!(
            out,
            r#"      <failure type="reject" message="it is rejected"/>"#
        )?;
        writeln!(out, "    </testcase>")?;
    } else {
        writeln!(out, "    <testcase {verdict}/>")?;
    }
    for finding in &file.findings {
        let Finding {
            id,
            line,
            column,
            severity,
            message,
            fix,
            path: at,
            ..
        } = finding;
        let message = xml(message);
        let mut text = format!("{}:{line}:{column}\n", file.path);
        if !at.is_empty() {
            writeln!(text, "at: {at}")?;
        }
        write!(text, "fix: {fix}")?;
        if let Some(words) = server_words(finding) {
            write!(text, "\nkube-apiserver says: {words}")?;
        }
        let text = xml(&text);
        writeln!(
            out,
            r#"    <testcase classname="{path}" name="{id} at {line}:{column}">"#
        )?;
        if report.is_failure(finding) {
            writeln!(
                out,
                r#"      <failure type="{severity}" message="{message}">{text}</failure>"#
            )?;
        } else {
            writeln!(
                out,
                "      <system-out>{severity}: {message}\n{text}</system-out>"
            )?;
        }
        writeln!(out, "    </testcase>")?;
    }
    writeln!(out, "  </testsuite>")
}

/// Text for an attribute or an element. What XML has no form for is escaped as in Rust.
fn xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for scalar in text.chars() {
        match scalar {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push('\n'),
            '\u{fffe}' | '\u{ffff}' => escaped.extend(scalar.escape_default()),
            scalar if scalar.is_control() => escaped.extend(scalar.escape_default()),
            scalar => escaped.push(scalar),
        }
    }
    escaped
}
