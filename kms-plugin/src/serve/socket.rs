//! The listening socket: born with its mode, never taken from somebody who lives, removed only
//! while it is ours.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, Gid, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tracing::info;

use crate::status::Failure;

const BACKLOG: i32 = 1024;

/// Listens at `path`, or at the abstract name behind an `@`; what is returned first has to live as
/// long. With a group the socket is for its processes, too.
pub(crate) fn listen(
    path: &Path,
    gid: Option<u32>,
) -> Result<(Option<Socket>, UnixListener), Failure> {
    let failed = |error: io::Error| {
        let failure = Failure::unusable(format!("cannot listen at {}: {error}", path.display()));
        match error.kind() {
            io::ErrorKind::NotFound => failure.hint("create its directory, for root alone"),
            io::ErrorKind::AddrInUse => live(path),
            _ => failure,
        }
    };
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )
    .map_err(|error| failed(error.into()))?;
    let ours = match path.as_os_str().as_bytes().strip_prefix(b"@") {
        Some(_) if gid.is_some() => {
            return Err(Failure::unusable("an abstract socket has no group")
                .hint("say who may call: --allow-gid"));
        }
        Some(name) => {
            let address =
                SocketAddrUnix::new_abstract_name(name).map_err(|error| failed(error.into()))?;
            rustix::net::bind(&socket, &address).map_err(|error| failed(error.into()))?;
            None
        }
        None => Some(Socket::bind(&socket, path, gid)?),
    };
    rustix::net::listen(&socket, BACKLOG).map_err(|error| failed(error.into()))?;
    Ok((ours, UnixListener::from(socket)))
}

/// Owns the socket's file until it is dropped.
#[derive(Debug)]
pub(crate) struct Socket {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
    /// Held as long as this lives. The file stays: who removed it could remove another's lock.
    _lock: File,
}

impl Socket {
    /// Makes the file. Until the socket listens nobody can connect, whatever the file's mode is.
    fn bind(socket: &OwnedFd, path: &Path, gid: Option<u32>) -> Result<Self, Failure> {
        let lock = lock(path)?;
        clear(path)?;
        let failed = |error: io::Error| {
            Failure::unusable(format!("cannot listen at {}: {error}", path.display()))
        };
        let mode = if gid.is_some() { 0o660 } else { 0o600 };
        let address = SocketAddrUnix::new(path).map_err(|error| failed(error.into()))?;
        let umask = rustix::process::umask(Mode::from_raw_mode(0o777 & !mode));
        let bound = rustix::net::bind(socket, &address);
        rustix::process::umask(umask);
        bound.map_err(|error| failed(error.into()))?;

        let file = rustix::fs::open(
            path,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map(File::from)
        .map_err(|error| failed(error.into()))?;
        let metadata = file.metadata().map_err(failed)?;
        // From here on every error removes the file.
        let ours = Self {
            path: path.to_owned(),
            identity: (metadata.dev(), metadata.ino()),
            _lock: lock,
        };
        // A default ACL of the directory takes the place of the umask.
        if metadata.mode() & 0o7777 != mode {
            return Err(Failure::unusable(format!(
                "the socket at {} was born with mode {:04o} instead of {mode:04o}",
                path.display(),
                metadata.mode() & 0o7777
            ))
            .hint("remove the default ACL from its directory: setfacl -k"));
        }
        if let Some(gid) = gid.filter(|gid| *gid != metadata.gid()) {
            let group = Some(Gid::from_raw(gid));
            rustix::fs::chownat(&file, "", None, group, AtFlags::EMPTY_PATH).map_err(|error| {
                Failure::unusable(format!(
                    "cannot give {} to group {gid}: {error}",
                    path.display()
                ))
                .hint("run as a member of the group, or let its directory give it: chmod g+s")
            })?;
        }
        Ok(ours)
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

/// Connects to a path, or to the abstract name behind an `@`.
pub(super) fn connect(path: &Path) -> io::Result<UnixStream> {
    match path.as_os_str().as_bytes().strip_prefix(b"@") {
        Some(name) => UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?),
        None => UnixStream::connect(path),
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
