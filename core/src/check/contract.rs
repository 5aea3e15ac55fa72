//! What kubeadm puts into each certificate
//! (`kubernetes/website` `content/en/docs/setup/best-practices/certificates.md`,
//! `cmd/kubeadm/app/phases/certs/certlist.go`), and what renews it.

use super::certificate::Usage;
use super::role::{ConfOwner, Role};

/// What stands in the certificate of a role.
pub(super) struct Contract {
    pub(super) common_name: CommonName,
    /// The sets of groups that are right; none where any is.
    pub(super) organizations: &'static [&'static [&'static str]],
    pub(super) usages: &'static [Usage],
    /// Who reads it once, at its start.
    pub(super) restart: &'static [&'static str],
    /// The command that makes it anew; `None` where it is not kubeadm's.
    pub(super) renew: Option<&'static str>,
    /// What does not work where it does not.
    pub(super) consequence: &'static str,
}

pub(super) enum CommonName {
    Is(&'static str),
    /// `system:node:` and the node's name.
    Node,
    Any,
}

const SERVER: &[Usage] = &[Usage::Server];
const CLIENT: &[Usage] = &[Usage::Client];
const BOTH: &[Usage] = &[Usage::Server, Usage::Client];

const NO_GROUP: &[&[&str]] = &[&[]];
/// Since 1.37, since 1.29, and before.
const KUBELET_CLIENT: &[&[&str]] = &[&[], &["kubeadm:cluster-admins"], &["system:masters"]];
/// Since 1.29, and before.
const ADMINS: &[&[&str]] = &[&["kubeadm:cluster-admins"], &["system:masters"]];

impl Role {
    pub(super) fn contract(self) -> Option<Contract> {
        use CommonName::{Any, Is, Node};

        Some(match self {
            Self::Ca(_) | Self::Serving => return None,
            Self::ApiServer => Contract {
                common_name: Is("kube-apiserver"),
                organizations: NO_GROUP,
                usages: SERVER,
                restart: &[],
                renew: Some("kubeadm certs renew apiserver"),
                consequence: "clients, pods and nodes cannot talk to the API server",
            },
            Self::ApiServerKubeletClient => Contract {
                common_name: Is("kube-apiserver-kubelet-client"),
                organizations: KUBELET_CLIENT,
                usages: CLIENT,
                restart: &["kube-apiserver"],
                renew: Some("kubeadm certs renew apiserver-kubelet-client"),
                consequence: "kubectl logs, exec and port-forward fail",
            },
            Self::ApiServerEtcdClient => Contract {
                common_name: Is("kube-apiserver-etcd-client"),
                organizations: &[&[], &["system:masters"]],
                usages: CLIENT,
                restart: &["kube-apiserver"],
                renew: Some("kubeadm certs renew apiserver-etcd-client"),
                consequence: "the API server cannot reach etcd: the cluster stands still",
            },
            Self::FrontProxyClient => Contract {
                common_name: Is("front-proxy-client"),
                organizations: NO_GROUP,
                usages: CLIENT,
                restart: &["kube-apiserver"],
                renew: Some("kubeadm certs renew front-proxy-client"),
                consequence: "aggregated APIs such as metrics fail",
            },
            Self::EtcdServer => Contract {
                common_name: Any,
                organizations: NO_GROUP,
                usages: BOTH,
                restart: &["etcd"],
                renew: Some("kubeadm certs renew etcd-server"),
                consequence: "the API server cannot reach etcd: the cluster stands still",
            },
            Self::EtcdPeer => Contract {
                common_name: Any,
                organizations: NO_GROUP,
                usages: BOTH,
                restart: &["etcd"],
                renew: Some("kubeadm certs renew etcd-peer"),
                consequence: "this member of etcd loses the others",
            },
            Self::EtcdHealthcheckClient => Contract {
                common_name: Is("kube-etcd-healthcheck-client"),
                organizations: &[&[], &["system:masters"]],
                usages: CLIENT,
                restart: &[],
                renew: Some("kubeadm certs renew etcd-healthcheck-client"),
                consequence: "etcd's health cannot be asked by kubeadm",
            },
            Self::Kubeconfig(ConfOwner::Admin) => Contract {
                common_name: Is("kubernetes-admin"),
                organizations: ADMINS,
                usages: CLIENT,
                restart: &[],
                renew: Some("kubeadm certs renew admin.conf"),
                consequence: "administrators with this file are refused",
            },
            Self::Kubeconfig(ConfOwner::SuperAdmin) => Contract {
                common_name: Is("kubernetes-super-admin"),
                organizations: &[&["system:masters"]],
                usages: CLIENT,
                restart: &[],
                renew: Some("kubeadm certs renew super-admin.conf"),
                consequence: "the way in when RBAC is broken is shut",
            },
            Self::Kubeconfig(ConfOwner::ControllerManager) => Contract {
                common_name: Is("system:kube-controller-manager"),
                organizations: NO_GROUP,
                usages: CLIENT,
                restart: &["kube-controller-manager"],
                renew: Some("kubeadm certs renew controller-manager.conf"),
                consequence: "no controller works: nothing is replaced, scaled or signed",
            },
            Self::Kubeconfig(ConfOwner::Scheduler) => Contract {
                common_name: Is("system:kube-scheduler"),
                organizations: NO_GROUP,
                usages: CLIENT,
                restart: &["kube-scheduler"],
                renew: Some("kubeadm certs renew scheduler.conf"),
                consequence: "new pods are not scheduled",
            },
            Self::Kubeconfig(ConfOwner::Kubelet) | Self::KubeletClient => Contract {
                common_name: Node,
                organizations: &[&["system:nodes"]],
                usages: CLIENT,
                restart: &["kubelet"],
                renew: Some(
                    "kubeadm kubeconfig user --org system:nodes --client-name system:node:NAME",
                ),
                consequence: "the node becomes NotReady",
            },
            Self::Kubeconfig(ConfOwner::Other) => Contract {
                common_name: Any,
                organizations: &[],
                usages: CLIENT,
                restart: &[],
                renew: None,
                consequence: "whoever uses this file is refused",
            },
            Self::KubeletServing => Contract {
                common_name: Any,
                organizations: &[],
                usages: SERVER,
                restart: &["kubelet"],
                renew: None,
                consequence: "kubectl logs, exec and metrics of this node fail where it is verified",
            },
        })
    }
}
