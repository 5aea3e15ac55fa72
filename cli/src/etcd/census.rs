//! The census at rest: every value of every resource, at one revision.

use std::collections::BTreeMap;

use atrest_core::at_rest::{Census, GroupResource};
use atrest_core::encryption_config::EncryptionConfiguration;

use super::live::Client;
use crate::status::Failure;

/// What to count, and against what.
pub(crate) struct Question<'a> {
    /// kube-apiserver's `--etcd-prefix`.
    pub(crate) prefix: &'a str,
    /// No wildcards among them.
    pub(crate) resources: &'a [GroupResource],
    /// What should hold.
    pub(crate) configuration: Option<&'a EncryptionConfiguration>,
    /// The current key_id of KMS v2 providers, by their names.
    pub(crate) key_ids: &'a BTreeMap<String, String>,
    /// Values that are not current to list.
    pub(crate) max_listed: usize,
}

/// Counts, and returns the revision that was counted.
pub(crate) async fn census(
    etcd: &mut Client,
    question: &Question<'_>,
) -> Result<(Census, i64), Failure> {
    let mut census = Census::new(
        question.resources.iter().cloned(),
        question.configuration,
        question.key_ids,
        question.max_listed,
    );
    let mut revision = None;
    for (i, resource) in question.resources.iter().enumerate() {
        let directory = resource.directory(question.prefix);
        let read = etcd
            .read(&directory, revision, |value| {
                census.add(i, value.key, value.value, value.mod_revision);
            })
            .await?;
        revision = Some(read);
    }
    let revision = match revision {
        Some(revision) => revision,
        None => etcd.revision().await?,
    };
    Ok((census, revision))
}
