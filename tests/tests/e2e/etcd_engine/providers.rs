//! From every provider to every other one, and what must not change on the way.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use atrest_tests::plugin::Plugin;
use atrest_tests::processes::{ControlPlane, Options};
use atrest_tests::secrets::Population;
use atrest_tests::{atrest, secrets, stored_values};
use data_encoding::BASE64;
use k8s_openapi::api::core::v1::{Event, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ListParams, PostParams};
use serde_json::Value;

use super::{
    IDENTITY, assert_no_canaries, assert_rewrites, configuration, etcdctl, local, reencrypt,
};
use crate::rotate::FEW;

fn kms(plugin: &Plugin) -> String {
    let socket = plugin.socket();
    format!(
        "  - kms: {{apiVersion: v2, name: atrest, endpoint: \"unix://{}\", timeout: 3s}}\n",
        socket.display()
    )
}

/// The providers of a way that takes each road between two of them once, in each direction, and also
/// the one from a key to another of the same provider.
fn way(providers: usize) -> Vec<usize> {
    let mut roads = vec![vec![true; providers]; providers];
    let mut way = Vec::new();
    let mut at = vec![0];
    // Hierholzer's: of every place as many roads lead away as to it.
    while let Some(here) = at.last().copied() {
        match roads[here].iter().position(|is_open| *is_open) {
            Some(next) => {
                roads[here][next] = false;
                at.push(next);
            }
            None => way.extend(at.pop()),
        }
    }
    way.reverse();
    way
}

#[tokio::test(flavor = "multi_thread")]
async fn from_every_provider_to_every_other_with_every_byte_intact() {
    let plugin = Plugin::start();
    let plane = ControlPlane::start(Options {
        reload_poll: Some(Duration::from_millis(300)),
        ..Options::default()
    });
    let client = plane.client(0).await;
    let stored = FEW.store(&client, "pairs").await.unwrap();
    let bodies = secrets::bodies_digest(&client).await.unwrap();
    let plaintext = stored_values::secrets(&plane);
    let names = ["identity", "aescbc", "aesgcm", "secretbox", "kms"];
    let way = way(names.len());
    assert_eq!(way.len(), names.len() * names.len() + 1);

    let mut last = IDENTITY.to_owned();
    let mut key = 0;
    for (step, to) in way.into_iter().enumerate().skip(1) {
        key += 1;
        let key_name = format!("k{key}");
        let new_key = [(&*key_name, key)];
        let (provider, prefix) = match names[to] {
            "identity" => (IDENTITY.to_owned(), "k8s\0".to_owned()),
            "kms" => {
                // Its own key changes: what it wrapped before is stale.
                if last == kms(&plugin) {
                    plugin.keyring(&["add"]);
                    plugin.keyring(&["activate"]);
                    let id = plugin.active_key_id();
                    until_serves(&plugin, &id);
                }
                (kms(&plugin), "k8s:enc:kms:v2:atrest:".to_owned())
            }
            name => (
                local(name, &new_key),
                format!("k8s:enc:{name}:v1:{key_name}:"),
            ),
        };
        let is_stale = provider != last || names[to] == "kms";
        let chain = match last == provider {
            true => vec![&*provider],
            false => vec![&*provider, &*last],
        };
        let config = configuration(&["secrets"], &chain) + &format!("# {step}\n");
        plane.load(0, config.as_bytes());
        let count = stored.len();
        let (rewritten, current) = if is_stale { (count, 0) } else { (0, count) };
        assert_rewrites(&plane, rewritten, current);
        stored_values::assert_prefix(&plane, count, &prefix);
        if names[to] == "identity" {
            assert!(
                stored_values::secrets(&plane) == plaintext,
                "some byte changed"
            );
        }
        if names[to] == "kms" {
            let id = plugin.active_key_id();
            let values = stored_values::secrets(&plane);
            let has_id = |value: &Vec<u8>| value.windows(id.len()).any(|it| it == id.as_bytes());
            assert!(values.values().all(has_id), "some value is not under {id}");
        }
        // Only the new provider is left: whatever is read, it wrote.
        let config = configuration(&["secrets"], &[&provider]) + &format!("# {step}, alone\n");
        plane.load(0, config.as_bytes());
        stored.assert_readable(&client).await;
        assert_eq!(secrets::bodies_digest(&client).await.unwrap(), bodies);
        assert_rewrites(&plane, 0, count);
        last = provider;
    }
    assert_no_canaries(&plane);
}

fn until_serves(plugin: &Plugin, key_id: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !plugin.log().contains(key_id) {
        assert!(Instant::now() < deadline, "{}", plugin.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Calls of our program that the plugin logged.
fn calls(plugin: &Plugin, method: &str) -> usize {
    let log = plugin.log();
    let of_ours = |line: &&str| line.contains(&format!("{method} uid=atrest-"));
    log.lines().filter(of_ours).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_wraps_one_seed_a_run_and_unwraps_each_old_one_once() {
    let plugin = Plugin::start();
    let mut plane = ControlPlane::start(Options {
        encryption_config: configuration(&["secrets"], &[&kms(&plugin), IDENTITY]),
        ..Options::default()
    });
    // Each start of an API server makes a seed of its own.
    const SEEDS: usize = 4;
    const MANY: Population = Population {
        secrets: 2_500,
        namespaces: 5,
        smallest: 64,
        largest: 1 << 10,
    };
    let mut stored = Vec::new();
    for seed in 0..SEEDS {
        if seed > 0 {
            plane.restart(0);
        }
        let client = plane.client(0).await;
        stored.push(MANY.store(&client, &format!("seed-{seed}")).await.unwrap());
    }
    let count: usize = stored.iter().map(|it| it.len()).sum();
    plugin.keyring(&["add"]);
    plugin.keyring(&["activate"]);
    until_serves(&plugin, &plugin.active_key_id());
    // Loaded anew, the server asks for the key_id at once.
    let config = configuration(&["secrets"], &[&kms(&plugin), IDENTITY]) + "# again\n";
    plane.load(0, config.as_bytes());

    assert_rewrites(&plane, count, 0);
    assert_eq!(calls(&plugin, "Encrypt"), 1, "{}", plugin.log());
    // Besides, the seed under which the API server wrote the canaries.
    assert_eq!(calls(&plugin, "Decrypt"), SEEDS + 1, "{}", plugin.log());
    let client = plane.client(0).await;
    for stored in &stored {
        stored.assert_readable(&client).await;
    }
    // One seed for all of them, as `verify` tells seeds apart.
    let mut verify = vec!["verify".to_owned(), "--output".into(), "json".into()];
    verify.extend(atrest::flags(&plane, 0));
    verify.extend(["--decrypt".into(), "--config".into()]);
    verify.push(plane.servers[0].encryption_config.display().to_string());
    let report = atrest::run(&verify).expect(0).json();
    let by_key = &report["resources"][0]["by_key"];
    assert_eq!(by_key[0]["count"], count, "{report}");
    assert_eq!(
        by_key[0]["seeds"].as_array().map(Vec::len),
        Some(1),
        "{report}"
    );

    // What is current is known by its envelope: nothing more is asked to be unwrapped.
    let decrypted = calls(&plugin, "Decrypt");
    assert_rewrites(&plane, 0, count);
    assert_eq!(calls(&plugin, "Encrypt"), 2);
    assert_eq!(calls(&plugin, "Decrypt"), decrypted);
}

/// The lease of each Secret and event, by key.
fn leases(plane: &ControlPlane) -> BTreeMap<String, Value> {
    let answer = etcdctl(
        plane,
        &["get", "/registry/", "--prefix", "--write-out=json"],
    );
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let pairs = answer["kvs"].as_array().unwrap().iter().map(|pair| {
        let key = BASE64
            .decode(pair["key"].as_str().unwrap().as_bytes())
            .unwrap();
        (String::from_utf8(key).unwrap(), pair["lease"].clone())
    });
    let is_ours = |key: &str| key.starts_with("/registry/secrets/") || key.contains("/events/");
    pairs.filter(|(key, _)| is_ours(key)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_a_time_to_live_keeps_it() {
    let resources = ["secrets", "events"];
    let plane = ControlPlane::start(Options {
        encryption_config: configuration(&resources, &[IDENTITY]),
        ..Options::default()
    });
    let client = plane.client(0).await;
    let stored = FEW.store(&client, "leased").await.unwrap();
    let event = |i: usize| Event {
        metadata: ObjectMeta {
            name: Some(format!("event-{i}")),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            namespace: Some("default".into()),
            ..ObjectReference::default()
        },
        reason: Some("Tested".into()),
        ..Event::default()
    };
    let events: Api<Event> = Api::namespaced(client.clone(), "default");
    for i in 0..20 {
        events
            .create(&PostParams::default(), &event(i))
            .await
            .unwrap();
    }
    let granted = etcdctl(&plane, &["lease", "grant", "600"]);
    let lease = granted.split_whitespace().nth(1).unwrap();
    let leased = "/registry/secrets/leased-0/secret-00000";
    etcdctl(&plane, &["put", leased, "--ignore-value", "--lease", lease]);
    let before = leases(&plane);
    assert!(!before[leased].is_null());
    let of_events = || before.iter().filter(|(key, _)| key.contains("/events/"));
    assert!(of_events().count() >= 20);
    assert!(of_events().all(|(_, lease)| !lease.is_null()), "{before:?}");

    let config = configuration(&resources, &[&local("aesgcm", &[("k1", 1)]), IDENTITY]);
    plane.load(0, config.as_bytes());
    let run = reencrypt(&plane, &["--resource", "secrets", "--resource", "events"]).expect(0);
    let reports: Vec<Value> = serde_json::Deserializer::from_str(&run.stdout)
        .into_iter()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(reports[0]["objects"]["rewritten"], stored.len());
    assert_eq!(reports[1]["objects"]["rewritten"], of_events().count());
    assert_eq!(leases(&plane), before);
    let values = etcdctl(
        &plane,
        &["get", "/registry/events/", "--prefix", "--print-value-only"],
    );
    assert_eq!(
        values.matches("k8s:enc:aesgcm:v1:k1:").count(),
        of_events().count()
    );
    stored.assert_readable(&client).await;
    let listed = events.list(&ListParams::default()).await.unwrap();
    assert_eq!(listed.items.len(), of_events().count());

    // An API server writes an event with a lease, too, whoever asks it to.
    let keys = local("aesgcm", &[("k2", 2), ("k1", 1)]);
    plane.load(0, configuration(&resources, &[&keys, IDENTITY]).as_bytes());
    let mut by_api = vec!["reencrypt".to_owned(), "--resource".into(), "events".into()];
    by_api.extend(["--output".into(), "json".into()]);
    by_api.extend(atrest::flags(&plane, 0));
    let report = atrest::run(by_api).expect(0).json();
    assert_eq!(report["objects"]["rewritten"], of_events().count());
    let after = leases(&plane);
    for (key, _) in of_events() {
        assert!(!after[key].is_null(), "{key} has lost its lease");
    }
}
