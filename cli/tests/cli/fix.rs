//! `atrest validate --fix`

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::{Run, atrest};

/// Three things that can be mended, and a key.
const BROKEN: &str = "\
kind: EncryptionConfig
apiVersion: v1
resources:
- resources: ['*.*'] # the rest
  providers: [identity: {}]
# ours
- resources: [secrets]
  providers:
  - secretbox:
      keys:
      - name: a
        secret: bm8ga2V5LCBidXQgYX MgbG9uZyBhcyBvbmUgaXMuLi4=
";

const MENDED: &str = "\
kind: EncryptionConfiguration
apiVersion: apiserver.config.k8s.io/v1
resources:
# ours
- resources: [secrets]
  providers:
  - secretbox:
      keys:
      - name: a
        secret: bm8ga2V5LCBidXQgYXMgbG9uZyBhcyBvbmUgaXMuLi4=
- resources: ['*.*'] # the rest
  providers: [identity: {}]
";

fn file(folder: &Path, mode: u32) -> PathBuf {
    let path = folder.join("config.yaml");
    fs::write(&path, BROKEN).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

fn fix(path: &Path, more: &[&str]) -> Run {
    let arguments = ["validate", "--fix", path.to_str().unwrap()];
    atrest(arguments.iter().chain(more))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_file_is_mended_and_judged() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), 0o644);
    let run = fix(&path, &["--yes"]);
    assert_eq!(run.status, 0, "{}", run.said());
    assert_eq!(fs::read_to_string(&path).unwrap(), MENDED);
    assert_eq!(mode(&path), 0o600);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    for said in [
        "AR-L047: kind: ",
        "AR-C018: resources[1].providers[0].secretbox.keys[0].secret: ",
        "AR-C030: resources[1]: ",
        "mode 0644 becomes 0600",
        "-kind: EncryptionConfig\n",
        "+        secret: ******",
    ] {
        assert!(run.stderr.contains(said), "{said} in {}", run.stderr);
    }
    assert!(!run.said().contains("bm8ga2V5"), "{}", run.said());

    let again = fix(&path, &["--yes"]);
    assert_eq!(again.status, 0);
    assert!(again.stderr.contains("nothing to mend"), "{}", again.stderr);
}

#[test]
fn nothing_changes_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), 0o640);
    for (more, said) in [
        (
            &["--dry-run", "--yes"][..],
            "+kind: EncryptionConfiguration",
        ),
        (&[], "say --yes where nobody can be asked"),
    ] {
        let run = fix(&path, more);
        assert_eq!(run.status, 1, "{}", run.said());
        assert!(run.stderr.contains(said), "{}", run.stderr);
        assert_eq!(fs::read_to_string(&path).unwrap(), BROKEN);
        assert_eq!(mode(&path), 0o640);
    }
}

#[test]
fn what_cannot_be_mended_in_place_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), 0o600);
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let run = fix(&link, &["--yes"]);
    assert_eq!(run.status, 2, "{}", run.said());
    assert!(run.stderr.contains("symbolic link"), "{}", run.stderr);
    assert_eq!(fs::read_to_string(&path).unwrap(), BROKEN);

    let stdin = atrest(["validate", "--fix", "-"]);
    assert_eq!(stdin.status, 2);
    assert!(stdin.stderr.contains("stdin"), "{}", stdin.stderr);
    assert_eq!(atrest(["validate", "--yes", "x"]).status, 2);
    assert_eq!(fix(&folder.path().join("none"), &["--yes"]).status, 2);
}
