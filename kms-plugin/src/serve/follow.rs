//! Follows the keyring file: by its content, once a second. Renames, symbolic links, other file
//! systems and clocks are no matter then.

use std::time::Duration;

use atrest_core::keyring::{Backend, Generation, Keyring};
use atrest_core::secret::Fingerprint;
use tokio::time::MissedTickBehavior;
use tracing::{debug, error, info, warn};

use super::ROLLED_BACK;
use super::snapshot::Current;
use crate::process;
use crate::status::Failure;
use crate::store::{Loaded, Store};

const INTERVAL: Duration = Duration::from_secs(1);

/// What was looked at last and not taken.
#[derive(Clone, Debug, Default)]
struct Rejected {
    /// Of the keyring and of the secret: if both are the same, so is the result.
    content: Option<(Fingerprint, Option<Fingerprint>)>,
    /// Said once, not every second.
    message: String,
}

/// What a look at the file found.
enum Look {
    /// What is served, or what was rejected before.
    Unchanged(Fingerprint),
    /// Another keyring.
    Changed(Box<Loaded>),
    /// Nothing that could be served.
    Unusable(Rejected),
}

/// Replaces the current keyring whenever the file holds another one. A file that is missing or
/// broken is logged, and what was served is served on.
pub(super) async fn follow(store: Store, current: Current, mut served: Fingerprint) {
    let mut rejected = Rejected::default();
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let (from, before) = (store.clone(), rejected.clone());
        // Off this thread: a disk may hang, and a passphrase takes its time.
        let look = tokio::task::spawn_blocking(move || {
            process::without_traces::<{ process::READ }, _>(|| look(&from, served, &before))
        });
        let look = look.await;
        match look {
            Ok(Look::Unchanged(seen)) => {
                if seen == served && !rejected.message.is_empty() {
                    info!("the keyring file is again the one that is served");
                    rejected = Rejected::default();
                }
            }
            Ok(Look::Changed(loaded)) => {
                served = loaded.fingerprint;
                rejected = Rejected::default();
                let former = current.replace(loaded.keyring);
                announce(&former.keyring, &current.snapshot().keyring);
            }
            Ok(Look::Unusable(now)) => {
                if now.message != rejected.message {
                    error!(
                        reason = now.message,
                        "the keyring file is not usable; the former keyring is served on"
                    );
                }
                rejected = now;
            }
            // The task panicked, or the runtime ends.
            Err(_) => error!("could not look at the keyring file"),
        }
        follow_sign(&store, &current).await;
    }
}

/// A sign that `keyring verify` found stops what is served; one that a Decrypt brought is kept on
/// disk, for `add`, `activate` and the next start.
async fn follow_sign(store: &Store, current: &Current) {
    let (store, snapshot) = (store.clone(), current.snapshot());
    let looked = tokio::task::spawn_blocking(move || {
        let kept = store.sign(&snapshot.keyring)?;
        match (&kept, &snapshot.behind) {
            (None, Some(sign)) => store.mark(sign).map(|()| None),
            (Some(_), Some(_)) => Ok(None),
            (_, None) => Ok(kept),
        }
    });
    match looked.await {
        Ok(Ok(Some(sign))) => {
            error!(reason = %sign, "{ROLLED_BACK}");
            current.stop(sign);
        }
        Ok(Ok(None)) => {}
        Ok(Err(failure)) => debug!(reason = failure.message(), "the mark was not kept"),
        Err(_) => error!("could not look at the keyring's mark"),
    }
}

fn look(store: &Store, served: Fingerprint, rejected: &Rejected) -> Look {
    let unusable = |content, failure: Failure| {
        Look::Unusable(Rejected {
            content,
            message: failure.message().to_owned(),
        })
    };
    let text = match store.read() {
        Ok(text) => text,
        Err(failure) => return unusable(None, failure),
    };
    let fingerprint = text.fingerprint();
    if fingerprint == served {
        return Look::Unchanged(fingerprint);
    }
    // Only now: once the plugin runs, what opens the keyring may be kept elsewhere.
    let secret = match store.read_secret() {
        Ok(secret) => secret,
        Err(failure) => return unusable(None, failure),
    };
    let content = Some((
        fingerprint,
        secret.as_ref().map(|secret| secret.fingerprint()),
    ));
    if content == rejected.content {
        return Look::Unchanged(fingerprint);
    }
    match store.open(&text, secret.as_ref()) {
        Ok(loaded) => Look::Changed(Box::new(loaded)),
        Err(failure) => unusable(content, failure),
    }
}

fn announce(former: &Keyring, now: &Keyring) {
    info!(
        keyring = %now.id(),
        serial = now.serial(),
        key_id = %now.active().key_id(),
        generations = now.generations().len(),
        "serving the changed keyring"
    );
    if former.id() == now.id() && now.serial() < former.serial() {
        warn!(
            former = former.serial(),
            serial = now.serial(),
            "the keyring is older than the former one"
        );
    }
    for generation in former
        .generations()
        .iter()
        .filter(|generation| decrypts(generation))
    {
        let key_id = generation.key_id();
        if !now.find(key_id.as_str()).is_some_and(decrypts) {
            warn!(%key_id, "a key is gone: what it encrypted cannot be read until it is back");
        }
    }
}

fn decrypts(generation: &Generation) -> bool {
    matches!(generation.backend(), Backend::Local(Some(_)))
}
