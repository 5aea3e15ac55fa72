//! The files of a machine below a directory: `/`, or where another machine's disk is.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use atrest_core::secret::SecretBytes;
use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::{Error, os, read_open};

/// A directory that stands for `/`. Paths and links in it, absolute ones too, never lead out of it.
#[derive(Debug)]
pub struct Root {
    directory: File,
    owner: u32,
}

/// A file that was read, with what was true of it when it was.
#[derive(Debug)]
pub struct Found {
    /// Its content.
    pub bytes: SecretBytes,
    /// Mode and owner.
    pub metadata: Metadata,
    /// `system.posix_acl_access`, where it has one.
    pub acl: Option<Vec<u8>>,
}

impl Root {
    /// Takes a directory for `/`.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let open = || {
            let directory = File::open(path)?;
            let metadata = directory.metadata()?;
            match metadata.is_dir() {
                true => Ok((directory, metadata.uid())),
                false => Err(io::Error::from(io::ErrorKind::NotADirectory)),
            }
        };
        let (directory, owner) = open().map_err(os("read", path))?;
        Ok(Self { directory, owner })
    }

    /// The id of the user whom the directory belongs to.
    pub fn owner(&self) -> u32 {
        self.owner
    }

    /// Reads a regular file, as [`super::read`] does.
    pub fn read(&self, path: &Path) -> Result<Found, Error> {
        // Opening a FIFO must not wait for a writer.
        let file = self
            .file(path, OFlags::RDONLY | OFlags::NONBLOCK)
            .map_err(os("read", path))?;
        let metadata = file.metadata().map_err(os("read", path))?;
        let acl = acl(&file).map_err(os("read the access control list of", path))?;
        let bytes = read_open(file, path)?;
        Ok(Found {
            bytes,
            metadata,
            acl,
        })
    }

    /// What is known of a directory or file without reading it.
    pub fn metadata(&self, path: &Path) -> Result<Metadata, Error> {
        self.file(path, OFlags::PATH)
            .and_then(|file| file.metadata())
            .map_err(os("look at", path))
    }

    /// The names in a directory, in order.
    pub fn names(&self, path: &Path) -> Result<Vec<PathBuf>, Error> {
        let entries = || {
            let directory = self.file(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
            let mut names = Vec::new();
            for entry in rustix::fs::Dir::read_from(&directory)? {
                let entry = entry?;
                let name = entry.file_name().to_bytes();
                if name != b"." && name != b".." {
                    use std::os::unix::ffi::OsStrExt;
                    names.push(PathBuf::from(std::ffi::OsStr::from_bytes(name)));
                }
            }
            names.sort();
            Ok::<_, io::Error>(names)
        };
        entries().map_err(os("list", path))
    }

    fn file(&self, path: &Path, flags: OFlags) -> io::Result<File> {
        let path = path.strip_prefix("/").unwrap_or(path);
        let path = if path == Path::new("") {
            Path::new(".")
        } else {
            path
        };
        let file = rustix::fs::openat2(
            &self.directory,
            path,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            // Links of /proc lead out of any directory.
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        )?;
        Ok(File::from(file))
    }
}

/// The names in a directory of this machine, in order.
pub fn names(path: &Path) -> Result<Vec<PathBuf>, Error> {
    Root::open(path)?.names(Path::new(""))
}

/// Reads a file of `/proc`, whose length is not known before.
pub fn read_pseudo(path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(super::MAX_SIZE).read_to_end(&mut bytes))
        .map_err(os("read", path))?;
    Ok(bytes)
}

/// `None` where the file has none, or its file system knows none.
fn acl(file: &File) -> io::Result<Option<Vec<u8>>> {
    use rustix::io::Errno;

    /// The kernel gives no attribute that is longer.
    const LONGEST: usize = 65_536;

    let mut value = vec![0; LONGEST];
    match rustix::fs::fgetxattr(file, "system.posix_acl_access", &mut value[..]) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
