//! Mends that need no question.

use atrest_core::encryption_config::{Judgement, Server, Stage, fix, judge};

use proptest::prelude::*;

use crate::random::Random;
use crate::styles::{configuration, write};
use crate::{HEAD, SECRET, found, judged};

/// What was mended, and the file.
fn fixed(source: &str) -> (Vec<String>, String) {
    let server = Server {
        kmsv1: true,
        ..Server::default()
    };
    let fixed = fix(source.as_bytes(), &server);
    let mended = fixed.mended.iter();
    let mended = mended.map(|it| format!("{} {}: {}", it.id, it.path, it.what));
    let text = String::from_utf8(fixed.bytes.expose().to_vec()).unwrap();
    (mended.collect(), text)
}

#[track_caller]
fn check(source: &str, mended: &[&str], expected: &str) {
    let (done, text) = fixed(source);
    assert_eq!(text, expected, "\n{text}");
    assert_eq!(done, mended);
    assert_eq!(found(&judged(&text)), [""; 0]);
    // Once more there is nothing to do.
    assert!(fixed(&text).0.is_empty());
}

#[test]
fn the_kind_becomes_todays() {
    let rest = "resources:\n- resources: [secrets]\n  providers:\n  - identity: {}\n";
    let today =
        "kind: \"EncryptionConfiguration\" # of 2018\napiVersion: apiserver.config.k8s.io/v1\n";
    let wrote = "wrote apiVersion apiserver.config.k8s.io/v1 and kind EncryptionConfiguration";
    for (kind, version, id) in [
        ("EncryptionConfig", "v1", "AR-L047"),
        ("EncryptionConfiguration", "v1", "AR-D006"),
        ("EncryptionConfig", "apiserver.config.k8s.io/v1", "AR-D006"),
    ] {
        let source = format!("kind: \"{kind}\" # of 2018\napiVersion: {version}\n{rest}");
        let mended = format!("{id} kind: {wrote}");
        check(&source, &[&mended], &format!("{today}{rest}"));
    }
    let other = format!("kind: EncryptionConfig\napiVersion: v2\n{rest}");
    assert_eq!(fixed(&other), (vec![], other));
}

#[test]
fn blanks_leave_the_base64() {
    let (start, end) = SECRET.split_at(10);
    let with = |secret: &str| {
        format!(
            "{HEAD}resources:\n- resources: [secrets]\n  providers:\n  - aescbc:\n      keys:\n      - name: a # first\n        \
             secret: {secret}\n  - identity: {{}}\n"
        )
    };
    let mended =
        "AR-C018 resources[0].providers[0].aescbc.keys[0].secret: took blanks out of the base64";
    for secret in [
        format!("{start} {end}"),
        format!(">-\n          {start}\n          {end}"),
        format!("{start}\n          {end}"),
    ] {
        check(&with(&secret), &[mended], &with(SECRET));
    }
    let quoted = with(&format!("\" {start}\\t{end}\" # mine"));
    check(&quoted, &[mended], &with(&format!("\"{SECRET}\" # mine")));
    // A comment would get lost.
    let noted = with(&format!(">- # mine\n          {start}\n          {end}"));
    assert_eq!(fixed(&noted), (vec![], noted));
    // What is left is no key.
    let short = with("c2hv cnQ=");
    assert_eq!(fixed(&short), (vec![], short));
}

#[test]
fn wildcards_come_last() {
    let source = format!(
        "{HEAD}resources:
# everything else
- resources: ['*.*']
  providers: [identity: {{}}]

# the core
- resources: ['*.']
  providers:
  - secretbox: # ours
      keys: [{{name: a, secret: {SECRET}}}]
- resources:
  - secrets
  providers:
  - identity: {{}} # for now
"
    );
    let expected = format!(
        "{HEAD}resources:
- resources:
  - secrets
  providers:
  - identity: {{}} # for now

# the core
- resources: ['*.']
  providers:
  - secretbox: # ours
      keys: [{{name: a, secret: {SECRET}}}]
# everything else
- resources: ['*.*']
  providers: [identity: {{}}]
"
    );
    let mended = "AR-C030 resources[2]: moved this entry before that of \"*.*\"";
    check(&source, &[mended], &expected);
}

#[test]
fn a_wildcard_gets_an_entry_of_its_own() {
    let source = format!(
        "{HEAD}resources:
# of the core
- resources:
  - secrets
  - '*.' # the rest
  - '*.*'
  providers:
  - secretbox: # ours
      keys: [{{name: a, secret: {SECRET}}}]
- resources: [configmaps]
  providers: [identity: {{}}]
"
    );
    let chain = format!(
        "  providers:
  - secretbox: # ours
      keys: [{{name: a, secret: {SECRET}}}]
"
    );
    let expected = format!(
        "{HEAD}resources:
# of the core
- resources:
  - secrets
{chain}- resources: [configmaps]
  providers: [identity: {{}}]
- resources:
  - '*.' # the rest
{chain}- resources:
  - '*.*'
{chain}"
    );
    let mended = [
        "AR-C006 resources[0].resources: gave \"*.*\" an entry of its own",
        "AR-C006 resources[0].resources: gave \"*.\" an entry of its own",
        "AR-C030 resources[3]: moved this entry before that of \"*.\"",
    ];
    check(&source, &mended, &expected);
}

#[test]
fn what_would_mean_something_else_stays() {
    // Two plugins of one name are none.
    let plugin = format!(
        "{HEAD}resources:
- resources: [secrets, '*.']
  providers:
  - kms: {{apiVersion: v2, name: a, endpoint: 'unix:///run/a.sock'}}
"
    );
    // A wildcard that is there twice hides itself.
    let twice = format!(
        "{HEAD}resources:
- resources: ['*.']
  providers: [identity: {{}}]
- resources: ['*.']
  providers: [identity: {{}}]
"
    );
    // Which of the two chains writes secrets would change.
    let bound = format!(
        "{HEAD}resources:
- resources: ['*.apps', secrets]
  providers: [identity: {{}}]
- resources: [secrets, deployments.apps]
  providers: [identity: {{}}]
"
    );
    for source in [
        plugin,
        twice,
        bound,
        "{".into(),
        "\u{feff}".into(),
        String::new(),
    ] {
        assert_eq!(fixed(&source), (vec![], source));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Files with faults of all kinds: what is mended is not worse, and stays mended.
    #[test]
    fn random_damage_is_not_made_worse(seed in any::<u64>(), damages in 1..6_usize) {
        let mut random = Random::new(seed);
        let mut faulty = configuration(&mut random);
        faulty.resources.reverse();
        if random.percent(50) {
            faulty.resources[0].resources.push("*.".into());
        }
        let mut text = write(&mut random, &faulty).text.into_bytes();
        for _ in 0..random.below(damages) {
            let at = random.below(text.len());
            match random.below(3) {
                0 => text.insert(at, b' '),
                1 => text[at] = random.byte(),
                _ => drop(text.remove(at)),
            }
        }
        let server = Server { kmsv1: true, ..Server::default() };
        let before = judge(&text, &server);
        let fixed = fix(&text, &server);
        let after = judge(fixed.bytes.expose(), &server);
        if fixed.mended.is_empty() {
            prop_assert_eq!(fixed.bytes.expose(), &text[..]);
        } else {
            prop_assert!(stage(&after) >= stage(&before), "{:?} {:?}", before, after);
        }
        prop_assert!(fix(fixed.bytes.expose(), &server).mended.is_empty());
    }
}

/// How far the server gets.
fn stage(judgement: &Judgement) -> usize {
    let stages = [
        Stage::Empty,
        Stage::Decode,
        Stage::Validate,
        Stage::Load,
        Stage::Ok,
    ];
    stages
        .iter()
        .position(|stage| *stage == judgement.stage)
        .unwrap()
}
