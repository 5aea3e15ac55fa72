//! How it is known that an API server's process runs with its file.
//!
//! Since Kubernetes 1.34 it says the hash of the file. Before that a counter of reloads, which only moves
//! when another content was loaded, or a later start than the one that was seen with the new file in
//! place. That it is ready is no evidence.

use atrest_core::secret::Fingerprint;

use super::journal::Record;
use crate::cluster::{Metrics, Process};

/// The last time that a server's file was replaced, as the journal has it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Written {
    sha256: String,
    /// The process, from before the file was there.
    before: Option<Process>,
    /// The process, seen with the file in place: one that starts later has read it.
    placed: Option<Process>,
}

impl Written {
    pub(super) fn of(records: &[Record], name: &str) -> Option<Self> {
        let mut written: Option<Self> = None;
        for record in records {
            match record {
                Record::Write {
                    server,
                    sha256,
                    before,
                    ..
                } if server == name => {
                    written = Some(Self {
                        sha256: sha256.clone(),
                        before: before.clone(),
                        placed: None,
                    });
                }
                Record::Placed { server, process } if server == name => {
                    if let Some(written) = &mut written {
                        written.placed = Some(process.clone());
                    }
                }
                _ => {}
            }
        }
        written
    }

    /// Whether a look at the process with the file in place is still to be noted.
    pub(super) fn lacks_placed(&self, file: &Fingerprint, metrics: &Metrics) -> bool {
        metrics.loaded_config.is_none() && self.placed.is_none() && self.sha256 == file.to_string()
    }

    fn is_taken_up(&self, now: &Process) -> bool {
        let reloaded = self
            .before
            .as_ref()
            .is_some_and(|it| now.reloaded_since(it));
        let restarted = self
            .placed
            .as_ref()
            .is_some_and(|it| now.restarted_since(it));
        reloaded || restarted
    }
}

/// Whether the process runs with the file.
pub(super) fn has_loaded(file: &Fingerprint, metrics: &Metrics, written: Option<&Written>) -> bool {
    let file = file.to_string();
    match &metrics.loaded_config {
        Some(hash) => *hash == file,
        None => written.is_some_and(|it| it.sha256 == file && it.is_taken_up(&metrics.process)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(started: &str, reloads: u64) -> Process {
        Process::of(started, reloads)
    }

    fn metrics(loaded: Option<&str>, process: Process) -> Metrics {
        Metrics::of(loaded, process)
    }

    #[test]
    fn a_hash_decides_where_there_is_one() {
        let file = Fingerprint::of(b"file");
        let hash = file.to_string();
        let other = Fingerprint::of(b"other").to_string();
        let written = Written {
            sha256: hash.clone(),
            before: Some(process("1", 0)),
            placed: None,
        };
        let now = process("1", 1);
        assert!(has_loaded(&file, &metrics(Some(&hash), now.clone()), None));
        let seen = metrics(Some(&other), now);
        assert!(!has_loaded(&file, &seen, Some(&written)));
    }

    #[test]
    fn before_that_the_counter_or_a_later_start() {
        let file = Fingerprint::of(b"file");
        let written = Written {
            sha256: file.to_string(),
            before: Some(process("1", 3)),
            placed: None,
        };
        let placed = Written {
            placed: Some(process("1", 3)),
            ..written.clone()
        };
        for (written, now, loaded) in [
            (&written, process("1", 3), false),
            (&written, process("1", 4), true),
            // It may have started before the file was there.
            (&written, process("2", 0), false),
            (&placed, process("1", 3), false),
            (&placed, process("2", 0), true),
            // It says nothing of its start.
            (&placed, process("", 9), false),
        ] {
            let seen = metrics(None, now);
            assert_eq!(has_loaded(&file, &seen, Some(written)), loaded, "{seen:?}");
            assert!(!has_loaded(&file, &seen, None));
            let other = Fingerprint::of(b"edited by somebody");
            assert!(!has_loaded(&other, &seen, Some(written)));
        }
    }
}
