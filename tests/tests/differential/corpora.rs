//! The files that are there.

use std::fs;
use std::path::{Path, PathBuf};

/// Those of upstream, which lie outside of the repository: in `../shared/corpus` beside it, or where
/// `ATREST_CORPUS` says.
pub(crate) fn upstreams() -> Option<Vec<(String, Vec<u8>)>> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    let corpus = std::env::var_os("ATREST_CORPUS").map_or(beside, PathBuf::from);
    let configs = corpus.join("configs");
    if !configs.join("index.tsv").is_file() {
        println!("skipped: there is no corpus in {}", corpus.display());
        return None;
    }
    Some(below(&configs))
}

/// Those of `tests/corpus`.
pub(crate) fn ours() -> Vec<(String, Vec<u8>)> {
    below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/encryption-configuration"))
}

/// Files one folder down, each with its name.
fn below(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = |folder: &Path| {
        let mut paths: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        paths
    };
    let folders = entries(folder).into_iter().filter(|path| path.is_dir());
    folders
        .flat_map(|folder| entries(&folder))
        .map(|path| (path.display().to_string(), fs::read(&path).unwrap()))
        .collect()
}
