//! Where a resource is served.

use atrest_core::at_rest::{GroupResource, ObjectKey};
use serde::Deserialize;

use super::api_server::{ApiServer, Error};

/// A resource's place in the API.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ApiResource {
    /// `/api/v1` or `/apis/<group>/<version>`.
    base: String,
    plural: String,
    namespaced: bool,
}

impl ApiResource {
    #[cfg(test)]
    pub(super) fn of(base: &str, plural: &str) -> Self {
        Self {
            base: base.into(),
            plural: plural.into(),
            namespaced: true,
        }
    }

    /// The list of all objects, of all namespaces.
    pub(super) fn list_path(&self) -> String {
        format!("{}/{}", self.base, self.plural)
    }

    pub(super) fn plural(&self) -> &str {
        &self.plural
    }

    pub(super) fn version(&self) -> &str {
        self.base.rsplit('/').next().unwrap_or_default()
    }

    /// Empty for what was there before there were groups.
    pub(super) fn group(&self) -> &str {
        let group = self.base.strip_prefix("/apis/");
        group
            .and_then(|group| group.split('/').next())
            .unwrap_or_default()
    }

    /// All objects of a namespace.
    pub(super) fn path_of_all(&self, namespace: &str) -> String {
        format!("{}/namespaces/{namespace}/{}", self.base, self.plural)
    }

    /// One object.
    pub(super) fn path(&self, namespace: Option<&str>, name: &str) -> String {
        let Self { base, plural, .. } = self;
        match namespace {
            Some(namespace) if self.namespaced => {
                format!("{base}/namespaces/{namespace}/{plural}/{name}")
            }
            _ => format!("{base}/{plural}/{name}"),
        }
    }

    /// The object of a storage key, which an API server named.
    pub(crate) fn object_key(&self, storage_key: &str) -> Option<ObjectKey> {
        let mut slashes = storage_key.rmatch_indices('/').map(|(at, _)| at);
        let at = slashes.nth(usize::from(self.namespaced))?;
        ObjectKey::parse(&storage_key.as_bytes()[at + 1..])
    }
}

/// Asks discovery for a resource in its group's preferred version; `None` where it is not served.
pub(crate) async fn find(
    server: &ApiServer,
    resource: &GroupResource,
) -> Result<Option<ApiResource>, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Group {
        preferred_version: Version,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Version {
        group_version: String,
    }
    #[derive(Deserialize)]
    struct Resources {
        resources: Vec<Resource>,
    }
    #[derive(Deserialize)]
    struct Resource {
        name: String,
        namespaced: bool,
    }

    let base = if resource.group.is_empty() {
        "/api/v1".to_owned()
    } else {
        match server
            .json::<Group>(&format!("/apis/{}", resource.group))
            .await
        {
            Ok(group) => format!("/apis/{}", group.preferred_version.group_version),
            Err(error) if error.code() == Some(404) => return Ok(None),
            Err(error) => return Err(error),
        }
    };
    let served: Resources = server.json(&base).await?;
    Ok(served
        .resources
        .into_iter()
        .find(|candidate| candidate.name == resource.resource)
        .map(|found| ApiResource {
            base,
            plural: found.name,
            namespaced: found.namespaced,
        }))
}
