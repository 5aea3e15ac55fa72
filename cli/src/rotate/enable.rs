//! First enablement: API servers of static pods without any EncryptionConfiguration are given one, one
//! server after the other. Everything is read from the servers again each time, so it goes on wherever
//! it was stopped.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use atrest_core::encryption_config::{
    ClusterConfiguration, EncryptionConfiguration, Format, Manifest, Provider, ResourceEntry,
    Setting, render,
};
use atrest_core::rotation::State;
use atrest_core::rotation::enable::{EnableStep, Enabling, next};
use atrest_core::secret::SecretBytes;
use serde::Serialize;

use super::lease::Lease;
use super::observe::Reached;
use super::settings::{Server, Settings};
use super::static_pod;
use super::window::Window;
use crate::cluster::{KubeadmConfig, Process};
use crate::commands::server_failure;
use crate::configuration::{self, Loaded};
use crate::machine::Machine;
use crate::status::Failure;

/// Between two looks at a server that restarts.
const LOOK: Duration = Duration::from_millis(250);

/// How long the directory may take to be made.
const LIMIT: Duration = Duration::from_secs(60);

/// What is to be done on servers that run without an EncryptionConfiguration.
pub(super) struct Enablement {
    /// What all of them get: in it `identity` writes.
    file: Loaded,
    servers: Vec<Seen>,
    kubeadm: Option<KubeadmConfig>,
}

/// A server as it was seen.
struct Seen {
    manifest: PathBuf,
    text: SecretBytes,
    has_file: bool,
    has_flag: bool,
}

/// For `atrest/rotation-plan/v1`.
#[derive(Debug, Serialize)]
pub(super) struct Change {
    server: String,
    manifest: String,
    /// The file is made; else it is there.
    makes_file: bool,
    /// The manifest gains the flag, and its API server restarts.
    pub(super) restarts: bool,
}

/// A server that was given the flag by this process.
struct Restarted {
    server: usize,
    before: Option<Process>,
    old: SecretBytes,
    new: SecretBytes,
}

impl Enablement {
    /// `None` where no server is a static pod without the flag.
    pub(super) async fn look(
        settings: &Settings,
        reached: &Reached,
    ) -> Result<Option<Self>, Failure> {
        let mut servers = Vec::new();
        for (server, machine) in settings.servers.iter().zip(&reached.machines) {
            let Some(machine) = machine else {
                return Ok(None);
            };
            let Some(seen) = Seen::look(server, machine).await? else {
                return Ok(None);
            };
            servers.push(seen);
        }
        if servers.iter().all(|seen| seen.has_flag) {
            return Ok(None);
        }
        same_setting(settings)?;
        let mut file: Option<(Loaded, &str)> = None;
        for (i, server) in settings.servers.iter().enumerate() {
            let Some(machine) = &reached.machines[i] else {
                continue;
            };
            let source = match machine.read(&server.file).await {
                Ok(source) => source,
                Err(error) if error.is_missing() => continue,
                Err(error) => return Err(error.into()),
            };
            servers[i].has_file = true;
            let found = configuration::judged(source, &server.file)?;
            writes_identity(&found, server)?;
            match &file {
                None => file = Some((found, &server.name)),
                Some((first, name)) if first.fingerprint != found.fingerprint => {
                    return Err(Failure::unusable(format!(
                        "the files of {name} and {} differ",
                        server.name
                    ))
                    .hint("make them equal, or remove both: nothing reads them yet"));
                }
                Some(_) => {}
            }
        }
        let file = match file {
            Some((file, _)) => file,
            None => identity(settings)?,
        };
        let api = &reached.servers[0];
        let kubeadm = api.kubeadm_config().await;
        let enablement = Self {
            file,
            servers,
            kubeadm: kubeadm.map_err(|error| server_failure(api, &error))?,
        };
        // What cannot be edited later is refused now, while nothing is changed.
        for (server, seen) in settings.servers.iter().zip(&enablement.servers) {
            if !seen.has_flag {
                seen.enabled(server)?;
            }
        }
        enablement.kubeadm_text(settings)?;
        Ok(Some(enablement))
    }

    /// What a server that has no file yet will run with.
    pub(super) fn planned(&self, server: usize) -> Option<Loaded> {
        let seen = self.servers.get(server)?;
        (!seen.has_flag).then(|| Loaded {
            configuration: self.file.configuration.clone(),
            source: self.file.source.clone(),
            fingerprint: self.file.fingerprint,
        })
    }

    /// For the plan.
    pub(super) fn changes(&self, settings: &Settings) -> Vec<Change> {
        let servers = settings.servers.iter().zip(&self.servers);
        servers
            .map(|(server, seen)| Change {
                server: server.name.clone(),
                manifest: seen.manifest.display().to_string(),
                makes_file: !seen.has_file,
                restarts: !seen.has_flag,
            })
            .collect()
    }

    /// Kubeadm's own setting with the flag; `None` where there is nothing to change.
    fn kubeadm_text(&self, settings: &Settings) -> Result<Option<String>, Failure> {
        let (Some(kubeadm), Some(server)) = (&self.kubeadm, settings.servers.first()) else {
            return Ok(None);
        };
        let old = kubeadm.text();
        let edited = ClusterConfiguration::enable(old.as_bytes(), &setting(server));
        let edited = edited.map_err(|error| {
            Failure::unusable(format!(
                "kubeadm's ClusterConfiguration in ConfigMap kube-system/kubeadm-config: {error}"
            ))
            .hint("see docs/guide/kubeadm.md for what it has to say, and begin again")
        })?;
        let edited = String::from_utf8_lossy(&edited).into_owned();
        Ok((edited != old).then_some(edited))
    }
}

/// For people.
pub(super) fn describe(changes: &[Change], out: &mut String) {
    if changes.is_empty() {
        return;
    }
    *out += "\nfirst, one after the other: API servers run without an EncryptionConfiguration\n";
    for change in changes {
        if change.makes_file {
            let _ = writeln!(
                out,
                "  {}: makes its file, in which identity writes",
                change.server
            );
        }
    }
    *out += "  kubeadm's ClusterConfiguration, where there is one, gets the flag\n";
    for change in changes {
        if change.restarts {
            let _ = writeln!(
                out,
                "  {}: {} gets the flag and the directory; its API server is away for about 40 s",
                change.server, change.manifest
            );
        }
    }
}

impl Seen {
    /// `None` where no static pod of kube-apiserver is there.
    async fn look(server: &Server, machine: &Machine) -> Result<Option<Self>, Failure> {
        let manifest = server.reload.manifest();
        let path = manifest.unwrap_or(Path::new(static_pod::USUAL));
        let text = match machine.read(path).await {
            Ok(text) => text,
            Err(error) if manifest.is_none() && error.is_missing() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let Ok(read) = Manifest::read(text.expose()) else {
            return Ok(None);
        };
        Ok(Some(Self {
            manifest: path.to_owned(),
            has_flag: read.encryption_config().is_some(),
            has_file: false,
            text,
        }))
    }

    /// The manifest with the flag.
    fn enabled(&self, server: &Server) -> Result<SecretBytes, Failure> {
        let edited = Manifest::enable(self.text.expose(), &setting(server));
        edited.map(SecretBytes::new).map_err(|error| {
            Failure::unusable(format!(
                "{}: {} cannot be given --encryption-provider-config: {error}",
                server.name,
                self.manifest.display()
            ))
            .hint("see docs/guide/kubeadm.md for what it has to say, and begin again")
        })
    }
}

/// What a server is to be told.
fn setting(server: &Server) -> Setting {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    Setting {
        file: text(&server.file),
        automatic_reload: !server.reload.restarts(),
        socket: server.socket.as_deref().map(text),
    }
}

/// kubeadm makes every server's manifest from one setting.
fn same_setting(settings: &Settings) -> Result<(), Failure> {
    let mut servers = settings.servers.iter();
    let first = servers.next().map(setting);
    match servers.find(|server| Some(setting(server)) != first) {
        None => Ok(()),
        Some(other) => Err(Failure::unusable(format!(
            "{} is to run with another file, reload or plugin socket than the first server",
            other.name
        ))
        .hint("kubeadm knows one setting for all of them: give all the same paths")),
    }
}

/// The first server that restarts would otherwise write what the others cannot read.
fn writes_identity(file: &Loaded, server: &Server) -> Result<(), Failure> {
    let entries = &file.configuration.resources;
    let writes =
        |entry: &ResourceEntry| matches!(entry.providers.first(), Some(Provider::Identity));
    match entries.iter().all(writes) {
        true => Ok(()),
        false => Err(Failure::unusable(format!(
            "{}: {} encrypts, and not every API server runs with it",
            server.name,
            server.file.display()
        ))
        .hint(
            "the first one that restarts would write what the others cannot read: put identity first in \
             it, or remove it where nothing is encrypted yet",
        )),
    }
}

/// The file of a cluster that has none.
fn identity(settings: &Settings) -> Result<Loaded, Failure> {
    let resources = match settings.resources.is_empty() {
        true => vec!["secrets".to_owned()],
        false => settings.resources.clone(),
    };
    let configuration = EncryptionConfiguration {
        resources: vec![ResourceEntry {
            resources,
            providers: vec![Provider::Identity],
        }],
    };
    let path = settings.servers.first().map(|server| server.file.as_path());
    let source = render(&configuration, Format::Yaml);
    configuration::judged(source, path.unwrap_or(Path::new("")))
}

/// Gives every server the file and the flag. Nothing is encrypted after it.
pub(super) async fn enable(
    settings: &Settings,
    reached: &Reached,
    lease: &Lease,
    window: &Window,
    say: impl Fn(&str),
) -> Result<(), Failure> {
    let Some(enablement) = Enablement::look(settings, reached).await? else {
        return Ok(());
    };
    let mut work = Work {
        settings,
        reached,
        enablement,
        restarted: None,
        waiting: None,
    };
    let mut kubeadm_knows = work.enablement.kubeadm_text(settings)?.is_none();
    loop {
        let step = next(&work.facts().await, kubeadm_knows);
        if !matches!(step, EnableStep::Await(_)) {
            work.waiting = None;
            lease.keep(&reached.servers, State::Lock.name()).await?;
        }
        match step {
            EnableStep::PlaceFile(i) => work.place_file(i, &say).await?,
            EnableStep::TellKubeadm => {
                work.tell_kubeadm(&say).await?;
                kubeadm_knows = true;
            }
            EnableStep::Await(i) => work.wait(i, &say).await?,
            EnableStep::Enable(_) if window.is_over() => {
                return Err(Failure::stopped("the maintenance window is over")
                    .hint("nothing is encrypted yet; begin again in the next one"));
            }
            EnableStep::Enable(i) => work.restart(i, &say).await?,
            EnableStep::Enabled => return Ok(()),
        }
    }
}

/// First enablement on its way.
struct Work<'a> {
    settings: &'a Settings,
    reached: &'a Reached,
    enablement: Enablement,
    /// The last one that was.
    restarted: Option<Restarted>,
    waiting: Option<Instant>,
}

impl<'a> Work<'a> {
    async fn facts(&self) -> Vec<Enabling> {
        let mut facts = Vec::new();
        for (i, seen) in self.enablement.servers.iter().enumerate() {
            facts.push(Enabling {
                has_file: seen.has_file,
                has_flag: seen.has_flag,
                is_up: self.is_up(i, seen).await,
            });
        }
        facts
    }

    /// It serves, and runs with the file where its manifest says so.
    async fn is_up(&self, i: usize, seen: &Seen) -> bool {
        let api = &self.reached.servers[i];
        if api.text("/readyz").await.is_err() {
            return false;
        }
        let Ok(metrics) = api.metrics().await else {
            return false;
        };
        match (seen.has_flag, metrics.loaded_config) {
            (false, _) => true,
            (true, Some(loaded)) => loaded == self.enablement.file.fingerprint.to_string(),
            // Before Kubernetes 1.34 another process is all that can be seen.
            (true, None) => self.restarted.as_ref().is_none_or(|restarted| {
                restarted.server != i || restarted.before.as_ref() != Some(&metrics.process)
            }),
        }
    }

    fn server(&self, i: usize) -> Result<(&'a Server, &'a Machine), Failure> {
        let (settings, reached) = (self.settings, self.reached);
        let server = &settings.servers[i];
        match &reached.machines[i] {
            Some(machine) => Ok((server, machine)),
            None => Err(Failure::unusable(format!(
                "{}: nobody but you gets to its files",
                server.name
            ))),
        }
    }

    async fn place_file(&mut self, i: usize, say: &impl Fn(&str)) -> Result<(), Failure> {
        let (server, machine) = self.server(i)?;
        let folder = server.file.parent().unwrap_or(Path::new("/"));
        let folder = folder.display().to_string();
        // One that is there keeps its mode.
        let make = "[ -d \"$0\" ] || install -d -m 0700 -- \"$0\"";
        let argv = ["sh", "-c", make, &folder].map(str::to_owned);
        machine.run(&argv, LIMIT).await?;
        let replaced = machine.replace(&server.file, &self.enablement.file.source, None);
        replaced.await?;
        say(&format!(
            "{}: made {}, in which identity writes",
            server.name,
            server.file.display()
        ));
        self.enablement.servers[i].has_file = true;
        Ok(())
    }

    async fn tell_kubeadm(&self, say: &impl Fn(&str)) -> Result<(), Failure> {
        let text = self.enablement.kubeadm_text(self.settings)?;
        let (Some(seen), Some(text)) = (&self.enablement.kubeadm, text) else {
            return Ok(());
        };
        let api = &self.reached.servers[0];
        let changed = api.change_kubeadm_config(seen, &text).await;
        changed.map_err(|error| server_failure(api, &error))?;
        say("kubeadm's ClusterConfiguration has the flag: what it writes from now on keeps it");
        Ok(())
    }

    async fn restart(&mut self, i: usize, say: &impl Fn(&str)) -> Result<(), Failure> {
        let (server, machine) = self.server(i)?;
        let seen = &self.enablement.servers[i];
        let new = seen.enabled(server)?;
        let before = self.reached.servers[i].metrics().await;
        let old = seen.text.clone();
        let replaced = machine.replace(&seen.manifest, &new, Some(old.fingerprint()));
        replaced.await?;
        say(&format!(
            "{}: wrote --encryption-provider-config into {}",
            server.name,
            seen.manifest.display()
        ));
        self.restarted = Some(Restarted {
            server: i,
            before: before.ok().map(|metrics| metrics.process),
            old,
            new,
        });
        self.enablement.servers[i].has_flag = true;
        Ok(())
    }

    async fn wait(&mut self, i: usize, say: &impl Fn(&str)) -> Result<(), Failure> {
        let (server, machine) = self.server(i)?;
        let since = self.waiting.unwrap_or_else(|| {
            say(&format!(
                "{}: waiting until its API server is back with the file, about 40 s",
                server.name
            ));
            Instant::now()
        });
        self.waiting = Some(since);
        if since.elapsed() <= self.settings.load_timeout {
            tokio::time::sleep(LOOK).await;
            return Ok(());
        }
        let failure = Failure::stopped(format!(
            "{} is not back after {} s",
            server.name,
            since.elapsed().as_secs()
        ));
        let Some(restarted) = self.restarted.as_ref().filter(|it| it.server == i) else {
            return Err(failure.hint("nothing is encrypted yet: look at its log, then begin again"));
        };
        // Nothing is encrypted yet, so the server can do without.
        let manifest = &self.enablement.servers[i].manifest;
        let new = restarted.new.fingerprint();
        machine.replace(manifest, &restarted.old, Some(new)).await?;
        Err(failure.hint(format!(
            "{} is as it was before, and nothing is encrypted: look at the log of the container that did \
             not start, then begin again",
            manifest.display()
        )))
    }
}
