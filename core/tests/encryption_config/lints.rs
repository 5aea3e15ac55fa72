//! Every lint where it holds, and beside it a twin where it just does not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use atrest_core::encryption_config::{
    Directory, File, Finding, Origin, Rule, Served, Server, Severity, Stage, Surroundings, compare,
    judge, lint,
};

use proptest::prelude::*;

use crate::HEAD;

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/encryption_config")
}

/// With KMS v1, so that it is the lints that speak of it.
fn server() -> Server {
    Server {
        kmsv1: true,
        ..Server::default()
    }
}

fn lints(source: &str) -> Vec<Finding> {
    lint(source.as_bytes(), &server(), &Surroundings::default())
}

fn ids(findings: &[Finding]) -> BTreeSet<&'static str> {
    findings.iter().map(|finding| finding.id).collect()
}

/// `ID PATH LINE:COLUMN`
fn found(findings: &[Finding]) -> Vec<String> {
    let one = |it: &Finding| format!("{} {} {}:{}", it.id, it.path, it.line, it.column);
    findings.iter().map(one).collect()
}

/// The lints that need more than one file's bytes.
const OF_SURROUNDINGS: std::ops::RangeInclusive<&str> = "AR-L048"..="AR-L059";

fn rules() -> impl Iterator<Item = &'static Rule> {
    Rule::all().filter(|rule| rule.origin == Origin::Lint)
}

#[test]
fn every_lint_has_a_file_where_it_fires_and_a_twin_where_it_does_not() {
    let mut folders: BTreeSet<_> = std::fs::read_dir(tests().join("lints"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for rule in rules().filter(|rule| !OF_SURROUNDINGS.contains(&rule.id)) {
        assert!(folders.remove(rule.id), "{} has no files", rule.id);
        let read = |name: &str| {
            let path = tests().join("lints").join(rule.id).join(name);
            std::fs::read_to_string(&path).unwrap()
        };
        let [fires, quiet] = ["fires.yaml", "quiet.yaml"].map(read);
        for source in [&fires, &quiet] {
            let judgement = judge(source.as_bytes(), &server());
            assert_eq!(
                judgement.stage,
                Stage::Ok,
                "{}: {:?}",
                rule.id,
                judgement.findings
            );
        }
        let [firing, silent] = [&fires, &quiet].map(|source| lints(source));
        assert!(ids(&firing).contains(rule.id), "{}: {:#?}", rule.id, firing);
        assert!(
            !ids(&silent).contains(rule.id),
            "{}: {:#?}",
            rule.id,
            silent
        );
        // What sets the twins apart is this lint: the one that is quiet has no warning of its own.
        let warns =
            |it: &&Finding| it.severity == Severity::Warning && !ids(&firing).contains(it.id);
        assert_eq!(silent.iter().find(warns), None, "{}", rule.id);
        let lines =
            |source: &str| -> BTreeSet<String> { source.lines().map(str::to_owned).collect() };
        let apart = lines(&fires).symmetric_difference(&lines(&quiet)).count();
        assert!(apart <= 6, "{}: {apart} lines are different", rule.id);
    }
    assert!(folders.is_empty(), "no lint: {folders:?}");
}

#[test]
fn no_lint_is_an_error() {
    assert!(rules().count() >= 25);
    for rule in rules() {
        assert!(rule.id.starts_with("AR-L"), "{}", rule.id);
        assert_ne!(rule.severity, Severity::Error, "{}", rule.id);
        assert!(rule.page().lines().count() > 1, "{} has no page", rule.id);
    }
}

/// What a newcomer copies from documentation or tries on the way, and what is said of it.
#[test]
fn surprises_are_named() {
    let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let folder = tests().join("surprises");
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let source = std::fs::read_to_string(&path).unwrap();
        let first = source.lines().next().unwrap();
        let ids = first.strip_prefix("# finds ").expect("`# finds ID...`");
        let ids = ids.split_whitespace().map(str::to_owned).collect();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        expected.insert(name, ids);
    }
    assert!(expected.len() >= 20);
    for (name, ids) in expected {
        let source = std::fs::read(folder.join(&name)).unwrap();
        let server = Server::default();
        let mut findings = judge(&source, &server).findings;
        findings.extend(lint(&source, &server, &Surroundings::default()));
        let mut said: Vec<_> = findings.iter().map(|finding| finding.id).collect();
        said.sort_unstable();
        said.dedup();
        assert_eq!(said, ids, "{name}: {findings:#?}");
        assert!(
            findings.iter().all(|finding| finding.fix.len() > 10),
            "{name}"
        );
    }
}

/// One key of secretbox for these resources.
fn covering(resources: &str) -> String {
    format!(
        "{HEAD}resources:\n- resources: [{resources}]\n  providers:\n  \
         - secretbox: {{keys: [{{name: key1, secret: {RANDOM}}}]}}\n"
    )
}

/// 32 bytes of a generator.
const RANDOM: &str = "4fjLDRAKvAyPQAWgAxnYG3uFL9LzXSWWWlFkl2AXW5I=";
const OTHER: &str = "eD0h2oQWq0K1dWnMm8c1bDk7X0fG3M0y5mTqJr3b1fE=";

#[test]
fn a_file_is_looked_at_with_its_directory() {
    let good = File {
        path: "/etc/kubernetes/encryption/config.yaml".into(),
        is_symlink: false,
        mode: 0o600,
        owner: 0,
        directory: Directory {
            mode: 0o700,
            owner: 0,
            group: 0,
        },
        asked_by: 0,
    };
    let with = |source: &str, change: fn(&mut File)| {
        let mut file = good.clone();
        change(&mut file);
        let surroundings = Surroundings {
            file: Some(file),
            ..Surroundings::default()
        };
        let findings = lint(source.as_bytes(), &server(), &surroundings);
        findings.into_iter().map(|it| it.id).collect::<Vec<_>>()
    };
    let keys = covering("secrets");
    let no_keys = std::fs::read_to_string(tests().join("lints/AR-L022/quiet.yaml")).unwrap();
    assert_eq!(with(&no_keys, |_| {}), [""; 0]);
    assert_eq!(with(&keys, |_| {}), [""; 0]);

    type Change = fn(&mut File);
    let cases: [(&str, Change, Change); 6] = [
        ("AR-L048", |it| it.mode = 0o640, |it| it.mode = 0o700),
        ("AR-L049", |it| it.mode = 0o620, |it| it.mode = 0o600),
        (
            "AR-L050",
            |it| it.owner = 1000,
            |it| (it.owner, it.asked_by) = (1000, 1000),
        ),
        (
            "AR-L051",
            |it| it.is_symlink = true,
            |it| it.is_symlink = false,
        ),
        (
            "AR-L052",
            |it| it.directory.mode = 0o777,
            |it| it.directory.mode = 0o1777,
        ),
        (
            "AR-L053",
            |it| it.path = "/etc/kubernetes/manifests/config.yaml".into(),
            |it| it.path = "/etc/kubernetes/manifests/.config.yaml".into(),
        ),
    ];
    for (id, fires, quiet) in cases {
        assert_eq!(with(&keys, fires), [id]);
        assert_eq!(with(&keys, quiet), [""; 0], "{id}");
    }
    assert_eq!(with(&keys, |it| it.mode = 0o666), ["AR-L048", "AR-L049"]);
    // Without keys that are secret there is nothing to read.
    assert_eq!(with(&no_keys, |it| it.mode = 0o644), [""; 0]);
    let sample = keys.replace(RANDOM, "YXRyZXN0IHNhbXBsZSBrZXksIG5ldmVyIHVzZSBpdCE=");
    assert_eq!(with(&sample, |it| it.mode = 0o644), ["AR-L017"]);
    assert_eq!(with(&keys, |it| it.directory.group = 4), [""; 0]);
    for change in [
        (|it| (it.directory.mode, it.directory.group) = (0o770, 4)) as Change,
        |it| it.directory.owner = 1000,
    ] {
        assert_eq!(with(&keys, change), ["AR-L052"]);
    }
}

#[test]
fn the_cluster_knows_what_there_is() {
    let served = |names: &[&str]| {
        let one = |name: &&str| {
            let (plural, group) = name.split_once('.').unwrap_or((name, ""));
            Served {
                group: group.into(),
                plural: plural.into(),
                singular: plural.trim_end_matches('s').into(),
                kind: plural.trim_end_matches('s').into(),
            }
        };
        names.iter().map(one).collect()
    };
    let with = |resources: &str, names: &[&str]| {
        let surroundings = Surroundings {
            served: Some(served(names)),
            ..Surroundings::default()
        };
        found(&lint(
            covering(resources).as_bytes(),
            &server(),
            &surroundings,
        ))
    };
    let none = [""; 0];
    let listed = "AR-L054 resources[0].resources[1] 4:24";
    assert_eq!(with("secrets, pets.zoo.example", &["secrets"]), [listed]);
    assert_eq!(
        with(
            "secrets, pets.zoo.example",
            &["secrets", "pets.zoo.example"]
        ),
        none
    );
    assert_eq!(with("secrets, '*.zoo.example'", &["secrets"]), [listed]);
    assert_eq!(
        with("secrets, '*.zoo.example'", &["secrets", "pets.zoo.example"]),
        none
    );
    // What is nowhere served is said once.
    assert_eq!(
        with("secrets, deployments", &["secrets"]),
        ["AR-L042 resources[0].resources[1] 4:24"]
    );

    let custom = "AR-L055 resources 4:1";
    assert_eq!(
        with("secrets", &["secrets", "dbcredentials.example.com"]),
        [custom]
    );
    assert_eq!(with("secrets", &["secrets", "databases.example.com"]), none);
    assert_eq!(
        with("secrets", &["secrets", "sealedsecrets.bitnami.com"]),
        none
    );
    for covered in ["dbcredentials.example.com", "'*.example.com'"] {
        let resources = format!("secrets, {covered}");
        assert_eq!(
            with(&resources, &["secrets", "dbcredentials.example.com"]),
            none
        );
    }
    assert_eq!(
        with("secrets", &["secrets", "configmaps"]),
        ["AR-L056 resources 4:1"]
    );
    assert_eq!(
        with("secrets, configmaps", &["secrets", "configmaps"]),
        none
    );
}

#[test]
fn files_of_two_servers_are_compared_by_what_they_read() {
    let chain = |links: &[&str]| {
        let mut source = format!("{HEAD}resources:\n- resources: [secrets]\n  providers:\n");
        for link in links {
            source.push_str(&match *link {
                "identity" => "  - identity: {}\n".to_owned(),
                "kms" => {
                    "  - kms: {apiVersion: v2, name: k, endpoint: 'unix:///run/k'}\n".to_owned()
                }
                "kms elsewhere" => {
                    "  - kms: {apiVersion: v2, name: k, endpoint: 'unix:///run/l'}\n".to_owned()
                }
                key => {
                    let (name, secret) = match key {
                        "b" => ("b", OTHER),
                        "a with other bytes" => ("a", OTHER),
                        name => (name, RANDOM),
                    };
                    format!("  - secretbox: {{keys: [{{name: {name}, secret: {secret}}}]}}\n")
                }
            });
        }
        source
    };
    let compared = |first: &[&str], second: &[&str]| {
        let [first, second] = [first, second].map(chain);
        let findings = compare(first.as_bytes(), second.as_bytes(), &server());
        findings.into_iter().map(|it| it.id).collect::<Vec<_>>()
    };
    let none = [""; 0];
    for (first, second, expected) in [
        (&["a"][..], &["a"][..], &none[..]),
        (&["a", "b"], &["b", "a"], &["AR-L058"]),
        (&["a"], &["a", "b"], &["AR-L058"]),
        (&["a", "b"], &["a"], &["AR-L058"]),
        (&["kms"], &["kms elsewhere"], &["AR-L058"]),
        (&["a"], &["b", "a"], &["AR-L059"]),
        (&["b", "a"], &["a"], &["AR-L059"]),
        (&["a"], &["b"], &["AR-L059", "AR-L059"]),
        (&["a"], &["a with other bytes"], &["AR-L059", "AR-L059"]),
        (&["a", "identity"], &["identity"], &["AR-L059"]),
        (&["a", "identity"], &["identity", "a"], &["AR-L058"]),
    ] {
        assert_eq!(compared(first, second), expected, "{first:?} {second:?}");
    }
    let compared =
        |first: &str, second: &str| found(&compare(first.as_bytes(), second.as_bytes(), &server()));
    let file = chain(&["a", "identity"]);
    assert_eq!(
        compared(&file, &format!("# node 2\n{file}")),
        ["AR-L057  1:1"]
    );
    // A wildcard that says the same is no difference, a resource that is left out is one.
    let [wide, both] = ["'*.*'", "secrets"].map(covering);
    assert_eq!(
        compared(&both, &both.replace("[secrets]", "['secrets.']")),
        ["AR-L057  1:1"]
    );
    assert_eq!(
        compared(&wide, &both),
        ["AR-L059 resources 4:1", "AR-L059 resources 4:1"]
    );
    // What the server refuses is compared with nothing.
    assert_eq!(compared(&file, "a: ["), none);
    assert_eq!(compared(&file, &file.replace("secrets", "'*'")), none);
}

/// The examples are good: what is said of them is what they say themselves.
#[test]
fn examples_have_no_warning_but_their_own() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    // The key of the samples is known to everybody.
    for (name, warnings) in [
        (
            "encryption-configuration/aescbc.yaml",
            &["AR-L014", "AR-L017"][..],
        ),
        ("encryption-configuration/aesgcm.yaml", &["AR-L017"]),
        ("encryption-configuration/identity.yaml", &["AR-L001"]),
        ("encryption-configuration/kms.yaml", &[]),
        ("encryption-configuration/secretbox.yaml", &["AR-L017"]),
        ("atrest-kms/encryption-configuration.yaml", &[]),
    ] {
        let source = std::fs::read_to_string(examples.join(name)).unwrap();
        let mut findings = lints(&source);
        findings.retain(|it| it.severity == Severity::Warning);
        assert_eq!(
            ids(&findings).into_iter().collect::<Vec<_>>(),
            warnings,
            "{name}"
        );
    }
    let folder = std::fs::read_dir(examples.join("encryption-configuration")).unwrap();
    assert_eq!(folder.count(), 5);
}

#[test]
fn no_lint_says_a_secret() {
    let secrets = [
        RANDOM,
        OTHER,
        "bXktdmVyeS1sb25nLWNsdXN0ZXItcGFzc3BocmFzZSE=",
    ];
    let mut keys = String::new();
    for provider in ["aescbc", "aesgcm", "secretbox"] {
        keys += &format!("  - {provider}:\n      keys:\n");
        for secret in secrets {
            for name in ["a", "a:b", "A", "a b", secret] {
                keys += &format!("      - {{name: '{name}', secret: {secret}}}\n");
            }
        }
    }
    let hex = "4fd8cb0d100abc0c8f4005a0031c9d81";
    let names = [&secrets[..], &[hex]].concat();
    let resources: Vec<_> = names
        .iter()
        .map(|it| format!("'{it}', 'secrets,{it}', 'v1/{it}', 'secrets.{it}', '{it}.apps'"))
        .collect();
    let resources = resources.join(", ");
    let source = format!(
        "{HEAD}resources:
- resources: [secrets, {resources}]
  providers:
{keys}"
    );
    let other = source.replace(RANDOM, OTHER);
    let mut findings = lints(&source);
    assert!(ids(&findings).len() > 7, "{:?}", ids(&findings));
    findings.extend(compare(source.as_bytes(), other.as_bytes(), &server()));
    for secret in names {
        for at in 0..secret.len() - 8 {
            let part = &secret[at..at + 8];
            let finding = findings.iter().find(|it| format!("{it:?}").contains(part));
            assert!(finding.is_none(), "{finding:?}");
        }
    }
}

/// What this thread has computed so far: other tests and a busy machine do not count.
fn computed() -> Duration {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanoseconds = times.split_whitespace().next().unwrap();
    Duration::from_nanos(nanoseconds.parse().unwrap())
}

#[test]
fn what_is_made_to_hurt_is_linted_soon() {
    let start = computed();
    let names = |count: usize, name: &dyn Fn(usize) -> String| -> String {
        (0..count).map(|i| format!("{}, ", name(i))).collect()
    };
    let keys = |count: usize| -> String {
        (0..count)
            .map(|i| format!("{{name: key{i}, secret: {RANDOM}}}, "))
            .collect()
    };
    let entry = |resources: &str, keys: &str| {
        format!("- resources: [{resources}]\n  providers: [{{aesgcm: {{keys: [{keys}]}}}}]\n")
    };
    let wide = entry(&names(5_000, &|i| format!("'*.group{i}.io'")), &keys(5_000));
    let narrow = entry(&names(5_000, &|i| format!("a.group{i}.io")), &keys(5_000));
    let unknown = entry(&names(10_000, &|i| format!("sacrets{i}")), &keys(1));
    let one: String = (0..5_000).map(|_| entry("secrets", &keys(1))).collect();
    let long = entry(&format!("'{}'", "secrets,".repeat(1 << 17)), &keys(1));
    for entries in [format!("{wide}{narrow}"), unknown, one, long] {
        let source = format!("{HEAD}resources:\n{entries}");
        let findings = lints(&source);
        assert!(!findings.is_empty());
        assert!(findings.len() <= 5000);
        let other = format!("# other\n{source}");
        compare(source.as_bytes(), other.as_bytes(), &server());
    }
    let documents = format!(
        "{}{}",
        covering("secrets"),
        "---\n# nothing\n".repeat(1 << 18)
    );
    assert!(lints(&documents).is_empty());
    // The build is not optimized; the square of these sizes would take minutes.
    let took = computed() - start;
    assert!(took < Duration::from_secs(40), "{took:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Of a file with faults of any kind, findings come in order, and point into it.
    #[test]
    fn lints_of_damaged_files_are_in_order(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 0..4),
    ) {
        let folder = std::fs::read_dir(tests().join("surprises")).unwrap();
        let files: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
        let original = std::fs::read(which.get(&files)).unwrap();
        let mut source = original.clone();
        for (at, byte, how) in changes {
            let at = at.index(source.len());
            match how {
                0 => source[at] = byte,
                1 => source.insert(at, byte),
                _ => drop(source.remove(at)),
            }
        }
        let findings = lint(&source, &server(), &Surroundings::default());
        prop_assert!(findings.is_sorted_by_key(|it| (it.line, it.column, it.id)));
        let lines = u32::try_from(source.split(|byte| *byte == b'\n').count()).unwrap();
        // A carriage return ends a line of YAML, too.
        let returns = source.iter().filter(|byte| matches!(byte, b'\r' | 0x85 | 0xa8 | 0xa9)).count();
        let lines = lines + u32::try_from(returns).unwrap();
        for finding in &findings {
            prop_assert!((1..=lines).contains(&finding.line), "{finding:?}");
            prop_assert!(finding.origin == Origin::Lint && !finding.fix.is_empty());
        }
        compare(&original, &source, &server());
    }
}
