//! Dates, keys and signatures, whatever a certificate is for.

use super::Judge;
use crate::check::certificate::{Certificate, SignatureAlgorithm};
use crate::check::finding::Finding;
use crate::check::key::KeyKind;
use crate::check::policy::{DAY, Nearness};
use crate::check::role::Role;
use crate::check::rules::{self, Rule};

impl Judge<'_> {
    /// Whether it has expired, or is not valid yet: that no path is valid then says nothing more.
    pub(super) fn expiry(
        &mut self,
        object: &str,
        certificate: &Certificate,
        role: Role,
        consequence: &str,
        fix: &str,
        restart: &[&'static str],
    ) -> bool {
        let Certificate {
            not_before,
            not_after,
            ..
        } = certificate;
        let evidence = format!("not before {not_before}, not after {not_after}");
        let found = |rule: &'static Rule, message: String| {
            Finding::new(rule, object)
                .message(message)
                .evidence(&evidence)
                .fix(fix)
                .restart(restart)
        };
        if *not_after < self.at {
            let days = self.at.since(*not_after) / DAY;
            let finding = found(rules::EXPIRED, format!("it expired {} ago", count(days)));
            self.find(finding.consequence(consequence));
            return true;
        }
        if *not_before > self.at {
            let finding = found(
                rules::NOT_YET,
                format!("it is not valid before {not_before}"),
            );
            self.find(finding.consequence(consequence));
            return true;
        }
        let is_ca = matches!(role, Role::Ca(_));
        let rule = match self.policy.nearness(certificate, role, self.at) {
            Nearness::Far => return false,
            Nearness::Soon if is_ca => rules::CA_ENDS,
            Nearness::Soon => rules::EXPIRES_SOON,
            Nearness::Now => rules::EXPIRES_NOW,
        };
        let days = not_after.since(self.at) / DAY;
        let finding = found(rule, format!("it expires in {}", count(days)));
        self.find(finding.consequence(format!("from {not_after} on {consequence}")));
        false
    }

    pub(super) fn key_policy(
        &mut self,
        object: &str,
        certificate: &Certificate,
        fix: &str,
        restart: &[&'static str],
    ) {
        let is_weak = match certificate.key.kind {
            KeyKind::Rsa(bits) => bits < 2048,
            KeyKind::Ec(bits) => bits < 256,
            KeyKind::Ed25519 => false,
            KeyKind::Unknown => true,
        };
        if is_weak {
            let finding = Finding::new(rules::WEAK_KEY, object)
                .message("its key is too short, or of a kind that is not used here")
                .evidence(format!("{}", certificate.key.kind))
                .consequence("its key can be found, or it is refused")
                .fix(fix)
                .restart(restart);
            self.find(finding);
        }
        if !certificate.unknown_critical.is_empty() {
            let finding = Finding::new(rules::CRITICAL, object)
                .message("it has a critical extension that Go does not know")
                .evidence(certificate.unknown_critical.join(", "))
                .consequence("every program of Kubernetes and etcd refuses it")
                .fix(fix)
                .restart(restart);
            self.find(finding);
        }
    }

    pub(super) fn signature_policy(
        &mut self,
        object: &str,
        certificate: &Certificate,
        fix: &str,
        restart: &[&'static str],
    ) {
        if let SignatureAlgorithm::Broken(_) = certificate.signature_algorithm {
            let finding = Finding::new(rules::BROKEN_SIGNATURE, object)
                .message("it is signed with a broken hash")
                .evidence(certificate.signature_algorithm.to_string())
                .consequence("Go refuses it")
                .fix(fix)
                .restart(restart);
            self.find(finding);
        }
        if certificate.lifetime() > self.policy.longest_life_days * DAY {
            let days = certificate.lifetime() / DAY;
            let finding = Finding::new(rules::LONG_LIFE, object)
                .message(format!("it lives for {}", count(days)))
                .evidence(format!(
                    "not before {}, not after {}",
                    certificate.not_before, certificate.not_after
                ))
                .consequence("there is no revocation: what is lost stays good until then")
                .fix(fix)
                .restart(restart);
            self.find(finding);
        }
        if certificate.authority.is_some_and(|it| it.is_ca) {
            let finding = Finding::new(rules::LEAF_SIGNS, object)
                .message("it is not a CA's, and may sign others")
                .evidence("basicConstraints: CA:TRUE")
                .consequence("whoever has its key can issue any identity")
                .fix(fix)
                .restart(restart);
            self.find(finding);
        }
        let is_mute = certificate
            .key_usage
            .is_some_and(|usage| !usage.digital_signature);
        if is_mute {
            let finding = Finding::new(rules::NO_HANDSHAKE, object)
                .message("its key usage does not allow handshakes")
                .evidence("keyUsage lacks digitalSignature")
                .consequence("TLS libraries other than Go's refuse it")
                .fix(fix)
                .restart(restart);
            self.find(finding);
        }
    }
}

fn count(days: i64) -> String {
    match days {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}
