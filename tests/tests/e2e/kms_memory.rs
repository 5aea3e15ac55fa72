//! What a debugger of root writes down of `atrest-kms`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use atrest_tests::plugin::Plugin;
use atrest_tests::{memory_image, programs};
use data_encoding::BASE64;
use serde_json::Value;

/// What the client has encrypted (`tests/control-plane/kms-client`).
const SEED: &[u8] = b"a seed of 32 bytes, as they come";

/// A core of the running process, as `gcore` takes it.
fn core(pid: u32, folder: &Path) -> Vec<u8> {
    let output = Command::new("gcore")
        .arg("-o")
        .arg(folder.join("core"))
        .arg(pid.to_string())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    fs::read(folder.join(format!("core.{pid}"))).unwrap()
}

fn has(image: &[u8], secret: &[u8]) -> bool {
    memchr::memmem::find(image, secret).is_some()
}

#[test]
fn no_key_and_no_seed_is_in_a_core_that_root_takes_under_load() {
    if !memory_image::available() {
        return;
    }
    let plugin = Plugin::start();
    let pid = plugin.pid();
    let file = fs::read(plugin.keyring_file()).unwrap();
    let file: Value = serde_json::from_slice(&file).unwrap();
    let kek = file["generations"][0]["kek"].as_str().unwrap();
    let kek = BASE64.decode(kek.as_bytes()).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let client = programs::kms_client(37).unwrap_or_else(|error| panic!("{error}"));
    let mut load = Command::new(client)
        .arg("load")
        .arg(plugin.socket())
        .arg("2000")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    for _ in 0..3 {
        let image = core(pid, folder.path());
        assert!(!has(&image, &kek) && !has(&image, SEED));
        assert_eq!(load.try_wait().unwrap(), None, "it calls");
    }
    load.kill().unwrap();
    load.wait().unwrap();
    let log = plugin.log();
    assert!(log.contains("Decrypt"), "{log}");

    // Where root has everything dumped, the keys' own pages are left out.
    fs::write(format!("/proc/{pid}/coredump_filter"), "0x33").unwrap();
    let image = core(pid, folder.path());
    assert!(has(&image, plugin.active_key_id().as_bytes()));
    assert!(!has(&image, &kek) && !has(&image, SEED));
}
