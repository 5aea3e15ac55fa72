//! Stored values: written again, and counted.

use std::time::Instant;

use atrest_core::at_rest::{Census, State};
use atrest_core::encryption_config::EncryptionConfiguration;
use atrest_core::rotation::Step;
use atrest_core::rotation::chain::{Stage, Target};

use super::super::compromised;
use super::super::counts::Counts;
use super::super::covered;
use super::super::hand::{self, Hand, Means, Task};
use super::super::journal::Record;
use super::super::manifest;
use super::super::observe::{Observed, Reached, stored_here};
use super::{FRESH, NAMED, Run, first_file, now};
use crate::args::EtcdFlags;
use crate::cluster::{self, ApiServer};
use crate::etcd::{self, Counted, Question, Waived};
use crate::report::progress::Progress;
use crate::status::Failure;

impl Run<'_> {
    /// Has every stored value written again.
    pub(super) async fn rewrite(&mut self, observed: &[Observed]) -> Result<(), Failure> {
        self.keep_lease().await?;
        self.census = None;
        self.set_aside.clear();
        self.settle_orphans(observed).await?;
        let start = Instant::now();
        let (mut total, mut rewritten) = (0, 0);
        let file = first_file(observed)?;
        let selection = self.selection(&file.configuration)?;
        let flags = EtcdFlags::from(&self.settings.etcd);
        let resources = covered::covered(
            &selection,
            &file.configuration,
            &self.reached.servers[0],
            &mut self.reached.etcd,
            flags.prefix(),
        );
        let resources = resources.await?;
        let barrier = self.barrier();
        // Once a census found something left, nothing is passed over for its age: it need not have been a
        // server that wrote it.
        let up_to = barrier.revision.filter(|_| barrier.since.passes == 0);
        let means = Means {
            reached: &self.reached,
            settings: &self.settings,
            flags: &flags,
            file,
            resources: &resources,
            sockets: &hand::sockets(&self.settings),
            state_dir: &self.journal.directory(),
            waived: &self.journal.waived(),
            until: self.window.end(),
            quiet: self.global.quiet,
        };
        let mut hand = Hand::of(&means).await?;
        let api = &self.reached.servers[0];
        for resource in &resources {
            let found = cluster::find(api, resource)
                .await
                .map_err(|error| self.stopped_by_server(api, &error))?;
            let Some(found) = found else { continue };
            let progress = Progress::start(&resource.to_string(), self.global.quiet);
            let name = resource.to_string();
            let task = Task {
                name: resource,
                resource: &found,
                barrier: up_to,
                behind: barrier.behind.get(&name).cloned(),
                progress: &progress,
            };
            let outcome = hand.rewrite(&means, task, |object| {
                self.journal.append(Record::Reached {
                    resource: name.clone(),
                    object: object.to_owned(),
                    done: progress.count(),
                })
            });
            let outcome = outcome.await?;
            drop(progress);
            total += outcome.total();
            rewritten += outcome.rewritten;
            self.set_aside.extend(outcome.set_aside);
            if outcome.was_cut_short {
                self.say(&format!("{rewritten} objects rewritten in this window"));
                return Ok(());
            }
        }
        let set_aside = self.set_aside.len() as u64;
        let took = start.elapsed();
        self.say(&format!(
            "{rewritten} of {total} objects rewritten in {:.1} s, {set_aside} set aside",
            took.as_secs_f64()
        ));
        self.journal.append(Record::Rewrote {
            total,
            rewritten,
            set_aside,
            milliseconds: took.as_millis().try_into().unwrap_or(u64::MAX),
        })
    }

    /// Counts what etcd holds, after canaries.
    pub(super) async fn verify(&mut self, observed: &[Observed]) -> Result<(), Failure> {
        // Once more just before a key may leave on the census's word.
        let all: Vec<_> = (0..observed.len()).collect();
        self.prove(&all, observed).await?;
        let configuration = &first_file(observed)?.configuration;
        let (waived, taken) = (self.journal.waived(), Instant::now());
        let counted = self.count(configuration, &waived, NAMED).await?;
        let writes_plaintext = matches!(self.target, Some(Target::Identity));
        let listed = counted.census.not_current.iter();
        let listed: Vec<_> = listed
            .filter(|it| !writes_plaintext || it.state != State::Plaintext)
            .collect();
        self.remnants = self.remnants(&counted, &listed, observed).await?;
        let Counted {
            census, revision, ..
        } = counted;
        let passed_over = match census.waived {
            0 => String::new(),
            waived => format!(", {waived} waived"),
        };
        self.say(&format!(
            "revision {revision}: {} values, {} {}{passed_over}",
            census.total(),
            census.settled(),
            self.under()
        ));
        self.journal.append(Record::Verified {
            revision,
            total: census.total(),
            not_current: not_current(&census),
            unread: census.count(State::Unread),
            waived: census.waived,
            at: now(),
            resources: Counts::of(&census),
        })?;
        if not_current(&census) == 0 {
            let (selection, flags) = (
                self.selection(configuration)?,
                EtcdFlags::from(&self.settings.etcd),
            );
            let Reached { servers, etcd, .. } = &mut self.reached;
            let (api, prefix) = (&servers[0], flags.prefix());
            let resources = covered::covered(&selection, configuration, api, etcd, prefix).await?;
            stored_here(api, etcd, prefix, &resources).await?;
        }
        let took = taken.elapsed();
        if took > FRESH {
            return Err(Failure::stopped(format!(
                "the census took {} s: too long to remove a key on its word",
                took.as_secs()
            ))
            .hint("run atrest where etcd is nearer, then atrest rotate resume"));
        }
        self.census = Some((census, revision, taken));
        Ok(())
    }

    /// What etcd holds of what is rotated, by a configuration, and all objects whose namespace is gone.
    pub(super) async fn count(
        &mut self,
        configuration: &EncryptionConfiguration,
        waived: &Waived,
        max_listed: usize,
    ) -> Result<Counted, Failure> {
        let selection = self.selection(configuration)?;
        let key_ids = self.key_ids(configuration).await?;
        let flags = EtcdFlags::from(&self.settings.etcd);
        let named = covered::named(&selection);
        let question = Question {
            waived,
            max_orphans: usize::MAX,
            ..Question::of_rotation(
                flags.prefix(),
                &selection,
                &named,
                configuration,
                &key_ids,
                max_listed,
            )
        };
        etcd::census(&mut self.reached.etcd, &question, None).await
    }

    /// Where others have the old key: what is under it before anything is changed, and at each rewrite what came
    /// under it since.
    pub(super) async fn note_exposed(
        &mut self,
        step: Step,
        observed: &[Observed],
    ) -> Result<(), Failure> {
        let (true, false, Some(target)) = (
            self.settings.compromised,
            self.journal.is_rolled_back() || matches!(step, Step::Stop(_)),
            &self.target,
        ) else {
            return Ok(());
        };
        if step != Step::Rewrite && compromised::is_noted(&self.journal) {
            return Ok(());
        }
        let now = &first_file(observed)?.configuration;
        let configuration = self.selection(now)?.advance(now, target, Stage::Writes);
        let configuration = configuration.map_err(Failure::unusable)?;
        let counted = self.count(&configuration, &etcd::NONE_WAIVED, usize::MAX);
        let census = counted.await?.census;
        let snapshots = match &self.settings.snapshots {
            Some(dir) => manifest::opened_by(dir, &census, &configuration)?,
            None => Vec::new(),
        };
        let flags = EtcdFlags::from(&self.settings.etcd);
        compromised::note(&mut self.journal, flags.prefix(), &census, snapshots)
    }

    fn stopped_by_server(&self, api: &ApiServer, error: &cluster::Error) -> Failure {
        Failure::stopped(format!("{} stopped the rewrite: {error}", api.url())).hint(format!(
            "{}; atrest rotate resume goes on",
            self.what_is_readable()
        ))
    }
}

pub(in super::super) fn not_current(census: &Census) -> u64 {
    census.total() - census.settled() - census.count(State::Unread)
}
