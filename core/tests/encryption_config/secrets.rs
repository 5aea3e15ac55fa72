//! Whatever is wrong with a file, no finding says what its secrets are, and no excerpt shows them.

use atrest_core::encryption_config::{Server, judge, mask};
use proptest::prelude::*;

use crate::HEAD;

/// Long enough that no sentence of ours holds them by chance.
const PLANTED: &[&str] = &[
    "bm8ga2V5LCBidXQgYXMgbG9uZyBhcyBvbmUgaXMuLi4=",
    "cGxhbnRlZA==",
    "plantedplantedplanted",
    "Planted-Pa55phrase",
    "9178234987123498",
    "planted*phrase",
];

/// A configuration that holds each of them under `secret`.
fn source() -> String {
    let mut source = format!("{HEAD}resources:\n- resources: [secrets]\n  providers:\n");
    for (provider, secrets) in ["aescbc", "aesgcm", "secretbox"]
        .iter()
        .zip(PLANTED.chunks(2))
    {
        source.push_str(&format!("  - {provider}:\n      keys:\n"));
        for secret in secrets {
            source.push_str(&format!("      - name: key\n        secret: {secret}\n"));
        }
    }
    source
}

fn assert_silent(source: &str) {
    let masked = mask(source.as_bytes());
    assert_eq!(masked.chars().count(), source.chars().count());
    assert_eq!(masked.lines().count(), source.lines().count());
    for secret in PLANTED {
        for piece in secret.as_bytes().windows(8) {
            let piece = str::from_utf8(piece).unwrap();
            assert!(!masked.contains(piece), "{piece} is in {masked}\n{source}");
        }
    }
    for minor in [30, 37] {
        let judgement = judge(source.as_bytes(), &Server::release(minor));
        let said = format!("{:?}", judgement.findings);
        let debug = format!("{judgement:?}");
        for secret in PLANTED {
            // A part would say enough.
            for part in [&secret[..8], &secret[secret.len() - 8..]] {
                assert!(!said.contains(part), "{part} is in {said}\n{source}");
                assert!(!debug.contains(part), "{part} is in {debug}");
            }
        }
    }
}

#[test]
fn secrets_where_they_do_not_belong_are_not_shown() {
    let [secret, phrase, number] = [PLANTED[0], PLANTED[3], PLANTED[4]];
    for fields in [
        format!("name: a, secret: {secret}x"),
        format!("name: a, secret: [{secret}]"),
        format!("name: a, secret: {{{secret}: {phrase}}}"),
        format!("name: a, secret: {number}"),
        format!("name: a, {secret}"),
        format!("name: a, {phrase}: x"),
        format!("name: a, secret {secret}"),
        format!("name: a, secret: a, secret: {secret}"),
        format!("name: [{secret}], secret: a"),
        format!("name: a, secret: *{phrase}"),
        format!("name: a, secret: !!int {phrase}"),
        format!("name: a, secret: !{phrase} a"),
        format!("name: a, secret: &{phrase} {secret}, <<: 1"),
        format!("name: a, secret: \"{secret}"),
        format!("name: a, secret: '{secret}\\"),
        format!("{phrase}: {{{phrase}: 1, {phrase}: 2}}"),
    ] {
        assert_silent(&format!(
            "{HEAD}resources:\n- resources: [secrets]\n  providers:\n  - aescbc: {{keys: [{{{fields}}}]}}\n"
        ));
        assert_silent(&format!("{{\"kind\": \"x\", {fields}"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn no_damage_makes_a_finding_show_a_secret(
        line in 0_usize..40,
        indent in 0_usize..12,
        what in 0..6,
        cut in 0_usize..40,
    ) {
        let source = source();
        let mut lines: Vec<String> = source.lines().map(str::to_owned).collect();
        let line = line % lines.len();
        let text = lines[line].trim_start().to_owned();
        match what {
            0 => { lines.remove(line); }
            1 => lines[line] = format!("{}{text}", " ".repeat(indent)),
            2 => lines[line] = lines[line].replacen(": ", "", 1),
            3 => lines[line] = lines[line].replacen(": ", " ", 1),
            4 => lines[line] = lines[line].chars().skip(cut).collect(),
            _ => { let copy = lines[line].clone(); lines.insert(line, copy); }
        }
        assert_silent(&lines.join("\n"));
    }
}

/// The server's own words for these hold the keys, the file, or what is beside them.
#[test]
fn what_the_server_says_is_hidden() {
    let [secret, phrase] = [PLANTED[0], PLANTED[3]];
    let keys = format!("{{keys: [{{name: {phrase}, secret: {secret}}}]}}");
    let two = format!("identity: {{}}, aescbc: {keys}");
    let none = "aescbc: null";
    let plugin =
        |endpoint: &str| format!("kms: {{apiVersion: v3, name: a, endpoint: '{endpoint}'}}");
    for (provider, said) in [
        (two, r#""Name":"REDACTED","Secret":"REDACTED""#),
        (none.to_owned(), r#"{"AESGCM":null,"AESCBC":null"#),
        (
            plugin(&format!("http://a:{phrase}@b/")),
            r#""REDACTED": unsupported scheme "http""#,
        ),
        (
            plugin(&format!("unix:///%zz?{secret}")),
            r#"parse "REDACTED": invalid URL escape"#,
        ),
        (plugin(secret), r#""REDACTED": unsupported scheme """#),
        (
            format!("identity: {{}}, kms: {{endpoint: 'unix://{phrase}@a'}}"),
            r#""Endpoint":"REDACTED""#,
        ),
        (
            format!("aescbc: {{{secret}: 1}}"),
            r#"unknown field "resources[0].providers[0].aescbc.REDACTED""#,
        ),
        (
            format!("kms: {{timeout: {secret}}}"),
            r#"time: invalid duration "REDACTED""#,
        ),
    ] {
        let source =
            format!("{HEAD}resources:\n- resources: [secrets]\n  providers:\n  - {{{provider}}}\n");
        assert_silent(&source);
        let judgement = judge(source.as_bytes(), &Server::release(37));
        let words = judgement
            .findings
            .iter()
            .filter_map(|it| it.server.as_deref());
        assert!(
            words.clone().any(|it| it.contains(said)),
            "{said}: {words:?}"
        );
    }
    let source = format!("a: {secret}\n");
    assert_silent(&source);
    let judgement = judge(source.as_bytes(), &Server::release(37));
    let words = judgement.findings[0].server.as_deref();
    assert_eq!(
        words,
        Some("Object 'Kind' is missing in '<the whole file>'")
    );
}
