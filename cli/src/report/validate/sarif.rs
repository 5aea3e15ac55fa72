//! SARIF 2.1.0 (OASIS): what code hosts and editors show beside the line. It carries no snippet.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use atrest_core::encryption_config::{Finding, Rule, Severity};
use serde_json::{Value, json};

use super::{File, Report, server_words};

/// The log, with one run.
pub(super) fn log(report: &Report) -> Value {
    let findings = report.files.iter().flat_map(|file| &file.findings);
    let broken: BTreeSet<_> = findings.map(|finding| finding.id).collect();
    let rules: Vec<_> = Rule::all()
        .filter(|rule| broken.contains(rule.id))
        .collect();
    let results = report.files.iter().enumerate().flat_map(|(index, file)| {
        let result = |finding| result(index, file, finding, &rules);
        file.findings.iter().map(result).collect::<Vec<_>>()
    });
    let artifact = |file: &File| {
        json!({
            "location": {"uri": uri(&file.location)},
            "roles": ["analysisTarget"],
            "properties": {"verdict": file.verdict, "stage": file.stage},
        })
    };
    let unread = report.unread.iter().map(|file| {
        json!({
            "level": "error",
            "message": {"text": file.reason},
            "locations": [{"physicalLocation": {"artifactLocation": {"uri": uri(&file.location)}}}],
        })
    });
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "atrest",
                "version": env!("CARGO_PKG_VERSION"),
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules.iter().map(|rule| descriptor(rule)).collect::<Vec<_>>(),
            }},
            "invocations": [{
                "executionSuccessful": report.unread.is_empty(),
                "toolExecutionNotifications": unread.collect::<Vec<_>>(),
            }],
            "columnKind": "unicodeCodePoints",
            "artifacts": report.files.iter().map(artifact).collect::<Vec<_>>(),
            "results": results.collect::<Vec<_>>(),
            "properties": {"kubernetesVersion": report.kubernetes_version},
        }],
    })
}

fn descriptor(rule: &Rule) -> Value {
    let page = rule.page();
    let why = page.split("\n\n").next().unwrap_or_default();
    let why = [rule.title(), &why.replace('\n', " ")].join(" ");
    let help = format!("{}\n\n{page}\n", rule.title());
    json!({
        "id": rule.id,
        "shortDescription": {"text": rule.title()},
        "fullDescription": {"text": why.trim()},
        "help": {"text": help, "markdown": help},
        "defaultConfiguration": {"level": level(rule.severity)},
    })
}

fn result(index: usize, file: &File, finding: &Finding, rules: &[&Rule]) -> Value {
    let mut text = format!("{}\nfix: {}", finding.message, finding.fix);
    if let Some(words) = server_words(finding) {
        text.push_str("\nkube-apiserver says: ");
        text.push_str(words);
    }
    text.retain(|scalar| scalar == '\n' || !scalar.is_control());
    let mut location = json!({
        "physicalLocation": {
            "artifactLocation": {"uri": uri(&file.location), "index": index},
            "region": {"startLine": finding.line, "startColumn": finding.column},
        },
    });
    if !finding.path.is_empty() {
        location["logicalLocations"] = json!([{"fullyQualifiedName": finding.path}]);
    }
    json!({
        "ruleId": finding.id,
        "ruleIndex": rules.iter().position(|rule| rule.id == finding.id),
        "level": level(finding.severity),
        "message": {"text": text},
        "locations": [location],
    })
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "note",
    }
}

/// The path as a reference that is relative where the path is.
fn uri(path: &Path) -> String {
    let mut uri = String::from(if path.is_absolute() { "file://" } else { "" });
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                uri.push(char::from(*byte));
            }
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_references() {
        for (path, reference) in [
            ("a/b.yaml", "a/b.yaml"),
            ("../a b:c.yaml", "../a%20b%3Ac.yaml"),
            ("/etc/ä", "file:///etc/%C3%A4"),
            ("-", "-"),
        ] {
            assert_eq!(uri(Path::new(path)), reference);
        }
    }
}
