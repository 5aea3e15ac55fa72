//! Which cluster it is: the uid of the namespace that every cluster has.

use serde::Deserialize;

use super::api_server::{ApiServer, Error};

impl ApiServer {
    /// The uid of the namespace kube-system.
    pub(crate) async fn cluster_uid(&self) -> Result<String, Error> {
        #[derive(Deserialize)]
        struct Namespace {
            metadata: Metadata,
        }
        #[derive(Deserialize)]
        struct Metadata {
            uid: String,
        }

        let namespace: Namespace = self.json("/api/v1/namespaces/kube-system").await?;
        Ok(namespace.metadata.uid)
    }
}
