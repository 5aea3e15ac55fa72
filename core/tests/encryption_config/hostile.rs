//! Input that is made to hurt ends in a finding, soon and in little memory.

use std::time::{Duration, Instant};

use atrest_core::encryption_config::{Server, judge};
use proptest::prelude::*;

use crate::{HEAD, SECRET};

fn assert_refused(what: &str, source: &[u8]) {
    let start = Instant::now();
    for minor in [30, 37] {
        let judgement = judge(source, &Server::release(minor));
        assert!(judgement.configuration.is_none(), "{what} was accepted");
        assert!(!judgement.findings.is_empty(), "{what}");
        assert!(
            judgement.findings.len() <= 1000,
            "{what}: {}",
            judgement.findings.len()
        );
    }
    // Generous, as the machine may be busy and the build is not optimized.
    assert!(
        start.elapsed() < Duration::from_secs(60),
        "{what} took {:?}",
        start.elapsed()
    );
}

#[test]
fn bombs_are_refused() {
    let mut laughs = String::from("a0: &a0 [x]\n");
    for level in 1..30 {
        let alias = format!("*a{}", level - 1);
        laughs.push_str(&format!(
            "a{level}: &a{level} [{}]\n",
            [&*alias; 10].join(",")
        ));
    }
    let mut chain = String::from("a0: &a0 x\n");
    for level in 1..5000 {
        chain.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
    }
    let long = format!(
        "a: &a {}\nb: [{}]\n",
        "x".repeat(1 << 20),
        "*a,".repeat(1000)
    );
    let merges = format!("a: &a {{b: 1}}\nc: {{{}}}\n", "<<: *a, ".repeat(1000));
    let nulls = format!("resources: [{}]\n", "~,".repeat(100_000));
    let cases = [
        ("laughs", laughs),
        ("chain", chain),
        ("long", long),
        ("merges", merges),
        ("nulls", nulls),
        ("lists", "[".repeat(1 << 20)),
        ("mappings", "{a: ".repeat(1 << 18)),
        (
            "indents",
            (0..2000)
                .map(|level| format!("{}-\n", " ".repeat(level)))
                .collect(),
        ),
        ("dashes", "- ".repeat(1 << 18)),
        ("keys", "? ".repeat(1 << 18)),
        ("values", format!("resources: [{}]", "a,".repeat(600_000))),
        ("quotes", "\"".repeat((1 << 20) + 1)),
        (
            "anchors",
            (0..20_000).map(|n| format!("k{n}: &k{n} x\n")).collect(),
        ),
        ("tags", format!("[{}", "!a ".repeat(1 << 16))),
        (
            "faults and duplicates",
            (0..2000).map(|n| format!("k{}: x\n", n / 2)).collect(),
        ),
    ];
    for (what, yaml) in &cases {
        assert_refused(what, format!("{HEAD}{yaml}").as_bytes());
        assert_refused(what, yaml.as_bytes());
    }
    assert_refused(
        "json lists",
        format!("{{\"a\":{}", "[".repeat(1 << 20)).as_bytes(),
    );
    assert_refused(
        "json values",
        format!("{{\"a\":[{}1]}}", "1,".repeat(600_000)).as_bytes(),
    );
    assert_refused("too large", &vec![b'a'; (16 << 20) + 1]);
    assert_refused("zeros", &[0; 4096]);
}

#[test]
fn what_the_yaml_library_gives_up_on_is_a_finding() {
    for source in [
        "[!!str, x]",
        "\"\\",
        "!<",
        "%",
        "%TAG",
        "%YAML",
        "!%",
        "&",
        "*",
        "|",
        "? !a,",
    ] {
        assert_refused(source, source.as_bytes());
    }
}

fn sample() -> String {
    format!(
        "{HEAD}resources:\n- resources: [secrets, '*.apps']\n  providers:\n  - aescbc:\n      \
         keys: &k\n      - name: \"a\\x41\"\n        secret: {SECRET}\n      - {{name: b, secret: \
         !!str {SECRET}}}\n  - aesgcm: {{keys: *k}}\n  - kms:\n      name: |\n        x\n      \
         endpoint: unix:///k\n      timeout: 3s\n      cachesize: 1_0\n  - identity: {{}}\n"
    )
}

proptest! {
    #[test]
    fn any_bytes_get_a_verdict(source in prop::collection::vec(any::<u8>(), 0..200)) {
        judge(&source, &Server::default());
    }

    #[test]
    fn any_tokens_get_a_verdict(
        tokens in prop::collection::vec(
            prop::sample::select(vec![
                "{", "}", "[", "]", ",", ": ", ":", "\"", "'", "\n", "\n  ", "- ", "? ", "&a ", "*a ",
                "!!str ", "!", "|", ">", "#", "%", "\\", "a", "1", "~", "<<: ", "---\n", "\t", "ä",
                "\u{feff}", "kind: ", "resources: ",
            ]),
            0..60,
        )
    ) {
        judge(tokens.concat().as_bytes(), &Server::default());
        judge(format!("{HEAD}{}", tokens.concat()).as_bytes(), &Server::default());
    }

    #[test]
    fn any_damage_gets_a_verdict(
        at in 0_usize..400,
        length in 0_usize..12,
        new in "[ -~\\n\\tä]{0,6}",
    ) {
        let mut source = sample().into_bytes();
        let at = at.min(source.len());
        let end = (at + length).min(source.len());
        source.splice(at..end, new.into_bytes());
        let judgement = judge(&source, &Server::default());
        prop_assert_eq!(judgement.configuration.is_some(), judgement.findings.is_empty());
        let lines = source.split(|byte| *byte == b'\n').count() + 1;
        for finding in judgement.findings {
            prop_assert!(finding.line >= 1 && finding.line as usize <= lines);
            prop_assert!(finding.column >= 1);
            prop_assert!(!finding.message.contains('\n') && !finding.fix.is_empty());
        }
    }
}
