//! Where kube-apiserver stores an object: `/registry/secrets/<namespace>/<name>`
//! (`k8s.io/apiserver` `pkg/server/storage/storage_factory.go`, `k8s.io/kubernetes`
//! `pkg/kubeapiserver/default_storage_factory_builder.go`).

use std::fmt;

/// kube-apiserver's `--etcd-prefix` when nobody sets it.
pub const DEFAULT_PREFIX: &str = "/registry";

/// Built-in groups whose objects are stored below the bare resource name, and what they have.
const BUILT_IN: [(&str, &[&str]); 19] = [
    (
        "",
        &[
            "configmaps",
            "events",
            "limitranges",
            "namespaces",
            "persistentvolumeclaims",
            "persistentvolumes",
            "pods",
            "podtemplates",
            "resourcequotas",
            "secrets",
            "serviceaccounts",
        ],
    ),
    (
        "admissionregistration.k8s.io",
        &[
            "mutatingadmissionpolicies",
            "mutatingadmissionpolicybindings",
            "mutatingwebhookconfigurations",
            "validatingadmissionpolicies",
            "validatingadmissionpolicybindings",
            "validatingwebhookconfigurations",
        ],
    ),
    (
        "apps",
        &[
            "controllerrevisions",
            "daemonsets",
            "deployments",
            "replicasets",
            "statefulsets",
        ],
    ),
    ("autoscaling", &["horizontalpodautoscalers"]),
    ("batch", &["cronjobs", "jobs"]),
    (
        "certificates.k8s.io",
        &[
            "certificatesigningrequests",
            "clustertrustbundles",
            "podcertificaterequests",
        ],
    ),
    ("coordination.k8s.io", &["leasecandidates", "leases"]),
    ("discovery.k8s.io", &["endpointslices"]),
    // Its events are those of the core group.
    ("events.k8s.io", &[]),
    (
        "flowcontrol.apiserver.k8s.io",
        &["flowschemas", "prioritylevelconfigurations"],
    ),
    ("internal.apiserver.k8s.io", &["storageversions"]),
    (
        "networking.k8s.io",
        &[
            "ingressclasses",
            "ipaddresses",
            "networkpolicies",
            "servicecidrs",
        ],
    ),
    ("node.k8s.io", &["runtimeclasses"]),
    ("policy", &["poddisruptionbudgets"]),
    (
        "rbac.authorization.k8s.io",
        &[
            "clusterrolebindings",
            "clusterroles",
            "rolebindings",
            "roles",
        ],
    ),
    (
        "resource.k8s.io",
        &[
            "deviceclasses",
            "devicetaintrules",
            "resourceclaims",
            "resourceclaimtemplates",
            "resourcepoolstatusrequests",
            "resourceslices",
        ],
    ),
    (
        "scheduling.k8s.io",
        &[
            "compositepodgroups",
            "podgroups",
            "priorityclasses",
            "workloads",
        ],
    ),
    (
        "storage.k8s.io",
        &[
            "csidrivers",
            "csinodes",
            "csistoragecapacities",
            "storageclasses",
            "volumeattachments",
            "volumeattributesclasses",
        ],
    ),
    ("storagemigration.k8s.io", &["storageversionmigrations"]),
];

/// What has a directory of another name: the group, the resource, the directory.
const RENAMED: [(&str, &str, &str); 5] = [
    ("", "endpoints", "services/endpoints"),
    ("", "nodes", "minions"),
    ("", "replicationcontrollers", "controllers"),
    ("", "services", "services/specs"),
    ("networking.k8s.io", "ingresses", "ingress"),
];

/// What kube-apiserver keeps of its own, which has no API and is never encrypted.
const INTERNAL: [&str; 3] = ["masterleases", "peerserverleases", "ranges"];

/// A resource as an EncryptionConfiguration names it: `secrets`, `widgets.example.com`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct GroupResource {
    /// The API group, empty for the core group.
    pub group: String,
    /// The plural resource name, or `*`.
    pub resource: String,
}

impl GroupResource {
    /// What stands before the first dot is the resource, the rest is its group.
    pub fn parse(text: &str) -> Self {
        let (resource, group) = text.split_once('.').unwrap_or((text, ""));
        Self {
            group: group.into(),
            resource: resource.into(),
        }
    }

    /// Whether this stands for more than one resource.
    pub fn is_wildcard(&self) -> bool {
        self.resource == "*" || self.group == "*"
    }

    /// Whether this is a wildcard that stands for the other one, too: `*.apps`, `*.*`.
    pub fn includes(&self, other: &Self) -> bool {
        self.resource == "*" && (self.group == "*" || self.group == other.group)
    }

    /// The directory below the prefix that holds the resource's objects, with its slash.
    pub fn directory(&self, prefix: &str) -> String {
        let Self { group, resource } = self;
        let renamed = RENAMED.iter().find(|it| it.0 == group && it.1 == resource);
        let is_built_in = BUILT_IN.iter().any(|it| it.0 == group);
        let prefix = clean(prefix);
        match renamed {
            Some((_, _, below)) => format!("{prefix}/{below}/"),
            None if is_built_in => format!("{prefix}/{resource}/"),
            None => format!("{prefix}/{group}/{resource}/"),
        }
    }

    /// The resource that a storage key is of, and where in the key the object's own part begins: the
    /// way back from [`Self::directory`]. A directory without a group that no known release has is of
    /// the group `?`. `None`: no object of an API.
    pub fn of_key(key: &[u8], prefix: &str) -> Option<(Self, usize)> {
        let prefix = clean(prefix);
        let below = key.strip_prefix(prefix.as_bytes())?.strip_prefix(b"/")?;
        let slash = |text: &[u8]| text.iter().position(|byte| *byte == b'/');
        let first = slash(below)?;
        let both = first + 1 + slash(&below[first + 1..]).unwrap_or(below.len() - first - 1);
        let text = |end: usize| std::str::from_utf8(below.get(..end)?).ok();
        let (one, two) = (text(first)?, text(both).filter(|_| both < below.len()));
        let found = |group: &str, resource: &str, end: usize| {
            let resource = Self {
                group: group.into(),
                resource: resource.into(),
            };
            Some((resource, prefix.len() + 1 + end + 1))
        };
        let is = |place: &str| one == place || two == Some(place);
        if INTERNAL.contains(&one) {
            return None;
        }
        if let Some((group, resource, place)) = RENAMED.iter().find(|it| is(it.2)) {
            return found(group, resource, place.len());
        }
        // Only the directories of groups that are not built in have a dot.
        if one.contains('.') {
            return found(one, two?.split_once('/')?.1, both);
        }
        let built_in = BUILT_IN.iter().find(|it| it.1.contains(&one));
        found(built_in.map_or("?", |it| it.0), one, first)
    }
}

impl fmt::Display for GroupResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.resource)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        Ok(())
    }
}

/// As Go's `path.Join` makes it from a slash and the prefix, without the slash at the end.
fn clean(prefix: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in prefix.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    segments.iter().flat_map(|segment| ["/", segment]).collect()
}

/// The namespace (where there is one) and the name that a storage key ends with.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ObjectKey {
    /// `None` for an object of the whole cluster.
    pub namespace: Option<String>,
    /// The object's name.
    pub name: String,
}

impl ObjectKey {
    /// Reads what follows the resource's directory.
    pub fn parse(rest: &[u8]) -> Option<Self> {
        let rest = std::str::from_utf8(rest).ok()?;
        let (namespace, name) = match rest.split_once('/') {
            Some((namespace, name)) => (Some(namespace.to_owned()), name),
            None => (None, rest),
        };
        (!name.is_empty() && !name.contains('/')).then(|| Self {
            namespace,
            name: name.into(),
        })
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        f.write_str(&self.name)
    }
}

/// The exclusive end of the range of all keys that start with `directory`.
pub fn range_end(directory: &[u8]) -> Vec<u8> {
    let mut end = directory.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![0] // etcd's way to say: to the end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_those_of_upstream() {
        for (resource, directory) in [
            ("secrets", "/registry/secrets/"),
            ("secrets.", "/registry/secrets/"),
            ("configmaps", "/registry/configmaps/"),
            ("nodes", "/registry/minions/"),
            ("services", "/registry/services/specs/"),
            ("endpoints", "/registry/services/endpoints/"),
            ("ingresses.networking.k8s.io", "/registry/ingress/"),
            ("deployments.apps", "/registry/deployments/"),
            ("leases.coordination.k8s.io", "/registry/leases/"),
            ("foos.cr.bar.com", "/registry/cr.bar.com/foos/"),
            (
                "customresourcedefinitions.apiextensions.k8s.io",
                "/registry/apiextensions.k8s.io/customresourcedefinitions/",
            ),
        ] {
            assert_eq!(
                GroupResource::parse(resource).directory(DEFAULT_PREFIX),
                directory
            );
        }
        assert_eq!(
            GroupResource::parse("secrets").directory("a/b/"),
            "/a/b/secrets/"
        );
        for (prefix, directory) in [
            ("/", "/secrets/"),
            ("", "/secrets/"),
            ("//a/./b/../c//", "/a/c/secrets/"),
        ] {
            assert_eq!(GroupResource::parse("secrets").directory(prefix), directory);
        }
    }

    #[test]
    fn keys_lead_back_to_their_resources() {
        let built_in = BUILT_IN.iter().flat_map(|(group, resources)| {
            let resources = resources.iter();
            resources.map(|resource| (*group, *resource))
        });
        let renamed = RENAMED.iter().map(|it| (it.0, it.1));
        let custom = [
            ("cr.bar.com", "foos"),
            ("apiextensions.k8s.io", "customresourcedefinitions"),
        ];
        for prefix in ["/registry", "/", "a/b"] {
            for (group, resource) in built_in.clone().chain(renamed.clone()).chain(custom) {
                let resource = GroupResource {
                    group: group.into(),
                    resource: resource.into(),
                };
                for object in ["name", "namespace/name", "\u{fffd}"] {
                    let directory = resource.directory(prefix);
                    let key = format!("{directory}{object}");
                    let found = GroupResource::of_key(key.as_bytes(), prefix);
                    assert_eq!(found, Some((resource.clone(), directory.len())), "{key}");
                }
            }
        }
        for none in [
            "/registry/ranges/serviceips",
            "/registry/masterleases/10.0.0.1",
            "/registry/secrets",
            "/registry/cr.bar.com/foos",
            "/other/secrets/a/b",
            "compact_rev_key",
        ] {
            assert_eq!(
                GroupResource::of_key(none.as_bytes(), "/registry"),
                None,
                "{none}"
            );
        }
        let (new, at) = GroupResource::of_key(b"/registry/wonders/a/b", "/registry").unwrap();
        assert_eq!((&*new.group, &*new.resource, at), ("?", "wonders", 18));
    }

    #[test]
    fn object_keys() {
        let key = ObjectKey::parse(b"default/db").unwrap();
        assert_eq!(
            (key.namespace.as_deref(), key.name.as_str()),
            (Some("default"), "db")
        );
        assert_eq!(ObjectKey::parse(b"node-1").unwrap().to_string(), "node-1");
        assert_eq!(ObjectKey::parse(b"a/b/c"), None);
        assert_eq!(ObjectKey::parse(b"a/"), None);
        assert_eq!(ObjectKey::parse(b"\xff"), None);
    }

    #[test]
    fn range_ends() {
        assert_eq!(range_end(b"/registry/secrets/"), b"/registry/secrets0");
        assert_eq!(range_end(b"a\xff"), b"b");
        assert_eq!(range_end(b"\xff"), b"\0");
    }
}
