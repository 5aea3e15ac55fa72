//! What runs, against what is on disk.

use super::Judge;
use crate::check::certificate::Certificate;
use crate::check::finding::{Entry, Finding};
use crate::check::live::{Api, Live, Served};
use crate::check::node::Bundle;
use crate::check::role::{Anchor, Role};
use crate::check::rules;

impl<'a> Judge<'a> {
    pub(super) fn live(&mut self, live: &'a Live) {
        for served in &live.servers {
            self.served(served);
            self.asks_for(served);
        }
        if let Some(api) = &live.api {
            self.api(api);
        }
        self.trials(live);
        for stale in &live.stale {
            let finding = Finding::new(rules::NOT_READ_AGAIN, &stale.object)
                .message(format!(
                    "{} runs since before it was changed",
                    stale.program
                ))
                .evidence(&stale.evidence)
                .consequence(format!(
                    "{} works with what was there before, until that expires",
                    stale.program
                ))
                .fix(format!("restart {}", stale.program))
                .restart(&[stale.program]);
            self.find(finding);
        }
    }

    fn served(&mut self, served: &Served) {
        let Some(leaf) = served.presented.first() else {
            return;
        };
        let target = &served.target;
        let object = format!("{} at {}", target.program, target.address);
        let role = target.role.unwrap_or(Role::Serving);
        let mut entry = Entry::new(&object, role, leaf);
        entry.valid_until = Some(leaf.not_after).filter(|_| leaf.not_after >= self.at);
        self.report.inventory.push(entry);
        let credentials = self.node.credentials.iter();
        let files: Vec<_> = credentials
            .filter(|it| Some(it.role) == target.role && !it.presented.is_empty())
            .collect();
        if files.iter().any(|it| it.presented.first() == Some(leaf)) {
            return;
        }
        let contract = role.contract();
        let consequence = contract.as_ref().map_or("", |it| it.consequence);
        if let Some(file) = files.first() {
            let on_disk = &file.presented[0];
            let finding = Finding::new(rules::NOT_SERVED, &object)
                .message(format!(
                    "it presents another certificate than {}",
                    file.object
                ))
                .evidence(format!(
                    "presented: {}; on disk: {}",
                    words(leaf),
                    words(on_disk)
                ))
                .consequence("what was renewed is not in use, and what is in use goes on to expire")
                .fix(format!("restart {}", target.program))
                .restart(&[target.program]);
            self.find(finding);
        }
        let fix = format!(
            "restart {}: it makes a new one, or reads its file",
            target.program
        );
        self.expiry(&object, leaf, role, consequence, &fix, &[target.program]);
    }

    /// The names in the handshake are those of what the server trusts now.
    fn asks_for(&mut self, served: &Served) {
        let target = &served.target;
        let object = format!("{} at {}", target.program, target.address);
        let mut bundles = Vec::new();
        for anchor in target.clients {
            match self.bundle_of(*anchor) {
                Some(bundle) => bundles.push(bundle),
                None => return, // It could not be read, which was said.
            }
        }
        if bundles.is_empty() {
            return;
        }
        let Some(names) = &served.asks_for else {
            if target.program == "etcd" {
                let finding = Finding::new(rules::NO_CLIENT_AUTH, &object)
                    .message("it asks for no client's certificate")
                    .evidence("no CertificateRequest in the handshake")
                    .consequence("whoever reaches it can read and write the whole cluster")
                    .fix("set --client-cert-auth=true and --trusted-ca-file")
                    .restart(&["etcd"]);
                self.find(finding);
            }
            return;
        };
        let on_disk = || bundles.iter().flat_map(|bundle| &bundle.certificates);
        let lost: Vec<_> = on_disk()
            .filter(|it| !names.iter().any(|name| it.subject.is_named(name)))
            .map(|it| it.subject.text.as_str())
            .collect();
        let more = names
            .iter()
            .filter(|name| !on_disk().any(|it| it.subject.is_named(name)))
            .count();
        if lost.is_empty() && more == 0 {
            return;
        }
        let files: Vec<_> = bundles.iter().map(|it| it.object.as_str()).collect();
        let mut evidence = Vec::new();
        if !lost.is_empty() {
            evidence.push(format!("does not trust {}", lost.join(", ")));
        }
        if more > 0 {
            evidence.push(format!("trusts {more} CAs that are in no file"));
        }
        let finding = self.drifted(&object, &files.join(" and "), &evidence.join("; "));
        self.find(
            finding
                .restart(&[target.program])
                .fix(format!("restart {}", target.program)),
        );
    }

    fn drifted(&self, object: &str, files: &str, evidence: &str) -> Finding {
        Finding::new(rules::TRUST_DRIFTS, object)
            .message(format!("it trusts other CAs than {files} says"))
            .evidence(evidence)
            .consequence(
                "clients of the CA on disk are refused, or clients of one that is gone are not",
            )
    }

    fn api(&mut self, api: &Api) {
        const OBJECT: &str = "ConfigMap/kube-system/extension-apiserver-authentication";

        for (anchor, live) in [
            (Anchor::Clients, &api.clients),
            (Anchor::FrontProxy, &api.front_proxy),
        ] {
            let Some(Bundle {
                object,
                certificates,
                ..
            }) = self.bundle_of(anchor)
            else {
                continue;
            };
            // API servers add theirs to what is there: more of them prove nothing.
            let lost: Vec<_> = certificates
                .iter()
                .filter(|it| !live.contains(it))
                .collect();
            if lost.is_empty() {
                continue;
            }
            let lost: Vec<_> = lost.into_iter().map(words).collect();
            let evidence = format!("it lacks {}", lost.join(", "));
            let finding = self.drifted(OBJECT, object, &evidence);
            let finding = finding
                .fix("see whether kube-apiserver logs why it does not read the file; restart it")
                .restart(&["kube-apiserver"]);
            self.find(finding);
        }
        self.token_keys(api);
    }

    fn token_keys(&mut self, api: &Api) {
        let Some(public) = &self.node.token_keys else {
            return; // Not all of them could be read, which was said.
        };
        let on_disk: Vec<_> = public
            .iter()
            .map(|key| key.fingerprint.to_string())
            .collect();
        let short = |key: &String| key.get(..16).unwrap_or(key).to_owned();
        let lost: Vec<_> = on_disk
            .iter()
            .filter(|it| !api.token_keys.contains(it))
            .map(short)
            .collect();
        let more: Vec<_> = api
            .token_keys
            .iter()
            .filter(|it| !on_disk.contains(it))
            .map(short)
            .collect();
        if lost.is_empty() && more.is_empty() {
            return;
        }
        let mut evidence = Vec::new();
        if !lost.is_empty() {
            evidence.push(format!("on disk and not in use: {}", lost.join(", ")));
        }
        if !more.is_empty() {
            evidence.push(format!("in use and not on disk: {}", more.join(", ")));
        }
        let finding = Finding::new(rules::TOKEN_KEYS_DRIFT, "/openid/v1/jwks")
            .message("kube-apiserver verifies tokens with other keys than its files have")
            .evidence(format!("SHA-256 of keys {}", evidence.join("; ")))
            .consequence("after its next start it refuses tokens that it takes now, or the reverse")
            .fix("put the old public key beside the new one (--service-account-key-file twice), and restart")
            .restart(&["kube-apiserver"]);
        self.find(finding);
    }

    /// What the files tell already is not told again.
    fn trials(&mut self, live: &Live) {
        for trial in &live.trials {
            let is_said = self
                .report
                .findings
                .iter()
                .any(|it| it.object == trial.object && it.effect == rules::REFUSED.effect);
            let Some(reason) = trial.refused.as_ref().filter(|_| !is_said) else {
                continue;
            };
            let finding = Finding::new(rules::REFUSED, &trial.object)
                .message(format!("{} refuses it", trial.peer))
                .evidence(reason)
                .consequence("what uses it goes on until it connects anew, and then fails")
                .fix("compare what the server trusts now with the CA that issued it")
                .restart(&[]);
            self.find(finding);
        }
    }
}

/// By which a certificate is known from another one of the same name.
fn words(certificate: &Certificate) -> String {
    format!(
        "{} (serial {}, not after {})",
        certificate.subject.text, certificate.serial, certificate.not_after
    )
}
