//! A listening socket that is not this process's own: `atrest-kms hold` or the service manager keeps
//! it, so that it is there while no plugin is. Whoever connects meanwhile waits, and is not refused.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, sockopt,
};
use tracing::info;

use super::socket;
use crate::status::Failure;

/// The byte that a descriptor comes with: there is no message without one.
const MESSAGE: &[u8] = b"L";

/// How long to wait for a holder that starts at the same time.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

/// Where the holder of a socket hands it over.
pub(crate) fn path(socket: &Path) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(".holder");
    path.into()
}

/// Hands the listening socket to whoever connected.
pub(crate) fn give(to: impl AsFd, listener: impl AsFd) -> io::Result<()> {
    let descriptors = [listener.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    rustix::net::sendmsg(
        to,
        &[IoSlice::new(MESSAGE)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Takes the listening socket from its holder.
pub(super) fn take(socket: &Path) -> Result<UnixListener, Failure> {
    let holder = path(socket);
    let started = Instant::now();
    let mut waited = false;
    let stream = loop {
        match socket::connect(&holder) {
            Ok(stream) => break stream,
            Err(error) if absent(&error) && started.elapsed() < PATIENCE => {
                if !waited {
                    info!(holder = %holder.display(), "waiting for who holds the socket");
                    waited = true;
                }
                std::thread::sleep(PAUSE);
            }
            Err(error) => {
                let failure =
                    Failure::unread(format!("nobody holds {}: {error}", socket.display()));
                return Err(failure.hint("start `atrest-kms hold` with the same --socket"));
            }
        }
    };
    receive(&stream)
        .map_err(|error| Failure::unread(format!("{} gives no socket: {error}", holder.display())))
}

fn absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

fn receive(stream: &UnixStream) -> io::Result<UnixListener> {
    // A socket of somebody else could be one at which kube-apiserver never calls.
    let holder = sockopt::socket_peercred(stream)?.uid;
    if !holder.is_root() && holder != rustix::process::geteuid() {
        return Err(io::Error::other(format!(
            "it is user {}'s",
            holder.as_raw()
        )));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut message = [0; MESSAGE.len()];
    stream.set_read_timeout(Some(PATIENCE))?;
    rustix::net::recvmsg(
        stream,
        &mut [IoSliceMut::new(&mut message)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message
            && let Some(descriptor) = descriptors.next()
        {
            return listening(descriptor);
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// Takes the one listening socket that the service manager passed (sd_listen_fds(3)).
pub(super) fn activated() -> Result<UnixListener, Failure> {
    let mut passed = listenfd::ListenFd::from_env();
    if passed.len() != 1 {
        let failure = Failure::unusable(format!(
            "the service manager passed {} sockets, not 1",
            passed.len()
        ));
        return Err(failure.hint("a .socket unit with one ListenStream= passes it"));
    }
    let cannot = |error: io::Error| {
        Failure::unusable(format!("what the service manager passed is unfit: {error}"))
    };
    match passed.take_unix_listener(0) {
        Ok(Some(listener)) => listening(listener.into()).map_err(cannot),
        Ok(None) => Err(cannot(io::ErrorKind::NotFound.into())),
        Err(error) => Err(cannot(error)),
    }
}

/// A socket that takes connections, which a stray descriptor is not.
fn listening(descriptor: OwnedFd) -> io::Result<UnixListener> {
    if sockopt::socket_domain(&descriptor)? != AddressFamily::UNIX
        || !sockopt::socket_acceptconn(&descriptor)?
    {
        return Err(io::Error::other("it is no unix socket that listens"));
    }
    rustix::io::fcntl_setfd(&descriptor, rustix::io::FdFlags::CLOEXEC)?;
    Ok(UnixListener::from(descriptor))
}
