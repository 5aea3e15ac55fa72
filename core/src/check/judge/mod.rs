//! From what was read to what is wrong.

mod bundles;
mod content;
mod credential;
mod keys;
mod live;
mod strength;
mod trust;

use super::chain::Signatures;
use super::finding::{Finding, Report};
use super::node::Node;
use super::policy::Policy;
use super::rules;
use super::time::Time;

/// Judges a node as it would be at a time.
pub fn judge(node: Node, policy: &Policy, at: Time, signatures: &dyn Signatures) -> Report {
    let mut judge = Judge {
        node: &node,
        policy,
        at,
        signatures,
        report: Report::default(),
    };
    judge.missing();
    judge.bundles();
    for credential in &node.credentials {
        judge.credential(credential);
    }
    judge.shared_keys();
    judge.separation();
    judge.service_accounts();
    for kubeconfig in &node.kubeconfigs {
        judge.report.findings.extend(kubeconfig.findings());
    }
    judge.files();
    if let Some(live) = &node.live {
        judge.live(live);
    }
    let mut report = judge.report;
    report.unread.splice(0..0, node.unread);
    report.unread.dedup();
    report.findings.sort_by(|a, b| {
        let key = |it: &Finding| (std::cmp::Reverse(it.severity), it.effect, it.id);
        (key(a), &a.object).cmp(&(key(b), &b.object))
    });
    report
}

struct Judge<'a> {
    node: &'a Node,
    policy: &'a Policy,
    at: Time,
    signatures: &'a dyn Signatures,
    report: Report,
}

impl Judge<'_> {
    fn find(&mut self, finding: Finding) {
        self.report.findings.push(finding);
    }

    fn missing(&mut self) {
        for missing in &self.node.missing {
            let finding = Finding::new(rules::MISSING, &missing.object)
                .message("it is not there")
                .evidence(format!("{} needs it", missing.needed_by))
                .consequence(format!("{} does not start, or not anew", missing.needed_by))
                .fix("put it back from a backup, or make it anew with kubeadm init phase");
            self.find(finding);
        }
    }

    /// A directory once, whatever lies in it.
    fn files(&mut self) {
        let mut findings: Vec<Finding> = Vec::new();
        for file in &self.node.files {
            findings.extend(file.findings(self.node.owner));
            for finding in file.open_parents(self.node.owner) {
                if !findings.iter().any(|it| it.object == finding.object) {
                    findings.push(finding);
                }
            }
        }
        self.report.findings.extend(findings);
    }
}
