//! Stored values: what we write kube-apiserver reads and the reverse, with the same staleness, and of
//! damaged values both think the same.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use atrest_core::at_rest::{
    GroupResource, Plaintext, Plugins, ReadError, Refusal, Transformers, Trust, WrappedKey,
    WritingKey,
};
use atrest_core::encryption_config::{
    EncryptionConfiguration, Format, Key, Kms, KmsVersion, Provider, ResourceEntry, render,
};
use atrest_core::secret::SecretBytes;
use atrest_tests::transformer::{Answer, Transformer};
use sha2::{Digest, Sha256};

/// What the plugins of `tests/control-plane/transformer` do.
#[derive(Default)]
struct XorPlugins(BTreeMap<WrappedKey, Result<SecretBytes, Refusal>>);

impl XorPlugins {
    const KEY_ID: &'static str = "key-id-1";

    fn word(version: KmsVersion) -> &'static [u8] {
        match version {
            KmsVersion::V1 => b"v1wrapped:",
            KmsVersion::V2 => b"wrapped:",
        }
    }

    fn unwrap(&mut self, key: WrappedKey) {
        let answer = match key.ciphertext.strip_prefix(Self::word(key.version)) {
            Some(wrapped) => Ok(SecretBytes::new(xor(wrapped))),
            None => Err(Refusal),
        };
        self.0.insert(key, answer);
    }

    fn writing_key(kms: &Kms, key: &[u8]) -> WritingKey {
        let is_v2 = kms.api_version == KmsVersion::V2;
        WritingKey {
            key: SecretBytes::new(key.to_vec()),
            wrapped: WrappedKey {
                version: kms.api_version,
                provider: kms.name.clone(),
                key_id: if is_v2 {
                    Self::KEY_ID.into()
                } else {
                    String::new()
                },
                ciphertext: [Self::word(kms.api_version), &xor(key)].concat(),
                annotations: BTreeMap::new(),
            },
        }
    }
}

impl Plugins for XorPlugins {
    fn unwrapped(&self, key: &WrappedKey) -> Option<Result<&SecretBytes, Refusal>> {
        let answer = self.0.get(key)?;
        Some(answer.as_ref().map_err(|refusal| *refusal))
    }

    fn key_id(&self, _: &str) -> Option<&str> {
        Some(Self::KEY_ID)
    }
}

fn xor(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| byte ^ 0x5a).collect()
}

/// Bytes that follow from a seed.
struct Random {
    seed: u64,
    count: u64,
}

impl Random {
    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < length {
            self.count += 1;
            let digest =
                Sha256::digest([self.seed.to_be_bytes(), self.count.to_be_bytes()].concat());
            bytes.extend_from_slice(&digest);
        }
        bytes.truncate(length);
        bytes
    }

    fn below(&mut self, limit: usize) -> usize {
        let mut number = [0; 8];
        number.copy_from_slice(&self.bytes(8));
        (u64::from_be_bytes(number) % limit as u64) as usize
    }
}

/// Nine chains of the same providers and keys; in each another one is first.
fn chains() -> Vec<EncryptionConfiguration> {
    let keys = |name: &str, lengths: [usize; 2]| {
        let key = |(i, length): (usize, usize)| Key {
            // One name is the beginning of another one.
            name: ["k", "k:2"][i].to_owned(),
            secret: SecretBytes::new(Sha256::digest(format!("{name}{i}"))[..length].to_vec()),
        };
        lengths.into_iter().enumerate().map(key).collect::<Vec<_>>()
    };
    let kms = |api_version, endpoint: &str| {
        Provider::Kms(Kms {
            api_version,
            name: format!("plug-{api_version}"),
            endpoint: endpoint.into(),
            timeout: Duration::from_secs(3),
            cachesize: None,
        })
    };
    let providers = vec![
        Provider::AesCbc(keys("aescbc", [16, 32])),
        Provider::AesGcm(keys("aesgcm", [24, 32])),
        Provider::Secretbox(keys("secretbox", [32, 32])),
        kms(KmsVersion::V1, "V1"),
        kms(KmsVersion::V2, "V2"),
        Provider::Identity,
    ];
    let mut chains = Vec::new();
    for i in 0..providers.len() {
        for second_key_first in [false, true] {
            let mut providers = providers.clone();
            providers.rotate_left(i);
            if second_key_first {
                match providers[0].keys_mut() {
                    Some(keys) => keys.swap(0, 1),
                    None => continue,
                }
            }
            chains.push(EncryptionConfiguration {
                resources: vec![ResourceEntry {
                    resources: vec!["secrets".into()],
                    providers,
                }],
            });
        }
    }
    chains
}

/// Ours and theirs, with one configuration.
struct Pair<'a> {
    ours: Transformers<'a>,
    first: &'a Provider,
    plugins: XorPlugins,
    theirs: Transformer,
}

impl<'a> Pair<'a> {
    fn new(chain: &'a EncryptionConfiguration) -> Self {
        let text = render(chain, Format::Yaml);
        let text = std::str::from_utf8(text.expose()).unwrap();
        Self {
            ours: Transformers::of(chain, &GroupResource::parse("secrets"), Trust::Upstream),
            first: &chain.resources[0].providers[0],
            plugins: XorPlugins::default(),
            theirs: Transformer::start(text),
        }
    }

    fn read(&mut self, place: &str, value: &[u8]) -> Result<Plaintext, ReadError> {
        loop {
            match self.ours.read(place.as_bytes(), value, &self.plugins) {
                Err(ReadError::Wrapped(key)) => self.plugins.unwrap(*key),
                done => return done,
            }
        }
    }

    fn write(&self, place: &str, plaintext: &[u8], random: &mut Random) -> Vec<u8> {
        let key = match self.first {
            Provider::Kms(kms) => Some(XorPlugins::writing_key(kms, &random.bytes(32))),
            _ => None,
        };
        self.ours
            .write(place.as_bytes(), plaintext, key.as_ref())
            .unwrap()
    }

    /// Both read the value, or neither does; and they read the same.
    fn assert_alike(&mut self, place: &str, value: &[u8], what: &str) -> bool {
        let ours = self.read(place, value);
        let theirs = self.theirs.read(place, value);
        match (&ours, &theirs) {
            (Ok(ours), Ok(Answer { data, stale })) => {
                assert!(ours.bytes.expose() == data, "{what}");
                assert_eq!(ours.stale, Some(*stale), "{what}");
                true
            }
            (Err(_), Err(_)) => false,
            _ => panic!("{what}: {ours:?} beside {theirs:?}"),
        }
    }
}

#[test]
fn values_cross_over_unchanged() {
    let seed = std::env::var("ATREST_SEED")
        .map(|seed| seed.parse().unwrap())
        .unwrap_or_else(|_| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            now.unwrap().as_nanos() as u64
        });
    println!("ATREST_SEED={seed}");
    let rounds = if std::env::var_os("ATREST_LONG").is_some() {
        10_000
    } else {
        1_200
    };
    let mut random = Random { seed, count: 0 };
    let chains = chains();
    let mut pairs: Vec<_> = chains.iter().map(Pair::new).collect();
    let (mut crossed, mut damaged, mut refused) = (0, 0, 0);
    for round in 0..rounds {
        for i in 0..pairs.len() {
            let length = [0, 1, 15, 16, 17, 100, 4096][random.below(7)];
            // Of plaintext what looks like ciphertext is not read: that is none of theirs.
            let plaintext = [b"k8s\0", &*random.bytes(length)].concat();
            let place = format!("/registry/secrets/default/{}", random.below(1000));
            let ours = pairs[i].write(&place, &plaintext, &mut random);
            let theirs = pairs[i].theirs.write(&place, &plaintext).unwrap().data;
            for (writer, value) in [("ours", ours), ("theirs", theirs)] {
                let what = format!("round {round}, chain {i}, {writer}");
                let read = pairs[i].theirs.read(&place, &value).unwrap();
                assert!(read.data == plaintext && !read.stale, "{what}");
                assert!(pairs[i].assert_alike(&place, &value, &what));
                // Another server, with another order.
                let other = random.below(pairs.len());
                assert!(pairs[other].assert_alike(&place, &value, &what));
                crossed += 1;

                let mut broken = value.clone();
                match random.below(4) {
                    0 => broken.truncate(random.below(broken.len())),
                    1 => broken.push(random.bytes(1)[0]),
                    2 => drop(broken.drain(..random.below(broken.len().min(20)))),
                    _ => {
                        let at = random.below(broken.len());
                        broken[at] ^= 1 << random.below(8);
                    }
                }
                damaged += 1;
                refused += usize::from(!pairs[other].assert_alike(&place, &broken, &what));
                let moved = "/registry/secrets/default/moved";
                pairs[other].assert_alike(moved, &value, &what);
            }
        }
    }
    println!(
        "{crossed} values crossed over; of {damaged} damaged ones {refused} were refused by both"
    );
    assert!(refused * 2 > damaged);
}
