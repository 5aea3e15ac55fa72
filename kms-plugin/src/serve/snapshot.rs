//! The keyring that answers now.

use std::sync::{Arc, PoisonError, RwLock};

use atrest_core::keyring::Keyring;

/// Holds one immutable keyring. A call takes it once and answers from it alone, so that the key_id
/// and the key of an answer never come from two states; a reload puts another one in its place.
#[derive(Clone, Debug)]
pub(super) struct Current(Arc<RwLock<Arc<Keyring>>>);

impl Current {
    pub(super) fn new(keyring: Keyring) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(keyring))))
    }

    pub(super) fn keyring(&self) -> Arc<Keyring> {
        // Nothing can panic while it is held: both holders only copy or move a pointer.
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn replace(&self, keyring: Keyring) -> Arc<Keyring> {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *current, Arc::new(keyring))
    }
}
