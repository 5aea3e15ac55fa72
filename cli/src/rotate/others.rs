//! API servers that run and that nobody listed: one that is forgotten goes on writing with the old key. They
//! are told by their identity Leases and by the endpoints of the Service `default/kubernetes`.

use std::net::IpAddr;

use atrest_core::secret::Fingerprint;
use serde::Deserialize;

use crate::cluster::ApiServer;
use crate::status::Failure;

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases\
                      ?labelSelector=apiserver.kubernetes.io%2Fidentity%3Dkube-apiserver";

/// The servers write it themselves, unless `--endpoint-reconciler-type` is `none`.
const SLICE: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes";

#[derive(Deserialize)]
struct Leases {
    items: Vec<Lease>,
}

#[derive(Deserialize)]
struct Lease {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    labels: Labels,
}

#[derive(Default, Deserialize)]
struct Labels {
    #[serde(rename = "kubernetes.io/hostname")]
    hostname: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    renew_time: Option<jiff::Timestamp>,
    lease_duration_seconds: Option<i64>,
}

#[derive(Deserialize)]
struct Slice {
    endpoints: Option<Vec<Addresses>>,
}

#[derive(Deserialize)]
struct Addresses {
    addresses: Vec<IpAddr>,
}

/// An API server that keeps its identity Lease alive. Those of one machine share it.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Alive {
    /// As its metrics speak of it.
    identity: String,
    /// Its host's name where it says that.
    name: String,
}

/// The name of the identity Lease of a server that its metrics speak of by a hash, where it can be found.
pub(super) async fn lease_of(api: &ApiServer, identity: &str) -> Option<String> {
    let leases: Leases = api.json(LEASES).await.ok()?;
    let mut names = leases.items.into_iter().map(|lease| lease.metadata.name);
    names.find(|name| hashed(name) == identity)
}

/// As metrics speak of it.
fn hashed(name: &str) -> String {
    format!("sha256:{}", Fingerprint::of(name.as_bytes()))
}

/// How many API servers there are by their Leases.
pub(crate) async fn alive_servers(api: &ApiServer) -> Result<usize, Failure> {
    Ok(alive(api).await?.len())
}

/// Why those that are listed are not all; `None` where they are. To begin with, each has to have a Lease, too: one
/// that is listed twice has one. Later one that starts again may have none yet.
pub(super) async fn unlisted(
    asked: &ApiServer,
    listed: &[ApiServer],
    identities: &[Option<&str>],
    begins: bool,
) -> Result<Option<Failure>, Failure> {
    if let Some(failure) = by_leases(&alive(asked).await?, identities, begins) {
        return Ok(Some(failure));
    }
    let endpoints = endpoints(asked).await?;
    if endpoints.len() <= listed.len() {
        return Ok(None);
    }
    let mut known = Vec::new();
    for server in listed {
        known.extend(addresses(server.url()).await);
    }
    Ok(Some(by_endpoints(&endpoints, &known, listed.len())))
}

async fn alive(api: &ApiServer) -> Result<Vec<Alive>, Failure> {
    let leases: Leases = api.json(LEASES).await.map_err(|error| {
        Failure::unread(format!("cannot list the API servers' identity Leases: {error}"))
            .hint("without them a forgotten API server would not be seen; use an administrator's kubeconfig")
    })?;
    // By the newest renewal, which is that of a server that answers, and not by a clock of ours.
    let renewed = |lease: &Lease| lease.spec.renew_time.map(jiff::Timestamp::as_second);
    let newest = leases.items.iter().filter_map(renewed).max();
    let newest = newest.unwrap_or_default();
    let is_alive = |lease: &Lease| {
        let seconds = lease.spec.lease_duration_seconds.unwrap_or_default();
        renewed(lease).is_some_and(|renewed| newest - renewed <= seconds)
    };
    let alive = leases.items.into_iter().filter(is_alive);
    Ok(alive
        .map(|lease| {
            let Metadata { name, labels } = lease.metadata;
            Alive {
                identity: hashed(&name),
                name: labels.hostname.unwrap_or(name),
            }
        })
        .collect())
}

fn by_leases(alive: &[Alive], identities: &[Option<&str>], begins: bool) -> Option<Failure> {
    // Whose identity is not known may be anyone.
    let are_known = identities.iter().all(Option::is_some);
    let strangers: Vec<_> = match are_known {
        false => Vec::new(),
        true => {
            let is_listed = |it: &&Alive| identities.contains(&Some(&*it.identity));
            let strangers = alive.iter().filter(|it| !is_listed(it));
            strangers.map(|it| it.name.as_str()).collect()
        }
    };
    let may_lack_one = !begins && are_known && alive.len() < identities.len();
    if strangers.is_empty() && (alive.len() == identities.len() || may_lack_one) {
        return None;
    }
    let (count, listed) = (alive.len(), identities.len());
    let named = match strangers.is_empty() {
        true => String::new(),
        false => format!(": {} is not among these", strangers.join(", ")),
    };
    Some(refused(format!(
        "the cluster has {count} API servers, and {listed} are listed{named}"
    )))
}

/// Those of the Service, none where nobody writes them down.
async fn endpoints(api: &ApiServer) -> Result<Vec<IpAddr>, Failure> {
    let slice: Slice = match api.json(SLICE).await {
        Ok(slice) => slice,
        Err(error) if error.code() == Some(404) => return Ok(Vec::new()),
        Err(error) => {
            return Err(Failure::unread(format!(
                "cannot get the endpoints of the Service default/kubernetes: {error}"
            ))
            .hint("a forgotten API server can be among them; use an administrator's kubeconfig"));
        }
    };
    let endpoints = slice.endpoints.into_iter().flatten();
    let mut addresses: Vec<_> = endpoints.flat_map(|it| it.addresses).collect();
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

async fn addresses(url: &str) -> Vec<IpAddr> {
    let Ok(url) = url.parse::<http::Uri>() else {
        return Vec::new();
    };
    let host = url.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match tokio::net::lookup_host((host, 443)).await {
        Ok(found) => found.map(|it| it.ip()).collect(),
        Err(_) => Vec::new(),
    }
}

/// There are more of them than servers that are listed. That a listed one has another address there is no sign,
/// for a server need not be asked where it advertises itself.
fn by_endpoints(endpoints: &[IpAddr], known: &[IpAddr], listed: usize) -> Failure {
    let strangers = endpoints.iter().filter(|it| !known.contains(it));
    let strangers: Vec<_> = strangers.map(ToString::to_string).collect();
    refused(format!(
        "the Service default/kubernetes has {} API servers, and {listed} are listed: {} is not the address of \
         one of these",
        endpoints.len(),
        strangers.join(", ")
    ))
}

fn refused(message: String) -> Failure {
    Failure::unusable(message).hint(
        "list all of them, each once: one that is forgotten goes on writing with the old key. One \
         that was taken away keeps its Lease in kube-system for an hour",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alive(names: &[&str]) -> Vec<Alive> {
        let alive = names.iter().map(|name| Alive {
            identity: format!("sha256:{name}"),
            name: (*name).into(),
        });
        alive.collect()
    }

    #[test]
    fn a_server_that_nobody_listed_is_named_where_the_others_are_known() {
        let [a, b, c] = ["sha256:a", "sha256:b", "sha256:c"].map(Some);
        let both = alive(&["a", "b"]);
        assert!(by_leases(&both, &[a, b], true).is_none());
        assert!(by_leases(&both, &[a, None], true).is_none());
        assert!(by_leases(&both, &[a, b, c], false).is_none());
        assert!(by_leases(&both, &[a, c, c], false).is_some());
        assert!(by_leases(&both, &[a, None, c], false).is_some());
        for (listed, told) in [
            (
                &[a][..],
                "2 API servers, and 1 are listed: b is not among these",
            ),
            (&[None], "2 API servers, and 1 are listed"),
            // One is listed twice, under two addresses.
            (
                &[a, a],
                "2 API servers, and 2 are listed: b is not among these",
            ),
            (&[a, b, c], "2 API servers, and 3 are listed"),
        ] {
            let failure = by_leases(&both, listed, true).unwrap();
            assert!(failure.message().ends_with(told), "{}", failure.message());
        }
    }

    #[tokio::test]
    async fn an_address_is_known_by_its_url() {
        for (url, address) in [
            ("https://10.0.0.11:6443", "10.0.0.11"),
            ("https://[fd00::1]:6443", "fd00::1"),
        ] {
            assert_eq!(addresses(url).await, [address.parse::<IpAddr>().unwrap()]);
        }
    }

    #[test]
    fn an_endpoint_that_is_no_listed_server_is_named() {
        let ip = |last: u8| IpAddr::from([10, 0, 0, last]);
        let failure = by_endpoints(&[ip(1), ip(2), ip(3)], &[ip(3), ip(1)], 2);
        let told =
            "has 3 API servers, and 2 are listed: 10.0.0.2 is not the address of one of these";
        assert!(failure.message().ends_with(told), "{}", failure.message());
    }
}
