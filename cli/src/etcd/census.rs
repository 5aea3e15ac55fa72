//! The census at rest: every value of every resource, at one revision.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Bound;

use atrest_core::at_rest::{
    Census, Expectation, GroupResource, Object, Orphan, Part, Plaintext, Proof, ReadError, Residue,
    Stored, StoredValue, Transformers, Trust,
};
use atrest_core::encryption_config::EncryptionConfiguration;
use atrest_core::rotation::chain::Selection;
use atrest_core::secret::SecretBytes;
use atrest_proto::mvccpb::KeyValue;
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use super::file::{Age, Keyspace};
use super::live::{Client, Value};
use crate::kms::Unwrapper;
use crate::report::progress::Progress;
use crate::status::Failure;

/// What to count, and against what.
#[derive(Clone, Copy)]
pub(crate) struct Question<'a> {
    /// kube-apiserver's `--etcd-prefix`.
    pub(crate) prefix: &'a str,
    /// No wildcards among them.
    pub(crate) resources: &'a [GroupResource],
    /// Whether to count besides what the configuration's wildcards cover, and of files what is
    /// encrypted though nothing covers it.
    pub(crate) and_others: bool,
    /// Of these others, those that belong to a rotation; all without one.
    pub(crate) among: Option<&'a Selection>,
    /// What is kept in another etcd.
    pub(crate) elsewhere: &'a [GroupResource],
    /// What should hold.
    pub(crate) expectation: Option<Expectation<'a>>,
    /// Values that are not current to list.
    pub(crate) max_listed: usize,
    /// Objects whose namespace is gone to list.
    pub(crate) max_orphans: usize,
    /// What is passed over: keys, and when each was written.
    pub(crate) waived: &'a Waived,
    /// At which revision, where that is not the newest; it must not be compacted away.
    pub(crate) at: Option<i64>,
}

/// Values by their keys, each as it was written at a revision.
pub(crate) type Waived = BTreeMap<Vec<u8>, i64>;

/// No value.
pub(crate) static NONE_WAIVED: Waived = Waived::new();

/// What was counted.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) census: Census,
    /// etcd's, at which everything was read.
    pub(crate) revision: i64,
    /// Of the namespace kube-system; `None` where that could not be read.
    pub(crate) cluster_uid: Option<String>,
    /// Up to [`Question::max_orphans`].
    pub(crate) orphans: Vec<Orphan>,
    /// Of keys and values, for each resource of the census; empty where none was seen as it is stored.
    pub(crate) bytes: Vec<u64>,
    /// Keys of values that etcd may not take once they are encrypted; up to [`Question::max_listed`].
    pub(crate) large: Vec<Vec<u8>>,
    /// Of files, where it was asked for.
    pub(crate) residue: Option<Residue>,
}

impl<'a> Question<'a> {
    /// Whether everything of some resources is current by a configuration.
    pub(crate) fn of(
        prefix: &'a str,
        resources: &'a [GroupResource],
        configuration: &'a EncryptionConfiguration,
        key_ids: &'a BTreeMap<String, String>,
        max_listed: usize,
    ) -> Self {
        Self {
            prefix,
            resources,
            and_others: false,
            among: None,
            elsewhere: &[],
            expectation: Some(Expectation {
                configuration,
                also_read_by: None,
                key_ids,
            }),
            max_listed,
            max_orphans: max_listed,
            waived: &NONE_WAIVED,
            at: None,
        }
    }

    /// The same of a rotation: what it names, and what its wildcards cover at the census's revision.
    pub(crate) fn of_rotation(
        prefix: &'a str,
        selection: &'a Selection,
        named: &'a [GroupResource],
        configuration: &'a EncryptionConfiguration,
        key_ids: &'a BTreeMap<String, String>,
        max_listed: usize,
    ) -> Self {
        Self {
            and_others: named.len() < selection.resources.len(),
            among: Some(selection),
            ..Self::of(prefix, named, configuration, key_ids, max_listed)
        }
    }

    /// What should hold, where it has wildcards and what they cover is asked for.
    pub(crate) fn wildcards(&self) -> Option<&Expectation<'a>> {
        let expectation = self.expectation.as_ref().filter(|_| self.and_others)?;
        let entries = expectation.configuration.resources.iter();
        let mut names = entries.flat_map(|entry| &entry.resources);
        let has_one = names.any(|name| GroupResource::parse(name).is_wildcard());
        has_one.then_some(expectation)
    }
}

/// Decrypts every value, and forgets what comes out.
pub(crate) struct Prover<'a> {
    /// What is read by any but the first is stale.
    readers: Vec<(&'a EncryptionConfiguration, Unwrapper)>,
    /// For each resource, in the order of the readers.
    chains: Vec<Vec<Transformers<'a>>>,
}

impl<'a> Prover<'a> {
    pub(crate) fn new(readers: Vec<(&'a EncryptionConfiguration, Unwrapper)>) -> Self {
        Self {
            readers,
            chains: Vec::new(),
        }
    }

    /// The next resource.
    fn cover(&mut self, resource: &GroupResource) {
        let chain = |reader: &(&'a EncryptionConfiguration, Unwrapper)| {
            Transformers::of(reader.0, resource, Trust::Objects)
        };
        self.chains.push(self.readers.iter().map(chain).collect());
    }

    /// Of a value by itself.
    pub(crate) fn prove_one(&mut self, resource: &GroupResource, value: &KeyValue) -> Proof {
        self.cover(resource);
        let value = Value {
            key: &value.key,
            value: &value.value,
            mod_revision: value.mod_revision,
        };
        self.prove(self.chains.len() - 1, &value)
    }

    fn prove(&mut self, resource: usize, value: &Value<'_>) -> Proof {
        let mut proof = Proof::NotTried;
        let chains = self.chains[resource].iter().zip(&mut self.readers);
        for (place, (chain, (_, plugins))) in chains.enumerate() {
            match prove(chain, plugins, value) {
                Proof::Opens if place > 0 => return Proof::OpensStale,
                opens @ (Proof::Opens | Proof::OpensStale) => return opens,
                // What a plugin would say comes before what a key says.
                worse if proof != Proof::Unknown && worse != Proof::NotTried => proof = worse,
                _ => {}
            }
        }
        proof
    }

    /// What comes out, of a value that need not be among those that are counted.
    fn open(&mut self, resource: &GroupResource, value: &Value<'_>) -> Option<SecretBytes> {
        let mut readers = self.readers.iter_mut();
        readers.find_map(|(configuration, plugins)| {
            let chain = Transformers::of(configuration, resource, Trust::Objects);
            Some(open(&chain, plugins, value).ok()?.bytes)
        })
    }
}

fn prove(chain: &Transformers<'_>, plugins: &mut Unwrapper, value: &Value<'_>) -> Proof {
    match open(chain, plugins, value) {
        Ok(read) if read.stale == Some(true) => Proof::OpensStale,
        Ok(_) => Proof::Opens,
        Err(ReadError::Wrapped(_)) => Proof::Unknown,
        // Other names and prefixes: the census knows.
        Err(ReadError::NoMatch) => Proof::NotTried,
        Err(_) => Proof::Fails,
    }
}

fn open(
    chain: &Transformers<'_>,
    plugins: &mut Unwrapper,
    value: &Value<'_>,
) -> Result<Plaintext, ReadError> {
    loop {
        match chain.read(value.key, value.value, plugins) {
            Err(ReadError::Wrapped(key)) => {
                // A plugin is asked once a seed, and nothing else goes on meanwhile.
                let ask = plugins.ask(&key);
                if !block_in_place(|| Handle::current().block_on(ask)) {
                    return Err(ReadError::Wrapped(key));
                }
            }
            read => return read,
        }
    }
}

/// What etcd takes in a request where nobody sets `--max-request-bytes`, less what a transaction around a
/// value has, and less what encryption adds: names, a wrapped key of at most 1 KiB, and a tag.
const LARGE: usize = (3 << 19) - (4 << 10);

/// The namespace that every cluster has: its uid is the cluster's own.
const CLUSTER: &str = "kube-system";

fn namespaces() -> GroupResource {
    GroupResource::parse("namespaces")
}

/// A census that is being taken.
struct Counter<'q, 'p> {
    question: &'q Question<'q>,
    census: Census,
    /// The places of the resources that share a directory.
    directories: BTreeMap<Vec<u8>, Vec<usize>>,
    /// Those that were looked at and are not counted.
    ignored: HashSet<Vec<u8>>,
    prover: Option<Prover<'p>>,
    home_of_namespaces: String,
    namespaces: BTreeSet<String>,
    cluster_uid: Option<String>,
    orphans: Vec<Orphan>,
    bytes: Vec<u64>,
    large: Vec<Vec<u8>>,
}

impl<'q, 'p> Counter<'q, 'p> {
    fn new(question: &'q Question<'q>, prover: Option<Prover<'p>>) -> Self {
        let mut counter = Self {
            census: Census::new([], None, question.max_listed),
            directories: BTreeMap::new(),
            ignored: HashSet::new(),
            home_of_namespaces: namespaces().directory(question.prefix),
            question,
            prover,
            namespaces: BTreeSet::new(),
            cluster_uid: None,
            orphans: Vec::new(),
            bytes: Vec::new(),
            large: Vec::new(),
        };
        counter.census.waive(question.waived.clone());
        for resource in question.resources {
            let directory = resource.directory(question.prefix).into_bytes();
            counter.cover(resource.clone(), directory);
        }
        counter
    }

    fn cover(&mut self, resource: GroupResource, directory: Vec<u8>) {
        if let Some(prover) = &mut self.prover {
            prover.cover(&resource);
        }
        let expectation = self.question.expectation.as_ref();
        let place = self.census.cover(resource, expectation);
        self.bytes.push(0);
        // Two names can share a directory: events of two groups.
        let mut elsewhere = self.question.elsewhere.iter();
        let is_home =
            |it: &GroupResource| it.directory(self.question.prefix).as_bytes() == directory;
        self.census.resources[place].is_elsewhere = elsewhere.any(is_home);
        self.directories.entry(directory).or_default().push(place);
    }

    /// Counts the directory of a key from now on if a wildcard covers it, or if it has to be.
    fn cover_home_of(&mut self, key: &[u8], must: bool) {
        let Some((resource, end)) = GroupResource::of_key(key, self.question.prefix) else {
            return;
        };
        let directory = &key[..end];
        if self.directories.contains_key(directory) || !must && self.ignored.contains(directory) {
            return;
        }
        let configuration = self.question.expectation.map(|it| it.configuration);
        let is_covered = |it: &EncryptionConfiguration| match self.question.among {
            Some(selection) => selection.covers(it, &resource),
            None => !it.chain(&resource).is_empty(),
        };
        if must || configuration.is_some_and(is_covered) {
            self.cover(resource, directory.to_vec());
        } else {
            self.ignored.insert(directory.to_vec());
        }
    }

    /// The resources that a value is of, and what of its key is the object's own.
    fn places<'v>(&self, key: &'v [u8]) -> (Vec<usize>, &'v [u8]) {
        // No directory holds another one: only the last one before the key can be its own.
        let up_to = (Bound::Unbounded, Bound::Included(key));
        let last = self.directories.range::<[u8], _>(up_to).next_back();
        match last.map(|(directory, places)| (key.strip_prefix(&**directory), places)) {
            Some((Some(object), places)) => (places.clone(), object),
            _ => (Vec::new(), b""),
        }
    }

    fn add(&mut self, value: &Value<'_>) {
        if let Some(name) = value.key.strip_prefix(self.home_of_namespaces.as_bytes()) {
            let name = String::from_utf8_lossy(name).into_owned();
            if name == CLUSTER {
                self.cluster_uid = self.uid(value);
            }
            self.namespaces.insert(name);
        }
        let (mut places, mut object) = self.places(value.key);
        if places.is_empty() && self.question.and_others {
            self.cover_home_of(value.key, StoredValue::is_encrypted(value.value));
            (places, object) = self.places(value.key);
        }
        let bytes = value.key.len() + value.value.len();
        if !places.is_empty() && bytes > LARGE && self.large.len() < self.question.max_listed {
            self.large.push(value.key.to_vec());
        }
        for place in places {
            self.bytes[place] += bytes as u64;
            let proof = match &mut self.prover {
                Some(prover) => prover.prove(place, value),
                None => Proof::NotTried,
            };
            self.census.add(place, &stored(value, object), proof);
        }
    }

    /// Of a namespace. Where it is encrypted, no key is used that nobody asked to use.
    fn uid(&mut self, value: &Value<'_>) -> Option<String> {
        let object = match StoredValue::is_encrypted(value.value) {
            false => Object::parse(value.value),
            true => {
                let opened = self.prover.as_mut()?.open(&namespaces(), value)?;
                Object::parse(opened.expose())
            }
        };
        Some(object.ok()?.uid).filter(|uid| !uid.is_empty())
    }

    /// Once all values were added: the namespaces that objects are in and that are gone.
    fn settle(&mut self) -> Result<BTreeSet<String>, Failure> {
        if !self.namespaces.contains(CLUSTER) {
            return Err(self.is_foreign());
        }
        Ok(self.census.settle(&self.namespaces))
    }

    fn add_orphan(&mut self, value: &Value<'_>, gone: &BTreeSet<String>) {
        let (places, object) = self.places(value.key);
        for place in places {
            let orphan = self.census.orphan(place, &stored(value, object), gone);
            let has_room = self.orphans.len() < self.question.max_orphans;
            self.orphans.extend(orphan.filter(|_| has_room));
        }
    }

    fn counted(self, revision: i64) -> Counted {
        Counted {
            census: self.census,
            revision,
            cluster_uid: self.cluster_uid,
            orphans: self.orphans,
            bytes: self.bytes,
            large: self.large,
            residue: None,
        }
    }

    /// Every cluster has kube-system. Without it this is another keyspace, and an empty census would
    /// be clean.
    fn is_foreign(&self) -> Failure {
        Failure::unread(format!(
            "there is no {}{CLUSTER} here: this is not where a kube-apiserver keeps its objects",
            self.home_of_namespaces
        ))
        .hint("check the source, and --etcd-prefix against the API server's own flag")
    }
}

fn stored<'v>(value: &Value<'v>, object: &'v [u8]) -> Stored<'v> {
    Stored {
        key: value.key,
        object,
        value: value.value,
        mod_revision: value.mod_revision,
    }
}

/// Counts what a running etcd has.
pub(crate) async fn census(
    etcd: &mut Client,
    question: &Question<'_>,
    prover: Option<Prover<'_>>,
) -> Result<Counted, Failure> {
    census_shown(etcd, question, prover, &Progress::hidden()).await
}

/// The same; it can be watched.
pub(crate) async fn census_shown(
    etcd: &mut Client,
    question: &Question<'_>,
    prover: Option<Prover<'_>>,
    progress: &Progress,
) -> Result<Counted, Failure> {
    let mut counter = Counter::new(question, prover);
    let mut revision = question.at;
    if question.wildcards().is_some() {
        let mut keys = etcd.first_keys(question.prefix).await?;
        revision = Some(keys.revision);
        for key in keys.keys.drain(..) {
            counter.cover_home_of(&key, false);
        }
    }
    let mut directories: BTreeSet<_> = counter.directories.keys().cloned().collect();
    directories.insert(counter.home_of_namespaces.clone().into_bytes());
    for directory in &directories {
        let read = etcd.read(directory, revision, progress, |value| counter.add(&value));
        revision = Some(read.await?);
    }
    let gone = counter.settle()?;
    for directory in counter.directories.clone().into_keys() {
        for namespace in &gone {
            let below = [&directory, namespace.as_bytes(), b"/"].concat();
            let add = |value: Value<'_>| counter.add_orphan(&value, &gone);
            etcd.read(&below, revision, progress, add).await?;
        }
    }
    Ok(counter.counted(revision.unwrap_or_default()))
}

/// Counts what a file has, with `history` also what of it is history.
pub(crate) fn census_of_file(
    mut keyspace: Keyspace,
    question: &Question<'_>,
    prover: Option<Prover<'_>>,
    history: bool,
) -> Result<Counted, Failure> {
    let mut counter = Counter::new(question, prover);
    let directories = counter.directories.keys().cloned();
    let configuration = question.expectation.map(|it| it.configuration);
    let mut residue = history.then(|| Residue::new(configuration, directories));
    keyspace.stop_at(question.at)?;
    let revision = keyspace.read(&mut |age, value| {
        if age != Age::Superseded {
            counter.add(&value);
        }
        if let Some(residue) = &mut residue {
            match age {
                Age::Live => residue.add(Part::Live, value.key, value.value),
                Age::Superseded => residue.add(Part::Superseded, value.key, value.value),
                // The log is scanned byte by byte.
                Age::LiveInLog => {}
            }
        }
    })?;
    let gone = counter.settle()?;
    if !gone.is_empty() {
        keyspace.read(&mut |age, value| {
            if age != Age::Superseded {
                counter.add_orphan(&value, &gone);
            }
        })?;
    }
    if let Some(residue) = &mut residue {
        keyspace.scan(residue)?;
    }
    Ok(Counted {
        residue,
        ..counter.counted(revision)
    })
}
