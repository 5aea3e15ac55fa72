//! The connections that are served: of peers who may call, and no more than there is room for.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
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
pub(super) struct Incoming {
    listener: UnixListener,
    peers: Peers,
    room: Arc<Semaphore>,
    /// For the next connection.
    place: Option<OwnedSemaphorePermit>,
    /// Until one of the present connections ends.
    crowded: Option<Pin<Box<dyn Future<Output = OwnedSemaphorePermit> + Send>>>,
    /// When that was logged.
    told: Option<Instant>,
    pause: Option<Pin<Box<Sleep>>>,
    refusals: Refusals,
}

impl Incoming {
    pub(super) fn new(listener: UnixListener, peers: Peers) -> Self {
        Self {
            listener,
            peers,
            room: Arc::new(Semaphore::new(CONNECTIONS)),
            place: None,
            crowded: None,
            told: None,
            pause: None,
            refusals: Refusals::default(),
        }
    }

    /// Whether the peer may call.
    fn admit(&mut self, stream: &UnixStream) -> bool {
        match self.peers.check(stream) {
            Ok(Ok(_)) => return true,
            Ok(Err(peer)) => self
                .refusals
                .log(&format!("{peer} is not allowed to call: see --allow-uid")),
            Err(error) => self
                .refusals
                .log(&format!("the kernel does not tell who it is: {error}")),
        }
        false
    }

    /// Waits until there is room for one more: who connects meanwhile waits, too, and is not refused.
    fn poll_place(&mut self, context: &mut Context<'_>) -> Poll<OwnedSemaphorePermit> {
        if let Some(place) = self.place.take() {
            return Poll::Ready(place);
        }
        let room = &self.room;
        if self.crowded.is_none()
            && let Ok(place) = Arc::clone(room).try_acquire_owned()
        {
            return Poll::Ready(place);
        }
        let told = &mut self.told;
        let crowded = self.crowded.get_or_insert_with(|| {
            if told.is_none_or(|told| told.elapsed() >= QUIET) {
                warn!("there are {CONNECTIONS} connections: others wait until one of them ends");
                *told = Some(Instant::now());
            }
            let room = Arc::clone(room);
            Box::pin(async move {
                let place = room.acquire_owned().await;
                // It is never closed.
                place.expect("the semaphore is open")
            })
        });
        let place = ready!(crowded.as_mut().poll(context));
        self.crowded = None;
        Poll::Ready(place)
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
            let place = ready!(this.poll_place(context));
            let Poll::Ready(accepted) = this.listener.poll_accept(context) else {
                this.place = Some(place);
                return Poll::Pending;
            };
            match accepted {
                Ok((stream, _)) if this.admit(&stream) => {
                    return Poll::Ready(Some(Ok(Connection::new(stream, place))));
                }
                Ok(_) => {}
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
