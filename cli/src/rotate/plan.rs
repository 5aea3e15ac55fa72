//! What a run would do, shown before anything is changed.

mod server;
mod text;

use std::fmt::Write as _;
use std::path::PathBuf;

use atrest_core::at_rest::{Census, State as ValueState};
use atrest_core::encryption_config::{EncryptionConfiguration, Key, ResourceEntry};
use atrest_core::rotation::chain::{Selection, Stage, Target, describe};
use serde::Serialize;

use self::server::{Chain, Place, Server};
use super::counts::Counts;
use super::enable::{self, Enablement};
use super::kept::named;
use super::matrix::{self, Matrix};
use super::observe::{Cluster, Reached, stored_here};
use super::preflight::{Credential, Preflight, Work};
use super::rewrite::{Found, List};
use super::rollback::Writer;
use super::settings::{Settings, To};
use super::waiver::{Poison, Readers};
use super::{covered, escrow, hand, lease, others};
use crate::args::{EtcdFlags, Global, Orphans, RotateFlags};
use crate::cluster::{self, ApiResource, ApiServer};
use crate::etcd::{self, Prover, Question};
use crate::kms;
use crate::report::progress::Progress;
use crate::status::Failure;

/// Objects whose annotations hold a copy of their data, that are named.
const NAMED: usize = 100;

/// `atrest/rotation-plan/v1`.
#[derive(Debug, Serialize)]
pub(crate) struct Plan {
    schema: &'static str,
    to: String,
    resources: Vec<Resource>,
    servers: Vec<Server>,
    escrow: Vec<String>,
    /// The directory for snapshots of etcd; none are taken where there is none.
    snapshots: Option<String>,
    /// Whether etcd is compacted and defragmented at the end.
    scrub: bool,
    /// Whether others have the old key.
    compromised: bool,
    load_waits: usize,
    /// What canaries are made of; none where no rotated resource is fit for it.
    canaries: Option<String>,
    /// What is done first where API servers run without an EncryptionConfiguration.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    enablement: Vec<enable::Change>,
    #[serde(flatten)]
    preflight: Preflight,
    /// Keys of values that etcd may not take once they are encrypted anew.
    large: Vec<String>,
    /// Keys of the first objects whose namespace is gone.
    orphans: Vec<String>,
    /// What becomes of them.
    #[serde(skip)]
    fate: Orphans,
    /// Values that nobody can decrypt, and that the old key's removal does not wait for.
    waived: Vec<Poison>,
    /// Everything is decrypted.
    #[serde(skip)]
    pub(crate) decrypts: bool,
    #[serde(skip)]
    pub(crate) cluster: Cluster,
    /// What is stored, and at which revision.
    #[serde(skip)]
    pub(crate) stored: (i64, Vec<Counts>),
    #[serde(skip)]
    pub(crate) writer: Option<Writer>,
}

#[derive(Debug, Serialize)]
struct Resource {
    resource: String,
    total: u64,
    plaintext: u64,
    /// Encrypted, and not by the key that writes now.
    stale: u64,
    /// Of what is stored, with its keys.
    bytes: u64,
    /// Objects whose namespace is gone.
    orphaned: u64,
    /// Objects with `kubectl apply`'s annotation: it crosses the wire with their metadata.
    applied: u64,
    applied_names: Vec<String>,
}

impl Plan {
    /// Looks at everything that a run depends on, and refuses what could not end well.
    /// The cluster's Lease may be held by runs that are ours.
    pub(crate) async fn make(
        global: &Global,
        flags: &RotateFlags,
        settings: &Settings,
        ours: &[&str],
    ) -> Result<Self, Failure> {
        let credentials = Credential::all(global, flags, settings).await?;
        let mut reached = Reached::connect(global, settings).await?;
        if let Some(failure) = lease::other(&reached.servers, ours).await? {
            return Err(failure);
        }
        let enablement = Enablement::look(settings, &reached).await?;
        let planned = |i| enablement.as_ref().and_then(|it| it.planned(i));
        let mut servers: Vec<Server> = Vec::new();
        let mut first = None;
        let mut identities = Vec::new();
        for (i, server) in settings.servers.iter().enumerate() {
            let place = Place {
                settings,
                server,
                machine: reached.machines[i].as_ref(),
                api: &reached.servers[i],
            };
            let looked = place.look(planned(i), servers.first()).await?;
            servers.push(looked.server);
            identities.push(looked.identity);
            first = first.or(looked.read);
        }
        let Some((file, selection, target)) = first else {
            return Err(Failure::unusable("there is no API server"));
        };
        if servers
            .iter()
            .any(|server| server.file_sha256 != servers[0].file_sha256)
        {
            return Err(Failure::unusable("the servers' files differ").hint(
                "atrest rotate starts where every server has the same file; make them equal first",
            ));
        }
        let identities: Vec<_> = identities.iter().map(Option::as_deref).collect();
        let listed = &reached.servers;
        if let Some(failure) = others::unlisted(&listed[0], listed, &identities, true).await? {
            return Err(failure);
        }
        if let To::Kms { socket, .. } = &settings.to {
            kms::status(socket).await?;
        }
        let in_use = kms::key_ids(&file.configuration, &[]).await;
        let etcd_flags = EtcdFlags::from(&settings.etcd);
        let of_names = covered::named(&selection);
        let sockets = hand::sockets(settings);
        let readers = Readers {
            prefix: etcd_flags.prefix(),
            selection: &selection,
            configurations: &[&file.configuration],
            sockets: &sockets,
            key_ids: &in_use,
        };
        let mut waived = Vec::new();
        for key in &flags.waive {
            waived.push(readers.poison(&mut reached.etcd, key).await?);
        }
        let passed_over = waived
            .iter()
            .map(|it| (it.key.clone().into_bytes(), it.mod_revision))
            .collect();
        let question = Question {
            waived: &passed_over,
            ..Question::of_rotation(
                etcd_flags.prefix(),
                &selection,
                &of_names,
                &file.configuration,
                &in_use,
                NAMED,
            )
        };
        // Every value is decrypted: what nobody can read would keep the old key.
        let plugins = kms::Unwrapper::new(&file.configuration, &sockets, in_use.clone());
        let prover = Prover::new(vec![(&file.configuration, plugins)]);
        let counted = etcd::census(&mut reached.etcd, &question, Some(prover)).await?;
        let census = counted.census;
        refuse_unreadable(&census)?;
        let in_place = servers.iter().flat_map(|it| &it.chains).all(Chain::stays);
        if in_place && census.count(ValueState::Stale) + census.count(ValueState::Unread) == 0 {
            return Err(Failure::unusable(
                "there is nothing to rotate: everything is under the key that the plugin has",
            )
            .hint("atrest-kms keyring add and activate give it another one"));
        }
        refuse_plaintext(settings, &census, &target)?;
        if settings.compromised {
            refuse_what_stays(&selection, &file.configuration, &target)?;
        }
        let api = &reached.servers[0];
        let (etcd, prefix) = (&mut reached.etcd, etcd_flags.prefix());
        let covered = covered::covered(&selection, &file.configuration, api, etcd, prefix).await?;
        stored_here(api, etcd, prefix, &covered).await?;
        let canaries = matrix::kind(&selection, &file.configuration);
        if let Some(kind) = &canaries {
            let matrix = Matrix::new(settings, &reached, kind.clone(), PathBuf::new());
            matrix.rehearse().await?;
        }
        let (resources, served) = resources(&reached.servers[0], &census, &counted.bytes).await?;
        let enablement = enablement.map_or_else(Vec::new, |it| it.changes(settings));
        let work = Work {
            values: census.total(),
            bytes: counted.bytes.iter().sum(),
            resources: served,
            loads: !in_place,
            restarts: enablement.iter().filter(|it| it.restarts).count(),
        };
        let preflight = Preflight::look(flags, settings, &mut reached, credentials, &work).await?;
        Ok(Self {
            schema: "atrest/rotation-plan/v1",
            to: describe(&[target.provider()]),
            resources,
            servers,
            escrow: match target {
                Target::Key(..) => escrow::paths(settings, "RUN")
                    .iter()
                    .map(|path| path.display().to_string())
                    .collect(),
                Target::Kms(_) | Target::Identity => Vec::new(),
            },
            canaries: canaries.map(|kind| kind.to_string()),
            snapshots: settings
                .snapshots
                .as_ref()
                .map(|dir| dir.display().to_string()),
            scrub: settings.scrub,
            compromised: settings.compromised,
            decrypts: matches!(target, Target::Identity),
            enablement,
            load_waits: if in_place {
                0
            } else {
                3 * settings.servers.len()
            },
            preflight,
            fate: settings.orphans,
            large: counted.large.iter().map(|key| key_text(key)).collect(),
            waived,
            orphans: counted.orphans.iter().map(|it| key_text(&it.key)).collect(),
            cluster: reached.cluster().await?,
            stored: (counted.revision, Counts::of(&census)),
            writer: Writer::of(&file.configuration, &selection.resources),
        })
    }
}

/// A snapshot outlives the run, and whoever gets hold of it reads what nothing encrypts.
fn refuse_plaintext(settings: &Settings, census: &Census, target: &Target) -> Result<(), Failure> {
    if settings.snapshots.is_none()
        || settings.plaintext_snapshots
        || !settings.recipients.is_empty()
    {
        return Ok(());
    }
    let message = match (census.count(ValueState::Plaintext), target) {
        (1.., _) => "the snapshot before would hold values in plaintext",
        (0, Target::Identity) => "the snapshot after would hold values in plaintext",
        (0, _) => return Ok(()),
    };
    Err(Failure::unusable(message).hint(
        "name escrow.recipients, to whom it is encrypted; say --plaintext-snapshot where plaintext is \
         meant; or leave snapshots.dir out. Nothing was changed",
    ))
}

/// A key that others have must not stay with what is not rotated.
fn refuse_what_stays(
    selection: &Selection,
    now: &EncryptionConfiguration,
    target: &Target,
) -> Result<(), Failure> {
    let only = selection.advance(now, target, Stage::Only);
    let only = only.map_err(Failure::unusable)?;
    let keys = |entry: &ResourceEntry| -> Vec<Key> {
        let providers = entry.providers.iter();
        providers.flat_map(|it| it.keys()).cloned().collect()
    };
    let rotated = now.resources.iter().filter(|it| selection.is_of(it));
    let leave: Vec<_> = rotated.flat_map(keys).collect();
    let is_left = |key: &Key| leave.iter().any(|it| it.secret == key.secret);
    match only
        .resources
        .iter()
        .find(|it| keys(it).iter().any(is_left))
    {
        None => Ok(()),
        Some(entry) => Err(Failure::unusable(format!(
            "the key that others have stays with {}",
            entry.resources.join(", ")
        ))
        .hint("rotate all that it writes in one run: leave --resource and resources out")),
    }
}

/// What nobody can read cannot be rewritten; it would keep the old key in the file for ever.
fn refuse_unreadable(census: &Census) -> Result<(), Failure> {
    let unreadable = |state| matches!(state, ValueState::UnknownKey | ValueState::Undecryptable);
    let count = census.count(ValueState::UnknownKey) + census.count(ValueState::Undecryptable);
    if count == 0 {
        return Ok(());
    }
    let mut message =
        format!("{count} stored values cannot be read with the configuration as it is:");
    let listed = census
        .not_current
        .iter()
        .filter(|value| unreadable(value.state));
    for value in listed.take(20) {
        let by = named(&value.provider, value.key_name.as_deref());
        let key = key_text(&value.key);
        let _ = write!(message, "\n  {key} ({by}, revision {})", value.mod_revision);
    }
    Err(Failure::unread(message).hint(
        "add the key that wrote them to the configuration, or delete them, then plan again; or have the \
         rotation pass over them, each by --waive KEY",
    ))
}

/// etcd's key as it can be printed.
fn key_text(key: &[u8]) -> String {
    String::from_utf8_lossy(key).escape_debug().to_string()
}

async fn resources(
    api: &ApiServer,
    census: &Census,
    bytes: &[u64],
) -> Result<(Vec<Resource>, Vec<ApiResource>), Failure> {
    let mut resources = Vec::new();
    let mut served = Vec::new();
    for (counted, bytes) in census.resources.iter().zip(bytes) {
        let failed = |error: cluster::Error| crate::commands::server_failure(api, &error);
        let mut resource = Resource {
            resource: counted.resource.to_string(),
            total: counted.total(),
            plaintext: counted.count(ValueState::Plaintext),
            stale: counted.count(ValueState::Stale),
            bytes: *bytes,
            orphaned: counted.orphaned.unwrap_or_default(),
            applied: 0,
            applied_names: Vec::new(),
        };
        if let Some(found) = cluster::find(api, &counted.resource)
            .await
            .map_err(failed)?
        {
            // What nobody can read is walked past.
            let progress = Progress::hidden();
            let mut list = List::new(api, &found, None, &progress);
            while let Some(page) = list.next().await? {
                for object in page {
                    let Found::Object(object) = object else {
                        continue;
                    };
                    if !object.is_applied {
                        continue;
                    }
                    resource.applied += 1;
                    if resource.applied_names.len() < NAMED {
                        resource.applied_names.push(object.to_string());
                    }
                }
            }
            drop(list);
            served.push(found);
        }
        resources.push(resource);
    }
    Ok((resources, served))
}
