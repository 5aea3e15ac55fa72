//! The control plane itself: it comes up, and is gone with the test.

use std::time::Instant;

use atrest_tests::processes::{ControlPlane, Options};
use atrest_tests::programs::Programs;

#[test]
fn three_servers_come_up_share_an_etcd_and_end_with_the_test() {
    Programs::required(); // built before the clock starts
    let start = Instant::now();
    let plane = ControlPlane::start(Options {
        servers: 3,
        ..Options::default()
    });
    // 4 to 9 s on two idle cores; docs/TESTING.md says what it was.
    eprintln!(
        "three servers ready in {:.1} s",
        start.elapsed().as_secs_f64()
    );

    let created = plane
        .kubectl(0)
        .args([
            "create",
            "secret",
            "generic",
            "a",
            "--from-literal=k=hunter2",
        ])
        .status()
        .unwrap();
    assert!(created.success());
    for server in 0..3 {
        let read = plane
            .kubectl(server)
            .args(["get", "secret", "a", "-o", "name"])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&read.stdout).trim(), "secret/a");
    }
    let directory = plane.directory().to_owned();
    let endpoint = plane
        .etcd
        .endpoint
        .trim_start_matches("https://")
        .to_owned();
    drop(plane);
    assert!(!directory.exists());
    assert!(std::net::TcpStream::connect(endpoint).is_err());
}
