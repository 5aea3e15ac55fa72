//! What is about several nodes: a control plane of three, as kubeadm makes it, with SSH between them.
//! All tests share one cluster.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a test

mod client;
mod cluster;
mod rotation;

use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use atrest_tests::nodes::Nodes;

/// Where the tests have their Secrets.
const NAMESPACE: &str = "three-nodes";

/// The cluster that the tests share, one at a time; `None` where there can be none.
///
/// # Panics
///
/// Where there can be none and `ATREST_REQUIRE_NODES=1` says that there must be.
fn shared() -> Option<MutexGuard<'static, Nodes>> {
    // Where they do not start, no other test tries it again.
    static SHARED: LazyLock<Mutex<Nodes>> = LazyLock::new(|| {
        let mut nodes = Nodes::start(3);
        nodes.open_ssh();
        Mutex::new(nodes)
    });
    // A test that failed says so itself; the next one finds out what it can do with the nodes.
    Nodes::available().then(|| SHARED.lock().unwrap_or_else(PoisonError::into_inner))
}
