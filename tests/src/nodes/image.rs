//! Images without a builder: one program and the libraries it needs, as `docker save` writes them.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::machine::{host, run};

/// Writes the archive of an image whose `/usr/local/bin/PROGRAM` is a copy of `binary`.
///
/// `folder` is an empty directory; the archive is a file in it.
pub(super) fn archive(folder: &Path, name: &str, program: &str, binary: &Path) -> PathBuf {
    fs::create_dir_all(folder).expect("our directory");
    let path = |name: &str| folder.join(name);
    let entrypoint = format!("/usr/local/bin/{program}");
    run(host("tar")
        .args(["--create", "--absolute-names", "--dereference"])
        .args(["--owner=0", "--group=0", "--mode=0755"])
        .arg("--file")
        .arg(path("layer.tar"))
        .arg(format!(
            "--transform=s|^{}$|{entrypoint}|",
            binary.display()
        ))
        .arg("--transform=s|^/||")
        .arg(binary)
        .args(libraries(binary)));
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": {"Entrypoint": [entrypoint], "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", sha256(&path("layer.tar")))]},
    });
    let manifest = json!([
        {"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}
    ]);
    fs::write(path("config.json"), config.to_string()).expect("our directory");
    fs::write(path("manifest.json"), manifest.to_string()).expect("our directory");
    run(host("tar")
        .arg("--create")
        .arg("--file")
        .arg(path("image.tar"))
        .arg("--directory")
        .arg(folder)
        .args(["manifest.json", "config.json", "layer.tar"]));
    fs::remove_file(path("layer.tar")).expect("just written");
    path("image.tar")
}

/// libc and the loader, and whatever else; nothing for a static program.
fn libraries(binary: &Path) -> Vec<String> {
    let output = host("ldd")
        .arg(binary)
        .output()
        .expect("ldd is beside the loader");
    String::from_utf8_lossy(&output.stdout)
        .split_whitespace()
        .filter(|word| word.starts_with('/') && !word.ends_with(':'))
        .map(str::to_owned)
        .collect()
}

fn sha256(path: &Path) -> String {
    let mut file = File::open(path).expect("just written");
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).expect("just written") {
            0 => return HEXLOWER.encode(&digest.finalize()),
            length => digest.update(&buffer[..length]),
        }
    }
}
