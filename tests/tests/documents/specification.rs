//! Each promise of docs/SPECIFICATION.md names a test that exists, or says that it is pending.

use std::fs;

use crate::markdown::{documents, repository};

/// The `path.rs::name` in backquotes of a text.
fn tests_named(text: &str) -> Vec<(String, String)> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted
        .filter_map(|words| words.split_once("::"))
        .filter(|(path, _)| path.ends_with(".rs"))
        .map(|(path, name)| (path.to_owned(), name.to_owned()))
        .collect()
}

fn is_a_test(path: &str, name: &str) -> bool {
    let Ok(source) = fs::read_to_string(repository().join(path)) else {
        return false;
    };
    let (call, test) = (format!("fn {name}("), "test");
    let Some(at) = source.find(&call) else {
        return false;
    };
    // Between the function before it and this one there is its attribute.
    let before = &source[..at];
    let attributes = before.rfind('}').map_or(before, |end| &before[end..]);
    attributes.contains("#[") && attributes.contains(test)
}

#[test]
fn every_test_that_is_named_exists() {
    let mut missing = Vec::new();
    let mut seen = 0;
    for document in documents() {
        for (path, name) in tests_named(&document.prose()) {
            seen += 1;
            if !is_a_test(&path, &name) {
                missing.push(format!("{}: {path}::{name}", document.name()));
            }
        }
    }
    assert!(seen > 20, "only {seen} tests are named");
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_promise_names_its_test_or_is_pending() {
    let text = fs::read_to_string(repository().join("docs/SPECIFICATION.md")).unwrap();
    let mut last = 0;
    for line in text.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let Some(number) = cells[0]
            .strip_prefix('P')
            .and_then(|n| n.parse::<u32>().ok())
        else {
            continue; // a heading, or another table
        };
        assert_eq!(number, last + 1, "{line}");
        last = number;
        let proof = cells.last().unwrap();
        assert!(
            !tests_named(proof).is_empty() || proof.starts_with("pending"),
            "{line}"
        );
    }
    assert!(last > 20, "only {last} promises were found");
}

#[test]
fn a_function_that_is_no_test_is_none() {
    let here = "tests/tests/documents/specification.rs";
    assert!(is_a_test(here, "a_function_that_is_no_test_is_none"));
    assert!(!is_a_test(here, "is_a_test"));
    assert!(!is_a_test(here, "absent"));
    assert!(!is_a_test("absent.rs", "is_a_test"));
}
