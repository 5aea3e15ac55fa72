//! What is about a node: static pods, kubeadm, restarts. All share one node.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a test

mod check;
mod job;
mod kms_static_pod;
mod kubeadm;
mod left_behind;
mod node;

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use atrest_tests::nodes::Nodes;

/// The cluster that the tests share, one at a time; `None` where there can be none.
///
/// # Panics
///
/// Where there can be none and `ATREST_REQUIRE_NODES=1` says that there must be.
fn shared() -> Option<MutexGuard<'static, Nodes>> {
    static SHARED: OnceLock<Mutex<Nodes>> = OnceLock::new();
    if !Nodes::available() {
        return None;
    }
    let shared = SHARED.get_or_init(|| Mutex::new(Nodes::start(1)));
    // A test that failed says so itself; the next one finds out what it can do with the node.
    Some(shared.lock().unwrap_or_else(PoisonError::into_inner))
}
