//! Where the certificates of a node are: what its static pods and its kubelet name, else kubeadm's own
//! places.

use super::role::{Anchor, ConfOwner, Role};
use super::static_pod::StaticPod;

/// A file that is to be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Path {
    /// Absolute, on the node.
    pub path: String,
    /// Who needs it, where it must be there.
    pub needed_by: Option<&'static str>,
}

/// A certificate and its key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pair {
    /// What it is for.
    pub role: Role,
    /// The certificate, and what is sent with it.
    pub certificate: Path,
    /// Its private key; in the same file where the path is the same.
    pub key: Path,
}

/// What is to be read on a node.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Layout {
    /// Who trusts which file.
    pub anchors: Vec<(Anchor, Path)>,
    /// Certificates with their keys.
    pub pairs: Vec<Pair>,
    /// Kubeconfigs of the node's programs and administrators.
    pub kubeconfigs: Vec<(ConfOwner, Path)>,
    /// The public and the private key of ServiceAccounts' tokens.
    pub service_account: Vec<(Path, Path)>,
}

/// What is known of a node before its certificates are read.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Its static pods.
    pub pods: Vec<StaticPod>,
    /// The kubelet's `authentication.x509.clientCAFile`.
    pub kubelet_client_ca: Option<String>,
    /// The kubelet's own serving pair, where its configuration names one.
    pub kubelet_serving: Option<(String, String)>,
    /// Where the kubelet listens; `None` where there is none.
    pub kubelet_address: Option<String>,
    /// Whether a control plane runs here.
    pub is_control_plane: bool,
    /// Whether a member of etcd runs here.
    pub has_etcd: bool,
}

const PKI: &str = "/etc/kubernetes/pki";
const KUBELET: &str = "/var/lib/kubelet/pki";

impl Layout {
    /// The layout of a node.
    pub fn of(facts: &Facts) -> Self {
        let mut layout = Self::default();
        let kubelet_ca = facts.kubelet_client_ca.clone();
        layout.anchors.push((
            Anchor::KubeletClients,
            needed(
                kubelet_ca.unwrap_or_else(|| format!("{PKI}/ca.crt")),
                "the kubelet",
            ),
        ));
        layout.kubeconfig(
            ConfOwner::Kubelet,
            "/etc/kubernetes/kubelet.conf",
            Some("the kubelet"),
        );
        layout.kubelet(facts);
        if facts.is_control_plane {
            layout.control_plane(facts);
        }
        if facts.has_etcd {
            layout.etcd(facts);
        }
        layout
    }

    fn kubeconfig(&mut self, owner: ConfOwner, path: &str, needed_by: Option<&'static str>) {
        let path = Path {
            path: path.to_owned(),
            needed_by,
        };
        self.kubeconfigs.push((owner, path));
    }

    fn pair(&mut self, role: Role, certificate: String, key: String, needed_by: &'static str) {
        self.pairs.push(Pair {
            role,
            certificate: needed(certificate, needed_by),
            key: needed(key, needed_by),
        });
    }

    fn kubelet(&mut self, facts: &Facts) {
        let current = |name: &str| optional(format!("{KUBELET}/{name}"));
        self.pairs.push(Pair {
            role: Role::KubeletClient,
            certificate: current("kubelet-client-current.pem"),
            key: current("kubelet-client-current.pem"),
        });
        if let Some((certificate, key)) = facts.kubelet_serving.clone() {
            self.pair(Role::KubeletServing, certificate, key, "the kubelet");
            return;
        }
        for (certificate, key) in [
            ("kubelet-server-current.pem", "kubelet-server-current.pem"),
            ("kubelet.crt", "kubelet.key"),
        ] {
            self.pairs.push(Pair {
                role: Role::KubeletServing,
                certificate: current(certificate),
                key: current(key),
            });
        }
    }

    fn control_plane(&mut self, facts: &Facts) {
        const API: &str = "kube-apiserver";
        const MANAGER: &str = "kube-controller-manager";

        let api = |flag: &str, default: &str| facts.file(API, flag, default);
        let manager = |flag: &str, default: &str| facts.file(MANAGER, flag, default);
        self.anchors.extend([
            (
                Anchor::Clients,
                needed(api("client-ca-file", "ca.crt"), API),
            ),
            (
                Anchor::Pods,
                needed(manager("root-ca-file", "ca.crt"), MANAGER),
            ),
            (
                Anchor::FrontProxy,
                needed(
                    api("requestheader-client-ca-file", "front-proxy-ca.crt"),
                    API,
                ),
            ),
        ]);
        if facts.has_etcd
            || facts
                .pod(API)
                .is_some_and(|pod| pod.flag("etcd-cafile").is_some())
        {
            let ca = api("etcd-cafile", "etcd/ca.crt");
            self.anchors.push((Anchor::EtcdServers, needed(ca, API)));
            self.pair(
                Role::ApiServerEtcdClient,
                api("etcd-certfile", "apiserver-etcd-client.crt"),
                api("etcd-keyfile", "apiserver-etcd-client.key"),
                API,
            );
        }
        let kubelets = facts
            .pod(API)
            .and_then(|pod| pod.file("kubelet-certificate-authority"));
        self.anchors
            .extend(kubelets.map(|ca| (Anchor::KubeletServers, needed(ca, API))));
        for (role, certificate, key, name) in [
            (
                Role::ApiServer,
                "tls-cert-file",
                "tls-private-key-file",
                "apiserver",
            ),
            (
                Role::ApiServerKubeletClient,
                "kubelet-client-certificate",
                "kubelet-client-key",
                "apiserver-kubelet-client",
            ),
            (
                Role::FrontProxyClient,
                "proxy-client-cert-file",
                "proxy-client-key-file",
                "front-proxy-client",
            ),
        ] {
            self.pair(
                role,
                api(certificate, &format!("{name}.crt")),
                api(key, &format!("{name}.key")),
                API,
            );
        }
        // Where the keys of CAs are elsewhere, kubeadm takes them for external.
        for (anchor, name) in [
            (Anchor::Clients, "ca"),
            (Anchor::FrontProxy, "front-proxy-ca"),
        ] {
            self.ca(anchor, name);
        }
        self.service_accounts(facts);
        let conf = |program: &str, name: &str| {
            let flag = facts.pod(program).and_then(|pod| pod.file("kubeconfig"));
            flag.unwrap_or_else(|| format!("/etc/kubernetes/{name}.conf"))
        };
        self.kubeconfig(ConfOwner::Admin, "/etc/kubernetes/admin.conf", None);
        self.kubeconfig(
            ConfOwner::SuperAdmin,
            "/etc/kubernetes/super-admin.conf",
            None,
        );
        let manager = conf(MANAGER, "controller-manager");
        self.kubeconfig(ConfOwner::ControllerManager, &manager, Some(MANAGER));
        let scheduler = conf("kube-scheduler", "scheduler");
        self.kubeconfig(ConfOwner::Scheduler, &scheduler, Some("kube-scheduler"));
    }

    /// The private key signs, each public one verifies; the one that belongs to it is among them.
    fn service_accounts(&mut self, facts: &Facts) {
        const API: &str = "kube-apiserver";

        let pod = facts.pod(API);
        let signing = facts.file(API, "service-account-signing-key-file", "sa.key");
        let mut public: Vec<_> = pod
            .into_iter()
            .flat_map(|pod| {
                pod.flags("service-account-key-file")
                    .map(|file| pod.on_host(file))
            })
            .collect();
        if public.is_empty() {
            public.push(format!("{PKI}/sa.pub"));
        }
        let pair = |public| (needed(public, API), needed(signing.clone(), API));
        self.service_account = public.into_iter().map(pair).collect();
    }

    fn etcd(&mut self, facts: &Facts) {
        const ETCD: &str = "etcd";

        let of = |flag: &str, default: &str| facts.file(ETCD, flag, default);
        self.anchors.extend([
            (
                Anchor::EtcdClients,
                needed(of("trusted-ca-file", "etcd/ca.crt"), ETCD),
            ),
            (
                Anchor::EtcdPeers,
                needed(of("peer-trusted-ca-file", "etcd/ca.crt"), ETCD),
            ),
        ]);
        let (certificate, key) = (
            of("cert-file", "etcd/server.crt"),
            of("key-file", "etcd/server.key"),
        );
        self.pair(Role::EtcdServer, certificate, key, ETCD);
        let certificate = of("peer-cert-file", "etcd/peer.crt");
        self.pair(
            Role::EtcdPeer,
            certificate,
            of("peer-key-file", "etcd/peer.key"),
            ETCD,
        );
        self.pairs.push(Pair {
            role: Role::EtcdHealthcheckClient,
            certificate: optional(format!("{PKI}/etcd/healthcheck-client.crt")),
            key: optional(format!("{PKI}/etcd/healthcheck-client.key")),
        });
        self.ca(Anchor::EtcdClients, "etcd/ca");
    }

    fn ca(&mut self, anchor: Anchor, name: &str) {
        self.pairs.push(Pair {
            role: Role::Ca(anchor),
            certificate: optional(format!("{PKI}/{name}.crt")),
            key: optional(format!("{PKI}/{name}.key")),
        });
    }
}

impl Facts {
    /// The static pod of a program.
    pub fn pod(&self, program: &str) -> Option<&StaticPod> {
        self.pods.iter().find(|pod| pod.program() == program)
    }

    fn file(&self, program: &str, flag: &str, default: &str) -> String {
        let named = self.pod(program).and_then(|pod| pod.file(flag));
        named.unwrap_or_else(|| format!("{PKI}/{default}"))
    }
}

fn needed(path: String, by: &'static str) -> Path {
    Path {
        path,
        needed_by: Some(by),
    }
}

fn optional(path: String) -> Path {
    Path {
        path,
        needed_by: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(layout: &Layout) -> Vec<&str> {
        let pairs = layout.pairs.iter();
        pairs
            .flat_map(|pair| [pair.certificate.path.as_str(), pair.key.path.as_str()])
            .chain(layout.anchors.iter().map(|(_, path)| path.path.as_str()))
            .collect()
    }

    #[test]
    fn what_the_pods_name_counts_more_than_where_kubeadm_puts_it() {
        let pod =
            b"spec: {containers: [{name: a, image: i, command: [kube-apiserver, --tls-cert-file=/a.crt, \
                    --client-ca-file=/old.crt, --client-ca-file=/clients.crt]}]}";
        let facts = Facts {
            pods: vec![StaticPod::read(pod).unwrap()],
            is_control_plane: true,
            has_etcd: true,
            ..Facts::default()
        };
        let layout = Layout::of(&facts);
        let paths = paths(&layout);
        for path in [
            "/a.crt",
            "/clients.crt",
            "/etc/kubernetes/pki/apiserver.key",
        ] {
            assert!(paths.contains(&path), "{path}");
        }
        for path in ["/old.crt", "/etc/kubernetes/pki/apiserver.crt"] {
            assert!(!paths.contains(&path), "{path}");
        }
    }

    #[test]
    fn a_worker_needs_its_kubelet_alone() {
        let layout = Layout::of(&Facts::default());
        let roles: Vec<_> = layout.pairs.iter().map(|pair| pair.role).collect();
        assert_eq!(
            roles,
            [
                Role::KubeletClient,
                Role::KubeletServing,
                Role::KubeletServing
            ]
        );
        assert_eq!(layout.kubeconfigs.len(), 1);
        let layout = Layout::of(&Facts {
            is_control_plane: true,
            ..Facts::default()
        });
        let etcd = |path: &&str| path.contains("etcd");
        assert_eq!(paths(&layout).into_iter().find(etcd), None);
    }
}
