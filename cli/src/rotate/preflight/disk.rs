//! Whether the directories that a run writes to have room.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::args::RotateFlags;
use crate::rotate::settings::{Settings, state_dir};
use crate::status::Failure;

/// For a journal, a key, and what is kept of single values.
const LITTLE: u64 = 1 << 20;

/// A file system, by the first of the directories on it.
#[derive(Debug, Serialize)]
pub(super) struct Disk {
    path: String,
    free_bytes: u64,
    needed_bytes: u64,
}

impl Disk {
    pub(super) fn warning(&self) -> Option<String> {
        let Self {
            path,
            free_bytes,
            needed_bytes,
        } = self;
        (free_bytes < needed_bytes).then(|| {
            format!("{path} has {free_bytes} bytes free, and the run may need {needed_bytes} there")
        })
    }
}

/// Looks at the state directory, the escrow with its copies, and snapshots, each as large as the database
/// is. What does not fit stops the run later, with nothing half left; here it is said.
pub(super) fn look(
    settings: &Settings,
    flags: &RotateFlags,
    database: u64,
) -> Result<Vec<Disk>, Failure> {
    let escrow = [&settings.escrow]
        .into_iter()
        .chain(&settings.escrow_copies);
    let mut needs = vec![(state_dir(flags)?, LITTLE)];
    needs.extend(escrow.map(|path| (path.clone(), LITTLE)));
    if let Some(dir) = &settings.snapshots {
        needs.push((dir.clone(), 2 * database));
    }
    sum(needs)
}

/// Directories on one file system share its room.
fn sum(needs: Vec<(PathBuf, u64)>) -> Result<Vec<Disk>, Failure> {
    let mut disks: BTreeMap<u64, Disk> = BTreeMap::new();
    for (path, needed) in needs {
        let unread = |error: rustix::io::Errno| {
            Failure::unread(format!("cannot look at {}: {error}", path.display()))
        };
        let there = there(&path);
        let device = rustix::fs::stat(there).map_err(unread)?.st_dev;
        let free = rustix::fs::statvfs(there).map_err(unread)?;
        let disk = disks.entry(device).or_insert_with(|| Disk {
            path: path.display().to_string(),
            free_bytes: free.f_bavail.saturating_mul(free.f_frsize),
            needed_bytes: 0,
        });
        disk.needed_bytes += needed;
    }
    Ok(disks.into_values().collect())
}

/// The nearest directory that exists: the others are made in it.
fn there(path: &Path) -> &Path {
    let mut parents = path.ancestors().filter(|it| !it.as_os_str().is_empty());
    parents.find(|it| it.is_dir()).unwrap_or(Path::new("."))
}
