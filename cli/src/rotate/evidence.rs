//! How it is known that an API server's process runs with its file.
//!
//! Since Kubernetes 1.34 it says the hash of the file. Before that a counter of reloads, which only moves
//! when another content was loaded, or a later start than the one that was seen with the new file in
//! place. That it is ready is no evidence.

use atrest_core::secret::Fingerprint;

use super::journal::Record;
use crate::cluster::{Metrics, Process};

/// The last time that a server's file was replaced or found to be another, as the journal has it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Written {
    sha256: String,
    /// The process, from before the file was there; where the run itself has written it.
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
                Record::Placed {
                    server,
                    process,
                    sha256,
                } if server == name => {
                    let is_another = |it: &&String| {
                        let known = written.as_ref().map(|written| &written.sha256);
                        known != Some(*it)
                    };
                    if let Some(sha256) = sha256.as_ref().filter(is_another) {
                        written = Some(Self {
                            sha256: sha256.clone(),
                            ..Self::default()
                        });
                    }
                    if let Some(written) = &mut written {
                        written.placed = Some(process.clone());
                    }
                }
                _ => {}
            }
        }
        written
    }

    /// Whether a look at the process with the file in place was noted.
    pub(super) fn is_placed(&self, file: &Fingerprint) -> bool {
        self.placed.is_some() && self.is_of(file)
    }

    /// Whether a reload of the process, as it is now, would tell that the file was loaded: the run itself has
    /// written it, and the process is the one from before.
    pub(super) fn is_counted(&self, file: &Fingerprint, now: Option<&Process>) -> bool {
        let is_the_same = |(before, now): (&Process, &Process)| !now.restarted_since(before);
        self.is_of(file) && self.before.as_ref().zip(now).is_some_and(is_the_same)
    }

    pub(super) fn is_of(&self, file: &Fingerprint) -> bool {
        self.sha256 == file.to_string()
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
    fn a_file_of_others_counts_from_a_later_start() {
        let [ours, theirs] = [b"ours".as_slice(), b"theirs"].map(Fingerprint::of);
        let placed = |file: &Fingerprint, at: Process| Record::Placed {
            server: "one".into(),
            process: at,
            sha256: Some(file.to_string()),
        };
        let mut records = vec![Record::Write {
            server: "one".into(),
            stage: "reads".into(),
            sha256: ours.to_string(),
            before: Some(process("1", 3)),
        }];
        let loaded = |records: &[Record], file: &Fingerprint, now: Process| {
            let written = Written::of(records, "one");
            has_loaded(file, &metrics(None, now), written.as_ref())
        };
        assert!(loaded(&records, &ours, process("1", 4)));
        records.push(placed(&theirs, process("1", 4)));
        assert!(!loaded(&records, &theirs, process("1", 5)));
        assert!(loaded(&records, &theirs, process("2", 0)));
        // Put back: the reload that was counted may have been of the other one.
        records.push(placed(&ours, process("1", 5)));
        assert!(!loaded(&records, &ours, process("1", 6)));
        assert!(loaded(&records, &ours, process("2", 0)));
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
