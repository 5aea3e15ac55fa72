//! Where kube-apiserver stores an object: `/registry/secrets/<namespace>/<name>`
//! (`k8s.io/apiserver` `pkg/server/storage/storage_factory.go`, `k8s.io/kubernetes`
//! `pkg/kubeapiserver/default_storage_factory_builder.go`).

use std::fmt;

/// kube-apiserver's `--etcd-prefix` when nobody sets it.
pub const DEFAULT_PREFIX: &str = "/registry";

/// Built-in groups whose objects are stored below the bare resource name.
const BUILT_IN: [&str; 19] = [
    "",
    "admissionregistration.k8s.io",
    "apps",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
    "storagemigration.k8s.io",
];

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
        let below = match (self.group.as_str(), self.resource.as_str()) {
            ("", "endpoints") => "services/endpoints",
            ("", "nodes") => "minions",
            ("", "replicationcontrollers") => "controllers",
            ("", "services") => "services/specs",
            ("networking.k8s.io", "ingresses") => "ingress",
            (group, resource) if BUILT_IN.contains(&group) => resource,
            (group, resource) => return format!("{}/{group}/{resource}/", trim(prefix)),
        };
        format!("{}/{below}/", trim(prefix))
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

fn trim(prefix: &str) -> String {
    format!("/{}", prefix.trim_matches('/'))
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
