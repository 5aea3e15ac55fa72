//! `atrest-kms hold`: keeps the listening socket while plugins come and go. It never has a key.

use std::time::Duration;

use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use crate::args::Hold;
use crate::serve::{handover, log, peer::Peers, socket};
use crate::status::{ExitStatus, Failure};

/// Between two looks at a socket that somebody still has.
const STANDBY: Duration = Duration::from_secs(1);

/// After the kernel refused a connection.
const PAUSE: Duration = Duration::from_millis(100);

/// Holds until SIGTERM or SIGINT.
pub(crate) fn run(args: &Hold) -> Result<(), Failure> {
    log::start(args.log_level, args.log_format);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::unread(format!("cannot start: {error}")))?;
    runtime.block_on(async {
        let cannot =
            |error: std::io::Error| Failure::unread(format!("cannot wait for signals: {error}"));
        let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
        let signal = tokio::select! {
            result = hold(args) => return result,
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        info!(signal, "ended: the socket is gone with its holder");
        Ok(())
    })
}

async fn hold(args: &Hold) -> Result<(), Failure> {
    let place = handover::path(&args.socket);
    let mut told = false;
    // A plugin may still serve at the socket of a holder that was killed.
    let (_socket, listener) = loop {
        match socket::listen(&args.socket, args.socket_gid) {
            Err(failure) if failure.status == ExitStatus::Unread => {
                if !told {
                    warn!(
                        reason = failure.message(),
                        "waiting until the socket is free"
                    );
                    told = true;
                }
                tokio::time::sleep(STANDBY).await;
            }
            result => break result?,
        }
    };
    let (_place, plugins) = socket::listen(&place, None)?;
    let plugins = UnixListener::from_std(plugins)
        .map_err(|error| Failure::unread(format!("cannot serve: {error}")))?;
    let peers = Peers::new(&[], &[], None);
    info!(socket = %args.socket.display(), "holding");
    loop {
        let stream = match plugins.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "cannot accept");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let given = match peers.check(&stream) {
            Ok(Ok(peer)) => handover::give(&stream, &listener).map(|()| peer),
            Ok(Err(peer)) => {
                warn!(%peer, "refused: the socket is for plugins of root and of this user");
                continue;
            }
            Err(error) => Err(error),
        };
        match given {
            Ok(peer) => info!(%peer, "handed over"),
            Err(error) => warn!(%error, "could not hand over"),
        }
    }
}
