//! A test that is killed leaves nothing behind.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use atrest_tests::nodes::Nodes;

const CHILD: &str = "ATREST_TEST_NODES_CHILD";

#[test]
fn nothing_is_left_of_nodes_whose_test_was_killed() {
    if std::env::var_os(CHILD).is_some() || !Nodes::available() {
        return;
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "left_behind::nodes_that_wait_to_be_killed"])
        .args(["--ignored", "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let directory = output
        .lines()
        .map_while(Result::ok)
        .find_map(|line| Some(line.split_once("nodes are in ")?.1.to_owned()))
        .expect("the child prints it when they are up");
    let cgroups = format!("atrest-{}-", child.id());
    assert!(Path::new(&directory).is_dir());
    assert!(!processes_of(&directory).is_empty());
    assert!(!cgroups_named(&cgroups).is_empty());

    child.kill().unwrap();
    child.wait().unwrap();
    let start = Instant::now();
    loop {
        let left = (
            Path::new(&directory).exists(),
            processes_of(&directory),
            cgroups_named(&cgroups),
        );
        if left == (false, Vec::new(), Vec::new()) {
            break;
        }
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "left behind: {left:?}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
#[ignore = "the test above starts it and kills it"]
fn nodes_that_wait_to_be_killed() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    // Two: none may keep what is the other's.
    let mut nodes = Nodes::start(2);
    nodes.open_ssh();
    println!("nodes are in {}", nodes.directory().display());
    loop {
        std::thread::park();
    }
}

/// Those that see a file system of the nodes': its mounts show the directory, as long as one lives.
fn processes_of(directory: &str) -> Vec<String> {
    let name = Path::new(directory).file_name().unwrap().to_str().unwrap();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .map(|entry| entry.path())
        .filter(|process| {
            let mounts = std::fs::read_to_string(process.join("mountinfo"));
            mounts.is_ok_and(|mounts| mounts.contains(name))
        })
        .map(|process| process.display().to_string())
        .collect()
}

fn cgroups_named(prefix: &str) -> Vec<String> {
    let output = Command::new("find")
        .args([
            "/sys/fs/cgroup",
            "-maxdepth",
            "2",
            "-name",
            &format!("{prefix}*"),
        ])
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect()
}
