//! Servers whose files are elsewhere: behind a real sshd, or in the hands of an operator.

mod broken_off;
mod pushed;
mod restarted;
mod synced;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use atrest_tests::atrest::{self, Ended};
use atrest_tests::processes::{ControlPlane, Options};
use atrest_tests::secrets;
use atrest_tests::ssh::Sshd;
use atrest_tests::stored_values;

use crate::rotate::{FEW, key_names};

pub(crate) const ONE_KEY: &str = "\
# kept by the platform team
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: # what is secret
  - secrets
  providers:
  # who writes
  - secretbox:
      keys:
      - name: first
        secret: AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=
";

/// Runs a rotation; an operator reads what it says and copies files as told.
pub(crate) fn with_operator(mut command: Command) -> Ended {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = String::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some((_, told)) = line.split_once(": copy ") {
            copy(told);
        }
        stderr += &line;
        stderr.push('\n');
    }
    let output = child.wait_with_output().unwrap();
    Ended {
        stderr,
        ..Ended::from(output)
    }
}

/// `FILE of SERVER to FILE there, SHA-256 HASH: ...`
fn copy(told: &str) {
    let (from, rest) = told.split_once(" of ").unwrap();
    let (_, rest) = rest.split_once(" to ").unwrap();
    let (to, rest) = rest.split_once(" there, SHA-256 ").unwrap();
    let content = fs::read(from).unwrap();
    assert!(rest.starts_with(&sha256(&content)), "{told}");
    let new = format!("{to}.new");
    let mut like_the_old = Command::new("cp");
    like_the_old.args(["--preserve=all", to, &new]);
    assert!(like_the_old.status().unwrap().success());
    fs::write(&new, content).unwrap();
    fs::rename(new, to).unwrap();
}

fn sha256(content: &[u8]) -> String {
    use sha2::Digest;
    data_encoding::HEXLOWER.encode(&sha2::Sha256::digest(content))
}

/// All of a file but its content: mode, owner, extended attributes (labels and ACLs are such).
fn about(file: &Path) -> (u32, u32, u32, BTreeMap<Vec<u8>, Vec<u8>>) {
    let metadata = fs::metadata(file).unwrap();
    let mut names = vec![0; 1 << 12];
    let length = rustix::fs::listxattr(file, &mut names[..]).unwrap();
    let names = names[..length].split(|byte| *byte == 0);
    let attributes = names.filter(|name| !name.is_empty()).map(|name| {
        let mut value = vec![0; 1 << 12];
        let length = rustix::fs::getxattr(file, name, &mut value[..]).unwrap();
        (name.to_owned(), value[..length].to_owned())
    });
    let (mode, uid, gid) = (metadata.mode(), metadata.uid(), metadata.gid());
    (mode, uid, gid, attributes.collect())
}

/// Nothing but the dot-temporary of a write that is under way may stand beside a file.
pub(crate) fn leftovers(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
    let is_left = |path: &PathBuf| path.display().to_string().contains(".atrest-new");
    entries.filter(is_left).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_a_remote_and_a_manual_server_rotate_together() {
    if !Sshd::is_available() {
        return;
    }
    let plane = ControlPlane::start(Options {
        servers: 3,
        encryption_config: ONE_KEY.into(),
        ..Options::default()
    });
    let client = plane.client(0).await;
    let stored = FEW.store(&client, "machines").await.unwrap();
    let bodies = secrets::bodies_digest(&client).await.unwrap();
    let sshd = Sshd::start();
    // As files of real nodes differ in what is around them.
    let files: Vec<_> = plane
        .servers
        .iter()
        .map(|server| server.encryption_config.as_path())
        .collect();
    for (i, file) in files.iter().enumerate() {
        let modes = [0o600, 0o640, 0o400];
        fs::set_permissions(file, fs::Permissions::from_mode(modes[i])).unwrap();
        let note = format!("node {i}");
        // Where the file system has none, there is none to lose.
        let flags = rustix::fs::XattrFlags::empty();
        let _ = rustix::fs::setxattr(*file, c"user.note", note.as_bytes(), flags);
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(file, Some(12), Some(34)).unwrap();
        }
    }
    let before: Vec<_> = files.iter().map(|file| about(file)).collect();

    // The one that an operator sees to is listed first: its file is a copy of another's all the same.
    let remote = format!("access: {}", sshd.access());
    let yaml = atrest::rotation_yaml_of(&plane, &["access: manual", &remote, ""], "");
    let rotate = |action: &str| {
        let mut command = atrest::rotate_by(&plane, &yaml, action, &[]);
        command.env("PATH", sshd.path());
        command
    };
    let planned: Ended = rotate("plan").output().unwrap().into();
    if !plane.tells_hashes() {
        let refused = planned.expect(2).stderr;
        let told = "cp1 is manual, and does not say which file it has loaded";
        assert!(refused.contains(told), "{refused}");
        return;
    }
    let planned = planned.expect(0).stdout;
    assert!(planned.contains("by hand"), "{planned}");
    let ended = with_operator(rotate("run")).expect(0);
    for told in ["cp2: wrote", "cp3: wrote", "cp1: copy "] {
        assert_eq!(ended.stderr.matches(told).count(), 3, "{}", ended.stderr);
    }

    let keys = key_names(files[0]);
    assert_eq!(keys.len(), 1);
    let prefix = format!("k8s:enc:secretbox:v1:{}:", keys[0]);
    stored_values::assert_prefix(&plane, stored.len(), &prefix);
    for server in &plane.servers {
        stored.assert_readable(&server.client().await).await;
    }
    assert_eq!(secrets::bodies_digest(&client).await.unwrap(), bodies);
    let secret = assert_only_keys_changed(&files);
    for (file, before) in files.iter().zip(before) {
        assert_eq!(about(file), before, "{}", file.display());
    }
    assert_eq!(leftovers(plane.directory()), Vec::<PathBuf>::new());
    for told in [&ended.stderr, &ended.stdout, &planned, &sshd.argv()] {
        assert!(!told.contains(&secret), "a key is shown");
    }
}

/// Comments, order and quotes are those of the original in each; returns the new key.
fn assert_only_keys_changed(files: &[&Path]) -> String {
    let is_key = |line: &&str| line.contains("name:") || line.contains("secret:");
    let rest = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !is_key(line));
        lines.map(str::to_owned).collect()
    };
    let texts: Vec<_> = files
        .iter()
        .map(|it| fs::read_to_string(it).unwrap())
        .collect();
    for text in &texts {
        assert_eq!(rest(text), rest(ONE_KEY));
        assert_eq!(text, &texts[0]);
    }
    let mut secrets = texts[0]
        .lines()
        .filter_map(|line| line.trim().strip_prefix("secret: "));
    secrets.next().unwrap().trim_matches('"').to_owned()
}
