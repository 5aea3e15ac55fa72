//! Stored values with the keys that wrote them. They are upstream's and lie outside of the
//! repository: in `../shared/corpus` beside it, or where `ATREST_CORPUS` says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use atrest_core::at_rest::{
    GroupResource, Plugins, ReadError, Refusal, Transformers, Trust, WrappedKey,
};
use atrest_core::encryption_config::{
    EncryptionConfiguration, Key, Kms, KmsVersion, Provider, ResourceEntry,
};
use atrest_core::secret::SecretBytes;
use atrest_proto::stored::EncryptedObject;
use data_encoding::HEXLOWER;
use prost::Message;
use serde_json::Value;

/// Wraps by a prefix and XOR 0x5a, as the vectors' plugin did.
#[derive(Default)]
struct Plugin(BTreeMap<WrappedKey, SecretBytes>);

impl Plugin {
    fn unwrap(&mut self, key: &WrappedKey) {
        let wrapped = [&b"wrapped:"[..], b"v1wrapped:"]
            .iter()
            .find_map(|prefix| key.ciphertext.strip_prefix(*prefix))
            .unwrap();
        let bytes = wrapped.iter().map(|byte| byte ^ 0x5a).collect();
        self.0.insert(key.clone(), SecretBytes::new(bytes));
    }
}

impl Plugins for Plugin {
    fn unwrapped(&self, key: &WrappedKey) -> Option<Result<&SecretBytes, Refusal>> {
        self.0.get(key).map(Ok)
    }

    fn key_id(&self, _: &str) -> Option<&str> {
        Some("key-id-1")
    }
}

fn provider(name: &str, key: &[u8]) -> Provider {
    let keys = vec![Key {
        name: "key1".into(),
        secret: SecretBytes::new(key.to_vec()),
    }];
    let kms = |api_version| {
        Provider::Kms(Kms {
            api_version,
            name: "plug".into(),
            endpoint: "unix:///plug".into(),
            timeout: Duration::from_secs(3),
            cachesize: None,
        })
    };
    match name {
        "identity" => Provider::Identity,
        "aescbc" => Provider::AesCbc(keys),
        "secretbox" => Provider::Secretbox(keys),
        _ if name.starts_with("kms v1") => kms(KmsVersion::V1),
        "kms v2" => kms(KmsVersion::V2),
        _ if name.starts_with("raw extended-nonce") => kms(KmsVersion::V2),
        _ => Provider::AesGcm(keys),
    }
}

/// Two vectors are bodies without what stands before them in etcd.
fn stored(provider: &str, key: &[u8], bytes: Vec<u8>) -> Vec<u8> {
    if provider.starts_with("raw AES-GCM") {
        return [&b"k8s:enc:aesgcm:v1:key1:"[..], &bytes].concat();
    }
    if provider.starts_with("raw extended-nonce") {
        let object = EncryptedObject {
            encrypted_data: bytes,
            key_id: "key-id-1".into(),
            encrypted_dek_source: [
                &b"wrapped:"[..],
                &key.iter().map(|byte| byte ^ 0x5a).collect::<Vec<_>>(),
            ]
            .concat(),
            encrypted_dek_source_type: 1,
            ..EncryptedObject::default()
        };
        return [&b"k8s:enc:kms:v2:plug:"[..], &object.encode_to_vec()].concat();
    }
    bytes
}

#[test]
fn values_of_upstream_read_as_upstream_reads_them() {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    let corpus = std::env::var_os("ATREST_CORPUS").map_or(beside, PathBuf::from);
    let Ok(bytes) = std::fs::read(corpus.join("vectors.json")) else {
        println!("skipped: there is no corpus in {}", corpus.display());
        return;
    };
    let vectors: Vec<Value> = serde_json::from_slice(&bytes).unwrap();
    let (mut read, mut refused) = (0, 0);
    for vector in &vectors {
        let text = |field: &str| vector[field].as_str().unwrap_or_default();
        let bytes = |field: &str| HEXLOWER.decode(text(field).as_bytes()).unwrap();
        let key = bytes("key_hex");
        let configuration = EncryptionConfiguration {
            resources: vec![ResourceEntry {
                resources: vec!["secrets".into()],
                providers: vec![provider(text("provider"), &key)],
            }],
        };
        let secrets = GroupResource::parse("secrets");
        let chain = Transformers::of(&configuration, &secrets, Trust::Upstream);
        let value = stored(text("provider"), &key, bytes("stored_hex"));
        let place = text("etcd_key").as_bytes();

        let mut plugin = Plugin::default();
        let mut result = chain.read(place, &value, &plugin);
        if let Err(ReadError::Wrapped(wrapped)) = &result {
            plugin.unwrap(wrapped);
            result = chain.read(place, &value, &plugin);
        }
        let name = text("name");
        let expect = text("expect");
        if expect.starts_with("error") {
            assert!(result.is_err(), "{name}: {expect}");
            refused += 1;
            continue;
        }
        let plaintext = result.unwrap_or_else(|error| panic!("{name}: {error}"));
        let expected = match expect.strip_prefix("decrypts to hex ") {
            Some(hex) => HEXLOWER.decode(hex.as_bytes()).unwrap(),
            None if text("provider") == "identity" => value.clone(),
            None => bytes("plaintext_hex"),
        };
        assert!(plaintext.bytes.expose() == expected, "{name}");
        // Written up to Kubernetes 1.28.
        let old = name.starts_with("kmsv1-cbc") || name.starts_with("kmsv2-dek");
        assert_eq!(plaintext.stale, Some(old), "{name}");
        if vector["aad_bound"] == true {
            let moved = chain.read(b"/registry/secrets/default/other", &value, &plugin);
            assert!(moved.is_err(), "{name} can be moved");
        }
        read += 1;
    }
    println!("{read} values read, {refused} refused");
    assert_eq!(read + refused, vectors.len());
}
