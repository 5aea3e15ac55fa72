//! What stops the server from reading a file at all.

use atrest_core::encryption_config::{
    EncryptionConfiguration, Judgement, Provider, Server, Stage, judge,
};

use crate::{HEAD, SECRET, found, judged};

fn identity(rest: &str) -> String {
    format!("{HEAD}resources:\n- resources: [secrets]\n  providers:\n  - identity: {{}}\n{rest}")
}

fn lenient(source: &str) -> Judgement {
    judge(source.as_bytes(), &Server::release(30))
}

fn accepted(source: &str) -> EncryptionConfiguration {
    let judgement = judged(source);
    assert_eq!(found(&judgement), [""; 0], "{source}");
    judgement.configuration.unwrap()
}

fn assert_stops(source: &str, expected: &[&str]) {
    let judgement = judged(source);
    assert_eq!(found(&judgement), expected, "{source}");
    assert_eq!(judgement.stage, Stage::Decode, "{source}");
}

#[test]
fn an_empty_file_is_a_stage_of_its_own() {
    let judgement = judged("");
    assert_eq!(
        (judgement.stage, found(&judgement)),
        (Stage::Empty, vec!["AR-D001  1:1".into()])
    );
    for source in ["\n", "# nothing\n", "---\n", "null", "---\n---\nkind: X\n"] {
        let judgement = judged(source);
        assert_eq!(judgement.stage, Stage::Decode);
        assert_eq!(judgement.findings[0].id, "AR-D004", "{source:?}");
    }
}

#[test]
fn the_file_says_what_it_is() {
    let of = |version: &str, kind: &str| {
        let source = identity("").replace(HEAD, &format!("apiVersion: {version}\nkind: {kind}\n"));
        found(&judged(&source))
    };
    let group = "apiserver.config.k8s.io/v1";
    assert_eq!(of(group, "EncryptionConfiguration"), [""; 0]);
    assert_eq!(of("v1", "EncryptionConfig"), [""; 0]);
    assert_eq!(of(group, "EncryptionConfig"), ["AR-D006 kind 2:7"]);
    assert_eq!(of("v1", "EncryptionConfiguration"), ["AR-D006 kind 2:7"]);
    assert_eq!(of(group, "AdmissionConfiguration"), ["AR-D006 kind 2:7"]);
    assert_eq!(
        of("apiserver.config.k8s.io/v1alpha1", "X"),
        ["AR-D006 apiVersion 1:13"]
    );
    assert_eq!(of("a/b/c", "X"), ["AR-D006 apiVersion 1:13"]);
    assert_eq!(of(group, ""), ["AR-D004 kind 1:1"]);
    assert_eq!(of("''", "X"), ["AR-D005 apiVersion 1:13"]);
    assert_eq!(of("1", "X"), ["AR-D009 apiVersion 1:13"]);
    assert_stops("[a]", &["AR-D009  1:1"]);
}

#[test]
fn fields_are_known_and_stand_once_since_1_31() {
    let source = identity("metadata: {name: x}\nKind: x\n");
    assert_stops(&source, &["AR-D007 metadata 7:1", "AR-D007 Kind 8:1"]);
    assert_eq!(lenient(&source).stage, Stage::Ok);

    let source = identity("kind: EncryptionConfiguration\n");
    assert_stops(&source, &["AR-D008 kind 7:1"]);
    assert_eq!(lenient(&source).stage, Stage::Ok);

    let plugin = "name: a, endpoint: 'unix:///k', cacheSize: 5";
    let source = identity("").replace("identity: {}", &format!("kms: {{{plugin}}}"));
    assert_stops(
        &source,
        &["AR-D007 resources[0].providers[0].kms.cacheSize 6:43"],
    );
    assert_eq!(
        judged(&source).findings[0].fix,
        "write `cachesize`: case and spelling count"
    );

    let source = identity("").replace("{}", "{a: {b: 1, b: 2}}");
    assert_stops(
        &source,
        &[
            "AR-D007 resources[0].providers[0].identity.a 6:16",
            "AR-D008 resources[0].providers[0].identity.?.? 6:26",
        ],
    );
    assert_eq!(lenient(&source).stage, Stage::Ok);

    let json = r#"{"kind":"EncryptionConfiguration","kind":"x","apiVersion":"v1"}"#;
    assert_stops(json, &["AR-D006 apiVersion 1:59"]);
    let json = r#"{"kind":"x", "kind":"EncryptionConfig", "apiVersion":"v1", "resources":
      [{"resources":["ä"], "resources":["a"], "providers":[{"identity":{}}]}]}"#;
    assert_stops(
        json,
        &["AR-D008 kind 1:14", "AR-D008 resources[0].resources 2:28"],
    );
    assert_eq!(
        lenient(json).configuration.unwrap().resources[0].resources,
        ["a"]
    );
}

#[test]
fn types_are_those_of_yaml_1_1() {
    let path = "resources[0].resources[0]";
    for value in [
        "1", "yes", "on", "~", "0x1f", "1e3", "[a]", "{a: b}", "1_000", "n",
    ] {
        let source = identity("").replace("[secrets]", &format!("[{value}]"));
        if value == "~" {
            assert_eq!(accepted(&source).resources[0].resources, [""]);
            continue;
        }
        assert_stops(&source, &[&format!("AR-D009 {path} 4:15")]);
    }
    for value in ["'1'", "\"yes\"", "1:40", "2001-01-01", "!!str 1"] {
        accepted(&identity("").replace("[secrets]", &format!("[{value}]")));
    }
    assert_stops(
        &identity("").replace("[secrets]", "secrets"),
        &["AR-D009 resources[0].resources 4:14"],
    );
    assert_stops(
        &identity("").replace("{}", "[]"),
        &["AR-D009 resources[0].providers[0].identity 6:15"],
    );
}

#[test]
fn numbers_and_durations() {
    let plugin = |fields: &str| {
        let plugin = format!("kms: {{name: a, endpoint: 'unix:///k', {fields}}}");
        identity("").replace("identity: {}", &plugin)
    };
    let size = |value: &str| {
        let judgement = judged(&plugin(&format!("cachesize: {value}")));
        let configuration = judgement.configuration.as_ref()?;
        let Provider::Kms(kms) = &configuration.resources[0].providers[0] else {
            panic!()
        };
        kms.cachesize
    };
    for (value, number) in [
        ("010", 8),
        ("0x10", 16),
        ("1_000", 1000),
        ("1e3", 1000),
        ("100.0", 100),
        ("-1", -1),
    ] {
        assert_eq!(size(value), Some(number), "{value}");
    }
    for value in [
        "1.5",
        "'100'",
        "1:40",
        "2147483648",
        "-2147483649",
        "yes",
        "1e10",
    ] {
        assert_eq!(size(value), None, "{value}");
    }
    let place = "resources[0].providers[0].kms";
    assert_stops(
        &plugin("cachesize: 1.5"),
        &[&format!("AR-D011 {place}.cachesize 6:54")],
    );
    assert_stops(
        &plugin("cachesize: '1'"),
        &[&format!("AR-D009 {place}.cachesize 6:54")],
    );
    for value in ["3", "'3'", "1d", "''", "3 s", "[3s]"] {
        assert_stops(
            &plugin(&format!("timeout: {value}")),
            &[&format!("AR-D010 {place}.timeout 6:52")],
        );
    }
    accepted(&plugin("timeout: null, cachesize: null"));

    let json = |size: &str| {
        let text = format!(
            r#"{{"kind":"EncryptionConfig","apiVersion":"v1","resources":[{{"resources":["a"],
            "providers":[{{"kms":{{"name":"a","endpoint":"unix:///k","cachesize":{size}}}}}]}}]}}"#
        );
        judged(&text).stage
    };
    assert_eq!(json("10"), Stage::Ok);
    for number in ["10.0", "1e3", "2147483648", "010", "0x10", "\"10\""] {
        assert_eq!(json(number), Stage::Decode, "{number}");
    }
}

#[test]
fn only_the_first_document_counts() {
    accepted(&identity("---\nkind: Other\n"));
    accepted(&identity("---\n}} not yaml {{\n"));
    accepted(&format!("# comment\n---\n{}...\n", identity("")));
    assert_stops(&identity("]"), &["AR-D002  7:1"]);
}

#[test]
fn bytes_are_text() {
    accepted(&format!("\u{feff}{}", identity("")));
    accepted(&identity("").replace('\n', "\r\n"));
    assert_stops(&identity("\t- x\n"), &["AR-D002  7:1"]);
    assert_stops(&identity("# \u{0}\n"), &["AR-D002  7:3"]);
    // Where two files are joined, the mark of the second one becomes part of a field's name.
    assert_stops(&identity("\u{feff}# joined\n"), &["AR-D002  8:1"]);
    assert_stops(&identity("\u{feff}kind: x\n"), &["AR-D007 ? 7:1"]);
    assert!(lenient(&identity("\u{feff}kind: x\n")).findings.is_empty());
    // Beyond what is read for the first document nobody looks.
    let mut source = identity(&format!("---\n{}", " ".repeat(1000))).into_bytes();
    source.push(0xff);
    assert_eq!(judge(&source, &Server::default()).stage, Stage::Ok);

    let text = identity("# ä😀\n").replace("secrets", "ä");
    for bytes in [u16::to_le_bytes as fn(u16) -> [u8; 2], u16::to_be_bytes] {
        let mut source: Vec<u8> = bytes(0xfeff).to_vec();
        source.extend(text.encode_utf16().flat_map(bytes));
        let judgement = judge(&source, &Server::default());
        assert_eq!(
            judgement.configuration.unwrap().resources[0].resources,
            ["ä"]
        );
        source.push(0);
        assert_eq!(found(&judge(&source, &Server::default())), ["AR-D002  8:1"]);
        source.truncate(20);
        source.extend(bytes(0xd800));
        assert_eq!(
            found(&judge(&source, &Server::default())),
            ["AR-D002  1:10"]
        );
    }

    let mut source = identity("# ä").into_bytes();
    source.extend([0xff, b'\n']);
    let judgement = judge(&source, &Server::default());
    assert_eq!(found(&judgement), ["AR-D002  7:4"]);
}

#[test]
fn aliases_and_merges() {
    let source = format!(
        "{HEAD}resources:\n\
         - resources: &r [secrets]\n\
         \x20 providers: &p\n\
         \x20 - aescbc: {{keys: [&k {{name: a, secret: &s {SECRET}}}]}}\n\
         - {{resources: *r, providers: *p}}\n\
         - resources: [configmaps]\n\
         \x20 providers: [{{secretbox: {{keys: [{{<<: *k}}, {{name: b, secret: *s}}]}}}}]\n"
    );
    let configuration = accepted(&source);
    assert_eq!(configuration.resources[0], configuration.resources[1]);
    let keys = configuration.resources[2].providers[0].keys();
    assert_eq!((keys[0].name.as_str(), keys[1].name.as_str()), ("a", "b"));
    assert_eq!(keys[0].secret, keys[1].secret);

    // What << brings and the mapping has, too, is there twice.
    let source = source.replace("{<<: *k}", "{<<: *k, name: c}");
    let place = "resources[2].providers[0].secretbox.keys[0].name";
    assert_stops(&source, &[&format!("AR-D008 {place} 9:44")]);
    let configuration = lenient(&source).configuration.unwrap();
    assert_eq!(configuration.resources[2].providers[0].keys()[0].name, "c");

    for wrong in [
        "x: *unknown\n",
        "x: &a [*a]\n",
        "x: {<<: 1}\n",
        "x: {<<: [1]}\n",
        "x: !!int a\n",
        "x: !!binary '*'\n",
        "x: .nan\n",
        "? [a]\n: b\n",
        "~: b\n",
        "18446744073709551615: b\n",
        "x: {a: [.inf]}\n",
        "x: {a: &a {b: .inf}, c: {<<: *a}}\n",
    ] {
        let judgement = lenient(&identity(wrong));
        assert_eq!(judgement.findings[0].id, "AR-D012", "{wrong}");
        assert_eq!(judgement.findings[0].line, 7, "{wrong}");
    }
}

#[test]
fn what_is_overridden_is_forgotten() {
    for source in [
        "x: .nan\nx: 1\n",
        "x: {a: .inf}\nx: 1\n",
        "x: {a: .inf, a: 1}\n",
        ".inf: 1\n",
        "x: {~: 1, 18446744073709551615: 1}\nx: 1\n",
    ] {
        assert_eq!(lenient(&identity(source)).stage, Stage::Ok, "{source}");
    }
}

#[test]
fn json_is_json() {
    let good = r#" {"kind":"EncryptionConfig","apiVersion":"v1","resources":[{"resources":["\u00e4\ud83d\ude00\/"],"providers":[{"identity":{}}]}]} "#;
    assert_eq!(accepted(good).resources[0].resources, ["ä😀/"]);
    for (json, place) in [
        ("{kind: X}", "1:2"),
        ("{}}", "1:3"),
        ("{\n \"a\": 01}", "2:7"),
        ("{\"a\": \"\n\"}", "1:8"),
        ("{\"a\": tru}", "1:7"),
        ("{\"a\": 1,}", "1:9"),
        ("{\"a\": [1,]}", "1:10"),
        ("{\"a\" 1}", "1:6"),
        ("{\"ä\": \"\\x\"}", "1:8"),
        ("{\"a\": \"\\ud8\"}", "1:8"),
        ("{\"a\": 1.}", "1:9"),
        ("{\"a\": -}", "1:8"),
        ("{\"a\": 1e}", "1:9"),
        ("{\"a\": \"x", "1:7"),
        ("{", "1:2"),
        ("{} # comment", "1:4"),
    ] {
        assert_stops(json, &[&format!("AR-D003  {place}")]);
    }
    // A comment before the brace makes it YAML.
    let yaml = "# c\n{kind: EncryptionConfig, apiVersion: v1, resources: [{resources: [a], providers: [{identity: {}}]}]}";
    accepted(yaml);
}

#[test]
fn a_lenient_server_decodes_a_second_field_of_json_into_the_first() {
    let of = |resources: &str| {
        let judgement = lenient(&format!(
            r#"{{"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration", {resources}}}"#
        ));
        let names = |configuration: EncryptionConfiguration| {
            let entries = configuration.resources.into_iter();
            entries.map(|entry| entry.resources).collect::<Vec<_>>()
        };
        (judgement.stage, judgement.configuration.map(names))
    };
    let identity = r#""providers": [{"identity": {}}]"#;
    assert_eq!(
        of(&format!(
            r#""resources": [{{"resources": ["a"]}}], "resources": [{{{identity}}}]"#
        )),
        (Stage::Ok, Some(vec![vec!["a".into()]]))
    );
    // A shorter list leaves elements behind that a longer one brings back.
    let lists = r#""resources": ["a", "b", "c"], "resources": ["x"], "resources": [null, null]"#;
    assert_eq!(
        of(&format!(r#""resources": [{{{lists}, {identity}}}]"#)),
        (Stage::Ok, Some(vec![vec!["x".into(), "b".into()]]))
    );
    let lists = r#""resources": ["a", "b"], "resources": [], "resources": [null]"#;
    assert_eq!(
        of(&format!(r#""resources": [{{{lists}, {identity}}}]"#)),
        (Stage::Ok, Some(vec![vec![String::new()]]))
    );
    let null = format!(r#""resources": [{{"resources": ["a"], {identity}}}], "resources": null"#);
    assert_eq!(of(&null), (Stage::Validate, None));
}
