//! Schemas are JSON, and results that the documents show have what their schemas require.

use std::fs;

use atrest_tests::schema;
use serde_json::Value;

use crate::markdown::{documents, repository};

#[test]
fn every_schema_names_its_result() {
    let mut seen = 0;
    for entry in fs::read_dir(repository().join("docs/schema")).unwrap() {
        let path = entry.unwrap().path();
        let schema = schema::read(&path).unwrap();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        if stem == "encryption-configuration" {
            continue; // no result of ours
        }
        let (name, version) = stem.rsplit_once('-').unwrap();
        let id = format!("atrest/{name}/{version}");
        assert_eq!(
            schema["$schema"],
            "https://json-schema.org/draft/2020-12/schema"
        );
        assert_eq!(schema["$id"], id.as_str());
        assert_eq!(schema["properties"]["schema"]["const"], id.as_str());
        required_is_described(&schema, &id);
        seen += 1;
    }
    assert_eq!(seen, 13);
}

/// A field that is required and has no description of its type is a slip of the pen.
fn required_is_described(schema: &Value, at: &str) {
    for name in schema["required"].as_array().into_iter().flatten() {
        let name = name.as_str().unwrap();
        assert!(!schema["properties"][name].is_null(), "{at}: {name}");
    }
    let children = schema.as_object().into_iter().flatten();
    for (name, child) in children.filter(|(_, child)| child.is_object()) {
        required_is_described(child, &format!("{at}/{name}"));
    }
}

#[test]
fn every_sample_is_as_its_schema_says() {
    let mut seen = 0;
    for document in documents() {
        for block in document.blocks() {
            if block.language != "json" {
                continue;
            }
            let place = format!("{}:{}", document.name(), block.line);
            let sample: Value = serde_json::from_str(&block.text)
                .unwrap_or_else(|error| panic!("{place}: {error}"));
            if sample.get("schema").is_some() {
                seen += 1;
                let faults = schema::faults(&sample);
                assert!(faults.is_empty(), "{place}: {faults:#?}");
            }
        }
    }
    assert!(seen >= 4, "only {seen} samples were found");
}
