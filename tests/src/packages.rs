//! Debian packages that tests need, installed once where there is root.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::keeper::Keeper;
use crate::programs::cache;

/// A program and the package that brings it.
pub type Needed = (&'static str, &'static str);

const FOLDERS: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

/// Tells `invoke-rc.d` to start no service.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Whether a test that needs the programs can go on. Without root it may be skipped, and says so;
/// where `ATREST_REQUIRE_NODES` is set it may not.
pub fn available(needed: &[Needed]) -> bool {
    if missing(needed).is_empty() {
        return true;
    }
    let result = if rustix::process::geteuid().is_root() {
        install(needed)
    } else {
        Err(format!("it needs {}", missing(needed).join(", ")))
    };
    match result {
        Ok(()) => true,
        Err(reason) if std::env::var_os("ATREST_REQUIRE_NODES").is_some() => panic!("{reason}"),
        Err(reason) => {
            eprintln!("skipped: {reason}");
            false
        }
    }
}

/// Installs what is missing, and starts no service that comes with it.
pub fn install(needed: &[Needed]) -> Result<(), String> {
    if missing(needed).is_empty() {
        return Ok(());
    }
    // One installation at a time, as dpkg itself wants it.
    let folder = cache();
    let lock = fs::create_dir_all(&folder)
        .and_then(|()| File::create(folder.join("packages.lock")))
        .and_then(|lock| lock.lock().map(|()| lock));
    let _lock = lock.map_err(|error| format!("{}: {error}", folder.display()))?;
    let packages = missing(needed);
    if packages.is_empty() {
        return Ok(());
    }
    eprintln!("installing {} for the tests, once", packages.join(", "));
    let keeper = Keeper::start();
    if !Path::new(POLICY).exists() {
        keeper.undo(&["rm", "-f", POLICY]);
        fs::write(POLICY, "#!/bin/sh\nexit 101\n")
            .and_then(|()| fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755)))
            .map_err(|error| format!("{POLICY}: {error}"))?;
    }
    for words in [
        &["update"][..],
        &["install", "-y", "--no-install-recommends"],
    ] {
        let mut command = Command::new("apt-get");
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

fn missing(needed: &[Needed]) -> Vec<&'static str> {
    let is_missing = |program: &str| {
        !FOLDERS
            .iter()
            .any(|folder| Path::new(folder).join(program).exists())
    };
    let mut packages: Vec<_> = needed
        .iter()
        .filter(|(program, _)| is_missing(program))
        .map(|(_, package)| *package)
        .collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}
