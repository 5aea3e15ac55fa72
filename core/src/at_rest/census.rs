//! Counts stored values by the key that wrote them, and says which are as they should be.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::judgement::{CurrentKey, Expectation, Expected, Proof, State, judge, judge_writer};
use super::reads::{Reads, Tally, Writer};
use super::storage_key::{GroupResource, ObjectKey};
use crate::secret::Fingerprint;

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
            expected.is_some_and(|it| it.has_named(form, name))
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
    /// Values that were passed over.
    pub waived: u64,
    max_listed: usize,
    waivers: BTreeMap<Vec<u8>, i64>,
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
            waived: 0,
            max_listed,
            waivers: BTreeMap::new(),
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

    /// Passes over the values of these keys from now on, as long as each is the one that was written at this
    /// revision.
    pub fn waive(&mut self, waivers: BTreeMap<Vec<u8>, i64>) {
        self.waivers = waivers;
    }

    fn is_waived(&self, value: &Stored<'_>) -> bool {
        self.waivers.get(value.key) == Some(&value.mod_revision)
    }

    /// Counts a value of `resources[resource]`. `object` is what of the key follows after the
    /// resource's directory.
    pub fn add(&mut self, resource: usize, value: &Stored<'_>, proof: Proof) {
        if self.is_waived(value) {
            self.waived += 1;
            return;
        }
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
        let is_orphan = gone.contains(&namespace) && !self.is_waived(value);
        is_orphan.then(|| Orphan {
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

#[cfg(test)]
mod tests {
    use super::super::stored_value::Form;
    use super::*;
    use crate::encryption_config::{EncryptionConfiguration, Key, Provider, ResourceEntry};
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
    fn a_waiver_is_for_one_key_as_it_was_written_once() {
        let configuration = configuration(&["new"], false);
        let mut census = census(Some(&configuration));
        census.waive([(b"a/b".to_vec(), 7)].into());
        let poison = |object, revision| stored(object, b"k8s:enc:secretbox:v1:old:x", revision);
        census.add(0, &poison(b"a/b", 7), Proof::NotTried);
        assert_eq!((census.waived, census.total()), (1, 0));
        assert_eq!(census.settle(&BTreeSet::new()), BTreeSet::new());
        for (object, revision) in [(&b"a/b"[..], 8), (b"a/c", 7), (b"a/b/c", 7)] {
            census.add(0, &poison(object, revision), Proof::NotTried);
        }
        assert_eq!((census.waived, census.total()), (1, 3));
        let gone = [String::from("a")].into();
        assert!(census.orphan(0, &poison(b"a/b", 7), &gone).is_none());
        assert!(census.orphan(0, &poison(b"a/b", 8), &gone).is_some());
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
