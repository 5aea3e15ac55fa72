//! What a run would do, shown before anything is changed.

use std::fmt::Write as _;
use std::path::PathBuf;

use atrest_core::at_rest::{Census, State as ValueState};
use atrest_core::encryption_config::{EncryptionConfiguration, Key, ResourceEntry};
use atrest_core::rotation::chain::{Local, Selection, Stage, Target, describe};
use atrest_core::secret::SecretBytes;
use serde::Serialize;

use super::counts::Counts;
use super::enable::{self, Enablement};
use super::kept::named;
use super::matrix::{self, Matrix};
use super::observe::{Cluster, Observed, Reached, check_server, observe, stored_here};
use super::preflight::{Credential, Preflight, Work};
use super::rewrite::{Found, List};
use super::rollback::Writer;
use super::settings::{self, Settings, To};
use super::target::{kms_provider, no_provider_in_use, provider_in_use};
use super::waiver::{Poison, Readers};
use super::{covered, escrow, hand, lease, others, static_pod};
use crate::args::{EtcdFlags, Global, Orphans, RotateFlags};
use crate::cluster::{self, ApiResource, ApiServer};
use crate::commands::server_failure;
use crate::configuration::{self, Loaded};
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

#[derive(Debug, Serialize)]
struct Server {
    name: String,
    file: String,
    file_sha256: String,
    chains: Vec<Chain>,
    /// The new key would be, too: the file keeps its mode.
    readable_by_others: bool,
    /// An operator copies it from another server.
    by_hand: bool,
}

#[derive(Clone, Debug, Serialize)]
struct Chain {
    resources: Vec<String>,
    now: String,
    add_read: String,
    promote: String,
    drop_read: String,
}

impl Chain {
    /// Only what the provider encrypts with is another key.
    fn stays(&self) -> bool {
        [&self.add_read, &self.promote, &self.drop_read]
            .iter()
            .all(|it| **it == self.now)
    }
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
            let (machine, api) = (&reached.machines[i], &reached.servers[i]);
            // Asked before the file is read: a server that is down is the first thing to know.
            check_server(api, &server.name).await?;
            let planned = planned(i);
            if let (Some(machine), None) = (machine, &planned) {
                static_pod::check(machine, server.reload.manifest(), server).await?;
            }
            let is_planned = planned.is_some();
            let observed = match planned {
                Some(file) => Observed::planned(file),
                None => observe(server, machine.as_ref(), api).await?,
            };
            identities.push(observed.identity().map(str::to_owned));
            let file = server.file.display();
            let same = servers.first().map(|first| first.file_sha256.as_str());
            let says_nothing_yet = observed.says_nothing_yet();
            let is_loaded = match &observed.file {
                Some(_) => {
                    observed.is_loaded(None)
                        || says_nothing_yet
                        || server.reload.restarts() && says_nothing_ever(api).await?
                }
                None if observed.loaded().is_none() && says_nothing_ever(api).await? => {
                    return Err(Failure::unusable(format!(
                        "{} is manual, and does not say which file it has loaded",
                        server.name
                    ))
                    .hint("before Kubernetes 1.34 a server's file has to be in reach: locally or by ssh"));
                }
                None => observed.loaded().is_some() && observed.loaded() == same,
            };
            if !is_loaded && !is_planned {
                let loaded = match observed.loaded() {
                    None => "reports no hash of a loaded EncryptionConfiguration".to_owned(),
                    Some(_) => format!("has another EncryptionConfiguration loaded than {file}"),
                };
                return Err(Failure::unusable(format!("{} {loaded}", server.name)).hint(
                    "the run needs --encryption-provider-config with just this file, and before \
                     Kubernetes 1.34 --encryption-provider-config-automatic-reload=true",
                ));
            }
            let (Some(seen), Some(machine)) = (observed.file, machine) else {
                servers.push(Server::out_of_reach(server, &servers));
                continue;
            };
            let configuration = &seen.configuration;
            let selection = Selection::new(configuration, &settings.resources())
                .map_err(|error| Failure::unusable(format!("{file}: {error}")))?;
            let target = shown_target(settings, configuration)?;
            let stage = selection.stage(configuration, &target);
            let is_in_place = |stage| stage == Stage::Only && matches!(target, Target::Kms(_));
            let is_there = |stage| stage > Stage::Absent && !is_in_place(stage);
            if says_nothing_yet && stage.is_ok_and(is_there) {
                return Err(Failure::unusable(format!(
                    "{} does not say whether it has loaded {file}, which has {} already",
                    server.name,
                    describe(&[target.provider()]),
                ))
                .hint("before Kubernetes 1.34 only a file that the run itself writes can be waited for"));
            }
            servers.push(Server {
                name: server.name.clone(),
                file: file.to_string(),
                file_sha256: seen.fingerprint.to_string(),
                chains: chains(&seen, &selection, &target)?,
                readable_by_others: !is_planned
                    && machine.is_readable_by_others(&server.file).await,
                by_hand: false,
            });
            first.get_or_insert((seen, selection, target));
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

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut out = format!("rotate to {}\n", self.to);
        enable::describe(&self.enablement, &mut out);
        for resource in &self.resources {
            let Resource {
                resource,
                total,
                plaintext,
                stale,
                bytes,
                orphaned: _,
                applied,
                applied_names,
            } = resource;
            let stale = match stale {
                0 => String::new(),
                _ => format!(", {stale} under another key than the one that writes"),
            };
            let _ = writeln!(
                out,
                "\n{resource}: {total} objects of {bytes} bytes in etcd, {plaintext} of them in plaintext{stale}"
            );
            if *applied > 0 {
                let _ = writeln!(
                    out,
                    "  {applied} carry a copy of their data in kubectl apply's annotation, which crosses \
                     the wire with their metadata and is skipped:"
                );
                for name in applied_names {
                    let _ = writeln!(out, "    {name}");
                }
                let more = *applied - applied_names.len() as u64;
                if more > 0 {
                    let _ = writeln!(out, "    and {more} more");
                }
            }
        }
        let orphaned: u64 = self.resources.iter().map(|it| it.orphaned).sum();
        if orphaned > 0 {
            let _ = writeln!(
                out,
                "\nwarning: the namespace of {orphaned} objects is gone; {}:",
                match self.fate {
                    Orphans::Report =>
                        "Kubernetes before 1.37 lets nobody update them, and then the old key stays",
                    Orphans::Adopt => "it is created again, and left",
                    Orphans::Purge =>
                        "they are deleted in etcd, after their stored bytes are kept in the state directory",
                }
            );
            for key in &self.orphans {
                let _ = writeln!(out, "  {key}");
            }
            let more = orphaned.saturating_sub(self.orphans.len() as u64);
            if more > 0 {
                let _ = writeln!(out, "  and {more} more");
            }
        }
        if !self.large.is_empty() {
            out += "\nwarning: these values are about as large as etcd takes (--max-request-bytes, 1.5 MiB): what is \
                    larger once it is encrypted anew keeps the old key:\n";
        }
        for key in &self.large {
            let _ = writeln!(out, "  {key}");
        }
        if !self.waived.is_empty() {
            out += "\nwaived, for nobody can decrypt them; their stored bytes are kept in the state directory:\n";
        }
        for poison in &self.waived {
            let _ = writeln!(out, "  {}", poison.text());
        }
        out += &self.preflight.text();
        for server in &self.servers {
            let _ = writeln!(out, "\n{}: {}", server.name, server.file);
            if server.by_hand {
                let _ = writeln!(
                    out,
                    "  by hand: you copy it from another server each time that you are told"
                );
            }
            if server.readable_by_others {
                let _ = writeln!(
                    out,
                    "  warning: others than its owner can read this file, and so its keys: chmod 600 it"
                );
            }
            for chain in &server.chains {
                let _ = writeln!(out, "  {}", chain.resources.join(", "));
                if chain.stays() {
                    let _ = writeln!(out, "    stays      {}", chain.now);
                    continue;
                }
                for (sign, step, providers) in [
                    (' ', "now", &chain.now),
                    ('+', "add_read", &chain.add_read),
                    ('~', "promote", &chain.promote),
                    ('-', "drop_read", &chain.drop_read),
                ] {
                    let _ = writeln!(out, "  {sign} {step:9}  {providers}");
                }
            }
        }
        if self.decrypts {
            out += "\nwarning: what is encrypted now will be stored in plaintext: in etcd, and in every \
                    snapshot and backup from then on\n";
        }
        if let [first, copies @ ..] = &self.escrow[..] {
            let _ = writeln!(out, "\nthe new key is kept in {first}");
            for copy in copies {
                let _ = writeln!(out, "  and in {copy}");
            }
        }
        if self.canaries.is_none() {
            out += "\nno canaries: neither Secrets nor ConfigMaps are rotated; which key a server writes with \
                    is taken from what it reports, and from the census\n";
        }
        match self.load_waits {
            0 => {
                out += "\nno file is written; each server asks its plugin once a minute, and is waited for\n";
            }
            loads => {
                let _ = writeln!(
                    out,
                    "\n{loads} loads to wait for, one after the other: up to the server's poll of 60 s each, or \
                     the about 40 s that a restart keeps an API server away"
                );
            }
        }
        let _ = writeln!(
            out,
            "about {} minutes in all",
            self.preflight.expected_minutes()
        );
        out += &match &self.snapshots {
            None => "no snapshot of etcd is made: snapshots.dir names no place\n".to_owned(),
            Some(dir) => format!("a snapshot of etcd before and one after are kept in {dir}\n"),
        };
        if self.compromised {
            let encrypted = self.resources.iter().map(|it| it.total - it.plaintext);
            let _ = writeln!(
                out,
                "others have the old key: {} values are under it or an older one, and will be listed; what they \
                 hold has to be changed besides",
                encrypted.sum::<u64>()
            );
        }
        out += match self.scrub {
            true => {
                "at the end etcd's history is removed, and its members are defragmented in turn\n"
            }
            false => "etcd's history and free pages are left, with values that the old key opens\n",
        };
        out
    }
}

impl Server {
    /// One whose file only an operator gets to: it has loaded what the first one has.
    fn out_of_reach(server: &settings::Server, others: &[Self]) -> Self {
        let first = others.first();
        Self {
            name: server.name.clone(),
            file: server.file.display().to_string(),
            file_sha256: first.map(|it| it.file_sha256.clone()).unwrap_or_default(),
            chains: first.map(|it| it.chains.clone()).unwrap_or_default(),
            readable_by_others: false,
            by_hand: true,
        }
    }
}

/// Whether it is of a release that does not say which file it has loaded.
async fn says_nothing_ever(api: &ApiServer) -> Result<bool, Failure> {
    let version = cluster::Version::of(api).await;
    let version = version.map_err(|error| server_failure(api, &error))?;
    Ok(version
        .minor()
        .is_some_and(|minor| !minor.says_what_it_loaded()))
}

/// The target as far as it is known before the key is minted.
fn shown_target(
    settings: &Settings,
    configuration: &EncryptionConfiguration,
) -> Result<Target, Failure> {
    let local = match &settings.to {
        To::Kms { name, socket } => return Ok(Target::Kms(kms_provider(name, socket))),
        To::Identity => return Ok(Target::Identity),
        To::Provider(name) => Local::parse(name),
        To::InUse => provider_in_use(configuration, settings),
    };
    let key = Key {
        name: "<new key>".into(),
        // Of the right length, so that the edited configuration can be judged; it is never written.
        secret: SecretBytes::new(vec![0; 32]),
    };
    Ok(Target::Key(local.ok_or_else(no_provider_in_use)?, key))
}

fn chains(file: &Loaded, selection: &Selection, target: &Target) -> Result<Vec<Chain>, Failure> {
    let at = |stage| {
        selection
            .advance(&file.configuration, target, stage)
            .map_err(Failure::unusable)
    };
    let stages = [at(Stage::Reads)?, at(Stage::Writes)?, at(Stage::Only)?];
    // What cannot be written later is refused now, while nothing is changed.
    let mut text = file.source.clone();
    for stage in &stages {
        text = configuration::edit(&text, stage)?;
    }
    let [.., last] = &stages;
    let stays = *last == file.configuration;
    if stays && !matches!(target, Target::Kms(_)) {
        return Err(Failure::unusable(
            "there is nothing to rotate: the configuration is there already",
        ));
    }
    let split = match stays {
        true => last.clone(),
        false => {
            selection
                .split(&file.configuration)
                .map_err(Failure::unusable)?
                .0
        }
    };
    let mut chains = Vec::new();
    for (i, entry) in split.resources.iter().enumerate() {
        let [add_read, promote, drop_read] =
            [0, 1, 2].map(|stage| describe(&stages[stage].resources[i].providers));
        let now = describe(&entry.providers);
        // Not selected, or there already.
        let is_passed_over = match stays {
            true => !selection.is_of(entry),
            false => now == drop_read,
        };
        if is_passed_over {
            continue;
        }
        chains.push(Chain {
            resources: entry.resources.clone(),
            now,
            add_read,
            promote,
            drop_read,
        });
    }
    Ok(chains)
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
