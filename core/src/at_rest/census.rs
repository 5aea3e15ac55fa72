//! Counts stored values by the key that wrote them, and says which are as they should be.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::reads::{Reads, Tally, Writer};
use super::stored_value::{Form, StoredValue, shortest_name};
use crate::encryption_config::{EncryptionConfiguration, KmsVersion, Provider};

use super::storage_key::{GroupResource, ObjectKey};
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
struct Expected {
    current: CurrentKey,
    /// Every provider and name that reads, the writing one included.
    readers: Vec<(Reader, String)>,
    has_doubles: bool,
    is_covered: bool,
    /// Whether plaintext can be read: not every chain ends with identity.
    reads_plaintext: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Reader {
    Kms2,
    Named(Form),
}

impl Expected {
    fn of(expectation: &Expectation<'_>, resource: &GroupResource) -> Self {
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

/// Values of one resource that one key wrote.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Group {
    /// `aescbc`, `aesgcm`, `secretbox`, `kms:v1:<name>`, `kms:v2:<name>`, `identity`, `unknown`.
    pub provider: String,
    /// The key's name, or the key_id; `None` for identity and KMS v1.
    pub key: Option<String>,
    /// The same for all of them.
    pub state: State,
    /// How many.
    pub count: u64,
    /// The smallest modification revision among them.
    pub oldest_revision: i64,
    /// The largest.
    pub newest_revision: i64,
    /// Of KMS v2: the seeds that the plugin wrapped, by their fingerprint.
    pub seeds: BTreeMap<Fingerprint, Seed>,
    /// Values of further seeds, which are not told apart.
    pub other_seeds: u64,
}

/// Values that keys wrote which follow from one wrapped seed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Seed {
    /// How many.
    pub count: u64,
    /// The smallest modification revision among them.
    pub oldest_revision: i64,
    /// The largest.
    pub newest_revision: i64,
}

impl Group {
    fn add(&mut self, mod_revision: i64, seed: Option<Fingerprint>) {
        self.count += 1;
        self.oldest_revision = self.oldest_revision.min(mod_revision);
        self.newest_revision = self.newest_revision.max(mod_revision);
        let Some(fingerprint) = seed else {
            return;
        };
        if self.seeds.len() >= MAX_SEEDS && !self.seeds.contains_key(&fingerprint) {
            self.other_seeds += 1;
            return;
        }
        let seed = self.seeds.entry(fingerprint).or_insert(Seed {
            count: 0,
            oldest_revision: mod_revision,
            newest_revision: mod_revision,
        });
        seed.count += 1;
        seed.oldest_revision = seed.oldest_revision.min(mod_revision);
        seed.newest_revision = seed.newest_revision.max(mod_revision);
    }
}

/// An API server makes a seed when it starts and when the key_id changes: there are a few for each.
const MAX_SEEDS: usize = 1024;

/// A configuration has a few keys; more are made up by whoever wrote the values.
const MAX_GROUPS: usize = 1024;

/// A value as it stands in etcd.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// Its key in etcd.
    pub key: &'a [u8],
    /// What of the key follows after the resource's directory.
    pub object: &'a [u8],
    /// Its bytes.
    pub value: &'a [u8],
    /// When it was written.
    pub mod_revision: i64,
}

/// A value that is not current.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NotCurrent {
    /// Its key in etcd.
    pub key: Vec<u8>,
    /// The place of its resource.
    pub resource: usize,
    /// Why it is listed.
    pub state: State,
    /// As in [`Group`].
    pub provider: String,
    /// As in [`Group`].
    pub key_name: Option<String>,
    /// When it was written.
    pub mod_revision: i64,
}

/// A value whose namespace is gone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Orphan {
    /// Its key in etcd.
    pub key: Vec<u8>,
    /// How it stands to the configuration as far as its first bytes tell.
    pub state: State,
    /// As in [`Group`].
    pub provider: String,
    /// As in [`Group`].
    pub key_name: Option<String>,
    /// When it was written.
    pub mod_revision: i64,
}

/// The counts of one resource.
#[derive(Clone, Debug)]
pub struct ResourceCensus {
    /// The resource.
    pub resource: GroupResource,
    /// Objects whose namespace is gone; `None` where namespaces were not counted.
    pub orphaned: Option<u64>,
    /// Its values are kept in another etcd: what is counted here is left from before.
    pub is_elsewhere: bool,
    expected: Option<Expected>,
    groups: BTreeMap<(String, Option<String>, State), Group>,
    namespaces: BTreeMap<String, u64>,
}

impl ResourceCensus {
    /// Values in all.
    pub fn total(&self) -> u64 {
        self.groups.values().map(|group| group.count).sum()
    }

    /// Values in one state.
    pub fn count(&self, state: State) -> u64 {
        self.groups
            .values()
            .filter(|group| group.state == state)
            .map(|group| group.count)
            .sum()
    }

    /// The group of a value, beyond the limit that of an unknown provider.
    fn group(
        &mut self,
        provider: &mut String,
        key: &mut Option<String>,
        state: State,
        revision: i64,
    ) -> &mut Group {
        let mut name = (provider.clone(), key.clone(), state);
        if self.groups.len() >= MAX_GROUPS && !self.groups.contains_key(&name) {
            (*provider, *key) = ("unknown".into(), None);
            name = (provider.clone(), None, state);
        }
        self.groups.entry(name).or_insert_with(|| Group {
            provider: provider.clone(),
            key: key.clone(),
            state,
            count: 0,
            oldest_revision: revision,
            newest_revision: revision,
            seeds: BTreeMap::new(),
            other_seeds: 0,
        })
    }

    fn add_many(
        &mut self,
        mut provider: String,
        mut key: Option<String>,
        state: State,
        count: u64,
        revisions: &RangeInclusive<i64>,
    ) {
        let (oldest, newest) = (*revisions.start(), *revisions.end());
        let group = self.group(&mut provider, &mut key, state, oldest);
        group.count += count;
        group.oldest_revision = group.oldest_revision.min(oldest);
        group.newest_revision = group.newest_revision.max(newest);
    }

    /// Values that an update which changes nothing would leave: current ones, and plaintext where
    /// identity writes.
    pub fn settled(&self) -> u64 {
        let writes_plaintext = self
            .expected
            .as_ref()
            .is_some_and(|it| it.current == CurrentKey::Plaintext);
        let plaintext = match writes_plaintext {
            true => self.count(State::Plaintext),
            false => 0,
        };
        self.count(State::Current) + plaintext
    }

    /// By key, in the order of provider and name.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.values()
    }

    /// Values that a server with the configuration cannot read.
    pub fn unreadable(&self) -> u64 {
        let groups = self
            .groups
            .values()
            .filter(|group| !self.reads(group.state));
        groups.map(|group| group.count).sum()
    }

    fn reads(&self, state: State) -> bool {
        match state {
            State::Current | State::Stale | State::Unread => true,
            State::Plaintext => self.expected.as_ref().is_none_or(|it| it.reads_plaintext),
            State::UnknownKey | State::Undecryptable => false,
        }
    }

    /// Two keys of one provider share a name: which of them wrote a value only a decryption shows.
    fn has_doubles(&self) -> bool {
        self.expected.as_ref().is_some_and(|it| it.has_doubles)
    }

    /// Nothing is there, and nothing was to be: a name that is misspelled looks like this.
    fn may_be_misspelled(&self) -> bool {
        self.total() == 0 && self.expected.as_ref().is_some_and(|it| !it.is_covered)
    }

    /// What counters say of `count` values of this resource that an API server was asked for.
    pub fn tally(&self, reads: &Reads, count: u64) -> Tally {
        let expected = self.expected.as_ref();
        reads.tally(count, |form, name| {
            expected.is_some_and(|it| it.has(Reader::Named(form), name))
        })
    }

    /// Whether a configuration said what to expect.
    pub fn is_judged(&self) -> bool {
        self.expected.is_some()
    }
}

/// What a census says in a word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Every value is current.
    Clean,
    /// Some value is stale, plaintext, under an unknown key or unreadable.
    Dirty,
    /// Nothing wrong was seen, and not all could be judged.
    Unknown,
}

/// Counts values as they are read; memory does not grow with their number.
#[derive(Clone, Debug)]
pub struct Census {
    /// One for each resource.
    pub resources: Vec<ResourceCensus>,
    /// What is not current, up to the limit.
    pub not_current: Vec<NotCurrent>,
    /// How many more there were.
    pub omitted: u64,
    max_listed: usize,
}

impl Census {
    /// An empty census. At most `max_listed` values that are not current are listed.
    pub fn new(
        resources: impl IntoIterator<Item = GroupResource>,
        expectation: Option<&Expectation<'_>>,
        max_listed: usize,
    ) -> Self {
        let mut census = Self {
            resources: Vec::new(),
            not_current: Vec::new(),
            omitted: 0,
            max_listed,
        };
        for resource in resources {
            census.cover(resource, expectation);
        }
        census
    }

    /// Counts a further resource from now on. Returns its place.
    pub fn cover(
        &mut self,
        resource: GroupResource,
        expectation: Option<&Expectation<'_>>,
    ) -> usize {
        self.resources.push(ResourceCensus {
            expected: expectation.map(|expectation| Expected::of(expectation, &resource)),
            orphaned: None,
            is_elsewhere: false,
            groups: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            resource,
        });
        self.resources.len() - 1
    }

    /// Counts a value of `resources[resource]`. `object` is what of the key follows after the
    /// resource's directory.
    pub fn add(&mut self, resource: usize, value: &Stored<'_>, proof: Proof) {
        let Stored {
            key,
            object,
            value,
            mod_revision,
        } = *value;
        let census = &mut self.resources[resource];
        if let Some(namespace) = ObjectKey::parse(object).and_then(|object| object.namespace) {
            *census.namespaces.entry(namespace).or_default() += 1;
        }
        let (mut provider, mut key_name, state, seed) = judge(census.expected.as_ref(), value);
        let state = match (state, proof) {
            (State::Current | State::Stale, Proof::Fails) => State::Undecryptable,
            (State::Current | State::Stale, Proof::Unknown) => State::Unread,
            (State::Current, Proof::OpensStale) => State::Stale,
            (State::Current, Proof::NotTried) if census.has_doubles() => State::Unread,
            (state, _) => state,
        };
        let group = census.group(&mut provider, &mut key_name, state, mod_revision);
        group.add(mod_revision, seed);
        if state == State::Current {
            return;
        }
        self.list(NotCurrent {
            key: key.to_vec(),
            resource,
            state,
            provider,
            key_name,
            mod_revision,
        });
    }

    /// Counts values of `resources[resource]` that an API server read, by their writers, all of them
    /// written between two revisions. Which of them is whose is not known.
    pub fn add_read(
        &mut self,
        resource: usize,
        writers: &BTreeMap<Writer, u64>,
        revisions: &RangeInclusive<i64>,
    ) {
        let census = &mut self.resources[resource];
        for (writer, count) in writers {
            let (provider, key, state) = judge_writer(census.expected.as_ref(), writer);
            let state = match state {
                State::Current if census.has_doubles() => State::Unread,
                state => state,
            };
            if state != State::Current {
                self.omitted += *count;
            }
            census.add_many(provider, key, state, *count, revisions);
        }
    }

    /// Counts values of `resources[resource]` of which nothing is known.
    pub fn add_unread(&mut self, resource: usize, count: u64, revisions: &RangeInclusive<i64>) {
        self.omitted += count;
        let census = &mut self.resources[resource];
        census.add_many("unknown".into(), None, State::Unread, count, revisions);
    }

    /// Counts a value of `resources[resource]` that the API server could not read.
    pub fn add_unreadable(&mut self, resource: usize, key: Vec<u8>, mod_revision: i64) {
        let (provider, state) = ("unknown".to_owned(), State::Undecryptable);
        let revisions = mod_revision..=mod_revision;
        self.resources[resource].add_many(provider.clone(), None, state, 1, &revisions);
        self.list(NotCurrent {
            key,
            resource,
            state,
            provider,
            key_name: None,
            mod_revision,
        });
    }

    fn list(&mut self, value: NotCurrent) {
        let state = value.state;
        if self.not_current.len() < self.max_listed {
            self.not_current.push(value);
            return;
        }
        self.omitted += 1;
        // What is stale is readable, and there may be a lot of it: anything else is named first.
        let is_stale = |value: &NotCurrent| value.state == State::Stale;
        if state != State::Stale
            && let Some(place) = self.not_current.iter().rposition(is_stale)
        {
            self.not_current[place] = value;
        }
    }

    /// Says which namespaces there are. Returns those that objects are in and that are gone.
    pub fn settle(&mut self, there: &BTreeSet<String>) -> BTreeSet<String> {
        let mut gone = BTreeSet::new();
        for resource in &mut self.resources {
            let orphans = resource.namespaces.iter();
            let orphans = orphans.filter(|(namespace, _)| !there.contains(*namespace));
            let mut count = 0;
            for (namespace, objects) in orphans {
                count += objects;
                gone.insert(namespace.clone());
            }
            resource.orphaned = Some(count);
        }
        gone
    }

    /// How a value stands whose namespace is gone; `None` where it is not below a gone namespace.
    pub fn orphan(
        &self,
        resource: usize,
        value: &Stored<'_>,
        gone: &BTreeSet<String>,
    ) -> Option<Orphan> {
        let namespace = ObjectKey::parse(value.object)?.namespace?;
        let expected = self.resources[resource].expected.as_ref();
        let (provider, key_name, state, _) = judge(expected, value.value);
        gone.contains(&namespace).then(|| Orphan {
            key: value.key.to_vec(),
            state,
            provider,
            key_name,
            mod_revision: value.mod_revision,
        })
    }

    /// Values that a server with the configuration cannot read: of unknown keys, damaged ones, and
    /// plaintext where its chain has no identity.
    pub fn unreadable(&self) -> u64 {
        self.resources.iter().map(ResourceCensus::unreadable).sum()
    }

    /// All groups, and whether the configuration reads what is in them; `None` where that is not known.
    pub fn groups(&self) -> impl Iterator<Item = (&Group, Option<bool>)> {
        self.resources.iter().flat_map(|resource| {
            let groups = resource.groups.values();
            groups.map(|group| {
                let is_judged = resource.is_judged() && group.state != State::Unread;
                (group, is_judged.then(|| resource.reads(group.state)))
            })
        })
    }

    /// Of the listed values those that the configuration does not read.
    pub fn unreadable_listed(&self) -> impl Iterator<Item = &NotCurrent> {
        let of = |value: &&NotCurrent| !self.resources[value.resource].reads(value.state);
        self.not_current.iter().filter(of)
    }

    /// Values in one state, over all resources.
    pub fn count(&self, state: State) -> u64 {
        self.resources
            .iter()
            .map(|resource| resource.count(state))
            .sum()
    }

    /// Values that an update which changes nothing would leave.
    pub fn settled(&self) -> u64 {
        self.resources.iter().map(ResourceCensus::settled).sum()
    }

    /// Values in all.
    pub fn total(&self) -> u64 {
        self.resources.iter().map(ResourceCensus::total).sum()
    }

    /// Clean only where every value was judged and is current.
    pub fn verdict(&self) -> Verdict {
        let bad = [
            State::Stale,
            State::Plaintext,
            State::UnknownKey,
            State::Undecryptable,
        ];
        if bad.iter().any(|state| self.count(*state) > 0) {
            Verdict::Dirty
        } else if self.count(State::Unread) > 0
            || self
                .resources
                .iter()
                .any(|it| !it.is_judged() || it.may_be_misspelled() || it.is_elsewhere)
        {
            Verdict::Unknown
        } else {
            Verdict::Clean
        }
    }
}

fn judge(
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
fn judge_writer(expected: Option<&Expected>, writer: &Writer) -> (String, Option<String>, State) {
    match writer {
        Writer::Identity => ("identity".into(), None, State::Plaintext),
        Writer::Named { form, name } => {
            let is_configured = expected.is_some_and(|it| it.has(Reader::Named(*form), name));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encryption_config::{Key, ResourceEntry};
    use crate::secret::SecretBytes;

    fn configuration(names: &[&str], identity: bool) -> EncryptionConfiguration {
        let keys = names
            .iter()
            .map(|name| Key {
                name: (*name).into(),
                secret: SecretBytes::new(vec![0; 32]),
            })
            .collect();
        let mut providers = vec![Provider::Secretbox(keys)];
        if identity {
            providers.push(Provider::Identity);
        }
        EncryptionConfiguration {
            resources: vec![ResourceEntry {
                resources: vec!["secrets".into()],
                providers,
            }],
        }
    }

    fn census(configuration: Option<&EncryptionConfiguration>) -> Census {
        let secrets = GroupResource::parse("secrets");
        let key_ids = BTreeMap::new();
        let expectation = configuration.map(|configuration| Expectation {
            configuration,
            also_read_by: None,
            key_ids: &key_ids,
        });
        Census::new([secrets], expectation.as_ref(), 2)
    }

    fn stored<'a>(object: &'a [u8], value: &'a [u8], mod_revision: i64) -> Stored<'a> {
        Stored {
            key: object,
            object,
            value,
            mod_revision,
        }
    }

    #[test]
    fn what_does_not_decrypt_is_not_current() {
        let configuration = configuration(&["new"], true);
        let mut census = census(Some(&configuration));
        let value = stored(b"a/b", b"k8s:enc:secretbox:v1:new:x", 1);
        for (proof, state) in [
            (Proof::Opens, State::Current),
            (Proof::OpensStale, State::Stale),
            (Proof::Fails, State::Undecryptable),
            (Proof::Unknown, State::Unread),
        ] {
            census.add(0, &value, proof);
            assert_eq!(census.count(state), 1, "{proof:?}");
        }
        let plain = stored(b"a/b", b"k8s\0", 1);
        census.add(0, &plain, Proof::Fails);
        assert_eq!(census.count(State::Plaintext), 1);
    }

    #[test]
    fn what_a_server_read_is_judged_as_values_are() {
        let configuration = configuration(&["new", "old"], true);
        let mut census = census(Some(&configuration));
        let reads = Reads {
            prefixes: [
                ("k8s:enc:secretbox:v1:".into(), 6),
                ("new:".into(), 3),
                ("old:".into(), 2),
                ("gone:".into(), 1),
                ("identity".into(), 1),
            ]
            .into(),
            key_ids: BTreeMap::new(),
        };
        // The name that nobody knows is the one provider's that there is.
        let Tally::Exact(writers) = census.resources[0].tally(&reads, 7) else {
            panic!("they add up");
        };
        census.add_read(0, &writers, &(3..=9));
        let counts = [
            State::Current,
            State::Stale,
            State::UnknownKey,
            State::Plaintext,
        ];
        assert_eq!(counts.map(|it| census.count(it)), [3, 2, 1, 1]);
        census.add_unread(0, 8, &(3..=9));
        assert_eq!((census.count(State::Unread), census.total()), (8, 15));
        assert_eq!(census.omitted, 12);
        census.add_unreadable(0, b"/registry/secrets/a/b".into(), 4);
        assert_eq!(census.not_current[0].state, State::Undecryptable);
        assert_eq!(census.verdict(), Verdict::Dirty);
    }

    #[test]
    fn a_server_reads_two_keys_with_one_name_under_it() {
        let configuration = configuration(&["new", "new"], false);
        let mut census = census(Some(&configuration));
        let writer = Writer::Named {
            form: Form::Secretbox,
            name: "new".into(),
        };
        census.add_read(0, &[(writer, 2)].into(), &(1..=1));
        assert_eq!(census.verdict(), Verdict::Unknown);
    }

    #[test]
    fn of_two_keys_with_one_name_only_a_decryption_tells() {
        let configuration = configuration(&["new", "new"], false);
        let mut census = census(Some(&configuration));
        let value = stored(b"a/b", b"k8s:enc:secretbox:v1:new:x", 1);
        census.add(0, &value, Proof::NotTried);
        assert_eq!(census.verdict(), Verdict::Unknown);
    }

    #[test]
    fn nothing_under_a_name_that_nothing_covers_is_not_clean() {
        let configuration = configuration(&["new"], false);
        let misspelled = GroupResource::parse("secret");
        let expectation = Expectation {
            configuration: &configuration,
            also_read_by: None,
            key_ids: &BTreeMap::new(),
        };
        let census = Census::new([misspelled], Some(&expectation), 1);
        assert_eq!(census.verdict(), Verdict::Unknown);
    }

    #[test]
    fn objects_of_gone_namespaces_are_orphans() {
        let mut census = census(None);
        for object in ["default/a", "gone/a", "gone/b", "of-the-cluster"] {
            census.add(0, &stored(object.as_bytes(), b"{}", 1), Proof::NotTried);
        }
        let there = ["default".to_owned()].into();
        assert_eq!(census.settle(&there), ["gone".to_owned()].into());
        assert_eq!(census.resources[0].orphaned, Some(2));
    }

    #[test]
    fn states_follow_the_configuration() {
        let configuration = configuration(&["new", "old", "old:er"], true);
        let mut census = census(Some(&configuration));
        for (value, revision) in [
            (&b"k8s:enc:secretbox:v1:new:x"[..], 5),
            (b"k8s:enc:secretbox:v1:new:y", 3),
            (b"k8s:enc:secretbox:v1:old:x", 2),
            (b"k8s:enc:secretbox:v1:old:er:x", 2),
            (b"k8s:enc:secretbox:v1:gone:x", 2),
            (b"k8s:enc:aescbc:v1:new:x", 2),
            (b"k8s\0plain", 1),
            (b"k8s:enc:junk", 1),
        ] {
            census.add(0, &stored(b"a/b", value, revision), Proof::NotTried);
        }
        let counts = [
            State::Current,
            State::Stale,
            State::Plaintext,
            State::UnknownKey,
            State::Undecryptable,
            State::Unread,
        ]
        .map(|state| census.count(state));
        assert_eq!(counts, [2, 2, 1, 2, 1, 0]);
        assert_eq!(counts.iter().sum::<u64>(), census.total());
        assert_eq!((census.not_current.len(), census.omitted), (2, 4));
        assert_eq!(census.verdict(), Verdict::Dirty);
        let newest = census.resources[0]
            .groups()
            .find(|group| group.key.as_deref() == Some("new") && group.provider == "secretbox")
            .unwrap();
        assert_eq!((newest.oldest_revision, newest.newest_revision), (3, 5));
        assert!(
            census.resources[0]
                .groups()
                .any(|group| group.key.as_deref() == Some("old:er"))
        );
    }

    #[test]
    fn without_a_configuration_only_plaintext_is_wrong() {
        let mut census = census(None);
        let encrypted = stored(b"a/b", b"k8s:enc:secretbox:v1:new:x", 1);
        census.add(0, &encrypted, Proof::NotTried);
        assert_eq!(census.verdict(), Verdict::Unknown);
        census.add(0, &stored(b"a/b", b"{}", 1), Proof::NotTried);
        assert_eq!(census.verdict(), Verdict::Dirty);
    }

    #[test]
    fn nothing_stored_is_clean_only_where_it_was_judged() {
        assert_eq!(census(None).verdict(), Verdict::Unknown);
        assert_eq!(
            census(Some(&configuration(&["k"], false))).verdict(),
            Verdict::Clean
        );
    }
}
