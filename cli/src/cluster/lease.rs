//! The Lease in `kube-system` that says which rotation is under way.

use http::{Request, header};
use k8s_openapi::api::coordination::v1::{Lease as Object, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::api_server::{ApiServer, Error};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
const NAME: &str = "atrest-rotation";

/// How far its holder is, for people: never read as the truth.
const STATE: &str = "atrest/state";

const JSON: &str = "application/json";

/// The Lease as it was seen.
#[derive(Debug)]
pub(crate) struct Lease {
    /// `None` where no rotation is under way.
    pub(crate) holder: Option<String>,
    pub(crate) state: Option<String>,
    pub(crate) renewed: Option<Timestamp>,
    resource_version: String,
}

impl ApiServer {
    /// The Lease, if there has ever been one.
    pub(crate) async fn lease(&self) -> Result<Option<Lease>, Error> {
        let found: Result<Object, _> = self.json(&format!("{LEASES}/{NAME}")).await;
        match found {
            Ok(found) => Ok(Some(Lease::from(found))),
            Err(error) if error.code() == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes it. 409 where somebody was quicker.
    pub(crate) async fn create_lease(&self, holder: &str, state: &str) -> Result<Lease, Error> {
        let mut lease = json!(Object {
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.into()),
                renew_time: Some(MicroTime(Timestamp::now())),
                ..LeaseSpec::default()
            }),
            ..Object::default()
        });
        lease["metadata"] = json!({"name": NAME, "annotations": {STATE: state}});
        let request = Request::post(LEASES).header(header::CONTENT_TYPE, JSON);
        self.sent(request, lease.to_string()).await
    }

    /// Gives it to a holder, or to nobody. 409 where it is not what was seen any more.
    pub(crate) async fn change_lease(
        &self,
        seen: &Lease,
        holder: Option<&str>,
        state: &str,
    ) -> Result<Lease, Error> {
        let patch = json!({
            "metadata": {
                "resourceVersion": seen.resource_version,
                "annotations": {STATE: state},
            },
            "spec": {"holderIdentity": holder, "renewTime": MicroTime(Timestamp::now())},
        });
        let request = Request::patch(format!("{LEASES}/{NAME}"))
            .header(header::CONTENT_TYPE, "application/merge-patch+json");
        self.sent(request, patch.to_string()).await
    }

    async fn sent(&self, request: http::request::Builder, body: String) -> Result<Lease, Error> {
        let answer = self.send(request, JSON, body.into_bytes()).await?;
        let lease: Object = serde_json::from_slice(&answer).map_err(|_| Error::Garbled("Lease"))?;
        Ok(Lease::from(lease))
    }
}

impl From<Object> for Lease {
    fn from(object: Object) -> Self {
        let spec = object.spec.unwrap_or_default();
        let annotations = object.metadata.annotations.unwrap_or_default();
        Self {
            holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
            state: annotations.get(STATE).cloned(),
            renewed: spec.renew_time.map(|MicroTime(time)| time),
            resource_version: object.metadata.resource_version.unwrap_or_default(),
        }
    }
}
