//! Admission webhooks that an update of some resource goes through.

use serde::{Deserialize, Serialize};

use super::api_server::{ApiServer, Error};
use super::resource::ApiResource;

/// Where webhooks are registered.
const CONFIGURATIONS: [&str; 2] = [
    "mutatingwebhookconfigurations",
    "validatingwebhookconfigurations",
];

/// A webhook that may be asked about updates.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(crate) struct Webhook {
    /// The object that registers it, such as `validatingwebhookconfigurations/policy`.
    pub(crate) configuration: String,
    pub(crate) name: String,
    /// `Fail` or `Ignore`.
    pub(crate) failure_policy: String,
    /// By namespaces, labels or conditions: not every object goes through it.
    pub(crate) is_narrowed: bool,
    /// The Service `namespace/name`; null where it is a URL.
    pub(crate) service: Option<String>,
    /// Whether the Service has an endpoint that is ready; null where that could not be told.
    pub(crate) is_reachable: Option<bool>,
}

impl Webhook {
    /// What it covers fails.
    pub(crate) fn is_dead(&self) -> bool {
        self.failure_policy == "Fail" && self.is_reachable == Some(false)
    }
}

#[derive(Deserialize)]
struct List<T> {
    items: Vec<T>,
}

#[derive(Deserialize)]
struct Configuration {
    metadata: Metadata,
    #[serde(default)]
    webhooks: Vec<Registered>,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Registered {
    name: String,
    client_config: ClientConfig,
    #[serde(default)]
    rules: Vec<Rule>,
    failure_policy: Option<String>,
    namespace_selector: Option<Selector>,
    object_selector: Option<Selector>,
    #[serde(default)]
    match_conditions: Vec<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct ClientConfig {
    service: Option<Service>,
}

#[derive(Deserialize)]
struct Service {
    namespace: String,
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Selector {
    #[serde(default)]
    match_labels: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    match_expressions: Vec<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default)]
    operations: Vec<String>,
    #[serde(default)]
    api_groups: Vec<String>,
    #[serde(default)]
    resources: Vec<String>,
}

#[derive(Deserialize)]
struct Slice {
    endpoints: Option<Vec<Endpoint>>,
}

#[derive(Deserialize)]
struct Endpoint {
    conditions: Option<Conditions>,
}

#[derive(Deserialize)]
struct Conditions {
    /// Unknown is to be read as ready.
    ready: Option<bool>,
}

impl Registered {
    /// Other versions of a group than the one that is asked for match, too: the API server converts.
    fn takes_updates_of(&self, resource: &ApiResource) -> bool {
        let has = |list: &[String], name: &str| list.iter().any(|it| it == "*" || it == name);
        self.rules.iter().any(|rule| {
            has(&rule.operations, "UPDATE")
                && has(&rule.api_groups, resource.group())
                && (has(&rule.resources, resource.plural()) || has(&rule.resources, "*/*"))
        })
    }

    fn is_narrowed(&self) -> bool {
        let selectors = [&self.namespace_selector, &self.object_selector];
        let mut selectors = selectors.into_iter().flatten();
        !self.match_conditions.is_empty()
            || selectors.any(|it| !it.match_labels.is_empty() || !it.match_expressions.is_empty())
    }
}

/// Those that an update of any of the resources may go through.
pub(crate) async fn webhooks_on_update(
    server: &ApiServer,
    resources: &[ApiResource],
) -> Result<Vec<Webhook>, Error> {
    let mut found = Vec::new();
    for kind in CONFIGURATIONS {
        let path = format!("/apis/admissionregistration.k8s.io/v1/{kind}");
        let configurations: List<Configuration> = server.json(&path).await?;
        for configuration in configurations.items {
            for webhook in &configuration.webhooks {
                if !resources.iter().any(|it| webhook.takes_updates_of(it)) {
                    continue;
                }
                let service = &webhook.client_config.service;
                found.push(Webhook {
                    configuration: format!("{kind}/{}", configuration.metadata.name),
                    name: webhook.name.clone(),
                    failure_policy: webhook
                        .failure_policy
                        .clone()
                        .unwrap_or_else(|| "Fail".into()),
                    is_narrowed: webhook.is_narrowed(),
                    service: service
                        .as_ref()
                        .map(|it| format!("{}/{}", it.namespace, it.name)),
                    is_reachable: match service {
                        Some(service) => has_endpoint(server, service).await,
                        None => None,
                    },
                });
            }
        }
    }
    Ok(found)
}

/// `None` where nobody says.
async fn has_endpoint(server: &ApiServer, service: &Service) -> Option<bool> {
    let Service { namespace, name } = service;
    let path = format!(
        "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices\
         ?labelSelector=kubernetes.io%2Fservice-name%3D{name}"
    );
    let slices: List<Slice> = server.json(&path).await.ok()?;
    let endpoints = slices.items.into_iter().flat_map(|it| it.endpoints);
    let is_ready = |it: Endpoint| it.conditions.and_then(|it| it.ready) != Some(false);
    Some(endpoints.flatten().any(is_ready))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registered(rules: &str, more: &str) -> Registered {
        let json = format!(r#"{{"name":"w","clientConfig":{{}},"rules":[{rules}]{more}}}"#);
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn rules_with_stars_match_and_those_of_others_do_not() {
        let secrets = ApiResource::of("/api/v1", "secrets");
        let rule = |operations: &str, groups: &str, resources: &str| {
            format!(
                r#"{{"operations":[{operations}],"apiGroups":[{groups}],"apiVersions":["v1"],"resources":[{resources}]}}"#
            )
        };
        for (operations, groups, resources, matches) in [
            (r#""UPDATE""#, r#""""#, r#""secrets""#, true),
            (
                r#""CREATE","UPDATE""#,
                r#""apps","""#,
                r#""pods","secrets""#,
                true,
            ),
            (r#""*""#, r#""*""#, r#""*""#, true),
            (r#""*""#, r#""*""#, r#""*/*""#, true),
            (r#""CREATE""#, r#""""#, r#""secrets""#, false),
            (r#""UPDATE""#, r#""apps""#, r#""secrets""#, false),
            (r#""UPDATE""#, r#""""#, r#""secrets/status""#, false),
        ] {
            let rules = rule(operations, groups, resources);
            let registered = registered(&rules, "");
            assert_eq!(registered.takes_updates_of(&secrets), matches, "{rules}");
        }
    }

    #[test]
    fn empty_selectors_select_everything() {
        let narrowed = |more: &str| registered("", more).is_narrowed();
        assert!(!narrowed(
            r#","namespaceSelector":{},"objectSelector":{"matchLabels":{}}"#
        ));
        assert!(narrowed(r#","objectSelector":{"matchLabels":{"a":"b"}}"#));
        assert!(narrowed(
            r#","matchConditions":[{"name":"a","expression":"true"}]"#
        ));
    }
}
