//! KMS v2 plugins, asked for the key_id that they write with now.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use atrest_core::encryption_config::{EncryptionConfiguration, KmsVersion, Provider};
use atrest_proto::v2::StatusRequest;
use atrest_proto::v2::key_management_service_client::KeyManagementServiceClient;
use tonic::transport::Endpoint;

use crate::args::KmsSocket;
use crate::report;
use crate::status::{Failure, innermost};

/// kube-apiserver's own default.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The current key_id of each KMS v2 provider that answers, by its name. The socket is the one
/// that the command line names, else the one of the configuration. A plugin that does not answer
/// is said so and left out: what depends on it counts as unread.
pub(crate) async fn key_ids(
    configuration: &EncryptionConfiguration,
    sockets: &[KmsSocket],
) -> BTreeMap<String, String> {
    let mut key_ids = BTreeMap::new();
    let providers = configuration
        .resources
        .iter()
        .flat_map(|entry| &entry.providers);
    for provider in providers {
        let Provider::Kms(kms) = provider else {
            continue;
        };
        if kms.api_version != KmsVersion::V2 || key_ids.contains_key(&kms.name) {
            continue;
        }
        let named = sockets.iter().find(|socket| socket.name == kms.name);
        let path = match named {
            Some(socket) => Some(socket.path.clone()),
            None => kms.endpoint.strip_prefix("unix://").map(PathBuf::from),
        };
        let Some(path) = path else { continue };
        match status(&path).await {
            Ok(key_id) => {
                key_ids.insert(kms.name.clone(), key_id);
            }
            Err(failure) => report::say(format!("warning: {failure}")),
        }
    }
    key_ids
}

/// The key_id of a plugin that is healthy.
pub(crate) async fn status(socket: &std::path::Path) -> Result<String, Failure> {
    let shown = socket.display();
    let unread = |reason: String| {
        Failure::unread(format!("cannot ask the KMS plugin at {shown}: {reason}")).hint(
            "run this on the node of the plugin, or name its socket with --kms-socket NAME=PATH",
        )
    };
    let endpoint = Endpoint::from_shared(format!("unix://{shown}"))
        .map_err(|_| unread("not a path of a socket".into()))?
        .connect_timeout(TIMEOUT)
        .timeout(TIMEOUT);
    let channel = endpoint
        .connect()
        .await
        .map_err(|error| unread(innermost(&error)))?;
    let status = KeyManagementServiceClient::new(channel)
        .status(StatusRequest {})
        .await
        .map_err(|status| unread(format!("{:?}", status.code())))?
        .into_inner();
    if status.healthz != "ok" || status.key_id.is_empty() {
        return Err(unread("it is not healthy".into()));
    }
    Ok(status.key_id)
}
