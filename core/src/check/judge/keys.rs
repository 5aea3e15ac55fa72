//! Keys that serve for two things, and those of ServiceAccounts' tokens.

use std::collections::HashMap;

use super::Judge;
use crate::check::finding::Finding;
use crate::check::node::{Bundle, Credential};
use crate::check::role::{Anchor, Role};
use crate::check::rules;
use crate::secret::Fingerprint;

impl<'a> Judge<'a> {
    /// Keys that serve for two things. A copy of a certificate is the same certificate.
    pub(super) fn shared_keys(&mut self) {
        let mut by_key: HashMap<Fingerprint, &Credential> = HashMap::new();
        for credential in &self.node.credentials {
            let Some(certificate) = credential.presented.first() else {
                continue;
            };
            if matches!(credential.role, Role::Ca(_)) {
                continue; // said of the bundles
            }
            match by_key.get(&certificate.key.fingerprint) {
                Some(first) if first.presented.first() != Some(certificate) => {
                    let finding = Finding::new(rules::SHARED_KEY, &credential.object)
                        .message(format!("it has the key of {}", first.object))
                        .evidence(format!("SPKI {}", certificate.key.fingerprint))
                        .consequence("what is lost with one is lost with the other")
                        .fix("make one of them anew, with a key of its own");
                    self.find(finding);
                }
                Some(_) => {}
                None => {
                    by_key.insert(certificate.key.fingerprint, credential);
                }
            }
        }
    }

    /// The CA of clients is not that of etcd, nor that of the front proxy.
    pub(super) fn separation(&mut self) {
        const APART: [(Anchor, Anchor); 4] = [
            (Anchor::Clients, Anchor::EtcdClients),
            (Anchor::Clients, Anchor::EtcdPeers),
            (Anchor::Clients, Anchor::FrontProxy),
            (Anchor::FrontProxy, Anchor::EtcdClients),
        ];
        for (one, other) in APART {
            let (Some(one), Some(other)) = (self.bundle_of(one), self.bundle_of(other)) else {
                continue;
            };
            let keys = |bundle: &'a Bundle| bundle.certificates.iter().map(|it| it.key.fingerprint);
            let Some(shared) = keys(one).find(|key| keys(other).any(|it| it == *key)) else {
                continue;
            };
            let finding = Finding::new(rules::SHARED_CA, &other.object)
                .message(format!("it has the key of {}", one.object))
                .evidence(format!(
                    "SPKI {shared} is trusted by {} and by {}",
                    one.anchor.consumer(),
                    other.anchor.consumer()
                ))
                .consequence(match other.anchor {
                    Anchor::FrontProxy => "every client of the cluster can pose as the front proxy",
                    _ => "every client of the other CA can read and write etcd",
                })
                .fix("make a CA of its own for one of the two, and issue anew what it signed")
                .restart(other.anchor.restart());
            let is_said = |it: &Finding| it.id == finding.id && it.object == finding.object;
            if !self.report.findings.iter().any(is_said) {
                self.find(finding);
            }
        }
    }

    pub(super) fn service_accounts(&mut self) {
        for keys in &self.node.service_accounts {
            let mut public = keys.public.iter().flat_map(|(_, keys)| keys);
            if public.any(|key| key.is_of(&keys.private)) {
                continue;
            }
            let objects: Vec<_> = keys
                .public
                .iter()
                .map(|(object, _)| object.as_str())
                .collect();
            let finding = Finding::new(rules::NOT_A_PAIR, &keys.private_object)
                .message("tokens that it signs are verified with other keys")
                .evidence(format!("not the private key of {}", objects.join(", ")))
                .consequence("after the next start every new ServiceAccount token is refused")
                .fix("put back the file that was not replaced with the other one")
                .restart(&["kube-apiserver", "kube-controller-manager"]);
            self.find(finding);
        }
    }
}
