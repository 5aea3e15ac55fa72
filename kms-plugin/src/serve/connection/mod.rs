//! A connection to the socket, as the HTTP/2 server reads it.

mod authority;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tonic::transport::server::Connected;

use self::authority::Frames;

/// How long a client may take for its first bytes, the preface of HTTP/2. What it does later is under
/// the deadline of a call and the server's pings.
const GREETING: Duration = Duration::from_secs(10);

/// Passes everything on, but for `:authority`.
#[derive(Debug)]
pub(super) struct Connection<S> {
    stream: S,
    frames: Frames,
    /// What was read and not passed on yet.
    held: Vec<u8>,
    /// How many of these bytes can go on.
    ready: usize,
    /// Until the client has greeted.
    greeting: Option<Pin<Box<Sleep>>>,
    /// One of the connections that there is room for.
    _room: OwnedSemaphorePermit,
}

impl<S> Connection<S> {
    pub(super) fn new(stream: S, room: OwnedSemaphorePermit) -> Self {
        Self {
            stream,
            frames: Frames::new(),
            held: Vec::new(),
            ready: 0,
            greeting: Some(Box::pin(tokio::time::sleep(GREETING))),
            _room: room,
        }
    }

    /// Passes on what is held and ready.
    fn deliver(&mut self, buffer: &mut ReadBuf<'_>) {
        let length = self.ready.min(buffer.remaining());
        buffer.put_slice(&self.held[..length]);
        self.ready -= length;
        // A new allocation: the freed one, which may hold a seed, is zeroized.
        self.held = self.held[length..].to_vec();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if buffer.remaining() == 0 {
            // What is read then is nothing, which must not be taken for the end.
            return Poll::Ready(Ok(()));
        }
        loop {
            if this.ready > 0 {
                this.deliver(buffer);
                return Poll::Ready(Ok(()));
            }
            if this.frames.greeted() {
                this.greeting = None;
            } else if let Some(greeting) = &mut this.greeting
                && greeting.as_mut().poll(context).is_ready()
            {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            let before = buffer.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
            let new = &mut buffer.filled_mut()[before..];
            if new.is_empty() {
                // The end, in the middle of a frame or after the last one.
                this.ready = this.held.len();
                if this.ready > 0 {
                    continue;
                }
                return Poll::Ready(Ok(()));
            }
            if this.held.is_empty() {
                let passed = this.frames.pass(new);
                this.held.extend_from_slice(&new[passed..]);
                buffer.set_filled(before + passed);
                if passed > 0 {
                    return Poll::Ready(Ok(()));
                }
            } else {
                this.held.extend_from_slice(new);
                buffer.set_filled(before);
                this.ready = this.frames.pass(&mut this.held);
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl<S> Connected for Connection<S> {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

#[cfg(test)]
mod tests;
