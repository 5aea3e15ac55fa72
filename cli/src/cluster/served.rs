//! All that a cluster serves, by aggregated discovery (KEP-3352): two requests.

use atrest_core::encryption_config::Served;
use http::Request;
use serde::Deserialize;

use super::api_server::{ApiServer, Error};

/// v2 since 1.30, v2beta1 of the same form since 1.27.
const ACCEPT: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                      application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

/// Every resource of every group and version, once; without subresources.
pub(crate) async fn served(server: &ApiServer) -> Result<Vec<Served>, Error> {
    let mut all = Vec::new();
    for path in ["/api", "/apis"] {
        let answer = server.send(Request::get(path), ACCEPT, Vec::new()).await?;
        all.extend(resources(&answer)?);
    }
    all.sort_by(|a, b| (&a.group, &a.plural).cmp(&(&b.group, &b.plural)));
    all.dedup_by(|a, b| (&a.group, &a.plural) == (&b.group, &b.plural));
    Ok(all)
}

fn resources(answer: &[u8]) -> Result<Vec<Served>, Error> {
    #[derive(Deserialize)]
    struct Groups {
        items: Vec<Group>,
    }
    #[derive(Deserialize)]
    struct Group {
        #[serde(default)]
        metadata: Metadata,
        #[serde(default)]
        versions: Vec<Version>,
    }
    // The core group has no name.
    #[derive(Default, Deserialize)]
    struct Metadata {
        #[serde(default)]
        name: String,
    }
    #[derive(Deserialize)]
    struct Version {
        #[serde(default)]
        resources: Vec<Resource>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Resource {
        resource: String,
        #[serde(default)]
        singular_resource: String,
        #[serde(default)]
        response_kind: Option<Kind>,
    }
    #[derive(Deserialize)]
    struct Kind {
        #[serde(default)]
        kind: String,
    }

    let groups: Groups =
        serde_json::from_slice(answer).map_err(|_| Error::Garbled("APIGroupDiscoveryList"))?;
    let of = |group: Group| {
        let name = group.metadata.name;
        let resources = group
            .versions
            .into_iter()
            .flat_map(|version| version.resources);
        resources.map(move |it| Served {
            group: name.clone(),
            plural: it.resource,
            singular: it.singular_resource,
            kind: it.response_kind.map(|kind| kind.kind).unwrap_or_default(),
        })
    };
    Ok(groups.items.into_iter().flat_map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_core_group_has_no_name() {
        let answer = br#"{"kind":"APIGroupDiscoveryList","items":[{"metadata":{},"versions":[{"version":"v1",
            "resources":[{"resource":"secrets","responseKind":{"group":"","version":"","kind":"Secret"},
            "scope":"Namespaced","singularResource":"secret","verbs":["list"],
            "subresources":[{"subresource":"status"}]}]}]}]}"#;
        let secret = Served {
            group: String::new(),
            plural: "secrets".into(),
            singular: "secret".into(),
            kind: "Secret".into(),
        };
        assert_eq!(resources(answer).unwrap(), [secret]);
        assert!(resources(br#"{"kind":"APIGroupList","groups":[]}"#).is_err());
    }
}
