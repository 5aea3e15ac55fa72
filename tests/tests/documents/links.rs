//! Links between our documents lead somewhere.

use crate::markdown::documents;

#[test]
fn every_relative_link_resolves() {
    let mut broken = Vec::new();
    let mut seen = 0;
    for document in documents() {
        for target in targets(&document.prose()) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            seen += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let path = if file.is_empty() {
                document.path.clone()
            } else {
                document.path.parent().unwrap().join(file)
            };
            let there = match std::fs::read_to_string(&path) {
                Ok(text) => anchor.is_empty() || anchors(&text).any(|there| there == anchor),
                Err(_) => path.is_dir() && anchor.is_empty(),
            };
            if !there {
                broken.push(format!("{}: {target}", document.name()));
            }
        }
    }
    assert!(seen > 20, "only {seen} links were found");
    assert!(broken.is_empty(), "{broken:#?}");
}

/// The targets of `[text](target)`.
fn targets(prose: &str) -> Vec<String> {
    let ends = prose.split("](").skip(1);
    ends.filter_map(|rest| Some(rest.split_once(')')?.0.to_owned()))
        .collect()
}

/// The headings of a page, as links name them.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| {
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || matches!(c, '-' | '_') => Some(c),
            _ => None,
        });
        kept.collect()
    })
}

#[test]
fn links_and_headings_are_found() {
    assert_eq!(targets("see [a](b.md#c) and [d](e)."), ["b.md#c", "e"]);
    let anchors: Vec<_> = anchors("# The `x` of 1. y\ntext\n").collect();
    assert_eq!(anchors, ["the-x-of-1-y"]);
}
