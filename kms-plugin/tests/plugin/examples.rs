//! The manifests in `examples/atrest-kms` fit this program, and each other.

use std::path::Path;

use serde_json::Value;

use crate::folder::{Folder, read, write};
use crate::plugin::{Plugin, SEED};

fn example(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../examples/atrest-kms")
        .join(name);
    serde_yaml::from_slice(&read(&path)).unwrap()
}

/// The host directories of a pod and the paths at which its container has them.
fn mounts(pod: &Value) -> Vec<(String, String)> {
    let volumes = pod["spec"]["volumes"].as_array().unwrap();
    let mounts = pod["spec"]["containers"][0]["volumeMounts"]
        .as_array()
        .unwrap();
    let host = |name: &Value| {
        let volume = volumes
            .iter()
            .find(|volume| volume["name"] == *name)
            .unwrap();
        volume["hostPath"]["path"].as_str().unwrap().to_owned()
    };
    assert_eq!(volumes.len(), mounts.len());
    mounts
        .iter()
        .map(|mount| {
            (
                host(&mount["name"]),
                mount["mountPath"].as_str().unwrap().to_owned(),
            )
        })
        .collect()
}

#[test]
fn the_static_pod_needs_nothing_of_the_api_server() {
    let pod = example("atrest-kms.yaml");
    for volume in pod["spec"]["volumes"].as_array().unwrap() {
        assert!(volume["hostPath"]["path"].is_string(), "{volume}");
        assert!(
            volume["hostPath"]["type"]
                .as_str()
                .unwrap()
                .starts_with("Directory"),
            "{volume}"
        );
    }
    assert_eq!(pod["spec"]["hostNetwork"], true);
    assert_eq!(pod["spec"]["automountServiceAccountToken"], false);
    assert!(pod["spec"]["serviceAccountName"].is_null());
    assert!(pod["spec"]["containers"][0]["env"].is_null());
    assert!(pod["spec"]["containers"][0]["envFrom"].is_null());
}

#[test]
fn r24_the_api_server_finds_the_socket_where_the_plugin_puts_it() {
    let pod = example("atrest-kms.yaml");
    let command = pod["spec"]["containers"][0]["command"].as_array().unwrap();
    let socket = command
        .iter()
        .find_map(|word| word.as_str().unwrap().strip_prefix("--socket="))
        .unwrap();
    let configuration = example("encryption-configuration.yaml");
    let kms = &configuration["resources"][0]["providers"][0]["kms"];
    assert_eq!(kms["endpoint"], format!("unix://{socket}"));

    let directory = Path::new(socket).parent().unwrap().to_str().unwrap();
    let directory = (directory.to_owned(), directory.to_owned());
    assert!(mounts(&pod).contains(&directory));
}

#[tokio::test]
async fn the_static_pods_command_serves() {
    let folder = Folder::new();
    let key = folder.path("keyring.key");
    write(&key, &[5; 32]);
    folder.ok(&[
        "keyring",
        "init",
        "--seal",
        "key-file",
        "--key-file",
        key.to_str().unwrap(),
    ]);

    let pod = example("atrest-kms.yaml");
    let command = pod["spec"]["containers"][0]["command"].as_array().unwrap();
    let words: Vec<_> = command.iter().map(|word| word.as_str().unwrap()).collect();
    assert_eq!(words[..2], ["/usr/local/bin/atrest-kms", "serve"]);
    let mounted: Vec<_> = mounts(&pod).into_iter().map(|(_, path)| path).collect();
    let mut options = Vec::new();
    for word in &words[2..] {
        let (option, path) = word.split_once('=').unwrap();
        let path = Path::new(path);
        assert!(
            mounted
                .iter()
                .any(|mount| Some(Path::new(mount)) == path.parent()),
            "{word}"
        );
        let here = folder.path(path.file_name().unwrap().to_str().unwrap());
        options.push(format!("{option}={}", here.display()));
    }
    // The harness gives these two itself; the names must be the same.
    for own in [folder.keyring(), folder.socket()] {
        let at = options
            .iter()
            .position(|option| option.ends_with(own.to_str().unwrap()))
            .unwrap();
        options.remove(at);
    }
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    let plugin = Plugin::start_with(&folder, &options).await;
    let mut client = plugin.client().await;
    let stored = client.encrypt(&SEED).await.unwrap();
    assert_eq!(client.decrypt(&stored).await.unwrap(), SEED);
}
