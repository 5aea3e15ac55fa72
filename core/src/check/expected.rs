//! The names by which servers are called: from flags of the static pods, kubeconfigs and the Service
//! `kubernetes`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::certificate::{Certificate, San};
use super::kubeconfig::Cluster;
use super::layout::Facts;

/// A name, and who calls it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Called {
    pub(super) name: String,
    pub(super) by: String,
}

fn called(name: impl Into<String>, by: impl Into<String>) -> Called {
    Called {
        name: name.into(),
        by: by.into(),
    }
}

/// Of kube-apiserver. Hosts of kubeconfigs come from [`by_kubeconfig`].
pub(super) fn api_server(facts: &Facts, node: Option<&str>) -> Vec<Called> {
    let service = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"];
    let mut names: Vec<_> = service
        .iter()
        .map(|name| called(*name, "pods, by the Service kubernetes"))
        .collect();
    names.extend(node.map(|node| called(node, "kubeadm, by the node's name")));
    if let Some(pod) = facts.pod("kube-apiserver") {
        let ranges = pod.flag("service-cluster-ip-range").unwrap_or_default();
        let first = ranges.split(',').next().and_then(first_address);
        names.extend(first.map(|address| {
            called(
                address.to_string(),
                "pods, by the address of the Service kubernetes",
            )
        }));
        let address = pod.flag("advertise-address").filter(|it| !it.is_empty());
        names.extend(address.map(|address| called(address, "others, by --advertise-address")));
    }
    names
}

/// Of etcd, by the URLs that it gives to others.
pub(super) fn etcd(facts: &Facts, flag: &str, node: Option<&str>) -> Vec<Called> {
    let mut names: Vec<_> = ["localhost", "127.0.0.1", "::1"]
        .iter()
        .map(|name| called(*name, "programs on this node"))
        .collect();
    names.extend(node.map(|node| called(node, "kubeadm, by the node's name")));
    let urls = facts
        .pod("etcd")
        .and_then(|pod| pod.flag(flag))
        .unwrap_or_default();
    for url in urls.split(',').filter(|url| !url.is_empty()) {
        let cluster = Cluster {
            name: String::new(),
            server: url.to_owned(),
            tls_server_name: None,
            is_insecure: false,
            trust: super::kubeconfig::Trust::Machine,
        };
        names.extend(
            cluster
                .host()
                .map(|host| called(host, format!("others, by --{flag}"))),
        );
    }
    names
}

/// By a cluster of a kubeconfig.
pub(super) fn by_kubeconfig(cluster: &Cluster, path: &str) -> Option<Called> {
    let host = cluster.host()?;
    Some(called(host, format!("{path}, by {}", cluster.server)))
}

/// What the certificate lacks of them.
pub(super) fn lacking(certificate: &Certificate, names: Vec<Called>) -> Vec<Called> {
    let mut lacking: Vec<Called> = Vec::new();
    for called in names {
        let is_named = lacking.iter().any(|it| it.name == called.name);
        if !is_named && !certificate.is_for(&called.name) {
            lacking.push(called);
        }
    }
    lacking
}

/// Whether the certificate is for the Service's name below the cluster's domain, whatever that is.
pub(super) fn has_domain(certificate: &Certificate) -> bool {
    certificate.names.iter().any(|name| match name {
        San::Dns(name) => name.starts_with("kubernetes.default.svc."),
        _ => false,
    })
}

/// The first address of a range after that of the network.
fn first_address(range: &str) -> Option<IpAddr> {
    let (address, bits) = range.trim().split_once('/')?;
    let bits: u32 = bits.parse().ok()?;
    match address.parse().ok()? {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32_u32.checked_sub(bits)?).unwrap_or(0);
            let first = (u32::from(address) & mask).checked_add(1)?;
            Some(Ipv4Addr::from(first).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX
                .checked_shl(128_u32.checked_sub(bits)?)
                .unwrap_or(0);
            let first = (u128::from(address) & mask).checked_add(1)?;
            Some(Ipv6Addr::from(first).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_services_address_is_the_first_of_its_range() {
        for (range, first) in [
            ("10.96.0.0/12", Some("10.96.0.1")),
            ("10.96.3.7/16", Some("10.96.0.1")),
            ("fd00:10:96::/112", Some("fd00:10:96::1")),
            ("0.0.0.0/0", Some("0.0.0.1")),
            ("10.96.0.0", None),
            ("10.96.0.0/33", None),
            ("", None),
        ] {
            let found = first_address(range).map(|address| address.to_string());
            assert_eq!(found.as_deref(), first, "{range}");
        }
    }
}
