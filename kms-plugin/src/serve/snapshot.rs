//! What answers now.

use std::sync::{Arc, PoisonError, RwLock};

use atrest_core::keyring::{Keyring, Sign};

/// A keyring, and the sign that it was rolled back, if there is one.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) keyring: Keyring,
    /// While there is one, nothing is encrypted and Status names no key.
    pub(super) behind: Option<Sign>,
}

/// Holds one immutable snapshot. A call takes it once and answers from it alone, so that the key_id
/// and the key of an answer never come from two states; a reload puts another one in its place.
#[derive(Clone, Debug)]
pub(super) struct Current(Arc<RwLock<Arc<Snapshot>>>);

impl Current {
    pub(super) fn new(keyring: Keyring, behind: Option<Sign>) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(Snapshot {
            keyring,
            behind,
        }))))
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        // Nothing can panic while it is held: both holders only copy or move a pointer.
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Serves another keyring. A sign that it does not know of either stays.
    pub(super) fn replace(&self, keyring: Keyring) -> Arc<Snapshot> {
        let behind = self.snapshot().behind.clone();
        let behind = behind.filter(|sign| keyring.is_behind(sign));
        self.put(Snapshot { keyring, behind })
    }

    /// Encrypts nothing from now on.
    pub(super) fn stop(&self, sign: Sign) {
        let keyring = self.snapshot().keyring.clone();
        if keyring.is_behind(&sign) {
            self.put(Snapshot {
                keyring,
                behind: Some(sign),
            });
        }
    }

    fn put(&self, snapshot: Snapshot) -> Arc<Snapshot> {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *current, Arc::new(snapshot))
    }
}
