//! What is covered, and what had better not be.

use super::super::ids;
use super::super::rules::{EVERYTHING, GroupResource, group_resource};
use super::Lints;
use super::names::Meant;
use super::survey::{SECRETS, Survey, shown, text};

const EVENTS: GroupResource<'static> = ("", "events");
const LEASES: GroupResource<'static> = ("coordination.k8s.io", "leases");

pub(super) fn lint(survey: &Survey<'_>, meant: &Meant, lints: &mut Lints) {
    let has_resources = survey.names().next().is_some();
    if has_resources && survey.covering(SECRETS).is_empty() && !meant.secrets {
        lints.push(
            ids::SECRETS_UNCOVERED,
            "resources",
            survey.place,
            "no entry covers secrets: they are stored in plaintext",
            "add `secrets` to the resources of an entry whose first provider encrypts",
        );
    }
    for (i, entry) in survey.entries.iter().enumerate() {
        let encrypts = entry
            .chain
            .first()
            .is_some_and(|first| !first.is_identity());
        for (j, at) in entry.entry.resources.iter().enumerate() {
            let name = group_resource(text(at));
            let path = || format!("resources[{i}].resources[{j}]");
            let entries = survey.naming(name);
            if entries.len() > 1 && entries.first() != Some(&i) {
                lints.push(
                    ids::RESOURCE_IN_TWO_ENTRIES,
                    path(),
                    at.place,
                    format!(
                        "{} is in resources[{}] already, whose first provider writes it: the \
                         providers of this entry only read",
                        shown(text(at)),
                        entries[0]
                    ),
                    "put all providers of the resource into one entry",
                );
            }
            let busy = |resource: GroupResource<'_>| {
                let wildcards = [(resource.0, "*"), EVERYTHING];
                name == resource
                    || wildcards.contains(&name) && survey.covering(resource).contains(&i)
            };
            let busy: Vec<_> = [(EVENTS, "events"), (LEASES, "leases")]
                .into_iter()
                .filter(|(resource, _)| encrypts && busy(*resource))
                .map(|(_, name)| name)
                .collect();
            if !busy.is_empty() {
                lints.push(
                    ids::HIGH_CHURN,
                    path(),
                    at.place,
                    format!(
                        "{} encrypts {}, which are written all the time and hold no secrets",
                        shown(text(at)),
                        busy.join(" and ")
                    ),
                    if name.1 == "*" {
                        "leave them out with an entry of identity for them before this one"
                    } else {
                        "take it out, or give it identity alone if a wildcard follows"
                    },
                );
            }
        }
    }
}
