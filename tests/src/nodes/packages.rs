//! The Debian packages that nodes are made of.

use std::fs::{self, File};
use std::path::Path;

use super::machine::host;
use crate::keeper::Keeper;
use crate::programs::cache;

/// A program and the package that brings it.
const NEEDED: [(&str, &str); 7] = [
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("hostname", "hostname"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("runc", "runc"),
    ("unshare", "util-linux"),
];

/// Tells `invoke-rc.d` to start no service.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs what is missing, without starting Debian's own containerd.
pub(super) fn install() -> Result<(), String> {
    if missing().is_empty() {
        return Ok(());
    }
    // One installation at a time, as dpkg itself wants it.
    let folder = cache();
    let lock = fs::create_dir_all(&folder)
        .and_then(|()| File::create(folder.join("packages.lock")))
        .and_then(|lock| lock.lock().map(|()| lock));
    let _lock = lock.map_err(|error| format!("{}: {error}", folder.display()))?;
    let packages = missing();
    if packages.is_empty() {
        return Ok(());
    }
    eprintln!("installing {} for the nodes, once", packages.join(", "));
    let keeper = Keeper::start();
    if !Path::new(POLICY).exists() {
        keeper.undo(&["rm", "-f", POLICY]);
        fs::write(POLICY, "#!/bin/sh\nexit 101\n")
            .and_then(|()| {
                use std::os::unix::fs::PermissionsExt;
                fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))
            })
            .map_err(|error| format!("{POLICY}: {error}"))?;
    }
    for words in [
        &["update"][..],
        &["install", "-y", "--no-install-recommends"],
    ] {
        let mut command = host("apt-get");
        command.args(words).env("DEBIAN_FRONTEND", "noninteractive");
        if words[0] == "install" {
            command.args(&packages);
        }
        let status = command.stdout(std::io::stderr()).status();
        if !status.is_ok_and(|status| status.success()) {
            return Err(format!(
                "apt-get {} failed: install {}",
                words[0],
                packages.join(", ")
            ));
        }
    }
    Ok(())
}

fn missing() -> Vec<&'static str> {
    let mut packages: Vec<_> = NEEDED
        .iter()
        .filter(|(program, _)| {
            ![
                "/usr/local/sbin",
                "/usr/local/bin",
                "/usr/sbin",
                "/usr/bin",
                "/sbin",
                "/bin",
            ]
            .iter()
            .any(|folder| Path::new(folder).join(program).exists())
        })
        .map(|(_, package)| *package)
        .collect();
    packages.dedup();
    packages
}
