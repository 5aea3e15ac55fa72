//! Keeps what this process has in memory from the disk and from others.

use rustix::fs::Mode;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::thread::CapabilitySet;

/// No core dump, no debugger of the same user, and nothing created that others can open: the socket
/// gets its mode at birth. Called first, before there is a second thread or a key.
pub(crate) fn keep_to_itself() {
    // Neither can fail where it matters: lowering one's own limits is always allowed.
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = rustix::process::setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    );
    rustix::process::umask(Mode::from_raw_mode(0o177));
}

/// Keeps the whole process out of swap. What stands in the way is returned, to be logged.
pub(crate) fn lock_memory() -> Result<(), String> {
    // Under a finite limit locking works at first, and a later allocation is refused: that would
    // end the plugin in the middle of its work. The capability lifts the limit.
    let limit = rustix::process::getrlimit(Resource::Memlock);
    let unlimited = limit.current.is_none() || (limit.maximum.is_none() && raise(limit.maximum));
    if !unlimited && !may_lock() {
        let limit = limit.current.unwrap_or_default() >> 10;
        return Err(format!(
            "RLIMIT_MEMLOCK is {limit} KiB and CAP_IPC_LOCK is missing"
        ));
    }
    // On fault, or every mapping would be in memory at once whether it is used or not.
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)
        .map_err(|error| error.to_string())
}

fn raise(maximum: Option<u64>) -> bool {
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    rustix::process::setrlimit(Resource::Memlock, limit).is_ok()
}

fn may_lock() -> bool {
    rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK))
}
