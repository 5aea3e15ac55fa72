//! The listening socket: born with its mode, never taken from somebody who lives, removed only
//! while it is ours.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener as StdListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::UnixListener;
use tracing::info;

use crate::status::Failure;

const BACKLOG: i32 = 1024;

/// Owns the socket's file until it is dropped.
#[derive(Debug)]
pub(super) struct Socket {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
    /// Held as long as this lives. The file stays: who removed it could remove another's lock.
    _lock: File,
}

impl Socket {
    /// Listens at `path`. Expects the process's umask to be 0177.
    pub(super) fn bind(path: &Path) -> Result<(Self, UnixListener), Failure> {
        let lock = lock(path)?;
        clear(path)?;
        let failed = |error: io::Error| {
            let failure =
                Failure::unusable(format!("cannot listen at {}: {error}", path.display()));
            if error.kind() == io::ErrorKind::NotFound {
                failure.hint("create its directory, for root alone")
            } else {
                failure
            }
        };
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )
        .map_err(|error| failed(error.into()))?;
        let address = SocketAddrUnix::new(path).map_err(|error| failed(error.into()))?;
        rustix::net::bind(&socket, &address).map_err(|error| failed(error.into()))?;

        let metadata = std::fs::symlink_metadata(path).map_err(failed)?;
        // From here on every error removes the file.
        let ours = Self {
            path: path.to_owned(),
            identity: (metadata.dev(), metadata.ino()),
            _lock: lock,
        };
        // A default ACL of the directory takes the place of the umask. Nobody could connect so far.
        if metadata.mode() & 0o7777 != 0o600 {
            return Err(Failure::unusable(format!(
                "the socket at {} was born with mode {:04o} instead of 0600",
                path.display(),
                metadata.mode() & 0o7777
            ))
            .hint("remove the default ACL from its directory: setfacl -k"));
        }
        rustix::net::listen(&socket, BACKLOG).map_err(|error| failed(error.into()))?;
        let listener = UnixListener::from_std(StdListener::from(socket)).map_err(failed)?;
        Ok((ours, listener))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity);
        if ours {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Two instances that start at once must not both find the socket dead.
fn lock(socket: &Path) -> Result<File, Failure> {
    let mut path = socket.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
        .open(&path)
        .map_err(|error| {
            let failure = Failure::unusable(format!("cannot create {}: {error}", path.display()));
            if error.kind() == io::ErrorKind::NotFound {
                failure.hint("create the socket's directory, for root alone")
            } else {
                failure
            }
        })?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(live(socket)),
        Err(error) => Err(Failure::unusable(format!(
            "cannot lock {}: {error}",
            path.display()
        ))),
    }
}

/// Removes a socket that is proved dead, and nothing else.
fn clear(path: &Path) -> Result<(), Failure> {
    let failed =
        |error: io::Error| Failure::unusable(format!("cannot look at {}: {error}", path.display()));
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(Failure::unusable(format!(
            "there is something at {} that is not a socket",
            path.display()
        ))
        .hint("name another path, or remove what is there if nobody needs it"));
    }
    match UnixStream::connect(path) {
        // Only this says that no process listens: a full queue is refused with EAGAIN.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            info!(socket = %path.display(), "removing a socket that nobody listens at");
            std::fs::remove_file(path).map_err(failed)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(failed(error)),
        Ok(_) | Err(_) => Err(live(path)),
    }
}

fn live(path: &Path) -> Failure {
    Failure::unread(format!("another process serves at {}", path.display()))
        .hint("end it first, or name another socket")
}
