//! Rules 2 to 32: each where it holds, and where it just does not.

use atrest_core::encryption_config::{Server, Stage, judge};

use crate::{HEAD, SECRET, found, judged};

/// One entry for these resources, with identity.
fn resources(list: &str) -> String {
    format!("{HEAD}resources:\n- resources: {list}\n  providers:\n  - identity: {{}}\n")
}

/// One entry for secrets with these providers, from line 6 on.
fn providers(list: &str) -> String {
    format!("{HEAD}resources:\n- resources: [secrets]\n  providers:\n{list}\n")
}

/// One KMS plugin with these fields.
fn kms(fields: &str) -> String {
    providers(&format!("  - kms: {{{fields}}}"))
}

/// One key of a provider.
fn key(provider: &str, fields: &str) -> String {
    providers(&format!("  - {provider}: {{keys: [{{{fields}}}]}}"))
}

fn assert_found(source: &str, expected: &[&str]) {
    let judgement = judged(source);
    assert_eq!(found(&judgement), expected, "{source}");
    let stage = if expected.is_empty() {
        Stage::Ok
    } else {
        Stage::Validate
    };
    assert_eq!(judgement.stage, stage, "{source}");
    assert_eq!(judgement.configuration.is_some(), expected.is_empty());
}

#[test]
fn something_must_be_there() {
    assert_found(HEAD, &["AR-C002 resources 1:1"]);
    assert_found(
        &format!("{HEAD}resources: []\n"),
        &["AR-C002 resources 3:12"],
    );
    assert_found(
        &format!("{HEAD}resources:\n- {{}}\n- null\n"),
        &[
            "AR-C003 resources[0].resources 4:3",
            "AR-C004 resources[0].providers 4:3",
            "AR-C003 resources[1].resources 5:3",
            "AR-C004 resources[1].providers 5:3",
        ],
    );
}

#[test]
fn resources_do_not_overlap() {
    let twice = "AR-C005 resources[0].resources";
    let overlap = "AR-C006 resources[0].resources";
    for (list, expected) in [
        ("[secrets, secrets]", &[&*format!("{twice} 4:24")][..]),
        ("[secrets, secrets.]", &[&format!("{twice} 4:24")]),
        (
            "['*.*', '*.*']",
            &[&format!("{twice} 4:22"), &format!("{overlap} 4:15")],
        ),
        (
            "['*.', '*.']",
            &[&format!("{twice} 4:21"), &format!("{overlap} 4:15")],
        ),
        (
            "['*.apps', '*.apps']",
            &[&format!("{twice} 4:25"), &format!("{overlap} 4:15")],
        ),
        ("[secrets, '*.']", &[&format!("{overlap} 4:24")]),
        ("['*.*', '*.foo']", &[&format!("{overlap} 4:15")]),
        (
            "[deployments.apps, '*.apps']",
            &[&format!("{overlap} 4:33")],
        ),
        ("['*.apps', '*.']", &[]),
        ("[deployments.apps, '*.']", &[]),
        ("['*.foo', '*.*.foo']", &[]),
        ("['*.*']", &[]),
    ] {
        assert_found(&resources(list), expected);
    }
}

#[test]
fn resources_have_names_that_work() {
    for (name, id) in [
        ("Secrets", "AR-C007"),
        ("sEcrets.Events.k8s.io", "AR-C007"),
        ("ÄPFEL", "AR-C007"),
        ("'*'", "AR-C008"),
        ("apiserveripinfo", "AR-C009"),
        ("serviceipallocations", "AR-C009"),
        ("servicenodeportallocations", "AR-C009"),
        ("events.events.k8s.io", "AR-C010"),
        ("'*.events.k8s.io'", "AR-C010"),
        ("ingresses.extensions", "AR-C011"),
        ("'secrets.*'", "AR-C012"),
    ] {
        assert_found(
            &resources(&format!("[{name}]")),
            &[&format!("{id} resources[0].resources[0] 4:15")],
        );
    }
    for name in [
        "''",
        "null",
        ".",
        "..",
        "'**'",
        "secrets*",
        "secrets/status",
        "' secrets'",
        "äpfel",
        "'*.*.foo'",
        "secrets.*.foo",
        "extensions",
        "events",
        "events.",
        "apiserveripinfo.",
        "events.v1.events.k8s.io",
        "'a\u{85}b'",
    ] {
        assert_found(&resources(&format!("[{name}]")), &[]);
    }
}

#[test]
fn an_element_is_one_provider() {
    let none = "AR-C013 resources[0].providers[0]";
    assert_found(&providers("  - {}"), &[&format!("{none} 6:5")]);
    assert_found(&providers("  - null"), &[&format!("{none} 6:5")]);
    assert_found(
        &providers("  - kms: null\n    identity:\n"),
        &[&format!("{none} 6:5")],
    );
    let keys = format!("{{keys: [{{name: a, secret: {SECRET}}}]}}");
    assert_found(
        &providers(&format!("  - identity: {{}}\n    secretbox: {keys}")),
        &["AR-C014 resources[0].providers[0] 6:5"],
    );
    // Of several only the first is looked into: kms, aesgcm, aescbc, secretbox.
    assert_found(
        &providers("  - secretbox: {}\n    aescbc: {}\n    aesgcm: {}"),
        &[
            "AR-C014 resources[0].providers[0] 6:5",
            "AR-C015 resources[0].providers[0].aesgcm.keys 8:13",
        ],
    );
}

#[test]
fn keys_have_names_and_secrets_of_the_right_length() {
    for provider in ["aesgcm", "aescbc", "secretbox"] {
        let path = format!("resources[0].providers[0].{provider}.keys");
        let start = 8 + provider.len(); // of what follows after the provider's name
        assert_found(
            &providers(&format!("  - {provider}: {{keys: []}}")),
            &[&format!("AR-C015 {path} 6:{}", start + 6)],
        );
        assert_found(
            &key(provider, ""),
            &[
                &format!("AR-C016 {path}[0].name 6:{}", start + 7),
                &format!("AR-C017 {path}[0].secret 6:{}", start + 7),
            ],
        );
        for secret in ["YWJjZ", "YQ", "YQ =", "'YQ==\\t'", "hunter2"] {
            assert_found(
                &key(provider, &format!("name: a, secret: {secret}")),
                &[&format!("AR-C018 {path}[0].secret 6:{}", start + 25)],
            );
        }
        for length in 0..40 {
            let allowed = if provider == "secretbox" {
                &[32][..]
            } else {
                &[16, 24, 32]
            };
            let secret = base64(length);
            let expected = match length {
                0 => "AR-C017",
                _ if allowed.contains(&length) => "",
                _ => "AR-C019",
            };
            let place = format!("{expected} {path}[0].secret 6:{}", start + 25);
            let expected = if expected.is_empty() {
                &[][..]
            } else {
                &[place.as_str()]
            };
            assert_found(
                &key(provider, &format!("name: a, secret: '{secret}'")),
                expected,
            );
        }
    }
    // Only line breaks: not empty, and of no byte.
    assert_found(
        &key("aescbc", r#"name: a, secret: "\n\n""#),
        &["AR-C019 resources[0].providers[0].aescbc.keys[0].secret 6:39"],
    );
}

/// So many zeros.
fn base64(length: usize) -> String {
    let mut text = "AAAA".repeat(length / 3);
    text.push_str(["", "AA==", "AAA="][length % 3]);
    text
}

#[test]
fn names_of_keys_are_free() {
    for name in ["a:b", "'a/b c'", "A", "\"a\\nb\""] {
        assert_found(
            &key("aescbc", &format!("name: {name}, secret: {SECRET}")),
            &[],
        );
    }
    let twice = format!("name: a, secret: {SECRET}}}, {{name: a, secret: {SECRET}");
    assert_found(&key("aescbc", &twice), &[]);
}

#[test]
fn plugins() {
    let path = "resources[0].providers[0].kms";
    let start = "apiVersion: v2, name: a, endpoint: 'unix:///k'";
    for (fields, expected) in [
        (start, &[][..]),
        ("name: 'a:b', endpoint: 'unix:///k'", &[]),
        ("", &["AR-C020 P.name 6:10", "AR-C024 P.endpoint 6:10"]),
        (
            "apiVersion: v2, name: 'a:b', endpoint: 'unix:///k'",
            &["AR-C021 P.name 6:33"],
        ),
        (
            &format!("{start}, timeout: 0s"),
            &["AR-C023 P.timeout 6:68"],
        ),
        (
            &format!("{start}, timeout: -1s"),
            &["AR-C023 P.timeout 6:68"],
        ),
        (&format!("{start}, timeout: 1ns"), &[]),
        ("name: a, endpoint: ''", &["AR-C024 P.endpoint 6:30"]),
        (
            "name: a, endpoint: 'unix:///%zz'",
            &["AR-C025 P.endpoint 6:30"],
        ),
        (
            "name: a, endpoint: \"unix:///a\\n\"",
            &["AR-C025 P.endpoint 6:30"],
        ),
        (
            "name: a, endpoint: 'http://k'",
            &["AR-C026 P.endpoint 6:30"],
        ),
        ("name: a, endpoint: /run/k", &["AR-C026 P.endpoint 6:30"]),
        ("name: a, endpoint: 'UNIX:///k'", &[]),
        (
            &format!("{start}, cachesize: 10"),
            &["AR-C027 P.cachesize 6:70"],
        ),
        (
            &format!("{start}, cachesize: 0"),
            &["AR-C027 P.cachesize 6:70"],
        ),
        (
            "name: a, endpoint: 'unix:///k', cachesize: 0",
            &["AR-C028 P.cachesize 6:54"],
        ),
        ("name: a, endpoint: 'unix:///k', cachesize: -1", &[]),
        (
            "apiVersion: '', name: a, endpoint: 'unix:///k', cachesize: 1",
            &[],
        ),
        (
            "apiVersion: v3, name: a, endpoint: 'unix:///k'",
            &["AR-C029 P.apiVersion 6:23"],
        ),
        (
            "apiVersion: v3, name: 'a:', endpoint: 'unix:///k', cachesize: 1",
            &[
                "AR-C021 P.name 6:33",
                "AR-C027 P.cachesize 6:73",
                "AR-C029 P.apiVersion 6:23",
            ],
        ),
    ] {
        let expected: Vec<_> = expected.iter().map(|it| it.replace('P', path)).collect();
        let expected: Vec<_> = expected.iter().map(String::as_str).collect();
        assert_found(&kms(fields), &expected);
    }
}

#[test]
fn names_of_plugins_depend_on_order_and_reload() {
    let source = |first: &str, second: &str| {
        let plugin = |version| format!("{{apiVersion: {version}, name: a, endpoint: 'unix:///k'}}");
        providers(&format!(
            "  - kms: {}\n  - kms: {}",
            plugin(first),
            plugin(second)
        ))
    };
    for (first, second, without, with) in [
        ("v1", "v1", false, true),
        ("v1", "v2", true, true),
        ("v2", "v1", false, true),
        ("v2", "v2", true, true),
    ] {
        for (automatic_reload, expected) in [(false, without), (true, with)] {
            let server = Server {
                kmsv1: true,
                automatic_reload,
                ..Server::default()
            };
            let judgement = judge(source(first, second).as_bytes(), &server);
            let twice = found(&judgement) == ["AR-C022 resources[0].providers[1].kms.name 7:33"];
            assert_eq!(twice, expected, "{first} {second} {automatic_reload}");
            assert_eq!(judgement.findings.is_empty(), !expected);
        }
    }
}

/// Entries of one resource each, with identity.
fn entries(resources: &[&str]) -> String {
    let mut source = format!("{HEAD}resources:\n");
    for resource in resources {
        source.push_str(&format!(
            "- {{resources: ['{resource}'], providers: [identity: {{}}]}}\n"
        ));
    }
    source
}

#[test]
fn an_entry_is_not_masked_by_an_earlier_one() {
    for (names, masked) in [
        (&["secrets", "*.", "*.*"][..], &[][..]),
        (&["secrets", "secrets"], &[]),
        (&["*.", "secrets"], &[1]),
        (&["*.*", "a.apps", "*.apps"], &[1, 2]),
        (&["*.apps", "*.apps"], &[1]),
        (&["*.*", "*.*"], &[1]),
        (&["*.apps", "secrets"], &[]),
    ] {
        let judgement = judged(&entries(names));
        let expected: Vec<_> = masked
            .iter()
            .map(|i| format!("AR-C030 resources[{i}].resources[0] {}:16", 4 + i))
            .collect();
        assert_eq!(found(&judgement), expected, "{names:?}");
        assert_eq!(
            judgement.stage,
            if masked.is_empty() {
                Stage::Ok
            } else {
                Stage::Load
            }
        );
    }
}

#[test]
fn a_gate_that_is_off_stops_its_plugins() {
    let stage = |version: &str, server: Server| {
        let source = kms(&format!(
            "apiVersion: {version}, name: a, endpoint: 'unix:///k'"
        ));
        let judgement = judge(source.as_bytes(), &server);
        (judgement.stage, judgement.findings.first().map(|it| it.id))
    };
    let on = (Stage::Ok, None);
    assert_eq!(stage("v1", Server::release(28)), on);
    assert_eq!(
        stage("v1", Server::release(29)),
        (Stage::Load, Some("AR-C031"))
    );
    assert_eq!(stage("v2", Server::release(27)), on);
    assert_eq!(stage("v2", Server::release(37)), on);
    let off = Server {
        kmsv2: false,
        ..Server::release(27)
    };
    assert_eq!(stage("v2", off), (Stage::Load, Some("AR-C032")));
}
