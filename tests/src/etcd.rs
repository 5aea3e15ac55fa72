//! One etcd alone, of any release that tests run, on loopback and without TLS.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use atrest_proto::etcdserverpb::kv_client::KvClient;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tonic::transport::{Channel, Endpoint};

use crate::keeper::Keeper;
use crate::processes::{free_ports, tail};
use crate::programs;

/// How long a start may take. It takes 1 s on an idle core.
const READY: Duration = Duration::from_secs(60);

/// A running etcd. It ends when it is dropped, or when this process ends in whatever way.
pub struct Etcd {
    /// `http://127.0.0.1:PORT`.
    pub endpoint: String,
    programs: PathBuf,
    process: Child,
    _keeper: Keeper,
}

/// What etcd keeps for a key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pair {
    /// As it is stored.
    pub value: Vec<u8>,
    /// `[create_revision, mod_revision, version, lease]`.
    pub numbers: [i64; 4],
}

impl Pair {
    /// The revision that wrote it.
    pub fn mod_revision(&self) -> i64 {
        self.numbers[1]
    }
}

impl Etcd {
    /// Starts a release on a data directory, new or left by another one, and waits until it answers.
    pub fn start(release: &str, data: &Path, flags: &[&str]) -> Self {
        let programs = programs::etcd(release).unwrap_or_else(|error| panic!("{error}"));
        let [endpoint, peer] = free_ports::<2>().map(|port| format!("http://127.0.0.1:{port}"));
        let log = data.with_extension("log");
        let output = || File::options().create(true).append(true).open(&log);
        let keeper = Keeper::start();
        let process = Command::new(programs.join("etcd"))
            .arg(format!("--data-dir={}", data.display()))
            .arg(format!("--listen-client-urls={endpoint}"))
            .arg(format!("--advertise-client-urls={endpoint}"))
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"))
            .arg(format!("--initial-cluster=default={peer}"))
            // Alone it need not wait long for the others' votes.
            .args(["--heartbeat-interval=10", "--election-timeout=100"])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(output().expect("our directory"))
            .stderr(output().expect("our directory"))
            .spawn()
            .expect("etcd was built");
        keeper.end(process.id());
        let mut etcd = Self {
            endpoint,
            programs,
            process,
            _keeper: keeper,
        };
        let deadline = Instant::now() + READY;
        while !etcd.answers() {
            let ended = etcd.process.try_wait().expect("our own child");
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "etcd {release} is not ready:\n{}",
                tail(&log)
            );
        }
        etcd
    }

    /// An etcdctl that starts takes as long as a good pause between two questions.
    fn answers(&self) -> bool {
        let answer = self.etcdctl().args(["get", "a"]).output();
        let answer = answer.expect("etcdctl was built");
        let told = String::from_utf8_lossy(&answer.stderr);
        answer.status.success() || told.contains("user name is empty")
    }

    /// Its own `etcdctl`.
    pub fn etcdctl(&self) -> Command {
        let mut command = Command::new(self.programs.join("etcdctl"));
        command.args(["--endpoints", &self.endpoint]);
        command
    }

    /// Runs `etcdctl` to its good end, and gives what it printed.
    #[track_caller]
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let output = self.etcdctl().args(arguments).output();
        let output = output.expect("etcdctl was built");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {told}");
        String::from_utf8(output.stdout).expect("etcdctl's text")
    }

    /// Runs an `etcdctl` that has to fail, and gives what it said.
    #[track_caller]
    pub fn ctl_fails(&self, arguments: &[&str]) -> String {
        let output = self.etcdctl().args(arguments).output();
        let output = output.expect("etcdctl was built");
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Takes a snapshot with its own etcdctl.
    pub fn snapshot(&self, path: &Path) {
        let path = path.display().to_string();
        self.ctl(&["--command-timeout=10m", "snapshot", "save", &path]);
    }

    /// Every key and what is kept for it.
    pub fn pairs(&self) -> BTreeMap<String, Pair> {
        let answer = self.ctl(&["get", "", "--from-key", "--write-out=json"]);
        let answer: Value = serde_json::from_str(&answer).expect("etcdctl's JSON");
        let bytes = |pair: &Value, field: &str| {
            let text = pair[field].as_str().unwrap_or_default();
            BASE64_STANDARD.decode(text).expect("etcdctl's base64")
        };
        let pairs = answer["kvs"].as_array().cloned().unwrap_or_default();
        pairs
            .iter()
            .map(|pair| {
                let key = String::from_utf8(bytes(pair, "key")).expect("storage keys are UTF-8");
                let numbers = ["create_revision", "mod_revision", "version", "lease"];
                let kept = Pair {
                    value: bytes(pair, "value"),
                    numbers: numbers.map(|field| pair[field].as_i64().unwrap_or_default()),
                };
                (key, kept)
            })
            .collect()
    }

    /// Asks for what etcdctl has no command for, through the gateway that etcd has for HTTP.
    pub fn post(&self, path: &str, body: &Value) -> String {
        let address = self.endpoint.trim_start_matches("http://");
        let body = body.to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(address).expect("etcd listens");
        stream.write_all(request.as_bytes()).expect("etcd reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("etcd answers");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answer
    }

    /// Kills it as a power cut would.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Lets it end as a service manager would, where it still runs.
    pub fn stop(&mut self) {
        let pid = i32::try_from(self.process.id()).ok();
        if let Some(pid) = pid.and_then(Pid::from_raw)
            && let Ok(None) = self.process.try_wait()
        {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.process.wait();
    }
}

/// A client of the keyspace behind an endpoint, for the runtime that this is called in.
pub async fn connect(endpoint: &str) -> Result<KvClient<Channel>, tonic::transport::Error> {
    let channel = Endpoint::from_shared(endpoint.to_owned())?
        .connect()
        .await?;
    Ok(KvClient::new(channel).max_decoding_message_size(1 << 30))
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}
