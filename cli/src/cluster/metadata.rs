//! Metadata of objects and nothing else (promise I3): lists and patches ask for
//! `PartialObjectMetadata`, and annotations, where `kubectl apply` keeps a copy of the data, are
//! skipped while the answer is decoded.

use std::borrow::Cow;
use std::fmt;

use http::{Request, header};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::api_server::{ApiServer, Error};
use super::resource::ApiResource;

const LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
const OBJECT: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// Objects of a page of a list.
const PAGE: usize = 500;

/// Where `kubectl apply` keeps what was applied, `data` included.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// One object, as far as a rewrite needs to know it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Object {
    /// `None` for an object of the whole cluster.
    #[serde(default)]
    pub(crate) namespace: Option<String>,
    /// The object's name.
    pub(crate) name: String,
    /// Tells the object from a later one of the same name.
    pub(crate) uid: String,
    /// Moves when, and only when, the object is written.
    pub(crate) resource_version: String,
    /// Whether an annotation holds a copy of the data.
    #[serde(default, rename = "annotations")]
    pub(crate) applied: Applied,
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        f.write_str(&self.name)
    }
}

/// Whether `kubectl apply` left its annotation. The annotations' values are never decoded.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Applied(pub(crate) bool);

impl<'de> Deserialize<'de> for Applied {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Applied;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("annotations")
            }

            fn visit_unit<E>(self) -> Result<Applied, E> {
                Ok(Applied(false))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Applied, A::Error> {
                let mut applied = false;
                while let Some((key, IgnoredAny)) = map.next_entry::<Cow<'de, str>, _>()? {
                    applied |= key == LAST_APPLIED;
                }
                Ok(Applied(applied))
            }
        }
        deserializer.deserialize_any(Keys)
    }
}

#[derive(Deserialize)]
struct Item {
    metadata: Object,
}

/// A page of a list.
#[derive(Debug)]
pub(crate) struct Page {
    /// The objects.
    pub(crate) objects: Vec<Object>,
    /// Objects behind this page, where the server says so.
    pub(crate) remaining: u64,
    /// Where to go on; `None` at the end.
    pub(crate) next: Option<String>,
}

impl ApiServer {
    /// A page of a list of metadata.
    pub(crate) async fn list(
        &self,
        resource: &ApiResource,
        token: Option<&str>,
    ) -> Result<Page, Error> {
        #[derive(Deserialize)]
        struct List {
            metadata: ListMeta,
            items: Vec<Item>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct ListMeta {
            #[serde(default)]
            r#continue: String,
            #[serde(default)]
            remaining_item_count: u64,
        }

        let mut path = format!("{}?limit={PAGE}", resource.list_path());
        if let Some(token) = token {
            path += &format!("&continue={}", query_value(token));
        }
        let body = self.send(Request::get(path), LIST, Vec::new()).await?;
        let list: List = serde_json::from_slice(&body)
            .map_err(|_| Error::Garbled("PartialObjectMetadataList"))?;
        Ok(Page {
            objects: list.items.into_iter().map(|item| item.metadata).collect(),
            remaining: list.metadata.remaining_item_count,
            next: Some(list.metadata.r#continue).filter(|token| !token.is_empty()),
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
    /// again with the current key, and the resourceVersion moves. It names uid and
    /// resourceVersion, so that it can neither create an object nor undo somebody's write.
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
            uid: &'a str,
            resource_version: &'a str,
        }

        let patch = serde_json::to_vec(&Patch {
            metadata: Metadata {
                uid: &object_.uid,
                resource_version: &object_.resource_version,
            },
        })
        .map_err(|_| Error::Garbled("patch"))?;
        let path = resource.path(object_.namespace.as_deref(), &object_.name);
        let request =
            Request::patch(path).header(header::CONTENT_TYPE, "application/merge-patch+json");
        object(&self.send(request, OBJECT, patch).await?)
    }
}

fn object(body: &[u8]) -> Result<Object, Error> {
    serde_json::from_slice::<Item>(body)
        .map(|item| item.metadata)
        .map_err(|_| Error::Garbled("PartialObjectMetadata"))
}

/// Tokens are base64: of their alphabet, three characters mean something else in a query.
fn query_value(token: &str) -> String {
    token
        .replace('+', "%2B")
        .replace('/', "%2F")
        .replace('=', "%3D")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_are_skipped_and_only_their_presence_is_kept() {
        let body = format!(
            r#"{{"metadata":{{"name":"n","namespace":"a","uid":"u","resourceVersion":"1",
                "annotations":{{"x":"y","{LAST_APPLIED}":"{{\"data\":\"hunter2\"}}"}}}}}}"#
        );
        let object = object(body.as_bytes()).unwrap();
        assert!(object.applied.0);
        assert!(!format!("{object:?}").contains("hunter2"));
        assert_eq!(object.to_string(), "a/n");
    }

    #[test]
    fn no_annotations_is_not_applied() {
        for annotations in ["{}", "null", r#"{"a":"b"}"#] {
            let body = format!(
                r#"{{"metadata":{{"name":"n","uid":"u","resourceVersion":"1","annotations":{annotations}}}}}"#
            );
            assert!(!object(body.as_bytes()).unwrap().applied.0);
        }
    }
}
