//! What a certificate is for, and who trusts what.

use std::fmt;

use super::certificate::Usage;

/// What a certificate is for, by its place.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Role {
    /// The CA of a group of consumers, with or without its key.
    Ca(Anchor),
    /// kube-apiserver's serving certificate.
    ApiServer,
    /// With which kube-apiserver calls kubelets.
    ApiServerKubeletClient,
    /// With which kube-apiserver calls etcd.
    ApiServerEtcdClient,
    /// With which kube-apiserver calls extension API servers.
    FrontProxyClient,
    /// etcd's serving certificate.
    EtcdServer,
    /// With which members of etcd call each other.
    EtcdPeer,
    /// With which etcd's health is asked.
    EtcdHealthcheckClient,
    /// A user of a kubeconfig.
    Kubeconfig(ConfOwner),
    /// With which the kubelet calls the API server, in a file of its own.
    KubeletClient,
    /// The kubelet's serving certificate.
    KubeletServing,
    /// With which another program serves, from no file.
    Serving,
}

/// Whose kubeconfig it is, by its name.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ConfOwner {
    /// `admin.conf`
    Admin,
    /// `super-admin.conf`
    SuperAdmin,
    /// `controller-manager.conf`
    ControllerManager,
    /// `scheduler.conf`
    Scheduler,
    /// `kubelet.conf`
    Kubelet,
    /// Another one.
    Other,
}

/// A file of certificates that somebody trusts.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Anchor {
    /// kube-apiserver's `--client-ca-file`.
    Clients,
    /// kube-controller-manager's `--root-ca-file`: what pods are told.
    Pods,
    /// The kubelet's `authentication.x509.clientCAFile`.
    KubeletClients,
    /// kube-apiserver's `--kubelet-certificate-authority`.
    KubeletServers,
    /// kube-apiserver's `--requestheader-client-ca-file`; extension API servers are told the same.
    FrontProxy,
    /// etcd's `--trusted-ca-file`.
    EtcdClients,
    /// kube-apiserver's `--etcd-cafile`.
    EtcdServers,
    /// etcd's `--peer-trusted-ca-file`.
    EtcdPeers,
}

impl Anchor {
    /// Who trusts it, and by which flag.
    pub fn consumer(self) -> &'static str {
        match self {
            Self::Clients => "kube-apiserver, of clients (--client-ca-file)",
            Self::Pods => "pods (kube-controller-manager's --root-ca-file)",
            Self::KubeletClients => "the kubelet, of clients (clientCAFile)",
            Self::KubeletServers => "kube-apiserver, of kubelets (--kubelet-certificate-authority)",
            Self::FrontProxy => {
                "extension API servers (kube-apiserver's --requestheader-client-ca-file)"
            }
            Self::EtcdClients => "etcd, of clients (--trusted-ca-file)",
            Self::EtcdServers => "kube-apiserver, of etcd (--etcd-cafile)",
            Self::EtcdPeers => "etcd, of its peers (--peer-trusted-ca-file)",
        }
    }

    /// Who has to be restarted after it changed. kube-apiserver follows the files of clients' CAs
    /// (`k8s.io/apiserver` `pkg/server/dynamiccertificates`).
    pub fn restart(self) -> &'static [&'static str] {
        match self {
            Self::Clients | Self::FrontProxy => &[],
            Self::Pods => &["kube-controller-manager"],
            Self::KubeletClients => &["kubelet"],
            Self::KubeletServers | Self::EtcdServers => &["kube-apiserver"],
            Self::EtcdClients | Self::EtcdPeers => &["etcd"],
        }
    }
}

impl Role {
    /// Who verifies it and for which use. The kubeconfigs that verify kube-apiserver come besides.
    pub(super) fn verified_by(self) -> &'static [(Anchor, Usage)] {
        match self {
            Self::Ca(_) | Self::Serving => &[],
            Self::ApiServer => &[(Anchor::Pods, Usage::Server)],
            Self::ApiServerKubeletClient => &[(Anchor::KubeletClients, Usage::Client)],
            Self::ApiServerEtcdClient | Self::EtcdHealthcheckClient => {
                &[(Anchor::EtcdClients, Usage::Client)]
            }
            Self::FrontProxyClient => &[(Anchor::FrontProxy, Usage::Client)],
            // etcd's gateway of its own HTTP interface is a client of itself.
            Self::EtcdServer => &[
                (Anchor::EtcdServers, Usage::Server),
                (Anchor::EtcdClients, Usage::Client),
            ],
            Self::EtcdPeer => &[
                (Anchor::EtcdPeers, Usage::Server),
                (Anchor::EtcdPeers, Usage::Client),
            ],
            Self::Kubeconfig(_) | Self::KubeletClient => &[(Anchor::Clients, Usage::Client)],
            Self::KubeletServing => &[(Anchor::KubeletServers, Usage::Server)],
        }
    }

    /// Whether the kubelet renews it by itself.
    pub(super) fn renews_itself(self) -> bool {
        matches!(
            self,
            Self::KubeletClient | Self::KubeletServing | Self::Kubeconfig(ConfOwner::Kubelet)
        )
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ca(Anchor::Clients | Anchor::Pods | Anchor::KubeletClients) => "cluster CA",
            Self::Ca(Anchor::KubeletServers) => "CA of kubelets",
            Self::Ca(Anchor::FrontProxy) => "front-proxy CA",
            Self::Ca(Anchor::EtcdClients | Anchor::EtcdServers | Anchor::EtcdPeers) => "etcd CA",
            Self::ApiServer => "kube-apiserver serving",
            Self::ApiServerKubeletClient => "kube-apiserver to kubelets",
            Self::ApiServerEtcdClient => "kube-apiserver to etcd",
            Self::FrontProxyClient => "front proxy",
            Self::EtcdServer => "etcd serving",
            Self::EtcdPeer => "etcd peer",
            Self::EtcdHealthcheckClient => "etcd health check",
            Self::Kubeconfig(ConfOwner::Admin) => "administrator",
            Self::Kubeconfig(ConfOwner::SuperAdmin) => "super administrator",
            Self::Kubeconfig(ConfOwner::ControllerManager) => "kube-controller-manager",
            Self::Kubeconfig(ConfOwner::Scheduler) => "kube-scheduler",
            Self::Kubeconfig(ConfOwner::Kubelet) | Self::KubeletClient => {
                "kubelet to kube-apiserver"
            }
            Self::Kubeconfig(ConfOwner::Other) => "user of a kubeconfig",
            Self::KubeletServing => "kubelet serving",
            Self::Serving => "serving, made at its start",
        })
    }
}
