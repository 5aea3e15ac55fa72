//! The way of a file to its server: when it is written, by whom, and the wait until the server runs with it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use atrest_core::rotation::chain::Stage;
use atrest_core::rotation::{Facts, ServerFacts, Step};

use super::super::evidence::Written;
use super::super::journal::Record;
use super::super::manual;
use super::super::observe::Observed;
use super::super::poll::Poll;
use super::super::settings::Server;
use super::super::stage_name;
use super::Run;
use crate::configuration::Loaded;
use crate::status::Failure;

/// Between two looks at a server that has not loaded its file yet.
pub(super) const LOOK: Duration = Duration::from_millis(250);

/// Between two words about the same wait.
const SAY: Duration = Duration::from_secs(15);

/// All servers have looked at their files by then.
const WATCH: Duration = Duration::from_secs(65);

/// A server that looked at its file as often and as long, and neither loads nor refuses it, sees another one.
const LOOKS: u64 = 3;
const BLIND: Duration = Duration::from_secs(15);

/// What this process knows of the servers' loading.
#[derive(Default)]
pub(super) struct Loads {
    polls: Vec<Poll>,
    /// Since when the servers' first looks are watched for.
    watched: Option<Instant>,
    /// The server whose next look was waited for: its file is written now.
    due: Option<usize>,
    /// The one whose next look is waited for.
    announced: Option<usize>,
    /// Files that were written and are not known to be loaded yet.
    written: BTreeMap<usize, Instant>,
    waiting: Option<Waiting>,
    /// The wait that goes on.
    step: Option<Step>,
    /// Servers that were told to load a file, and that file's hash.
    told: BTreeSet<(usize, String)>,
    for_files: Duration,
    pub(super) for_requests: Duration,
}

/// For a server that has not loaded its file, or not taken up its plugin's key.
struct Waiting {
    since: Instant,
    said: Option<Instant>,
    /// Its looks and refusals before.
    looks: Option<u64>,
    failed: u64,
}

impl Loads {
    /// Whatever was waited for before another step is over.
    pub(super) fn goes_on(&mut self, step: Step) {
        if self.step != Some(step)
            && let Some(waiting) = self.waiting.take()
        {
            self.for_files += waiting.since.elapsed();
        }
        self.step = Some(step);
    }

    pub(super) fn wrote(&mut self, server: usize) {
        self.due = None;
        self.announced = None;
        self.written.insert(server, Instant::now());
    }

    /// For people.
    pub(super) fn summary(&self, took: Duration) -> String {
        let waits = self.for_files + self.for_requests;
        let secs = |span: Duration| format!("{:.1} s", span.as_secs_f64());
        format!(
            "{} in all: {} of work; waited {} for servers to load files, {} for writes in flight",
            secs(took),
            secs(took.saturating_sub(waits)),
            secs(self.for_files),
            secs(self.for_requests),
        )
    }

    /// Of servers that a rule takes alike, the one that looks at its file first.
    fn soonest(&self, servers: &[usize]) -> Option<usize> {
        let is_due = |i: &&usize| self.due == Some(**i);
        let soonest = || servers.iter().min_by_key(|i| self.wait(**i));
        servers.iter().find(is_due).or_else(soonest).copied()
    }

    fn wait(&self, server: usize) -> Duration {
        self.polls.get(server).map_or(Duration::ZERO, Poll::wait)
    }

    /// Whether it is worth to see first when several servers look at their files.
    fn is_to_watch(&self, servers: &[usize]) -> bool {
        let mut polls = servers.iter().filter_map(|i| self.polls.get(*i));
        self.watched.is_none_or(|since| since.elapsed() < WATCH)
            && self.polls.len() > 1
            && polls.any(Poll::is_unknown)
    }

    fn next_poll(&self, server: usize) -> Option<Duration> {
        self.polls.get(server)?.next()
    }
}

impl Run<'_> {
    /// Brings a server's file to a stage, just before the server looks at it. The rules name the first server of
    /// those that are as far; it may be any of them.
    pub(super) async fn push(
        &mut self,
        i: usize,
        facts: &Facts,
        observed: &[Observed],
        stage: Stage,
    ) -> Result<(), Failure> {
        let alike = (0..observed.len()).filter(|j| {
            facts.servers[*j].file == facts.servers[i].file && observed[*j].file.is_some()
        });
        let alike: Vec<_> = alike.collect();
        if self.loads.is_to_watch(&alike) {
            if self.loads.watched.is_none() {
                self.say("when the servers look at their files is seen first, within a minute");
            }
            self.loads.watched.get_or_insert_with(Instant::now);
            tokio::time::sleep(LOOK).await;
            self.loads.for_files += LOOK;
            return Ok(());
        }
        let i = self.loads.soonest(&alike).unwrap_or(i);
        let wait = self.loads.wait(i);
        if self.loads.due == Some(i) || wait.is_zero() {
            return self.write(i, observed, stage).await;
        }
        let name = &self.settings.servers[i].name;
        if self.loads.announced != Some(i) {
            self.say(&format!(
                "{name}: its file is written in {:.0} s, just before the next look at it",
                wait.as_secs_f64()
            ));
        }
        self.loads.announced = Some(i);
        // Meanwhile files that were written are seen to be loaded.
        let all = wait.min(self.window.left());
        let part = match self.loads.written.is_empty() {
            true => all,
            false => all.min(2 * LOOK),
        };
        tokio::time::sleep(part).await;
        self.loads.for_files += part;
        if part == wait {
            self.loads.due = Some(i);
        }
        Ok(())
    }

    /// What the newest look at the servers tells of their files.
    pub(super) fn note_loads(&mut self, observed: &[Observed], servers: &[ServerFacts]) {
        self.loads.polls.resize_with(observed.len(), Poll::default);
        for (i, seen) in observed.iter().enumerate() {
            let poll = &mut self.loads.polls[i];
            match &seen.metrics {
                Some(metrics) if !self.settings.servers[i].reload.restarts() => poll.see(metrics),
                _ => *poll = Poll::default(),
            }
            if servers[i].loaded
                && let Some(written) = self.loads.written.remove(&i)
            {
                self.say(&format!(
                    "{}: loaded after {:.1} s",
                    self.settings.servers[i].name,
                    written.elapsed().as_secs_f64()
                ));
            }
        }
    }

    /// Has the operator copy the file of another server, which is at the stage already.
    pub(super) fn ask(
        &mut self,
        i: usize,
        observed: &[Observed],
        stage: Stage,
    ) -> Result<(), Failure> {
        let server = &self.settings.servers[i];
        let mut reachable = Vec::new();
        for file in observed.iter().filter_map(|seen| seen.file.as_ref()) {
            reachable.push((
                file.fingerprint.to_string(),
                self.stage(&file.configuration)?,
            ));
        }
        let Some(from) = manual::source(stage, &reachable) else {
            return Err(Failure::stopped(format!(
                "{} runs with a file that the others' do not follow on: what it has written may be under \
                 a key that has left them",
                server.name
            ))
            .hint("atrest rotate rollback brings that key back into every file"));
        };
        let (sha256, stage) = &reachable[from];
        let instruction = manual::instruction(server, &self.settings.servers[from], sha256);
        self.census = None;
        self.journal.append(Record::Write {
            server: server.name.clone(),
            stage: stage_name(*stage).into(),
            sha256: sha256.clone(),
            before: observed[i].process().cloned(),
        })?;
        self.say(&instruction);
        self.loads.wrote(i);
        Ok(())
    }

    pub(super) async fn await_load(
        &mut self,
        i: usize,
        observed: &[Observed],
    ) -> Result<(), Failure> {
        let seen = &observed[i];
        self.note_placed(i, seen)?;
        let waiting = self.waiting_for(seen);
        let (since, is_said) = (
            waiting.since.elapsed(),
            waiting.said.is_some_and(|said| said.elapsed() < SAY),
        );
        if since > self.settings.load_timeout || self.is_blind(i, seen) {
            return Err(self.not_loaded(i, seen));
        }
        if !is_said {
            self.say(&self.why_it_waits(i, seen));
            if let Some(waiting) = &mut self.loads.waiting {
                waiting.said = Some(Instant::now());
            }
        }
        if let (Some(file), Some(machine)) = (&seen.file, &self.reached.machines[i]) {
            let sha256 = file.fingerprint.to_string();
            if self.loads.told.insert((i, sha256.clone())) {
                let server = &self.settings.servers[i];
                let reload = server.reload.trigger(&server.name, machine, &sha256);
                reload.await?;
            }
        }
        tokio::time::sleep(LOOK).await;
        Ok(())
    }

    /// How long a server is waited for; nothing where the wait begins.
    pub(super) fn wait_for(&mut self, seen: &Observed) -> Duration {
        match &self.loads.waiting {
            Some(waiting) => waiting.since.elapsed(),
            None => {
                self.waiting_for(seen);
                Duration::ZERO
            }
        }
    }

    fn waiting_for(&mut self, seen: &Observed) -> &Waiting {
        let metrics = seen.metrics.as_ref();
        self.loads.waiting.get_or_insert_with(|| Waiting {
            since: Instant::now(),
            said: None,
            looks: metrics.and_then(|it| it.looks),
            failed: metrics.map_or(0, |it| it.failed_reloads),
        })
    }

    /// Whether the server has looked at its file several times since, and sees the old one.
    fn is_blind(&self, i: usize, seen: &Observed) -> bool {
        let (Some(waiting), Some(metrics)) = (&self.loads.waiting, &seen.metrics) else {
            return false;
        };
        let looked = |before: u64| metrics.looks.is_some_and(|now| now >= before + LOOKS);
        let is_automatic = !self.settings.servers[i].reload.restarts() && seen.file.is_some();
        is_automatic
            && waiting.since.elapsed() > BLIND
            && waiting.looks.is_some_and(looked)
            && waiting.failed == metrics.failed_reloads
    }

    fn why_it_waits(&self, i: usize, seen: &Observed) -> String {
        let name = &self.settings.servers[i].name;
        let file = self.short_hash(i, seen);
        let why = match (seen.process(), seen.loaded()) {
            (None, _) => ": it cannot be reached".to_owned(),
            (Some(_), Some(loaded)) if loaded.starts_with(&file) => ": it is not ready".to_owned(),
            _ if self.has_to_restart(i, seen) => {
                ": before Kubernetes 1.34 that is known once the API server is restarted".to_owned()
            }
            _ => match self.loads.next_poll(i) {
                Some(next) => format!(", next poll in {:.0} s", next.as_secs_f64()),
                None => String::new(),
            },
        };
        format!("{name} has not loaded sha256:{file} yet{why}")
    }

    /// Of the file that it is to load.
    fn short_hash(&self, i: usize, seen: &Observed) -> String {
        let sha256 = match &seen.file {
            Some(file) => file.fingerprint.to_string(),
            None => manual::Asked::of(&self.journal.records, &self.settings.servers[i].name)
                .map(|asked| asked.sha256)
                .unwrap_or_default(),
        };
        short(&sha256)
    }

    /// Of the files that the run has written.
    pub(super) fn note_all_placed(&mut self, observed: &[Observed]) -> Result<(), Failure> {
        for (i, seen) in observed.iter().enumerate() {
            if seen.loaded().is_some() {
                continue;
            }
            let name = &self.settings.servers[i].name;
            let written = Written::of(&self.journal.records, name);
            let is_there = |file: &Loaded| written.is_some_and(|it| it.is_of(&file.fingerprint));
            if seen.file.as_ref().is_some_and(is_there) {
                self.note_placed(i, seen)?;
            }
        }
        Ok(())
    }

    /// The look that found a server with its file in place: for one that cannot say what it has loaded, a
    /// later start is the evidence.
    fn note_placed(&mut self, i: usize, seen: &Observed) -> Result<(), Failure> {
        let name = &self.settings.servers[i].name;
        let written = Written::of(&self.journal.records, name);
        let (Some(file), Some(metrics)) = (&seen.file, &seen.metrics) else {
            return Ok(());
        };
        let is_placed = written.is_some_and(|it| it.is_placed(&file.fingerprint));
        if metrics.loaded_config.is_none() && !is_placed {
            self.journal.append(Record::Placed {
                server: name.clone(),
                process: metrics.process.clone(),
                sha256: Some(file.fingerprint.to_string()),
            })?;
        }
        Ok(())
    }

    /// It does not say what it has loaded, and the file is none that the run wrote.
    fn has_to_restart(&self, i: usize, seen: &Observed) -> bool {
        let (name, records) = (&self.settings.servers[i].name, &self.journal.records);
        let is_counted = |file: &Loaded| {
            let written = Written::of(records, name);
            written.is_some_and(|it| it.is_counted(&file.fingerprint, seen.process()))
        };
        let file = seen.file.as_ref();
        seen.says_nothing_yet() && file.is_some_and(|file| !is_counted(file))
    }

    fn not_loaded(&self, i: usize, seen: &Observed) -> Failure {
        let Server { name, file, .. } = &self.settings.servers[i];
        let hash = self.short_hash(i, seen);
        let failed = self.loads.waiting.as_ref().map(|it| it.failed);
        let refuses = seen.metrics.as_ref().map(|it| it.failed_reloads) > failed;
        let has_to_restart = self.has_to_restart(i, seen);
        let is_blind = self.is_blind(i, seen) && !has_to_restart;
        let why = match (seen.process(), seen.loaded()) {
            (None, _) => "it cannot be reached".to_owned(),
            (Some(_), Some(loaded)) if loaded.starts_with(&hash) => "it is not ready".to_owned(),
            (Some(_), _) if is_blind => {
                "it has looked at its file since, and sees the old one".to_owned()
            }
            (Some(_), _) if refuses => "it has tried to, and failed".to_owned(),
            (Some(_), None) if has_to_restart => {
                "it does not say so, and no count of reloads tells it".to_owned()
            }
            (Some(_), None) => "it reports no hash of a loaded configuration".to_owned(),
            (Some(_), Some(loaded)) => format!("it runs with {}", short(loaded)),
        };
        let failure = Failure::stopped(format!(
            "{name} has not loaded {} ({hash}): {why}",
            file.display()
        ));
        match &seen.file {
            None => failure.hint(
                "copy the file as you were told, SHA-256 and all, and see that the API server loads it; \
                 then atrest rotate resume",
            ),
            Some(_) if has_to_restart => failure.hint(
                "before Kubernetes 1.34 a later start is the evidence: restart this API server, then \
                 atrest rotate resume",
            ),
            Some(_) if is_blind => failure.hint(
                "a pod that mounts the file by itself keeps the old one: mount its directory, as \
                 docs/guide/kubeadm.md shows, which restarts the API server; else it reads another file \
                 than this. Then atrest rotate resume",
            ),
            Some(_) => failure.hint(
                "check that it runs with --encryption-provider-config-automatic-reload=true and \
                 reads this very file, and look at its log; then atrest rotate resume",
            ),
        }
    }
}

fn short(sha256: &str) -> String {
    sha256.chars().take(8).collect()
}
