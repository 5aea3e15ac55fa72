//! What shows at the canaries stops the run while nothing else was written.

use std::fs;
use std::time::{Duration, Instant};

use atrest_tests::plugin::Plugin;
use atrest_tests::processes::{ControlPlane, Options};
use atrest_tests::stored_values;

use super::{IDENTITY, assert_no_canaries, configuration, reencrypt};
use crate::rotate::FEW;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_has_not_taken_up_the_key_is_named_and_nothing_is_changed() {
    let plugin = Plugin::start();
    let kms = format!(
        "  - kms: {{apiVersion: v2, name: atrest, endpoint: \"unix://{}\", timeout: 3s}}\n",
        plugin.socket().display()
    );
    let plane = ControlPlane::start(Options {
        servers: 2,
        ..Options::default()
    });
    let stored = FEW.store(&plane.client(0).await, "lag").await.unwrap();
    let before = stored_values::secrets(&plane);
    let config = configuration(&["secrets"], &[&kms, IDENTITY]);
    for server in 0..2 {
        plane.load(server, config.as_bytes());
    }

    // A plugin of the same keyring that has gone on to a key which the servers' plugin lacks.
    let ahead = Plugin::start();
    fs::copy(plugin.keyring_file(), ahead.keyring_file()).unwrap();
    ahead.keyring(&["add"]);
    ahead.keyring(&["activate"]);
    let key_id = ahead.active_key_id();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !ahead.log().contains(&key_id) {
        assert!(Instant::now() < deadline, "{}", ahead.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    let socket = format!("atrest={}", ahead.socket().display());
    let [first, second] = [0, 1].map(|server| plane.servers[server].url.clone());
    let both = ["--server", &first, "--server", &second];
    let run = [&both[..], &["--kms-socket", &socket]].concat();
    let refused = reencrypt(&plane, &run).expect(2).stderr;
    assert!(refused.contains("writes with another key"), "{refused}");
    assert!(refused.contains(&first), "{refused}");
    assert_no_canaries(&plane);
    assert_eq!(stored_values::secrets(&plane), before);
    for server in 0..2 {
        stored.assert_readable(&plane.client(server).await).await;
    }
    // With the servers' own plugin, through both of them.
    reencrypt(&plane, &both).expect(0);
    stored_values::assert_prefix(&plane, stored.len(), "k8s:enc:kms:v2:atrest:");
    for server in 0..2 {
        stored.assert_readable(&plane.client(server).await).await;
    }
}
