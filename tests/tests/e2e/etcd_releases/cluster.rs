//! A member of a release that is filled as kube-apiserver fills it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use atrest_core::at_rest::{GroupResource, Transformers, Trust, WrappedKey, WritingKey};
use atrest_core::encryption_config::{EncryptionConfiguration, KmsVersion, Server, judge};
use atrest_core::secret::SecretBytes;
use atrest_proto::etcdserverpb::compare::{CompareResult, CompareTarget};
use atrest_proto::etcdserverpb::kv_client::KvClient;
use atrest_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use atrest_tests::etcd::{Etcd, Pair, connect};
use serde_json::{Value, json};
use tonic::transport::Channel;

use super::SECRETS;
use crate::at_rest::{WRITERS, configuration};

/// All that etcd says that it keeps.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Keyspace {
    pub(crate) pairs: BTreeMap<String, Pair>,
    pub(crate) revision: i64,
}

impl Keyspace {
    pub(crate) fn of(etcd: &Etcd) -> Self {
        let status = etcd.ctl(&["endpoint", "status", "--write-out=json"]);
        let status: Value = serde_json::from_str(&status).unwrap();
        let revision = status[0]["Status"]["header"]["revision"].as_i64();
        Self {
            pairs: etcd.pairs(),
            revision: revision.unwrap(),
        }
    }
}

/// The database of a data directory.
pub(crate) fn database(data: &Path) -> PathBuf {
    data.join("member/snap/db")
}

/// Writes Secrets as kube-apiserver does, and remembers what is in them.
pub(crate) struct Cluster {
    pub(crate) release: &'static str,
    pub(crate) data: PathBuf,
    pub(crate) etcd: Etcd,
    kv: KvClient<Channel>,
    /// One that writes, each.
    configurations: Vec<EncryptionConfiguration>,
    /// What was encrypted last, by key of etcd.
    pub(crate) plaintexts: BTreeMap<String, String>,
    revisions: BTreeMap<String, i64>,
    written: usize,
}

pub(crate) fn key(name: &str) -> String {
    format!("{SECRETS}default/{name}")
}

fn put(key: &str, value: Vec<u8>) -> RequestOp {
    RequestOp {
        request_put: Some(PutRequest {
            key: key.into(),
            value,
            ..PutRequest::default()
        }),
        ..RequestOp::default()
    }
}

fn delete(key: &str) -> RequestOp {
    RequestOp {
        request_delete_range: Some(DeleteRangeRequest {
            key: key.into(),
            ..DeleteRangeRequest::default()
        }),
        ..RequestOp::default()
    }
}

/// If the key is as it was read, else it is read: what kube-apiserver sends.
fn guarded(key: &str, mod_revision: i64, operation: RequestOp) -> TxnRequest {
    let range = RangeRequest {
        key: key.into(),
        ..RangeRequest::default()
    };
    TxnRequest {
        compare: vec![Compare {
            target: CompareTarget::Mod as i32,
            key: key.into(),
            mod_revision,
            ..Compare::default()
        }],
        success: vec![operation],
        failure: vec![RequestOp {
            request_range: Some(range),
            ..RequestOp::default()
        }],
    }
}

impl Cluster {
    /// A new member, in a data directory that has the release's name.
    pub(crate) async fn start(release: &'static str, folder: &Path, flags: &[&str]) -> Self {
        let data = folder.join(release);
        let etcd = Etcd::start(release, &data, flags);
        let kv = connect(&etcd.endpoint).await.unwrap();
        let parsed = |writer: &&str| {
            let text = configuration(writer, Path::new("/nowhere"));
            judge(text.as_bytes(), &Server::default()).configuration
        };
        Self {
            release,
            data,
            etcd,
            kv,
            configurations: WRITERS.iter().filter_map(parsed).collect(),
            plaintexts: BTreeMap::new(),
            revisions: BTreeMap::new(),
            written: 0,
        }
    }

    /// The member ends, and goes on in a new process. Returns its database in between.
    pub(crate) async fn pause(&mut self, flags: &[&str]) -> Vec<u8> {
        self.etcd.stop();
        let between = fs::read(database(&self.data)).unwrap();
        self.etcd = Etcd::start(self.release, &self.data, flags);
        self.kv = connect(&self.etcd.endpoint).await.unwrap();
        between
    }

    /// A Secret that nobody else has, encrypted.
    fn value(&mut self, key: &str, writer: usize) -> (String, Vec<u8>) {
        self.written += 1;
        let plaintext = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": key.rsplit('/').next(), "namespace": "default"},
            "stringData": {"number": self.written.to_string()},
        });
        let plaintext = plaintext.to_string();
        let seed = WritingKey {
            key: SecretBytes::new(vec![7; 32]),
            wrapped: WrappedKey {
                version: KmsVersion::V2,
                provider: "plug".into(),
                key_id: "key-id-1".into(),
                ciphertext: b"wrapped".to_vec(),
                annotations: BTreeMap::new(),
            },
        };
        let secrets = GroupResource::parse("secrets");
        let chain = Transformers::of(&self.configurations[writer], &secrets, Trust::Objects);
        let value = chain.write(key.as_bytes(), plaintext.as_bytes(), Some(&seed));
        (plaintext, value.unwrap())
    }

    async fn txn(&mut self, request: TxnRequest) -> Result<(bool, i64), tonic::Status> {
        let answer = self.kv.txn(request).await?.into_inner();
        Ok((answer.succeeded, answer.header.unwrap().revision))
    }

    /// Creates or changes a Secret. `WRITERS[writer]` encrypts it.
    pub(crate) async fn store(&mut self, name: &str, writer: usize) {
        self.try_store(name, writer).await.unwrap();
    }

    pub(crate) async fn try_store(
        &mut self,
        name: &str,
        writer: usize,
    ) -> Result<(), tonic::Status> {
        let key = key(name);
        let (plaintext, value) = self.value(&key, writer);
        let before = self.revisions.get(&key).copied().unwrap_or_default();
        let request = guarded(&key, before, put(&key, value));
        let (held, revision) = self.txn(request).await?;
        assert!(held, "{key}");
        self.plaintexts.insert(key.clone(), plaintext);
        self.revisions.insert(key, revision);
        Ok(())
    }

    pub(crate) async fn remove(&mut self, name: &str) {
        let key = key(name);
        let before = self.revisions.remove(&key).unwrap();
        let request = guarded(&key, before, delete(&key));
        assert!(self.txn(request).await.unwrap().0, "{key}");
        self.plaintexts.remove(&key);
    }

    /// A lease of an hour; its number in hex.
    fn lease(&self) -> String {
        let granted = self.etcd.ctl(&["lease", "grant", "3600"]);
        granted.split_whitespace().nth(1).unwrap().to_owned()
    }

    async fn store_leased(&mut self, name: &str, lease: &str) -> Result<(), tonic::Status> {
        let key = key(name);
        let (plaintext, value) = self.value(&key, 3);
        let mut operation = put(&key, value);
        operation.request_put.as_mut().unwrap().lease = i64::from_str_radix(lease, 16).unwrap();
        let request = TxnRequest {
            success: vec![operation],
            ..TxnRequest::default()
        };
        let (_, revision) = self.txn(request).await?;
        self.plaintexts.insert(key.clone(), plaintext);
        self.revisions.insert(key, revision);
        Ok(())
    }

    /// Without them every Secret is an orphan, and no kube-apiserver was here.
    pub(crate) fn namespaces(&self) {
        for namespace in ["kube-system", "default"] {
            let key = format!("/registry/namespaces/{namespace}");
            self.etcd.ctl(&["put", &key, "k8s"]);
        }
    }

    /// Everything that a keyspace can be asked for, once.
    pub(crate) async fn round(&mut self, round: &str) {
        self.namespaces();
        for (writer, name) in WRITERS.iter().enumerate() {
            let name = name.replace('/', "-");
            for number in 0..3 {
                self.store(&format!("{round}-{name}-{number}"), writer)
                    .await;
            }
            let next = (writer + 1) % WRITERS.len();
            for writer in [next, writer] {
                self.store(&format!("{round}-{name}-1"), writer).await;
            }
            self.remove(&format!("{round}-{name}-2")).await;
        }

        // One who read it too long ago.
        let lost = key(&format!("{round}-identity-0"));
        let (_, value) = self.value(&lost, 0);
        let request = guarded(&lost, 1, put(&lost, value));
        assert!(!self.txn(request).await.unwrap().0);

        // A transaction within another one: what is compared is what was before both.
        let outer = key(&format!("{round}-outer"));
        let inner = key(&format!("{round}-inner"));
        let [(outer_text, outer_value), (inner_text, inner_value)] =
            [&outer, &inner].map(|key| self.value(key, 4));
        let within = TxnRequest {
            compare: vec![Compare {
                target: CompareTarget::Version as i32,
                result: CompareResult::Less as i32,
                key: outer.clone().into(),
                version: 1,
                ..Compare::default()
            }],
            success: vec![put(&inner, inner_value)],
            failure: vec![delete(&key(&format!("{round}-identity-0")))],
        };
        let request = TxnRequest {
            success: vec![
                put(&outer, outer_value),
                RequestOp {
                    request_txn: Some(within),
                    ..RequestOp::default()
                },
            ],
            ..TxnRequest::default()
        };
        let (_, revision) = self.txn(request).await.unwrap();
        for (key, text) in [(outer, outer_text), (inner, inner_text)] {
            self.plaintexts.insert(key.clone(), text);
            self.revisions.insert(key, revision);
        }

        // Requests that are no transactions, several keys at once, and what no key of ours wrote.
        let plain = key(&format!("{round}-plain"));
        let (text, value) = self.value(&plain, 0);
        let stored = String::from_utf8(value).unwrap();
        self.etcd.ctl(&["put", &plain, &stored]);
        self.plaintexts.insert(plain, text);
        let many = key(&format!("{round}-many"));
        let keys = [0, 1, 2].map(|number| format!("{many}-{number}"));
        let request = TxnRequest {
            success: keys.iter().map(|key| put(key, b"k8s\0".to_vec())).collect(),
            ..TxnRequest::default()
        };
        self.txn(request).await.unwrap();
        self.etcd.ctl(&["del", "--prefix", &many]);
        let unknown = "k8s:enc:aesgcm:v1:nobody:0123456789abcdef0123456789abcdef";
        self.etcd
            .ctl(&["put", &key(&format!("{round}-unknown")), unknown]);
        let orphan = format!("{SECRETS}gone/{round}-orphan");
        let (_, value) = self.value(&orphan, 5);
        let request = guarded(&orphan, 0, put(&orphan, value));
        self.txn(request).await.unwrap();

        self.leases(round).await;
    }

    async fn leases(&mut self, round: &str) {
        let [stays, goes] = [(); 2].map(|()| self.lease());
        self.store_leased(&format!("{round}-leased"), &stays)
            .await
            .unwrap();
        for number in 0..2 {
            let name = format!("{round}-revoked-{number}");
            self.store_leased(&name, &goes).await.unwrap();
        }
        // It leaves its lease, and stays when that goes.
        self.store_leased(&format!("{round}-moved"), &goes)
            .await
            .unwrap();
        self.store_leased(&format!("{round}-moved"), &stays)
            .await
            .unwrap();
        self.etcd.ctl(&["lease", "revoke", &goes]);
        for number in 0..2 {
            let key = key(&format!("{round}-revoked-{number}"));
            self.plaintexts.remove(&key);
            self.revisions.remove(&key);
        }
        // In the log, and refused.
        let late = self.store_leased(&format!("{round}-late"), &goes).await;
        assert!(late.unwrap_err().message().contains("lease not found"));
        let lease = format!("--lease={goes}");
        let refused = self
            .etcd
            .ctl_fails(&["put", &lease, &key(&format!("{round}-late")), "k8s"]);
        assert!(refused.contains("lease not found"), "{refused}");
        let absent = key(&format!("{round}-absent"));
        let refused = self
            .etcd
            .ctl_fails(&["put", "--ignore-lease", &absent, "k8s"]);
        assert!(refused.contains("key not found"), "{refused}");
        // It keeps its lease under another value, and its value without a lease.
        let leased = key(&format!("{round}-leased"));
        let (text, value) = self.value(&leased, 0);
        let stored = String::from_utf8(value).unwrap();
        self.etcd.ctl(&["put", "--ignore-lease", &leased, &stored]);
        self.plaintexts.insert(leased, text);
        let moved = key(&format!("{round}-moved"));
        self.etcd.ctl(&["put", "--ignore-value", &moved]);
    }

    /// Changes what a round left: what was removed comes back, and the reverse.
    pub(crate) async fn change(&mut self, round: &str) {
        for (writer, name) in WRITERS.iter().enumerate() {
            let name = name.replace('/', "-");
            self.store(&format!("{round}-{name}-0"), writer).await;
            let other = format!("{round}-{name}-1");
            match self.revisions.contains_key(&key(&other)) {
                true => self.remove(&other).await,
                false => self.store(&other, writer).await,
            }
        }
    }
}
