//! The way back where no API server runs, say because none starts with its file: files with which they
//! start again, by etcd, the escrow and the files as they are.
//!
//! The rules are those of every rotation. That no process runs, which etcd shows, stands for what they
//! would ask of processes: none lacks a key, and none writes with another one. A file only grows; a
//! plugin that may be why they do not start leaves where a census shows that nothing needs it.

use std::time::{Duration, Instant};

use atrest_core::at_rest::{Census, GroupResource, State};
use atrest_core::encryption_config::EncryptionConfiguration;
use atrest_core::rotation::chain::{Selection, Stage, Target};
use atrest_core::rotation::{CensusFacts, Facts, Progress, ServerFacts, Step, Stop, next};
use atrest_core::secret::{Fingerprint, SecretBytes};

use super::driver::{FRESH, NAMED, not_current};
use super::journal::{Journal, Record};
use super::observe::connect;
use super::settings::{Server, Settings, To};
use super::target::kms_provider;
use super::window::Window;
use super::{covered, escrow, hand, manual, stage_name};
use crate::args::{EtcdFlags, Global, RotateFlags};
use crate::cluster::{self, Process};
use crate::configuration::{self, Loaded};
use crate::etcd::{self, Prover, Question};
use crate::kms;
use crate::machine::Machine;
use crate::report;
use crate::report::verify::escape;
use crate::status::Failure;

/// A running kube-apiserver renews its identity Lease every 10 s (`pkg/controlplane/apiserver`).
const STILL: Duration = Duration::from_secs(25);

/// Identity Leases to look at: more than there are API servers.
const LEASES: u32 = 1000;

/// Whether not one of the run's servers gives any answer.
pub(crate) async fn nobody_answers(global: &Global, journal: &Journal) -> Result<bool, Failure> {
    let settings = journal.settings();
    for server in settings.iter().flat_map(|(settings, _)| &settings.servers) {
        let answer = connect(global, server).await?.text("/readyz").await;
        if !matches!(answer, Err(cluster::Error::Unreachable(_))) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Gives every server a file with which it starts, in a run that goes back; returns what is to be done then.
pub(crate) async fn prepare(
    global: &Global,
    flags: &RotateFlags,
    window: &Window,
    mut journal: Journal,
) -> Failure {
    let still = match Still::begin(global, flags, &journal).await {
        Ok(still) => still.act(window, &mut journal).await,
        Err(failure) => Err(failure),
    };
    let failure = match still {
        Ok(()) => Failure::stopped(
            "no API server runs: their files have the old key first, and read all that is stored",
        )
        .hint("start every API server, as far as its node does not by itself; then atrest rotate resume"),
        Err(failure) => failure.in_the_middle("no file has lost a key that anything stored is under"),
    };
    let reason = failure.message().to_owned();
    let _ = journal.append(Record::Stopped { reason });
    failure
}

/// A cluster in which no API server runs.
struct Still {
    settings: Settings,
    etcd: etcd::Client,
    flags: EtcdFlags,
    /// What writes in the end.
    old: Target,
    /// Where the run led, as far as that is known.
    new: Option<Target>,
    places: Vec<Place>,
    quiet: bool,
}

/// A server's file.
struct Place {
    /// `None` where only an operator gets to it.
    machine: Option<Machine>,
    /// Of what is there, whatever it is.
    there: Option<Fingerprint>,
    /// What is there, if kube-apiserver loads it.
    file: Option<Loaded>,
}

impl Place {
    async fn look(server: &Server) -> Result<Self, Failure> {
        let Some(machine) = Machine::of(&server.access) else {
            return Ok(Self {
                machine: None,
                there: None,
                file: None,
            });
        };
        machine.remove_leftover(&server.file).await?;
        let source = match machine.read(&server.file).await {
            Ok(source) => Some(source),
            Err(error) if error.is_missing() => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Self {
            there: source.as_ref().map(SecretBytes::fingerprint),
            file: match source.map(|source| configuration::judged(source, &server.file)) {
                None => {
                    report::say(format!("{}: it has no file", server.name));
                    None
                }
                Some(Err(failure)) => {
                    report::say(format!("{}: {}", server.name, failure.message()));
                    None
                }
                Some(Ok(file)) => Some(file),
            },
            machine: Some(machine),
        })
    }
}

impl Still {
    async fn begin(
        global: &Global,
        flags: &RotateFlags,
        journal: &Journal,
    ) -> Result<Self, Failure> {
        let damaged = || Failure::unusable("the journal has no beginning");
        let (pinned, etcd_id) = journal.settings().ok_or_else(damaged)?;
        let settings = pinned.with_connections_of(flags);
        let flags = EtcdFlags::from(&settings.etcd);
        let etcd = etcd::Client::connect(&flags).await?;
        if etcd.cluster_id != etcd_id {
            return Err(Failure::unusable(format!(
                "the run belongs to etcd cluster {etcd_id}, and this one is {}",
                etcd.cluster_id
            ))
            .hint("check the etcd endpoints of the run"));
        }
        let mut places = Vec::new();
        for server in &settings.servers {
            places.push(Place::look(server).await?);
        }
        let unknown = || Failure::stopped("it is not known what wrote before this run");
        let files = places.iter().filter_map(|it| it.file.as_ref());
        let files: Vec<_> = files.map(|it| &it.configuration).collect();
        let old = journal
            .writer()
            .ok_or_else(unknown)?
            .find_in(&settings, &files)?;
        let new = match &settings.to {
            To::Identity => Some(Target::Identity),
            To::Kms { name, socket } => Some(Target::Kms(kms_provider(name, socket))),
            To::InUse | To::Provider(_) => escrow::find(&escrow::paths(&settings, &journal.run))?
                .map(|(local, key)| Target::Key(local, key)),
        };
        Ok(Self {
            settings,
            etcd,
            flags,
            old,
            new,
            places,
            quiet: global.quiet,
        })
    }

    async fn act(mut self, window: &Window, journal: &mut Journal) -> Result<(), Failure> {
        self.await_standstill().await?;
        let grown = self.grown(journal).await?;
        // Before it is known that every file has the old key first, nothing may leave.
        let may_leave = matches!(self.new, Some(Target::Kms(_)))
            && self.places.iter().all(|it| it.machine.is_some());
        let mut census: Option<(CensusFacts, Instant)> = None;
        let mut stages = Vec::new();
        for (place, server) in self.places.iter().zip(&self.settings.servers) {
            stages.push(match &place.file {
                Some(file) => self.stage(&file.configuration)?,
                None => match manual::Asked::of(&journal.records, &server.name) {
                    Some(asked) if place.machine.is_none() => asked.stage,
                    _ => Stage::Absent,
                },
            });
        }
        loop {
            let facts = Facts {
                key_missing: false,
                servers: stages.iter().copied().map(without_process).collect(),
                in_place: false,
                unlisted: false,
                // Nobody is there to rewrite anything.
                progress: Progress {
                    passes: u32::MAX,
                    set_aside: 0,
                },
                in_flight_over: true,
                census: census
                    .filter(|(_, taken)| taken.elapsed() < FRESH)
                    .map(|it| it.0),
                hold_over: true,
                window_over: window.is_over(),
                snapshot_before_missing: false,
                snapshot_after_missing: false,
                scrub_missing: false,
            };
            match next(&facts) {
                // Both at once: there is no process that could lack the key.
                Step::AddRead(i) | Step::Promote(i) => {
                    stages[i] = Stage::Writes;
                    self.write(i, Stage::Writes, &grown[i], journal).await?;
                }
                Step::Verify if may_leave => {
                    self.await_standstill().await?;
                    let taken = Instant::now();
                    census = Some((self.count().await?, taken));
                }
                Step::DropRead(i) if may_leave => {
                    let smaller = self.only_the_old(i)?;
                    stages[i] = Stage::Only;
                    self.write(i, Stage::Only, &smaller, journal).await?;
                }
                Step::Stop(Stop::Window) => {
                    return Err(Failure::stopped("the maintenance window is over"));
                }
                _ => break,
            }
        }
        for (place, server) in self.places.iter().zip(&self.settings.servers) {
            if place.machine.is_some() {
                // Whichever starts has read it.
                let (server, process) = (server.name.clone(), Process::none());
                journal.append(Record::Placed {
                    server,
                    process,
                    sha256: None,
                })?;
            }
        }
        Ok(())
    }

    /// Until it is certain that nothing writes to etcd but us.
    async fn await_standstill(&mut self) -> Result<(), Failure> {
        self.say(&format!(
            "no API server answers; looking for {} s whether one renews its Lease in etcd",
            STILL.as_secs()
        ));
        let leases = GroupResource::parse("leases.coordination.k8s.io");
        let below = leases.directory(self.flags.prefix()) + "kube-system/apiserver-";
        let before = self.etcd.keys(below.as_bytes(), below.as_bytes(), LEASES);
        let before = before.await?;
        if before.is_empty() {
            return Err(Failure::unread(format!(
                "there is no identity Lease of an API server below {below}"
            ))
            .hint("check --etcd-prefix; without Leases nothing shows that no API server runs"));
        }
        tokio::time::sleep(STILL).await;
        let after = self.etcd.keys(below.as_bytes(), below.as_bytes(), LEASES);
        let is_renewed = |now: &&etcd::Key| {
            let mut then = before.iter();
            then.all(|it| (&it.key, it.mod_revision) != (&now.key, now.mod_revision))
        };
        match after.await?.iter().find(is_renewed) {
            None => Ok(()),
            Some(lease) => Err(Failure::stopped(format!(
                "an API server runs and does not answer here: it has renewed {}",
                escape(&String::from_utf8_lossy(&lease.key))
            ))
            .hint(
                "have it answer, by its url and the kubeconfig, or stop every API server, crash loops, \
                 too; then atrest rotate rollback",
            )),
        }
    }

    /// For each server its own file with the old key first and all that it had, or another one's where its own
    /// cannot be had so. Everything that is stored can be read with each.
    async fn grown(&mut self, journal: &Journal) -> Result<Vec<SecretBytes>, Failure> {
        let mut good: Vec<EncryptionConfiguration> = Vec::new();
        let mut own = Vec::new();
        let mut last = None;
        for i in 0..self.places.len() {
            let (server, place) = (&self.settings.servers[i], &self.places[i]);
            let Some(file) = &place.file else {
                own.push(None);
                continue;
            };
            let grown = match self.grow(file) {
                Ok(bytes) => configuration::judged(bytes, &server.file),
                Err(failure) => Err(failure),
            };
            let read = match &grown {
                Ok(grown) if good.contains(&grown.configuration) => Ok(()),
                Ok(grown) => self.reads_all(&grown.configuration, journal).await,
                Err(_) => Ok(()),
            };
            let name = &self.settings.servers[i].name;
            own.push(match (grown, read) {
                (Ok(grown), Ok(())) => {
                    good.push(grown.configuration);
                    Some(grown.source)
                }
                (Err(failure), _) | (Ok(_), Err(failure)) => {
                    report::say(format!("{name}: {}", failure.message()));
                    last = Some(failure);
                    self.places[i].file = None;
                    None
                }
            });
        }
        let Some(first) = own.iter().flatten().next() else {
            return Err(last.unwrap_or_else(|| {
                Failure::stopped("kube-apiserver would load no server's file")
                    .hint("mend one of them by hand; then atrest rotate rollback")
            }));
        };
        let first = SecretBytes::new(first.expose().to_vec());
        let or_first = |own: Option<SecretBytes>| {
            own.unwrap_or_else(|| SecretBytes::new(first.expose().to_vec()))
        };
        Ok(own.into_iter().map(or_first).collect())
    }

    fn grow(&self, file: &Loaded) -> Result<SecretBytes, Failure> {
        let mut grown = file.configuration.clone();
        let steps = [
            (self.new.as_ref(), Stage::Reads),
            (Some(&self.old), Stage::Writes),
        ];
        for (target, stage) in steps {
            let Some(target) = target else { continue };
            let selection = self.selection(&grown)?;
            let advanced = selection.advance(&grown, target, stage);
            grown = advanced.map_err(Failure::unusable)?;
        }
        configuration::edit(&file.source, &grown)
    }

    /// Every value of all that the file covers is decrypted. What only a plugin that is away could say is said.
    async fn reads_all(
        &mut self,
        configuration: &EncryptionConfiguration,
        journal: &Journal,
    ) -> Result<(), Failure> {
        let selection = Selection::new(configuration, &[]).map_err(Failure::unusable)?;
        let sockets = hand::sockets(&self.settings);
        let key_ids = kms::key_ids(configuration, &sockets).await;
        let named = covered::named(&selection);
        let prefix = self.flags.prefix();
        let question =
            Question::of_rotation(prefix, &selection, &named, configuration, &key_ids, NAMED);
        let plugins = kms::Unwrapper::new(configuration, &sockets, key_ids.clone());
        let prover = Prover::new(vec![(configuration, plugins)]);
        let counted = etcd::census(&mut self.etcd, &question, Some(prover)).await?;
        if let (Some(pinned), Some(uid)) = (journal.cluster_uid(), &counted.cluster_uid)
            && pinned != uid
        {
            return Err(Failure::unusable(format!(
                "the run belongs to the cluster whose kube-system has the uid {pinned}, and this one's has {uid}"
            )));
        }
        let census = counted.census;
        let unreadable: u64 = census.resources.iter().map(|it| it.unreadable()).sum();
        if unreadable == 0 {
            self.say(&format!(
                "revision {}: {} values, all of which the file reads{}",
                counted.revision,
                census.total(),
                match census.count(State::Unread) {
                    0 => String::new(),
                    unread => format!(" but {unread}, of which only a plugin can tell"),
                }
            ));
            return Ok(());
        }
        let mut message = format!("{unreadable} stored values cannot be read with its keys:");
        for value in census.unreadable_listed() {
            message += "\n  ";
            message += &escape(&String::from_utf8_lossy(&value.key));
        }
        Err(Failure::stopped(message).hint(
            "add the key that they are under to one server's file; then atrest rotate rollback",
        ))
    }

    /// Of what is rotated, against the first file, which every server has.
    async fn count(&mut self) -> Result<CensusFacts, Failure> {
        let files = self.places.iter().filter_map(|it| it.file.as_ref());
        let configuration = &files
            .map(|it| &it.configuration)
            .next()
            .ok_or_else(|| Failure::unusable("no server's file is in reach"))?;
        let selection = self.selection(configuration)?;
        let named = covered::named(&selection);
        let key_ids = match &self.old {
            Target::Kms(_) => kms::key_ids(configuration, &hand::sockets(&self.settings)).await,
            _ => Default::default(),
        };
        let question = Question::of_rotation(
            self.flags.prefix(),
            &selection,
            &named,
            configuration,
            &key_ids,
            NAMED,
        );
        let census: Census = etcd::census(&mut self.etcd, &question, None).await?.census;
        Ok(CensusFacts {
            not_current: not_current(&census),
            waived: 0, // nothing is passed over where no server could tell
            unread: census.count(State::Unread),
        })
    }

    fn only_the_old(&self, i: usize) -> Result<SecretBytes, Failure> {
        let unread = || Failure::unusable("no server's file is in reach");
        let file = self.places[i].file.as_ref().ok_or_else(unread)?;
        let smaller = self.selection(&file.configuration)?.advance(
            &file.configuration,
            &self.old,
            Stage::Only,
        );
        configuration::edit(&file.source, &smaller.map_err(Failure::unusable)?)
    }

    async fn write(
        &mut self,
        i: usize,
        stage: Stage,
        bytes: &SecretBytes,
        journal: &mut Journal,
    ) -> Result<(), Failure> {
        let (server, sha256) = (&self.settings.servers[i], bytes.fingerprint().to_string());
        journal.append(Record::Write {
            server: server.name.clone(),
            stage: stage_name(stage).into(),
            sha256: sha256.clone(),
            before: None,
        })?;
        let bytes = SecretBytes::new(bytes.expose().to_vec());
        let Some(machine) = &self.places[i].machine else {
            // Those that are in reach come first.
            let has_it = |it: &Place| it.there == Some(bytes.fingerprint());
            let from = self.places.iter().position(has_it).unwrap_or_default();
            let from = &self.settings.servers[from];
            report::say(manual::instruction(server, from, &sha256));
            return Ok(());
        };
        let replaced = machine.replace(&server.file, &bytes, self.places[i].there);
        replaced.await.map_err(|error| {
            Failure::stopped(error).hint("the file is as it was; then atrest rotate rollback")
        })?;
        self.say(&format!("{}: wrote {}", server.name, server.file.display()));
        let file = configuration::judged(bytes, &server.file)?;
        self.places[i].there = Some(file.fingerprint);
        self.places[i].file = Some(file);
        Ok(())
    }

    fn stage(&self, configuration: &EncryptionConfiguration) -> Result<Stage, Failure> {
        let selection = self.selection(configuration)?;
        let stage = selection.stage(configuration, &self.old);
        stage.map_err(Failure::unusable)
    }

    fn selection(&self, configuration: &EncryptionConfiguration) -> Result<Selection, Failure> {
        Selection::new(configuration, &self.settings.resources()).map_err(Failure::unusable)
    }

    fn say(&self, line: &str) {
        if !self.quiet {
            report::say(line);
        }
    }
}

/// What the rules ask of a process holds where there is none.
fn without_process(file: Stage) -> ServerFacts {
    ServerFacts {
        file,
        loaded: true,
        disturbed: false,
        taken_up: true,
        proven: true,
    }
}
