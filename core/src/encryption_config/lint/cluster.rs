//! The file beside what the cluster serves.

use std::collections::HashSet;

use super::super::finding::quote;
use super::super::ids;
use super::super::rules::{GroupResource, group_resource};
use super::Lints;
use super::builtin;
use super::surroundings::Served;
use super::survey::{Survey, name_of, shown, text};

/// Words in the names of custom resources that hold secrets.
const WORDS: [&str; 7] = [
    "secret",
    "credential",
    "password",
    "passphrase",
    "token",
    "apikey",
    "privatekey",
];

/// Custom resources with such a word that only refer to secrets, or hold them encrypted.
const HARMLESS: [&str; 11] = [
    "clusterexternalsecrets.external-secrets.io",
    "clusterpushsecrets.external-secrets.io",
    "clustersecretstores.external-secrets.io",
    "externalsecrets.external-secrets.io",
    "pushsecrets.external-secrets.io",
    "sealedsecrets.bitnami.com",
    "secretproviderclasses.secrets-store.csi.x-k8s.io",
    "secretproviderclasspodstatuses.secrets-store.csi.x-k8s.io",
    "secretstores.external-secrets.io",
    "secretsyncs.secret-sync.x-k8s.io",
    "vaultsecrets.ricoberger.de",
];

pub(super) fn lint(survey: &Survey<'_>, served: &[Served], lints: &mut Lints) {
    let known: HashSet<GroupResource<'_>> = served
        .iter()
        .map(|it| (it.group.as_str(), it.plural.as_str()))
        .collect();
    let groups: HashSet<&str> = served.iter().map(|it| it.group.as_str()).collect();
    not_served(survey, &known, &groups, lints);
    if survey.names().next().is_none() {
        return;
    }

    let is_covered = |resource| !survey.covering(resource).is_empty();
    let mut said = HashSet::new();
    for it in served {
        let resource = (it.group.as_str(), it.plural.as_str());
        let is_ours = builtin::has_group(&it.group) || it.group == "events.k8s.io";
        if is_ours || is_covered(resource) || !said.insert(resource) {
            continue;
        }
        let name = name_of(resource);
        let kind = it.kind.to_ascii_lowercase();
        let has = |word: &&str| it.plural.contains(word) || kind.contains(word);
        let Some(word) = WORDS.into_iter().find(|word| has(word)) else {
            continue;
        };
        if !HARMLESS.contains(&name.as_str()) {
            lints.push(
                ids::SECRETS_IN_CUSTOM_RESOURCE,
                "resources",
                survey.place,
                format!(
                    "no entry covers {}, which by its name holds a {word}",
                    quote(&name)
                ),
                format!(
                    "add {} to the resources of an entry that encrypts",
                    quote(&name)
                ),
            );
        }
    }
    if known.contains(&("", "configmaps")) && !is_covered(("", "configmaps")) {
        lints.push(
            ids::SECRETS_BY_HABIT,
            "resources",
            survey.place,
            "no entry covers configmaps, which hold secrets in many clusters",
            "add `configmaps` to the resources of an entry that encrypts",
        );
    }
}

fn not_served(
    survey: &Survey<'_>,
    known: &HashSet<GroupResource<'_>>,
    groups: &HashSet<&str>,
    lints: &mut Lints,
) {
    for (i, entry) in survey.entries.iter().enumerate() {
        for (j, at) in entry.entry.resources.iter().enumerate() {
            let path = format!("resources[{i}].resources[{j}]");
            let (group, resource) = group_resource(text(at));
            let is_known = match resource {
                "*" => group == "*" || groups.contains(group),
                _ => known.contains(&(group, resource)),
            };
            // What matches nothing in any cluster is said already.
            if !is_known && !lints.has(&path) {
                lints.push(
                    ids::NOT_SERVED,
                    path,
                    at.place,
                    format!("the cluster does not serve {}", shown(text(at))),
                    "take a name from `kubectl api-resources -o name`, or leave it in if it is \
                     installed later",
                );
            }
        }
    }
}
