//! `atrest-kms serve`: the plugin.
//!
//! One thread answers all calls: a call takes microseconds. A second one reads the keyring file
//! once a second, so that a slow disk never delays an answer.

mod connection;
mod follow;
pub(crate) mod handover;
mod incoming;
pub(crate) mod log;
mod notify;
pub(crate) mod peer;
mod service;
mod snapshot;
pub(crate) mod socket;

use std::time::Duration;

use atrest_proto::v2::key_management_service_server::KeyManagementServiceServer;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tonic::transport::Server;
use tracing::{error, info, warn};

use self::incoming::Incoming;
use self::peer::Peers;
use self::service::{MESSAGE_LIMIT, Service};
use self::snapshot::Current;
use self::socket::Socket;
use crate::args::Serve;
use crate::process;
use crate::status::Failure;
use crate::store::Store;

/// How long calls in flight may take once the end was asked for: kube-apiserver's own deadline is
/// 3 s, and nobody waits for an answer after it.
const DRAIN: Duration = Duration::from_secs(4);

/// Calls at once on a connection: with the limits of connections and of messages it bounds what
/// slow callers can have this process keep.
const STREAMS: u32 = 128;

/// How long a call may take, its message included: kube-apiserver gives up long before.
const CALL: Duration = Duration::from_secs(10);

/// After so much silence a client is asked whether it lives; without an answer for as long again the
/// connection is closed.
const PING: Duration = Duration::from_secs(10);

/// What is logged once a sign of a newer keyring is seen.
const ROLLED_BACK: &str = "the keyring is older than what was in use: it decrypts, and encrypts nothing until the newer file is imported or this one is confirmed";

/// Serves until SIGTERM or SIGINT, in a process for which the kernel refused this.
pub(crate) fn run(args: &Serve, refused: &[String]) -> Result<(), Failure> {
    log::start(args.log_level, args.log_format);
    for reason in refused {
        warn!(reason, "the kernel does not keep this process to itself");
    }
    // Before there is a key in memory.
    if let Err(reason) = process::lock_memory() {
        locked(
            args,
            &reason,
            "memory is not locked: seeds may reach the swap",
        )?;
    }

    let store = Store::new(&args.keyring)?;
    let loaded = process::without_traces::<{ process::READ }, _>(|| store.load())?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        keyring = %loaded.keyring.id(),
        serial = loaded.keyring.serial(),
        seal = %loaded.seal.kind(),
        key_id = %loaded.keyring.active().key_id(),
        generations = loaded.keyring.generations().len(),
        "opened the keyring"
    );
    if let Some(reason) = atrest_locked::refused() {
        locked(
            args,
            reason,
            "keys are not in locked memory, they may reach the swap",
        )?;
    }

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::unread(format!("cannot start: {error}")))?;
    let result = runtime.block_on(serve(args, store, loaded));
    // A read of the keyring that hangs must not hold up the end.
    runtime.shutdown_background();
    result
}

/// The socket, and what has to live as long if it is this process's own.
fn listen(args: &Serve) -> Result<(Option<Socket>, std::os::unix::net::UnixListener), Failure> {
    match &args.socket {
        Some(path) if args.held => Ok((None, handover::take(path)?)),
        Some(path) => socket::listen(path, args.socket_gid),
        None => Ok((None, handover::activated()?)),
    }
}

/// The socket's name, for the log.
fn shown(args: &Serve) -> impl std::fmt::Display {
    match &args.socket {
        Some(path) => path.display().to_string(),
        None => "passed by the service manager".to_owned(),
    }
}

/// What is not locked is a failure where that was asked for, and a warning else.
fn locked(args: &Serve, reason: &str, consequence: &str) -> Result<(), Failure> {
    if args.require_locked_memory {
        let failure = Failure::unread(format!("memory cannot be locked: {reason}"));
        return Err(failure.hint("give the process CAP_IPC_LOCK, or LimitMEMLOCK=infinity"));
    }
    warn!(reason, "{consequence}");
    Ok(())
}

async fn serve(args: &Serve, store: Store, loaded: crate::store::Loaded) -> Result<(), Failure> {
    let cannot =
        |what: &str, error: std::io::Error| Failure::unread(format!("cannot {what}: {error}"));
    let mut terminate =
        signal(SignalKind::terminate()).map_err(|error| cannot("wait for SIGTERM", error))?;
    let mut interrupt =
        signal(SignalKind::interrupt()).map_err(|error| cannot("wait for SIGINT", error))?;

    let fingerprint = loaded.fingerprint;
    let behind = store.sign(&loaded.keyring)?;
    if let Some(sign) = &behind {
        error!(reason = %sign, "{ROLLED_BACK}");
    }
    let current = Current::new(loaded.keyring, behind);
    // Bound last: whoever connects is answered.
    // Off this thread: a holder may be waited for, and the end has to be possible meanwhile.
    let from = args.clone();
    let listening = tokio::task::spawn_blocking(move || listen(&from));
    let (socket, listener) = tokio::select! {
        result = listening => result.map_err(|error| cannot("listen", error.into()))??,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let listener = listener
        .set_nonblocking(true)
        .and_then(|()| UnixListener::from_std(listener))
        .map_err(|error| cannot("listen", error))?;
    tokio::spawn(follow::follow(store, current.clone(), fingerprint));

    let (stop, stopped) = oneshot::channel::<()>();
    let service = KeyManagementServiceServer::new(Service::new(current, args.status_version))
        .max_decoding_message_size(MESSAGE_LIMIT)
        .max_encoding_message_size(MESSAGE_LIMIT);
    let peers = Peers::new(&args.allow_uid, &args.allow_gid, args.socket_gid);
    let incoming = Incoming::new(listener, peers);
    let server = Server::builder()
        .max_concurrent_streams(STREAMS)
        .timeout(CALL)
        .http2_keepalive_interval(Some(PING))
        .http2_keepalive_timeout(Some(PING))
        .add_service(service)
        .serve_with_incoming_shutdown(incoming, async {
            let _ = stopped.await;
        });
    let mut server = std::pin::pin!(server);
    info!(socket = %shown(args), "serving");
    notify::ready();

    let signal = tokio::select! {
        result = &mut server => return result.map_err(|error| Failure::unread(format!("cannot serve: {error}"))),
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    info!(
        signal,
        "no new calls are taken, those in flight are finished"
    );
    let _ = stop.send(());
    match tokio::time::timeout(DRAIN, server).await {
        Ok(Ok(())) => info!("ended"),
        Ok(Err(error)) => warn!(%error, "ended"),
        Err(_) => warn!(seconds = DRAIN.as_secs(), "ended with calls in flight"),
    }
    drop(socket);
    Ok(())
}
