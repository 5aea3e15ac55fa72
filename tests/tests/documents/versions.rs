//! Versions that are stated more than once are the same.

use std::fs;

use atrest_tests::programs::{BEFORE_HASHES, KUBERNETES};

use crate::markdown::repository;

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap()
}

/// What stands behind `start` in the first line that has it, up to one of `ends`.
fn behind(text: &str, start: &str, ends: &[char]) -> String {
    let (_, rest) = text
        .split_once(start)
        .unwrap_or_else(|| panic!("{start:?} is not there"));
    rest.split(ends).next().unwrap().to_owned()
}

#[test]
fn the_readme_states_the_versions_of_the_code() {
    let readme = read("README.md");
    let rust = behind(&read("Cargo.toml"), "rust-version = \"", &['"']);
    assert_eq!(behind(&readme, "Rust ", &[' ', ',', '\n']), rust);

    let newest = KUBERNETES.trim_start_matches('v');
    let minor = newest.rsplit_once('.').unwrap().0;
    let judges = read("core/src/encryption_config/judge.rs");
    let known = |name: &str| behind(&judges, &format!("{name}: u32 = "), &[';']);
    let range = format!("1.{} to 1.{}", known("OLDEST"), known("NEWEST"));
    assert!(readme.contains(&format!("Kubernetes {range}")), "{range}");
    assert!(range.ends_with(minor), "tests run {newest}");
    let before_hashes = BEFORE_HASHES.trim_start_matches('v');
    let tested = format!("Kubernetes {newest} and {before_hashes}");
    assert!(readme.contains(&tested), "{tested}");
}

#[test]
fn the_readme_states_the_go_that_the_control_plane_needs() {
    let modules = "tests/control-plane";
    let needed = ["kubernetes", "kube-apiserver/1.33", "etcd/3.7"].map(|module| {
        let pinned = behind(
            &read(&format!("{modules}/{module}/go.mod")),
            "\ngo ",
            &['\n'],
        );
        let mut parts = pinned.split('.').map(|part| part.parse::<u32>().unwrap());
        (parts.next().unwrap(), parts.next().unwrap())
    });
    let (major, minor) = needed.into_iter().max().unwrap();
    assert_eq!(
        behind(&read("README.md"), "Go ", &[' ', ',', '\n']),
        format!("{major}.{minor}")
    );
}

#[test]
fn the_pinned_kubernetes_is_the_one_that_tests_say_they_run() {
    for (module, said) in [
        ("kubernetes", KUBERNETES),
        ("kube-apiserver/1.33", BEFORE_HASHES),
    ] {
        let module = read(&format!("tests/control-plane/{module}/go.mod"));
        let pinned = behind(&module, "k8s.io/kubernetes ", &[' ', '\n']);
        assert_eq!(pinned, said);
    }
}
