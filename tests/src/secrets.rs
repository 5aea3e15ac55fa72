//! Secrets that a test stores and compares again: real bytes of known digests.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::stream::{self, StreamExt, TryStreamExt};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ListParams, PostParams};
use sha2::{Digest, Sha256};

/// Requests in flight while Secrets are created.
const IN_FLIGHT: usize = 16;

/// Secrets that were stored, by namespace and name, with the SHA-256 of their data.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    digests: BTreeMap<(String, String), [u8; 32]>,
}

/// How many Secrets to store, and how.
#[derive(Clone, Copy, Debug)]
pub struct Population {
    /// Secrets in all.
    pub secrets: usize,
    /// Namespaces that they are spread over; they are created.
    pub namespaces: usize,
    /// Bytes of data of the smallest.
    pub smallest: usize,
    /// Bytes of data of the largest; sizes between the two double.
    pub largest: usize,
}

impl Population {
    /// Creates namespaces `<prefix>-0` and so on, and the Secrets in them.
    pub async fn store(self, client: &kube::Client, prefix: &str) -> kube::Result<Stored> {
        let namespaces: Api<Namespace> = Api::all(client.clone());
        for i in 0..self.namespaces {
            let namespace = Namespace {
                metadata: named(&format!("{prefix}-{i}")),
                ..Namespace::default()
            };
            namespaces
                .create(&PostParams::default(), &namespace)
                .await?;
        }
        let digests = stream::iter(0..self.secrets)
            .map(|i| async move {
                let namespace = format!("{prefix}-{}", i % self.namespaces);
                let secret = self.secret(i, &namespace);
                let api: Api<Secret> = Api::namespaced(client.clone(), &namespace);
                api.create(&PostParams::default(), &secret).await?;
                let name = secret.metadata.name.clone().unwrap_or_default();
                Ok::<_, kube::Error>(((namespace, name), data_digest(&secret)))
            })
            .buffer_unordered(IN_FLIGHT)
            .try_collect()
            .await?;
        Ok(Stored { digests })
    }

    fn secret(self, i: usize, namespace: &str) -> Secret {
        let mut size = self.smallest;
        for _ in 0..i % 9 {
            size = (size * 2).min(self.largest);
        }
        Secret {
            metadata: ObjectMeta {
                labels: Some([("app".to_owned(), format!("app-{}", i % 7))].into()),
                namespace: Some(namespace.to_owned()),
                ..named(&format!("secret-{i:05}"))
            },
            data: Some([("value".to_owned(), ByteString(bytes(i as u64, size)))].into()),
            ..Secret::default()
        }
    }
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    }
}

/// Bytes that look random, and are the same for the same seed.
fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let blocks = (0_u64..).flat_map(|block| {
        Sha256::new()
            .chain_update(seed.to_be_bytes())
            .chain_update(block.to_be_bytes())
            .finalize()
    });
    blocks.take(length).collect()
}

fn data_digest(secret: &Secret) -> [u8; 32] {
    let mut digest = Sha256::new();
    for (key, value) in secret.data.iter().flatten() {
        for part in [key.as_bytes(), &value.0] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
    }
    digest.finalize().into()
}

/// Every Secret of the cluster, page by page.
pub async fn list(client: &kube::Client) -> kube::Result<Vec<Secret>> {
    let api: Api<Secret> = Api::all(client.clone());
    let mut secrets = Vec::new();
    let mut token = None;
    loop {
        let mut params = ListParams::default().limit(200);
        params.continue_token = token;
        let page = api.list(&params).await?;
        secrets.extend(page.items);
        token = page.metadata.continue_.filter(|token| !token.is_empty());
        if token.is_none() {
            return Ok(secrets);
        }
    }
}

/// Of everything in every Secret that a rewrite must not change: data, type, labels, annotations,
/// managedFields, generation and uid. Only the resourceVersion may move.
pub async fn bodies_digest(client: &kube::Client) -> kube::Result<String> {
    let mut digest = Sha256::new();
    for mut secret in list(client).await? {
        secret.metadata.resource_version = None;
        digest.update(serde_json::to_vec(&secret).expect("it came as JSON"));
    }
    Ok(data_encoding::HEXLOWER.encode(&digest.finalize()))
}

impl Stored {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.digests.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }

    /// All but some, by namespace and name.
    pub fn without(mut self, others: impl IntoIterator<Item = (String, String)>) -> Self {
        for other in others {
            self.digests.remove(&other);
        }
        self
    }

    /// Reads every Secret through the API and compares its data with what was stored. Waits for an
    /// API server that comes back.
    pub async fn assert_readable(&self, client: &kube::Client) {
        let mut tries = 0;
        let secrets = loop {
            match list(client).await {
                Ok(secrets) => break secrets,
                Err(error) if tries == 20 => panic!("Secrets cannot be read: {error}"),
                Err(_) => tries += 1,
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        };
        let read: BTreeMap<_, _> = secrets
            .iter()
            .map(|secret| {
                let metadata = &secret.metadata;
                let key = (
                    metadata.namespace.clone().unwrap_or_default(),
                    metadata.name.clone().unwrap_or_default(),
                );
                (key, data_digest(secret))
            })
            .filter(|(key, _)| self.digests.contains_key(key))
            .collect();
        assert!(read == self.digests, "some Secret changed or is gone");
    }
}
