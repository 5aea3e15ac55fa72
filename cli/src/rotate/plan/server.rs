//! One server, as a plan finds it: whether it runs with its file, and what the run would make of that.

use atrest_core::encryption_config::{EncryptionConfiguration, Key};
use atrest_core::rotation::chain::{Local, Selection, Stage, Target, describe};
use atrest_core::secret::SecretBytes;
use serde::Serialize;

use super::super::observe::{Observed, check_server, observe};
use super::super::settings::{self, Settings, To};
use super::super::static_pod;
use super::super::target::{kms_provider, no_provider_in_use, provider_in_use};
use crate::cluster::{self, ApiServer};
use crate::commands::server_failure;
use crate::configuration::{self, Loaded};
use crate::machine::Machine;
use crate::status::Failure;

#[derive(Debug, Serialize)]
pub(super) struct Server {
    pub(super) name: String,
    pub(super) file: String,
    pub(super) file_sha256: String,
    pub(super) chains: Vec<Chain>,
    /// The new key would be, too: the file keeps its mode.
    pub(super) readable_by_others: bool,
    /// An operator copies it from another server.
    pub(super) by_hand: bool,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Chain {
    pub(super) resources: Vec<String>,
    pub(super) now: String,
    pub(super) add_read: String,
    pub(super) promote: String,
    pub(super) drop_read: String,
}

impl Chain {
    /// Only what the provider encrypts with is another key.
    pub(super) fn stays(&self) -> bool {
        [&self.add_read, &self.promote, &self.drop_read]
            .iter()
            .all(|it| **it == self.now)
    }
}

impl Server {
    /// One whose file only an operator gets to: it has loaded what the first one has.
    fn out_of_reach(server: &settings::Server, first: Option<&Self>) -> Self {
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

/// Where a server is looked at.
pub(super) struct Place<'a> {
    pub(super) settings: &'a Settings,
    pub(super) server: &'a settings::Server,
    /// `None` where only an operator gets to its file.
    pub(super) machine: Option<&'a Machine>,
    pub(super) api: &'a ApiServer,
}

/// What was found there.
pub(super) struct Looked {
    pub(super) server: Server,
    /// As its metrics speak of it.
    pub(super) identity: Option<String>,
    /// Its file, what of that is rotated, and where to; `None` where it is out of reach.
    pub(super) read: Option<(Loaded, Selection, Target)>,
}

impl Place<'_> {
    /// Refuses a server that does not run with its file. One whose file is out of reach is to have loaded that
    /// of the first one.
    pub(super) async fn look(
        &self,
        planned: Option<Loaded>,
        first: Option<&Server>,
    ) -> Result<Looked, Failure> {
        let Self {
            settings,
            server,
            machine,
            api,
        } = *self;
        // Asked before the file is read: a server that is down is the first thing to know.
        check_server(api, &server.name).await?;
        if let (Some(machine), None) = (machine, &planned) {
            static_pod::check(machine, server.reload.manifest(), server).await?;
        }
        let is_planned = planned.is_some();
        let observed = match planned {
            Some(file) => Observed::planned(file),
            None => observe(server, machine, api).await?,
        };
        let identity = observed.identity().map(str::to_owned);
        let file = server.file.display();
        let same = first.map(|first| first.file_sha256.as_str());
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
                .hint(
                    "before Kubernetes 1.34 a server's file has to be in reach: locally or by ssh",
                ));
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
            return Ok(Looked {
                server: Server::out_of_reach(server, first),
                identity,
                read: None,
            });
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
            .hint(
                "before Kubernetes 1.34 only a file that the run itself writes can be waited for",
            ));
        }
        Ok(Looked {
            server: Server {
                name: server.name.clone(),
                file: file.to_string(),
                file_sha256: seen.fingerprint.to_string(),
                chains: chains(&seen, &selection, &target)?,
                readable_by_others: !is_planned
                    && machine.is_readable_by_others(&server.file).await,
                by_hand: false,
            },
            identity,
            read: Some((seen, selection, target)),
        })
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
