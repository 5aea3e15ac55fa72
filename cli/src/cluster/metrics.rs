//! What an API server says of itself at `/metrics`, as far as it is about encryption at rest. All of
//! these are ALPHA upstream: what is not there is not known.

use std::collections::BTreeMap;

use atrest_core::at_rest::Reads;
use serde::{Deserialize, Serialize};

const LOADED: &str = "apiserver_encryption_config_controller_last_config_info";
const TRANSFORMATIONS: &str = "apiserver_storage_transformation_operations_total";
const KEY_IDS: &str = "apiserver_envelope_encryption_key_id_hash_total";
const KEY_ID_STATUS: &str =
    "apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds";
const STARTED: &str = "process_start_time_seconds";
const RELOADS: &str = "apiserver_encryption_config_controller_automatic_reloads_total";
const RELOADED_AT: &str =
    "apiserver_encryption_config_controller_automatic_reload_last_timestamp_seconds";
/// Every queue has it; that of the controller which looks at the file gets an entry for each look.
const LOOKS: &str = "workqueue_adds_total";
const CONTROLLER: &str = "encryption-provider-config-automatic-reload-controller";
/// Of Kubernetes 1.28 to 1.33; since 1.30 beside the other one.
const RELOADS_BEFORE: &str =
    "apiserver_encryption_config_controller_automatic_reload_success_total";

const KNOWN: [&str; 9] = [
    LOADED,
    TRANSFORMATIONS,
    KEY_IDS,
    KEY_ID_STATUS,
    STARTED,
    RELOADS,
    RELOADS_BEFORE,
    RELOADED_AT,
    LOOKS,
];

/// Where they are asked for. Kubernetes 1.37 answers these alone, older releases all 3 MB that they have.
pub(super) fn path() -> String {
    let names = KNOWN.map(|name| format!("name%5B%5D={name}"));
    format!("/metrics?{}", names.join("&"))
}

/// One answer of one process.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Metrics {
    /// Which process answered, and how often it has changed what it runs with.
    pub(crate) process: Process,
    /// The SHA-256, in hex, of the EncryptionConfiguration that it has loaded; `None` before
    /// Kubernetes 1.34, and where no file is configured.
    pub(crate) loaded_config: Option<String>,
    /// The hash of the server's id, `sha256:` and all.
    pub(crate) identity: Option<String>,
    /// How often it has looked whether its file is another; `None` where it does not do that by itself.
    pub(crate) looks: Option<u64>,
    /// Files that it looked at and did not load.
    pub(crate) failed_reloads: u64,
    /// When it last loaded one, as it says it.
    reloaded_at: Option<String>,
    /// Values that were read without an error, by resource and prefix. Before Kubernetes 1.32 of no
    /// resource.
    reads: BTreeMap<(Option<String>, String), u64>,
    /// Values that were read, by KMS v2 provider and hash of the key_id.
    key_ids: BTreeMap<(String, String), u64>,
    /// The hash of the key_id that each KMS v2 plugin's Status gave last.
    pub(crate) current_key_ids: BTreeMap<String, String>,
}

/// A server that is another, or has loaded another file, is not equal to what it was.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Process {
    /// As it says it.
    started: String,
    /// Files that it loaded since.
    reloads: u64,
}

impl Process {
    #[cfg(test)]
    pub(crate) fn of(started: &str, reloads: u64) -> Self {
        Self {
            started: started.into(),
            reloads,
        }
    }

    /// When it began, in seconds since 1970.
    pub(crate) fn start(&self) -> Option<f64> {
        self.started.parse().ok()
    }

    /// The same process has loaded another file than it had then.
    pub(crate) fn reloaded_since(&self, then: &Self) -> bool {
        !self.started.is_empty() && self.started == then.started && self.reloads > then.reloads
    }

    /// It is another process.
    pub(crate) fn restarted_since(&self, then: &Self) -> bool {
        let known = [self, then].iter().all(|it| !it.started.is_empty());
        known && self.started != then.started
    }
}

impl Metrics {
    #[cfg(test)]
    pub(crate) fn of(loaded: Option<&str>, process: Process) -> Self {
        Self {
            loaded_config: loaded.map(Into::into),
            process,
            ..Self::default()
        }
    }

    /// Reads Prometheus' text format. What is not understood is passed over.
    pub(crate) fn parse(text: &str) -> Self {
        let mut metrics = Self::default();
        let mut asked = BTreeMap::new();
        for line in text.lines() {
            let Some((name, sample)) = Sample::of_interest(line) else {
                continue;
            };
            match name {
                STARTED => metrics.process.started = sample.value.to_owned(),
                RELOADS if sample.label("status") != Some("success") => {
                    metrics.failed_reloads += sample.count();
                }
                LOOKS if sample.label("name") == Some(CONTROLLER) => {
                    metrics.looks = Some(sample.count());
                }
                LOOKS => {}
                RELOADED_AT if sample.label("status") == Some("success") => {
                    metrics.reloaded_at = Some(sample.value.to_owned());
                }
                RELOADED_AT => {}
                RELOADS | RELOADS_BEFORE => {
                    metrics.process.reloads = metrics.process.reloads.max(sample.count());
                }
                LOADED => metrics.note_config(&sample),
                TRANSFORMATIONS => metrics.note_read(sample),
                KEY_IDS => metrics.note_key_id(sample),
                _ => note_status(&mut asked, sample),
            }
        }
        let newest = asked
            .into_iter()
            .map(|(provider, (_, hash))| (provider, hash));
        metrics.current_key_ids = newest.collect();
        metrics
    }

    /// When it last loaded a file that had changed, in seconds since 1970.
    pub(crate) fn reloaded_at(&self) -> Option<f64> {
        self.reloaded_at.as_ref()?.parse().ok()
    }

    fn note_config(&mut self, sample: &Sample<'_>) {
        let hash = sample
            .label("hash")
            .and_then(|it| it.strip_prefix("sha256:"));
        let is_hex =
            |hash: &&str| hash.len() == 64 && hash.bytes().all(|it| it.is_ascii_hexdigit());
        if let (Some(hash), "1") = (hash.filter(is_hex), sample.value) {
            self.loaded_config = Some(hash.to_owned());
            self.identity = sample.label("apiserver_id_hash").map(str::to_owned);
        }
    }

    fn note_read(&mut self, mut sample: Sample<'_>) {
        if sample.label("transformation_type") != Some("from_storage")
            || sample.label("status") != Some("OK")
        {
            return;
        }
        let resource = sample.labels.remove("resource");
        if let Some(prefix) = sample.labels.remove("transformer_prefix") {
            *self.reads.entry((resource, prefix)).or_default() += sample.count();
        }
    }

    fn note_key_id(&mut self, mut sample: Sample<'_>) {
        if sample.label("transformation_type") != Some("from_storage") {
            return;
        }
        let provider = sample.labels.remove("provider_name");
        if let (Some(provider), Some(hash)) = (provider, sample.labels.remove("key_id_hash")) {
            *self.key_ids.entry((provider, hash)).or_default() += sample.count();
        }
    }

    /// What was read of a resource since an earlier answer; `None` where that was another process's.
    pub(crate) fn reads_since(&self, before: &Self, resource: &str) -> Option<Reads> {
        let started = &self.process.started;
        if started.is_empty() || *started != before.process.started {
            return None;
        }
        let of_it =
            |(of, _): &(Option<String>, String)| of.as_deref().is_none_or(|of| of == resource);
        let prefixes = moved(&before.reads, &self.reads)?;
        let prefixes = prefixes.filter(|(key, _)| of_it(key));
        let prefixes = prefixes.map(|((_, prefix), count)| (prefix, count));
        Some(Reads {
            prefixes: prefixes.collect(),
            key_ids: moved(&before.key_ids, &self.key_ids)?.collect(),
        })
    }
}

/// The counters that moved, and how far. A process's counters never go back; those of KMS v2 can be
/// dropped, beyond a hundred of them.
fn moved<K: Clone + Ord>(
    before: &BTreeMap<K, u64>,
    after: &BTreeMap<K, u64>,
) -> Option<impl Iterator<Item = (K, u64)>> {
    let is_there = |(key, count): (&K, &u64)| after.get(key).is_some_and(|it| it >= count);
    before.iter().all(is_there).then(|| {
        let moved = after.iter().filter_map(|(key, count)| {
            let by = count - before.get(key).copied().unwrap_or_default();
            (by > 0).then(|| (key.clone(), by))
        });
        moved.collect::<Vec<_>>().into_iter()
    })
}

fn note_status(newest: &mut BTreeMap<String, (f64, String)>, mut sample: Sample<'_>) {
    let provider = sample.labels.remove("provider_name");
    let hash = sample.labels.remove("key_id_hash");
    let (Some(provider), Some(hash), Ok(time)) = (provider, hash, sample.value.parse::<f64>())
    else {
        return;
    };
    let is_newer = newest.get(&provider).is_none_or(|(last, _)| time > *last);
    if is_newer {
        newest.insert(provider, (time, hash));
    }
}

/// A line of the text format: a name, labels in braces, a value.
#[derive(Debug, PartialEq)]
struct Sample<'t> {
    labels: BTreeMap<&'t str, String>,
    value: &'t str,
}

impl<'t> Sample<'t> {
    fn of_interest(line: &'t str) -> Option<(&'t str, Self)> {
        let end = line.find(['{', ' '])?;
        let (name, rest) = line.split_at(end);
        if !KNOWN.contains(&name) {
            return None;
        }
        let mut labels = BTreeMap::new();
        let mut rest = rest.strip_prefix('{').unwrap_or(rest);
        while let Some((label, quoted)) = rest.split_once("=\"") {
            let (value, behind) = unquote(quoted)?;
            labels.insert(label.trim_start_matches(','), value);
            rest = behind;
        }
        let value = rest.trim_start_matches('}').trim().split(' ').next()?;
        Some((name, Self { labels, value }))
    }

    fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }

    /// Large ones are written as `1.234567e+06`.
    fn count(&self) -> u64 {
        self.value.parse::<f64>().map_or(0, |count| count as u64)
    }
}

/// The text up to the quote that ends it, and what follows. `\\`, `\"` and `\n` are escaped.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut text = String::new();
    let mut scalars = quoted.char_indices();
    while let Some((at, scalar)) = scalars.next() {
        match scalar {
            '"' => return Some((text, &quoted[at + 1..])),
            '\\' => match scalars.next()?.1 {
                'n' => text.push('\n'),
                escaped => text.push(escaped),
            },
            scalar => text.push(scalar),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(resource: &str, prefix: &str, count: &str) -> String {
        format!(
            "{TRANSFORMATIONS}{{resource=\"{resource}\",status=\"OK\",\
             transformation_type=\"from_storage\",transformer_prefix=\"{prefix}\"}} {count}\n"
        )
    }

    fn metrics(lines: &[String]) -> Metrics {
        Metrics::parse(&format!("{STARTED} 1.7e+09\n{}", lines.concat()))
    }

    #[test]
    fn the_loaded_hash_is_read() {
        let line = |hash: &str| {
            format!("{LOADED}{{apiserver_id_hash=\"sha256:aa\",hash=\"sha256:{hash}\"}} 1\n")
        };
        let hash = "c638".repeat(16);
        let loaded = |hash: &str| Metrics::parse(&line(hash)).loaded_config;
        assert_eq!(loaded(&hash), Some(hash.clone()));
        assert_eq!(loaded(&hash.replace("c638", "\u{e9}638")), None);
        assert_eq!(Metrics::parse("# TYPE x gauge\nup 1\n").loaded_config, None);
    }

    #[test]
    fn a_process_that_loaded_another_file_is_another() {
        let line = |status: &str, count: u32| {
            format!("{RELOADS}{{apiserver_id_hash=\"sha256:aa\",status=\"{status}\"}} {count}\n")
        };
        let process = |success, failure| {
            metrics(&[line("success", success), line("failure", failure)]).process
        };
        assert_eq!(process(1, 0), process(1, 5));
        assert_ne!(process(1, 0), process(2, 0));
        assert_ne!(process(0, 0), Metrics::default().process);
    }

    #[test]
    fn only_what_moved_of_the_resource_is_given() {
        let before = metrics(&[
            read("secrets", "new:", "1.000001e+06"),
            read("secrets", "old:", "5"),
            read("configmaps", "new:", "7"),
        ]);
        let after = metrics(&[
            read("secrets", "new:", "1.000011e+06"),
            read("secrets", "old:", "5"),
            read("secrets", "a\\\"b\\\\c:", "2"),
            read("configmaps", "new:", "9"),
        ]);
        let reads = after.reads_since(&before, "secrets").unwrap();
        let expected = [("a\"b\\c:".to_owned(), 2), ("new:".to_owned(), 10)];
        assert_eq!(reads.prefixes, expected.into());
    }

    #[test]
    fn failures_and_writes_are_not_reads() {
        let line = read("secrets", "new:", "3");
        let others = [
            line.replace("from_storage", "to_storage"),
            line.replace("\"OK\"", "\"Unknown\""),
        ];
        let reads = metrics(&others).reads_since(&metrics(&[]), "secrets");
        assert_eq!(reads, Some(Reads::default()));
        let of_old = line.replace("resource=\"secrets\",", "");
        let reads = metrics(&[of_old]).reads_since(&metrics(&[]), "secrets");
        assert_eq!(reads.unwrap().prefixes.len(), 1, "before 1.32");
    }

    #[test]
    fn another_process_says_nothing() {
        let before = metrics(&[read("secrets", "new:", "3")]);
        let restarted = Metrics {
            process: Process {
                started: "1.8e+09".into(),
                reloads: 0,
            },
            ..before.clone()
        };
        assert_eq!(restarted.reads_since(&before, "secrets"), None);
        assert_eq!(metrics(&[]).reads_since(&before, "secrets"), None);
        let less = metrics(&[read("secrets", "new:", "2")]);
        assert_eq!(less.reads_since(&before, "secrets"), None);
        let unknown = Metrics::parse(&read("secrets", "new:", "3"));
        assert_eq!(unknown.reads_since(&unknown, "secrets"), None);
    }

    #[test]
    fn the_newest_status_is_the_current_key_id() {
        let status = |hash: &str, time: &str| {
            format!(
                "{KEY_ID_STATUS}{{apiserver_id_hash=\"x\",key_id_hash=\"{hash}\",provider_name=\"plug\"}} {time}\n"
            )
        };
        let text = [
            status("sha256:a", "1.7955e+09"),
            status("sha256:b", "1.7956e+09"),
            status("sha256:c", "1.7954e+09"),
        ];
        let current = metrics(&text).current_key_ids;
        assert_eq!(current, [("plug".to_owned(), "sha256:b".to_owned())].into());
    }

    #[test]
    fn garbage_is_passed_over() {
        for line in [
            format!("{TRANSFORMATIONS}{{"),
            format!("{TRANSFORMATIONS}{{status=\"OK"),
            format!("{TRANSFORMATIONS}{{status=\"OK\"}}"),
            format!("{TRANSFORMATIONS} x"),
            format!("{KEY_IDS}{{a=\"\\"),
        ] {
            assert_eq!(Metrics::parse(&line), Metrics::default(), "{line}");
        }
    }
}
