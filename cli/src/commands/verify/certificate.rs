//! `atrest verify --certificate`: a certificate held against what is stored.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use atrest_core::at_rest::GroupResource;
use atrest_core::encryption_config::{
    EncryptionConfiguration, Key, Kms, KmsVersion, Provider, ResourceEntry,
};
use atrest_core::secret::SecretBytes;

use crate::args::{Global, Verify};
use crate::etcd::{self, Counted, Keyspace, Question, Waived, census_of_file};
use crate::report;
use crate::report::certified::{Certified, Verdict};
use crate::report::progress::Progress;
use crate::rotate::Counts;
use crate::rotate::certificate::{self, Certificate};
use crate::status::{ExitStatus, Failure};

/// Runs the command.
pub(super) async fn run(
    global: &Global,
    arguments: &Verify,
    path: &Path,
) -> Result<ExitStatus, Failure> {
    let certificate = Certificate::read(path)?;
    let expected = Expected::of(&certificate)?;
    let question = expected.question(&certificate.cluster.prefix);
    let mut source = Source::of(arguments, global.quiet).await?;
    let counted = source.count(&question).await?;
    let mut certified = Certified::new(&certificate, source.kind(), counted.revision);

    let uid = (
        certificate.cluster.uid.as_deref(),
        counted.cluster_uid.as_deref(),
    );
    certified.same("the uid of kube-system", uid);
    if let Source::Etcd(client) = &source {
        let ids = (
            Some(&*certificate.cluster.etcd_id),
            Some(&*client.cluster_id),
        );
        certified.same("the etcd cluster", ids);
    }
    for resource in &counted.census.resources {
        for group in resource
            .groups()
            .filter(|it| !expected.is_target(&it.provider, it.key.as_deref()))
        {
            certified.is_under_another_key(&resource.resource, group);
        }
    }
    recount(
        &mut source,
        &question,
        &certificate,
        &counted,
        &mut certified,
    )
    .await;
    report::render(global.output, &certified, || certified.text())?;
    Ok(match certified.verdict() {
        Verdict::Holds => ExitStatus::Done,
        Verdict::Differs => ExitStatus::Findings,
        Verdict::Unknown => ExitStatus::Unread,
    })
}

/// Compares counts, at the newest certified revision that the source has come to.
async fn recount(
    source: &mut Source,
    question: &Question<'_>,
    certificate: &Certificate,
    now: &Counted,
    certified: &mut Certified,
) {
    let mut proofs = [&certificate.done, &certificate.verified].into_iter();
    let Some(proof) = proofs.find(|proof| proof.revision <= now.revision) else {
        let (has, proven) = (now.revision, certificate.verified.revision);
        certified.differs(format!(
            "it ends at revision {has}, and nothing was proven before revision {proven}"
        ));
        return;
    };
    if is_unchanged_since(now, proof) {
        return certified.recounted_at(proof.revision);
    }
    let question = Question {
        at: Some(proof.revision),
        ..*question
    };
    match source.count(&question).await {
        Ok(then) => {
            certified.recounted_at(proof.revision);
            for (proven, found) in differing(proof, &then) {
                certified.counts_differ(proof.revision, proven, found.as_ref());
            }
        }
        Err(_) => certified.cannot_recount(proof.revision),
    }
}

/// Nothing was written since, and as much is there as was: then it is the same.
fn is_unchanged_since(now: &Counted, proof: &certificate::Counted) -> bool {
    let mut groups = now.census.resources.iter().flat_map(|it| it.groups());
    groups.all(|group| group.newest_revision <= proof.revision) && differing(proof, now).is_empty()
}

fn differing<'a>(
    proof: &'a certificate::Counted,
    counted: &Counted,
) -> Vec<(&'a Counts, Option<Counts>)> {
    let found = Counts::of(&counted.census);
    let pairs = proof.resources.iter().map(|proven| {
        let found = found.iter().find(|it| it.resource == proven.resource);
        (proven, found.cloned())
    });
    pairs
        .filter(|(proven, found)| found.as_ref() != Some(*proven))
        .collect()
}

/// What has to hold, put as a configuration: the target writes, and every other key that the certificate
/// names is known, which alone tells where a name with colons ends.
struct Expected {
    target: certificate::Target,
    configuration: EncryptionConfiguration,
    resources: Vec<GroupResource>,
    key_ids: BTreeMap<String, String>,
    waived: Waived,
}

impl Expected {
    fn of(certificate: &Certificate) -> Result<Self, Failure> {
        let target = certificate.target.clone();
        let writer = (&*target.provider, target.key.as_deref());
        let others: BTreeSet<_> = certificate.keys().filter(|it| *it != writer).collect();
        let providers: Option<Vec<_>> = std::iter::once(writer)
            .chain(others)
            .map(|(provider, key)| provider_of(provider, key))
            .collect();
        let providers = providers.ok_or_else(|| {
            Failure::unusable("the certificate names a provider that is not known here")
                .hint("a newer release of atrest made it")
        })?;
        let names: Vec<_> = certificate
            .done
            .resources
            .iter()
            .map(|it| it.resource.clone())
            .collect();
        let plugin = target.provider.strip_prefix(KMS2).zip(target.key.clone());
        Ok(Self {
            resources: names
                .iter()
                .map(|name| GroupResource::parse(name))
                .collect(),
            configuration: EncryptionConfiguration {
                resources: vec![ResourceEntry {
                    resources: names,
                    providers,
                }],
            },
            key_ids: plugin
                .map(|(name, key_id)| (name.to_owned(), key_id))
                .into_iter()
                .collect(),
            target,
            waived: certificate
                .waived
                .iter()
                .map(|it| (it.key.clone().into_bytes(), it.mod_revision))
                .collect(),
        })
    }

    fn question<'a>(&'a self, prefix: &'a str) -> Question<'a> {
        Question {
            waived: &self.waived,
            ..Question::of(
                prefix,
                &self.resources,
                &self.configuration,
                &self.key_ids,
                0,
            )
        }
    }

    fn is_target(&self, provider: &str, key: Option<&str>) -> bool {
        provider == self.target.provider && key == self.target.key.as_deref()
    }
}

/// In front of the name of a KMS v2 provider in a census.
const KMS2: &str = "kms:v2:";

/// Nothing is decrypted with it: it has no key's bytes.
fn provider_of(provider: &str, key: Option<&str>) -> Option<Provider> {
    let keys = || {
        vec![Key {
            name: key.unwrap_or_default().to_owned(),
            secret: SecretBytes::default(),
        }]
    };
    let kms = |name: &str, api_version| {
        Provider::Kms(Kms {
            api_version,
            name: name.to_owned(),
            endpoint: String::new(),
            timeout: Kms::DEFAULT_TIMEOUT,
            cachesize: None,
        })
    };
    Some(match provider {
        "aescbc" => Provider::AesCbc(keys()),
        "aesgcm" => Provider::AesGcm(keys()),
        "secretbox" => Provider::Secretbox(keys()),
        "identity" | "unknown" => Provider::Identity,
        other => match (other.strip_prefix(KMS2), other.strip_prefix("kms:v1:")) {
            (Some(name), _) => kms(name, KmsVersion::V2),
            (_, Some(name)) => kms(name, KmsVersion::V1),
            _ => return None,
        },
    })
}

/// What is counted.
enum Source {
    Etcd(Box<etcd::Client>),
    Snapshot(PathBuf, bool),
    DataDirectory(PathBuf, bool),
}

impl Source {
    async fn of(arguments: &Verify, quiet: bool) -> Result<Self, Failure> {
        match (&*arguments.snapshot, &arguments.data_dir) {
            ([path], _) => Ok(Self::Snapshot(path.clone(), quiet)),
            ([_, ..], _) => Err(
                Failure::unusable("a certificate is held against one snapshot").hint("name one"),
            ),
            ([], Some(path)) => Ok(Self::DataDirectory(path.clone(), quiet)),
            ([], None) => {
                let client = etcd::Client::connect(&arguments.etcd).await?;
                Ok(Self::Etcd(Box::new(client)))
            }
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Etcd(_) => "etcd",
            Self::Snapshot(..) => "snapshot",
            Self::DataDirectory(..) => "datadir",
        }
    }

    async fn count(&mut self, question: &Question<'_>) -> Result<Counted, Failure> {
        match self {
            Self::Etcd(client) => {
                etcd::census_shown(client, question, None, &Progress::hidden()).await
            }
            Self::Snapshot(path, quiet) => {
                census_of_file(Keyspace::snapshot(path, *quiet)?, question, None, false)
            }
            Self::DataDirectory(path, quiet) => census_of_file(
                Keyspace::data_directory(path, *quiet)?,
                question,
                None,
                false,
            ),
        }
    }
}
