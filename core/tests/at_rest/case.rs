//! The kit of `tests/corpus/at-rest`: one stored value a file, with what kube-apiserver makes of it.
//! Its README.md has the format.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use atrest_core::at_rest::{
    GroupResource, Plaintext, Plugins, ReadError, Refusal, Transformers, Trust, WrappedKey,
};
use atrest_core::encryption_config::{EncryptionConfiguration, KmsVersion, Server, judge};
use atrest_core::secret::SecretBytes;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

/// The folder of the kit.
pub(crate) fn kit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus/at-rest")
}

/// What is to become of a value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Expect {
    /// It is read, and was written by the first key.
    Opens,
    /// It is read, and an update that changes nothing writes it anew.
    Stale,
    /// It is not read; our words for why.
    Fails(String),
}

/// A file of the kit.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// The folder and the file.
    pub(crate) name: String,
    /// What is shown.
    pub(crate) what: String,
    pub(crate) expect: Expect,
    /// kube-apiserver's words for why it is not read.
    pub(crate) upstream: String,
    /// A file beside the folders.
    pub(crate) configuration: String,
    pub(crate) storage_key: String,
    /// SHA-256 in hex; empty where nothing is read.
    pub(crate) plaintext: String,
    pub(crate) value: Vec<u8>,
}

/// All cases, by their names.
pub(crate) fn cases() -> Vec<Case> {
    files(&kit())
        .into_iter()
        .filter(|path| path.is_dir() && !path.ends_with("objects"))
        .flat_map(|folder| files(&folder))
        .map(|path| Case::parse(&path))
        .collect()
}

/// What is in a folder, sorted.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
}

/// The fields before the empty line, and the bytes behind it.
pub(crate) fn fields_and_bytes(path: &Path) -> (BTreeMap<String, String>, Vec<u8>) {
    let text = fs::read_to_string(path).unwrap();
    let (head, body) = text.split_once("\n\n").unwrap();
    let field = |line: &str| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_owned(), value.trim().to_owned())
    };
    let body: String = body.split_whitespace().collect();
    let bytes = BASE64_STANDARD.decode(body).unwrap();
    (head.lines().map(field).collect(), bytes)
}

/// `folder/file` of a path in the kit.
pub(crate) fn name(path: &Path) -> String {
    let name = path.strip_prefix(kit()).unwrap();
    name.to_str().unwrap().to_owned()
}

/// The digest that a file has instead of the plaintext.
pub(crate) fn digest(plaintext: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(plaintext))
}

/// A configuration of the kit.
pub(crate) fn configuration(file: &str) -> EncryptionConfiguration {
    let server = Server {
        kmsv1: true,
        ..Server::default()
    };
    let judgement = judge(&fs::read(kit().join(file)).unwrap(), &server);
    judgement.configuration.unwrap()
}

impl Case {
    fn parse(path: &Path) -> Self {
        let (fields, value) = fields_and_bytes(path);
        let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
        let expect = match field("expect").split_once(": ") {
            Some(("fails", reason)) => Expect::Fails(reason.to_owned()),
            None if field("expect") == "opens" => Expect::Opens,
            None if field("expect") == "stale" => Expect::Stale,
            _ => panic!("{}: what is expected?", path.display()),
        };
        Self {
            name: name(path),
            what: field("what"),
            expect,
            upstream: field("upstream"),
            configuration: field("configuration"),
            storage_key: field("storage-key"),
            plaintext: field("plaintext-sha256"),
            value,
        }
    }

    /// What we make of the value.
    pub(crate) fn read(&self, trust: Trust) -> Result<Plaintext, ReadError> {
        let configuration = configuration(&self.configuration);
        let secrets = GroupResource::parse("secrets");
        let chain = Transformers::of(&configuration, &secrets, trust);
        let mut plugins = XorPlugins::default();
        loop {
            match chain.read(self.storage_key.as_bytes(), &self.value, &plugins) {
                Err(ReadError::Wrapped(key)) => plugins.unwrap(*key),
                done => return done,
            }
        }
    }
}

/// The plugins of `tests/control-plane/transformer`: what they wrap is the key XOR 0x5a behind a word.
#[derive(Default)]
struct XorPlugins(BTreeMap<WrappedKey, Result<SecretBytes, Refusal>>);

impl XorPlugins {
    fn unwrap(&mut self, key: WrappedKey) {
        let word: &[u8] = match key.version {
            KmsVersion::V1 => b"v1wrapped:",
            KmsVersion::V2 => b"wrapped:",
        };
        let answer = key.ciphertext.strip_prefix(word).ok_or(Refusal);
        let key_in_clear = |wrapped: &[u8]| {
            let bytes: Vec<_> = wrapped.iter().map(|byte| byte ^ 0x5a).collect();
            SecretBytes::new(bytes)
        };
        let answer = answer.map(key_in_clear);
        self.0.insert(key, answer);
    }
}

impl Plugins for XorPlugins {
    fn unwrapped(&self, key: &WrappedKey) -> Option<Result<&SecretBytes, Refusal>> {
        let answer = self.0.get(key)?;
        Some(answer.as_ref().map_err(|refusal| *refusal))
    }

    fn key_id(&self, _: &str) -> Option<&str> {
        Some("key-id-1")
    }
}
