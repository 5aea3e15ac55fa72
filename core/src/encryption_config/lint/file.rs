//! The file in its file system: who can read it, who can change or replace it.

use std::path::Path;

use super::super::finding::Place;
use super::super::ids;
use super::Lints;
use super::keys;
use super::surroundings::File;
use super::survey::{Survey, What};

pub(super) fn lint(file: &File, survey: &Survey<'_>, lints: &mut Lints) {
    let mode = file.mode & 0o7777;
    let mut say =
        |rule, message: String, fix: &str| lints.push(rule, "", Place::START, message, fix);
    let has_keys = survey.links().any(
        |link| matches!(&link.what, What::Key(_, _, secret, _) if !keys::is_published(secret)),
    );
    if has_keys && mode & 0o044 != 0 {
        say(
            ids::FILE_READABLE,
            format!("others than its owner can read the file and its keys (mode {mode:04o})"),
            "chmod 600 the file",
        );
    }
    if mode & 0o022 != 0 {
        say(
            ids::FILE_WRITABLE,
            format!("others than its owner can change the file (mode {mode:04o})"),
            "chmod 600 the file",
        );
    }
    // Elsewhere than on a node the file is that of whoever wrote it.
    let is_node = file.asked_by == 0;
    if is_node && file.owner != 0 {
        say(
            ids::FILE_OWNER,
            format!(
                "the file belongs to user {}, who can change it whatever its mode",
                file.owner
            ),
            "chown root:root the file, unless kube-apiserver runs as that user and nobody else does",
        );
    }
    if file.is_symlink {
        say(
            ids::FILE_SYMLINK,
            "the file is a symbolic link: replacing one of the two leaves the other as it was"
                .into(),
            "name the file itself in --encryption-provider-config",
        );
    }
    let directory = &file.directory;
    let is_sticky = directory.mode & 0o1000 != 0;
    let by_others = !is_sticky && directory.mode & 0o002 != 0;
    let by_group = !is_sticky && directory.mode & 0o020 != 0 && directory.group != 0;
    let by_owner = is_node && directory.owner != 0 && directory.owner != file.owner;
    if by_others || is_node && (by_group || by_owner) {
        say(
            ids::DIRECTORY_WRITABLE,
            format!(
                "others can replace the file in its directory (mode {:04o}, user {})",
                directory.mode & 0o7777,
                directory.owner
            ),
            "chown root:root the directory and chmod 700 it",
        );
    }
    let is_hidden = file
        .path
        .file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let manifests = Path::new("kubernetes/manifests");
    if !is_hidden
        && file
            .path
            .parent()
            .is_some_and(|parent| parent.ends_with(manifests))
    {
        say(
            ids::AMONG_MANIFESTS,
            "the kubelet takes every file of this directory for a pod".into(),
            "move it to /etc/kubernetes/encryption and change the volume of kube-apiserver's manifest",
        );
    }
}
