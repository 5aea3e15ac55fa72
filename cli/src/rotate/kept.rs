//! Stored bytes of single values, kept as they are before anything is done that they may be missed for.

use std::io::ErrorKind;

use atrest_core::secret::Fingerprint;
use atrest_proto::mvccpb::KeyValue;
use serde::{Deserialize, Serialize};

use super::journal::Journal;
use crate::report::verify::{escape, name_of};
use crate::status::Failure;

/// A value that is kept, and where.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Kept {
    /// etcd's.
    pub(crate) key: String,
    pub(crate) mod_revision: i64,
    /// As in `atrest/verify/v1`.
    pub(crate) provider: String,
    /// The name of the key that wrote it, or the key_id.
    pub(crate) key_name: Option<String>,
    /// With the value's bytes as they stand in etcd, and nothing else.
    pub(crate) file: String,
    /// Of that file.
    pub(crate) sha256: String,
}

impl Kept {
    /// Puts a value on disk, in a directory of the run beside its journal, mode 0600. One that is there
    /// already is left.
    pub(super) fn keep(
        journal: &Journal,
        value: &KeyValue,
        (provider, key_name): (String, Option<String>),
    ) -> Result<Self, Failure> {
        let full = |error: atrest_files::Error| {
            Failure::stopped(error)
                .hint("nothing was done to the value; make room, then atrest rotate resume")
        };
        let directory = journal.beside(".kept");
        atrest_files::create_private_directory(&directory).map_err(full)?;
        let of_key = Fingerprint::of(&value.key);
        let name = format!("{}-{}", value.mod_revision, of_key.short(16));
        let path = directory.join(name);
        let sha256 = Fingerprint::of(&value.value);
        match atrest_files::read(&path) {
            Ok(there) if there.fingerprint() == sha256 => {}
            Err(error) if error.kind() == Some(ErrorKind::NotFound) => {
                atrest_files::create(&path, &value.value).map_err(full)?;
            }
            Ok(_) => {
                return Err(Failure::stopped(format!(
                    "{} holds something else than it should",
                    path.display()
                ))
                .hint("put it elsewhere, then atrest rotate resume"));
            }
            Err(error) => return Err(full(error)),
        }
        Ok(Self {
            key: String::from_utf8_lossy(&value.key).into_owned(),
            mod_revision: value.mod_revision,
            provider,
            key_name,
            file: path.display().to_string(),
            sha256: sha256.to_string(),
        })
    }

    /// For people, without a secret.
    pub(super) fn text(&self) -> String {
        let Self {
            key,
            mod_revision,
            file,
            ..
        } = self;
        let by = named(&self.provider, self.key_name.as_deref());
        format!(
            "{} ({by}, revision {mod_revision}), kept in {file}",
            escape(key)
        )
    }
}

/// A provider and its key.
pub(super) fn named(provider: &str, key: Option<&str>) -> String {
    format!("{} {}", escape(provider), name_of(key))
}
