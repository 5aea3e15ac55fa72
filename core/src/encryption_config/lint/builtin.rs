//! The resources that Kubernetes itself stores or serves, by group: those of 1.37 with every API
//! switched on, and what older releases from 1.27 on had. From the discovery documents that
//! k8s.io/kubernetes keeps in `api/discovery`.

use super::super::fields::distance;

/// Served, and never stored.
const NOT_STORED: &[(&str, &str)] = &[
    ("", "bindings"),
    ("", "componentstatuses"),
    ("authentication.k8s.io", "selfsubjectreviews"),
    ("authentication.k8s.io", "tokenreviews"),
    ("authorization.k8s.io", "localsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
    ("authorization.k8s.io", "subjectaccessreviews"),
];

/// Stored without a REST API of their own: the server refuses these names, though not with a dot
/// behind.
const NO_REST_API: &[&str] = &[
    "apiserveripinfo",
    "serviceipallocations",
    "servicenodeportallocations",
];

/// A resource of Kubernetes' own: group, then plural.
pub(super) type BuiltIn = (&'static str, &'static str);

fn all() -> impl Iterator<Item = (&'static str, &'static Names)> {
    let of = |(group, rows): &'static (&'static str, &'static [Names])| {
        rows.iter().map(move |names| (*group, names))
    };
    GROUPS.iter().flat_map(of)
}

/// Whether Kubernetes has such a group.
pub(super) fn has_group(group: &str) -> bool {
    GROUPS.iter().any(|(name, _)| *name == group)
}

/// Whether Kubernetes has such a resource.
pub(super) fn has(group: &str, plural: &str) -> bool {
    let rows = GROUPS.iter().find(|(name, _)| *name == group);
    rows.is_some_and(|(_, rows)| rows.iter().any(|(name, _)| *name == plural))
}

/// Whether a resource is served and never stored, or stored in a way of its own.
pub(super) fn is_never_encrypted(group: &str, plural: &str) -> bool {
    NOT_STORED.contains(&(group, plural)) || group.is_empty() && NO_REST_API.contains(&plural)
}

/// The resource of this plural, in whichever group.
pub(super) fn of_plural(plural: &str) -> Option<BuiltIn> {
    all()
        .find(|(_, (name, _))| *name == plural)
        .map(|(group, (name, _))| (group, *name))
}

/// The resource with this singular, kind or short name, first in `group`.
pub(super) fn of_other_name(name: &str, group: &str) -> Option<BuiltIn> {
    let meant = |wanted: &dyn Fn(&str) -> bool| {
        all()
            .filter(|(group, _)| wanted(group))
            .find(|(_, (plural, others))| *plural != name && others.contains(&name))
            .map(|(group, (plural, _))| (group, *plural))
    };
    meant(&|it| it == group).or_else(|| meant(&|_| true))
}

/// The resource whose plural is spelled almost like this, first in `group`.
pub(super) fn spelled_like(name: &str, group: &str) -> Option<BuiltIn> {
    if !(4..=64).contains(&name.len()) {
        return None;
    }
    let most = if name.len() < 6 { 1 } else { 2 };
    let near = |(of, (plural, _)): (&'static str, &'static Names)| {
        let far = plural.len().abs_diff(name.len()) > most;
        let distance = if far {
            usize::MAX
        } else {
            distance(plural, name)
        };
        (distance <= most).then_some((distance, of != group, (of, *plural)))
    };
    all().filter_map(near).min().map(|(_, _, found)| found)
}

/// The group that is spelled almost like this one. The first letter is taken to be right.
pub(super) fn group_like(group: &str) -> Option<&'static str> {
    if !(3..=64).contains(&group.len()) {
        return None;
    }
    let most = if group.len() < 10 { 1 } else { 2 };
    GROUPS
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| name.as_bytes().first() == group.as_bytes().first())
        .filter(|name| name.len().abs_diff(group.len()) <= most)
        .find(|name| distance(name, group) <= most)
}

/// A resource and what else people call it.
type Names = (&'static str, &'static [&'static str]);

/// A group; the plural of each of its resources; its singular, which is the kind in lower case, and
/// its short names.
const GROUPS: &[(&str, &[Names])] = &[
    (
        "",
        &[
            ("bindings", &["binding"]),
            ("componentstatuses", &["componentstatus", "cs"]),
            ("configmaps", &["configmap", "cm"]),
            ("endpoints", &["endpoints", "ep"]),
            ("events", &["event", "ev"]),
            ("limitranges", &["limitrange", "limits"]),
            ("namespaces", &["namespace", "ns"]),
            ("nodes", &["node", "no"]),
            ("persistentvolumeclaims", &["persistentvolumeclaim", "pvc"]),
            ("persistentvolumes", &["persistentvolume", "pv"]),
            ("pods", &["pod", "po"]),
            ("podtemplates", &["podtemplate"]),
            ("replicationcontrollers", &["replicationcontroller", "rc"]),
            ("resourcequotas", &["resourcequota", "quota"]),
            ("secrets", &["secret"]),
            ("serviceaccounts", &["serviceaccount", "sa"]),
            ("services", &["service", "svc"]),
        ],
    ),
    (
        "admissionregistration.k8s.io",
        &[
            ("mutatingadmissionpolicies", &["mutatingadmissionpolicy"]),
            (
                "mutatingadmissionpolicybindings",
                &["mutatingadmissionpolicybinding"],
            ),
            (
                "mutatingwebhookconfigurations",
                &["mutatingwebhookconfiguration"],
            ),
            (
                "validatingadmissionpolicies",
                &["validatingadmissionpolicy"],
            ),
            (
                "validatingadmissionpolicybindings",
                &["validatingadmissionpolicybinding"],
            ),
            (
                "validatingwebhookconfigurations",
                &["validatingwebhookconfiguration"],
            ),
        ],
    ),
    (
        "apiextensions.k8s.io",
        &[(
            "customresourcedefinitions",
            &["customresourcedefinition", "crd", "crds"],
        )],
    ),
    (
        "apiregistration.k8s.io",
        &[("apiservices", &["apiservice"])],
    ),
    (
        "apps",
        &[
            ("controllerrevisions", &["controllerrevision"]),
            ("daemonsets", &["daemonset", "ds"]),
            ("deployments", &["deployment", "deploy"]),
            ("replicasets", &["replicaset", "rs"]),
            ("statefulsets", &["statefulset", "sts"]),
        ],
    ),
    (
        "authentication.k8s.io",
        &[
            ("selfsubjectreviews", &["selfsubjectreview"]),
            ("tokenreviews", &["tokenreview"]),
        ],
    ),
    (
        "authorization.k8s.io",
        &[
            ("localsubjectaccessreviews", &["localsubjectaccessreview"]),
            ("selfsubjectaccessreviews", &["selfsubjectaccessreview"]),
            ("selfsubjectrulesreviews", &["selfsubjectrulesreview"]),
            ("subjectaccessreviews", &["subjectaccessreview"]),
        ],
    ),
    (
        "autoscaling",
        &[(
            "horizontalpodautoscalers",
            &["horizontalpodautoscaler", "hpa"],
        )],
    ),
    (
        "batch",
        &[("cronjobs", &["cronjob", "cj"]), ("jobs", &["job"])],
    ),
    (
        "certificates.k8s.io",
        &[
            (
                "certificatesigningrequests",
                &["certificatesigningrequest", "csr"],
            ),
            ("clustertrustbundles", &["clustertrustbundle"]),
            ("podcertificaterequests", &["podcertificaterequest"]),
        ],
    ),
    (
        "coordination.k8s.io",
        &[
            ("leasecandidates", &["leasecandidate"]),
            ("leases", &["lease"]),
        ],
    ),
    (
        "discovery.k8s.io",
        &[("endpointslices", &["endpointslice"])],
    ),
    (
        "flowcontrol.apiserver.k8s.io",
        &[
            ("flowschemas", &["flowschema"]),
            (
                "prioritylevelconfigurations",
                &["prioritylevelconfiguration"],
            ),
        ],
    ),
    (
        "internal.apiserver.k8s.io",
        &[("storageversions", &["storageversion"])],
    ),
    (
        "lifecycle.k8s.io",
        &[
            ("evictionrequests", &["evictionrequest"]),
            ("evictions", &["eviction"]),
        ],
    ),
    (
        "networking.k8s.io",
        &[
            ("clustercidrs", &["clustercidr"]),
            ("ingressclasses", &["ingressclass"]),
            ("ingresses", &["ingress", "ing"]),
            ("ipaddresses", &["ipaddress", "ip"]),
            ("networkpolicies", &["networkpolicy", "netpol"]),
            ("servicecidrs", &["servicecidr"]),
        ],
    ),
    ("node.k8s.io", &[("runtimeclasses", &["runtimeclass"])]),
    (
        "policy",
        &[("poddisruptionbudgets", &["poddisruptionbudget", "pdb"])],
    ),
    (
        "rbac.authorization.k8s.io",
        &[
            ("clusterrolebindings", &["clusterrolebinding"]),
            ("clusterroles", &["clusterrole"]),
            ("rolebindings", &["rolebinding"]),
            ("roles", &["role"]),
        ],
    ),
    (
        "resource.k8s.io",
        &[
            ("deviceclasses", &["deviceclass"]),
            ("devicetaintrules", &["devicetaintrule"]),
            ("podschedulingcontexts", &["podschedulingcontext"]),
            ("resourceclaimparameters", &["resourceclaimparameters"]),
            ("resourceclaims", &["resourceclaim"]),
            ("resourceclaimtemplates", &["resourceclaimtemplate"]),
            ("resourceclasses", &["resourceclass"]),
            ("resourceclassparameters", &["resourceclassparameters"]),
            ("resourcepoolstatusrequests", &["resourcepoolstatusrequest"]),
            ("resourceslices", &["resourceslice"]),
        ],
    ),
    (
        "scheduling.k8s.io",
        &[
            ("compositepodgroups", &["compositepodgroup"]),
            ("podgroups", &["podgroup"]),
            ("priorityclasses", &["priorityclass", "pc"]),
            ("workloads", &["workload"]),
        ],
    ),
    (
        "storage.k8s.io",
        &[
            ("csidrivers", &["csidriver"]),
            ("csinodes", &["csinode"]),
            ("csistoragecapacities", &["csistoragecapacity"]),
            ("storageclasses", &["storageclass", "sc"]),
            ("volumeattachments", &["volumeattachment"]),
            ("volumeattributesclasses", &["volumeattributesclass", "vac"]),
        ],
    ),
    (
        "storagemigration.k8s.io",
        &[("storageversionmigrations", &["storageversionmigration"])],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_plurals_are_in_order() {
        assert!(GROUPS.is_sorted_by(|a, b| a.0 < b.0));
        for (group, rows) in GROUPS {
            assert!(rows.is_sorted_by(|a, b| a.0 < b.0), "{group}");
        }
        for (group, plural) in NOT_STORED {
            assert!(has(group, plural), "{plural}.{group}");
        }
    }

    #[test]
    fn other_names_lead_to_the_resource() {
        assert_eq!(of_other_name("secret", ""), Some(("", "secrets")));
        assert_eq!(of_other_name("deploy", ""), Some(("apps", "deployments")));
        assert_eq!(of_other_name("endpoints", ""), None);
        assert_eq!(spelled_like("secerts", ""), Some(("", "secrets")));
        assert_eq!(spelled_like("secrts", ""), Some(("", "secrets")));
        assert_eq!(spelled_like("configmpas", ""), Some(("", "configmaps")));
        assert_eq!(spelled_like("pandas", ""), None);
        assert_eq!(group_like("networking.k8s.oi"), Some("networking.k8s.io"));
        assert_eq!(group_like("metrics.k8s.io"), None);
    }
}
