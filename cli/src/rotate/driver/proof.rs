//! What shows that servers write with the target, whatever they say: canaries at rest, and the key that a plugin
//! has now.

use std::collections::BTreeMap;

use atrest_core::at_rest::{Expectation, GroupResource};
use atrest_core::encryption_config::EncryptionConfiguration;
use atrest_core::rotation::ServerFacts;
use atrest_core::rotation::chain::{Stage, Target};

use super::super::journal::Record;
use super::super::matrix::{self, Matrix};
use super::super::observe::Observed;
use super::super::plugin;
use super::super::settings::To;
use super::load::LOOK;
use super::{Run, first_file};
use crate::kms;
use crate::status::Failure;

impl Run<'_> {
    /// Whether the files are where they are to be, and only the plugin's key is another one.
    pub(super) fn is_in_place(&self, servers: &[ServerFacts]) -> bool {
        matches!(self.target, Some(Target::Kms(_)))
            && !self.journal.has_written_files()
            && servers.iter().all(|it| it.file == Stage::Only)
    }

    /// Which servers write with the key that the plugin has now, where one writes.
    pub(super) async fn note_taken_up(
        &mut self,
        servers: &mut [ServerFacts],
        observed: &[Observed],
    ) -> Result<(), Failure> {
        let Some(Target::Kms(kms)) = &self.target else {
            return Ok(());
        };
        if servers.iter().all(|it| it.file < Stage::Writes) {
            return Ok(());
        }
        let key_ids = self.key_ids(&first_file(observed)?.configuration).await?;
        let key_id = key_ids.get(&kms.name);
        let is_another = key_id != self.barrier().key_id.as_ref();
        for (server, seen) in servers.iter_mut().zip(observed) {
            let metrics = seen.metrics.as_ref();
            server.taken_up = key_id.is_some_and(|it| plugin::has_taken_up(metrics, kms, it));
            server.disturbed |= is_another;
        }
        self.key_id = key_id.cloned();
        Ok(())
    }

    /// Waits until a server writes with the plugin's key of now.
    pub(super) async fn await_take_up(
        &mut self,
        i: usize,
        observed: &[Observed],
    ) -> Result<(), Failure> {
        let waited = self.wait_for(&observed[i]);
        let name = &self.settings.servers[i].name;
        if waited.is_zero() {
            self.say(&format!(
                "{name}: waiting until it has taken up the plugin's key: it asks once a minute"
            ));
        }
        if waited > self.settings.load_timeout {
            return Err(Failure::stopped(format!(
                "{name} does not write with the key that the plugin has here"
            ))
            .hint(
                "see that the plugin on its node has the same keyring, with the same generation active \
                 (atrest-kms keyring list); then atrest rotate resume",
            ));
        }
        // Who asks for its readiness has it ask its plugin sooner.
        let _ = self.reached.servers[i].text("/readyz").await;
        tokio::time::sleep(LOOK).await;
        Ok(())
    }

    pub(super) fn kind_of_canary(
        &self,
        configuration: &EncryptionConfiguration,
    ) -> Result<Option<GroupResource>, Failure> {
        Ok(matrix::kind(&self.selection(configuration)?, configuration))
    }

    /// Has servers write canaries, and all of them read these.
    pub(super) async fn prove(
        &mut self,
        through: &[usize],
        observed: &[Observed],
    ) -> Result<(), Failure> {
        self.keep_lease().await?;
        let configuration = self.furthest(observed)?;
        let Some(kind) = self.kind_of_canary(configuration)? else {
            return Ok(());
        };
        let key_ids = self.key_ids(configuration).await?;
        let expectation = Expectation {
            configuration,
            also_read_by: None,
            key_ids: &key_ids,
        };
        let state_dir = self.journal.directory();
        let matrix = Matrix::new(&self.settings, &self.reached, kind, state_dir);
        matrix.prove(through, &expectation).await?;
        for i in through {
            let server = self.settings.servers[*i].name.clone();
            self.say(&format!(
                "{server}: its canary was {}, and every server read it",
                self.under()
            ));
            if let Some(process) = observed[*i].process().cloned() {
                self.journal.append(Record::Canary { server, process })?;
            }
        }
        Ok(())
    }

    /// What the servers that are ahead of the others write with.
    fn furthest<'o>(
        &self,
        observed: &'o [Observed],
    ) -> Result<&'o EncryptionConfiguration, Failure> {
        let mut furthest = (Stage::Absent, &first_file(observed)?.configuration);
        for file in observed.iter().filter_map(|seen| seen.file.as_ref()) {
            let stage = self.stage(&file.configuration)?;
            if stage > furthest.0 {
                furthest = (stage, &file.configuration);
            }
        }
        Ok(furthest.1)
    }

    /// Of the plugin that is moved to, or back to; of no other one.
    pub(super) async fn key_ids(
        &self,
        configuration: &EncryptionConfiguration,
    ) -> Result<BTreeMap<String, String>, Failure> {
        Ok(match (&self.target, &self.settings.to) {
            (Some(Target::Kms(kms)), To::Kms { name, socket }) if kms.name == *name => {
                [(name.clone(), kms::status(socket).await?)].into()
            }
            (Some(Target::Kms(_)), _) => kms::key_ids(configuration, &[]).await,
            _ => BTreeMap::new(),
        })
    }
}
