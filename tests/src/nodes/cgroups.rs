//! A node's own place below the host's cgroups; kubelets that shared one would end each other's pods.

use std::fs;
use std::path::{Path, PathBuf};

use super::machine::{host, run};
use crate::keeper::Keeper;

const ROOT: &str = "/sys/fs/cgroup";

/// What the kubelet's own root needs, where cgroups are of version 2.
const CONTROLLERS: [&str; 6] = ["cpu", "cpuset", "io", "memory", "pids", "hugetlb"];

/// Has `top` and all below it removed at the end, after whatever is registered later.
pub(super) fn remove(keeper: &Keeper, top: &str) {
    for hierarchy in hierarchies() {
        let folder = hierarchy.join(top).display().to_string();
        keeper.undo(&["sh", "-c", REMOVE, "sh", &folder]);
    }
}

/// Makes `name`, a relative path, in every hierarchy.
pub(super) fn create(name: &str) {
    for hierarchy in hierarchies() {
        let mut folder = hierarchy.clone();
        for part in Path::new(name) {
            // Of version 1, a cpuset starts without a processor, and no process can enter it.
            let inherited = ["cpuset.cpus", "cpuset.mems"].map(|file| {
                (
                    file,
                    fs::read_to_string(folder.join(file)).unwrap_or_default(),
                )
            });
            // Of version 2, a folder has the controllers that its parent passes on.
            for controller in CONTROLLERS {
                let _ = fs::write(
                    folder.join("cgroup.subtree_control"),
                    format!("+{controller}"),
                );
            }
            folder.push(part);
            fs::create_dir_all(&folder).expect("root may make cgroups");
            for (file, value) in inherited {
                let old = fs::read_to_string(folder.join(file)).unwrap_or_default();
                if old.trim().is_empty() && !value.trim().is_empty() {
                    fs::write(folder.join(file), value).expect("root may fill a cpuset");
                }
            }
        }
    }
}

/// Removes what is below `name`, which no process is in any more.
pub(super) fn empty(name: &str) {
    for hierarchy in hierarchies() {
        let folder = hierarchy.join(name);
        let folder = folder.display().to_string();
        run(host("sh").args(["-c", REMOVE, "sh", &folder, "-mindepth 1"]));
    }
}

/// A folder can be removed when it has no child and the kernel has buried its last process.
const REMOVE: &str = "for _ in $(seq 100); do [ -d \"$1\" ] || break; \
    find \"$1\" $2 -depth -type d -exec rmdir {} + 2>/dev/null && break; sleep 0.1; done";

/// One of version 2, or one for each controller.
fn hierarchies() -> Vec<PathBuf> {
    let root = PathBuf::from(ROOT);
    if root.join("cgroup.controllers").is_file() {
        return vec![root];
    }
    let entries = fs::read_dir(&root).expect("cgroups are mounted");
    let mut found: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("cgroup.procs").is_file() && !path.is_symlink())
        .collect();
    found.sort();
    found
}
