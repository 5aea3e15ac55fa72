//! Reads files with errors that name them, and replaces them whole or not at all (promise I5).
#![forbid(unsafe_code)]

mod root;

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use atrest_core::secret::{Fingerprint, SecretBytes};
use rustix::fs::{AtFlags, CWD, Gid, Mode, RenameFlags, Uid, XattrFlags};

pub use self::root::{Found, Root, names, read_pseudo};

/// Larger than any configuration, keyring or kubeconfig; a device or a mistake is refused.
pub const MAX_SIZE: u64 = 16 << 20;

/// Why a file could not be read or written. Its text names the file and never its content.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system said no.
    #[error("cannot {act} {path}: {source}")]
    Os {
        /// `read`, `create`, ...
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Not a regular file, or more than [`MAX_SIZE`] bytes.
    #[error("cannot read {path}: {reason}")]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        reason: &'static str,
    },
    /// The path is, or goes through, a symbolic link that a rename would cut off from its target.
    #[error(
        "refusing to replace {path}: it is a symbolic link to {target}; replacing it would leave the \
         target as it is"
    )]
    Symlink {
        /// The link.
        path: PathBuf,
        /// Where it points.
        target: PathBuf,
    },
    /// The file lies in a directory that the kubelet or a ConfigMap volume manages.
    #[error(
        "refusing to replace {path}: its directory is a `..data` volume, which is replaced as a whole"
    )]
    DataVolume {
        /// The file.
        path: PathBuf,
    },
    /// Somebody else changed the file since it was read.
    #[error("{path} changed since it was read")]
    Changed {
        /// The file.
        path: PathBuf,
    },
}

impl Error {
    /// What the operating system said, if it was it.
    pub fn kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Os { source, .. } => Some(source.kind()),
            _ => None,
        }
    }
}

fn os<'a>(act: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::Os {
        act,
        path: path.to_owned(),
        source,
    }
}

/// Reads a regular file of at most [`MAX_SIZE`] bytes into memory that is zeroized.
pub fn read(path: &Path) -> Result<SecretBytes, Error> {
    let file = OpenOptions::new()
        .read(true)
        // Opening a FIFO must not wait for a writer.
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
        .open(path)
        .map_err(os("read", path))?;
    read_open(file, path)
}

fn read_open(mut file: File, path: &Path) -> Result<SecretBytes, Error> {
    let unfit = |reason| Error::Unfit {
        path: path.to_owned(),
        reason,
    };
    let metadata = file.metadata().map_err(os("read", path))?;
    if metadata.is_dir() {
        return Err(unfit("it is a directory"));
    }
    if !metadata.is_file() {
        return Err(unfit("it is not a regular file"));
    }
    if metadata.len() > MAX_SIZE {
        return Err(unfit("it has more than 16 MiB"));
    }
    // One allocation, or what a growing Vec leaves behind would not be zeroized.
    let mut bytes = Vec::with_capacity(metadata.len() as usize + 1);
    (&mut file)
        .take(bytes.capacity() as u64)
        .read_to_end(&mut bytes)
        .map_err(os("read", path))?;
    let bytes = SecretBytes::new(bytes);
    if bytes.len() as u64 > metadata.len() {
        return Err(Error::Changed {
            path: path.to_owned(),
        });
    }
    Ok(bytes)
}

/// Creates a file of mode 0600 that did not exist, whole or not at all, and returns after it is on
/// disk. A file that exists is an error and stays as it is.
pub fn create(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let temporary = temporary_path(path);
    let result = write_temporary(&temporary, path, None, bytes).and_then(|()| {
        rustix::fs::renameat_with(CWD, &temporary, CWD, path, RenameFlags::NOREPLACE)
            .map_err(|error| os("create", path)(error.into()))?;
        sync_parent(path)
    });
    if result.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    result
}

/// Replaces a file by way of a dot-temporary in its directory, so that a reader sees the old
/// content or the new one. Mode, owner and extended attributes (SELinux label, ACL) are those of
/// the old file; a file that did not exist gets mode 0600.
///
/// `expected` is the fingerprint of the content that the caller read before; `None` for a file
/// that must not exist.
pub fn replace(path: &Path, bytes: &[u8], expected: Option<Fingerprint>) -> Result<(), Error> {
    refuse_links(path)?;
    let old = match std::fs::symlink_metadata(path) {
        Ok(metadata) => Some(metadata),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(os("read", path)(error)),
    };
    check_content(path, expected)?;

    let temporary = temporary_path(path);
    let result = write_temporary(&temporary, path, old.as_ref(), bytes).and_then(|()| {
        // Looked at once more: the window that is left is that of rename itself.
        check_content(path, expected)?;
        rustix::fs::rename(&temporary, path).map_err(|error| os("replace", path)(error.into()))?;
        sync_parent(path)
    });
    if result.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    result
}

/// Takes a file away from all but its owner: mode 0600.
pub fn restrict(path: &Path) -> Result<(), Error> {
    refuse_links(path)?;
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits() as i32)
        .open(path)
        .map_err(os("read", path))?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(0o600))
        .map_err(std::io::Error::from)
        .and_then(|()| file.sync_all())
        .map_err(os("restrict", path))
}

/// Removes the dot-temporary that a killed [`replace`] of this path left behind.
pub fn remove_leftover(path: &Path) -> Result<(), Error> {
    let temporary = temporary_path(path);
    match std::fs::remove_file(&temporary) {
        Ok(()) => sync_parent(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(os("remove", &temporary)(error)),
    }
}

/// Creates a directory of mode 0700, and its parents, where there is none.
pub fn create_private_directory(path: &Path) -> Result<(), Error> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(os("create", path))
}

/// Makes sure that a directory's entries are on disk.
pub fn sync_parent(path: &Path) -> Result<(), Error> {
    let parent = parent(path);
    File::open(parent)
        .and_then(|directory| directory.sync_all())
        .map_err(os("sync", parent))
}

/// A file of mode 0600 that is written piece by piece, too large for memory, and appears whole or not at
/// all. Until [`Creation::finish`] it is a dot-temporary, which goes when this is dropped.
#[derive(Debug)]
pub struct Creation {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
    is_done: bool,
}

impl Creation {
    /// Begins a file that does not exist; what a killed run left of it is ours by its name.
    pub fn begin(path: &Path) -> Result<Self, Error> {
        let temporary = temporary_path(path);
        let _ = std::fs::remove_file(&temporary);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(os("create", &temporary))?;
        Ok(Self {
            path: path.to_owned(),
            temporary,
            file,
            is_done: false,
        })
    }

    /// Writes a piece.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file
            .write_all(bytes)
            .map_err(os("write", &self.temporary))
    }

    /// Returns after the file is on disk under its name.
    pub fn finish(mut self) -> Result<(), Error> {
        self.file.sync_all().map_err(os("write", &self.temporary))?;
        rustix::fs::renameat_with(
            CWD,
            &self.temporary,
            CWD,
            &self.path,
            RenameFlags::NOREPLACE,
        )
        .map_err(|error| os("create", &self.path)(error.into()))?;
        self.is_done = true;
        sync_parent(&self.path)
    }
}

impl Drop for Creation {
    fn drop(&mut self) {
        if !self.is_done {
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// Removes a file that is ours. One that is not there is no error.
pub fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Ok(()) => sync_parent(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(os("remove", path)(error)),
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

fn temporary_path(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".atrest-new");
    path.with_file_name(name)
}

fn check_content(path: &Path, expected: Option<Fingerprint>) -> Result<(), Error> {
    let current = match read(path) {
        Ok(bytes) => Some(bytes.fingerprint()),
        Err(error) if error.kind() == Some(io::ErrorKind::NotFound) => None,
        Err(error) => return Err(error),
    };
    if current == expected {
        return Ok(());
    }
    Err(Error::Changed {
        path: path.to_owned(),
    })
}

fn refuse_links(path: &Path) -> Result<(), Error> {
    if let Ok(target) = std::fs::read_link(path) {
        let in_volume = target
            .components()
            .any(|part| part == Component::Normal("..data".as_ref()));
        return Err(if in_volume {
            Error::DataVolume {
                path: path.to_owned(),
            }
        } else {
            Error::Symlink {
                path: path.to_owned(),
                target,
            }
        });
    }
    Ok(())
}

fn write_temporary(
    temporary: &Path,
    path: &Path,
    old: Option<&std::fs::Metadata>,
    bytes: &[u8],
) -> Result<(), Error> {
    let failed = |error: rustix::io::Errno| os("write", temporary)(error.into());
    // What a killed run left behind is ours by its name.
    let _ = std::fs::remove_file(temporary);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(temporary)
        .map_err(os("create", temporary))?;
    // Whoever may read the old file may read the new one, nobody else, and before there are bytes.
    if let Some(old) = old {
        let created = file.metadata().map_err(os("write", temporary))?;
        if (created.uid(), created.gid()) != (old.uid(), old.gid()) {
            rustix::fs::chownat(
                CWD,
                temporary,
                Some(Uid::from_raw(old.uid())),
                Some(Gid::from_raw(old.gid())),
                AtFlags::SYMLINK_NOFOLLOW,
            )
            .map_err(failed)?;
        }
        rustix::fs::fchmod(&file, Mode::from_raw_mode(old.mode() & 0o7777)).map_err(failed)?;
        copy_attributes(path, &file).map_err(failed)?;
    }
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(os("write", temporary))
}

/// Extended attributes hold the SELinux label and the ACL.
fn copy_attributes(from: &Path, to: &File) -> rustix::io::Result<()> {
    const ROOM: usize = 64 << 10; // the kernel's own limit of both list and value
    let mut names = vec![0_u8; ROOM];
    let length = match rustix::fs::llistxattr(from, &mut names[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(()),
        Err(error) => return Err(error),
    };
    for name in names[..length].split(|byte| *byte == 0) {
        let Ok(name) = CString::new(name) else {
            continue;
        };
        if name.is_empty() {
            continue;
        }
        let mut value = vec![0_u8; ROOM];
        let size = rustix::fs::lgetxattr(from, &name, &mut value[..])?;
        rustix::fs::fsetxattr(to, &name, &value[..size], XattrFlags::empty())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn entries(folder: &Path) -> usize {
        std::fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn replaces_and_keeps_the_mode() {
        let folder = folder();
        let path = folder.path().join("config.yaml");
        create(&path, b"old").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        replace(&path, b"new", Some(Fingerprint::of(b"old"))).unwrap();
        assert_eq!(read(&path).unwrap().expose(), b"new");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(entries(folder.path()), 1);
    }

    #[test]
    fn a_new_file_is_private() {
        let folder = folder();
        let path = folder.path().join("config.yaml");
        replace(&path, b"new", None).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    }

    #[test]
    fn a_file_is_its_owners_alone() {
        let folder = folder();
        let path = folder.path().join("config.yaml");
        create(&path, b"old").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        restrict(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        let link = folder.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(matches!(restrict(&link), Err(Error::Symlink { .. })));
    }

    #[test]
    fn a_file_that_changed_is_left_alone() {
        let folder = folder();
        let path = folder.path().join("config.yaml");
        create(&path, b"theirs").unwrap();
        let result = replace(&path, b"ours", Some(Fingerprint::of(b"old")));
        assert!(matches!(result, Err(Error::Changed { .. })));
        assert!(matches!(
            replace(&path, b"ours", None),
            Err(Error::Changed { .. })
        ));
        assert_eq!(read(&path).unwrap().expose(), b"theirs");
        assert_eq!(entries(folder.path()), 1);
    }

    #[test]
    fn links_are_refused_with_the_reason() {
        let folder = folder();
        let target = folder.path().join("target");
        create(&target, b"old").unwrap();
        let link = folder.path().join("link");
        symlink(&target, &link).unwrap();
        let result = replace(&link, b"new", Some(Fingerprint::of(b"old")));
        assert!(matches!(result, Err(Error::Symlink { .. })));
        let volume = folder.path().join("volume");
        symlink("..data/config.yaml", &volume).unwrap();
        assert!(matches!(
            replace(&volume, b"new", None),
            Err(Error::DataVolume { .. })
        ));
    }

    #[test]
    fn a_file_in_pieces_appears_at_its_end_or_not_at_all() {
        let folder = folder();
        let path = folder.path().join("snapshot.db");
        let mut broken_off = Creation::begin(&path).unwrap();
        broken_off.append(b"half").unwrap();
        assert_eq!((entries(folder.path()), path.exists()), (1, false));
        drop(broken_off);
        assert_eq!(entries(folder.path()), 0);
        // As SIGKILL leaves it.
        std::mem::forget(Creation::begin(&path).unwrap());
        let mut whole = Creation::begin(&path).unwrap();
        whole.append(b"one, ").unwrap();
        whole.append(b"two").unwrap();
        whole.finish().unwrap();
        assert_eq!(read(&path).unwrap().expose(), b"one, two");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        let mut second = Creation::begin(&path).unwrap();
        second.append(b"other").unwrap();
        assert!(second.finish().is_err());
        assert_eq!(read(&path).unwrap().expose(), b"one, two");
        assert_eq!(entries(folder.path()), 1);
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(entries(folder.path()), 0);
    }

    #[test]
    fn create_refuses_what_exists() {
        let folder = folder();
        let path = folder.path().join("key");
        create(&path, b"first").unwrap();
        let error = create(&path, b"second").unwrap_err();
        assert_eq!(error.kind(), Some(io::ErrorKind::AlreadyExists));
        assert_eq!(read(&path).unwrap().expose(), b"first");
    }

    #[test]
    fn what_is_no_regular_file_is_refused() {
        assert!(matches!(
            read(Path::new("/dev/zero")),
            Err(Error::Unfit { .. })
        ));
        assert!(matches!(read(Path::new("/")), Err(Error::Unfit { .. })));
    }
}
