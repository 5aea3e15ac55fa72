//! The API servers as the cluster lists them.

use std::net::IpAddr;

use serde::Deserialize;

use crate::cluster::ApiServer;
use crate::commands::server_failure;
use crate::status::Failure;

const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices\
                      ?labelSelector=kubernetes.io%2Fservice-name%3Dkubernetes";
const NODES: &str = "/api/v1/nodes";

/// An API server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Endpoint {
    /// Its node's, where one has this address.
    pub(super) name: String,
    pub(super) address: String,
    pub(super) url: String,
}

#[derive(Deserialize)]
struct List<T> {
    items: Vec<T>,
}

#[derive(Deserialize)]
struct Slice {
    #[serde(default)]
    endpoints: Vec<Addresses>,
    #[serde(default)]
    ports: Vec<Port>,
}

#[derive(Deserialize)]
struct Addresses {
    addresses: Vec<IpAddr>,
}

#[derive(Deserialize)]
struct Port {
    port: u16,
}

#[derive(Deserialize)]
struct Node {
    metadata: Metadata,
    status: Status,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    addresses: Vec<Address>,
}

#[derive(Deserialize)]
struct Address {
    address: String,
}

/// Of the Service `default/kubernetes`, in the order of their names.
pub(super) async fn endpoints(api: &ApiServer) -> Result<Vec<Endpoint>, Failure> {
    let slices = api.json::<List<Slice>>(SLICES).await;
    let slices = slices.map_err(|error| server_failure(api, &error))?;
    let nodes = api.json::<List<Node>>(NODES).await;
    let nodes = nodes.map_err(|error| server_failure(api, &error))?;
    Ok(named(&slices.items, &nodes.items))
}

fn named(slices: &[Slice], nodes: &[Node]) -> Vec<Endpoint> {
    let mut all = Vec::new();
    for slice in slices {
        let port = slice.ports.first().map_or(443, |port| port.port);
        let addresses = slice.endpoints.iter().flat_map(|it| &it.addresses);
        for ip in addresses {
            let address = ip.to_string();
            let has = |node: &&Node| node.status.addresses.iter().any(|it| it.address == address);
            let node = nodes.iter().find(has);
            all.push(Endpoint {
                name: node.map_or_else(|| address.clone(), |node| node.metadata.name.clone()),
                url: match ip {
                    IpAddr::V4(_) => format!("https://{address}:{port}"),
                    IpAddr::V6(_) => format!("https://[{address}]:{port}"),
                },
                address,
            });
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_have_their_nodes_names_and_their_own_addresses() {
        let slices: List<Slice> = serde_json::from_str(
            r#"{"items": [
                {"endpoints": [{"addresses": ["10.0.0.12"]}, {"addresses": ["10.0.0.11"]}],
                 "ports": [{"port": 6443, "name": "https"}]},
                {"endpoints": [{"addresses": ["fd00::1"]}]}
            ]}"#,
        )
        .unwrap();
        let nodes: List<Node> = serde_json::from_str(
            r#"{"items": [
                {"metadata": {"name": "cp-2"}, "status": {"addresses": [
                    {"type": "InternalIP", "address": "10.0.0.12"}, {"type": "Hostname", "address": "cp-2"}]}},
                {"metadata": {"name": "worker"}, "status": {}}
            ]}"#,
        )
        .unwrap();
        let all = named(&slices.items, &nodes.items);
        let all: Vec<_> = all
            .iter()
            .map(|it| (it.name.as_str(), it.url.as_str()))
            .collect();
        assert_eq!(
            all,
            [
                ("10.0.0.11", "https://10.0.0.11:6443"),
                ("cp-2", "https://10.0.0.12:6443"),
                ("fd00::1", "https://[fd00::1]:443"),
            ]
        );
    }
}
