//! The rotation.yaml of the guide is one that `atrest rotate` takes.

use atrest_tests::atrest;

use crate::markdown::{Document, documents};

fn guide() -> Document {
    let found = documents()
        .into_iter()
        .find(|d| d.path.ends_with("docs/guide/rotate.md"));
    found.unwrap()
}

/// What `rotate plan` says of a file. No cluster can be reached.
fn plan(rotation: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rotation.yaml");
    std::fs::write(&path, rotation).unwrap();
    let path = path.display().to_string();
    atrest::run(["rotate", "plan", "-f", &path])
        .expect(2)
        .stderr
}

fn sample() -> String {
    let blocks = guide().blocks();
    let mut samples = blocks
        .into_iter()
        .filter(|block| block.text.contains("kind: Rotation"));
    samples.next().unwrap().text
}

#[test]
fn the_guides_rotation_yaml_is_taken() {
    // The next thing that is missing.
    let said = plan(&sample());
    assert!(said.contains("kubeconfig"), "{said}");
}

#[test]
fn what_is_no_field_or_no_recipient_is_refused() {
    let no_recipient = sample().replace("recipients: []", "recipients: [age1]");
    let said = plan(&no_recipient);
    assert!(said.contains("no recipient of age"), "{said}");
    let said = plan(&sample().replace("maxRate", "maxrate"));
    assert!(said.contains("not a rotation.yaml"), "{said}");
}
