//! Observes, asks `core::rotation` for the next step, does it, and again.

mod keeping;
mod load;
mod orphans;
mod proof;
mod values;
mod waive;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use atrest_core::at_rest::{Census, GroupResource, State as ValueState};
use atrest_core::encryption_config::EncryptionConfiguration;
use atrest_core::rotation::chain::{Local, Selection, Stage, Target};
use atrest_core::rotation::{Await, CensusFacts, Facts, ServerFacts, State, Step, Stop, next};
use futures::future::join_all;

use self::keeping::Kept;
use self::load::Loads;
pub(super) use self::values::not_current;
use self::waive::Remnant;
use super::barrier::Barrier;
use super::certificate;
use super::compromised::Exposed;
use super::enable::enable;
use super::escrow;
use super::evidence::Written;
use super::journal::{Journal, Record};
use super::lease::Lease;
use super::manual;
use super::matrix::Matrix;
use super::observe::{Observed, Reached, observe};
use super::others;
use super::preflight::Credential;
use super::rewrite::SetAside;
use super::settings::{Settings, To};
use super::stage_name;
use super::target::{kms_provider, no_provider_in_use, provider_in_use};
use super::window::Window;
use crate::args::{Global, RotateFlags};
use crate::cluster::Process;
use crate::configuration::{self, Loaded};
use crate::kms;
use crate::report;
use crate::status::Failure;

/// A census older than this is no ground to remove a key on (promise I1).
pub(super) const FRESH: Duration = Duration::from_secs(60);

/// How often a server's file is brought to the same stage before somebody else is suspected.
const WRITES: usize = 3;

/// Values that are not current to name.
pub(super) const NAMED: usize = 20;

/// A rotation that acts.
pub(crate) struct Run<'a> {
    journal: Journal,
    settings: Settings,
    etcd_id: String,
    reached: Reached,
    lease: Lease,
    /// Records that earlier processes of the run left.
    taken_up: usize,
    /// The key that is minted, or the plugin that is moved to.
    target: Option<Target>,
    census: Option<(Census, i64, Instant)>,
    set_aside: Vec<SetAside>,
    /// Of the newest census, the first values that are not under the target.
    remnants: Vec<Remnant>,
    /// Keys of values that the operator waives.
    to_waive: Vec<String>,
    /// Why the servers are not all that run, when that was last looked at.
    unlisted: Option<Failure>,
    window: Window,
    /// When the barrier was recorded, or later: when this process began.
    barrier_seen: Instant,
    /// The plugin's, when it was last looked at.
    key_id: Option<String>,
    loads: Loads,
    began: Instant,
    state: Option<State>,
    global: &'a Global,
}

/// What a finished run proved.
pub(crate) struct Proof {
    pub(crate) run: String,
    /// What everything is: `under the new key`.
    pub(crate) under: &'static str,
    pub(crate) revision: i64,
    pub(crate) census: Census,
    /// How long this process took, waiting apart from work.
    pub(crate) took: String,
    /// Where its certificate is.
    pub(crate) certificate: PathBuf,
    /// What others read with the old key, for people.
    pub(crate) exposed: Option<String>,
}

impl<'a> Run<'a> {
    /// Takes up the journal where it ends: at its beginning, or anywhere. The cluster's Lease may be held
    /// by runs that are ours to end.
    pub(crate) async fn new(
        global: &'a Global,
        flags: &RotateFlags,
        window: Window,
        journal: Journal,
        ours: &[&str],
    ) -> Result<Self, Failure> {
        let damaged = || Failure::unusable("the journal has no beginning");
        let (pinned, etcd_id) = journal.settings().ok_or_else(damaged)?;
        let (settings, etcd_id) = (pinned.with_connections_of(flags), etcd_id.to_owned());
        Credential::all(global, flags, &settings).await?;
        let reached = Reached::connect(global, &settings).await?;
        if reached.etcd.cluster_id != etcd_id {
            return Err(Failure::unusable(format!(
                "the run belongs to etcd cluster {etcd_id}, and this one is {}",
                reached.etcd.cluster_id
            ))
            .hint("check --kubeconfig, and the etcd endpoints of the run"));
        }
        same_cluster(&journal, &reached).await?;
        let holder = journal.holder().ok_or_else(damaged)?;
        let lease = Lease::take(&reached.servers, holder, ours, State::Lock.name()).await?;
        for (server, machine) in settings.servers.iter().zip(&reached.machines) {
            // What a run that was killed between creating and renaming left behind.
            if let Some(machine) = machine {
                machine.remove_leftover(&server.file).await?;
                if let Some(manifest) = server.reload.manifest() {
                    machine.remove_leftover(manifest).await?;
                }
            }
        }
        let any = GroupResource::parse("secrets");
        let canaries = Matrix::new(&settings, &reached, any, journal.directory());
        canaries.clear().await?;
        Ok(Self {
            taken_up: journal.records.len(),
            journal,
            settings,
            etcd_id,
            reached,
            lease,
            target: None,
            census: None,
            set_aside: Vec::new(),
            remnants: Vec::new(),
            to_waive: flags.waive.clone(),
            unlisted: None,
            window,
            barrier_seen: Instant::now(),
            key_id: None,
            loads: Loads::default(),
            began: Instant::now(),
            state: None,
            global,
        })
    }

    /// Goes on until everything is proven, or something has to be done first.
    pub(crate) async fn drive(mut self) -> Result<Proof, Failure> {
        if let Err(failure) = self.go_on().await {
            // The certificate tells of it. Where the journal cannot be written that is the failure.
            let reason = failure.message().to_owned();
            let _ = self.journal.append(Record::Stopped { reason });
            return Err(match self.journal.has_written() {
                // Whatever it was, the run is in its middle now.
                true => failure.in_the_middle(self.what_is_readable()),
                false => failure,
            });
        }
        self.done().await
    }

    async fn go_on(&mut self) -> Result<(), Failure> {
        let say = |line: &str| self.say(line);
        enable(
            &self.settings,
            &self.reached,
            &self.lease,
            &self.window,
            say,
        )
        .await
        .map_err(|failure| failure.in_the_middle("nothing is encrypted yet"))?;
        self.find_target().await?;
        self.waive().await?;
        loop {
            let (facts, observed) = self.facts().await?;
            self.note_loaded(&facts.servers, &observed)?;
            let step = next(&facts);
            if !matches!(step, Step::Stop(_)) {
                self.enter(step.state(&facts))?;
            }
            self.loads.goes_on(step);
            self.note_exposed(step, &observed).await?;
            match step {
                Step::Mint => self.mint(&observed)?,
                Step::AddRead(i) => self.push(i, &facts, &observed, Stage::Reads).await?,
                Step::Promote(i) => self.push(i, &facts, &observed, Stage::Writes).await?,
                Step::DropRead(i) => self.push(i, &facts, &observed, Stage::Only).await?,
                Step::Canary(i) => self.prove(&[i], &observed).await?,
                Step::Await(Await::Load(i)) => self.await_load(i, &observed).await?,
                Step::Await(Await::TakeUp(i)) => self.await_take_up(i, &observed).await?,
                Step::Await(Await::InFlight) => self.await_in_flight().await,
                Step::Await(Await::Hold) => {
                    self.keep_lease().await?;
                    return Err(self.hold());
                }
                Step::RecordBarrier => self.record_barrier(&observed).await?,
                Step::Snapshot(which) => self.snapshot(which, &observed).await?,
                Step::Scrub => self.scrub(&observed).await?,
                Step::Rewrite => self.rewrite(&observed).await?,
                Step::Verify => self.verify(&observed).await?,
                Step::Stop(stop) => return Err(self.stopped(stop)),
                Step::Done => return Ok(()),
            }
        }
    }

    /// The journal says what the target is; its bytes are in the escrow.
    async fn find_target(&mut self) -> Result<(), Failure> {
        if self.journal.is_rolled_back() {
            let unknown = || Failure::stopped("it is not known what wrote before this run");
            let writer = self.journal.writer().ok_or_else(unknown)?;
            self.target = Some(writer.find(&self.settings, &self.reached.machines).await?);
            return Ok(());
        }
        self.target = match &self.settings.to {
            To::Identity => Some(Target::Identity),
            To::Kms { name, socket } => {
                // A server that cannot reach the plugin would refuse the file; so do we, before.
                kms::status(socket).await?;
                Some(Target::Kms(kms_provider(name, socket)))
            }
            To::InUse | To::Provider(_) => {
                let minted = self.journal.records.iter().find_map(|record| match record {
                    Record::Minted { fingerprint, .. } => Some(fingerprint),
                    _ => None,
                });
                let paths = escrow::paths(&self.settings, &self.journal.run);
                match (escrow::find(&paths)?, minted) {
                    (Some((local, key)), Some(fingerprint))
                        if key.secret.fingerprint().to_string() == *fingerprint =>
                    {
                        Some(Target::Key(local, key))
                    }
                    (_, Some(_)) => {
                        let place = paths.first().map(|path| path.display().to_string());
                        return Err(Failure::unusable(format!(
                            "the run's key is not in its escrow any more: {}",
                            place.unwrap_or_default()
                        ))
                        .hint("put the escrow file back, then atrest rotate resume"));
                    }
                    // Killed between the escrow and the journal: MINT finds it again.
                    (_, None) => None,
                }
            }
        };
        Ok(())
    }

    async fn facts(&mut self) -> Result<(Facts, Vec<Observed>), Failure> {
        let mut observed = Vec::new();
        let mut servers = Vec::new();
        let mut reachable = Vec::new();
        let barrier = self.barrier();
        let records = &self.journal.records;
        let all = self.settings.servers.iter().enumerate().map(|(i, server)| {
            let (machine, api) = (&self.reached.machines[i], &self.reached.servers[i]);
            observe(server, machine.as_ref(), api)
        });
        let all = join_all(all).await;
        for (i, (server, seen)) in self.settings.servers.iter().zip(all).enumerate() {
            let seen = seen?;
            let (file, loaded) = match &seen.file {
                Some(file) => {
                    let stage = self.stage(&file.configuration)?;
                    reachable.push((file.fingerprint.to_string(), stage));
                    let written = Written::of(records, &server.name);
                    (stage, seen.is_loaded(written.as_ref()))
                }
                None => manual::facts(records, &server.name, seen.loaded(), &reachable),
            };
            servers.push(ServerFacts {
                taken_up: true,
                proven: seen.process().is_some()
                    && seen.process() == barrier.canaries.get(&server.name),
                file,
                loaded,
                disturbed: seen.process().is_none() || seen.process() != barrier.processes.get(i),
            });
            observed.push(seen);
        }
        self.note_loads(&observed, &servers);
        self.note_all_placed(&observed)?;
        let in_place = self.is_in_place(&servers);
        if in_place {
            // A plugin reads with its old keys, too: it is never the new one alone.
            for (server, seen) in servers.iter_mut().zip(&observed) {
                server.file = Stage::Writes;
                // Where it does not say it, the key that it has taken up and a canary show it.
                server.loaded |= seen.says_nothing_yet();
            }
        }
        self.note_taken_up(&mut servers, &observed).await?;
        if self
            .kind_of_canary(&first_file(&observed)?.configuration)?
            .is_none()
        {
            servers.iter_mut().for_each(|it| it.proven = true);
        }
        let census = self
            .census
            .as_ref()
            .filter(|(_, _, taken)| taken.elapsed() < FRESH)
            .map(|(census, _, _)| CensusFacts {
                not_current: not_current(census) + census.waived,
                waived: census.waived,
                unread: census.count(ValueState::Unread),
            });
        let kept = Kept::of(&self.journal.records);
        let wants_snapshots = self.settings.snapshots.is_some() && !self.journal.is_rolled_back();
        let facts = Facts {
            key_missing: self.target.is_none(),
            in_place,
            unlisted: self.look_for_others(&observed, &servers).await?,
            servers,
            progress: barrier.since,
            in_flight_over: self.in_flight_left().is_zero(),
            census,
            hold_over: self.hold_left().is_zero(),
            window_over: self.window.is_over(),
            snapshot_before_missing: wants_snapshots && !kept.before,
            snapshot_after_missing: wants_snapshots && !kept.after,
            scrub_missing: self.settings.scrub && !kept.is_scrubbed,
        };
        Ok((facts, observed))
    }

    /// Whether API servers run that are not listed, as any server shows it.
    async fn look_for_others(
        &mut self,
        observed: &[Observed],
        servers: &[ServerFacts],
    ) -> Result<bool, Failure> {
        let mut failed = None;
        let identities: Vec<_> = observed.iter().map(Observed::identity).collect();
        for (api, seen) in self.reached.servers.iter().zip(observed) {
            if seen.process().is_none() {
                continue;
            }
            match others::unlisted(api, &self.reached.servers, &identities, false).await {
                Ok(unlisted) => {
                    self.unlisted = unlisted;
                    return Ok(self.unlisted.is_some());
                }
                Err(failure) => failed = Some(failure),
            }
        }
        // Before every server has loaded its file nothing is done that this could forbid.
        let failed = failed.filter(|_| servers.iter().all(|it| it.loaded));
        failed.map_or(Ok(false), Err)
    }

    /// When a server has what it was given, for the certificate.
    fn note_loaded(&mut self, servers: &[ServerFacts], seen: &[Observed]) -> Result<(), Failure> {
        for (i, seen) in seen.iter().enumerate().filter(|it| servers[it.0].loaded) {
            let name = &self.settings.servers[i].name;
            let mut records = self.journal.records.iter().rev();
            let newest = records.find(|it| it.is_written_or_loaded(name));
            let Some(Record::Write { server, sha256, .. }) = newest else {
                continue;
            };
            // Somebody else may have written since.
            let is_this = |file: &Loaded| file.fingerprint.to_string() == *sha256;
            if seen.file.as_ref().is_none_or(is_this) {
                let (server, sha256) = (server.clone(), sha256.clone());
                self.journal.append(Record::Loaded { server, sha256 })?;
            }
        }
        Ok(())
    }

    fn stage(&self, configuration: &EncryptionConfiguration) -> Result<Stage, Failure> {
        let Some(target) = &self.target else {
            return Ok(Stage::Absent);
        };
        let selection = self.selection(configuration)?;
        let stage = selection.stage(configuration, target);
        stage.map_err(Failure::unusable)
    }

    fn selection(&self, configuration: &EncryptionConfiguration) -> Result<Selection, Failure> {
        Selection::new(configuration, &self.settings.resources()).map_err(Failure::unusable)
    }

    fn barrier(&self) -> Barrier {
        Barrier::of(&self.journal.records, self.taken_up)
    }

    fn enter(&mut self, state: State) -> Result<(), Failure> {
        if self.state == Some(state) {
            return Ok(());
        }
        self.state = Some(state);
        self.say(&format!("step {}: {}", state.number(), state.name()));
        self.journal.append(Record::State {
            state: state.name().into(),
        })
    }

    fn mint(&mut self, observed: &[Observed]) -> Result<(), Failure> {
        let local = match &self.settings.to {
            To::Provider(name) => Local::parse(name),
            _ => observed
                .first()
                .and_then(|seen| seen.file.as_ref())
                .and_then(|file| provider_in_use(&file.configuration, &self.settings)),
        };
        let local = local.ok_or_else(no_provider_in_use)?;
        let run = self.journal.run.clone();
        let key = escrow::find_or_mint(&self.settings, &run, &self.etcd_id, local)?;
        self.journal.append(Record::minted(local, &key))?;
        let paths = escrow::paths(&self.settings, &run);
        let places: Vec<_> = paths
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        self.say(&format!(
            "key {} is in the escrow: {}",
            key.name,
            places.join(" and ")
        ));
        self.target = Some(Target::Key(local, key));
        Ok(())
    }

    /// Every step that takes time or writes begins with this.
    async fn keep_lease(&self) -> Result<(), Failure> {
        let state = self.state.unwrap_or(State::Plan).name();
        self.lease.keep(&self.reached.servers, state).await
    }

    async fn write(
        &mut self,
        i: usize,
        observed: &[Observed],
        stage: Stage,
    ) -> Result<(), Failure> {
        self.keep_lease().await?;
        let Some(target) = &self.target else {
            return Err(Failure::unusable("there is no target yet"));
        };
        let (seen, server) = (&observed[i], &self.settings.servers[i]);
        let (Some(seen_file), Some(machine)) = (&seen.file, &self.reached.machines[i]) else {
            return self.ask(i, observed, stage);
        };
        if self.times_written(&server.name, stage) == WRITES {
            return Err(Failure::stopped(format!(
                "{}: {} was written {WRITES} times, and each time it was changed back",
                server.name,
                server.file.display()
            ))
            .hint(
                "look for configuration management or another program that keeps this file, and \
                 pause it; then atrest rotate resume",
            ));
        }
        let now = &seen_file.configuration;
        let advanced = self
            .selection(now)?
            .advance(now, target, stage)
            .map_err(Failure::unusable)?;
        let bytes = configuration::edit(&seen_file.source, &advanced)?;
        // What was known of the values says nothing about the time after this.
        self.census = None;
        self.journal.append(Record::Write {
            server: server.name.clone(),
            stage: stage_name(stage).into(),
            sha256: bytes.fingerprint().to_string(),
            before: seen.process().cloned(),
        })?;
        let replaced = machine.replace(&server.file, &bytes, Some(seen_file.fingerprint));
        replaced.await.map_err(|error| {
            Failure::stopped(error).hint("the file is as it was; atrest rotate resume goes on")
        })?;
        self.say(&format!("{}: wrote {}", server.name, server.file.display()));
        self.loads.wrote(i);
        Ok(())
    }

    fn times_written(&self, name: &str, to: Stage) -> usize {
        let is_it = |record: &&Record| matches!(record, Record::Write { server, stage, .. } if server == name && stage == stage_name(to));
        self.journal.records[self.taken_up..]
            .iter()
            .filter(is_it)
            .count()
    }

    async fn record_barrier(&mut self, observed: &[Observed]) -> Result<(), Failure> {
        // Of the look that found every server so, not of one that would miss what came between.
        let processes = observed.iter().filter_map(|seen| seen.process().cloned());
        let processes: Vec<_> = processes.collect();
        self.say_who_changed(&processes);
        let revision = self.reached.etcd.revision().await?;
        self.census = None;
        self.journal.append(Record::Barrier {
            revision,
            at: now(),
            processes,
            key_id: self.key_id.clone(),
        })?;
        self.barrier_seen = Instant::now();
        self.say(&format!(
            "every server writes {} from revision {revision} on",
            self.under()
        ));
        Ok(())
    }

    fn say_who_changed(&self, now: &[Process]) {
        let before = self.barrier().processes;
        let servers = self.settings.servers.iter().zip(before.iter().zip(now));
        for (server, _) in servers.filter(|(_, (before, now))| before != now) {
            self.say(&format!(
                "{}: has restarted or loaded another file; what it may have written is rewritten",
                server.name
            ));
        }
    }

    async fn await_in_flight(&mut self) {
        let left = self.in_flight_left();
        self.say(&format!(
            "waiting {:.0} s for writes that were in flight",
            left.as_secs_f64()
        ));
        let left = left.min(self.window.left());
        self.loads.for_requests += left;
        tokio::time::sleep(left).await;
    }

    fn hold(&self) -> Failure {
        let minutes = self.hold_left().as_secs().div_ceil(60);
        Failure::stopped(format!(
            "holding: the old key stays readable for {minutes} minutes more"
        ))
        .hint("everything is under the new key; atrest rotate resume after that drops the old one")
    }

    fn stopped(&mut self, stop: Stop) -> Failure {
        let message = match stop {
            Stop::NoServers => "there is no API server".to_owned(),
            Stop::Unlisted => {
                let unlisted = self.unlisted.take();
                return unlisted
                    .unwrap_or_else(|| Failure::stopped("the API servers are other ones"));
            }
            Stop::Window => {
                return Failure::stopped("the maintenance window is over").hint(format!(
                    "{}; atrest rotate resume goes on in the next one",
                    self.what_is_readable()
                ));
            }
            Stop::NotCurrent => {
                let left = self
                    .census
                    .as_ref()
                    .map_or(0, |(census, ..)| not_current(census));
                let mut message = format!("{left} values are not {}", self.under());
                for remnant in &self.remnants {
                    message += &format!("\n  {}", remnant.text(&self.set_aside));
                }
                message
            }
            Stop::Unread => "some values could not be judged".to_owned(),
        };
        let more = match stop {
            Stop::NotCurrent => Remnant::hint(&self.remnants).map(|it| format!("; {it}")),
            _ => None,
        };
        Failure::stopped(message).hint(format!(
            "{}; mend what is named, then atrest rotate resume{}",
            self.what_is_readable(),
            more.unwrap_or_default()
        ))
    }

    async fn done(mut self) -> Result<Proof, Failure> {
        let unproven = || Failure::stopped("there is no fresh census");
        let (census, revision, _) = self.census.take().ok_or_else(unproven)?;
        self.journal.append(Record::Done { revision })?;
        let under = self.under();
        let took = self.loads.summary(self.began.elapsed());
        let released = self
            .lease
            .release(&self.reached.servers, State::Done.name());
        if let Err(failure) = released.await {
            report::say("warning: the Lease kube-system/atrest-rotation is not released");
            report::failure(&failure);
        }
        let certificate = certificate::write(&self.journal)?;
        Ok(Proof {
            exposed: Exposed::of(&self.journal).map(|it| it.text(&self.journal)),
            under,
            took,
            run: self.journal.run,
            revision,
            census,
            certificate,
        })
    }

    /// By a clock that nobody sets: since the barrier, or since this process took the run up.
    fn in_flight_left(&self) -> Duration {
        self.settings
            .request_timeout
            .saturating_sub(self.barrier_seen.elapsed())
    }

    /// The hold begins with the first census that found nothing on the old key.
    fn hold_left(&self) -> Duration {
        if self.journal.is_rolled_back() {
            return Duration::ZERO;
        }
        match self.barrier().proven_at {
            None => self.settings.hold,
            Some(at) => left(self.settings.hold, at),
        }
    }

    /// What everything comes under.
    fn under(&self) -> &'static str {
        match (&self.target, self.journal.is_rolled_back()) {
            (Some(Target::Identity), _) => "in plaintext",
            (_, true) => "under the old key",
            (_, false) => "under the new key",
        }
    }

    /// The truth about the old key, for a hint.
    fn what_is_readable(&self) -> &'static str {
        let dropped =
            |record: &Record| matches!(record, Record::Write { stage, .. } if stage == "only");
        match self.journal.records.iter().any(dropped) {
            false => "both keys stay readable",
            true => {
                "the old key has begun to leave the files, after a census that found nothing on it"
            }
        }
    }

    fn say(&self, line: &str) {
        if !self.global.quiet {
            report::say(line);
        }
    }
}

/// A cluster that was restored elsewhere has the same etcd ids, and one that was made anew the same address.
async fn same_cluster(journal: &Journal, reached: &Reached) -> Result<(), Failure> {
    let Some(pinned) = journal.cluster_uid() else {
        return Ok(());
    };
    let uid = reached.cluster().await?.uid;
    if uid == pinned {
        return Ok(());
    }
    Err(Failure::unusable(format!(
        "the run belongs to the cluster whose kube-system has the uid {pinned}, and this one's has {uid}"
    ))
    .hint("check --kubeconfig; a run goes on in its own cluster only"))
}

/// The first server's: one whose file is out of reach is never the first.
fn first_file(observed: &[Observed]) -> Result<&Loaded, Failure> {
    let first = observed.iter().find_map(|seen| seen.file.as_ref());
    first.ok_or_else(|| Failure::unusable("no server's file is in reach"))
}

/// What is left of a span that began at a time of the journal. A clock that was set back makes the
/// wait longer, never shorter than it must be.
fn left(span: Duration, since: i64) -> Duration {
    let passed = u64::try_from(now() - since).unwrap_or_default();
    span.saturating_sub(Duration::from_millis(passed))
}

fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
