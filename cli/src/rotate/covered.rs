//! What a rotation is of: the resources that its entries name, and for wildcards what the API server
//! serves and what etcd has.

use std::collections::BTreeMap;

use atrest_core::at_rest::GroupResource;
use atrest_core::encryption_config::EncryptionConfiguration;
use atrest_core::rotation::chain::Selection;

use crate::cluster::{self, ApiServer};
use crate::commands::server_failure;
use crate::etcd;
use crate::status::Failure;

/// Of wildcards, as it is now: types come and go. What nobody serves can still be stored, and what is
/// served can be stored elsewhere.
pub(super) async fn covered(
    selection: &Selection,
    configuration: &EncryptionConfiguration,
    server: &ApiServer,
    etcd: &mut etcd::Client,
    prefix: &str,
) -> Result<Vec<GroupResource>, Failure> {
    let mut covered = named(selection);
    if covered.len() == selection.resources.len() {
        return Ok(covered);
    }
    let keys = etcd.first_keys(prefix).await?.keys;
    let stored = keys
        .iter()
        .filter_map(|key| GroupResource::of_key(key, prefix));
    covered.extend(stored.map(|(resource, _)| resource));
    let served = cluster::stored(server).await;
    covered.extend(served.map_err(|error| server_failure(server, &error))?);
    // Two names can share a directory: events of two groups. The first is the one that it is stored under.
    let mut directories = BTreeMap::new();
    for resource in covered {
        // Of a group that is not known, which no API server can be asked for: the census names its values.
        if selection.covers(configuration, &resource) && resource.group != "?" {
            directories
                .entry(resource.directory(prefix))
                .or_insert(resource);
        }
    }
    Ok(directories.into_values().collect())
}

/// Without wildcards.
pub(super) fn named(selection: &Selection) -> Vec<GroupResource> {
    let all = selection.resources.iter();
    all.filter(|it| !it.is_wildcard()).cloned().collect()
}
