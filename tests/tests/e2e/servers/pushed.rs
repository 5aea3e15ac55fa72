//! How long a rotation waits for its servers.

use std::time::{Duration, Instant};

use atrest_tests::atrest::{self, Ended};
use atrest_tests::processes::{ControlPlane, Options};
use atrest_tests::secrets::Population;

use super::ONE_KEY;
use crate::rotate::load_times;

const THOUSAND: Population = Population {
    secrets: 1_000,
    namespaces: 10,
    smallest: 64,
    largest: 4 << 10,
};

struct Three {
    plane: ControlPlane,
    yaml: std::path::PathBuf,
}

impl Three {
    async fn start(reload_poll: Option<Duration>) -> Self {
        let plane = ControlPlane::start(Options {
            servers: 3,
            encryption_config: ONE_KEY.into(),
            reload_poll,
            audit: false,
            ..Options::default()
        });
        THOUSAND
            .store(&plane.client(0).await, "many")
            .await
            .unwrap();
        let yaml = atrest::rotation_yaml(&plane, 3, "");
        Self { plane, yaml }
    }

    fn rotate(&self) -> (Ended, Duration) {
        let start = Instant::now();
        let mut run = atrest::rotate_by(&self.plane, &self.yaml, "run", &["--gentle=false"]);
        let ended = Ended::from(run.output().unwrap()).expect(0);
        (ended, start.elapsed())
    }

    /// What a tool waits that does not ask when a server looks: twelve files, at times that follow nobody's.
    fn load_times_of_files_written_at_any_time(&self) -> Vec<f64> {
        let mut loads = Vec::new();
        for round in 0..4 {
            for server in 0..3 {
                let file = &self.plane.servers[server].encryption_config;
                let mut content = std::fs::read(file).unwrap();
                content.extend_from_slice(format!("# {round}\n").as_bytes());
                std::thread::sleep(Duration::from_secs(17));
                let start = Instant::now();
                self.plane.load(server, &content);
                loads.push(start.elapsed().as_secs_f64());
            }
        }
        loads
    }
}

/// Servers that look at their files each second are not waited for longer than that.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_secrets_on_three_servers_take_half_a_minute() {
    let three = Three::start(Some(Duration::from_secs(1))).await;
    let (ended, took) = three.rotate();
    eprintln!("{}", ended.stdout);
    assert_eq!(load_times(&ended).len(), 9, "{}", ended.stderr);
    assert!(
        took <= Duration::from_secs(30),
        "{took:?}: {}",
        ended.stderr
    );
}

/// The stock poll, 36 times: each file is written just before its server looks at it.
#[tokio::test(flavor = "multi_thread")]
async fn files_are_written_just_before_their_servers_look_at_them() {
    // All servers at once, then twice one and then the rest; and a look that is only seen.
    const LOOKS_IN_SEQUENCE: u32 = 6;

    if std::env::var_os("ATREST_LONG").is_none() {
        eprintln!(
            "skipped: 20 minutes, with ATREST_LONG=1; the short form is the stock poll of one server"
        );
        return;
    }
    let three = Three::start(None).await;
    let mut loads = Vec::new();
    for _ in 0..4 {
        let (ended, took) = three.rotate();
        loads.extend(load_times(&ended));
        let most = Duration::from_secs(60) * LOOKS_IN_SEQUENCE + Duration::from_secs(30);
        eprintln!("{}", ended.stdout);
        assert!(took <= most, "{took:?}");
    }
    let at_any_time = three.load_times_of_files_written_at_any_time();
    let [p95, naive] = [&mut loads, &mut at_any_time.clone()].map(|loads| {
        loads.sort_by(f64::total_cmp);
        loads[loads.len() * 95 / 100]
    });
    eprintln!("{} loads: {loads:?}, p95 {p95} s", loads.len());
    eprintln!("written at any time: {at_any_time:?}, p95 {naive} s");
    assert_eq!(loads.len(), 36);
    assert!(p95 <= 5.0 && naive > p95);
}

/// As a pod that mounts the file by itself does.
#[test]
fn a_server_that_sees_another_file_is_not_waited_for_to_the_end() {
    let plane = ControlPlane::start(Options {
        encryption_config: ONE_KEY.into(),
        ..Options::default()
    });
    let mut yaml = std::fs::read_to_string(atrest::rotation_yaml(&plane, 1, "")).unwrap();
    let copy = plane.directory().join("copy.yaml");
    std::fs::copy(&plane.servers[0].encryption_config, &copy).unwrap();
    let file = plane.servers[0].encryption_config.display().to_string();
    yaml = yaml.replace(&file, &copy.display().to_string());
    let path = plane.directory().join("of-the-copy.yaml");
    std::fs::write(&path, yaml).unwrap();
    let run = atrest::rotate_by(&plane, &path, "run", &["--load-timeout", "1h"]).output();
    let ended = Ended::from(run.unwrap()).expect(4);
    for told in [
        "it has looked at its file since, and sees the old one",
        "mount its directory",
    ] {
        assert!(ended.stderr.contains(told), "{}", ended.stderr);
    }
}
