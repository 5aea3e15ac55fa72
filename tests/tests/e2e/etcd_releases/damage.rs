//! What is refused says where; what is not refused is read as the whole is.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use atrest_tests::programs::ETCD;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::IN_THE_LOG;
use super::agreement::{Configurations, data_directory, snapshot};
use super::cluster::{Cluster, database};
use crate::at_rest::WRITERS;

const PAGE: usize = 4096;

#[tokio::test(flavor = "multi_thread")]
async fn damaged_and_foreign_files_of_every_release_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let configurations = Configurations::write(folder.path());
    let elsewhere = folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    for release in ETCD {
        let mut other = Cluster::start(release, &elsewhere, &[]).await;
        other.namespaces();
        other.etcd.stop();
        let mut cluster = Cluster::start(release, folder.path(), &[IN_THE_LOG]).await;
        cluster.namespaces();
        // Enough for a page that leads to others.
        for number in 0..6 * WRITERS.len() {
            let name = format!("first-{number}");
            cluster.store(&name, number % WRITERS.len()).await;
        }
        let saved = folder.path().join(format!("{release}.db"));
        cluster.etcd.snapshot(&saved);
        for writer in 0..WRITERS.len() {
            cluster.store(&format!("second-{writer}"), writer).await;
        }
        cluster.etcd.kill();
        let size = snapshots(&saved, &configurations);
        databases(&cluster.data, &other.data, size, &configurations);
        logs(&cluster.data, &other.data, &configurations);
    }
}

/// Returns the size of the database.
fn snapshots(saved: &Path, configurations: &Configurations) -> usize {
    let changed = saved.with_extension("changed.db");
    let read = |bytes: &[u8]| {
        fs::write(&changed, bytes).unwrap();
        configurations.read(snapshot(&changed))
    };
    let whole = fs::read(saved).unwrap();
    let said = read(&whole).unwrap();
    let database = &whole[..whole.len() - 32];
    for length in [0, 1, PAGE, PAGE + 32, database.len(), whole.len() - 1] {
        let refused = read(&whole[..length]).unwrap_err();
        let reasons = ["carries no hash", "its hash is another one"];
        assert!(reasons.iter().any(|it| refused.contains(it)), "{refused}");
    }
    for at in (0..whole.len()).step_by(whole.len() / 20) {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        let refused = read(&flipped).unwrap_err();
        assert!(
            refused.contains("its hash is another one"),
            "{at}: {refused}"
        );
    }
    // Whoever changes it can hash it anew.
    let hashed = |bytes: &[u8]| read(&[bytes, &Sha256::digest(bytes)].concat());
    let foreign = vec![b'x'; 2 * PAGE];
    let other = renamed(database, b"meta", b"atem");
    for (bytes, reason) in [
        (&database[..database.len() / 2], "the file ends before it"),
        (&foreign, "no bbolt database"),
        (&other, "not one of etcd"),
    ] {
        let refused = hashed(bytes).unwrap_err();
        assert!(refused.contains(reason), "{refused}");
    }
    pages(database.len(), &said, &mut |at| {
        let mut flipped = database.to_vec();
        flipped[at] ^= 1;
        hashed(&flipped)
    });
    database.len()
}

/// The number in front of each page, changed. Those of free pages nobody reads.
fn pages(size: usize, said: &Value, read_flipped: &mut dyn FnMut(usize) -> Result<Value, String>) {
    let mut damaged = 0;
    for page in 2..size / PAGE {
        match read_flipped(page * PAGE) {
            Ok(read) => assert_eq!(read, *said, "page {page}"),
            Err(refused) => {
                let place = format!("page {page} is damaged");
                assert!(refused.contains(&place), "{refused}");
                damaged += 1;
            }
        }
    }
    assert!(damaged >= 3, "{damaged}");
}

fn renamed(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for at in 0..=bytes.len() - old.len() {
        if bytes[at..].starts_with(old) {
            bytes[at..at + old.len()].copy_from_slice(new);
        }
    }
    bytes
}

/// A file with one bit that is another one, until it is dropped.
struct Flipped<'a> {
    path: &'a Path,
    at: usize,
}

impl<'a> Flipped<'a> {
    fn new(path: &'a Path, at: usize) -> Self {
        flip(path, at);
        Self { path, at }
    }
}

impl Drop for Flipped<'_> {
    fn drop(&mut self) {
        flip(self.path, self.at);
    }
}

fn flip(path: &Path, at: usize) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at as u64).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at as u64).unwrap();
}

fn databases(data: &Path, other: &Path, size: usize, configurations: &Configurations) {
    let path = database(data);
    let source = data_directory(data);
    let said = configurations.read(source).unwrap();
    pages(size, &said, &mut |at| {
        let _flipped = Flipped::new(&path, at);
        configurations.read(source)
    });
    let whole = fs::read(&path).unwrap();
    let foreign = fs::read(database(other)).unwrap();
    for (bytes, reason) in [
        (&whole[..size / 2], "the file ends before it"),
        (b"", "no bbolt database"),
        (&[b'x'; 2 * PAGE], "no bbolt database"),
        (&renamed(&whole[..size], b"key", b"kye"), "not one of etcd"),
        (
            &renamed(&whole[..size], b"consistent_index", b"consistent_xedni"),
            "does not say what it has applied",
        ),
        (&foreign, "a member which the database does not know"),
    ] {
        fs::write(&path, bytes).unwrap();
        let refused = configurations.read(source).unwrap_err();
        assert!(refused.contains(reason), "{refused}");
    }
    fs::write(&path, whole).unwrap();
}

fn segment(data: &Path) -> PathBuf {
    let mut segments = fs::read_dir(data.join("member/wal")).unwrap();
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|it| it == "wal");
    let path = segments.find_map(|it| Some(it.unwrap().path()).filter(is_segment));
    path.unwrap()
}

fn logs(data: &Path, other: &Path, configurations: &Configurations) {
    let path = segment(data);
    let source = data_directory(data);
    let said = configurations.read(source).unwrap();
    let whole = fs::read(&path).unwrap();
    let written = whole.len() - whole.iter().rev().take_while(|it| **it == 0).count();

    let mut damaged = 0;
    let places = (0..written).step_by(written / 100);
    for at in places.clone() {
        let _flipped = Flipped::new(&path, at);
        match configurations.read(source) {
            Ok(read) => assert_eq!(read, said, "byte {at}"),
            Err(refused) => {
                assert!(
                    refused.contains("the record at byte "),
                    "byte {at}: {refused}"
                );
                damaged += 1;
            }
        }
    }
    assert!(damaged * 10 > places.len() * 9, "{damaged}");

    // With room for one more length it is whole.
    for length in [0, 8, written / 4, written / 2, written - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        let refused = configurations.read(source).unwrap_err();
        assert!(
            refused.contains("the record at byte "),
            "{length}: {refused}"
        );
    }
    fs::write(&path, &whole[..written + 16]).unwrap();
    assert_eq!(configurations.read(source).unwrap(), said);
    let foreign = fs::read(segment(other)).unwrap();
    for (bytes, reason) in [
        (&b"no log at all"[..], "the record at byte 0 is damaged"),
        (&foreign, "a member which the database does not know"),
    ] {
        fs::write(&path, bytes).unwrap();
        let refused = configurations.read(source).unwrap_err();
        assert!(refused.contains(reason), "{refused}");
    }
    fs::remove_file(&path).unwrap();
    let refused = configurations.read(source).unwrap_err();
    assert!(refused.contains("there is no log in it"), "{refused}");
}
