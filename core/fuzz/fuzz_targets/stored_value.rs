//! Whatever stands in etcd: it is read or refused, and what was read is written and read again.
#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use atrest_core::at_rest::{
    GroupResource, NoPlugins, Object, Plaintext, Plugins, ReadError, Refusal, StoredValue,
    Transformers, Trust, WrappedKey, WritingKey,
};
use atrest_core::encryption_config::{
    EncryptionConfiguration, KmsVersion, Provider, Server, judge,
};
use atrest_core::secret::SecretBytes;
use libfuzzer_sys::fuzz_target;

const PLACE: &[u8] = b"/registry/secrets/default/db";
const KEY_ID: &str = "key-id-1";

fuzz_target!(|input: &[u8]| {
    let [how, value @ ..] = input else {
        return;
    };
    let trust = match how & 1 {
        0 => Trust::Upstream,
        _ => Trust::Objects,
    };
    let chains = &*CHAINS;
    let configuration = &chains[usize::from(how >> 1) % chains.len()];
    let secrets = GroupResource::parse("secrets");
    let chain = Transformers::of(configuration, &secrets, trust);
    let providers = &configuration.resources[0].providers;
    let said = StoredValue::parse(value);

    // A resource that is not encrypted: all but ciphertext is as it was written.
    let events = Transformers::of(configuration, &GroupResource::parse("events"), trust);
    match events.read(PLACE, value, &NoPlugins) {
        Ok(read) => assert!(read.bytes.expose() == value && said == StoredValue::Plaintext),
        Err(error) => assert!(error == ReadError::NoMatch && said != StoredValue::Plaintext),
    }
    if let Err(ReadError::Wrapped(key)) = chain.read(PLACE, value, &NoPlugins) {
        let told = format!("{key:?}");
        assert!(told.contains(&key.fingerprint().short(8)));
    }
    let mut plugins = XorPlugins::default();
    match read(&chain, value, &mut plugins) {
        Ok(read) => {
            check_form(&said, &providers[read.provider]);
            write_again(&chain, &providers[0], trust, read.bytes.expose());
        }
        // Neither the body nor a key is in what is said.
        Err(error) => assert!(format!("{error} {error:?}").len() < 200 + 8 * 1024),
    }
});

/// The kit's own files, so that its values are seeds here, each with another provider first.
static CHAINS: LazyLock<Vec<EncryptionConfiguration>> = LazyLock::new(|| {
    let server = Server {
        kmsv1: true,
        ..Server::default()
    };
    let every = include_bytes!("../../../tests/corpus/at-rest/every.yaml");
    let colons = include_bytes!("../../../tests/corpus/at-rest/colons.yaml");
    let mut chains = Vec::new();
    for file in [&every[..], colons] {
        let configuration = judge(file, &server).configuration;
        let configuration = configuration.expect("the kit's configurations are accepted");
        for first in 0..configuration.resources[0].providers.len() {
            let mut chain = configuration.clone();
            chain.resources[0].providers.rotate_left(first);
            chains.push(chain);
        }
    }
    chains
});

fn read(
    chain: &Transformers<'_>,
    value: &[u8],
    plugins: &mut XorPlugins,
) -> Result<Plaintext, ReadError> {
    // Each plugin is asked once for the value's one key.
    for _ in 0..3 {
        match chain.read(PLACE, value, plugins) {
            Err(ReadError::Wrapped(key)) => plugins.unwrap(*key),
            done => return done,
        }
    }
    panic!("a plugin is asked again and again");
}

/// What is known without a key agrees with who read it.
fn check_form(said: &StoredValue<'_>, reader: &Provider) {
    let agree = match said {
        StoredValue::Plaintext => *reader == Provider::Identity,
        StoredValue::Named { form, .. } => match reader {
            Provider::Kms(kms) => kms.api_version == KmsVersion::V1 && form.name() == "kms:v1",
            Provider::AesCbc(_) => form.name() == "aescbc",
            Provider::AesGcm(_) => form.name() == "aesgcm",
            Provider::Secretbox(_) => form.name() == "secretbox",
            Provider::Identity => false,
        },
        StoredValue::Kms2 { name, .. } => {
            matches!(reader, Provider::Kms(kms) if kms.name == *name)
        }
        StoredValue::Malformed => false,
    };
    assert!(agree, "{said:?}");
}

fn write_again(chain: &Transformers<'_>, first: &Provider, trust: Trust, plaintext: &[u8]) {
    let key = match first {
        // Of plaintext what looks like ciphertext is not read.
        Provider::Identity if plaintext.starts_with(b"k8s:enc:") => return,
        Provider::AesCbc(_) if trust == Trust::Objects && Object::parse(plaintext).is_err() => {
            return;
        }
        Provider::Kms(kms) => Some(WritingKey {
            key: vec![7; 32].into(),
            wrapped: WrappedKey {
                version: kms.api_version,
                provider: kms.name.clone(),
                key_id: match kms.api_version {
                    KmsVersion::V1 => String::new(),
                    KmsVersion::V2 => KEY_ID.to_owned(),
                },
                ciphertext: [word(kms.api_version), &[7 ^ 0x5a; 32]].concat(),
                annotations: BTreeMap::new(),
            },
        }),
        _ => None,
    };
    let value = chain
        .write(PLACE, plaintext, key.as_ref())
        .expect("there is a key");
    match read(chain, &value, &mut XorPlugins::default()) {
        Ok(read) => {
            assert_eq!(read.bytes.expose(), plaintext);
            assert_eq!((read.stale, read.provider, read.key), (Some(false), 0, 0));
        }
        // An object without a kind is none that is believed.
        Err(error) => assert_eq!(error, ReadError::Implausible),
    }
}

/// The plugins of `tests/control-plane/transformer`.
#[derive(Default)]
struct XorPlugins(BTreeMap<WrappedKey, Result<SecretBytes, Refusal>>);

impl XorPlugins {
    fn unwrap(&mut self, key: WrappedKey) {
        let answer = match key.ciphertext.strip_prefix(word(key.version)) {
            Some(wrapped) => Ok(wrapped
                .iter()
                .map(|byte| byte ^ 0x5a)
                .collect::<Vec<_>>()
                .into()),
            None => Err(Refusal),
        };
        self.0.insert(key, answer);
    }
}

impl Plugins for XorPlugins {
    fn unwrapped(&self, key: &WrappedKey) -> Option<Result<&SecretBytes, Refusal>> {
        let answer = self.0.get(key)?;
        Some(answer.as_ref().map_err(|refusal| *refusal))
    }

    fn key_id(&self, _: &str) -> Option<&str> {
        Some(KEY_ID)
    }
}

fn word(version: KmsVersion) -> &'static [u8] {
    match version {
        KmsVersion::V1 => b"v1wrapped:",
        KmsVersion::V2 => b"wrapped:",
    }
}
