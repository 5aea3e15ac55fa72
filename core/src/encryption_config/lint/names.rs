//! Names of resources that the server takes and that match nothing.

use super::super::fields::reads_as_name;
use super::super::finding::quote;
use super::super::ids::{self, Rule};
use super::super::rules::{GroupResource, group_resource};
use super::Lints;
use super::builtin;
use super::surroundings::Served;
use super::survey::{SECRETS, Survey, looks_like_a_key, name_of, shown, text};

/// What misspelled names stood for.
#[derive(Default)]
pub(super) struct Meant {
    pub(super) secrets: bool,
}

/// A name that matches nothing.
struct Fault<'a> {
    rule: &'static Rule,
    message: String,
    /// What is likely meant.
    meant: Vec<GroupResource<'a>>,
    /// What to do where nothing is likely.
    fix: &'static str,
}

/// Names that are looked at: a file with more faults than that is none that anybody wrote.
const MOST: usize = 200;

pub(super) fn lint(survey: &Survey<'_>, served: Option<&[Served]>, lints: &mut Lints) -> Meant {
    let mut meant = Meant::default();
    let mut faults = 0;
    for (i, entry) in survey.entries.iter().enumerate() {
        for (j, at) in entry.entry.resources.iter().enumerate() {
            let path = format!("resources[{i}].resources[{j}]");
            let name = text(at);
            if lints.is_said(&path) {
                // Whatever its case, it says which resource is meant.
                let (group, resource) = group_resource(name);
                meant.secrets |= group.is_empty() && resource.eq_ignore_ascii_case(SECRETS.1);
                continue;
            }
            let Some(fault) = fault(name, served) else {
                continue;
            };
            meant.secrets |= fault.meant.contains(&SECRETS);
            let names: Vec<_> = fault.meant.iter().map(|it| name_of(*it)).collect();
            let fix = match names.as_slice() {
                [] => fault.fix.to_owned(),
                // A piece of a key, perhaps.
                names if !names.iter().all(|name| reads_as_name(name)) => fault.fix.to_owned(),
                [one] => format!("write `{one}`"),
                all => format!("write each as an item of its own: `[{}]`", all.join(", ")),
            };
            lints.push(fault.rule, path, at.place, fault.message, fix);
            faults += 1;
            if faults == MOST {
                return meant;
            }
        }
    }
    meant
}

const LOOK_UP: &str = "take a name from `kubectl api-resources -o name`";

/// What is wrong with a name; the first that holds.
fn fault<'a>(name: &'a str, served: Option<&[Served]>) -> Option<Fault<'a>> {
    let quoted = shown(name);
    let fault = |rule, message, meant: Vec<GroupResource<'a>>, fix| {
        Some(Fault {
            rule,
            message,
            meant,
            fix,
        })
    };
    let is_blank = |scalar: char| scalar.is_whitespace() || scalar.is_control();
    if name.split('.').all(str::is_empty) || name.trim_matches(is_blank).is_empty() {
        let message = "an empty name matches no resource".to_owned();
        return fault(
            ids::BLANK_NAME,
            message,
            Vec::new(),
            "name a resource, or take the item out",
        );
    }
    let parts: Vec<_> = name
        .split(|scalar| is_blank(scalar) || matches!(scalar, ',' | ';'))
        .filter(|part| !part.is_empty())
        .collect();
    if parts.len() > 1 {
        let message = format!("{quoted} is taken for the name of one resource");
        let meant = parts
            .into_iter()
            .take(5)
            .filter(|part| is_plain(part))
            .map(group_resource);
        return fault(
            ids::SEVERAL_IN_ONE,
            message,
            meant.collect(),
            "write each as an item of its own",
        );
    }
    let first = parts.first().copied(); // none in ","
    if first != Some(name) {
        let message = format!("{quoted} has blanks or separators around the name");
        let meant = first.filter(|part| is_plain(part)).map(group_resource);
        return fault(
            ids::BLANK_NAME,
            message,
            meant.into_iter().collect(),
            "take them out",
        );
    }
    if name.contains('/') {
        return path(name, quoted);
    }
    let (group, resource) = group_resource(name);
    if name.contains('*') && (resource != "*" || group.contains('*') && group != "*") {
        let message = format!("{quoted} is no wildcard, and no resource has this name");
        return fault(
            ids::HALF_WILDCARD,
            message,
            Vec::new(),
            "write `*.` for the core group, `*.apps` for another one, `*.*` for all, or the \
             resource's whole name",
        );
    }
    if let Some((version, rest)) = group
        .split_once('.')
        .or((!group.is_empty()).then_some((group, "")))
        && is_version(version)
    {
        let message =
            format!("{quoted} names a version; a resource is stored once for all of them");
        let rest = if rest == "events.k8s.io" { "" } else { rest };
        return fault(
            ids::VERSION_IN_NAME,
            message,
            vec![(rest, resource)],
            LOOK_UP,
        );
    }
    let is_label = |label: &str| {
        let is_fit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !label.is_empty() && label.bytes().all(is_fit)
    };
    let labels = name
        .strip_suffix('.')
        .filter(|it| !it.contains('.'))
        .unwrap_or(name)
        .split('.');
    if !labels.clone().all(|label| label == "*" || is_label(label)) {
        let message = format!("no resource can be called {quoted}");
        let trimmed = name.trim_matches('.');
        let meant = trimmed
            .split('.')
            .all(is_label)
            .then(|| group_resource(trimmed));
        return fault(
            ids::NO_SUCH_RESOURCE,
            message,
            meant.into_iter().collect(),
            LOOK_UP,
        );
    }
    let is_served = |it: &Served| it.group == group && (it.plural == resource || resource == "*");
    if served.is_some_and(|served| served.iter().any(is_served))
        && !builtin::is_never_encrypted(group, resource)
    {
        return None;
    }
    if builtin::is_never_encrypted(group, resource) {
        let message = format!("{quoted} is never stored encrypted");
        return fault(ids::NOT_STORED, message, Vec::new(), "take it out");
    }
    if builtin::has(group, resource) || group == "*" {
        return None;
    }
    unknown(group, resource, quoted)
}

/// A resource of a group that is not among Kubernetes' own.
fn unknown<'a>(group: &'a str, resource: &'a str, quoted: String) -> Option<Fault<'a>> {
    let fault = |rule, message, meant: Vec<GroupResource<'a>>| {
        Some(Fault {
            rule,
            message,
            meant,
            fix: LOOK_UP,
        })
    };
    let is_known = builtin::has_group(group);
    if !is_known && let Some(like) = builtin::group_like(group) {
        let message = format!(
            "{quoted}: Kubernetes has a group {}, not this one",
            quote(like)
        );
        return fault(ids::WRONG_GROUP, message, vec![(like, resource)]);
    }
    // A group of custom resources is a domain, with a dot.
    if !is_known && group.contains('.') {
        return None;
    }
    if resource == "*" {
        if is_known {
            return None;
        }
        let message = format!("{quoted}: there is no group {}", shown(group));
        let core = matches!(group, "core" | "api").then_some(("", "*"));
        return fault(ids::NO_SUCH_RESOURCE, message, core.into_iter().collect());
    }
    if let Some(meant) = builtin::of_plural(resource) {
        let message = match (group, meant.0) {
            ("", _) => format!("{quoted} is not in the core group"),
            (_, "") => format!("{quoted}: the resource is in the core group, which has no name"),
            _ => format!("{quoted} is not in this group"),
        };
        return fault(ids::WRONG_GROUP, message, vec![meant]);
    }
    if let Some(meant) = builtin::of_other_name(resource, group) {
        let message = format!("{quoted} is not the plural of a resource");
        return fault(ids::SINGULAR, message, vec![meant]);
    }
    let message = match group {
        "" => format!("the core group has no resource {quoted}"),
        _ if is_known => format!("the group {} has no such resource: {quoted}", shown(group)),
        _ => format!("{quoted}: there is no group {}", shown(group)),
    };
    let meant = builtin::spelled_like(resource, group);
    fault(ids::NO_SUCH_RESOURCE, message, meant.into_iter().collect())
}

/// `secrets/status`, `v1/secrets`, `apps/v1/deployments`
fn path(name: &str, quoted: String) -> Option<Fault<'_>> {
    let parts: Vec<_> = name.split('/').filter(|part| !part.is_empty()).collect();
    let meant = match parts.as_slice() {
        [version, resource] | ["api", version, resource] if is_version(version) => {
            Some(("", *resource))
        }
        [group, version, resource] | ["apis", group, version, resource] if is_version(version) => {
            Some((*group, *resource))
        }
        [group, resource] if builtin::has(group, resource) => Some((*group, *resource)),
        _ => None,
    };
    let (rule, message, meant) = match (meant, parts.as_slice()) {
        (Some(meant), _) => (
            ids::VERSION_IN_NAME,
            format!("{quoted} is a path of the API, not the name of a resource"),
            Some(meant),
        ),
        (None, [resource, _]) => (
            ids::SUBRESOURCE,
            format!("{quoted} is a subresource, which is not stored on its own"),
            Some(group_resource(resource)),
        ),
        (None, _) => (
            ids::VERSION_IN_NAME,
            format!("{quoted} is no name of a resource"),
            None,
        ),
    };
    let meant = meant.filter(|(group, resource)| is_plain(group) && is_plain(resource));
    Some(Fault {
        rule,
        message,
        meant: meant.into_iter().collect(),
        fix: LOOK_UP,
    })
}

/// Whether a part of a name can stand in a suggestion.
fn is_plain(part: &str) -> bool {
    !looks_like_a_key(part)
        && part.len() <= 253
        && part
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-.*".contains(&byte))
}

/// `v1`, `v1beta2`
fn is_version(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('v') else {
        return false;
    };
    let rest = rest.trim_start_matches(|scalar: char| scalar.is_ascii_digit());
    let is_stage = |stage: &str| {
        rest.strip_prefix(stage)
            .is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    text.as_bytes().get(1).is_some_and(u8::is_ascii_digit)
        && (rest.is_empty() || is_stage("alpha") || is_stage("beta"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(name: &str) -> Option<(&'static str, Vec<String>)> {
        let fault = fault(name, None)?;
        Some((
            fault.rule.id,
            fault.meant.into_iter().map(name_of).collect(),
        ))
    }

    #[test]
    fn names_that_match_nothing() {
        for (name, rule, meant) in [
            ("", ids::BLANK_NAME, &[][..]),
            (".", ids::BLANK_NAME, &[]),
            ("..", ids::BLANK_NAME, &[]),
            (" ", ids::BLANK_NAME, &[]),
            (" secrets", ids::BLANK_NAME, &["secrets"]),
            ("secrets\n", ids::BLANK_NAME, &["secrets"]),
            (
                "secrets,configmaps",
                ids::SEVERAL_IN_ONE,
                &["secrets", "configmaps"],
            ),
            (
                "secrets configmaps",
                ids::SEVERAL_IN_ONE,
                &["secrets", "configmaps"],
            ),
            ("secrets/status", ids::SUBRESOURCE, &["secrets"]),
            (
                "deployments.apps/scale",
                ids::SUBRESOURCE,
                &["deployments.apps"],
            ),
            ("v1/secrets", ids::VERSION_IN_NAME, &["secrets"]),
            (
                "apps/v1/deployments",
                ids::VERSION_IN_NAME,
                &["deployments.apps"],
            ),
            (
                "apps/deployments",
                ids::VERSION_IN_NAME,
                &["deployments.apps"],
            ),
            ("secrets.v1", ids::VERSION_IN_NAME, &["secrets"]),
            (
                "deployments.v1.apps",
                ids::VERSION_IN_NAME,
                &["deployments.apps"],
            ),
            ("events.v1.events.k8s.io", ids::VERSION_IN_NAME, &["events"]),
            ("secrets*", ids::HALF_WILDCARD, &[]),
            ("*secrets", ids::HALF_WILDCARD, &[]),
            ("**", ids::HALF_WILDCARD, &[]),
            ("*.*.foo", ids::HALF_WILDCARD, &[]),
            ("secrets.*.foo", ids::HALF_WILDCARD, &[]),
            ("secret", ids::SINGULAR, &["secrets"]),
            ("cm", ids::SINGULAR, &["configmaps"]),
            ("deployment.apps", ids::SINGULAR, &["deployments.apps"]),
            ("deployment", ids::SINGULAR, &["deployments.apps"]),
            ("deployments", ids::WRONG_GROUP, &["deployments.apps"]),
            ("secrets.apps", ids::WRONG_GROUP, &["secrets"]),
            ("secrets.core", ids::WRONG_GROUP, &["secrets"]),
            ("secrets.kube-system", ids::WRONG_GROUP, &["secrets"]),
            (
                "ingresses.networking.k8s.oi",
                ids::WRONG_GROUP,
                &["ingresses.networking.k8s.io"],
            ),
            ("secerts", ids::NO_SUCH_RESOURCE, &["secrets"]),
            ("configmapss", ids::NO_SUCH_RESOURCE, &["configmaps"]),
            ("pandas", ids::NO_SUCH_RESOURCE, &[]),
            ("extensions", ids::NO_SUCH_RESOURCE, &[]),
            ("widgets.apps", ids::NO_SUCH_RESOURCE, &[]),
            ("*.foo", ids::NO_SUCH_RESOURCE, &[]),
            ("*.core", ids::NO_SUCH_RESOURCE, &["*."]),
            ("*.v1", ids::VERSION_IN_NAME, &["*."]),
            ("\u{e4}pfel.example.com", ids::NO_SUCH_RESOURCE, &[]),
            ("my_widgets.example.com", ids::NO_SUCH_RESOURCE, &[]),
            (".secrets", ids::NO_SUCH_RESOURCE, &["secrets"]),
            ("secrets..", ids::NO_SUCH_RESOURCE, &["secrets"]),
            (
                "widgets.example.com.",
                ids::NO_SUCH_RESOURCE,
                &["widgets.example.com"],
            ),
            ("apiserveripinfo.", ids::NOT_STORED, &[]),
            ("tokenreviews.authentication.k8s.io", ids::NOT_STORED, &[]),
        ] {
            let (id, names) = says(name).unwrap_or_else(|| panic!("{name:?} is taken"));
            assert_eq!(
                (id, names),
                (rule.id, meant.iter().map(ToString::to_string).collect()),
                "{name:?}"
            );
        }
    }

    #[test]
    fn names_that_match() {
        for name in [
            "secrets",
            "secrets.",
            "configmaps",
            "events",
            "events.",
            "*.",
            "*.apps",
            "*.*",
            "*.example.com",
            "deployments.apps",
            "pandas.awesome.bears.example",
            "services.serving.knative.dev",
            "volumesnapshots.snapshot.storage.k8s.io",
            "resourceclasses.resource.k8s.io",
            "vaults.example.com",
        ] {
            assert_eq!(says(name), None, "{name:?}");
        }
    }

    #[test]
    fn what_the_cluster_serves_is_no_fault() {
        let served = Served {
            group: "apps".into(),
            plural: "rollouts".into(),
            singular: "rollout".into(),
            kind: "Rollout".into(),
        };
        assert!(fault("rollouts.apps", None).is_some());
        assert!(fault("rollouts.apps", Some(&[served])).is_none());
    }
}
