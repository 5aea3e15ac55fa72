//! All that a cluster serves, by aggregated discovery (KEP-3352): two requests.

use std::collections::BTreeSet;

use atrest_core::at_rest::GroupResource;
use atrest_core::encryption_config::Served;
use http::Request;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::api_server::{ApiServer, Error};

/// v2 since 1.30, v2beta1 of the same form since 1.27.
const ACCEPT: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                      application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

/// Every resource of every group and version, once; without subresources.
pub(crate) async fn served(server: &ApiServer) -> Result<Vec<Served>, Error> {
    let mut all: Vec<_> = discover(server).await?.into_iter().map(|it| it.0).collect();
    all.sort_by(|a, b| (&a.group, &a.plural).cmp(&(&b.group, &b.plural)));
    all.dedup_by(|a, b| (&a.group, &a.plural) == (&b.group, &b.plural));
    Ok(all)
}

/// Every resource whose objects can be listed and read, and that no other API server serves.
pub(crate) async fn stored(server: &ApiServer) -> Result<Vec<GroupResource>, Error> {
    #[derive(Deserialize)]
    struct ApiServices {
        items: Vec<ApiService>,
    }
    #[derive(Deserialize)]
    struct ApiService {
        spec: Spec,
    }
    #[derive(Deserialize)]
    struct Spec {
        #[serde(default)]
        group: String,
        service: Option<IgnoredAny>,
    }

    let services: ApiServices = server
        .json("/apis/apiregistration.k8s.io/v1/apiservices")
        .await?;
    let services = services.items.into_iter();
    let aggregated = services.filter(|it| it.spec.service.is_some());
    let aggregated: BTreeSet<_> = aggregated.map(|it| it.spec.group).collect();
    let served = discover(server).await?.into_iter();
    let stored = served.filter(|(served, verbs)| {
        let has = |verb: &str| verbs.iter().any(|it| it == verb);
        // Made up when it is asked for.
        let is_virtual = served.group.is_empty() && served.plural == "componentstatuses";
        has("get") && has("list") && !is_virtual && !aggregated.contains(&served.group)
    });
    let stored = stored.map(|(served, _)| GroupResource {
        group: served.group,
        resource: served.plural,
    });
    Ok(stored.collect::<BTreeSet<_>>().into_iter().collect())
}

async fn discover(server: &ApiServer) -> Result<Vec<(Served, Vec<String>)>, Error> {
    let mut all = Vec::new();
    for path in ["/api", "/apis"] {
        let answer = server.send(Request::get(path), ACCEPT, Vec::new()).await?;
        all.extend(resources(&answer)?);
    }
    Ok(all)
}

/// Each resource and its verbs.
fn resources(answer: &[u8]) -> Result<Vec<(Served, Vec<String>)>, Error> {
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
        #[serde(default)]
        verbs: Vec<String>,
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
        resources.map(move |it| {
            let served = Served {
                group: name.clone(),
                plural: it.resource,
                singular: it.singular_resource,
                kind: it.response_kind.map(|kind| kind.kind).unwrap_or_default(),
            };
            (served, it.verbs)
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
        let expected = [(secret, vec!["list".to_owned()])];
        assert_eq!(resources(answer).unwrap(), expected);
        assert!(resources(br#"{"kind":"APIGroupList","groups":[]}"#).is_err());
    }
}
