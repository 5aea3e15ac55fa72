//! Keys that rotate without a pause while clients create, change, read and delete Secrets through every API
//! server: nobody sees an error, nothing is lost, and no server answers from a cache that stands still.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use atrest_tests::atrest::{self, Ended};
use atrest_tests::processes::{ControlPlane, Options};
use atrest_tests::stored_values;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, GetParams, ObjectMeta, PostParams};

use crate::rotate::{FEW, key_names};

/// Secrets that each client has at most.
const OWNED: usize = 20;

/// Between two rounds of a client: API servers and the rotation share two cores with it.
const PAUSE: Duration = Duration::from_millis(10);

/// What all clients met.
#[derive(Default)]
struct Met {
    requests: AtomicUsize,
    errors: Mutex<Vec<String>>,
}

impl Met {
    fn count<T>(&self, what: &str, answer: kube::Result<T>) -> Option<T> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        match answer {
            Ok(answer) => Some(answer),
            Err(error) => {
                self.errors.lock().unwrap().push(format!("{what}: {error}"));
                None
            }
        }
    }
}

/// A client that writes through one API server and reads through the next.
struct Writer {
    number: usize,
    through: Api<Secret>,
    beside: Api<Secret>,
    /// The content of each Secret of its own.
    expected: BTreeMap<String, Vec<u8>>,
    round: usize,
}

impl Writer {
    async fn go_on_until(
        mut self,
        end: Arc<AtomicBool>,
        met: Arc<Met>,
    ) -> BTreeMap<String, Vec<u8>> {
        while !end.load(Ordering::Relaxed) {
            self.round += 1;
            self.write(&met).await;
            if self.round.is_multiple_of(3) {
                self.delete(&met).await;
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.expected
    }

    async fn write(&mut self, met: &Met) {
        let name = format!("writer-{}-{}", self.number, self.round % OWNED);
        let content = format!("round {} of writer {}", self.round, self.number).into_bytes();
        let data = [("value".to_owned(), ByteString(content.clone()))];
        let mut secret = Secret {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                ..ObjectMeta::default()
            },
            data: Some(data.into()),
            ..Secret::default()
        };
        let params = PostParams::default();
        let written = if self.expected.contains_key(&name) {
            let read = met.count("get", self.through.get(&name).await);
            let Some(read) = read else { return };
            secret.metadata.resource_version = read.metadata.resource_version;
            match self.through.replace(&name, &params, &secret).await {
                // Re-encryption is a write, too: a client that loses the race reads again.
                Err(kube::Error::Api(status)) if status.code == 409 => return,
                answer => met.count("update", answer),
            }
        } else {
            met.count("create", self.through.create(&params, &secret).await)
        };
        let Some(written) = written else { return };
        self.expected.insert(name.clone(), content);
        // From the watch cache of another server, which must have come as far: one that stands still
        // says 504.
        let version = written.metadata.resource_version.unwrap();
        let not_older = GetParams::at(&version);
        let seen = met.count("read", self.beside.get_with(&name, &not_older).await);
        let seen = seen.and_then(|seen| seen.data?.remove("value"));
        if seen.is_some_and(|seen| Some(&seen.0) != self.expected.get(&name)) {
            met.errors.lock().unwrap().push(format!("{name} is stale"));
        }
    }

    async fn delete(&mut self, met: &Met) {
        let oldest = self.expected.keys().next().cloned();
        let Some(name) = oldest else { return };
        let params = DeleteParams::default();
        if met
            .count("delete", self.through.delete(&name, &params).await)
            .is_some()
        {
            self.expected.remove(&name);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_rotate_under_writers_that_never_stop() {
    let rotations = match std::env::var_os("ATREST_LONG") {
        Some(_) => 20,
        None => 3,
    };
    let plane = ControlPlane::start(Options {
        servers: 3,
        request_timeout: Duration::from_secs(3),
        ..Options::default()
    });
    let stored = FEW.store(&plane.client(0).await, "soak").await.unwrap();
    let file = atrest::rotation_yaml(&plane, 3, "");
    let rotate = |to: &str| -> Ended {
        atrest::rotate_by(&plane, &file, "run", &["--to", to])
            .output()
            .unwrap()
            .into()
    };
    let (end, met) = (Arc::new(AtomicBool::new(false)), Arc::new(Met::default()));
    let mut writers = Vec::new();
    for number in 0..plane.servers.len() {
        let beside = (number + 1) % plane.servers.len();
        let writer = Writer {
            number,
            through: Api::namespaced(plane.client(number).await, "default"),
            beside: Api::namespaced(plane.client(beside).await, "default"),
            expected: BTreeMap::new(),
            round: 0,
        };
        writers.push(tokio::spawn(writer.go_on_until(end.clone(), met.clone())));
    }

    for round in 0..rotations {
        let to = ["secretbox", "aesgcm", "aescbc"][round % 3];
        tokio::task::block_in_place(|| rotate(to)).expect(0);
        let keys = key_names(&plane.servers[0].encryption_config);
        assert_eq!(keys.len(), 1);
        let prefix = format!("k8s:enc:{to}:v1:{}:", keys[0]);
        for (key, value) in stored_values::secrets(&plane) {
            assert!(
                value.starts_with(prefix.as_bytes()),
                "{key} in rotation {round}"
            );
        }
        let errors = met.errors.lock().unwrap();
        assert!(errors.is_empty(), "in rotation {round}: {errors:?}");
    }

    end.store(true, Ordering::Relaxed);
    let mut expected = BTreeMap::new();
    for writer in writers {
        expected.extend(writer.await.unwrap());
    }
    let errors = met.errors.lock().unwrap().clone();
    assert!(errors.is_empty(), "{errors:?}");
    for server in &plane.servers {
        let client = server.client().await;
        stored.assert_readable(&client).await;
        let api: Api<Secret> = Api::namespaced(client, "default");
        let all = api.list(&Default::default()).await.unwrap().items;
        let found: BTreeMap<_, _> = all
            .into_iter()
            .map(|secret| {
                let content = secret.data.and_then(|mut data| data.remove("value"));
                (secret.metadata.name.unwrap(), content.unwrap().0)
            })
            .collect();
        assert!(
            found == expected,
            "a Secret is lost, came back, or has other content"
        );
    }
    let requests = met.requests.load(Ordering::Relaxed);
    eprintln!("{rotations} rotations under {requests} requests of clients, none failed");
}
