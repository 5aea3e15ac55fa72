//! Every kind of rotation, judged by etcd's own bytes.

use std::fs;
use std::path::Path;

use atrest_tests::atrest::{self, Ended};
use atrest_tests::plugin::Plugin;
use atrest_tests::processes::{ControlPlane, Options};
use atrest_tests::secrets::{self, Stored};
use atrest_tests::stored_values;

use crate::rotate::{FEW, key_names, rotate};

const KEY: &str = "b25lb25lb25lb25lb25lb25lb25lb25lb25lb25lb24=";

fn configuration(resources: &str, providers: &str) -> String {
    format!(
        "apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [{resources}]
  providers:
{providers}"
    )
}

fn one_key(provider: &str) -> String {
    format!(
        "  - {provider}:
      keys:
      # of long ago
      - name: old
        secret: {KEY}
"
    )
}

/// As the file stands, by the first words of each provider.
fn providers(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let known = ["aescbc", "aesgcm", "identity", "kms", "secretbox"];
    let lines = text.lines().filter_map(|line| {
        let (name, _) = line.trim().strip_prefix("- ")?.split_once(':')?;
        known.contains(&name).then(|| name.to_owned())
    });
    lines.collect()
}

struct Kinds {
    plane: ControlPlane,
    stored: Stored,
    bodies: String,
}

impl Kinds {
    async fn start(encryption_config: String) -> Self {
        let plane = ControlPlane::start(Options {
            encryption_config,
            ..Options::default()
        });
        let client = plane.client(0).await;
        let stored = FEW.store(&client, "kinds").await.unwrap();
        let bodies = secrets::bodies_digest(&client).await.unwrap();
        Self {
            plane,
            stored,
            bodies,
        }
    }

    fn file(&self) -> &Path {
        &self.plane.servers[0].encryption_config
    }

    /// Every value begins so, and every Secret is what it was.
    async fn assert_stored(&self, prefix: &str) {
        stored_values::assert_prefix(&self.plane, self.stored.len(), prefix);
        let client = self.plane.client(0).await;
        self.stored.assert_readable(&client).await;
        let bodies = secrets::bodies_digest(&client).await.unwrap();
        assert_eq!(bodies, self.bodies);
    }

    /// Of a local provider's one key.
    async fn assert_one_key(&self, provider: &str) {
        let keys = key_names(self.file());
        assert_eq!(keys.len(), 1, "{keys:?}");
        assert_eq!(providers(self.file()), [provider]);
        let prefix = format!("k8s:enc:{provider}:v1:{}:", keys[0]);
        self.assert_stored(&prefix).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn identity_that_is_first_and_the_way_to_plaintext_and_back() {
    let key = one_key("secretbox");
    let identity = "  - identity: {}\n";
    let old_first = configuration("secrets", &format!("{key}{identity}"));
    let kinds = Kinds::start(old_first).await;
    let plane = &kinds.plane;
    kinds.assert_stored("k8s:enc:secretbox:v1:old:").await;

    // identity is first: some values are under the key behind it, others get to be plaintext.
    let identity_first = configuration("secrets", &format!("{identity}{key}"));
    plane.load(0, identity_first.as_bytes());
    let touch = [
        "label",
        "secrets",
        "--namespace=kinds-0",
        "--all",
        "touched=yes",
    ];
    let untouch = [
        "label",
        "secrets",
        "--namespace=kinds-0",
        "--all",
        "touched-",
    ];
    for label in [touch, untouch] {
        assert!(
            plane
                .kubectl(0)
                .args(label)
                .output()
                .unwrap()
                .status
                .success()
        );
    }
    let values = stored_values::secrets(plane);
    let plaintext = values
        .values()
        .filter(|it| it.starts_with(b"k8s\0"))
        .count();
    assert_eq!(plaintext, 20, "a third of them");
    rotate(plane, "run", &["--to", "secretbox"]).expect(0);
    let keys = key_names(kinds.file());
    assert_eq!(
        (keys.len(), providers(kinds.file())),
        (1, vec!["secretbox".into()])
    );
    let prefix = format!("k8s:enc:secretbox:v1:{}:", keys[0]);
    stored_values::assert_prefix(plane, kinds.stored.len(), &prefix);
    let client = plane.client(0).await;
    kinds.stored.assert_readable(&client).await;
    let bodies = secrets::bodies_digest(&client).await.unwrap();
    let kinds = Kinds { bodies, ..kinds };
    let plane = &kinds.plane;

    // To plaintext: asked twice, and one word is not enough.
    let before = fs::read(kinds.file()).unwrap();
    let planned = rotate(plane, "plan", &["--to", "identity"])
        .expect(0)
        .stdout;
    for told in [
        "rotate to identity",
        "~ promote    identity, secretbox",
        "in plaintext",
    ] {
        assert!(planned.contains(told), "{planned}");
    }
    let refused = rotate(plane, "run", &["--to", "identity"]).expect(2);
    assert!(
        refused.stderr.contains("--accept-plaintext"),
        "{}",
        refused.stderr
    );
    assert_eq!(fs::read(kinds.file()).unwrap(), before);
    kinds.assert_one_key("secretbox").await;
    for (engine, back) in [("api", "aesgcm"), ("etcd", "aescbc")] {
        let to_plaintext = ["--to", "identity", "--accept-plaintext", "--engine", engine];
        let done = rotate(plane, "run", &to_plaintext).expect(0);
        assert!(done.stdout.contains("are in plaintext"), "{}", done.stdout);
        assert_eq!(providers(kinds.file()), ["identity"]);
        kinds.assert_stored("k8s\0").await;
        rotate(plane, "run", &["--to", back]).expect(0);
        kinds.assert_one_key(back).await;
    }

    // Back to the key from amid it, and back to plaintext from the key.
    let held = ["--to", "identity", "--accept-plaintext", "--hold", "1h"];
    rotate(plane, "run", &held).expect(4);
    assert_eq!(providers(kinds.file()), ["identity", "aescbc"]);
    kinds.assert_stored("k8s\0").await;
    rotate(plane, "rollback", &[]).expect(0);
    kinds.assert_one_key("aescbc").await;
    rotate(plane, "run", &["--to", "identity", "--accept-plaintext"]).expect(0);
    rotate(plane, "run", &["--to", "secretbox", "--hold", "1h"]).expect(4);
    let refused = rotate(plane, "rollback", &[]).expect(2);
    assert!(
        refused.stderr.contains("--accept-plaintext"),
        "{}",
        refused.stderr
    );
    rotate(plane, "rollback", &["--accept-plaintext"]).expect(0);
    assert_eq!(providers(kinds.file()), ["identity"]);
    kinds.assert_stored("k8s\0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_key_to_a_plugin_to_another_and_back_to_a_key() {
    let kinds = Kinds::start(configuration("secrets", &one_key("aescbc"))).await;
    let plane = &kinds.plane;
    let plugins = [Plugin::start(), Plugin::start()];
    for (name, plugin) in ["one", "two"].iter().zip(&plugins) {
        let socket = format!("{name}={}", plugin.socket().display());
        let to = ["--to", "kms", "--kms-socket", &socket];
        rotate(plane, "run", &to).expect(0);
        assert_eq!(providers(kinds.file()), ["kms"]);
        kinds
            .assert_stored(&format!("k8s:enc:kms:v2:{name}:"))
            .await;
    }
    rotate(plane, "run", &["--to", "secretbox"]).expect(0);
    kinds.assert_one_key("secretbox").await;

    // Back to the plugin, from where it has written nothing yet, and from where it has written all.
    let socket = format!("one={}", plugins[0].socket().display());
    rotate(plane, "run", &["--to", "kms", "--kms-socket", &socket]).expect(0);
    rotate(plane, "run", &["--to", "aesgcm", "--hold", "1h"]).expect(4);
    assert_eq!(providers(kinds.file()), ["aesgcm", "kms"]);
    rotate(plane, "rollback", &[]).expect(0);
    assert_eq!(providers(kinds.file()), ["kms"]);
    kinds.assert_stored("k8s:enc:kms:v2:one:").await;
}

/// How the values of ConfigMaps begin.
fn config_maps(plane: &ControlPlane) -> Vec<String> {
    let output = plane
        .etcdctl()
        .args([
            "get",
            "/registry/configmaps/",
            "--prefix",
            "--print-value-only",
        ])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("k8s:enc:"));
    lines
        .map(|line| line.split(':').take(3).collect::<Vec<_>>().join(":"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_resource_of_several_is_rotated_alone() {
    let kinds = Kinds::start(configuration("secrets, configmaps", &one_key("secretbox"))).await;
    let plane = &kinds.plane;
    let of_old = config_maps(plane);
    assert!(
        !of_old.is_empty() && of_old.iter().all(|it| it == "secretbox:v1:old"),
        "{of_old:?}"
    );
    let planned = rotate(plane, "plan", &["--resource", "secrets"])
        .expect(0)
        .stdout;
    let told = "  secrets\n    now        secretbox old\n  + add_read   secretbox old <new key>\n";
    assert!(planned.contains(told), "{planned}");

    rotate(plane, "run", &["--resource", "secrets"]).expect(0);
    let keys = key_names(kinds.file());
    assert_eq!((keys.len(), keys[0].as_str()), (2, "old"));
    let of_secrets = format!("k8s:enc:secretbox:v1:{}:", keys[1]);
    kinds.assert_stored(&of_secrets).await;
    assert_eq!(config_maps(plane), of_old);
    let text = fs::read_to_string(kinds.file()).unwrap();
    assert!(text.contains("# of long ago"), "{text}");

    // They have entries of their own now.
    rotate(
        plane,
        "run",
        &["--resource", "configmaps", "--to", "aesgcm"],
    )
    .expect(0);
    let keys = key_names(kinds.file());
    assert_eq!(keys.len(), 2);
    kinds.assert_stored(&of_secrets).await;
    let aesgcm = format!("aesgcm:v1:{}", keys[0]);
    let now = config_maps(plane);
    assert_eq!(
        (now.len(), now.iter().all(|it| *it == aesgcm)),
        (of_old.len(), true),
        "{now:?}"
    );

    // And together again, to one key.
    rotate(plane, "run", &["--to", "secretbox"]).expect(0);
    let keys = key_names(kinds.file());
    assert_eq!((keys.len(), &keys[0]), (2, &keys[1]));
    let refused = rotate(
        plane,
        "plan",
        &["--to", "kms", "--kms-socket", "a=/nonexistent"],
    );
    let refused = refused.expect(2);
    assert!(
        refused.stderr.contains("can stand in one entry"),
        "{}",
        refused.stderr
    );
    let refused = rotate(plane, "plan", &["--resource", "pods"]).expect(2);
    assert!(
        refused
            .stderr
            .contains("no entry of the configuration covers pods"),
        "{refused:?}"
    );
}

/// The file stays as it is, to the byte: only the plugin has another key.
#[tokio::test(flavor = "multi_thread")]
async fn a_plugins_key_is_rotated_in_place() {
    let plugin = Plugin::start();
    let config = plugin.encryption_config().replace("  - identity: {}\n", "");
    let plane = ControlPlane::start(Options {
        servers: 2,
        encryption_config: config.clone(),
        ..Options::default()
    });
    let client = plane.client(0).await;
    let stored = FEW.store(&client, "in-place").await.unwrap();
    let file = atrest::rotation_yaml(&plane, 2, "");
    let socket = format!("atrest={}", plugin.socket().display());
    let rotate = |action: &str, more: &[&str]| -> Ended {
        let to = ["--to", "kms", "--kms-socket", &socket];
        let mut command = atrest::rotate_by(&plane, &file, action, more);
        if action != "resume" {
            command.args(to);
        }
        command.output().unwrap().into()
    };
    let assert_under = |key_id: &str| {
        let values = stored_values::secrets(&plane);
        assert_eq!(values.len(), stored.len());
        for (key, value) in values {
            assert!(value.starts_with(b"k8s:enc:kms:v2:atrest:"), "{key}");
            let mut windows = value.windows(key_id.len());
            assert!(
                windows.any(|it| it == key_id.as_bytes()),
                "{key} is not under {key_id}"
            );
        }
    };
    let first = plugin.active_key_id();
    assert_under(&first);
    let refused = rotate("run", &[]).expect(2);
    let told = "everything is under the key that the plugin has";
    assert!(refused.stderr.contains(told), "{}", refused.stderr);

    let second = plugin.change_key();
    assert_ne!(first, second);
    let planned = rotate("plan", &[]).expect(0).stdout;
    for told in [
        "stays      kms v2 atrest",
        "60 under another key",
        "no file is written",
    ] {
        assert!(planned.contains(told), "{planned}");
    }
    let done = rotate("run", &["--hold", "1h"]).expect(4);
    for told in [
        "waiting until it has taken up the plugin's key",
        "60 of 60 objects rewritten",
        "holding",
    ] {
        assert!(done.stderr.contains(told), "{}", done.stderr);
    }
    assert!(!done.stderr.contains("wrote"), "{}", done.stderr);
    assert_under(&second);
    let refused = rotate("rollback", &[]).expect(2);
    assert!(
        refused.stderr.contains("changed no file"),
        "{}",
        refused.stderr
    );

    // Once more, while the run is held: it goes to the key that the plugin has.
    let third = plugin.change_key();
    let other = rotate("run", &[]).expect(2);
    assert!(other.stderr.contains("is not finished"), "{}", other.stderr);
    rotate("resume", &[]).expect(4);
    assert_under(&third);
    for server in &plane.servers {
        stored.assert_readable(&server.client().await).await;
        assert_eq!(
            fs::read_to_string(&server.encryption_config).unwrap(),
            config
        );
    }
}
