//! What is trusted.

use super::Judge;
use crate::check::certificate::Certificate;
use crate::check::finding::{Entry, Finding};
use crate::check::node::Bundle;
use crate::check::role::{Anchor, Role};
use crate::check::rules;

impl Judge<'_> {
    /// Each file of trusted certificates once, whoever reads it.
    pub(super) fn bundles(&mut self) {
        let mut seen: Vec<&str> = Vec::new();
        for bundle in &self.node.bundles {
            if seen.contains(&bundle.object.as_str()) {
                continue;
            }
            seen.push(&bundle.object);
            let others = |it: &&Bundle| it.object == bundle.object;
            let anchors: Vec<_> = self.node.bundles.iter().filter(others).collect();
            self.bundle(bundle, &anchors);
        }
    }

    fn bundle(&mut self, bundle: &Bundle, readers: &[&Bundle]) {
        let role = Role::Ca(bundle.anchor);
        let at = self.at;
        let is_alive = |certificate: &Certificate| certificate.not_after >= at;
        let alive = bundle.certificates.iter().filter(|it| is_alive(it)).count();
        let mut restart: Vec<_> = readers
            .iter()
            .flat_map(|reader| reader.anchor.restart().iter().copied())
            .collect();
        restart.dedup();
        for (i, certificate) in bundle.certificates.iter().enumerate() {
            let object = match bundle.certificates.len() {
                1 => bundle.object.clone(),
                _ => format!("{}: certificate {}", bundle.object, i + 1),
            };
            let mut entry = Entry::new(&object, role, certificate);
            entry.valid_until = Some(certificate.not_after).filter(|_| is_alive(certificate));
            entry.verified_by = readers
                .iter()
                .map(|reader| reader.anchor.consumer().to_owned())
                .collect();
            self.report.inventory.push(entry);
            let is_superseded = !is_alive(certificate) && alive > 0;
            if is_superseded {
                let finding = Finding::new(rules::SUPERSEDED, &object)
                    .message("it has expired, and others in the file have not")
                    .evidence(format!("not after {}", certificate.not_after))
                    .consequence("nothing that verifies today depends on it")
                    .fix("take it out of the file");
                self.find(finding);
                continue;
            }
            self.authority(&object, certificate, &restart);
        }
    }

    fn authority(&mut self, object: &str, certificate: &Certificate, restart: &[&'static str]) {
        const FIX: &str =
            "make a new CA, have it trusted beside this one everywhere, issue anew, drop this one";
        let consequence = "nothing that it signed is believed any more";
        let role = Role::Ca(Anchor::Clients);
        self.expiry(object, certificate, role, consequence, FIX, restart);
        if !certificate.may_sign() {
            let finding = Finding::new(rules::NO_AUTHORITY, object)
                .message("it is trusted as a CA and not allowed to sign")
                .evidence(match certificate.authority {
                    Some(authority) if authority.is_ca => "keyUsage lacks keyCertSign",
                    Some(_) => "basicConstraints: CA:FALSE",
                    None => "it has no basicConstraints",
                })
                .consequence("nothing verifies with it but itself")
                .fix("put the CA's own certificate into the file")
                .restart(restart);
            self.find(finding);
        }
        self.key_policy(object, certificate, FIX, restart);
    }
}
