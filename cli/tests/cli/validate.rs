//! `atrest validate`

use serde_json::Value;

use crate::{atrest, atrest_with, repository, schema};

pub(crate) const GOOD: &str = "\
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
  - resources: [secrets]
    providers:
      - identity: {}
";

/// A v1 plugin, which is off since 1.29, and accepted twice only without automatic reload.
const V1: &str = "\
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
  - resources: [secrets]
    providers:
      - kms: {name: one, endpoint: unix:///k}
      - kms: {name: one, endpoint: unix:///k}
";

pub(crate) fn bad(secret: &str) -> String {
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\n\
         kind: EncryptionConfiguration\n\
         resources:\n\
         \x20 - resources: [secrets]\n\
         \x20   providers:\n\
         \x20     - aescbc:\n\
         \x20         keys:\n\
         \x20           - name: key1\n\
         \x20             secret: {secret}\n"
    )
}

fn status(stdin: &str, arguments: &[&str]) -> i32 {
    atrest_with(["validate", "-"].iter().chain(arguments), stdin.as_bytes()).status
}

#[test]
fn text_names_the_place_the_rule_and_the_fix() {
    let run = atrest_with(["validate", "-"], bad("not*base64").as_bytes());
    assert_eq!(run.status, 1);
    assert_eq!(
        run.stdout,
        "-:9:23: error[AR-C018]: the secret is not base64\n\
         \x20   9 |               secret: **********\n\
         \x20     |                       ^\n\
         \x20   at:  resources[0].providers[0].aescbc.keys[0].secret\n\
         \x20   fix: encode the key with padding and without blanks: \
         `head -c 32 /dev/urandom | base64`\n\
         \x20   kube-apiserver says: resources[0].providers[0].aescbc.keys[0].secret: Invalid value: \
         \"REDACTED\": secrets must be base64 encoded\n\
         -: kube-apiserver 1.37 rejects it: 1 error\n"
    );
    assert_eq!(run.stderr, "");
}

#[test]
fn color_is_for_terminals_or_on_demand() {
    let of = |arguments: &[&str]| {
        let run = atrest_with(
            ["validate", "-"].iter().chain(arguments),
            bad("x").as_bytes(),
        );
        run.stdout
    };
    let plain = of(&[]);
    assert!(!plain.contains('\u{1b}'));
    assert_eq!(of(&["--color", "never"]), plain);
    let colored = of(&["--color", "always"]);
    assert!(
        colored.contains("\u{1b}[31merror[AR-C018]\u{1b}[0m: "),
        "{colored}"
    );
    assert!(colored.contains("\u{1b}[31m^\u{1b}[0m\n"), "{colored}");
    let mut bare = colored;
    for style in ["\u{1b}[1m", "\u{1b}[31m", "\u{1b}[0m"] {
        bare = bare.replace(style, "");
    }
    assert_eq!(bare, plain);
}

#[test]
fn excerpts_are_shown_once_and_cut_to_fit() {
    let long = bad("x").replace(
        "[secrets]",
        &format!("[{}Secrets, '*']", "secrets, ".repeat(40)),
    );
    let run = atrest_with(["validate", "-"], long.as_bytes());
    let lines: Vec<_> = run.stdout.lines().collect();
    let at = lines
        .iter()
        .position(|line| line.contains("AR-C007"))
        .unwrap();
    let (excerpt, caret) = (lines[at + 1], lines[at + 2]);
    assert!(
        excerpt.starts_with("    4 | …") && excerpt.chars().count() <= 100,
        "{excerpt}"
    );
    let column = caret.chars().position(|scalar| scalar == '^').unwrap();
    let rest: String = excerpt.chars().skip(column).collect();
    assert!(rest.starts_with("Secrets, '*'"), "{excerpt}\n{caret}");

    // Two findings at one place.
    let both = bad("x")
        .replace("name: key1\n", "{}\n")
        .replace("              secret: x\n", "");
    let run = atrest_with(["validate", "-"], both.as_bytes());
    let excerpts = run
        .stdout
        .lines()
        .filter(|line| line.starts_with("    8 | "));
    let findings = run
        .stdout
        .lines()
        .filter(|line| line.starts_with("-:8:15: "));
    assert_eq!(
        (findings.count(), excerpts.count()),
        (2, 1),
        "{}",
        run.stdout
    );
}

#[test]
fn several_files_have_a_summary() {
    let folder = repository().join("examples/encryption-configuration");
    let file = folder.join("kms.yaml").display().to_string();
    let run = atrest_with(["validate", &file, "-", "/dev/null/x"], b"");
    assert_eq!(run.status, 2);
    let last = run.stdout.lines().last().unwrap();
    assert_eq!(last, "3 files: 1 accepted, 1 rejected, 1 unread");
}

#[test]
fn json_and_yaml_are_as_the_schema_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let files = [
        path("good.yaml", GOOD),
        path("bad.yaml", &bad("not*base64")),
        path("broken.json", "{"),
        path("empty", ""),
        folder.path().join("missing").to_str().unwrap().to_owned(),
    ];
    let of = |output| {
        let run = atrest(
            ["validate", "--output", output]
                .into_iter()
                .chain(files.iter().map(|it| &**it)),
        );
        assert_eq!(run.status, 2, "a file is missing");
        assert!(run.stderr.contains("missing"), "{}", run.stderr);
        run.stdout
    };
    let json: Value = serde_json::from_str(&of("json")).unwrap();
    schema::check("validate-v1.json", &json);
    let yaml: Value = serde_yaml::from_str(&of("yaml")).unwrap();
    assert_eq!(json, yaml);

    let stages: Vec<_> = json["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["stage"])
        .collect();
    assert_eq!(stages, ["ok", "validate", "decode", "empty"]);
    assert_eq!(json["unread"][0]["path"], files[4]);
    let finding = &json["files"][1]["findings"][0];
    assert_eq!(finding["id"], "AR-C018");
    assert_eq!(
        finding["path"],
        "resources[0].providers[0].aescbc.keys[0].secret"
    );
    assert_eq!(finding["kind"], "Invalid value");
    assert_eq!(
        (&finding["line"], &finding["column"]),
        (&9.into(), &23.into())
    );
}

#[test]
fn the_server_that_judges_can_be_chosen() {
    assert_eq!(status(GOOD, &[]), 0);
    assert_eq!(status(V1, &[]), 1);
    assert_eq!(status(V1, &["--kubernetes-version", "1.28"]), 0);
    assert_eq!(
        status(
            V1,
            &[
                "--kubernetes-version",
                "v1.28.3",
                "--feature-gates=KMSv1=false"
            ]
        ),
        1
    );
    assert_eq!(
        status(V1, &["--feature-gates", "Other=false,KMSv1=true"]),
        0
    );
    assert_eq!(
        status(V1, &["--feature-gates", "KMSv1=true", "--automatic-reload"]),
        1
    );
    assert_eq!(
        status(
            V1,
            &["--feature-gates", "KMSv1=true", "--automatic-reload=false"]
        ),
        0
    );
    let typo = GOOD.replace("kind:", "knid: x\nkind:");
    assert_eq!(status(&typo, &[]), 1);
    assert_eq!(status(&typo, &["--kubernetes-version", "1.30"]), 0);

    for wrong in [
        &["--kubernetes-version", "1.26"][..],
        &["--kubernetes-version", "newest"],
        &["--feature-gates", "KMSv1"],
        &["--feature-gates", "KMSv2=false"],
        &[
            "--kubernetes-version",
            "1.30",
            "--feature-gates",
            "KMSv2=false",
        ],
        &[
            "--kubernetes-version",
            "1.27",
            "--feature-gates",
            "KMSv1=true",
        ],
        &["--fail-on", "never"],
        &["-"],
    ] {
        assert_eq!(status(GOOD, wrong), 2, "{wrong:?}");
    }
    let newer = atrest_with(
        ["validate", "-", "--kubernetes-version", "1.99"],
        GOOD.as_bytes(),
    );
    assert_eq!(newer.status, 0);
    assert!(newer.stderr.contains("judging as 1.37"));
}

#[test]
fn what_cannot_be_read_is_no_verdict() {
    for path in ["/", "/dev/null/x", "/dev/zero"] {
        let run = atrest(["validate", path]);
        assert_eq!((run.status, run.stdout.as_str()), (2, ""), "{path}");
        assert!(run.stderr.contains(path), "{}", run.stderr);
    }
    assert_eq!(atrest(["validate"]).status, 2);
}

#[test]
fn examples_are_accepted() {
    let folder = repository().join("examples/encryption-configuration");
    let files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|it| it.unwrap().path())
        .collect();
    assert_eq!(files.len(), 5);
    let run = atrest(
        [std::ffi::OsStr::new("validate")]
            .into_iter()
            .chain(files.iter().map(|it| it.as_os_str())),
    );
    assert_eq!(run.status, 0, "{}", run.stdout);
    for provider in ["aescbc", "aesgcm", "secretbox", "kms", "identity"] {
        assert!(
            run.stdout.contains(&format!("{provider}.yaml: ")),
            "{}",
            run.stdout
        );
    }
}

#[test]
fn no_output_shows_a_secret() {
    const SECRETS: [&str; 3] = ["c2VjcmV0LWZyb20tdGVz", "hunter2hunter2", "Tr0ub4dor&3"];
    let files = [
        bad(SECRETS[0]),
        bad("*x").replace(
            "secret: *x",
            &format!("secret: {}\n              {}: x", SECRETS[1], SECRETS[2]),
        ),
        bad(SECRETS[0]).replace("key1", "[1]"),
        bad(SECRETS[2]).replace("          keys:", "          kyes:"),
        format!("{}\n  broken: [", bad(SECRETS[0])),
        format!("{{\"secret\": \"{}\", {}", SECRETS[0], SECRETS[1]),
    ];
    for file in &files {
        for output in ["text", "json", "yaml"] {
            let run = atrest_with(["validate", "-", "--output", output], file.as_bytes());
            assert_eq!(run.status, 1, "{}", run.said());
            for secret in SECRETS {
                assert!(
                    !run.said().contains(secret),
                    "{secret} is in {}",
                    run.said()
                );
            }
        }
    }
}

const KEY1: (&str, &str) = ("key1", "4fjLDRAKvAyPQAWgAxnYG3uFL9LzXSWWWlFkl2AXW5I=");
const KEY2: (&str, &str) = ("key2", "eD0h2oQWq0K1dWnMm8c1bDk7X0fG3M0y5mTqJr3b1fE=");

/// One entry for Secrets with these keys of secretbox, and identity behind them.
fn lintable(keys: &[(&str, &str)]) -> String {
    let (head, identity) = GOOD.split_at(GOOD.find("      - identity").unwrap());
    let keys: String = keys
        .iter()
        .map(|(name, secret)| format!("            - {{name: {name}, secret: {secret}}}\n"))
        .collect();
    format!("{head}      - secretbox:\n          keys:\n{keys}{identity}")
}

fn ids(stdout: &str) -> Vec<String> {
    let json: Value = serde_json::from_str(stdout).unwrap();
    schema::check("validate-v1.json", &json);
    let files = json["files"].as_array().unwrap();
    let findings = files
        .iter()
        .flat_map(|it| it["findings"].as_array().unwrap());
    findings
        .map(|it| it["id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn lints_leave_the_verdict_alone_and_can_be_allowed() {
    let run = atrest_with(["validate", "-"], GOOD.as_bytes());
    assert_eq!(run.status, 0);
    assert_eq!(
        run.stdout,
        "-:6:9: warning[AR-L001]: what is written of \"secrets\" is stored in plaintext\n\
         \x20   6 |       - identity: {}\n\
         \x20     |         ^\n\
         \x20   at:  resources[0].providers[0]\n\
         \x20   fix: put a provider that encrypts in front: `atrest generate` makes one with its key\n\
         -: kube-apiserver 1.37 accepts it: 1 warning\n"
    );
    assert_eq!(status(GOOD, &["--fail-on", "warning"]), 1);
    assert_eq!(
        status(GOOD, &["--fail-on", "warning", "--allow", "AR-L001"]),
        0
    );

    let file = lintable(&[KEY1]);
    assert_eq!(status(&file, &["--fail-on", "warning"]), 0);
    assert_eq!(status(&file, &["--fail-on", "info"]), 1);
    let allow = ["--fail-on", "info", "--allow", "AR-L001", "--allow=ar-l003"];
    assert_eq!(status(&file, &allow), 0);
    for id in ["AR-L000", "AR-C002", "identity"] {
        assert_eq!(status(&file, &["--allow", id]), 2, "{id}");
    }
}

#[test]
fn the_file_system_is_looked_at() {
    use std::os::unix::fs::{PermissionsExt, symlink};

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    std::fs::write(&path, lintable(&[KEY1])).unwrap();
    let of = |path: &std::path::Path, mode: u32| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        ids(&atrest(["validate", "--output=json", path.to_str().unwrap()]).stdout)
    };
    assert_eq!(of(&path, 0o600), ["AR-L003"]);
    assert_eq!(of(&path, 0o666), ["AR-L048", "AR-L049", "AR-L003"]);
    let link = folder.path().join("link.yaml");
    symlink(&path, &link).unwrap();
    assert_eq!(of(&link, 0o600), ["AR-L051", "AR-L003"]);
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
    assert_eq!(of(&path, 0o600), ["AR-L052", "AR-L003"]);
}

#[test]
fn files_of_several_servers_are_compared_with_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        path.to_str().unwrap().to_owned()
    };
    let old = path("old", &lintable(&[KEY1]));
    let copy = path("copy", &lintable(&[KEY1]));
    let comment = path("comment", &format!("# node 2\n{}", lintable(&[KEY1])));
    let reads = path("reads", &lintable(&[KEY1, KEY2]));
    let writes = path("writes", &lintable(&[KEY2, KEY1]));
    let broken = path("broken", "a: [");
    let of = |files: &[&String]| {
        let arguments = ["validate", "--same", "--output=json", "--allow=AR-L003"];
        let files = files.iter().map(|it| it.as_str());
        let run = atrest(arguments.into_iter().chain(files));
        (run.status, ids(&run.stdout).join(" "))
    };
    let is = |status: i32, ids: &str| (status, ids.to_owned());
    assert_eq!(of(&[&old, &copy]), is(0, ""));
    assert_eq!(of(&[&old, &comment]), is(0, "AR-L057"));
    assert_eq!(of(&[&old, &reads]), is(1, "AR-L058"));
    assert_eq!(of(&[&reads, &writes]), is(1, "AR-L058"));
    assert_eq!(of(&[&old, &writes]), is(1, "AR-L059"));
    assert_eq!(of(&[&old, &copy, &writes]), is(1, "AR-L059"));
    assert_eq!(of(&[&broken, &old]), is(1, "AR-D002"));
    assert_eq!(atrest(["validate", "--same", &old]).status, 2);
    let run = atrest(["validate", &old, &writes]);
    assert_eq!(run.status, 0, "they are compared only when asked for");

    let stdin = lintable(&[KEY2, KEY1]);
    let run = atrest_with(["validate", "--same", &old, "-"], stdin.as_bytes());
    assert_eq!(run.status, 1);
    let said = "\"secrets\": the other server cannot read what this one writes with secretbox key \"key2\"";
    assert!(run.stdout.contains(said), "{}", run.stdout);
}

#[test]
fn a_cluster_that_cannot_be_asked_is_no_verdict() {
    let run = atrest_with(
        ["validate", "-", "--kubeconfig", "/missing"],
        GOOD.as_bytes(),
    );
    assert_eq!((run.status, run.stdout.as_str()), (2, ""));
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    std::fs::write(
        &kubeconfig,
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: c, cluster: {{server: 'https://{nobody}'}}}}]\n\
             users: [{{name: c, user: {{token: t}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: c}}}}]\n"
        ),
    )
    .unwrap();
    let kubeconfig = kubeconfig.to_str().unwrap();
    let run = atrest_with(
        ["validate", "-", "--kubeconfig", kubeconfig],
        GOOD.as_bytes(),
    );
    assert_eq!((run.status, run.stdout.as_str()), (3, ""), "{}", run.stderr);
    assert!(run.stderr.contains("cannot reach"), "{}", run.stderr);
}
