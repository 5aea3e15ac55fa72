//! What runs on a node, as it was seen from outside: handshakes, the API, processes.

use super::certificate::Certificate;
use super::layout::Facts;
use super::role::{Anchor, Role};

/// What was seen of what runs.
#[derive(Debug, Default)]
pub struct Live {
    /// Servers that answered.
    pub servers: Vec<Served>,
    /// What the API says; `None` where it could not be asked, which was said.
    pub api: Option<Api>,
    /// Certificates on disk that were shown to the server that they are for.
    pub trials: Vec<Trial>,
    /// Programs that read a file once, and started before it was last changed.
    pub stale: Vec<Stale>,
}

/// A server of this node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    /// The program.
    pub program: &'static str,
    /// Host and port.
    pub address: String,
    /// The certificate that it serves with, where that is in a file.
    pub role: Option<Role>,
    /// The files that say whose clients it believes.
    pub clients: &'static [Anchor],
}

/// A handshake.
#[derive(Debug)]
pub struct Served {
    /// With whom.
    pub target: Target,
    /// Its certificate first.
    pub presented: Vec<Certificate>,
    /// The names of the CAs whose clients it asks for, DER; `None` where it asks for no client's
    /// certificate.
    pub asks_for: Option<Vec<Vec<u8>>>,
}

/// What the API says.
#[derive(Debug)]
pub struct Api {
    /// `client-ca-file` of the ConfigMap `kube-system/extension-apiserver-authentication`.
    pub clients: Vec<Certificate>,
    /// `requestheader-client-ca-file` of it.
    pub front_proxy: Vec<Certificate>,
    /// SHA-256 in hex of the public keys in `/openid/v1/jwks`.
    pub token_keys: Vec<String>,
}

/// A certificate that was shown to the server that it is for.
#[derive(Debug)]
pub struct Trial {
    /// The certificate.
    pub object: String,
    /// The server.
    pub peer: String,
    /// Why it was refused; `None` where it was not.
    pub refused: Option<String>,
}

/// A file that is newer than the process that read it.
#[derive(Debug)]
pub struct Stale {
    /// The program.
    pub program: &'static str,
    /// The file.
    pub object: String,
    /// What was seen: both times.
    pub evidence: String,
}

impl Live {
    /// The servers of a node, by the flags of its static pods and its kubelet's configuration.
    pub fn targets(facts: &Facts) -> Vec<Target> {
        const API: &[Anchor] = &[Anchor::Clients, Anchor::FrontProxy];

        let mut targets = Vec::new();
        let mut add = |program, address, role, clients| {
            targets.push(Target {
                program,
                address,
                role,
                clients,
            });
        };
        if facts.is_control_plane {
            let address = facts.address("kube-apiserver", "6443");
            let address = address.unwrap_or_else(|| "127.0.0.1:6443".into());
            add("kube-apiserver", address, Some(Role::ApiServer), API);
            for (program, port) in [
                ("kube-controller-manager", "10257"),
                ("kube-scheduler", "10259"),
            ] {
                if let Some(address) = facts.address(program, port) {
                    add(program, address, None, &[]);
                }
            }
        }
        if facts.has_etcd {
            let urls = facts
                .pod("etcd")
                .and_then(|pod| pod.flag("listen-client-urls"));
            let mut urls = urls.unwrap_or("https://127.0.0.1:2379").split(',');
            let address = urls.find_map(|url| url.strip_prefix("https://"));
            let address = address.unwrap_or("127.0.0.1:2379").trim_end_matches('/');
            let address = address.replace("0.0.0.0:", "127.0.0.1:");
            add(
                "etcd",
                address,
                Some(Role::EtcdServer),
                &[Anchor::EtcdClients],
            );
        }
        if let Some(address) = &facts.kubelet_address {
            let role = Some(Role::KubeletServing);
            add("kubelet", address.clone(), role, &[Anchor::KubeletClients]);
        }
        targets
    }
}

impl Facts {
    /// Where a program of Kubernetes listens; `None` where it does not run here, or serves nothing.
    fn address(&self, program: &str, port: &str) -> Option<String> {
        let pod = self.pod(program)?;
        let port = pod.flag("secure-port").unwrap_or(port);
        let host = match pod.flag("bind-address") {
            None | Some("" | "0.0.0.0" | "::") => "127.0.0.1",
            Some(host) => host,
        };
        let host = match host.contains(':') {
            true => format!("[{host}]"),
            false => host.to_owned(),
        };
        (port != "0").then(|| format!("{host}:{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::StaticPod;

    #[test]
    fn servers_are_where_their_flags_say() {
        let pod = |words: &str| {
            let source =
                format!("spec: {{containers: [{{name: a, image: i, command: [{words}]}}]}}");
            StaticPod::read(source.as_bytes()).unwrap()
        };
        let facts = Facts {
            pods: vec![
                pod("kube-apiserver, --secure-port=6444, '--bind-address=::'"),
                pod("kube-scheduler, '--bind-address=::1'"),
                pod("kube-controller-manager, --secure-port=0"),
                pod("etcd, '--listen-client-urls=http://a:1,https://0.0.0.0:2379'"),
            ],
            is_control_plane: true,
            has_etcd: true,
            kubelet_address: Some("127.0.0.1:10250".into()),
            ..Facts::default()
        };
        let targets = Live::targets(&facts);
        let seen: Vec<_> = targets
            .iter()
            .map(|it| (it.program, &*it.address))
            .collect();
        assert_eq!(
            seen,
            [
                ("kube-apiserver", "127.0.0.1:6444"),
                ("kube-scheduler", "[::1]:10259"),
                ("etcd", "127.0.0.1:2379"),
                ("kubelet", "127.0.0.1:10250"),
            ]
        );
        assert!(Live::targets(&Facts::default()).is_empty());
    }
}
