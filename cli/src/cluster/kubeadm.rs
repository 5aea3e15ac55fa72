//! kubeadm's ClusterConfiguration, as it is kept in the cluster.

use http::{Request, header};
use serde::Deserialize;
use serde_json::json;

use super::api_server::{ApiServer, Error};

const PATH: &str = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config";

/// The ConfigMap as it was seen.
#[derive(Debug, Deserialize)]
pub(crate) struct KubeadmConfig {
    metadata: Metadata,
    #[serde(default)]
    data: Data,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    resource_version: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Data {
    cluster_configuration: String,
}

impl KubeadmConfig {
    /// YAML.
    pub(crate) fn text(&self) -> &str {
        &self.data.cluster_configuration
    }
}

impl ApiServer {
    /// `None` where no kubeadm made the cluster.
    pub(crate) async fn kubeadm_config(&self) -> Result<Option<KubeadmConfig>, Error> {
        match self.json(PATH).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.code() == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives it another text. 409 where it is not what was seen any more.
    pub(crate) async fn change_kubeadm_config(
        &self,
        seen: &KubeadmConfig,
        text: &str,
    ) -> Result<(), Error> {
        let patch = json!({
            "metadata": {"resourceVersion": seen.metadata.resource_version},
            "data": {"ClusterConfiguration": text},
        });
        let request =
            Request::patch(PATH).header(header::CONTENT_TYPE, "application/merge-patch+json");
        let body = patch.to_string().into_bytes();
        self.send(request, "application/json", body)
            .await
            .map(|_| ())
    }
}
