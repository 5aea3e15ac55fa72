//! Compares what we say that the server says with what it says, where we hide nothing of it.

use atrest_core::encryption_config::{Finding, Judgement};
use atrest_tests::judge::{Answer, Stage};

/// What our words hide or leave out.
const HIDDEN: [&str; 3] = ["REDACTED", "<the whole file>", "…"];

pub(crate) fn are_alike(ours: &Judgement, theirs: &Answer) -> bool {
    let findings = &ours.findings;
    match theirs.stage {
        Stage::Validate => {
            let mut pairs = findings.iter().zip(&theirs.fields);
            pairs.all(|(ours, theirs)| is_said(ours, &theirs.text))
        }
        // The server stops at the first.
        Stage::Load => findings
            .first()
            .is_some_and(|it| is_said(it, &theirs.message)),
        // Some of these are known by their gist only.
        Stage::Decode if findings.iter().any(|it| it.server.is_none()) => true,
        Stage::Decode => match theirs.message.strip_prefix("strict decoding error: ") {
            Some(list) => are_alike_in_strictness(findings, list),
            // It says one thing, be there as many as there may.
            None => {
                let message = without_scheme(&theirs.message);
                findings.iter().any(|it| is_said(it, message))
            }
        },
        _ => true,
    }
}

fn is_said(ours: &Finding, theirs: &str) -> bool {
    ours.server.as_ref().is_some_and(|it| fits(it, theirs))
}

/// The scheme's name is the place in the source where it is made, which depends on how the server is
/// built.
fn without_scheme(message: &str) -> &str {
    let scheme = message.rfind(" in scheme \"");
    scheme.map_or(message, |at| &message[..at])
}

/// The server lists all that it minds, up to a hundred of each kind, in another order.
fn are_alike_in_strictness(findings: &[Finding], list: &str) -> bool {
    let theirs = entries(list);
    let words = findings.iter().filter_map(|it| it.server.as_deref());
    let ours: Vec<&str> = words
        .filter_map(|it| it.strip_prefix("strict decoding error: "))
        .map(|it| it.strip_prefix(DUPLICATES).unwrap_or(it))
        .collect();
    let covers = |a: &[&str], b: &[&str], is_alike: fn(&str, &str) -> bool| {
        a.iter().all(|a| b.iter().any(|b| is_alike(a, b)))
    };
    (theirs.len() >= 100 || covers(&ours, &theirs, fits))
        && covers(&theirs, &ours, |theirs, ours| fits(ours, theirs))
}

const DUPLICATES: &str = "yaml: unmarshal errors:\n  ";

/// `line 4: key "a" already set in map`, and `unknown field "b"`.
fn entries(list: &str) -> Vec<&str> {
    let mut entries = Vec::new();
    let mut fields = list;
    if let Some(lines) = list.strip_prefix(DUPLICATES) {
        fields = "";
        for line in lines.split("\n  ") {
            // Behind the last one there are those of JSON.
            let end = line.find(" already set in map, ");
            let end = end.map(|end| end + " already set in map".len());
            entries.push(&line[..end.unwrap_or(line.len())]);
            fields = end.map_or("", |end| &line[end + ", ".len()..]);
        }
    }
    while let Some(start) = fields.find('"') {
        let mut end = start + 1;
        while !fields[end..].starts_with('"') {
            end += if fields[end..].starts_with('\\') {
                2
            } else {
                1
            };
            while !fields.is_char_boundary(end) {
                end += 1;
            }
        }
        entries.push(&fields[..=end]);
        fields = fields[end + 1..].trim_start_matches(", ");
    }
    entries
}

/// Whether `theirs` is `ours` with something in the place of what is hidden.
fn fits(ours: &str, theirs: &str) -> bool {
    let hidden = HIDDEN
        .iter()
        .filter_map(|it| Some((ours.find(it)?, it.len())));
    let Some((at, length)) = hidden.min() else {
        return ours == theirs;
    };
    let Some(mut rest) = theirs.strip_prefix(&ours[..at]) else {
        return false;
    };
    let after = &ours[at + length..];
    loop {
        if fits(after, rest) {
            return true;
        }
        let mut scalars = rest.chars();
        if scalars.next().is_none() {
            return false;
        }
        rest = scalars.as_str();
    }
}
