//! Who may call: told by the kernel when a connection is made, and by nothing that the caller says.

use std::fmt;
use std::io;

use tokio::net::UnixStream;

/// The users and groups whose processes may call.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    uids: Vec<u32>,
    gids: Vec<u32>,
}

impl Peers {
    /// Without a word about it, root and the user that this process runs as; and the group that the
    /// socket is given to.
    pub(crate) fn new(uids: &[u32], gids: &[u32], socket_gid: Option<u32>) -> Self {
        if uids.is_empty() && gids.is_empty() {
            let own = rustix::process::geteuid().as_raw();
            return Self {
                uids: vec![0, own],
                gids: socket_gid.into_iter().collect(),
            };
        }
        Self {
            uids: uids.to_vec(),
            gids: gids.to_vec(),
        }
    }

    fn allow(&self, peer: &Peer) -> bool {
        self.uids.contains(&peer.uid) || self.gids.contains(&peer.gid)
    }

    /// Who is not allowed is the inner error.
    pub(crate) fn check(&self, stream: &UnixStream) -> io::Result<Result<Peer, Peer>> {
        let credentials = stream.peer_cred()?;
        let peer = Peer {
            uid: credentials.uid(),
            gid: credentials.gid(),
            pid: credentials.pid(),
        };
        Ok(if self.allow(&peer) {
            Ok(peer)
        } else {
            Err(peer)
        })
    }
}

/// The process that called connect(2), as it was then.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Peer {
    uid: u32,
    /// The effective one; supplementary groups are not told.
    gid: u32,
    pid: Option<i32>,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uid {}, gid {}", self.uid, self.gid)?;
        // None in another PID namespace.
        match self.pid {
            Some(pid) if pid != 0 => write!(f, ", pid {pid}"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(uid: u32, gid: u32) -> Peer {
        Peer {
            uid,
            gid,
            pid: None,
        }
    }

    #[test]
    fn r25_only_who_is_named_may_call() {
        let own = rustix::process::geteuid().as_raw();
        let other = own + 4242;
        let usual = Peers::new(&[], &[], None);
        assert!(usual.allow(&peer(own, other)) && usual.allow(&peer(0, other)));
        assert!(!usual.allow(&peer(other, own)));

        let shared = Peers::new(&[], &[], Some(70));
        assert!(shared.allow(&peer(other, 70)) && shared.allow(&peer(own, 1)));
        assert!(!shared.allow(&peer(other, 71)));

        // A list is the whole list.
        let listed = Peers::new(&[other], &[], Some(70));
        assert!(listed.allow(&peer(other, 1)));
        assert!(!listed.allow(&peer(own, 70)) && !listed.allow(&peer(0, 0)) || other == 0);
        let groups = Peers::new(&[], &[71], Some(70));
        assert!(groups.allow(&peer(other, 71)) && !groups.allow(&peer(0, 70)));
    }
}
