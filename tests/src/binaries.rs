//! Our own binaries as a user runs them, built once from the workspace that the tests are of.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// Where `atrest` or `atrest-kms` is, after cargo made sure that it is up to date.
pub fn path(name: &str) -> &'static Path {
    static BUILT: OnceLock<BTreeMap<String, PathBuf>> = OnceLock::new();
    BUILT
        .get_or_init(build)
        .get(name)
        .unwrap_or_else(|| panic!("the workspace has no binary {name}"))
}

/// Cargo itself tells where it puts them, whatever target directory and profile are in use.
fn build() -> BTreeMap<String, PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--workspace", "--bins", "--quiet"])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit());
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    if let Some(folder) = target_directory() {
        cargo.arg("--target-dir").arg(folder);
    }
    let output = cargo
        .output()
        .expect("cargo is where it was when it built this");
    assert!(output.status.success(), "cargo build failed: see above");

    let mut built = BTreeMap::new();
    for line in output.stdout.split(|byte| *byte == b'\n') {
        let Ok(message) = serde_json::from_slice::<Value>(line) else {
            continue;
        };
        if let (Some(name), Some(executable)) = (
            message["target"]["name"].as_str(),
            message["executable"].as_str(),
        ) {
            built.insert(name.to_owned(), PathBuf::from(executable));
        }
    }
    built
}

/// That of the running test (`target/debug/deps/NAME`) or demo (`target/debug/NAME`), so that what
/// `cargo test --target-dir` compiled is not compiled a second time elsewhere.
fn target_directory() -> Option<PathBuf> {
    let executable = std::env::current_exe().ok()?;
    let mut folder = executable.parent()?;
    if folder.ends_with("deps") {
        folder = folder.parent()?;
    }
    // target/TRIPLE/debug is another layout, which cargo's own settings describe.
    let target = folder.parent()?;
    target
        .join("CACHEDIR.TAG")
        .is_file()
        .then(|| target.to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn cargo_tells_where_our_binaries_are() {
        for name in ["atrest", "atrest-kms"] {
            assert!(super::path(name).is_file(), "{name}");
        }
    }
}
