//! How one value stands: the key that wrote it beside what should have written it.

use std::collections::BTreeMap;

use super::reads::Writer;
use super::storage_key::GroupResource;
use super::stored_value::{Form, StoredValue, shortest_name};
use crate::encryption_config::{EncryptionConfiguration, KmsVersion, Provider};
use crate::secret::Fingerprint;

/// The key that writes now, as far as one can know it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CurrentKey {
    /// A local provider's first key, or a KMS v1 plugin (which has no key to tell).
    Named {
        /// The provider.
        form: Form,
        /// The key's or the plugin's name.
        name: String,
    },
    /// A KMS v2 plugin and the key_id that its Status gives; `None` where nobody could ask it.
    Kms2 {
        /// The provider's name.
        name: String,
        /// From the plugin itself.
        key_id: Option<String>,
    },
    /// identity writes: what is encrypted is stale, what is plaintext is still called plaintext.
    Plaintext,
}

/// How a value stands to the configuration.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum State {
    /// Written by the key that writes now.
    Current,
    /// Readable by the configuration, and written by another key than the one that writes now.
    Stale,
    /// Not encrypted.
    Plaintext,
    /// Encrypted by a key or provider that the configuration does not have.
    UnknownKey,
    /// Known to be unreadable whatever the configuration.
    Undecryptable,
    /// Could not be judged: no configuration, or a plugin that nobody could ask.
    Unread,
}

/// What came of decrypting a value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Proof {
    /// Nobody tried: the prefix is believed.
    NotTried,
    /// It decrypts.
    Opens,
    /// It decrypts, and an update that changes nothing would rewrite it: by another key of the same
    /// name, or in a form of old.
    OpensStale,
    /// It does not: flipped bytes, other key bytes under the same name, a foreign storage key.
    Fails,
    /// Its plugin could not be asked.
    Unknown,
}

/// What should hold.
#[derive(Clone, Copy, Debug)]
pub struct Expectation<'a> {
    /// Whose first key should have written every value.
    pub configuration: &'a EncryptionConfiguration,
    /// One whose keys are known besides: values that it alone reads are stale, not of an unknown key.
    pub also_read_by: Option<&'a EncryptionConfiguration>,
    /// The current key_id of each KMS v2 provider that could be asked, by its name.
    pub key_ids: &'a BTreeMap<String, String>,
}

/// What is known of the configuration for one resource.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub(super) current: CurrentKey,
    /// Every provider and name that reads, the writing one included.
    readers: Vec<(Reader, String)>,
    pub(super) has_doubles: bool,
    pub(super) is_covered: bool,
    /// Whether plaintext can be read: not every chain ends with identity.
    pub(super) reads_plaintext: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Reader {
    Kms2,
    Named(Form),
}

impl Expected {
    pub(super) fn of(expectation: &Expectation<'_>, resource: &GroupResource) -> Self {
        let key_ids = expectation.key_ids;
        let chain = expectation.configuration.chain(resource);
        let also = expectation.also_read_by.map(|it| it.chain(resource));
        let mut readers = readers(&chain);
        let double = |(i, reader)| readers[..i].contains(reader);
        let has_doubles = readers.iter().enumerate().any(double);
        readers.extend(also.iter().flat_map(|chain| self::readers(chain)));
        let current = match chain.first() {
            None | Some(Provider::Identity) => CurrentKey::Plaintext,
            Some(Provider::Kms(kms)) => match kms.api_version {
                KmsVersion::V1 => CurrentKey::Named {
                    form: Form::Kms1,
                    name: kms.name.clone(),
                },
                KmsVersion::V2 => CurrentKey::Kms2 {
                    name: kms.name.clone(),
                    key_id: key_ids.get(&kms.name).cloned(),
                },
            },
            Some(local) => CurrentKey::Named {
                form: form(local),
                name: local
                    .keys()
                    .first()
                    .map(|key| key.name.clone())
                    .unwrap_or_default(),
            },
        };
        let is_identity = |provider: &&Provider| matches!(provider, Provider::Identity);
        Self {
            has_doubles,
            is_covered: !chain.is_empty(),
            reads_plaintext: chain.is_empty() || chain.iter().any(is_identity),
            current,
            readers,
        }
    }

    /// Whether a provider with names has one of this name.
    pub(super) fn has_named(&self, form: Form, name: &str) -> bool {
        self.has(Reader::Named(form), name)
    }

    fn has(&self, reader: Reader, name: &str) -> bool {
        let mut readers = self.readers.iter();
        readers.any(|it| it.0 == reader && it.1 == name)
    }

    /// The longest configured name that the value starts with. Where two names fit, only a
    /// decryption can tell; the longer one is nearly always right.
    fn name(&self, form: Form, name_and_body: &[u8]) -> Option<String> {
        self.readers
            .iter()
            .filter(|(reader, name)| {
                *reader == Reader::Named(form)
                    && name_and_body
                        .strip_prefix(name.as_bytes())
                        .is_some_and(|rest| rest.starts_with(b":"))
            })
            .map(|(_, name)| name)
            .max_by_key(|name| name.len())
            .cloned()
    }
}

fn readers(chain: &[&Provider]) -> Vec<(Reader, String)> {
    let names = chain.iter().flat_map(|provider| match provider {
        Provider::Identity => vec![],
        Provider::Kms(kms) => vec![match kms.api_version {
            KmsVersion::V1 => (Reader::Named(Form::Kms1), kms.name.clone()),
            KmsVersion::V2 => (Reader::Kms2, kms.name.clone()),
        }],
        local => local
            .keys()
            .iter()
            .map(|key| (Reader::Named(form(local)), key.name.clone()))
            .collect(),
    });
    names.collect()
}

fn form(local: &Provider) -> Form {
    match local {
        Provider::AesCbc(_) => Form::AesCbc,
        Provider::AesGcm(_) => Form::AesGcm,
        Provider::Identity | Provider::Kms(_) | Provider::Secretbox(_) => Form::Secretbox,
    }
}

/// The provider and the key that wrote a value, how it stands, and of KMS v2 its seed.
pub(super) fn judge(
    expected: Option<&Expected>,
    value: &[u8],
) -> (String, Option<String>, State, Option<Fingerprint>) {
    match StoredValue::parse(value) {
        StoredValue::Plaintext => ("identity".into(), None, State::Plaintext, None),
        StoredValue::Malformed => ("unknown".into(), None, State::Undecryptable, None),
        StoredValue::Named {
            form,
            name_and_body,
        } => {
            let configured = expected.and_then(|expected| expected.name(form, name_and_body));
            let state = named_state(expected, form, configured.as_deref());
            let Some(name) = configured.or_else(|| shortest_name(name_and_body)) else {
                return ("unknown".into(), None, State::Undecryptable, None);
            };
            match form {
                Form::Kms1 => (format!("kms:v1:{name}"), None, state, None),
                local => (local.name().into(), Some(name), state, None),
            }
        }
        StoredValue::Kms2 { name, key_id, seed } => {
            let state = kms2_state(expected, &name, &key_id);
            (format!("kms:v2:{name}"), Some(key_id), state, Some(seed))
        }
    }
}

/// The same of values that an API server read.
pub(super) fn judge_writer(
    expected: Option<&Expected>,
    writer: &Writer,
) -> (String, Option<String>, State) {
    match writer {
        Writer::Identity => ("identity".into(), None, State::Plaintext),
        Writer::Named { form, name } => {
            let is_configured = expected.is_some_and(|it| it.has_named(*form, name));
            let state = named_state(expected, *form, is_configured.then_some(name));
            match form {
                Form::Kms1 => (format!("kms:v1:{name}"), None, state),
                local => (local.name().into(), Some(name.clone()), state),
            }
        }
        Writer::Kms2 { name, key_id_hash } => {
            let state = kms2_state(expected, name, key_id_hash);
            (format!("kms:v2:{name}"), Some(key_id_hash.clone()), state)
        }
    }
}

fn named_state(expected: Option<&Expected>, form: Form, configured: Option<&str>) -> State {
    match (expected, configured) {
        (None, _) => State::Unread,
        (Some(_), None) => State::UnknownKey,
        (Some(expected), Some(found)) => match &expected.current {
            CurrentKey::Named { form: now, name } if *now == form && name == found => {
                State::Current
            }
            _ => State::Stale,
        },
    }
}

fn kms2_state(expected: Option<&Expected>, name: &str, key_id: &str) -> State {
    let Some(expected) = expected else {
        return State::Unread;
    };
    match &expected.current {
        CurrentKey::Kms2 {
            name: now,
            key_id: current,
        } if now == name => match current.as_deref() {
            None => State::Unread,
            Some(current) if current == key_id => State::Current,
            Some(_) => State::Stale,
        },
        _ if expected.has(Reader::Kms2, name) => State::Stale,
        _ => State::UnknownKey,
    }
}
