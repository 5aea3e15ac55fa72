//! The census at rest: every value of every resource, at one revision.

use std::collections::{BTreeMap, BTreeSet};

use atrest_core::at_rest::{Census, GroupResource, Proof, ReadError, Stored, Transformers, Trust};
use atrest_core::encryption_config::EncryptionConfiguration;
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use super::file::Keyspace;
use super::live::{Client, Value};
use crate::kms::Unwrapper;
use crate::status::Failure;

/// What to count, and against what.
pub(crate) struct Question<'a> {
    /// kube-apiserver's `--etcd-prefix`.
    pub(crate) prefix: &'a str,
    /// No wildcards among them.
    pub(crate) resources: &'a [GroupResource],
    /// What should hold.
    pub(crate) configuration: Option<&'a EncryptionConfiguration>,
    /// The current key_id of KMS v2 providers, by their names.
    pub(crate) key_ids: &'a BTreeMap<String, String>,
    /// Values that are not current to list.
    pub(crate) max_listed: usize,
}

/// Decrypts every value, and forgets what comes out.
pub(crate) struct Prover<'a> {
    chains: Vec<Transformers<'a>>,
    plugins: Unwrapper,
}

impl<'a> Prover<'a> {
    pub(crate) fn new(
        configuration: &'a EncryptionConfiguration,
        resources: &[GroupResource],
        plugins: Unwrapper,
    ) -> Self {
        let chain = |resource| Transformers::of(configuration, resource, Trust::Objects);
        Self {
            chains: resources.iter().map(chain).collect(),
            plugins,
        }
    }

    fn prove(&mut self, resource: usize, value: &Value<'_>) -> Proof {
        loop {
            match self.chains[resource].read(value.key, value.value, &self.plugins) {
                Ok(read) if read.stale == Some(true) => return Proof::OpensStale,
                Ok(_) => return Proof::Opens,
                Err(ReadError::Wrapped(key)) => {
                    // A plugin is asked once a seed, and nothing else goes on meanwhile.
                    let ask = self.plugins.ask(&key);
                    if !block_in_place(|| Handle::current().block_on(ask)) {
                        return Proof::Unknown;
                    }
                }
                // Other names and prefixes: the census knows.
                Err(ReadError::NoMatch) => return Proof::NotTried,
                Err(_) => return Proof::Fails,
            }
        }
    }
}

/// A census that is being taken.
struct Counter<'q, 'p> {
    question: &'q Question<'q>,
    census: Census,
    directories: Vec<String>,
    prover: Option<Prover<'p>>,
    namespaces: BTreeSet<String>,
}

impl<'q, 'p> Counter<'q, 'p> {
    fn new(question: &'q Question<'q>, prover: Option<Prover<'p>>) -> Self {
        let directories = question.resources.iter();
        Self {
            census: question.census(),
            directories: directories
                .map(|resource| resource.directory(question.prefix))
                .chain([question.namespaces()])
                .collect(),
            question,
            prover,
            namespaces: BTreeSet::new(),
        }
    }

    /// `place` is the directory's; the last one is that of the namespaces.
    fn add(&mut self, place: usize, value: &Value<'_>) {
        let directory = self.directories[place].as_bytes();
        let Some(object) = value.key.strip_prefix(directory) else {
            return; // not what was asked for
        };
        if place == self.question.resources.len() {
            self.namespaces
                .insert(String::from_utf8_lossy(object).into_owned());
            return;
        }
        let proof = match &mut self.prover {
            Some(prover) => prover.prove(place, value),
            None => Proof::NotTried,
        };
        let stored = Stored {
            key: value.key,
            object,
            value: value.value,
            mod_revision: value.mod_revision,
        };
        self.census.add(place, &stored, proof);
    }

    fn finish(mut self, revision: i64) -> Result<(Census, i64), Failure> {
        if !self.namespaces.contains("kube-system") {
            return Err(self.question.is_foreign());
        }
        self.census.settle(&self.namespaces);
        Ok((self.census, revision))
    }
}

impl Question<'_> {
    fn census(&self) -> Census {
        Census::new(
            self.resources.iter().cloned(),
            self.configuration,
            self.key_ids,
            self.max_listed,
        )
    }

    fn namespaces(&self) -> String {
        GroupResource::parse("namespaces").directory(self.prefix)
    }

    /// Every cluster has kube-system. Without it this is another keyspace, and an empty census would
    /// be clean.
    fn is_foreign(&self) -> Failure {
        Failure::unread(format!(
            "there is no {}kube-system here: this is not where a kube-apiserver keeps its objects",
            self.namespaces()
        ))
        .hint("check the source, and --etcd-prefix against the API server's own flag")
    }
}

/// Counts what a running etcd has, and returns the revision that was counted.
pub(crate) async fn census(
    etcd: &mut Client,
    question: &Question<'_>,
    prover: Option<Prover<'_>>,
) -> Result<(Census, i64), Failure> {
    let mut counter = Counter::new(question, prover);
    let mut revision = None;
    for (place, directory) in counter.directories.clone().iter().enumerate() {
        let read = etcd
            .read(directory, revision, |value| counter.add(place, &value))
            .await?;
        revision = Some(read);
    }
    counter.finish(revision.unwrap_or_default())
}

/// Counts what a file has, and returns its newest revision.
pub(crate) fn census_of_file(
    keyspace: Keyspace,
    question: &Question<'_>,
    prover: Option<Prover<'_>>,
) -> Result<(Census, i64), Failure> {
    let mut counter = Counter::new(question, prover);
    let directories = counter.directories.clone();
    let revision = keyspace.read(&directories, |place, value| counter.add(place, &value))?;
    counter.finish(revision)
}
