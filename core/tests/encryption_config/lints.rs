//! Every lint where it holds, and beside it a twin where it just does not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use atrest_core::encryption_config::{
    Finding, Origin, Rule, Server, Severity, Stage, Surroundings, judge, lint,
};

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/encryption_config")
}

/// With KMS v1, so that it is the lints that speak of it.
fn server() -> Server {
    Server {
        kmsv1: true,
        ..Server::default()
    }
}

fn lints(source: &str) -> Vec<Finding> {
    lint(source.as_bytes(), &server(), &Surroundings::default())
}

fn ids(findings: &[Finding]) -> BTreeSet<&'static str> {
    findings.iter().map(|finding| finding.id).collect()
}

/// `ID PATH LINE:COLUMN`
fn found(findings: &[Finding]) -> Vec<String> {
    let one = |it: &Finding| format!("{} {} {}:{}", it.id, it.path, it.line, it.column);
    findings.iter().map(one).collect()
}

/// The lints that need more than one file's bytes.
const OF_SURROUNDINGS: std::ops::RangeInclusive<&str> = "AR-L048"..="AR-L059";

fn rules() -> impl Iterator<Item = &'static Rule> {
    Rule::all().filter(|rule| rule.origin == Origin::Lint)
}

#[test]
fn every_lint_has_a_file_where_it_fires_and_a_twin_where_it_does_not() {
    let mut folders: BTreeSet<_> = std::fs::read_dir(tests().join("lints"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for rule in rules().filter(|rule| !OF_SURROUNDINGS.contains(&rule.id)) {
        assert!(folders.remove(rule.id), "{} has no files", rule.id);
        let read = |name: &str| {
            let path = tests().join("lints").join(rule.id).join(name);
            std::fs::read_to_string(&path).unwrap()
        };
        let [fires, quiet] = ["fires.yaml", "quiet.yaml"].map(read);
        for source in [&fires, &quiet] {
            let judgement = judge(source.as_bytes(), &server());
            assert_eq!(
                judgement.stage,
                Stage::Ok,
                "{}: {:?}",
                rule.id,
                judgement.findings
            );
        }
        let [firing, silent] = [&fires, &quiet].map(|source| lints(source));
        assert!(ids(&firing).contains(rule.id), "{}: {:#?}", rule.id, firing);
        assert!(
            !ids(&silent).contains(rule.id),
            "{}: {:#?}",
            rule.id,
            silent
        );
        // What sets the twins apart is this lint: the one that is quiet has no warning of its own.
        let warns =
            |it: &&Finding| it.severity == Severity::Warning && !ids(&firing).contains(it.id);
        assert_eq!(silent.iter().find(warns), None, "{}", rule.id);
        let lines =
            |source: &str| -> BTreeSet<String> { source.lines().map(str::to_owned).collect() };
        let apart = lines(&fires).symmetric_difference(&lines(&quiet)).count();
        assert!(apart <= 6, "{}: {apart} lines are different", rule.id);
    }
    assert!(folders.is_empty(), "no lint: {folders:?}");
}

#[test]
fn no_lint_is_an_error() {
    assert!(rules().count() >= 25);
    for rule in rules() {
        assert!(rule.id.starts_with("AR-L"), "{}", rule.id);
        assert_ne!(rule.severity, Severity::Error, "{}", rule.id);
        assert!(rule.page.lines().count() > 4, "{} has no page", rule.id);
    }
}

/// What a newcomer copies from documentation or tries on the way, and what is said of it.
#[test]
fn surprises_are_named() {
    let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let folder = tests().join("surprises");
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let source = std::fs::read_to_string(&path).unwrap();
        let first = source.lines().next().unwrap();
        let ids = first.strip_prefix("# finds ").expect("`# finds ID...`");
        let ids = ids.split_whitespace().map(str::to_owned).collect();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        expected.insert(name, ids);
    }
    assert!(expected.len() >= 20);
    for (name, ids) in expected {
        let source = std::fs::read(folder.join(&name)).unwrap();
        let server = Server::default();
        let mut findings = judge(&source, &server).findings;
        findings.extend(lint(&source, &server, &Surroundings::default()));
        let mut said: Vec<_> = findings.iter().map(|finding| finding.id).collect();
        said.sort_unstable();
        said.dedup();
        assert_eq!(said, ids, "{name}: {findings:#?}");
        assert!(
            findings.iter().all(|finding| finding.fix.len() > 10),
            "{name}"
        );
    }
}
