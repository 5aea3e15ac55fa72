//! The facts that lints want beside a file's bytes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use atrest_core::encryption_config::{Directory, File, Served};

use crate::args::Global;
use crate::cluster::{self, ApiServer};
use crate::commands::server_failure;
use crate::status::Failure;

/// What the file system says; `None` where it does not, as for a pipe, or a file that is gone again.
pub(super) fn file(path: &Path) -> Option<File> {
    let is_symlink = fs::symlink_metadata(path).ok()?.is_symlink();
    let path = fs::canonicalize(path).ok()?;
    let metadata = fs::metadata(&path).ok()?;
    let directory = fs::metadata(path.parent()?).ok()?;
    metadata.is_file().then(|| File {
        is_symlink,
        mode: metadata.mode() & 0o7777,
        owner: metadata.uid(),
        directory: Directory {
            mode: directory.mode() & 0o7777,
            owner: directory.uid(),
            group: directory.gid(),
        },
        asked_by: rustix::process::geteuid().as_raw(),
        path,
    })
}

/// What the cluster of the kubeconfig serves.
pub(super) async fn served(global: &Global) -> Result<Vec<Served>, Failure> {
    let server = ApiServer::connect(global).await?;
    let served = cluster::served(&server).await;
    served.map_err(|error| server_failure(&server, &error))
}
