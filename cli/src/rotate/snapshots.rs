//! Snapshots of etcd around a rotation: one that the old key reads, before anything has the new one, and
//! one that the new key alone reads, before the old one leaves. Each is opened and decrypted before it counts.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use atrest_core::at_rest::{Census, GroupResource, State};
use atrest_core::encryption_config::EncryptionConfiguration;
use atrest_core::rotation::Snapshot;
use atrest_core::secret::Fingerprint;
use atrest_files::Creation;
use sha2::{Digest, Sha256};

use super::manifest::{self, Entry};
use super::recipients::Recipients;
use crate::args::KmsSocket;
use crate::etcd::{self, Counted, Keyspace, Prover, Question, Waived, census_of_file};
use crate::kms;
use crate::report::progress::Progress;
use crate::report::verify::escape;
use crate::status::Failure;

/// Values that cannot be read, to name.
const NAMED: usize = 20;

/// A snapshot that is to be taken.
pub(super) struct Taking<'a> {
    pub(super) etcd: &'a mut etcd::Client,
    pub(super) prefix: &'a str,
    pub(super) dir: &'a Path,
    pub(super) run: &'a str,
    pub(super) which: Snapshot,
    /// That has to read it.
    pub(super) configuration: &'a EncryptionConfiguration,
    pub(super) resources: &'a [GroupResource],
    pub(super) sockets: &'a [KmsSocket],
    /// To whom it is encrypted, where it would hold plaintext.
    pub(super) recipients: Option<&'a Recipients>,
    /// What need not be readable in it.
    pub(super) waived: &'a Waived,
    /// What was just counted in etcd: of an encrypted one nothing else can be told.
    pub(super) counted: Counted,
    pub(super) quiet: bool,
}

/// One that was taken, and can be restored.
pub(super) struct Taken {
    pub(super) path: PathBuf,
    pub(super) sha256: Fingerprint,
    pub(super) revision: i64,
    pub(super) values: u64,
    /// Values in it that nothing encrypts, of resources that the configuration covers.
    pub(super) plaintext: u64,
}

/// Where it is.
fn path(dir: &Path, run: &str, which: Snapshot, is_encrypted: bool) -> PathBuf {
    let ending = if is_encrypted { "db.age" } else { "db" };
    dir.join(format!("{run}.{}.{ending}", which.name()))
}

impl Taking<'_> {
    /// Takes it, proves that it can be restored, and lists it. One that cannot be is removed.
    pub(super) async fn take(mut self) -> Result<Taken, Failure> {
        let path = path(self.dir, self.run, self.which, self.recipients.is_some());
        atrest_files::create_private_directory(self.dir).map_err(unwritten)?;
        // What a run left that was killed before it could say that it has one.
        atrest_files::remove(&path).map_err(unwritten)?;
        let sha256 = self.save(&path).await?;
        let rehearsed = match self.recipients {
            None => self.rehearse(&path).await.map(Some),
            Some(_) => Ok(None),
        };
        let counted = match rehearsed {
            Ok(counted) => counted,
            Err(failure) => {
                atrest_files::remove(&path).map_err(unwritten)?;
                return Err(failure);
            }
        };
        let counted = counted.as_ref().unwrap_or(&self.counted);
        let census = &counted.census;
        manifest::list(
            self.dir,
            Entry::new(
                self.run,
                self.which,
                &path,
                sha256,
                counted,
                self.configuration,
            ),
        )?;
        Ok(Taken {
            path,
            sha256,
            revision: counted.revision,
            values: self.covered(census).map(|it| it.total()).sum(),
            plaintext: census.count(State::Plaintext),
        })
    }

    async fn save(&mut self, path: &Path) -> Result<Fingerprint, Failure> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let progress = Progress::of_bytes(&name, self.quiet);
        let mut file = Digested {
            file: Creation::begin(path).map_err(unwritten)?,
            digest: Sha256::new(),
        };
        let file = match self.recipients {
            None => {
                let write = |piece: &[u8]| file.write_all(piece).map_err(unwritten);
                self.etcd.snapshot(&progress, write).await?;
                file
            }
            Some(recipients) => {
                let mut encrypted = recipients.writer(file).map_err(unwritten)?;
                let mut trailer = Trailer::default();
                let write = |piece: &[u8]| {
                    trailer.take(piece);
                    encrypted.write_all(piece).map_err(unwritten)
                };
                self.etcd.snapshot(&progress, write).await?;
                if !trailer.ends_right() {
                    return Err(
                        Failure::stopped("etcd's snapshot has another hash than it says")
                            .hint("nothing of it is kept; atrest rotate resume takes another one"),
                    );
                }
                encrypted.finish().map_err(unwritten)?
            }
        };
        file.file.finish().map_err(unwritten)?;
        Ok(Fingerprint::from(<[u8; 32]>::from(file.digest.finalize())))
    }

    /// Whether every value of the rotated resources can be read. The file's own hash is checked with it.
    async fn rehearse(&self, path: &Path) -> Result<Counted, Failure> {
        let key_ids = kms::key_ids(self.configuration, self.sockets).await;
        let question = Question {
            and_others: true,
            waived: self.waived,
            ..Question::of(
                self.prefix,
                self.resources,
                self.configuration,
                &key_ids,
                NAMED,
            )
        };
        let plugins = kms::Unwrapper::new(self.configuration, self.sockets, key_ids.clone());
        let prover = Prover::new(vec![(self.configuration, plugins)]);
        let keyspace = Keyspace::snapshot(path, self.quiet)?;
        let counted = census_of_file(keyspace, &question, Some(prover), false)?;
        let unreadable: u64 = self
            .covered(&counted.census)
            .map(|it| it.unreadable())
            .sum();
        let unread: u64 = self
            .covered(&counted.census)
            .map(|it| it.count(State::Unread))
            .sum();
        if unreadable + unread == 0 {
            return Ok(counted);
        }
        let with = match self.which {
            Snapshot::Before => "with the servers' keys",
            Snapshot::After => "with the new key alone",
        };
        let mut message = format!(
            "a snapshot of etcd could not be restored {with}: {unreadable} values cannot be read, and of \
             {unread} nothing is known"
        );
        for value in counted.census.unreadable_listed() {
            message += "\n  ";
            message += &escape(&String::from_utf8_lossy(&value.key));
        }
        Err(Failure::stopped(message).hint(
            "the snapshot is removed; mend what is named, then atrest rotate resume takes another one",
        ))
    }

    fn covered<'c>(
        &'c self,
        census: &'c Census,
    ) -> impl Iterator<Item = &'c atrest_core::at_rest::ResourceCensus> {
        let is_covered =
            |it: &&atrest_core::at_rest::ResourceCensus| self.resources.contains(&it.resource);
        census.resources.iter().filter(is_covered)
    }
}

/// A file and the hash of what is written to it.
struct Digested {
    file: Creation,
    digest: Sha256,
}

impl Write for Digested {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.append(bytes).map_err(io::Error::other)?;
        self.digest.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The hash at the end of a stream, and that of what is in front of it.
#[derive(Default)]
struct Trailer {
    digest: Sha256,
    last: Vec<u8>,
}

impl Trailer {
    const LENGTH: usize = 32;

    fn take(&mut self, piece: &[u8]) {
        self.last.extend_from_slice(piece);
        let before = self.last.len().saturating_sub(Self::LENGTH);
        self.digest.update(&self.last[..before]);
        self.last.drain(..before);
    }

    fn ends_right(self) -> bool {
        self.digest.finalize()[..] == self.last
    }
}

fn unwritten(error: impl std::fmt::Display) -> Failure {
    Failure::stopped(format!("the snapshot of etcd cannot be kept: {error}"))
        .hint("nothing half is left; make room in snapshots.dir, then atrest rotate resume")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trailer_is_told_however_the_stream_is_cut() {
        let content = b"a database, more or less";
        let whole = [&content[..], &Sha256::digest(content)].concat();
        let is_right = |bytes: &[u8], size| {
            let mut trailer = Trailer::default();
            bytes.chunks(size).for_each(|piece| trailer.take(piece));
            trailer.ends_right()
        };
        for size in 1..=whole.len() {
            assert!(is_right(&whole, size), "{size}");
            assert!(!is_right(&whole[1..], size));
            assert!(!is_right(&whole[..whole.len() - 1], size));
        }
        assert!(!is_right(&whole[..20], 7));
    }
}
