//! What a census counted, as the journal and the certificate keep it.

use atrest_core::at_rest::Census;
use serde::{Deserialize, Serialize};

/// The values of one resource.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Counts {
    pub(crate) resource: String,
    pub(crate) total: u64,
    /// In the order of provider and key.
    pub(crate) by_key: Vec<KeyCount>,
}

/// Those of them that one key wrote.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct KeyCount {
    /// As in `atrest/verify/v1`.
    pub(crate) provider: String,
    /// Its name, or the key_id.
    pub(crate) key: Option<String>,
    pub(crate) count: u64,
}

impl Counts {
    pub(crate) fn of(census: &Census) -> Vec<Self> {
        let resources = census.resources.iter().map(|resource| Self {
            resource: resource.resource.to_string(),
            total: resource.total(),
            by_key: resource
                .groups()
                .map(|group| KeyCount {
                    provider: group.provider.clone(),
                    key: group.key.clone(),
                    count: group.count,
                })
                .collect(),
        });
        resources.collect()
    }
}
