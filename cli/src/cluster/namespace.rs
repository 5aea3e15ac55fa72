//! Namespaces that are created again for objects that outlived theirs.

use http::{Request, header};
use serde_json::json;

use super::api_server::{ApiServer, Error};

const NAMESPACES: &str = "/api/v1/namespaces";
const JSON: &str = "application/json";

/// Names the run that created it.
const LABEL: &str = "atrest/adopted-by-run";

impl ApiServer {
    /// Creates a namespace. 409 where there is one of the name.
    pub(crate) async fn create_namespace(&self, name: &str, run: &str) -> Result<(), Error> {
        let namespace = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": {LABEL: run}},
        });
        let request = Request::post(NAMESPACES).header(header::CONTENT_TYPE, JSON);
        let body = namespace.to_string().into_bytes();
        self.send(request, JSON, body).await.map(|_| ())
    }
}
