//! Objects of our own: created, found by a label, deleted. What is answered is metadata, as everywhere.

use http::{Request, header};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::api_server::{ApiServer, Error};
use super::resource::ApiResource;

const OBJECT: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

impl ApiServer {
    /// Creates an object from its JSON.
    pub(crate) async fn create(
        &self,
        resource: &ApiResource,
        namespace: &str,
        object: String,
    ) -> Result<(), Error> {
        let request = Request::post(resource.path_of_all(namespace))
            .header(header::CONTENT_TYPE, "application/json");
        let answer = self.send(request, OBJECT, object.into_bytes()).await;
        answer.map(|_| ())
    }

    /// Asks whether an object would be created; it is not.
    pub(crate) async fn would_create(
        &self,
        resource: &ApiResource,
        namespace: &str,
        object: String,
    ) -> Result<(), Error> {
        let path = format!("{}?dryRun=All", resource.path_of_all(namespace));
        let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
        let answer = self.send(request, OBJECT, object.into_bytes()).await;
        answer.map(|_| ())
    }

    /// How many objects of a namespace have a label, by a list that reads all of the namespace's.
    pub(crate) async fn list_labelled(
        &self,
        resource: &ApiResource,
        namespace: &str,
        (label, value): (&str, &str),
    ) -> Result<usize, Error> {
        #[derive(Deserialize)]
        struct List {
            /// null where there are none.
            items: Option<Vec<IgnoredAny>>,
        }

        let path = format!(
            "{}?labelSelector={label}%3D{value}",
            resource.path_of_all(namespace)
        );
        let answer = self.send(Request::get(path), LIST, Vec::new()).await?;
        let list: List = serde_json::from_slice(&answer)
            .map_err(|_| Error::Garbled("PartialObjectMetadataList"))?;
        Ok(list.items.map_or(0, |items| items.len()))
    }

    /// Deletes an object.
    pub(crate) async fn delete(
        &self,
        resource: &ApiResource,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<(), Error> {
        let request = Request::delete(resource.path(namespace, name));
        let answer = self.send(request, OBJECT, Vec::new()).await;
        answer.map(|_| ())
    }
}
