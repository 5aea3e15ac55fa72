//! Which snapshot needs which key (`atrest/snapshots/v1`): `manifest.json` beside the snapshots. It holds no
//! key bytes.

use std::collections::BTreeSet;
use std::path::Path;

use atrest_core::at_rest::Census;
use atrest_core::encryption_config::EncryptionConfiguration;
use atrest_core::rotation::Snapshot;
use atrest_core::secret::Fingerprint;
use serde::{Deserialize, Serialize};

use crate::etcd::Counted;
use crate::status::Failure;

const SCHEMA: &str = "atrest/snapshots/v1";
const NAME: &str = "manifest.json";

#[derive(Deserialize, Serialize)]
struct Manifest {
    schema: String,
    snapshots: Vec<Entry>,
}

/// One snapshot.
#[derive(Deserialize, Serialize)]
pub(super) struct Entry {
    file: String,
    run: String,
    /// `before` or `after` the rotation.
    which: String,
    taken_at: String,
    /// Of the file.
    sha256: String,
    revision: i64,
    cluster_uid: Option<String>,
    /// To recipients of the escrow, in the age format. Then keys are those of etcd at this revision, just
    /// before it was taken.
    #[serde(default)]
    encrypted: bool,
    /// Values in plaintext, of resources that the configuration covers.
    plaintext: u64,
    keys: Vec<Key>,
}

/// A key that is needed to read it.
#[derive(Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
struct Key {
    /// As in `atrest/verify/v1`.
    provider: String,
    /// Its name, or the key_id.
    key: Option<String>,
    /// SHA-256 of its bytes, where the configuration has them.
    fingerprint: Option<String>,
}

impl Entry {
    pub(super) fn new(
        run: &str,
        which: Snapshot,
        path: &Path,
        sha256: Fingerprint,
        counted: &Counted,
        configuration: &EncryptionConfiguration,
    ) -> Self {
        let groups = counted.census.resources.iter().flat_map(|it| it.groups());
        let keys: BTreeSet<_> = groups
            .filter(|group| group.provider != "identity")
            .map(|group| Key {
                provider: group.provider.clone(),
                key: group.key.clone(),
                fingerprint: fingerprint(configuration, &group.provider, group.key.as_deref()),
            })
            .collect();
        Self {
            file: path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            run: run.to_owned(),
            which: which.name().to_owned(),
            taken_at: jiff::Timestamp::now()
                .strftime("%Y-%m-%dT%H:%M:%SZ")
                .to_string(),
            sha256: sha256.to_string(),
            revision: counted.revision,
            cluster_uid: counted.cluster_uid.clone(),
            encrypted: is_encrypted(path),
            plaintext: counted.census.count(atrest_core::at_rest::State::Plaintext),
            keys: keys.into_iter().collect(),
        }
    }
}

fn fingerprint(
    configuration: &EncryptionConfiguration,
    provider: &str,
    name: Option<&str>,
) -> Option<String> {
    let providers = configuration
        .resources
        .iter()
        .flat_map(|entry| &entry.providers);
    let mut keys = providers
        .filter(|it| it.name() == provider)
        .flat_map(|it| it.keys());
    let key = keys.find(|key| Some(&*key.name) == name)?;
    Some(key.secret.fingerprint().to_string())
}

pub(super) fn is_encrypted(path: &Path) -> bool {
    path.extension().is_some_and(|it| it == "age")
}

/// The snapshots that are listed in a directory, open to whoever has one of the keys that a census found under
/// other ones than its first.
pub(super) fn opened_by(
    dir: &Path,
    census: &Census,
    configuration: &EncryptionConfiguration,
) -> Result<Vec<String>, Failure> {
    let path = dir.join(NAME);
    let manifest: Manifest = match atrest_files::read(&path) {
        Ok(bytes) => serde_json::from_slice(bytes.expose()).map_err(|_| {
            Failure::stopped(format!("{}: it is no {SCHEMA}", path.display()))
                .hint("move it away or mend it, then atrest rotate resume")
        })?,
        Err(error) if error.kind() == Some(std::io::ErrorKind::NotFound) => return Ok(Vec::new()),
        Err(error) => return Err(Failure::stopped(error)),
    };
    let stale = census.not_current.iter().map(|value| Key {
        provider: value.provider.clone(),
        key: value.key_name.clone(),
        fingerprint: fingerprint(configuration, &value.provider, value.key_name.as_deref()),
    });
    let stale: BTreeSet<_> = stale.filter(|key| key.provider != "identity").collect();
    let open = manifest.snapshots.iter().filter(|it| !it.encrypted);
    let open = open.filter(|it| it.keys.iter().any(|key| stale.contains(key)));
    Ok(open
        .map(|it| dir.join(&it.file).display().to_string())
        .collect())
}

/// Adds a snapshot, in place of one of the same name.
pub(super) fn list(dir: &Path, entry: Entry) -> Result<(), Failure> {
    let path = dir.join(NAME);
    let unusable = |what: &str| {
        Failure::stopped(format!("{}: {what}", path.display()))
            .hint("move it away or mend it, then atrest rotate resume")
    };
    let (old, mut manifest) = match atrest_files::read(&path) {
        Ok(bytes) => {
            let manifest: Manifest = serde_json::from_slice(bytes.expose())
                .map_err(|_| unusable("it is no manifest of snapshots, or damaged"))?;
            (Some(bytes.fingerprint()), manifest)
        }
        Err(error) if error.kind() == Some(std::io::ErrorKind::NotFound) => {
            let schema = SCHEMA.to_owned();
            (
                None,
                Manifest {
                    schema,
                    snapshots: Vec::new(),
                },
            )
        }
        Err(error) => return Err(Failure::stopped(error)),
    };
    if manifest.schema != SCHEMA {
        return Err(unusable("a newer release of atrest wrote it"));
    }
    manifest.snapshots.retain(|it| it.file != entry.file);
    manifest.snapshots.push(entry);
    let mut json = serde_json::to_string_pretty(&manifest)
        .map_err(|error| Failure::unusable(format!("cannot render the manifest: {error}")))?;
    json.push('\n');
    atrest_files::replace(&path, json.as_bytes(), old).map_err(|error| {
        Failure::stopped(error).hint("make room in snapshots.dir, then atrest rotate resume")
    })
}
