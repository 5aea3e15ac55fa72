//! The connections that are served: of peers who may call, and no more than there is room for.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep};
use tokio_stream::Stream;
use tracing::warn;

use super::connection::Connection;
use super::peer::Peers;

/// kube-apiserver has one for each provider that names the socket, and two while it loads its
/// configuration again.
pub(super) const CONNECTIONS: usize = 64;

/// How long nothing is accepted after the kernel refused: descriptors or memory ran out, and come back
/// only when something else ends.
const PAUSE: Duration = Duration::from_millis(100);

/// How often who is refused is logged, so that nobody can fill the disk with it.
const QUIET: Duration = Duration::from_secs(1);

/// Accepts.
#[derive(Debug)]
pub(super) struct Incoming {
    listener: UnixListener,
    peers: Peers,
    room: Arc<Semaphore>,
    pause: Option<Pin<Box<Sleep>>>,
    refusals: Refusals,
}

impl Incoming {
    pub(super) fn new(listener: UnixListener, peers: Peers) -> Self {
        Self {
            listener,
            peers,
            room: Arc::new(Semaphore::new(CONNECTIONS)),
            pause: None,
            refusals: Refusals::default(),
        }
    }

    /// A connection, or none for one that is closed at once.
    fn admit(&mut self, stream: UnixStream) -> Option<Connection<UnixStream>> {
        match self.peers.check(&stream) {
            Ok(Ok(())) => {}
            Ok(Err(peer)) => {
                self.refusals
                    .log(&format!("{peer} is not allowed to call: see --allow-uid"));
                return None;
            }
            Err(error) => {
                self.refusals
                    .log(&format!("the kernel does not tell who it is: {error}"));
                return None;
            }
        }
        let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else {
            self.refusals
                .log(&format!("there are {CONNECTIONS} connections already"));
            return None;
        };
        Some(Connection::new(stream, room))
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection<UnixStream>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(pause) = &mut this.pause {
                ready!(pause.as_mut().poll(context));
                this.pause = None;
            }
            match ready!(this.listener.poll_accept(context)) {
                Ok((stream, _)) => {
                    if let Some(connection) = this.admit(stream) {
                        return Poll::Ready(Some(Ok(connection)));
                    }
                }
                Err(error) => {
                    this.refusals.log(&format!("cannot accept: {error}"));
                    this.pause = Some(Box::pin(tokio::time::sleep(PAUSE)));
                }
            }
        }
    }
}

/// Logs refusals, seldom, and counts the others.
#[derive(Debug, Default)]
struct Refusals {
    logged: Option<Instant>,
    since: u64,
}

impl Refusals {
    fn log(&mut self, reason: &str) {
        self.since += 1;
        if self.logged.is_some_and(|logged| logged.elapsed() < QUIET) {
            return;
        }
        warn!(reason, refused = self.since, "a connection was refused");
        self.logged = Some(Instant::now());
        self.since = 0;
    }
}
