//! `--output junit`, read by an XML parser.

use std::collections::BTreeMap;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use crate::validate::{GOOD, bad};
use crate::{Run, atrest, atrest_with};

/// An element, its attributes, and what is in it.
#[derive(Debug, Default)]
struct Element {
    name: String,
    attributes: BTreeMap<String, String>,
    children: Vec<Element>,
    text: String,
}

impl Element {
    fn of(start: &BytesStart<'_>) -> Self {
        let attributes = start.attributes().map(|attribute| {
            let attribute = attribute.unwrap();
            let value = quick_xml::escape::unescape(&attribute.value).unwrap();
            (attribute.key.as_ref().to_owned(), value.into_owned())
        });
        Self {
            name: start.name().as_ref().to_owned(),
            attributes: attributes.collect(),
            ..Self::default()
        }
    }

    fn count(&self, name: &str) -> usize {
        let within: usize = self.children.iter().map(|child| child.count(name)).sum();
        within + usize::from(self.name == name)
    }
}

/// The root; panics where it is no XML.
fn parse(xml: &str) -> Element {
    let allowed = |c: char| !c.is_control() || c == '\n';
    assert!(xml.chars().all(allowed), "{xml:?}");
    let mut reader = Reader::from_str(xml);
    reader.config_mut().check_end_names = true;
    let mut open = vec![Element::default()];
    loop {
        match reader.read_event().unwrap() {
            Event::Start(start) => open.push(Element::of(&start)),
            Event::Empty(start) => open.last_mut().unwrap().children.push(Element::of(&start)),
            Event::End(_) => {
                let element = open.pop().unwrap();
                open.last_mut().unwrap().children.push(element);
            }
            Event::Text(text) => open.last_mut().unwrap().text += &*text,
            Event::Eof => break,
            _ => {}
        }
    }
    assert_eq!(open.len(), 1);
    open.remove(0).children.remove(0)
}

/// Each suite's counts are those of its cases.
fn suites(run: &Run) -> Element {
    let root = parse(&run.stdout);
    assert_eq!(root.name, "testsuites");
    for suite in &root.children {
        assert_eq!(suite.name, "testsuite");
        for (attribute, element) in [
            ("tests", "testcase"),
            ("failures", "failure"),
            ("errors", "error"),
        ] {
            let count = suite.count(element).to_string();
            assert_eq!(
                suite.attributes[attribute],
                count,
                "{attribute} in {run:?}",
                run = run.stdout
            );
        }
        assert!(
            suite
                .children
                .iter()
                .all(|case| case.attributes.contains_key("classname"))
        );
    }
    root
}

#[test]
fn files_are_suites_and_findings_are_cases() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let files = [
        path("good <&>.yaml", GOOD),
        path(
            "bad\u{1b}[31m\n\"'.yaml",
            &bad("not*base64").replace("secrets", "Secrets"),
        ),
        folder.path().join("missing").display().to_string(),
    ];
    let run = atrest(
        ["validate", "--output", "junit"]
            .into_iter()
            .chain(files.iter().map(|it| &**it)),
    );
    assert_eq!(run.status, 2);
    let root = suites(&run);
    let counts: Vec<_> = root
        .children
        .iter()
        .map(|suite| ["tests", "failures", "errors"].map(|it| suite.attributes[it].as_str()))
        .collect();
    assert_eq!(counts, [["2", "0", "0"], ["3", "3", "0"], ["1", "0", "1"]]);
    assert!(root.children[0].attributes["name"].ends_with("good <&>.yaml"));
    assert!(root.children[1].attributes["name"].contains("bad\\u{1b}[31m"));
    let lint = &root.children[0].children[1];
    assert!(
        lint.children[0]
            .text
            .starts_with("warning: what is written"),
        "{lint:?}"
    );
    let case = &root.children[1].children[2];
    assert_eq!(case.attributes["name"], "AR-C018 at 9:23");
    let failure = &case.children[0];
    assert_eq!(failure.attributes["message"], "the secret is not base64");
    assert_eq!(failure.attributes["type"], "error");
    assert!(
        failure.text.contains("at: resources[0].providers[0]"),
        "{}",
        failure.text
    );
}

#[test]
fn an_empty_file_is_rejected() {
    let run = atrest_with(["validate", "-", "--output", "junit"], b"");
    assert_eq!(run.status, 1);
    assert_eq!(suites(&run).children[0].attributes["failures"], "2");
}
