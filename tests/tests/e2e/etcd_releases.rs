//! Files that etcd 3.5, 3.6 and 3.7 wrote read alike: snapshots that their own etcdctl saved, and data
//! directories of members that were killed, stopped or out of space. What a data directory holds, a
//! member of the same release says that starts on a copy of it.

mod agreement;
mod cluster;
mod damage;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use atrest_tests::etcd::Etcd;
use atrest_tests::programs::{self, ETCD};
use serde_json::json;

use self::agreement::{Configurations, data_directory, snapshot};
use self::cluster::{Cluster, Keyspace, database, key};
use crate::at_rest::{WRITERS, agree_with_the_truth};

const SECRETS: &str = "/registry/secrets/";

/// The database is not written by itself: what is new stays in the log. (Where something is deleted
/// from another bucket than the keys', etcd commits all the same.)
const IN_THE_LOG: &str = "--backend-batch-interval=10m";

/// Whether the text is in the log.
fn has(data: &Path, text: &str) -> bool {
    let mut grep = Command::new("grep");
    grep.args(["-rqaF", text]).arg(data.join("member/wal"));
    grep.status().unwrap().success()
}

/// A data directory that its etcdutl made of the snapshot, and no member started on yet.
fn restore(release: &str, saved: &Path) -> PathBuf {
    let restored = saved.with_extension("restored");
    let mut etcdutl = Command::new(programs::etcd(release).unwrap().join("etcdutl"));
    etcdutl.args(["snapshot", "restore"]).arg(saved);
    let output = etcdutl.arg("--data-dir").arg(&restored).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    restored
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_and_killed_members_of_every_release_read_alike() {
    let folder = tempfile::tempdir().unwrap();
    let configurations = Configurations::write(folder.path());
    let mut said = Vec::new();
    for release in ETCD {
        let mut cluster = Cluster::start(release, folder.path(), &["--snapshot-count=100"]).await;
        cluster.round("first").await;
        let compacted = Keyspace::of(&cluster.etcd).revision.to_string();
        cluster.etcd.ctl(&["compact", &compacted]);
        cluster.change("first").await;

        let keyspace = Keyspace::of(&cluster.etcd);
        let saved = folder.path().join(format!("{release}.db"));
        cluster.etcd.snapshot(&saved);
        let of_snapshot = configurations.agree(snapshot(&saved), &keyspace);
        configurations.decrypt(snapshot(&saved), &cluster, &keyspace);
        let restored = restore(release, &saved);
        configurations.agree(data_directory(&restored), &keyspace);

        // With the database from before, the log alone has what the second process did.
        let before = cluster.pause(&[IN_THE_LOG]).await;
        cluster.change("first").await;
        cluster.round("second").await;
        let keyspace = Keyspace::of(&cluster.etcd);
        cluster.etcd.kill();
        let data = cluster.data.clone();
        let of_killed = configurations.agree_with_member(release, &data, &keyspace);
        let its_own = fs::read(database(&data)).unwrap();
        fs::write(database(&data), before).unwrap();
        let of_log = configurations.agree_with_member(release, &data, &keyspace);
        assert_eq!(of_log, of_killed, "{release}");
        configurations.decrypt(data_directory(&data), &cluster, &keyspace);
        let in_the_log = configurations.beyond_the_database(&data);
        println!("{release}: {in_the_log} objects are in the log alone");
        assert!(in_the_log > 3 * WRITERS.len());
        // 3.5 tells who it is by the second API.
        assert_eq!(has(&data, "/0/members/"), release == "3.5", "{release}");

        fs::write(database(&data), its_own).unwrap();
        Etcd::start(release, &data, &[]).stop();
        let of_stopped = configurations.agree(data_directory(&data), &keyspace);
        assert_eq!(of_stopped, of_killed, "{release}");
        said.push((of_snapshot, of_killed));
    }
    assert!(said.iter().all(|it| *it == said[0]), "{said:#?}");
}

/// Filled by a real kube-apiserver, as the newest release is in `at_rest`.
#[test]
fn older_releases_under_kube_apiserver_agree_with_the_truth() {
    for release in &ETCD[..ETCD.len() - 1] {
        agree_with_the_truth(Some(release));
    }
}

/// So early that its database does not even know its members.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_member_that_was_killed_at_once_is_read_from_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let configurations = Configurations::write(folder.path());
    for release in ETCD {
        let mut cluster = Cluster::start(release, folder.path(), &[IN_THE_LOG]).await;
        cluster.namespaces();
        for writer in 0..WRITERS.len() {
            cluster.store(&format!("new-{writer}"), writer).await;
        }
        let keyspace = Keyspace::of(&cluster.etcd);
        cluster.etcd.kill();
        configurations.agree_with_member(release, &cluster.data, &keyspace);
    }
}

/// What the alarm refuses is in the log all the same.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_member_out_of_space_refused_is_not_counted() {
    let folder = tempfile::tempdir().unwrap();
    let configurations = Configurations::write(folder.path());
    for release in ETCD {
        let quota = "--quota-backend-bytes=500000";
        let mut cluster = Cluster::start(release, folder.path(), &[quota]).await;
        cluster.namespaces();
        for writer in 0..WRITERS.len() {
            cluster.store(&format!("kept-{writer}"), writer).await;
        }
        let filler = "x".repeat(16 << 10);
        let full = (0..100).find_map(|number| {
            let key = format!("/registry/configmaps/default/{number}");
            let mut put = cluster.etcd.etcdctl();
            let output = put.args(["put", &key, &filler]).output().unwrap();
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            (!output.status.success()).then_some(told)
        });
        assert!(full.unwrap().contains("database space exceeded"));

        // There is room now, and the alarm is still on.
        let before = cluster.pause(&[IN_THE_LOG]).await;
        refuses(&mut cluster, "full", "database space exceeded").await;
        cluster.remove("kept-0").await;
        cluster.etcd.ctl(&["alarm", "disarm"]);
        cluster.store("after", 3).await;
        // Raised and lifted within the log.
        raise(&cluster.etcd, "NOSPACE");
        refuses(&mut cluster, "again", "database space exceeded").await;
        cluster.remove("kept-1").await;
        let data = cluster.data.clone();
        let killed = |cluster: &mut Cluster| {
            let keyspace = Keyspace::of(&cluster.etcd);
            cluster.etcd.kill();
            configurations.agree_with_member(release, &data, &keyspace);
            fs::write(database(&data), &before).unwrap();
            configurations.agree_with_member(release, &data, &keyspace);
            assert!(has(&data, &key("full")) && has(&data, &key("again")));
        };
        killed(&mut cluster);

        cluster.pause(&[IN_THE_LOG]).await;
        cluster.etcd.ctl(&["alarm", "disarm"]);
        cluster.store("between", 3).await;
        raise(&cluster.etcd, "CORRUPT");
        refuses(&mut cluster, "corrupt", "corrupt cluster").await;
        let refused = cluster.etcd.ctl_fails(&["del", &key("kept-2")]);
        assert!(refused.contains("corrupt cluster"), "{refused}");
        killed(&mut cluster);
    }
}

/// A put, one in a transaction, and a lease.
async fn refuses(cluster: &mut Cluster, name: &str, reason: &str) {
    let key = key(name);
    let refused = cluster.etcd.ctl_fails(&["put", &key, "refused"]);
    assert!(refused.contains(reason), "{refused}");
    let refused = cluster.try_store(name, 3).await.unwrap_err();
    assert!(refused.message().contains(reason), "{refused}");
    let refused = cluster.etcd.ctl_fails(&["lease", "grant", "3600"]);
    assert!(refused.contains(reason), "{refused}");
}

/// etcdctl lifts alarms, and raises none.
fn raise(etcd: &Etcd, alarm: &str) {
    let request = json!({"action": "ACTIVATE", "memberID": "1", "alarm": alarm});
    let answer = etcd.post("/v3/maintenance/alarm", &request);
    assert!(answer.contains(alarm), "{answer}");
}

/// What a member would do with it, its release decides, or users that are not read.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_which_the_outcome_is_open_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let configurations = Configurations::write(folder.path());
    for release in ETCD {
        let mut cluster = Cluster::start(release, folder.path(), &[]).await;
        cluster.namespaces();
        cluster.store("first", 0).await;
        let keyspace = Keyspace::of(&cluster.etcd);
        cluster.pause(&[IN_THE_LOG]).await;
        let data = cluster.data.clone();
        let source = data_directory(&data);
        raise(&cluster.etcd, "CORRUPT");
        raise(&cluster.etcd, "NOSPACE");
        cluster.etcd.kill();
        let refused = configurations.read(source).unwrap_err();
        let reason = "changes an alarm while one of the other kind is on";
        assert!(refused.contains(reason), "{refused}");
        // Committed, it is no question any more.
        cluster.pause(&[]).await;
        cluster.etcd.ctl(&["alarm", "disarm"]);
        cluster.etcd.stop();
        configurations.agree(source, &keyspace);

        cluster.pause(&[IN_THE_LOG]).await;
        cluster.etcd.ctl(&["user", "add", "root:root"]);
        cluster.etcd.ctl(&["user", "grant-role", "root", "root"]);
        cluster.etcd.ctl(&["auth", "enable"]);
        let written = ["--user=root:root", "put", &key("second"), "k8s"];
        cluster.etcd.ctl(&written);
        cluster.etcd.kill();
        let refused = configurations.read(source).unwrap_err();
        let reason = "is subject to etcd's own authentication";
        assert!(refused.contains(reason), "{refused}");
        Etcd::start(release, &data, &[]).stop();
        let total = &configurations.read(source).unwrap()["resources"][0]["total"];
        assert_eq!(*total, 2);
    }
}
