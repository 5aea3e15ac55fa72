//! Metadata of objects and nothing else (promise I3): lists and patches ask for
//! `PartialObjectMetadata`, and annotations, where `kubectl apply` keeps a copy of the data, are
//! skipped while the answer is decoded.

use std::fmt;

use atrest_proto::metadata::{ObjectMeta, PartialObjectMetadata, PartialObjectMetadataList};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::{Request, header};
use serde::Serialize;
use serde_json::json;

use super::api_server::{ApiServer, Error};
use super::envelope;
use super::resource::ApiResource;

// Protobuf takes the server a tenth less time than JSON.
const LIST: &str =
    "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
const OBJECT: &str =
    "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

const IGNORE: &str = "?fieldValidation=Ignore";

/// Objects of a page of a list.
pub(crate) const PAGE: u32 = 500;

/// Where `kubectl apply` keeps what was applied, `data` included.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// One object, as far as a rewrite needs to know it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Object {
    /// `None` for an object of the whole cluster.
    pub(crate) namespace: Option<String>,
    /// The object's name.
    pub(crate) name: String,
    /// Moves when, and only when, the object is written; etcd's modification revision.
    pub(crate) resource_version: String,
    /// Whether `kubectl apply` left its annotation, which holds a copy of the data.
    pub(crate) is_applied: bool,
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        f.write_str(&self.name)
    }
}

impl From<ObjectMeta> for Object {
    fn from(metadata: ObjectMeta) -> Self {
        let mut annotations = metadata.annotations.iter();
        Self {
            is_applied: annotations.any(|annotation| annotation.key == LAST_APPLIED),
            namespace: Some(metadata.namespace).filter(|namespace| !namespace.is_empty()),
            name: metadata.name,
            resource_version: metadata.resource_version,
        }
    }
}

/// A page of a list.
#[derive(Debug)]
pub(crate) struct Page {
    /// The objects.
    pub(crate) objects: Vec<Object>,
    /// Objects behind this page, where the server says so.
    pub(crate) remaining: u64,
    /// Whether nothing follows.
    pub(crate) is_last: bool,
}

impl ApiServer {
    /// A page of a list of metadata: the first `limit` objects behind the one that is given.
    pub(crate) async fn list(
        &self,
        resource: &ApiResource,
        behind: Option<&str>,
        limit: u32,
    ) -> Result<Page, Error> {
        let mut path = format!("{}?limit={limit}", resource.list_path());
        if let Some(behind) = behind {
            path += "&continue=";
            path += &token(behind);
        }
        let body = self.send(Request::get(path), LIST, Vec::new()).await?;
        let list: PartialObjectMetadataList =
            envelope::message(&body).ok_or(Error::Garbled("PartialObjectMetadataList"))?;
        let about = list.metadata.unwrap_or_default();
        let metadata = list.items.into_iter().filter_map(|item| item.metadata);
        Ok(Page {
            objects: metadata.map(Object::from).collect(),
            remaining: about.remaining_item_count.try_into().unwrap_or_default(),
            is_last: about.next.is_empty(),
        })
    }

    /// The metadata of one object.
    pub(crate) async fn metadata(
        &self,
        resource: &ApiResource,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Object, Error> {
        let path = resource.path(namespace, name);
        object(&self.send(Request::get(path), OBJECT, Vec::new()).await?)
    }

    /// A merge patch that changes nothing. Where the stored value is stale, the server writes it
    /// again with the current key, and the resourceVersion moves. A merge patch cannot create an
    /// object, and as it names the resourceVersion it touches neither a later write nor a later
    /// object of the same name.
    pub(crate) async fn touch(
        &self,
        resource: &ApiResource,
        object_: &Object,
    ) -> Result<Object, Error> {
        #[derive(Serialize)]
        struct Patch<'a> {
            metadata: Metadata<'a>,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Metadata<'a> {
            resource_version: &'a str,
        }

        let patch = serde_json::to_vec(&Patch {
            metadata: Metadata {
                resource_version: &object_.resource_version,
            },
        })
        .map_err(|_| Error::Garbled("patch"))?;
        // There is nothing in it to be validated, and strict decoding takes the server time.
        let path = resource.path(object_.namespace.as_deref(), &object_.name) + IGNORE;
        let request =
            Request::patch(path).header(header::CONTENT_TYPE, "application/merge-patch+json");
        object(&self.send(request, OBJECT, patch).await?)
    }
}

fn object(body: &[u8]) -> Result<Object, Error> {
    envelope::message::<PartialObjectMetadata>(body)
        .and_then(|object| object.metadata)
        .map(Object::from)
        .ok_or(Error::Garbled("PartialObjectMetadata"))
}

/// A token for what follows an object now, whatever else was listed before: such a list needs no
/// snapshot that could be compacted away, and it can begin anywhere. A public struct that cannot
/// change (`k8s.io/apiserver` `pkg/storage/continue.go`).
fn token(behind: &str) -> String {
    let start = format!("{behind}\0");
    let token = json!({"v": "meta.k8s.io/v1", "rv": -1, "start": start});
    BASE64_URL_SAFE_NO_PAD.encode(token.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use atrest_proto::objects;
    use prost::Message;

    use super::*;

    fn answered(annotations: &[(&str, &str)]) -> Object {
        let annotations = annotations.iter();
        let metadata = objects::ObjectMeta {
            name: "n".into(),
            namespace: "a".into(),
            uid: "u".into(),
            resource_version: "1".into(),
            annotations: annotations
                .map(|(k, v)| ((*k).into(), (*v).into()))
                .collect(),
            ..objects::ObjectMeta::default()
        };
        let raw = objects::Object {
            metadata: Some(metadata),
        };
        object(&envelope::tests::enveloped(raw.encode_to_vec())).unwrap()
    }

    #[test]
    fn annotations_are_skipped_and_only_their_presence_is_kept() {
        let object = answered(&[("x", "y"), (LAST_APPLIED, "{\"data\":\"hunter2\"}")]);
        assert!(object.is_applied);
        assert!(!format!("{object:?}").contains("hunter2"));
        assert_eq!(object.to_string(), "a/n");
    }

    #[test]
    fn no_annotations_is_not_applied() {
        assert!(!answered(&[]).is_applied);
        assert!(!answered(&[("a", LAST_APPLIED)]).is_applied);
    }

    #[test]
    fn a_token_is_that_of_upstream() {
        let decoded = BASE64_URL_SAFE_NO_PAD.decode(token("a/n")).unwrap();
        let token: serde_json::Value = serde_json::from_slice(&decoded).unwrap();
        assert_eq!(
            token,
            json!({"v": "meta.k8s.io/v1", "rv": -1, "start": "a/n\u{0}"})
        );
    }
}
