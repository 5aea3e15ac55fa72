//! `atrest servers`: what each server has, and one that is brought up to date.

use std::fs;

use atrest_tests::atrest::{self, Ended};
use atrest_tests::processes::{ControlPlane, Options};
use atrest_tests::schema;
use atrest_tests::ssh::Sshd;

use super::{ONE_KEY, sha256};

const SECOND: &str = "      - name: second
        secret: AQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=
";

#[test]
fn a_server_that_fell_behind_is_seen_and_synced_unless_its_writes_would_be_lost() {
    if !Sshd::is_available() {
        return;
    }
    let plane = ControlPlane::start(Options {
        servers: 2,
        encryption_config: ONE_KEY.into(),
        ..Options::default()
    });
    let sshd = Sshd::start();
    let remote = format!("access: {}", sshd.access());
    let yaml = atrest::rotation_yaml_of(&plane, &["", &remote], "");
    let servers = |arguments: &[&str]| -> Ended {
        let mut command = atrest::command(["servers"]);
        command.args(arguments).arg("--file").arg(&yaml);
        command
            .arg("--kubeconfig")
            .arg(&plane.servers[0].kubeconfig);
        command.env("PATH", sshd.path());
        command.output().unwrap().into()
    };
    let file = &plane.servers[1].encryption_config;

    let status = if plane.tells_hashes() { 0 } else { 3 };
    let list = servers(&["list", "--output", "json"]).expect(status);
    let list = list.json();
    assert_eq!(schema::faults(&list), Vec::<String>::new());
    if !plane.tells_hashes() {
        // Then nobody knows whom to follow.
        assert_eq!(list["servers"][0]["status"], "unknown");
        servers(&["sync", "cp2"]).expect(2);
        return;
    }
    let hash = sha256(ONE_KEY.as_bytes());
    for (server, access) in list["servers"]
        .as_array()
        .unwrap()
        .iter()
        .zip(["local", "ssh"])
    {
        assert_eq!(server["file_sha256"], *hash);
        assert_eq!(server["loaded_sha256"], *hash);
        assert_eq!(server["access"], access);
        assert!(server["release"].as_str().unwrap().starts_with("v1."));
        assert!(
            server["identity"]
                .as_str()
                .unwrap()
                .starts_with("apiserver-")
        );
    }
    servers(&["sync", "cp2"]).expect(0);

    // The others know one more key.
    let both = ONE_KEY.replace(
        "      - name: first",
        &format!("{SECOND}      - name: first"),
    );
    plane.load(0, both.as_bytes());
    let list = servers(&[]).expect(1).stdout;
    assert!(list.contains("cp2") && list.contains(&hash[..8]), "{list}");
    let ended = servers(&["sync", "cp2", "--dry-run"]).expect(0);
    assert!(ended.stderr.contains("as on cp1"), "{}", ended.stderr);
    servers(&["sync", "cp2"]).expect(2); // nobody can be asked
    assert_eq!(fs::read_to_string(file).unwrap(), ONE_KEY);
    servers(&["sync", "cp2", "--yes"]).expect(0);
    assert_eq!(fs::read_to_string(file).unwrap(), both);
    servers(&["list"]).expect(0);

    // One that writes with a key that the others lack must not lose it.
    let alone = ONE_KEY.replace("first", "third").replace("AAEC", "AwEC");
    plane.load(1, alone.as_bytes());
    let refused = servers(&["sync", "cp2", "--yes"]).expect(2);
    let told = "still writes secrets with secretbox third";
    assert!(refused.stderr.contains(told), "{}", refused.stderr);
    assert_eq!(fs::read_to_string(file).unwrap(), alone);
    // Nor where its file does not tell any more.
    fs::remove_file(file).unwrap();
    let refused = servers(&["sync", "cp2", "--yes"]).expect(2);
    assert!(
        refused.stderr.contains("is not known"),
        "{}",
        refused.stderr
    );
    servers(&["list"]).expect(1);
    let unknown = servers(&["sync", "cp9"]).expect(2);
    assert!(
        unknown.stderr.contains("lists cp1, cp2"),
        "{}",
        unknown.stderr
    );
}

/// A node that is being set up: its API server does not run yet.
#[test]
fn a_server_that_does_not_run_yet_gets_the_file() {
    let mut plane = ControlPlane::start(Options {
        servers: 2,
        encryption_config: ONE_KEY.into(),
        ..Options::default()
    });
    plane.kill(1);
    let yaml = atrest::rotation_yaml(&plane, 2, "");
    let file = plane.servers[1].encryption_config.clone();
    fs::remove_file(&file).unwrap();
    let mut command = atrest::command(["servers", "sync", "cp2", "--yes", "--file"]);
    command
        .arg(&yaml)
        .arg("--kubeconfig")
        .arg(&plane.servers[0].kubeconfig);
    let ended = Ended::from(command.output().unwrap());
    if !plane.tells_hashes() {
        ended.expect(2);
        assert!(!file.exists());
        return;
    }
    let ended = ended.expect(0);
    assert!(
        ended.stderr.contains("no file -> sha256:"),
        "{}",
        ended.stderr
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), ONE_KEY);
    plane.restart(1);
}
