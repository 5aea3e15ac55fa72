//! `atrest generate`

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use atrest_core::encryption_config::{EncryptionConfiguration, Provider, Server, judge};

use crate::{Run, atrest};

fn loaded(bytes: &[u8]) -> EncryptionConfiguration {
    let judgement = judge(bytes, &Server::default());
    assert_eq!(judgement.findings, []);
    judgement.configuration.unwrap()
}

fn generate(file: &Path, arguments: &[&str]) -> Run {
    let file = file.to_str().unwrap();
    atrest(["generate", "-o", file].iter().chain(arguments))
}

fn assert_leaves_nothing(folder: &Path) {
    assert_eq!(
        std::fs::read_dir(folder).unwrap().count(),
        0,
        "something was left behind"
    );
}

#[test]
fn every_provider_makes_a_file_that_loads() {
    let folder = tempfile::tempdir().unwrap();
    for provider in ["aescbc", "aesgcm", "secretbox", "kms", "identity"] {
        for output in ["yaml", "json"] {
            let file = folder.path().join(format!("{provider}.{output}"));
            let kms = [
                "--kms-endpoint",
                "unix:///run/kms.sock",
                "--kms-timeout",
                "1500ms",
            ];
            let kms = if provider == "kms" { &kms[..] } else { &[] };
            let run = generate(
                &file,
                &[&["--provider", provider, "--output", output], kms].concat(),
            );
            assert_eq!((run.status, run.stdout.as_str()), (0, ""), "{}", run.stderr);

            let bytes = std::fs::read(&file).unwrap();
            assert_eq!(bytes.starts_with(b"{"), output == "json");
            assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o600);
            let configuration = loaded(&bytes);
            let [entry] = &configuration.resources[..] else {
                panic!()
            };
            assert_eq!(entry.resources, ["secrets"]);
            assert_eq!(entry.providers[0].name(), provider);
            assert_eq!(entry.providers.last(), Some(&Provider::Identity));
            for key in entry.providers[0].keys() {
                assert_eq!(key.secret.len(), 32);
                assert!(key.name.ends_with(&key.secret.fingerprint().short(8)));
                assert!(run.stderr.contains(&key.name));
            }
            if let Provider::Kms(kms) = &entry.providers[0] {
                assert_eq!(kms.endpoint, "unix:///run/kms.sock");
                assert_eq!(kms.timeout.as_millis(), 1500);
            }
        }
    }
}

#[test]
fn the_key_is_in_the_file_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    let run = generate(&file, &[]);
    let text = std::fs::read_to_string(&file).unwrap();
    let secret = text
        .split("secret: ")
        .nth(1)
        .unwrap()
        .lines()
        .next()
        .unwrap();
    assert_eq!(secret.len(), 44);
    assert!(!run.said().contains(secret));
    let configuration = loaded(text.as_bytes());
    let key = configuration.resources[0].providers[0].keys()[0]
        .secret
        .expose();
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(!run.said().to_lowercase().contains(&hex));
}

#[test]
fn stdout_is_the_file() {
    let run = atrest([
        "generate",
        "-o",
        "-",
        "--resource",
        "*.apps",
        "--resource",
        "secrets",
    ]);
    assert_eq!(run.status, 0, "{}", run.stderr);
    let configuration = loaded(run.stdout.as_bytes());
    assert_eq!(configuration.resources[0].resources, ["*.apps", "secrets"]);

    let quiet = atrest(["generate", "-o", "-", "--quiet", "--no-identity"]);
    assert_eq!(quiet.stderr, "");
    assert_eq!(
        loaded(quiet.stdout.as_bytes()).resources[0].providers.len(),
        1
    );
}

#[test]
fn a_file_that_exists_is_left_alone_without_force() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    std::fs::write(&file, "precious").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();

    let run = generate(&file, &[]);
    assert_eq!(run.status, 2);
    assert!(run.stderr.contains("exists\nhint: "), "{}", run.stderr);
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");

    let run = generate(&file, &["--force"]);
    assert_eq!(run.status, 0, "{}", run.stderr);
    assert!(
        run.stderr.contains("warning: "),
        "the mode lets others read: {}",
        run.stderr
    );
    loaded(&std::fs::read(&file).unwrap());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn what_the_server_would_reject_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    let kms = ["--provider", "kms", "--kms-endpoint"];
    for (arguments, told) in [
        (&["--resource", "Secrets"][..], "lower case"),
        (&["--resource", "*"], "'*.*'"),
        (
            &["--resource", "secrets", "--resource", "*."],
            "an entry of its own",
        ),
        (
            &[kms[0], kms[1], kms[2], "unix:///k", "--kms-name", "a:b"],
            "without a colon",
        ),
    ] {
        let run = generate(&file, arguments);
        assert_eq!(run.status, 2, "{arguments:?}");
        assert!(run.stderr.contains("would reject"), "{}", run.stderr);
        assert!(run.stderr.contains(told), "{arguments:?}: {}", run.stderr);
        assert_leaves_nothing(folder.path());
    }
}

#[test]
fn an_endpoint_names_the_socket_that_is_dialled() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    for endpoint in [
        "",
        "http://kms",
        "/run/kms.sock",
        "unix:/run/kms.sock",
        "unix://run/kms.sock",
        "unix:///",
        "unix:///run/a%20b",
        "unix:///run/a?b",
    ] {
        let run = generate(&file, &["--provider", "kms", "--kms-endpoint", endpoint]);
        assert_eq!(run.status, 2, "{endpoint}");
        assert!(
            run.stderr.contains("hint: write unix:///"),
            "{}",
            run.stderr
        );
        assert_leaves_nothing(folder.path());
    }
    let run = generate(
        &file,
        &["--provider", "kms", "--kms-endpoint", "unix:///@kms"],
    );
    assert_eq!(run.status, 0, "{}", run.stderr);
}

#[test]
fn wrong_usage_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    for arguments in [
        &["--provider", "kms"][..],
        &["--provider", "rot13"],
        &["--kms-endpoint", "unix:///k"],
        &[
            "--provider",
            "kms",
            "--kms-endpoint",
            "unix:///k",
            "--kms-timeout",
            "0s",
        ],
        &[
            "--provider",
            "kms",
            "--kms-endpoint",
            "unix:///k",
            "--kms-timeout",
            "3",
        ],
    ] {
        assert_eq!(generate(&file, arguments).status, 2, "{arguments:?}");
        assert_leaves_nothing(folder.path());
    }
    assert_eq!(atrest(["generate"]).status, 2);
    let missing = folder.path().join("missing/config.yaml");
    let run = generate(&missing, &[]);
    assert_eq!(run.status, 2);
    assert!(run.stderr.starts_with("error: "), "{}", run.stderr);
    assert_leaves_nothing(folder.path());
}

const OLD: &str = "\
# of cluster one
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers:
  # since March
  - secretbox:
      keys:
      - {name: old, secret: bm8ga2V5LCBidXQgYXMgbG9uZyBhcyBvbmUgaXMuLi4=}
- resources: ['*.*'] # not yet
  providers:
  - identity: {}
";

#[test]
fn a_file_is_extended_with_its_comments() {
    let folder = tempfile::tempdir().unwrap();
    let [old, new] = ["old.yaml", "new.yaml"].map(|name| folder.path().join(name));
    std::fs::write(&old, OLD).unwrap();
    let from = old.to_str().unwrap();
    let arguments = [
        "--from",
        from,
        "--resource",
        "secrets",
        "--resource",
        "configmaps",
    ];
    let run = generate(&new, &arguments);
    assert_eq!((run.status, run.stdout.as_str()), (0, ""), "{}", run.stderr);
    assert!(run.stderr.contains("atrest rotate"), "{}", run.stderr);
    assert_eq!(std::fs::read_to_string(&old).unwrap(), OLD);
    assert_eq!(new.metadata().unwrap().mode() & 0o7777, 0o600);

    let text = std::fs::read_to_string(&new).unwrap();
    for line in OLD.lines() {
        assert!(
            text.lines().any(|it| it == line),
            "{line} is not in\n{text}"
        );
    }
    let configuration = loaded(text.as_bytes());
    let [secrets, configmaps, rest] = &configuration.resources[..] else {
        panic!("{text}")
    };
    let [old_key, key] = secrets.providers[0].keys() else {
        panic!("{text}")
    };
    assert_eq!(old_key.name, "old");
    // What the wildcard stored is still read.
    assert_eq!(configmaps.resources, ["configmaps"]);
    let expected = [Provider::Identity, Provider::Secretbox(vec![key.clone()])];
    assert_eq!(configmaps.providers, expected);
    assert_eq!(rest.resources, ["*.*"]);
}

#[test]
fn a_file_is_extended_in_place_only_by_force() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    let plugin = [
        "--provider",
        "kms",
        "--kms-endpoint",
        "unix:///run/kms.sock",
    ];
    assert_eq!(generate(&file, &["--output", "json"]).status, 0);
    let before = std::fs::read_to_string(&file).unwrap();
    let more = [
        &["--from", file.to_str().unwrap(), "--resource", "events"][..],
        &plugin,
    ]
    .concat();
    assert_eq!(generate(&file, &more).status, 2);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);

    let run = generate(&file, &[&more[..], &["--force"]].concat());
    assert_eq!(run.status, 0, "{}", run.stderr);
    let after = std::fs::read_to_string(&file).unwrap();
    assert!(
        after.starts_with(before.trim_end().trim_end_matches("\n  ]\n}")),
        "{after}"
    );
    let configuration = loaded(after.as_bytes());
    assert_eq!(configuration.resources.len(), 2);
    assert_eq!(configuration.resources[1].providers[0].name(), "kms");
    // A plugin of one name cannot be in two entries.
    let twice = [
        &more[..],
        &["--resource", "leases.coordination.k8s.io", "--force"],
    ]
    .concat();
    let refused = generate(&file, &twice);
    assert_eq!(refused.status, 2, "{}", refused.stderr);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), after);
}

#[test]
fn profiles_are_common_shapes() {
    for (profile, resources) in [
        ("secrets", &["secrets"][..]),
        ("secrets-and-configmaps", &["secrets", "configmaps"]),
        ("core", &["events", "*."]),
        (
            "all-but-events",
            &["events", "leases.coordination.k8s.io", "*.*"],
        ),
        ("all", &["*.*"]),
    ] {
        let run = atrest([
            "generate",
            "-o",
            "-",
            "--profile",
            profile,
            "--output",
            "json",
        ]);
        assert_eq!(run.status, 0, "{}", run.stderr);
        assert!(run.stderr.contains("identity is last"), "{}", run.stderr);
        let file: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        let entries = file["resources"].as_array().unwrap();
        let named: Vec<_> = entries
            .iter()
            .flat_map(|entry| entry["resources"].as_array().unwrap())
            .collect();
        assert_eq!(named, resources, "{profile}");
        let last = &entries.last().unwrap()["providers"];
        assert!(last[0]["secretbox"].is_object(), "{last}");
        assert!(last[1]["identity"].is_object(), "{last}");
        for entry in &entries[..entries.len() - 1] {
            assert_eq!(entry["providers"], serde_json::json!([{"identity": {}}]));
        }
    }
    for more in [&["--resource", "secrets"][..], &["--from", "a.yaml"]] {
        let arguments = ["generate", "-o", "-", "--profile", "all"];
        assert_eq!(atrest(arguments.iter().chain(more)).status, 2, "{more:?}");
    }
}
