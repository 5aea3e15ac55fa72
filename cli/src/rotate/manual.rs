//! Servers whose files nobody but the operator gets to: what each has loaded tells its file, and the
//! operator is told from which server to copy the next one. No key is printed, or kept anywhere for it.

use std::path::Path;

use atrest_core::rotation::chain::Stage;

use super::journal::Record;
use super::settings::Server;
use super::stage_of;

/// The last file that the operator was asked to copy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Asked {
    pub(super) sha256: String,
    pub(super) stage: Stage,
}

impl Asked {
    /// Since the run last changed its direction.
    pub(super) fn of(records: &[Record], name: &str) -> Option<Self> {
        files(records)
            .filter(|(server, ..)| *server == name)
            .last()
            .map(|(_, stage, sha256)| Self {
                sha256: sha256.to_owned(),
                stage,
            })
    }
}

/// What a server's file is taken for, and whether its process runs with that. A file that nobody knows
/// is taken for one without the target, which is the least that it can be.
///
/// `reachable`: the other servers' files, by hash.
pub(super) fn facts(
    records: &[Record],
    name: &str,
    loaded: Option<&str>,
    reachable: &[(String, Stage)],
) -> (Stage, bool) {
    let asked = Asked::of(records, name);
    let Some(loaded) = loaded else {
        return (asked.map_or(Stage::Absent, |asked| asked.stage), false);
    };
    if let Some(asked) = asked {
        let is_there = || reachable.iter().any(|(sha256, _)| *sha256 == asked.sha256);
        if loaded == asked.sha256 || is_there() {
            return (asked.stage, loaded == asked.sha256);
        }
    }
    let of_another = reachable.iter().find(|(sha256, _)| sha256 == loaded);
    let of_the_run = || files(records).find(|(.., sha256)| *sha256 == loaded);
    let stage = of_another
        .map(|(_, stage)| *stage)
        .or_else(|| of_the_run().map(|(_, stage, _)| stage));
    (stage.unwrap_or(Stage::Absent), true)
}

/// The file to copy for a stage, by index: one of just this stage; else, for a server that fell behind,
/// one that also reads what the old key wrote.
pub(super) fn source(stage: Stage, reachable: &[(String, Stage)]) -> Option<usize> {
    let of = |stage| reachable.iter().position(|(_, there)| *there == stage);
    of(stage).or_else(|| (stage < Stage::Writes).then(|| of(Stage::Writes)).flatten())
}

/// What the operator is told.
pub(super) fn instruction(server: &Server, from: &Server, sha256: &str) -> String {
    let Server { name, file, .. } = server;
    let (source, file): (&Path, _) = (&from.file, file.display());
    format!(
        "{name}: copy {} of {} to {file} there, SHA-256 {sha256}: beside the old one under another name, \
         with its owner and mode, then rename it to {file}; restart the API server if it does not \
         reload by itself",
        source.display(),
        from.name,
    )
}

fn files(records: &[Record]) -> impl Iterator<Item = (&str, Stage, &str)> {
    let turned = records
        .iter()
        .rposition(|it| matches!(it, Record::RolledBack));
    records[turned.unwrap_or_default()..]
        .iter()
        .filter_map(|record| match record {
            Record::Write {
                server,
                stage,
                sha256,
                ..
            } => Some((server.as_str(), stage_of(stage)?, sha256.as_str())),
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(server: &str, stage: &str, sha256: &str) -> Record {
        Record::Write {
            server: server.into(),
            stage: stage.into(),
            sha256: sha256.into(),
            before: None,
        }
    }

    fn reachable(files: &[(&str, Stage)]) -> Vec<(String, Stage)> {
        files
            .iter()
            .map(|(it, stage)| ((*it).into(), *stage))
            .collect()
    }

    #[test]
    fn a_file_is_known_by_the_hash_that_was_loaded() {
        use Stage::{Absent, Reads, Writes};
        let asked = [write("cp1", "reads", "r"), write("cp3", "reads", "r")];
        let turned = [write("cp3", "reads", "r"), Record::RolledBack];
        let at_reads = reachable(&[("r", Reads)]);
        let at_writes = reachable(&[("w", Writes)]);
        for (records, loaded, others, facts_are) in [
            // Nothing was asked: it is as another one, or unknown.
            (
                &[][..],
                Some("a"),
                reachable(&[("a", Absent)]),
                (Absent, true),
            ),
            (&[], Some("a"), at_reads.clone(), (Absent, true)),
            (&[], None, at_reads.clone(), (Absent, false)),
            // It was asked for: it is waited for, whatever it still runs with.
            (&asked, Some("a"), at_reads.clone(), (Reads, false)),
            (&asked, None, at_writes.clone(), (Reads, false)),
            (&asked, Some("r"), at_reads.clone(), (Reads, true)),
            (&asked, Some("r"), at_writes.clone(), (Reads, true)),
            // What was asked for is nowhere any more: it fell behind.
            (&asked, Some("a"), at_writes.clone(), (Absent, true)),
            // Before the direction changed a stage meant another one.
            (&turned, Some("r"), at_writes, (Absent, true)),
        ] {
            let seen = facts(records, "cp3", loaded, &others);
            assert_eq!(seen, facts_are, "{records:?} {loaded:?} {others:?}");
        }
    }

    #[test]
    fn the_file_to_copy_never_lacks_a_key_that_the_server_wrote_with() {
        use Stage::{Only, Reads, Writes};
        let at = |stages: &[Stage]| {
            stages
                .iter()
                .map(|stage| (String::new(), *stage))
                .collect::<Vec<_>>()
        };
        assert_eq!(source(Reads, &at(&[Writes, Reads])), Some(1));
        assert_eq!(source(Reads, &at(&[Only, Writes])), Some(1));
        assert_eq!(source(Reads, &at(&[Only, Only])), None);
        assert_eq!(source(Writes, &at(&[Only, Only])), None);
        assert_eq!(source(Only, &at(&[Only])), Some(0));
    }
}
