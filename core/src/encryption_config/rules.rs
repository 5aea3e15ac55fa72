//! The rules of validation, in kube-apiserver's order and with its paths
//! (`k8s.io/apiserver/pkg/apis/apiserver/validation/validation_encryption.go`), and those that its
//! loader adds (`pkg/server/options/encryptionconfig/config.go`).

use std::collections::{HashMap, HashSet};

use super::decode::{At, Draft, Element, Entry, List, NamedKey, Plugin};
use super::dialect;
use super::finding::{Place, Report, fault, quote};
use super::go;
use super::ids;
use super::judge::Server;
use super::tree::Text;

/// A resource and its API group; the core group is empty.
pub(super) type GroupResource<'a> = (&'a str, &'a str);

pub(super) const EVERYTHING: GroupResource<'static> = ("*", "*");

/// Splits at the first dot.
pub(super) fn group_resource(resource: &str) -> GroupResource<'_> {
    let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
    (group, resource)
}

/// Rules 2 to 29.
pub(super) fn validate(draft: &Draft, server: &Server) -> Report {
    let mut rules = Rules {
        report: Report::default(),
        kms_names: HashSet::new(),
        automatic_reload: server.automatic_reload,
    };
    if draft.entries.is_empty() {
        rules.report.push(
            fault(
                ids::NO_ENTRIES,
                "resources",
                draft.place,
                "at least one entry is required",
                "add an entry with `resources` and `providers`, or make one with `atrest generate`",
            )
            .detail("at least one resources is required"),
        );
    }
    for (i, entry) in draft.entries.iter().enumerate() {
        rules.entry(entry, &format!("resources[{i}]"));
    }
    rules.report
}

struct Rules<'a> {
    report: Report,
    kms_names: HashSet<&'a str>,
    automatic_reload: bool,
}

impl<'a> Rules<'a> {
    fn entry(&mut self, entry: &'a Entry, path: &str) {
        let resources = format!("{path}.resources");
        if entry.resources.is_empty() {
            self.report.push(
                fault(
                    ids::NO_RESOURCES,
                    resources.as_str(),
                    entry.place,
                    "at least one resource is required",
                    "name what is to be encrypted, `secrets` for one",
                )
                .detail(format_args!("at least one {resources} is required")),
            );
        }
        self.overlap(&entry.resources, &resources);
        for (j, resource) in entry.resources.iter().enumerate() {
            self.resource(resource, &format!("{resources}[{j}]"));
        }
        if entry.providers.is_empty() {
            let path = format!("{path}.providers");
            let detail = format!("at least one {path} is required");
            self.report.push(
                fault(
                    ids::NO_PROVIDERS,
                    path,
                    entry.place,
                    "at least one provider is required",
                    "add a provider; the first one writes, all of them read",
                )
                .detail(detail),
            );
        }
        for (j, element) in entry.providers.iter().enumerate() {
            self.element(element, &format!("{path}.providers[{j}]"));
        }
    }

    /// Rules 5 and 6. The server compares all pairs and stops at the first that is equal; what
    /// follows is the same without the square of the length.
    fn overlap(&mut self, resources: &[At<Text>], path: &str) {
        let mut count: HashMap<&str, usize> = HashMap::new();
        let mut seen = HashSet::new();
        let mut twice = None;
        for resource in resources {
            let pair = group_resource(resource.value.expose());
            *count.entry(pair.0).or_default() += 1;
            if !seen.insert(pair) {
                twice = twice.or(Some(resource));
            }
        }
        let list = || {
            let names = resources
                .iter()
                .map(|it| go::json(go::shown(it.value.expose())));
            format!("[{}]", names.collect::<Vec<_>>().join(","))
        };
        if let Some(resource) = twice {
            self.report.push(
                fault(
                    ids::RESOURCE_TWICE,
                    path,
                    resource.place,
                    format!("{} is in this list twice", quote(resource.value.expose())),
                    "take one of the two out",
                )
                .of(
                    list(),
                    "the same resource cannot be specified multiple times",
                ),
            );
        }
        let masks = |resource: &&At<Text>| match group_resource(resource.value.expose()) {
            EVERYTHING => resources.len() > 1,
            (group, "*") => count.get(group).is_some_and(|count| *count > 1),
            _ => false,
        };
        if let Some(wildcard) = resources.iter().find(masks) {
            self.report.push(fault(
                ids::OVERLAP,
                path,
                wildcard.place,
                format!(
                    "{} overlaps with another resource of this list",
                    quote(wildcard.value.expose())
                ),
                "give the wildcard an entry of its own, after the entries of what it includes",
            )
            .of(
                list(),
                "using overlapping resources such as 'secrets' and '*.' in the same resource list is \
                 not allowed as they will be masked",
            ));
        }
    }

    /// Rules 7 to 12; the first that holds is reported.
    fn resource(&mut self, resource: &At<Text>, path: &str) {
        let name = resource.value.expose();
        let quoted = quote(name);
        let changes = |scalar: char| scalar.to_lowercase().ne(std::iter::once(scalar));
        let (id, message, fix, detail) = if name.chars().any(changes) {
            (
                ids::CAPITALS,
                format!("{quoted} has capital letters"),
                "write the resource's plural name in lower case, as `kubectl api-resources` has it",
                "resource name should not contain capital letters",
            )
        } else if name == "*" {
            (
                ids::STAR,
                format!("{quoted} is no wildcard of this file"),
                "write '*.' for all of the core group or '*.*' for all resources",
                "use '*.' to encrypt all the resources from core API group or *.* to encrypt all \
                 resources",
            )
        } else if matches!(
            name,
            "apiserveripinfo" | "serviceipallocations" | "servicenodeportallocations"
        ) {
            (
                ids::NO_REST_API,
                format!("{quoted} has no REST API and cannot be encrypted"),
                "take it out",
                "resources which do not have REST API/s cannot be encrypted",
            )
        } else {
            match group_resource(name) {
                ("events.k8s.io", _) => (
                    ids::EVENTS_GROUP,
                    format!("{quoted}: events are stored under the core group"),
                    "write `events`",
                    "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use \
                     'events' instead in the config file",
                ),
                ("extensions", _) => (
                    ids::EXTENSIONS_GROUP,
                    format!("{quoted}: the group extensions is gone"),
                    "write the group that the resource is in today, or take it out",
                    "'extensions' group has been removed and cannot be used for encryption",
                ),
                ("*", resource) if resource != "*" => (
                    ids::ACROSS_GROUPS,
                    format!("{quoted}: one resource of all groups cannot be chosen"),
                    "name each group, as in `jobs.batch`",
                    "encrypting the same resource across groups is not supported",
                ),
                _ => return,
            }
        };
        let value = go::quoted(go::shown(name));
        self.report
            .push(fault(id, path, resource.place, message, fix).of(value, detail));
    }

    fn element(&mut self, element: &'a Element, path: &str) {
        let set = [
            element.kms.is_some(),
            element.aesgcm.is_some(),
            element.aescbc.is_some(),
            element.secretbox.is_some(),
            element.identity,
        ];
        match set.iter().filter(|set| **set).count() {
            0 => self.report.push(fault(
                ids::NO_PROVIDER,
                path,
                element.place,
                "this element names no provider",
                "write one of aescbc, aesgcm, identity (as `identity: {}`), kms, secretbox",
            )
            .of(
                go::element(element),
                "provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, \
                 Secretbox, Identity",
            )),
            1 => {}
            _ => self.report.push(fault(
                ids::TWO_PROVIDERS,
                path,
                element.place,
                "this element has more than one provider",
                "begin each provider with `- `, as an element of its own",
            )
            .of(
                go::element(element),
                "more than one provider specified in a single element, should split into different \
                 list elements",
            )),
        }
        // Of several, the server looks into the first of this order only.
        if let Some(plugin) = &element.kms {
            self.plugin(plugin, &format!("{path}.kms"));
            self.kms_names.insert(plugin.name.value.expose());
        } else if let Some(keys) = &element.aesgcm {
            self.keys(keys, &format!("{path}.aesgcm.keys"), &[16, 24, 32]);
        } else if let Some(keys) = &element.aescbc {
            self.keys(keys, &format!("{path}.aescbc.keys"), &[16, 24, 32]);
        } else if let Some(keys) = &element.secretbox {
            self.keys(keys, &format!("{path}.secretbox.keys"), &[32]);
        }
    }

    fn keys(&mut self, keys: &At<List<NamedKey>>, path: &str, lengths: &[usize]) {
        if keys.value.is_empty() {
            self.report.push(
                fault(
                    ids::NO_KEYS,
                    path,
                    keys.place,
                    "at least one key is required",
                    "add a key with `name` and `secret`, or make the file with `atrest generate`",
                )
                .detail("at least one keys is required"),
            );
        }
        for (k, key) in keys.value.iter().enumerate() {
            self.key(key, &format!("{path}[{k}]"), lengths);
        }
    }

    fn key(&mut self, key: &NamedKey, path: &str, lengths: &[usize]) {
        if key.name.value.expose().is_empty() {
            self.report.push(
                fault(
                    ids::NO_KEY_NAME,
                    format!("{path}.name"),
                    key.name.place,
                    "a key must have a name",
                    "name the key; the name stands in front of each value that it encrypts",
                )
                .detail("name is a mandatory field for a key"),
            );
        }
        let path = format!("{path}.secret");
        let place = key.secret.place;
        if key.secret.value.expose().is_empty() {
            self.report.push(
                fault(
                    ids::NO_SECRET,
                    path,
                    place,
                    "a key must have a secret",
                    "write the key's bytes in base64",
                )
                .detail("secret is a mandatory field for a key"),
            );
            return;
        }
        let Some(secret) = dialect::base64(key.secret.value.expose()) else {
            self.report.push(fault(
                ids::NOT_BASE64,
                path,
                place,
                "the secret is not base64",
                "encode the key with padding and without blanks: `head -c 32 /dev/urandom | base64`",
            )
            .of(go::quoted(go::REDACTED), "secrets must be base64 encoded"));
            return;
        };
        if !lengths.contains(&secret.len()) {
            let allowed: Vec<_> = lengths.iter().map(usize::to_string).collect();
            self.report.push(
                fault(
                    ids::KEY_LENGTH,
                    path,
                    place,
                    format!(
                        "the secret has {} bytes where the provider takes {}",
                        secret.len(),
                        allowed.join(", ")
                    ),
                    "use 32 random bytes: `head -c 32 /dev/urandom | base64`",
                )
                .of(
                    go::quoted(go::REDACTED),
                    format_args!(
                        "secret is not of the expected length, got {}, expected one of [{}]",
                        secret.len(),
                        allowed.join(" ")
                    ),
                ),
            );
        }
    }

    /// Rules 20 to 29.
    fn plugin(&mut self, plugin: &Plugin, path: &str) {
        let version = plugin.api_version.value.expose();
        self.plugin_name(plugin, version, &format!("{path}.name"));
        if let Some(timeout) = &plugin.timeout
            && timeout.value <= 0
        {
            self.report.push(
                fault(
                    ids::TIMEOUT,
                    format!("{path}.timeout"),
                    timeout.place,
                    "the timeout must be more than nothing",
                    "write a positive duration, or leave it out for 3s",
                )
                .of(
                    go::quoted(&go::duration(timeout.value)),
                    "timeout should be a positive value",
                ),
            );
        }
        self.endpoint(&plugin.endpoint, &format!("{path}.endpoint"));
        if let Some(cachesize) = &plugin.cachesize {
            let mut report = |id, message: &str, fix: &str, detail: &str| {
                let path = format!("{path}.cachesize");
                let finding = fault(id, path, cachesize.place, message, fix);
                self.report.push(finding.of(cachesize.value, detail));
            };
            if version != "v1" {
                let message = "cachesize belongs to v1 of the plugin API alone";
                let detail = "cachesize is not supported in v2";
                report(ids::CACHESIZE_V2, message, "take it out", detail);
            } else if cachesize.value == 0 {
                let fix = "write a positive size, a negative one for no cache, or leave it out";
                let detail = "cachesize should be a positive value, or negative to disable";
                report(ids::CACHESIZE_ZERO, "cachesize cannot be 0", fix, detail);
            }
        }
        if version != "v1" && version != "v2" {
            self.report.push(fault(
                ids::KMS_VERSION,
                format!("{path}.apiVersion"),
                plugin.api_version.place,
                format!("the plugin API has no version {}", quote(version)),
                "write `v2`",
            )
            .of(
                go::quoted(go::shown(version)),
                // The server prints the field's name where its value belongs.
                "unsupported apiVersion apiVersion for KMS provider, only v1 and v2 are supported",
            ));
        }
    }

    fn plugin_name(&mut self, plugin: &Plugin, version: &str, path: &str) {
        let At { value, place } = &plugin.name;
        let name = value.expose();
        let shown = go::shown(name);
        if name.is_empty() {
            self.report.push(
                fault(
                    ids::NO_KMS_NAME,
                    path,
                    *place,
                    "a plugin must have a name",
                    "name the plugin; the name stands in front of each value that it encrypts",
                )
                .detail("name is a mandatory field for a provider"),
            );
        }
        if version != "v1" && name.contains(':') {
            self.report.push(
                fault(
                    ids::COLON_IN_NAME,
                    path,
                    *place,
                    format!("the plugin's name {} has a colon", quote(name)),
                    "choose a name without a colon",
                )
                .of(
                    go::quoted(shown),
                    format_args!("invalid KMS provider name {shown}, must not contain ':'"),
                ),
            );
        }
        if (self.automatic_reload || version != "v1") && self.kms_names.contains(name) {
            self.report.push(
                fault(
                    ids::KMS_NAME_TWICE,
                    path,
                    *place,
                    format!("an earlier plugin is named {}, too", quote(name)),
                    "give each plugin a name of its own, also across entries",
                )
                .of(
                    go::quoted(shown),
                    format_args!("duplicate KMS provider name {shown}, names must be unique"),
                ),
            );
        }
    }

    fn endpoint(&mut self, endpoint: &At<Text>, path: &str) {
        const FIX: &str = "write `unix:///` and the path of the plugin's socket";

        let url = endpoint.value.expose();
        let unsupported = |scheme: &str| {
            format!("unsupported scheme {scheme:?} for KMS provider, only unix is supported")
        };
        let (id, message, detail) = match dialect::url_scheme(url) {
            _ if url.is_empty() => (
                ids::NO_ENDPOINT,
                "a plugin must have an endpoint".to_owned(),
                "endpoint is a mandatory field for a kms".to_owned(),
            ),
            // The URL itself is not shown: it can hold a password.
            Err(problem) => (
                ids::ENDPOINT_URL,
                format!("the endpoint is not a URL: {}", problem.message),
                format!(
                    "invalid endpoint for kms provider, error: parse {}: {}",
                    go::quoted(go::REDACTED),
                    problem.server
                ),
            ),
            Ok(scheme) if scheme == "unix" => return,
            Ok(scheme) if scheme.is_empty() => (
                ids::ENDPOINT_SCHEME,
                "the endpoint has no scheme".to_owned(),
                unsupported(&scheme),
            ),
            Ok(scheme) if matches!(&*scheme, "file" | "grpc" | "http" | "https" | "tcp") => (
                ids::ENDPOINT_SCHEME,
                format!("a plugin cannot be reached by {scheme}"),
                unsupported(&scheme),
            ),
            Ok(_) => (
                ids::ENDPOINT_SCHEME,
                "the endpoint's scheme is not unix".to_owned(),
                unsupported(go::REDACTED),
            ),
        };
        let value = go::quoted(go::shown_endpoint(url));
        self.report
            .push(fault(id, path, endpoint.place, message, FIX).of(value, detail));
    }
}

/// Rules 30 to 32: what the loader refuses in a valid file.
pub(super) fn load(draft: &Draft, server: &Server) -> Report {
    let mut report = Report::default();
    let mut configured: HashMap<GroupResource<'_>, Place> = HashMap::new();
    for (i, entry) in draft.entries.iter().enumerate() {
        for (j, element) in entry.providers.iter().enumerate() {
            if let Some(plugin) = &element.kms {
                gates(
                    plugin,
                    &format!("resources[{i}].providers[{j}].kms"),
                    server,
                    &mut report,
                );
            }
        }
        for (j, resource) in entry.resources.iter().enumerate() {
            let pair = group_resource(resource.value.expose());
            let masks = [(pair.0, "*"), EVERYTHING];
            let mask = masks
                .iter()
                .find_map(|mask| Some((mask, configured.get(mask)?)));
            if let Some((masked_by @ (group, _), place)) = mask {
                report.push(
                    fault(
                        ids::MASKED,
                        format!("resources[{i}].resources[{j}]"),
                        resource.place,
                        format!(
                            "{} is masked by {} on line {}",
                            quote(resource.value.expose()),
                            quote(&format!("*.{group}")),
                            place.line
                        ),
                        "put the entry of the wildcard after this one",
                    )
                    .said(format!(
                        "resource {} is masked by earlier rule {}",
                        go::quoted(go::shown(&printed(&pair))),
                        go::quoted(go::shown(&printed(masked_by)))
                    )),
                );
            }
            configured.entry(pair).or_insert(resource.place);
        }
    }
    report
}

/// As the loader prints it.
fn printed((group, resource): &GroupResource<'_>) -> String {
    match (*group, *resource) {
        ("", "*") => "*.".to_owned(),
        ("", resource) => resource.to_owned(),
        (group, resource) => format!("{resource}.{group}"),
    }
}

fn gates(plugin: &Plugin, path: &str, server: &Server, report: &mut Report) {
    let place = plugin.api_version.place;
    let path = format!("{path}.apiVersion");
    match plugin.api_version.value.expose() {
        "v1" if !server.kmsv1 => report.push(fault(
            ids::KMS_V1_OFF,
            path,
            place,
            "v1 of the plugin API, the default, is off in this server",
            "write `apiVersion: v2` if the plugin has it, or start the server with \
             --feature-gates=KMSv1=true",
        )
        .said(
            "KMSv1 is deprecated and will only receive security updates going forward. Use KMSv2 \
             instead.  Set --feature-gates=KMSv1=true to use the deprecated KMSv1 feature.",
        )),
        "v2" if !server.kmsv2 => report.push(fault(
            ids::KMS_V2_OFF,
            path,
            place,
            "v2 of the plugin API is off in this server",
            "start the server with --feature-gates=KMSv2=true",
        )
        .said(format!(
            "could not configure KMSv2 plugin {}, KMSv2 feature is not enabled",
            go::quoted(go::shown(plugin.name.value.expose()))
        ))),
        _ => {}
    }
}
