//! `atrest verify`: of snapshots that a real etcd wrote, small to large, and of a running etcd beside
//! a bare range read of the same keys, turn by turn, each in a process of its own.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use atrest_core::at_rest::{GroupResource, Transformers, Trust, range_end};
use atrest_core::encryption_config::{EncryptionConfiguration, Server, judge};
use atrest_proto::etcdserverpb::kv_client::KvClient;
use atrest_proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use atrest_tests::binaries;
use atrest_tests::etcd::{Etcd, connect};
use atrest_tests::programs::ETCD;
use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::Value;
use tonic::transport::Channel;

use crate::figure::Figure;
use crate::process::run;
use crate::{Measure, Measured};

/// The bench itself, as the process that only reads.
pub(crate) const BARE_RANGE: &str = "--bare-range";

const TURNS: usize = 5;
const LIVE_KEYS: u64 = 50_000;
const LARGE: u64 = 1_000_000;
const LARGE_TIME: Duration = Duration::from_secs(60);
const LARGE_MEMORY: u64 = 100 << 20;
/// How much longer than to read a live census may take.
const TIMES: f64 = 1.5;

/// Of etcd: room for all, and no wait for the disk.
const FLAGS: [&str; 2] = ["--quota-backend-bytes=8589934592", "--unsafe-no-fsync"];

const CONFIGURATION: &str = "apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers:
  - aesgcm:
      keys:
      - {name: key, secret: b25lb25lb25lb25lb25lb25lb25lb25lb25lb25lb24=}
";

/// Fills etcd and takes the snapshots.
pub(crate) fn prepare() -> Result<Measure, String> {
    let atrest = binaries::path("atrest").to_owned();
    let [.., release] = ETCD;
    let most = std::env::var("ATREST_BENCH_KEYS").ok();
    let most = most.and_then(|it| it.parse().ok()).unwrap_or(LARGE);
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let config = folder.path().join("config.yaml");
    fs::write(&config, CONFIGURATION).map_err(|error| error.to_string())?;

    let mut snapshots = Vec::new();
    for keys in [most / 100, most / 10, most] {
        eprintln!("filling etcd with {keys} keys");
        let etcd = Etcd::start(release, &folder.path().join("fill"), &FLAGS);
        fill(&etcd, keys)?;
        let path = folder.path().join(format!("{keys}.db"));
        etcd.snapshot(&path);
        let counted = count(&etcd)?;
        snapshots.push((keys, counted, path));
        drop(etcd);
        let _ = fs::remove_dir_all(folder.path().join("fill"));
    }
    let live_keys = LIVE_KEYS.min(most);
    let etcd = Etcd::start(release, &folder.path().join("live"), &FLAGS);
    fill(&etcd, live_keys)?;

    Ok(Box::new(move || {
        let _folder = folder; // until all is measured
        let mut figures = Vec::new();
        for (keys, counted, path) in &snapshots {
            for decrypt in [false, true] {
                figures.extend(of_snapshot(
                    &atrest, &config, *keys, *counted, path, decrypt,
                )?);
            }
        }
        figures.extend(live(&atrest, &config, &etcd, live_keys)?);
        Ok(Measured::from(figures))
    }))
}

fn of_snapshot(
    atrest: &Path,
    config: &Path,
    keys: u64,
    counted: u64,
    path: &Path,
    decrypt: bool,
) -> Result<[Figure; 2], String> {
    let is_large = keys == LARGE && !decrypt;
    let how = if decrypt { " --decrypt" } else { "" };
    let what = format!("snapshot of {keys} keys, verify{how}");
    let mut time = Figure::new(what.clone(), is_large.then_some(LARGE_TIME));
    let mut memory = Figure::of_memory("  its memory", (keys == LARGE).then_some(LARGE_MEMORY));
    for _ in 0..3 {
        let mut command = Command::new(atrest);
        command
            .args(["verify", "--output=json", "--config"])
            .arg(config);
        if decrypt {
            command.arg("--decrypt");
        }
        command.arg("--snapshot").arg(path);
        let run = run(&mut command)?;
        let report: Value =
            serde_json::from_slice(&run.stdout).map_err(|error| error.to_string())?;
        let total = report["resources"][0]["total"].as_u64();
        if total != Some(counted) || report["verdict"] != "clean" {
            return Err(format!(
                "{what}: etcd counts {counted}, the census {total:?}"
            ));
        }
        time.add(run.time);
        memory.add_bytes(run.memory);
    }
    Ok([time, memory])
}

fn live(atrest: &Path, config: &Path, etcd: &Etcd, keys: u64) -> Result<Vec<Figure>, String> {
    let bench = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut census = Figure::new(format!("running etcd of {keys} keys, verify"), None);
    let mut proof = Figure::new(
        format!("running etcd of {keys} keys, verify --decrypt"),
        None,
    );
    let mut range = Figure::new("  a bare range read of the same", None);
    for _ in 0..TURNS {
        for (figure, decrypt) in [(&mut census, false), (&mut proof, true)] {
            let mut verify = Command::new(atrest);
            verify
                .args(["verify", "--output=json", "--config"])
                .arg(config);
            verify.args(["--etcd-endpoints", &etcd.endpoint]);
            if decrypt {
                verify.arg("--decrypt");
            }
            figure.add(run(&mut verify)?.time);
        }
        let mut bare = Command::new(&bench);
        bare.args([BARE_RANGE, &etcd.endpoint]);
        range.add(run(&mut bare)?.time);
    }
    census.promise_times(TIMES, &range);
    Ok(vec![census, proof, range])
}

/// Reads what a census reads, in pages as large, and does nothing with it.
pub(crate) fn bare_range(endpoint: &str) -> ExitCode {
    let endpoint = endpoint.to_owned();
    let read = block_on(async move {
        let mut kv = kv(&endpoint).await?;
        let mut request = RangeRequest {
            key: b"/registry/secrets/".to_vec(),
            range_end: range_end(b"/registry/secrets/"),
            limit: 300,
            ..RangeRequest::default()
        };
        loop {
            let page = kv.range(request.clone()).await;
            let page = page.map_err(|error| error.to_string())?.into_inner();
            request.revision = page.header.map_or(request.revision, |it| it.revision);
            match (page.more, page.kvs.last()) {
                (true, Some(last)) => request.key = [&last.key[..], b"\0"].concat(),
                _ => return Ok(()),
            }
        }
    });
    match read {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("error: {what}");
            ExitCode::FAILURE
        }
    }
}

/// Writes `keys` Secrets of 1 KiB, a fifth of them twice more, and removes a twentieth as many.
fn fill(etcd: &Etcd, keys: u64) -> Result<(), String> {
    // No key comes up twice in a transaction.
    let in_one = (keys / 5).clamp(1, 120) as usize;

    let configuration = judge(CONFIGURATION.as_bytes(), &Server::default()).configuration;
    let configuration: EncryptionConfiguration =
        configuration.ok_or("the configuration is rejected")?;
    let chain = Transformers::of(
        &configuration,
        &GroupResource::parse("secrets"),
        Trust::Objects,
    );
    let gone = keys / 20;
    let rounds = (0..keys + gone).chain(0..keys / 5).chain(0..keys / 5);
    let puts = rounds.map(|number| {
        let key = format!(
            "/registry/secrets/ns{:03}/secret-{number:08}",
            number % 1000
        );
        let value = chain.write(key.as_bytes(), &[b'k'; 1024], None);
        value.map(|value| RequestOp {
            request_put: Some(PutRequest {
                key: key.into_bytes(),
                value,
                ..PutRequest::default()
            }),
            ..RequestOp::default()
        })
    });
    let deletes = (keys..keys + gone).map(|number| RequestOp {
        request_delete_range: Some(DeleteRangeRequest {
            key: format!(
                "/registry/secrets/ns{:03}/secret-{number:08}",
                number % 1000
            )
            .into(),
            ..DeleteRangeRequest::default()
        }),
        ..RequestOp::default()
    });
    let namespace = |name: &str| RequestOp {
        request_put: Some(PutRequest {
            key: format!("/registry/namespaces/{name}").into(),
            value: b"k8s\0".to_vec(),
            ..PutRequest::default()
        }),
        ..RequestOp::default()
    };
    let namespaces = (0..1000).map(|number| namespace(&format!("ns{number:03}")));
    let namespaces = namespaces.chain([namespace("kube-system")]);
    let endpoint = etcd.endpoint.clone();
    block_on(async move {
        let kv = kv(&endpoint).await?;
        let send = |operations: Vec<RequestOp>| {
            let mut kv = kv.clone();
            async move {
                let request = TxnRequest {
                    success: operations,
                    ..TxnRequest::default()
                };
                kv.txn(request).await.map_err(|error| error.to_string())
            }
        };
        let mut operations = puts.map(|it| it.map_err(|error| error.to_string()));
        let mut batches = std::iter::from_fn(|| {
            let batch: Result<Vec<_>, _> = operations.by_ref().take(in_one).collect();
            Some(batch).filter(|batch| batch.as_ref().map_or(true, |it| !it.is_empty()))
        });
        stream::iter(batches.by_ref())
            .map(|batch| async { send(batch?).await })
            .buffered(4)
            .try_for_each(|_| async { Ok::<_, String>(()) })
            .await?;
        let rest: Vec<_> = namespaces.chain(deletes).collect();
        for batch in rest.chunks(120) {
            send(batch.to_vec()).await?;
        }
        Ok(())
    })
}

fn count(etcd: &Etcd) -> Result<u64, String> {
    let endpoint = etcd.endpoint.clone();
    block_on(async move {
        let request = RangeRequest {
            key: b"/registry/secrets/".to_vec(),
            range_end: range_end(b"/registry/secrets/"),
            count_only: true,
            ..RangeRequest::default()
        };
        let answer = kv(&endpoint).await?.range(request).await;
        Ok(answer
            .map_err(|error| error.to_string())?
            .into_inner()
            .count as u64)
    })
}

async fn kv(endpoint: &str) -> Result<KvClient<Channel>, String> {
    connect(endpoint).await.map_err(|error| error.to_string())
}

fn block_on<T>(future: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.map_err(|error| error.to_string())?.block_on(future)
}
