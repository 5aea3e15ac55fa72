//! What stands in a certificate, against what its place asks for.

use super::Judge;
use crate::check::certificate::{Certificate, Usage};
use crate::check::contract::{CommonName, Contract};
use crate::check::expected::{self, Called};
use crate::check::finding::Finding;
use crate::check::node::Credential;
use crate::check::role::{ConfOwner, Role};
use crate::check::rules::{self, Rule};

impl<'a> Judge<'a> {
    pub(super) fn contract(
        &mut self,
        credential: &Credential,
        certificate: &Certificate,
        contract: &Contract,
        fix: &str,
    ) {
        let found = |rule: &'static Rule| {
            Finding::new(rule, &credential.object)
                .fix(fix)
                .restart(contract.restart)
                .consequence(contract.consequence)
        };
        let name = certificate.subject.common_name().unwrap_or_default();
        let (is_right, wanted) = match contract.common_name {
            CommonName::Any => (true, ""),
            CommonName::Is(wanted) => (name == wanted, wanted),
            CommonName::Node => {
                let node = name
                    .strip_prefix("system:node:")
                    .filter(|it| !it.is_empty());
                let own = self.node_name();
                let is_own = own.is_none_or(|own| node == Some(own));
                (node.is_some() && is_own, "system:node: and the node's name")
            }
        };
        if !is_right {
            let finding = found(rules::COMMON_NAME)
                .message(format!("its CN is not {wanted}"))
                .evidence(format!("subject {}", certificate.subject.text));
            self.find(finding);
        }
        self.organizations(credential, certificate, contract, fix);
        let missing: Vec<_> = contract
            .usages
            .iter()
            .filter(|usage| !certificate.may_serve_for(usage))
            .map(ToString::to_string)
            .collect();
        if !missing.is_empty() {
            let finding = found(rules::USAGE)
                .message(format!("it is not for {}", missing.join(" and ")))
                .evidence(usages(certificate));
            self.find(finding);
        }
        let known = [Usage::Server, Usage::Client];
        let more = known
            .iter()
            .any(|usage| certificate.may_serve_for(usage) && !contract.usages.contains(usage));
        if more && credential.role != Role::KubeletServing {
            let finding = found(rules::MORE_USAGE)
                .message("it is for more than its place asks for")
                .evidence(usages(certificate))
                .consequence("whoever has it can be a client and a server");
            self.find(finding);
        }
    }

    fn organizations(
        &mut self,
        credential: &Credential,
        certificate: &Certificate,
        contract: &Contract,
        fix: &str,
    ) {
        const MASTERS: &str = "system:masters";

        let mut groups: Vec<_> = certificate
            .subject
            .organizations
            .iter()
            .map(String::as_str)
            .collect();
        groups.sort_unstable();
        let is_right = contract.organizations.is_empty()
            || contract
                .organizations
                .iter()
                .any(|right| **right == *groups);
        let evidence = format!("subject {}", certificate.subject.text);
        if !is_right {
            let wanted = match contract.organizations.first() {
                Some([]) | None => "none".to_owned(),
                Some(groups) => groups.join(" and "),
            };
            let finding = Finding::new(rules::ORGANIZATION, &credential.object)
                .message(format!(
                    "its organizations are not as they should be: {wanted}"
                ))
                .evidence(&evidence)
                .consequence("it may do less, or more, than it should")
                .fix(fix)
                .restart(contract.restart);
            self.find(finding);
        }
        let is_super = credential.role == Role::Kubeconfig(ConfOwner::SuperAdmin);
        if groups.contains(&MASTERS) && !is_super {
            let finding = Finding::new(rules::MASTERS, &credential.object)
                .message("it is of the group system:masters")
                .evidence(&evidence)
                .consequence("no authorizer stops it, and it cannot be revoked before it expires")
                .fix(fix)
                .restart(contract.restart);
            self.find(finding);
        }
    }

    /// The name of this node, by the certificate of its kubelet.
    fn node_name(&self) -> Option<&'a str> {
        let kubelet = |it: &&Credential| {
            matches!(
                it.role,
                Role::KubeletClient | Role::Kubeconfig(ConfOwner::Kubelet)
            )
        };
        let certificate = self
            .node
            .credentials
            .iter()
            .find(kubelet)?
            .presented
            .first()?;
        certificate
            .subject
            .common_name()?
            .strip_prefix("system:node:")
    }

    pub(super) fn names(&mut self, credential: &Credential, certificate: &Certificate) {
        let facts = &self.node.facts;
        let node = self.node_name();
        let mut names = match credential.role {
            Role::ApiServer => expected::api_server(facts, node),
            Role::EtcdServer => expected::etcd(facts, "advertise-client-urls", node),
            Role::EtcdPeer => expected::etcd(facts, "initial-advertise-peer-urls", node),
            _ => return,
        };
        if credential.role == Role::ApiServer {
            names.extend(self.node.kubeconfigs.iter().flat_map(|kubeconfig| {
                let clusters = kubeconfig.clusters.iter();
                let ours = clusters.filter(|cluster| self.is_ours(kubeconfig, &cluster.trust));
                ours.filter_map(|cluster| expected::by_kubeconfig(cluster, &kubeconfig.object))
            }));
        }
        let mut lacking = expected::lacking(certificate, names);
        if credential.role == Role::ApiServer && !expected::has_domain(certificate) {
            lacking.push(Called {
                name: "kubernetes.default.svc. and the cluster's domain".into(),
                by: "pods, by the Service kubernetes".into(),
            });
        }
        if lacking.is_empty() {
            return;
        }
        let list: Vec<_> = lacking.iter().map(|it| it.name.as_str()).collect();
        let callers: Vec<_> = lacking
            .iter()
            .map(|it| format!("{} is called by {}", it.name, it.by))
            .collect();
        let (file, phase) = match credential.role {
            Role::ApiServer => ("apiServer.certSANs", "apiserver"),
            Role::EtcdServer => ("etcd.local.serverCertSANs", "etcd-server"),
            _ => ("etcd.local.peerCertSANs", "etcd-peer"),
        };
        let restart = credential.role.contract().map_or(&[][..], |it| it.restart);
        let finding = Finding::new(rules::NAMES, &credential.object)
            .message(format!("it is not for {}", list.join(", ")))
            .evidence(callers.join("; "))
            .consequence("whoever calls that name ends with a TLS error")
            .fix(format!(
                "add what is missing to {file} of the ClusterConfiguration, move the pair away, and run \
                 kubeadm init phase certs {phase}"
            ))
            .restart(restart);
        self.find(finding);
    }
}

fn usages(certificate: &Certificate) -> String {
    match &certificate.usages {
        None => "no extended key usage, which allows everything".to_owned(),
        Some(usages) => {
            let usages: Vec<_> = usages.iter().map(ToString::to_string).collect();
            format!("extended key usage {}", usages.join(", "))
        }
    }
}
