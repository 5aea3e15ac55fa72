//! The JSON Schema of EncryptionConfiguration, for editors, beside the server's verdict.

use std::path::PathBuf;

use atrest_core::encryption_config::{Server, Verdict, judge};
use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::Value;

use crate::{atrest, repository};

struct Editor {
    schemas: Schemas,
    index: SchemaIndex,
}

impl Editor {
    fn new() -> Self {
        let schema = repository().join("docs/schema/encryption-configuration.json");
        let schema = serde_json::from_slice(&std::fs::read(schema).unwrap()).unwrap();
        let mut schemas = Schemas::new();
        let mut compiler = Compiler::new();
        compiler
            .add_resource("file:///editor.json", schema)
            .unwrap();
        let index = compiler
            .compile("file:///editor.json", &mut schemas)
            .unwrap();
        Self { schemas, index }
    }

    /// What it underlines; `None` for nothing.
    fn faults(&self, yaml: &str) -> Option<String> {
        let Ok(value) = serde_yaml::from_str::<Value>(yaml) else {
            return Some("no YAML".into());
        };
        let verdict = self.schemas.validate(&value, self.index);
        verdict.err().map(|error| error.to_string())
    }
}

fn is_accepted(yaml: &str) -> bool {
    // KMS v1 is legal where its gate is on.
    let server = Server {
        kmsv1: true,
        ..Server::default()
    };
    judge(yaml.as_bytes(), &server).verdict() == Verdict::Accept
}

const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\n";
const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn with(resource: &str, provider: &str) -> String {
    format!("{HEAD}resources:\n- resources: [{resource}]\n  providers:\n  - {provider}\n")
}

fn kms(fields: &str) -> String {
    with("secrets", &format!("kms: {{{fields}}}"))
}

#[test]
fn what_people_write_is_not_underlined() {
    let editor = Editor::new();
    let folder = repository().join("examples/encryption-configuration");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|it| std::fs::read_to_string(it.unwrap().path()).unwrap())
        .collect();
    for provider in ["aescbc", "aesgcm", "secretbox", "identity"] {
        files.push(atrest(["generate", "-o", "-", "--provider", provider]).stdout);
    }
    files.extend([
        with("secrets, '*.apps', widgets.example.com", "identity: {}"),
        with("'*.*'", "identity: {}"),
        with("'*.'", &format!("secretbox: {{keys: [{{name: key1, secret: {KEY}}}]}}")),
        with("events", &format!("aescbc: {{keys: [{{name: key1, secret: \"{KEY}\\n\"}}]}}")),
        with("secrets", "aesgcm: {keys: [{name: k, secret: AAAAAAAAAAAAAAAAAAAAAA==}]}"),
        kms("apiVersion: v2, name: a, endpoint: 'unix:///a/b.sock', timeout: 1m30s"),
        kms("apiVersion: v2, name: a, endpoint: 'unix:///@a', timeout: .5s"),
        kms("apiVersion: v1, name: a, endpoint: 'unix:///a', cachesize: -1"),
        "apiVersion: v1\nkind: EncryptionConfig\nresources:\n- resources: [secrets]\n  providers: [{identity: {}}]\n".into(),
    ]);
    for file in files {
        assert!(is_accepted(&file), "{file}");
        assert_eq!(editor.faults(&file), None, "{file}");
    }
}

#[test]
fn what_the_server_refuses_is_underlined() {
    let editor = Editor::new();
    for file in [
        HEAD.to_owned(),
        format!("{HEAD}resources: []\n"),
        with("secrets", "identity: {}").replace("/v1", "/v2"),
        with("secrets", "identity: {}").replace("Configuration", "Config"),
        with("secrets", "identity: {}") + "metadata: {}\n",
        with("", "identity: {}"),
        with("Secrets", "identity: {}"),
        with("'*'", "identity: {}"),
        with("secrets, secrets", "identity: {}"),
        with("'*.*', secrets", "identity: {}"),
        with("jobs.*", "identity: {}"),
        with("ingresses.extensions", "identity: {}"),
        with("events.events.k8s.io", "identity: {}"),
        with("apiserveripinfo", "identity: {}"),
        with("secrets", "identity: {a: b}"),
        with("secrets", "identity:"),
        with("secrets", "{}"),
        with("secrets", "identity: {}\n    kms: {}"),
        with("secrets", "aesgcm: {}"),
        with("secrets", "aesgcm: {keys: []}"),
        with(
            "secrets",
            &format!("aesgcm: {{keys: [{{name: '', secret: {KEY}}}]}}"),
        ),
        with(
            "secrets",
            &format!("aesgcm: {{keys: [{{name: 1, secret: {KEY}}}]}}"),
        ),
        with(
            "secrets",
            &format!("aesgcm: {{keys: [{{nam: a, secret: {KEY}}}]}}"),
        ),
        with(
            "secrets",
            "secretbox: {keys: [{name: k, secret: AAAAAAAAAAAAAAAAAAAAAA==}]}",
        ),
        with("secrets", "aescbc: {keys: [{name: k, secret: passphrase}]}"),
        kms("apiVersion: v2, name: 'a:b', endpoint: 'unix:///a'"),
        kms("apiVersion: v2, name: a, endpoint: /a"),
        kms("apiVersion: v2, name: a, endpoint: 'https://a'"),
        kms("apiVersion: v2, name: a"),
        kms("apiVersion: v2, name: a, endpoint: 'unix:///a', timeout: 3"),
        kms("apiVersion: v2, name: a, endpoint: 'unix:///a', timeout: 0s"),
        kms("apiVersion: v2, name: a, endpoint: 'unix:///a', timeout: 1d"),
        kms("apiVersion: v2, name: a, endpoint: 'unix:///a', cachesize: 10"),
        kms("apiVersion: v1, name: a, endpoint: 'unix:///a', cachesize: 0"),
        kms("apiVersion: v3, name: a, endpoint: 'unix:///a'"),
        kms("apiVersion: v2, name: a, endpoint: 'unix:///a', cacheSize: 10"),
    ] {
        assert!(!is_accepted(&file), "{file}");
        assert!(editor.faults(&file).is_some(), "{file}");
    }
}

/// The server takes these; nobody means them.
#[test]
fn what_misleads_is_underlined_as_well() {
    let editor = Editor::new();
    for file in [
        with("secrets/status", "identity: {}"),
        with("' secrets'", "identity: {}"),
        with("~", "identity: {}"),
        with(
            "secrets",
            &format!("aesgcm: {{keys: [{{name: 'a:b', secret: {KEY}}}]}}"),
        ),
        kms("name: a, endpoint: 'unix:///a'"),
        kms("apiVersion: v2, name: a, endpoint: 'unix://a/b'"),
        kms("apiVersion: v2, name: a, endpoint: 'unix:///a?b'"),
    ] {
        assert!(is_accepted(&file), "{file}");
        assert!(editor.faults(&file).is_some(), "{file}");
    }
}

/// Of upstream's own files; they lie outside of the repository, see `core/tests`.
#[test]
fn upstreams_good_files_are_mostly_clean() {
    let beside = repository().join("../shared/corpus");
    let corpus = std::env::var_os("ATREST_CORPUS").map_or(beside, PathBuf::from);
    let mut folders = vec![corpus.join("configs")];
    let (mut clean, mut underlined) = (0, Vec::new());
    let editor = Editor::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let Ok(text) = std::fs::read_to_string(&path) else {
                continue;
            };
            // A plugin without an apiVersion is of v1, which is off by default, and is underlined.
            let verdict = judge(text.as_bytes(), &Server::default()).verdict();
            if verdict == Verdict::Accept {
                match editor.faults(&text) {
                    None => clean += 1,
                    Some(faults) => underlined.push(format!("{}: {faults}", path.display())),
                }
            }
        }
    }
    assert!(
        underlined.len() * 4 <= clean,
        "{clean} are clean; {underlined:#?}"
    );
}
