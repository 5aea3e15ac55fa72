//! Input that cannot be used: exit status 2 or 3, a sentence that says what to do, and nothing
//! changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use atrest_tests::atrest::{self, Ended};
use atrest_tests::processes::{ControlPlane, Options};
use atrest_tests::{binaries, packages, stored_values};

use crate::rotate::{FEW, rotate};

/// Everything that a refused command must leave as it was.
fn fingerprint(plane: &ControlPlane) -> impl PartialEq + std::fmt::Debug + use<> {
    let state_dir = plane.directory().join("state");
    let mut files: Vec<PathBuf> = Vec::new();
    for folder in [
        state_dir.clone(),
        state_dir.join("escrow"),
        state_dir.join("escrow-copy"),
    ] {
        let entries = fs::read_dir(folder).into_iter().flatten();
        files.extend(
            entries
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.is_file()),
        );
    }
    // The lock is a file without content that says nothing.
    files.retain(|path| !path.ends_with("lock"));
    files.sort();
    let config = fs::read(&plane.servers[0].encryption_config).unwrap();
    let revisions = stored_values::secrets(plane);
    (files, config, revisions)
}

#[track_caller]
fn assert_refused(case: &str, ended: &Ended, status: i32, words: &[&str]) {
    let said = &ended.stderr;
    assert_eq!(ended.status, Some(status), "{case}: {said}");
    assert!(
        said.contains("error: ") && said.contains("hint: "),
        "{case}: {said}"
    );
    for word in words {
        assert!(said.contains(word), "{case}: no {word:?} in {said}");
    }
    assert_eq!(ended.stdout, "", "{case}");
}

fn verify(plane: &ControlPlane, more: &[&str]) -> Ended {
    let mut arguments = vec!["verify".to_owned()];
    arguments.extend(atrest::flags(plane, 0));
    arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
    atrest::run(&arguments)
}

fn reencrypt(kubeconfig: &Path) -> Ended {
    atrest::run(["reencrypt", "--kubeconfig", kubeconfig.to_str().unwrap()])
}

/// The administrator's kubeconfig with one word for another.
fn kubeconfig(plane: &ControlPlane, name: &str, edit: impl Fn(&str) -> String) -> PathBuf {
    let path = plane.directory().join(name);
    let admin = fs::read_to_string(&plane.servers[0].kubeconfig).unwrap();
    fs::write(&path, edit(&admin)).unwrap();
    path
}

/// A kubeconfig of an account without any rights.
fn powerless(plane: &ControlPlane) -> PathBuf {
    let kubectl = |arguments: &[&str]| {
        let output = plane.kubectl(0).args(arguments).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    kubectl(&["create", "serviceaccount", "powerless"]);
    let token = kubectl(&["create", "token", "powerless"]);
    let path = plane.directory().join("powerless.conf");
    let ca = plane.pki().join("ca.crt");
    fs::write(
        &path,
        format!(
            "apiVersion: v1
kind: Config
current-context: c
clusters: [{{name: c, cluster: {{server: \"{}\", certificate-authority: {}}}}}]
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
users: [{{name: u, user: {{token: \"{token}\"}}}}]
",
            plane.servers[0].url,
            ca.display(),
        ),
    )
    .unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_is_refused_with_a_hint_and_changes_nothing() {
    let mut plane = ControlPlane::start(Options::default());
    FEW.store(&plane.client(0).await, "refused").await.unwrap();
    let before = fingerprint(&plane);
    let file = plane.servers[0].encryption_config.clone();
    let good = fs::read_to_string(&file).unwrap();
    let to = ["--to", "secretbox"];

    // Configurations.
    let config = plane.directory().join("mine.yaml");
    for (case, content) in [
        ("empty", ""),
        ("truncated", &good[..good.len() / 2]),
        ("binary", "\u{1}\u{2}"),
        ("another kind", "apiVersion: v1\nkind: Secret\n"),
    ] {
        fs::write(&config, content).unwrap();
        let path = config.to_str().unwrap();
        assert_refused(
            case,
            &verify(&plane, &["--config", path]),
            2,
            &["mine.yaml"],
        );
        let ended = rotate(&plane, "run", &[&to[..], &["-f", path]].concat());
        assert_eq!(
            ended.status,
            Some(2),
            "{case}: --config and -f: {}",
            ended.stderr
        );
    }
    for (case, path) in [
        ("absent", "/nonexistent/config.yaml"),
        ("a directory", "/etc"),
    ] {
        assert_refused(case, &verify(&plane, &["--config", path]), 2, &[path]);
    }
    // A file that the server does not run with.
    let other = plane.directory().join("other.yaml");
    fs::write(&other, format!("# another file\n{good}")).unwrap();
    let mut command = atrest::command(["rotate", "run", "--yes", "--to", "secretbox"]);
    command
        .args(atrest::flags(&plane, 0))
        .arg("--config")
        .arg(&other);
    command
        .arg("--state-dir")
        .arg(plane.directory().join("state"));
    if plane.tells_hashes() {
        let ended = command.output().unwrap().into();
        assert_refused(
            "not loaded",
            &ended,
            2,
            &["another EncryptionConfiguration", "automatic-reload"],
        );
    }

    // API servers.
    let down = kubeconfig(&plane, "down.conf", |text| {
        text.replace(&plane.servers[0].url, "https://127.0.0.1:1")
    });
    assert_refused(
        "server down",
        &reencrypt(&down),
        3,
        &["https://127.0.0.1:1", "refused"],
    );
    let ca = fs::read(&plane.etcd.ca).unwrap();
    let foreign = data_encoding::BASE64.encode(&ca);
    let untrusted = kubeconfig(&plane, "untrusted.conf", |text| {
        let edit = |line: &str| match line.split_once("certificate-authority-data:") {
            Some((indent, _)) => format!("{indent}certificate-authority-data: {foreign}"),
            None => line.to_owned(),
        };
        text.lines().map(edit).collect::<Vec<_>>().join("\n")
    });
    assert_refused("foreign CA", &reencrypt(&untrusted), 3, &["certificate"]);
    let broken = kubeconfig(&plane, "broken.conf", |text| {
        text.replace("users:", "users: hunter2")
    });
    let ended = reencrypt(&broken);
    assert_refused("broken kubeconfig", &ended, 2, &["kubeconfig"]);
    assert!(
        !ended.stderr.contains("hunter2") && !ended.stderr.contains("LS0t"),
        "{}",
        ended.stderr
    );
    assert_refused(
        "no kubeconfig",
        &reencrypt(Path::new("/nonexistent")),
        2,
        &["kubeconfig"],
    );
    let powerless = powerless(&plane);
    assert_refused(
        "no rights",
        &reencrypt(&powerless),
        3,
        &["403", "cannot list resource", "administrator"],
    );
    let mut command = atrest::rotate(&plane, "run", &to);
    command.arg("--kubeconfig").arg(&powerless);
    let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    // The flag may be given once: the powerless kubeconfig takes the administrator's place.
    let admin = plane.servers[0].kubeconfig.as_os_str();
    let arguments = arguments
        .iter()
        .filter(|argument| argument.as_os_str() != "--kubeconfig");
    let mut command = atrest::command(
        arguments
            .filter(|argument| argument.as_os_str() != admin && argument.as_os_str() != powerless),
    );
    let ended = command
        .arg("--kubeconfig")
        .arg(&powerless)
        .output()
        .unwrap()
        .into();
    assert_refused("no rights to rotate", &ended, 3, &["403", "administrator"]);

    // etcd.
    let etcd = |flags: &[&str]| {
        let mut arguments = vec!["verify"];
        arguments.extend(flags);
        atrest::run(arguments)
    };
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let endpoint = plane.etcd.endpoint.clone();
    let (ca, api_ca) = (path(&plane.etcd.ca), path(&plane.pki().join("ca.crt")));
    let (cert, key) = (path(&plane.etcd.cert), path(&plane.etcd.key));
    assert_refused(
        "no endpoint",
        &etcd(&[]),
        2,
        &["etcd", "/etc/kubernetes/pki/etcd/ca.crt"],
    );
    let gone = [
        "--etcd-endpoints",
        "https://127.0.0.1:1",
        "--etcd-cacert",
        &ca,
    ];
    assert_refused("etcd down", &etcd(&gone), 3, &["https://127.0.0.1:1"]);
    let foreign = [
        "--etcd-endpoints",
        &endpoint,
        "--etcd-cacert",
        &api_ca,
        "--etcd-cert",
        &cert,
        "--etcd-key",
        &key,
    ];
    assert_refused(
        "etcd of another CA",
        &etcd(&foreign),
        3,
        &[&endpoint, "certificate"],
    );
    let nobody = ["--etcd-endpoints", &endpoint, "--etcd-cacert", &ca];
    assert_refused("no client certificate", &etcd(&nobody), 3, &[&endpoint]);
    let swapped = [
        "--etcd-endpoints",
        &endpoint,
        "--etcd-cacert",
        &ca,
        "--etcd-cert",
        &key,
        "--etcd-key",
        &cert,
    ];
    assert_refused("key for certificate", &etcd(&swapped), 2, &["certificate"]);

    // The etcd of another cluster, to which its certificates open the way.
    let other = ControlPlane::start(Options::default());
    let mut command = atrest::command(["rotate", "run", "--yes", "--to", "secretbox"]);
    command
        .arg("--kubeconfig")
        .arg(&plane.servers[0].kubeconfig);
    command.args(other.etcd_flags()).arg("--config").arg(&file);
    command
        .arg("--state-dir")
        .arg(plane.directory().join("state"));
    let ended = command.output().unwrap().into();
    assert_refused("another cluster", &ended, 2, &["of this etcd"]);
    drop(other);

    assert_eq!(fingerprint(&plane), before);

    plane.etcd.kill();
    let ended = rotate(&plane, "run", &to);
    assert_eq!(ended.status, Some(3), "{}", ended.stderr);
    assert!(ended.stderr.contains("hint: "), "{}", ended.stderr);
    assert_eq!(fs::read_to_string(&file).unwrap(), good);
}

/// Runs a script as root of a mount namespace of its own.
fn in_private_mounts(script: &str, arguments: &[&std::ffi::OsStr]) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-euc", script, "sh"])
        .args(arguments);
    command.env_remove("KUBECONFIG").stdin(Stdio::null());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_at_the_escrow_stops_before_anything_is_changed() {
    if !rustix::process::geteuid().is_root() || !packages::available(&[("unshare", "util-linux")]) {
        eprintln!("skipped: mounting a full disk needs root");
        return;
    }
    let plane = ControlPlane::start(Options::default());
    FEW.store(&plane.client(0).await, "full").await.unwrap();
    let config = fs::read(&plane.servers[0].encryption_config).unwrap();
    let values = stored_values::secrets(&plane);
    let full = plane.directory().join("full");
    fs::create_dir(&full).unwrap();
    let escrow = full.join("key");

    let command = atrest::rotate(
        &plane,
        "run",
        &["--to", "secretbox", "--escrow", escrow.to_str().unwrap()],
    );
    let mut arguments = vec![full.as_os_str(), command.get_program()];
    arguments.extend(command.get_args());
    let script = "mount -t tmpfs -o size=16k tmpfs \"$1\"; \
                  dd if=/dev/zero of=\"$1/fill\" bs=4k 2>/dev/null || true; \
                  full=$1; shift; status=0; \"$@\" || status=$?; ls -A \"$full\"; exit $status";
    let ended: Ended = in_private_mounts(script, &arguments)
        .output()
        .unwrap()
        .into();
    assert_eq!(ended.status, Some(2), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("No space left on device"),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stderr.contains("nothing was changed"),
        "{}",
        ended.stderr
    );
    let told = "full/key has 0 bytes free, and the run may need ";
    assert!(ended.stderr.contains(told), "{}", ended.stderr);
    assert_eq!(
        ended.stdout.trim(),
        "fill",
        "a failed command leaves nothing behind"
    );
    assert_eq!(
        fs::read(&plane.servers[0].encryption_config).unwrap(),
        config
    );
    assert_eq!(stored_values::secrets(&plane), values);

    // With room it goes on, and mints its one key.
    rotate(&plane, "resume", &[]).expect(0);
    assert_eq!(
        fs::read_dir(plane.directory().join("state/escrow-copy"))
            .unwrap()
            .count(),
        1
    );
}

#[test]
fn the_demo_says_what_it_lacks() {
    let demo = binaries::path("demo");
    let folder = tempfile::tempdir().unwrap();
    let without_go = |command: &mut Command| {
        let output = command
            .env_remove("KUBEBUILDER_ASSETS")
            .env("XDG_CACHE_HOME", folder.path())
            .env("PATH", "/usr/bin:/bin")
            .output()
            .unwrap();
        Ended::from(output)
    };
    if Path::new("/usr/bin/go").exists() {
        eprintln!("skipped: go is where it cannot be hidden");
    } else {
        assert_refused(
            "no go",
            &without_go(&mut Command::new(demo)),
            2,
            &["no go on the PATH", "install Go"],
        );
    }
    if !rustix::process::geteuid().is_root() || !packages::available(&[("unshare", "util-linux")]) {
        eprintln!("skipped: mounting a small disk needs root");
        return;
    }
    let script = "mount -t tmpfs -o size=1m tmpfs \"$1\"; shift; exec \"$@\"";
    let mut command = in_private_mounts(script, &[folder.path().as_os_str(), demo.as_os_str()]);
    command
        .env_remove("KUBEBUILDER_ASSETS")
        .env("XDG_CACHE_HOME", folder.path());
    let ended = command.output().unwrap().into();
    assert_refused("no space", &ended, 2, &["MiB free", "XDG_CACHE_HOME"]);
}
