//! One certificate with its key: its dates, its strength, its pair, and whether who verifies it can.

use super::Judge;
use super::trust::Refusals;
use crate::check::certificate::Certificate;
use crate::check::chain::Paths;
use crate::check::contract::Contract;
use crate::check::finding::{Entry, Finding};
use crate::check::node::{Credential, Key};
use crate::check::role::Role;
use crate::check::rules;
use crate::check::time::Time;

impl Judge<'_> {
    pub(super) fn credential(&mut self, credential: &Credential) {
        let Some(certificate) = credential.presented.first() else {
            return;
        };
        self.pair(credential, certificate);
        let Some(contract) = credential.role.contract() else {
            return; // A CA: its file of trusted certificates was looked at.
        };
        let object = &credential.object;
        let fix = fix(&contract, credential);
        let mut entry = Entry::new(object, credential.role, certificate);
        let is_expired = self.expiry(
            object,
            certificate,
            credential.role,
            contract.consequence,
            &fix,
            contract.restart,
        );
        self.key_policy(object, certificate, &fix, contract.restart);
        self.signature_policy(object, certificate, &fix, contract.restart);
        self.contract(credential, certificate, &contract, &fix);
        self.names(credential, certificate);

        let verifiers = self.verifiers(credential);
        let mut end = None;
        let mut is_verified = !verifiers.is_empty();
        let mut refusals = Refusals::new(credential, certificate, is_expired);
        for verifier in &verifiers {
            let paths = Paths::find(
                &credential.presented,
                verifier.trusted,
                &verifier.usage,
                self.signatures,
            );
            match paths.valid_until(self.at) {
                Some(until) => {
                    end = Some(end.map_or(until, |end: Time| end.min(until)));
                }
                None => {
                    is_verified = false;
                    refusals.add(verifier, &paths, self.at);
                }
            }
        }
        entry.verified_by = verifiers.iter().map(|it| it.consumer.clone()).collect();
        entry.verified_by.dedup();
        entry.valid_until = end.filter(|_| is_verified);
        self.report.inventory.push(entry);
        let (refused, unread) = refusals.told(&contract, &fix);
        self.report.findings.extend(refused);
        self.report.unread.extend(unread);
        if let Some(end) = end.filter(|end| is_verified && *end < certificate.not_after) {
            let finding = Finding::new(rules::OUTLIVES_CA, object)
                .message("it outlives what it is verified with")
                .evidence(format!(
                    "not after {}, but no path after {end}",
                    certificate.not_after
                ))
                .consequence(format!("from {end} on {}", contract.consequence))
                .fix("renew the CA before that date");
            self.find(finding);
        }
    }

    fn pair(&mut self, credential: &Credential, certificate: &Certificate) {
        let Key::Half(half) = &credential.key else {
            return;
        };
        if certificate.key.is_of(half) {
            return;
        }
        let (consequence, restart) = match credential.role.contract() {
            Some(contract) => (contract.consequence, contract.restart),
            None => ("what this CA signs from now on does not verify", &[][..]),
        };
        let finding = Finding::new(rules::NOT_A_PAIR, &credential.object)
            .message("its private key is another one's")
            .evidence(match credential.key_object == credential.object {
                true => "the key beside it".to_owned(),
                false => format!("the key in {}", credential.key_object),
            })
            .consequence(format!("at the next start {consequence}"))
            .fix("put back the file that was not replaced with the other one, or make both anew")
            .restart(restart);
        self.find(finding);
    }
}

fn fix(contract: &Contract, credential: &Credential) -> String {
    match (contract.renew, credential.role) {
        (Some(command), _) => command.to_owned(),
        (None, Role::KubeletServing) => {
            "set serverTLSBootstrap: true in the kubelet's configuration and approve its CSR, or put a new \
             pair there"
                .to_owned()
        }
        (None, _) => "have a new one issued".to_owned(),
    }
}
