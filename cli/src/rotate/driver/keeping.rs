//! The steps around the rotation itself: what is kept of before and after, and what is removed at last.

use atrest_core::at_rest::State;
use atrest_core::rotation::Snapshot;
use atrest_core::rotation::chain::Stage;

use super::super::journal::Record;
use super::super::observe::Observed;
use super::super::recipients::Recipients;
use super::super::snapshots::Taking;
use super::super::{escrow, hand, scrub};
use super::{Run, first_file};
use crate::args::EtcdFlags;
use crate::etcd::{self, Question};
use crate::kms;
use crate::report::verify::{escape, name_of};
use crate::status::Failure;

/// What the journal says is done of it, since the run last changed its direction.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) before: bool,
    pub(super) after: bool,
    pub(super) is_scrubbed: bool,
}

impl Kept {
    pub(super) fn of(records: &[Record]) -> Self {
        let mut kept = Self::default();
        for record in records {
            match record {
                Record::Snapshot { which, .. } if which == Snapshot::Before.name() => {
                    kept.before = true;
                }
                Record::Snapshot { .. } => kept.after = true,
                Record::Scrubbed { .. } => kept.is_scrubbed = true,
                Record::RolledBack => kept = Self::default(),
                _ => {}
            }
        }
        kept
    }
}

impl Run<'_> {
    /// Takes a snapshot, which has to be readable: by the servers' keys before, by the new key alone after.
    pub(super) async fn snapshot(
        &mut self,
        which: Snapshot,
        observed: &[Observed],
    ) -> Result<(), Failure> {
        self.keep_lease().await?;
        let (Some(dir), Some(target)) = (self.settings.snapshots.clone(), &self.target) else {
            return Err(Failure::unusable("no snapshot was asked for"));
        };
        let now = &first_file(observed)?.configuration;
        let selection = self.selection(now)?;
        let configuration = match which {
            Snapshot::Before => now.clone(),
            Snapshot::After => selection
                .advance(now, target, Stage::Only)
                .map_err(Failure::unusable)?,
        };
        let flags = EtcdFlags::from(&self.settings.etcd);
        let sockets = hand::sockets(&self.settings);
        let key_ids = kms::key_ids(&configuration, &sockets).await;
        let waived = self.journal.waived();
        let question = Question {
            waived: &waived,
            ..Question::of(
                flags.prefix(),
                &selection.resources,
                &configuration,
                &key_ids,
                0,
            )
        };
        let counted = etcd::census(&mut self.reached.etcd, &question, None).await?;
        let recipients = Recipients::parse(&self.settings.recipients)?;
        let is_plain = counted.census.count(State::Plaintext) > 0;
        if is_plain && recipients.is_empty() && !self.settings.plaintext_snapshots {
            return Err(Failure::stopped("the snapshot would hold values in plaintext").hint(
                "nobody said --plaintext-snapshot, and there are no escrow.recipients; rewrite them \
                 first, or begin another run with one of these",
            ));
        }
        let recipients = (is_plain && !recipients.is_empty()).then_some(&recipients);
        let taking = Taking {
            etcd: &mut self.reached.etcd,
            prefix: flags.prefix(),
            dir: &dir,
            run: &self.journal.run,
            which,
            configuration: &configuration,
            resources: &selection.resources,
            sockets: &sockets,
            recipients,
            waived: &waived,
            counted,
            quiet: self.global.quiet,
        };
        let taken = taking.take().await?;
        self.journal.append(Record::Snapshot {
            which: which.name().into(),
            file: taken.path.display().to_string(),
            sha256: taken.sha256.to_string(),
            revision: taken.revision,
            plaintext: taken.plaintext,
        })?;
        let how = match (recipients, which) {
            (Some(_), _) => "encrypted to the recipients of the escrow, and whole",
            (None, Snapshot::Before) => "all readable with the servers' keys",
            (None, Snapshot::After) => "all readable with the new key alone",
        };
        self.say(&format!(
            "{}: etcd at revision {}, {} values, {how}",
            taken.path.display(),
            taken.revision,
            taken.values
        ));
        if taken.plaintext > 0 && recipients.is_none() {
            self.say(&format!(
                "warning: {} values in it are in plaintext; destroy it once it is not needed",
                taken.plaintext
            ));
        }
        Ok(())
    }

    /// Removes what the old key could still open, as far as it is in reach.
    pub(super) async fn scrub(&mut self, observed: &[Observed]) -> Result<(), Failure> {
        self.keep_lease().await?;
        let unproven = || Failure::stopped("there is no fresh census");
        let (census, revision, _) = self.census.as_ref().ok_or_else(unproven)?;
        let revision = *revision;
        for (server, machine) in self.settings.servers.iter().zip(&self.reached.machines) {
            if let Some(machine) = machine {
                machine.remove_leftover(&server.file).await?;
            }
        }
        for path in escrow::paths(&self.settings, &self.journal.run) {
            atrest_files::remove_leftover(&path).map_err(Failure::stopped)?;
        }
        let flags = EtcdFlags::from(&self.settings.etcd);
        let quiet = self.global.quiet;
        let say = |line: &str| {
            if !quiet {
                crate::report::say(line);
            }
        };
        let members = scrub::scrub(&mut self.reached.etcd, &flags, revision, say).await?;
        let configuration = &first_file(observed)?.configuration;
        let residue = match self.settings.etcd.data_dir() {
            Some(data_dir) => Some(scrub::residue(data_dir, configuration, census)?),
            None => None,
        };
        match &residue {
            None => self.say(
                "etcd's files are not looked at: etcd.dataDir names none; its write-ahead log keeps old \
                 values until it is rotated",
            ),
            Some(left) => {
                for copies in left {
                    self.say(&format!(
                        "left: {} copies under {} {} in {}",
                        copies.count,
                        escape(&copies.provider),
                        name_of(copies.key.as_deref()),
                        copies.file
                    ));
                }
            }
        }
        self.journal.append(Record::Scrubbed {
            revision,
            members,
            residue,
        })
    }
}
