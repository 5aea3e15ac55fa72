//! Who rewrites, and the control plane that they do it on.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use atrest_tests::atrest;
use atrest_tests::processes::{ControlPlane, Options};
use atrest_tests::secrets::Population;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::bare::BARE_LOOP;
use crate::process::{self, Run, cpu, run, spawn, wait};

/// How long a controller has had nothing to do: so long, and a fifth of a minute longer each time.
const IDLE: Duration = Duration::from_secs(30);
const PHASE: Duration = Duration::from_secs(12);
const PHASES: u32 = 5;

/// Something that has every Secret rewritten.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Contender {
    /// `kubectl get | kubectl replace`, as the documentation says.
    GetReplace,
    /// The cluster's own controller, with a write every second, without which it waits.
    MigratorNudged,
    /// The same, left alone.
    MigratorAsItComes,
    /// `atrest reencrypt --engine api --gentle=false`.
    Api,
    /// `atrest reencrypt --engine etcd --gentle=false`.
    Etcd,
    /// Transactions that write the same bytes.
    Bare,
}

impl Contender {
    pub(super) const ALL: [Self; 6] = [
        Self::GetReplace,
        Self::MigratorNudged,
        Self::MigratorAsItComes,
        Self::Api,
        Self::Etcd,
        Self::Bare,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::GetReplace => "kubectl get / replace",
            Self::MigratorNudged => "StorageVersionMigration, nudged",
            Self::MigratorAsItComes => "StorageVersionMigration",
            Self::Api => "atrest, api",
            Self::Etcd => "atrest, etcd",
            Self::Bare => "bare etcd transactions",
        }
    }
}

/// One run.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) contender: Contender,
    pub(super) seconds: f64,
    /// Values that the run left under the old key.
    pub(super) left: u64,
    /// The client's, in bytes.
    pub(super) memory: u64,
    pub(super) client_cpu: Duration,
    pub(super) server_cpu: Duration,
    pub(super) etcd_cpu: Duration,
    /// Processes that wanted to run, on average of the last minute.
    pub(super) load: f64,
}

/// A control plane that holds the Secrets.
pub(super) struct Arena<'a> {
    pub(super) runtime: &'a Runtime,
    pub(super) plane: ControlPlane,
    pub(super) client: kube::Client,
    /// Which of the keys writes.
    turn: bool,
    migrations: usize,
    /// Of the controller before it was asked.
    waits: u32,
}

impl<'a> Arena<'a> {
    pub(super) fn start(runtime: &'a Runtime, population: Population) -> Result<Self, String> {
        let plane = ControlPlane::start(Options {
            encryption_config: configuration(false),
            request_timeout: Duration::from_secs(60),
            audit: false,
            etcd: &["--quota-backend-bytes=8589934592"],
            ..Options::default()
        });
        let client = runtime.block_on(plane.client(0));
        runtime
            .block_on(population.store(&client, "bench"))
            .map_err(|error| error.to_string())?;
        Ok(Self {
            runtime,
            plane,
            client,
            turn: false,
            migrations: 0,
            waits: 0,
        })
    }

    /// Lets the other key write, and a contender bring everything under it.
    pub(super) fn run(&mut self, contender: Contender) -> Result<Sample, String> {
        // Bare transactions change nothing that would have to be changed back.
        if contender != Contender::Bare {
            self.swap()?;
        }
        let (server, etcd) = (self.plane.servers[0].pid(), self.plane.etcd.pid());
        let used = |pid| cpu(pid).unwrap_or_default();
        let before = [used(server), used(etcd)];
        let run = match contender {
            Contender::GetReplace => self.get_replace()?,
            Contender::MigratorNudged => self.migrate(true)?,
            Contender::MigratorAsItComes => self.migrate(false)?,
            Contender::Api => run(&mut self.reencrypt(&["--gentle=false"]))?,
            Contender::Etcd => run(&mut self.reencrypt_in_etcd())?,
            Contender::Bare => self.bare()?,
        };
        let after = [used(server), used(etcd)];
        Ok(Sample {
            contender,
            seconds: run.time.as_secs_f64(),
            left: self.left()?,
            memory: run.memory,
            client_cpu: run.cpu,
            server_cpu: after[0].saturating_sub(before[0]),
            etcd_cpu: after[1].saturating_sub(before[1]),
            load: fs::read_to_string("/proc/loadavg")
                .ok()
                .and_then(|text| text.split(' ').next()?.parse().ok())
                .unwrap_or_default(),
        })
    }

    /// Lets the other key write, and waits until the server does; then compacts what was superseded,
    /// as the server itself does every five minutes.
    pub(super) fn swap(&mut self) -> Result<(), String> {
        self.turn = !self.turn;
        self.plane.load(0, configuration(self.turn).as_bytes());
        let status = self
            .plane
            .etcdctl()
            .args(["endpoint", "status", "--write-out=json"])
            .output();
        let status = status.map_err(|error| error.to_string())?;
        let status: Value =
            serde_json::from_slice(&status.stdout).map_err(|error| error.to_string())?;
        let revision = status[0]["Status"]["header"]["revision"].to_string();
        let compacted = self
            .plane
            .etcdctl()
            .args(["compact", "--physical", &revision])
            .output();
        match compacted {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Through the API.
    pub(super) fn reencrypt(&self, more: &[&str]) -> Command {
        let mut arguments = vec!["reencrypt".to_owned(), "--quiet".into()];
        arguments.extend(atrest::flags(&self.plane, 0));
        arguments.extend(more.iter().map(|it| (*it).to_owned()));
        atrest::command(arguments)
    }

    fn reencrypt_in_etcd(&self) -> Command {
        let mut command = self.reencrypt(&["--engine=etcd", "--gentle=false", "--yes"]);
        command
            .arg("--config")
            .arg(&self.plane.servers[0].encryption_config)
            .arg("--state-dir")
            .arg(self.plane.directory().join("state"));
        command
    }

    pub(super) fn get_replace(&self) -> Result<Run, String> {
        let start = Instant::now();
        let mut get = self.plane.kubectl(0);
        get.args(["get", "secrets", "--all-namespaces", "-o", "json"]);
        let mut get = spawn(get.stdout(Stdio::piped()))?;
        let read = get.stdout.take().ok_or("no pipe")?;
        let mut replace = self.plane.kubectl(0);
        replace.args(["replace", "-f", "-"]);
        let replace = spawn(replace.stdin(read).stdout(Stdio::null()))?;
        wait(start, vec![get, replace])
    }

    fn bare(&self) -> Result<Run, String> {
        let etcd = &self.plane.etcd;
        let bench = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(bench);
        command.args([BARE_LOOP, &etcd.endpoint]);
        run(command.args([&etcd.ca, &etcd.cert, &etcd.key]))
    }

    /// Has the cluster's own controller do it. It runs for this alone, and the clock starts when it
    /// has taken up its work.
    fn migrate(&mut self, nudged: bool) -> Result<Run, String> {
        let migrator = self.plane.start_migrator();
        if !nudged {
            // It runs for a while before anybody asks it for something, which can be at any time of the
            // minute in which its cache learns of what others write.
            std::thread::sleep(IDLE + self.waits * PHASE);
            self.waits = (self.waits + 1) % PHASES;
        }
        let migrated = self.watch_migration(migrator.pid(), nudged);
        let migrated = self.runtime.block_on(migrated);
        self.migrations += 1;
        migrated
    }

    async fn watch_migration(&self, pid: u32, nudged: bool) -> Result<Run, String> {
        let name = format!("bench-{}", self.migrations);
        let path = "/apis/storagemigration.k8s.io/v1/storageversionmigrations";
        let migration = json!({
            "apiVersion": "storagemigration.k8s.io/v1",
            "kind": "StorageVersionMigration",
            "metadata": {"name": name},
            "spec": {"resource": {"group": "", "resource": "secrets"}},
        });
        let before = cpu(pid).unwrap_or_default();
        let start = Instant::now();
        self.send("POST", path, &migration).await?;
        let mut last_nudge = start;
        loop {
            if nudged && last_nudge.elapsed() > Duration::from_secs(1) {
                last_nudge = Instant::now();
                let nudge = json!({"metadata": {"labels": {"nudge": format!("{:?}", start.elapsed().as_millis())}}});
                let path = "/api/v1/namespaces/bench-0/secrets/secret-00000";
                self.send("PATCH", path, &nudge).await?;
            }
            let now = self
                .send("GET", &format!("{path}/{name}"), &Value::Null)
                .await?;
            let conditions = now["status"]["conditions"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let is = |what: &str| {
                conditions
                    .iter()
                    .any(|it| it["type"] == what && it["status"] == "True")
            };
            if is("Failed") {
                return Err("the migration failed".into());
            }
            if is("Succeeded") {
                return Ok(Run {
                    time: start.elapsed(),
                    memory: process::peak_memory(pid),
                    cpu: cpu(pid).unwrap_or_default().saturating_sub(before),
                    stdout: Vec::new(),
                });
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn send(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let content_type = match method {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        let body = match body {
            Value::Null => Vec::new(),
            body => body.to_string().into_bytes(),
        };
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content_type)
            .body(body)
            .map_err(|error| error.to_string())?;
        self.client
            .request(request)
            .await
            .map_err(|error| error.to_string())
    }

    /// Values that are not under the key that writes.
    fn left(&self) -> Result<u64, String> {
        let mut arguments = vec![
            "verify".to_owned(),
            "--output=json".into(),
            "--config".into(),
        ];
        arguments.push(
            self.plane.servers[0]
                .encryption_config
                .display()
                .to_string(),
        );
        arguments.extend(self.plane.etcd_flags());
        let ended = atrest::run(arguments);
        if ended.status != Some(0) && ended.status != Some(1) {
            return Err(ended.stderr);
        }
        let secrets = &ended.json()["resources"][0];
        let count = |state: &str| secrets[state].as_u64().unwrap_or_default();
        Ok(count("total") - count("current"))
    }
}

/// Two keys of secretbox; which of them writes depends on the turn.
fn configuration(turn: bool) -> String {
    let key = |name: &str, byte: u8| {
        let secret = BASE64_STANDARD.encode([byte; 32]);
        format!("      - {{name: {name}, secret: {secret}}}\n")
    };
    let mut keys = [key("even", 7), key("odd", 9)];
    if turn {
        keys.reverse();
    }
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n\
         - resources: [secrets]\n  providers:\n  - secretbox:\n      keys:\n{}{}",
        keys[0], keys[1]
    )
}
