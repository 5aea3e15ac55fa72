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
fn what_the_guide_calls_refused_is_refused_by_name() {
    for (from, to, field) in [("recipients: []", "recipients: [age1]", "escrow.recipients")] {
        let changed = sample().replace(from, to);
        assert_ne!(changed, sample(), "{from}");
        let said = plan(&changed);
        assert!(
            said.contains(&format!("{field} is not there yet")),
            "{said}"
        );
    }
    let said = plan(&sample().replace("maxRate", "maxrate"));
    assert!(said.contains("not a rotation.yaml"), "{said}");
}
