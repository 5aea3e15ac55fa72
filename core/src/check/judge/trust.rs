//! Who verifies a certificate, and why one does not.

use std::collections::BTreeMap;

use super::Judge;
use crate::check::certificate::{Certificate, SignatureAlgorithm, Usage};
use crate::check::chain::Paths;
use crate::check::contract::Contract;
use crate::check::finding::{Finding, Unread};
use crate::check::key::PublicKey;
use crate::check::kubeconfig::{Kubeconfig, Trust};
use crate::check::node::{Bundle, Credential};
use crate::check::role::{Anchor, ConfOwner, Role};
use crate::check::rules;
use crate::check::time::Time;

/// A consumer of a certificate.
pub(super) struct Verifier<'a> {
    pub(super) consumer: String,
    pub(super) trusted: &'a [Certificate],
    pub(super) usage: Usage,
}

impl<'a> Judge<'a> {
    /// Whether a kubeconfig's cluster is the one of this node: by its place, or by its CA's key.
    pub(super) fn is_ours(&self, kubeconfig: &Kubeconfig, trust: &Trust) -> bool {
        if kubeconfig.owner != ConfOwner::Other {
            return true;
        }
        let Trust::Certificates(certificates) = trust else {
            return false;
        };
        let ours = self
            .bundle_of(Anchor::Clients)
            .or_else(|| self.bundle_of(Anchor::KubeletClients));
        let is_known = |key: &PublicKey| {
            let ours = ours.iter().flat_map(|bundle| &bundle.certificates);
            ours.into_iter()
                .any(|ca| ca.key.fingerprint == key.fingerprint)
        };
        certificates
            .iter()
            .any(|certificate| is_known(&certificate.key))
    }

    pub(super) fn bundle_of(&self, anchor: Anchor) -> Option<&'a Bundle> {
        self.node
            .bundles
            .iter()
            .find(|bundle| bundle.anchor == anchor)
    }

    pub(super) fn verifiers(&self, credential: &Credential) -> Vec<Verifier<'a>> {
        if credential.role == Role::Kubeconfig(ConfOwner::Other) && !self.is_of_ours(credential) {
            return Vec::new();
        }
        let by_flag = credential.role.verified_by().iter();
        let mut verifiers: Vec<_> = by_flag
            .filter_map(|(anchor, usage)| {
                let bundle = self.bundle_of(*anchor)?;
                Some(Verifier {
                    consumer: anchor.consumer().to_owned(),
                    trusted: &bundle.certificates,
                    usage: usage.clone(),
                })
            })
            .collect();
        if credential.role == Role::ApiServer {
            for kubeconfig in &self.node.kubeconfigs {
                for cluster in &kubeconfig.clusters {
                    if let Trust::Certificates(trusted) = &cluster.trust
                        && self.is_ours(kubeconfig, &cluster.trust)
                        && !cluster.is_insecure
                    {
                        verifiers.push(Verifier {
                            consumer: kubeconfig.object.clone(),
                            trusted,
                            usage: Usage::Server,
                        });
                    }
                }
            }
        }
        verifiers
    }

    /// Whether a user of a kubeconfig that is nobody's of this node is one of this cluster.
    fn is_of_ours(&self, credential: &Credential) -> bool {
        self.node.kubeconfigs.iter().any(|kubeconfig| {
            kubeconfig.contexts.iter().any(|context| {
                let cluster = kubeconfig
                    .clusters
                    .iter()
                    .find(|it| it.name == context.cluster);
                credential.object == kubeconfig.user_object(&context.user)
                    && cluster.is_some_and(|cluster| self.is_ours(kubeconfig, &cluster.trust))
            })
        })
    }
}

/// Why a certificate is not believed, and by whom.
pub(super) struct Refusals<'a> {
    credential: &'a Credential,
    certificate: &'a Certificate,
    is_expired: bool,
    /// By reason.
    consumers: BTreeMap<String, Vec<String>>,
    unread: Vec<Unread>,
}

impl<'a> Refusals<'a> {
    pub(super) fn new(
        credential: &'a Credential,
        certificate: &'a Certificate,
        is_expired: bool,
    ) -> Self {
        Self {
            credential,
            certificate,
            is_expired,
            consumers: BTreeMap::new(),
            unread: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, verifier: &Verifier<'_>, paths: &Paths, at: Time) {
        let consumer = &verifier.consumer;
        if let Some(reason) = paths.unknown() {
            self.unread.push(Unread {
                input: self.credential.object.clone(),
                reason: format!("{reason}: {consumer}"),
            });
            return;
        }
        if self.is_said(verifier, paths) {
            return;
        }
        let reason = match (paths.is_some(), paths.fault()) {
            (true, _) => match paths.valid_from(at) {
                Some(from) => format!("the CA's certificate is not valid before {from}"),
                None => "a CA's certificate on the way has expired".to_owned(),
            },
            (false, Some(fault)) => fault.text().to_owned(),
            (false, None) => "no path is ever valid: the dates do not meet".to_owned(),
        };
        let consumers = self.consumers.entry(reason).or_default();
        if !consumers.contains(consumer) {
            consumers.push(consumer.clone());
        }
    }

    /// By other findings: its own dates, use, signature or extensions.
    fn is_said(&self, verifier: &Verifier<'_>, paths: &Paths) -> bool {
        let certificate = self.certificate;
        let is_date = self.is_expired && (paths.is_some() || paths.fault().is_none());
        let is_broken = matches!(
            certificate.signature_algorithm,
            SignatureAlgorithm::Broken(_)
        );
        is_date
            || is_broken
            || !certificate.may_serve_for(&verifier.usage)
            || !certificate.unknown_critical.is_empty()
    }

    /// A finding for each reason, and what could not be judged.
    pub(super) fn told(self, contract: &Contract, fix: &str) -> (Vec<Finding>, Vec<Unread>) {
        let issuer = &self.certificate.issuer.text;
        let findings = self.consumers.into_iter().map(|(reason, consumers)| {
            Finding::new(rules::NOT_VERIFIED, &self.credential.object)
                .message(format!("it does not verify for {}", consumers.join(", ")))
                .evidence(format!("{reason}; issuer {issuer}"))
                .consequence(contract.consequence)
                .fix(fix)
                .restart(contract.restart)
        });
        (findings.collect(), self.unread)
    }
}
