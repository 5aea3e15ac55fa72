//! While others write: updates, deletions, Secrets that come again, compactions, broken connections,
//! SIGKILL.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use atrest_tests::atrest::{self, Ended};
use atrest_tests::processes::{ControlPlane, Options};
use atrest_tests::secrets::Population;
use atrest_tests::stored_values;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{
    IDENTITY, assert_no_canaries, command, command_of, configuration, etcdctl, local, objects,
    reencrypt, state_dir,
};
use crate::rotate::FEW;

const MANY: Population = Population {
    secrets: 2000,
    namespaces: 4,
    smallest: 64,
    largest: 4 << 10,
};

/// Writes Secrets of its own until it is told to stop: each is updated, or deleted, or deleted and
/// created again. Returns what it wrote last; `None` for what it deleted.
async fn churn(
    api: Api<Secret>,
    names: Vec<String>,
    is_over: Arc<AtomicBool>,
) -> BTreeMap<String, Option<String>> {
    let mut last = BTreeMap::new();
    let secret = |name: &str, value: &str| Secret {
        metadata: ObjectMeta {
            name: Some(name.into()),
            ..ObjectMeta::default()
        },
        data: Some([("value".into(), ByteString(value.into()))].into()),
        ..Secret::default()
    };
    // A round takes about as long as the run: most objects are touched for the first time while the
    // engine has read them and not yet written them.
    let mut turn = tokio::time::interval(Duration::from_millis(150));
    for round in 0_usize.. {
        for (i, name) in names.iter().enumerate() {
            turn.tick().await;
            if is_over.load(Ordering::Relaxed) {
                return last;
            }
            let value = format!("{name} in round {round}");
            let exists = last.get(name).is_none_or(Option::is_some);
            match (i + round) % 5 {
                0 if exists => {
                    api.delete(name, &DeleteParams::default()).await.unwrap();
                    last.insert(name.clone(), None);
                }
                1 if exists => {
                    api.delete(name, &DeleteParams::default()).await.unwrap();
                    let created = secret(name, &value);
                    api.create(&PostParams::default(), &created).await.unwrap();
                    last.insert(name.clone(), Some(value));
                }
                _ if exists => {
                    let replaced = secret(name, &value);
                    api.replace(name, &PostParams::default(), &replaced)
                        .await
                        .unwrap();
                    last.insert(name.clone(), Some(value));
                }
                _ => {
                    let created = secret(name, &value);
                    api.create(&PostParams::default(), &created).await.unwrap();
                    last.insert(name.clone(), Some(value));
                }
            }
        }
    }
    last
}

/// Compacts everything that was superseded, and returns the newest revision.
fn compact(plane: &ControlPlane) {
    let status = etcdctl(plane, &["endpoint", "status", "--write-out=json"]);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let revision = status[0]["Status"]["header"]["revision"].as_u64().unwrap();
    let arguments = ["compact", &revision.to_string()];
    // Somebody else may have been faster.
    let _ = plane.etcdctl().args(arguments).output();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_update_is_lost_nothing_comes_back_and_nothing_stale_is_left() {
    outlives_churn("etcd").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_update_is_lost_nothing_comes_back_and_nothing_stale_is_left_through_the_api() {
    outlives_churn("api").await;
    outlives_churn("list").await;
}

async fn outlives_churn(engine: &str) {
    let old = local("secretbox", &[("k1", 1)]);
    let plane = ControlPlane::start(Options {
        encryption_config: configuration(&["secrets"], &[&old]),
        ..Options::default()
    });
    let client = plane.client(0).await;
    let stored = MANY.store(&client, "churn").await.unwrap();
    let both = local("secretbox", &[("k2", 2), ("k1", 1)]);
    plane.load(0, configuration(&["secrets"], &[&both]).as_bytes());

    // A tenth of them, by a writer in each namespace.
    let is_over = Arc::new(AtomicBool::new(false));
    let api = |i: usize| -> Api<Secret> { Api::namespaced(client.clone(), &format!("churn-{i}")) };
    let writers: Vec<_> = (0..MANY.namespaces)
        .map(|i| {
            let numbers = (i..MANY.secrets).step_by(MANY.namespaces * 10);
            let names = numbers.map(|number| format!("secret-{number:05}"));
            tokio::spawn(churn(api(i), names.collect(), is_over.clone()))
        })
        .collect();
    let mut running = command_of(&plane, engine, &["--max-rate", "250"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut compactions = 0;
    while running.try_wait().unwrap().is_none() {
        tokio::time::sleep(Duration::from_secs(2)).await;
        compact(&plane);
        compactions += 1;
    }
    is_over.store(true, Ordering::Relaxed);
    let ended = Ended::from(running.wait_with_output().unwrap());
    let mut last = BTreeMap::new();
    for (i, writer) in writers.into_iter().enumerate() {
        let written = writer.await.unwrap().into_iter();
        last.extend(written.map(|(name, value)| ((i, name), value)));
    }
    assert!(
        compactions > 1,
        "it was over after {compactions} compactions"
    );
    let written = last.values().flatten().count();
    assert!(
        written > 50 && written < last.len(),
        "{written} of {}",
        last.len()
    );

    let counts = objects(ended, 0);
    assert_eq!(counts["set_aside"], 0, "{counts}");
    // Some were read, and deleted before they could be written.
    assert!(engine != "etcd" || counts["gone"] != 0, "{counts}");
    let untouched = MANY.secrets - last.len();
    assert!(
        counts["rewritten"].as_u64().unwrap() >= untouched as u64,
        "{counts}"
    );
    let values = stored_values::secrets(&plane);
    assert_eq!(values.len(), untouched + written);
    stored_values::assert_prefix(&plane, values.len(), "k8s:enc:secretbox:v1:k2:");
    for ((i, name), expected) in &last {
        let found = api(*i).get_opt(name).await.unwrap();
        let found = found.and_then(|it| Some(it.data?["value"].0.clone()));
        let found = found.map(|it| String::from_utf8(it).unwrap());
        assert_eq!(&found, expected, "{name}");
    }
    let churned = last
        .into_keys()
        .map(|(i, name)| (format!("churn-{i}"), name));
    stored.without(churned).assert_readable(&client).await;
    assert_no_canaries(&plane);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigkill_in_the_middle_loses_nothing() {
    let plane = ControlPlane::start(Options::default());
    let client = plane.client(0).await;
    let stored = FEW.store(&client, "killed").await.unwrap();
    let config = configuration(&["secrets"], &[&local("aescbc", &[("k1", 1)]), IDENTITY]);
    plane.load(0, config.as_bytes());
    let mut running = command(&plane, &["--max-rate", "20"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let is_in_the_middle = || {
        let values = stored_values::secrets(&plane);
        let is_ours = |key: &str| key.contains("/killed-");
        let of_ours = values.iter().filter(|(key, _)| is_ours(key));
        let encrypted = of_ours.filter(|(_, value)| value.starts_with(b"k8s:enc:"));
        (1..stored.len()).contains(&encrypted.count())
    };
    while !is_in_the_middle() {
        assert!(
            Instant::now() < deadline,
            "the rewrite never was in its middle"
        );
    }
    running.kill().unwrap();
    running.wait().unwrap();
    assert!(is_in_the_middle());
    stored.assert_readable(&client).await;

    let counts = objects(reencrypt(&plane, &[]), 0);
    assert_eq!(counts["total"], stored.len(), "{counts}");
    assert_ne!(counts["current"], 0);
    assert_no_canaries(&plane);
    stored_values::assert_prefix(&plane, stored.len(), "k8s:enc:aescbc:v1:k1:");
    stored.assert_readable(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn canaries_of_a_killed_run_are_taken_away_by_the_next_one() {
    let plane = ControlPlane::start(Options::default());
    let client = plane.client(0).await;
    let stored = FEW.store(&client, "canaries").await.unwrap();
    let canaries = || {
        let values = stored_values::secrets(&plane);
        values.keys().filter(|key| key.contains("canary")).count()
    };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "kube-system");
    // They live for a moment: whoever is too late tries again with the next key.
    for key in 1..=10 {
        let new = local("aescbc", &[("k", key)]);
        let old = local("aescbc", &[("k", key - 1)]);
        plane.load(
            0,
            configuration(&["secrets"], &[&new, &old, IDENTITY]).as_bytes(),
        );
        let mut running = command(&plane, &[])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while running.try_wait().unwrap().is_none() {
            let listed = secrets.list_metadata(&ListParams::default()).await.unwrap();
            if !listed.items.is_empty() {
                running.kill().unwrap();
                running.wait().unwrap();
            }
        }
        if canaries() > 0 {
            break;
        }
    }
    assert_ne!(canaries(), 0, "every run was over before it was killed");
    let notes = std::fs::read_dir(state_dir(&plane)).unwrap();
    let mut notes = notes.map(|entry| entry.unwrap().path());
    let note = notes.find(|path| path.to_string_lossy().contains("canaries"));
    let mode = note.unwrap().metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let again = reencrypt(&plane, &[]);
    assert!(
        again.stderr.contains("deleted 10 canaries"),
        "{}",
        again.stderr
    );
    objects(again, 0);
    assert_no_canaries(&plane);
    stored_values::assert_prefix(&plane, stored.len(), "k8s:enc:aescbc:v1:k:");
    stored.assert_readable(&client).await;
}

/// Passes bytes on to etcd until all connections are cut, again and again.
async fn proxy(etcd: SocketAddr, cut: watch::Receiver<usize>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut cut = cut.clone();
            cut.mark_unchanged();
            tokio::spawn(async move {
                let mut etcd = TcpStream::connect(etcd).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut client, &mut etcd) => {}
                    _ = cut.changed() => {}
                }
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_connections_are_mended_and_nothing_is_written_twice() {
    const CUTS: usize = 6;

    let plane = ControlPlane::start(Options::default());
    let client = plane.client(0).await;
    let stored = Population {
        secrets: 600,
        ..MANY
    };
    let stored = stored.store(&client, "cut").await.unwrap();
    let config = configuration(&["secrets"], &[&local("aesgcm", &[("k1", 1)]), IDENTITY]);
    plane.load(0, config.as_bytes());
    let etcd = plane.etcd.endpoint.strip_prefix("https://").unwrap();
    let (cut, cuts) = watch::channel(0);
    let proxy = format!("https://{}", proxy(etcd.parse().unwrap(), cuts).await);

    let direct = command(&plane, &["--max-rate", "60"]);
    let through_proxy = direct.get_args().map(|argument| {
        let argument = argument.to_string_lossy();
        argument.replace(&plane.etcd.endpoint, &proxy)
    });
    let mut running = atrest::command(through_proxy)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let written = || {
        let values = stored_values::secrets(&plane);
        let of_ours = values.iter().filter(|(key, _)| key.contains("/cut-"));
        of_ours
            .filter(|(_, value)| value.starts_with(b"k8s:enc:"))
            .count()
    };
    let mut last = 0;
    for _ in 0..CUTS {
        let deadline = Instant::now() + Duration::from_secs(60);
        while written() <= last {
            assert!(
                Instant::now() < deadline,
                "nothing was written after {last}"
            );
        }
        last = written();
        cut.send_modify(|cuts| *cuts += 1);
    }
    assert!(
        running.try_wait().unwrap().is_none(),
        "it was over before the last cut"
    );
    let counts = objects(Ended::from(running.wait_with_output().unwrap()), 0);
    assert_eq!(counts["rewritten"], stored.len(), "{counts}");
    stored_values::assert_prefix(&plane, stored.len(), "k8s:enc:aesgcm:v1:k1:");
    stored.assert_readable(&client).await;
    // Of each the first version is the API server's and the second one ours.
    let answer = etcdctl(
        &plane,
        &["get", "/registry/secrets/", "--prefix", "--write-out=json"],
    );
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let mut versions = answer["kvs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| &pair["version"]);
    assert!(
        versions.all(|version| *version == 2),
        "some value was written twice"
    );
}
