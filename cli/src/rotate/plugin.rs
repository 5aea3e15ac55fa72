//! The key that a KMS plugin has now, and whether an API server writes with it.
//!
//! An API server asks its plugin for the key_id once a minute. A change of the key needs no other file:
//! what shows it is the metric of what the plugin answered last.

use atrest_core::encryption_config::Kms;
use atrest_core::secret::Fingerprint;

use crate::cluster::Metrics;

/// Whether the plugin last told this process the key_id.
pub(super) fn has_taken_up(metrics: Option<&Metrics>, kms: &Kms, key_id: &str) -> bool {
    let hash = format!("sha256:{}", Fingerprint::of(key_id.as_bytes()));
    metrics.is_some_and(|it| it.current_key_ids.get(&kms.name) == Some(&hash))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use atrest_core::encryption_config::KmsVersion;

    use super::*;

    #[test]
    fn a_key_is_taken_up_when_the_plugin_told_it_last() {
        let kms = Kms {
            api_version: KmsVersion::V2,
            name: "plug".into(),
            endpoint: "unix:///run/kms.sock".into(),
            timeout: Duration::from_secs(3),
            cachesize: None,
        };
        let told = |key_id: &str, time: u32| {
            format!(
                "apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds{{\
                 apiserver_id_hash=\"x\",key_id_hash=\"sha256:{}\",provider_name=\"plug\"}} {time}\n",
                Fingerprint::of(key_id.as_bytes())
            )
        };
        let metrics = Metrics::parse(&(told("one", 2) + &told("two", 1)));
        assert!(has_taken_up(Some(&metrics), &kms, "one"));
        assert!(!has_taken_up(Some(&metrics), &kms, "two"));
        assert!(!has_taken_up(Some(&Metrics::default()), &kms, "one"));
        assert!(!has_taken_up(None, &kms, "one"));
    }
}
