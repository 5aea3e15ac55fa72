//! Looks at what runs: servers by handshakes, the API by its own words.

use std::thread;
use std::time::Duration;

use atrest_core::check::{Api, ConfOwner, Live, Node, Role, Served, Target, Trial};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;

use super::file;
use super::handshake::{self, Answer};
use super::node::{ClientPair, unread};
use super::process;
use crate::args::Global;
use crate::cluster::ApiServer;

/// For what is asked of the API.
const PATIENCE: Duration = Duration::from_secs(10);

/// Fills in what runs. What does not answer is unread.
pub(crate) async fn look(global: &Global, node: &mut Node, pairs: Vec<ClientPair>) {
    let targets = Live::targets(&node.facts);
    let mut live = Live::default();
    let (seen, tried) = handshakes(&targets, &pairs);
    for (target, seen) in targets.into_iter().zip(seen) {
        match seen.and_then(|seen| served(&target, seen)) {
            Ok(served) => live.servers.push(served),
            Err(reason) => {
                let input = format!("{} at {}", target.program, target.address);
                unread(node, input, reason);
            }
        }
    }
    for (trial, outcome) in tried {
        match outcome {
            Ok(refused) => live.trials.push(Trial { refused, ..trial }),
            Err(reason) => {
                let reason = format!("{} did not answer to it: {reason}", trial.peer);
                unread(node, trial.object, reason);
            }
        }
    }
    match tokio::time::timeout(PATIENCE, api(global)).await {
        Ok(Ok(api)) => live.api = Some(api),
        Ok(Err((input, reason))) => unread(node, input, reason),
        Err(_) => unread(node, "the API server", "it does not answer in time"),
    }
    live.stale = process::stale(node);
    node.live = Some(live);
}

type Tried = Vec<(Trial, Result<Option<String>, String>)>;

/// All at once: one that stalls does not hold up the others.
fn handshakes(
    targets: &[Target],
    pairs: &[ClientPair],
) -> (Vec<Result<handshake::Seen, String>>, Tried) {
    const DIED: &str = "the handshake ended in a way that it never should";

    let address_of = |program: &str| {
        let found = targets.iter().find(|target| target.program == program);
        found.map(|target| target.address.as_str())
    };
    thread::scope(|scope| {
        let looks: Vec<_> = targets
            .iter()
            .map(|target| scope.spawn(|| handshake::look(&target.address)))
            .collect();
        let trials: Vec<_> = pairs
            .iter()
            .filter_map(|pair| {
                let (program, path) = peer(pair.role)?;
                let address = address_of(program)?;
                let trial = Trial {
                    object: pair.object.clone(),
                    peer: format!("{program} at {address}"),
                    refused: None,
                };
                Some((trial, scope.spawn(move || show(pair, address, path))))
            })
            .collect();
        let looks = looks.into_iter();
        let trials = trials.into_iter();
        (
            looks
                .map(|look| look.join().unwrap_or_else(|_| Err(DIED.into())))
                .collect(),
            trials
                .map(|(trial, show)| (trial, show.join().unwrap_or_else(|_| Err(DIED.into()))))
                .collect(),
        )
    })
}

/// Whom a client's certificate is for, and what to ask there that changes nothing.
fn peer(role: Role) -> Option<(&'static str, &'static str)> {
    match role {
        Role::ApiServerEtcdClient | Role::EtcdHealthcheckClient => Some(("etcd", "/version")),
        Role::Kubeconfig(ConfOwner::Other) => None,
        Role::Kubeconfig(_) | Role::KubeletClient => Some(("kube-apiserver", "/api")),
        Role::ApiServerKubeletClient => Some(("kubelet", "/healthz")),
        _ => None,
    }
}

/// `Ok(Some)`: why it is refused.
fn show(pair: &ClientPair, address: &str, path: &str) -> Result<Option<String>, String> {
    const UNAUTHORIZED: u16 = 401;

    let chain = pair.presented.iter();
    let chain = chain
        .map(|it| CertificateDer::from(it.der.clone()))
        .collect();
    let der = pair.key.der.expose().to_vec();
    let key = match pair.key.label.as_str() {
        "RSA PRIVATE KEY" => PrivateKeyDer::Pkcs1(der.into()),
        "EC PRIVATE KEY" => PrivateKeyDer::Sec1(der.into()),
        _ => PrivateKeyDer::Pkcs8(der.into()),
    };
    Ok(match handshake::show(address, path, chain, key)? {
        Answer::Status(UNAUTHORIZED) => Some("401 Unauthorized".to_owned()),
        Answer::Status(_) => None,
        Answer::Refused(reason) => Some(reason),
    })
}

fn served(target: &Target, seen: handshake::Seen) -> Result<Served, String> {
    let presented = seen.presented.iter().map(|der| file::certificate(der));
    let presented: Vec<_> = presented
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    match presented.is_empty() {
        true => Err("it presents no certificate".to_owned()),
        false => Ok(Served {
            target: target.clone(),
            presented,
            asks_for: seen.asks_for,
        }),
    }
}

#[derive(Deserialize)]
struct ConfigMap {
    #[serde(default)]
    data: Authentication,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Authentication {
    client_ca_file: String,
    requestheader_client_ca_file: String,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<JsonWebKey>,
}

#[derive(Deserialize)]
struct JsonWebKey {
    kid: String,
}

/// What the API says, or what of it could not be read and why.
async fn api(global: &Global) -> Result<Api, (String, String)> {
    const AUTHENTICATION: &str =
        "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
    const KEYS: &str = "/openid/v1/jwks";

    let server = ApiServer::connect(global)
        .await
        .map_err(|failure| ("the kubeconfig".to_owned(), failure.message().to_owned()))?;
    let at = |path: &str| format!("{}{path}", server.url());
    let map: ConfigMap = server
        .json(AUTHENTICATION)
        .await
        .map_err(|error| (at(AUTHENTICATION), error.to_string()))?;
    // Of a media type of its own, which `json` does not ask for.
    let keys = server
        .text(KEYS)
        .await
        .map_err(|error| (at(KEYS), error.to_string()))?;
    let keys: KeySet = serde_json::from_str(&keys)
        .map_err(|_| (at(KEYS), "an answer that is no set of keys".to_owned()))?;
    let certificates = |text: &str| {
        let content = file::content(text.as_bytes());
        content
            .map(|content| content.certificates)
            .map_err(|reason| (at(AUTHENTICATION), reason))
    };
    let token_keys = keys
        .keys
        .iter()
        .map(|key| hex(&key.kid))
        .collect::<Option<_>>();
    Ok(Api {
        clients: certificates(&map.data.client_ca_file)?,
        front_proxy: certificates(&map.data.requestheader_client_ca_file)?,
        token_keys: token_keys.ok_or((at(KEYS), "a kid that is no SHA-256".to_owned()))?,
    })
}

/// A `kid` is the SHA-256 of the key in base64url (`pkg/serviceaccount/jwt.go`).
fn hex(kid: &str) -> Option<String> {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    let bytes: [u8; 32] = URL_SAFE_NO_PAD.decode(kid).ok()?.try_into().ok()?;
    Some(atrest_core::secret::Fingerprint::from(bytes).to_string())
}
