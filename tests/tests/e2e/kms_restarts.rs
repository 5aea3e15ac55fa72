//! `atrest-kms` is restarted and exchanged under the calls of kube-apiserver's own client.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use atrest_tests::plugin::Plugin;
use atrest_tests::programs;
use serde::Deserialize;

/// Outages in CI, and with `ATREST_LONG=1`, in seconds. A call is given up after 3.
const OUTAGES: [&[u64]; 2] = [&[5], &[30, 120]];

/// Restarts in CI, and with `ATREST_LONG=1`.
const RESTARTS: [usize; 2] = [50, 1000];

fn restarts() -> usize {
    RESTARTS[is_long()]
}

fn is_long() -> usize {
    usize::from(std::env::var_os("ATREST_LONG").is_some())
}

/// What the client counted (`tests/control-plane/kms-client`).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Report {
    calls: u64,
    failed: u64,
    errors: Vec<String>,
    median: f64,
    p99: f64,
    worst: f64,
    recovered: u64,
}

/// 200 calls a second, whatever becomes of them.
struct Load(Child);

impl Load {
    fn start(plugin: &Plugin) -> Self {
        let client = programs::kms_client(37).unwrap_or_else(|error| panic!("{error}"));
        let child = Command::new(client)
            .arg("load")
            .arg(plugin.socket())
            .arg("200")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self(child)
    }

    fn end(mut self) -> Report {
        // The end of its input is the end of its work.
        drop(self.0.stdin.take());
        let output = self.0.wait_with_output().unwrap();
        assert!(output.status.success());
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// connect(2), a thousand times a second.
struct Prober {
    stop: Arc<AtomicBool>,
    connected: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Prober {
    fn start(socket: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let connected = Arc::new(AtomicU64::new(0));
        let refused = Arc::new(AtomicU64::new(0));
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            let (connected, refused) = (Arc::clone(&connected), Arc::clone(&refused));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    match UnixStream::connect(&socket) {
                        Ok(_) => {
                            connected.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => {
                            let kinds = [ErrorKind::NotFound, ErrorKind::ConnectionRefused];
                            assert!(kinds.contains(&error.kind()), "{error}");
                            refused.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        Self {
            stop,
            connected,
            refused,
            thread,
        }
    }

    fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Waits for so many further connections.
    fn connects(&self, further: u64) {
        let enough = self.connected.load(Ordering::Relaxed) + further;
        until("connections are made", || {
            self.connected.load(Ordering::Relaxed) >= enough
        });
    }

    /// How many connections were made, and how many refused.
    fn end(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        (
            self.connected.load(Ordering::Relaxed),
            self.refused.load(Ordering::Relaxed),
        )
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn l05_no_call_fails_and_no_connection_is_refused_while_the_plugin_restarts() {
    let mut plugin = Plugin::start_held();
    let load = Load::start(&plugin);
    let prober = Prober::start(plugin.socket());
    for restart in 0..restarts() {
        // About 50 ms of calls in between.
        prober.connects(50);
        if restart % 2 == 0 {
            plugin.terminate();
            plugin.serve();
        } else {
            // An upgrade: the new one serves before the old one ends.
            let former = plugin.start_another().unwrap();
            plugin.end(former);
        }
    }
    let (connected, refused) = prober.end();
    let report = load.end();
    println!(
        "{} restarts, {connected} connections, {report:?}",
        restarts()
    );
    assert_eq!(refused, 0);
    assert_eq!((report.failed, &report.errors), (0, &vec![]));
    assert!(report.calls > restarts() as u64 && connected > restarts() as u64);
    assert!(report.median <= report.p99 && report.p99 <= report.worst);
}

#[test]
fn without_a_holder_connections_are_refused_meanwhile() {
    let mut plugin = Plugin::start();
    let prober = Prober::start(plugin.socket());
    plugin.terminate();
    until("connections are refused", || prober.refused() > 0);
    plugin.serve();
    let (connected, refused) = prober.end();
    assert!(connected > 0 && refused > 0);
}

/// Waits until further calls are answered.
fn calls(plugin: &Plugin) {
    let decrypted = || plugin.log().matches("Decrypt uid=").count();
    let before = decrypted();
    until("calls are answered", || decrypted() > before + 20);
}

#[test]
fn l05_calls_are_answered_as_soon_as_the_plugin_is_back() {
    for outage in OUTAGES[is_long()] {
        let mut plugin = Plugin::start_held();
        let load = Load::start(&plugin);
        calls(&plugin);
        plugin.terminate();
        std::thread::sleep(Duration::from_secs(*outage));
        plugin.serve();
        let back = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        calls(&plugin);
        let report = load.end();
        assert!(report.failed > 0, "{report:?}");
        assert!(report.recovered > 0, "{report:?}");
        let after = report.recovered as i128 - back.as_millis() as i128;
        println!("{outage} s without the plugin, the first answer {after} ms after it serves");
    }
}
