//! Keeps what this process has in memory from the disk and from others.

use std::io::{self, Write};

use rustix::fs::Mode;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::thread::CapabilitySet;

/// No core dump, no debugger of the same user, no program with more rights, and nothing created that
/// others can open: the socket gets its mode at birth. Called first, before there is a second thread
/// or a key. What the kernel refused is returned, to be logged.
pub(crate) fn keep_to_itself() -> Vec<String> {
    let mut refused = Vec::new();
    let mut note = |what: &str, result: io::Result<()>| {
        if let Err(error) = result {
            refused.push(format!("{what}: {error}"));
        }
    };
    // Before the next one, which makes root the owner of this file.
    note("/proc/self/coredump_filter", dump_no_mapping());
    note(
        "PR_SET_DUMPABLE",
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(Into::into),
    );
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    note(
        "RLIMIT_CORE",
        rustix::process::setrlimit(Resource::Core, none).map_err(Into::into),
    );
    note(
        "PR_SET_NO_NEW_PRIVS",
        rustix::thread::set_no_new_privs(true).map_err(Into::into),
    );
    rustix::process::umask(Mode::from_raw_mode(0o177));
    refused
}

/// Seeds and stacks are in no dump either, also none that root takes with a debugger.
fn dump_no_mapping() -> io::Result<()> {
    let filter = std::fs::File::options()
        .write(true)
        .open("/proc/self/coredump_filter");
    filter?.write_all(b"0")
}

/// Keeps the whole process out of swap, the pages of keys and of seeds among them. What stands in the way is returned, to be logged.
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

/// How deep the frames of one call go, with room to spare.
pub(crate) const CALL: usize = 16 << 10;

/// How deep those go that read a keyring.
pub(crate) const READ: usize = 128 << 10;

/// Does the work, and takes away what it left on this thread's stack, so many bytes of it: round keys
/// that a cipher spilled, blocks of a hash.
pub(crate) fn without_traces<const DEPTH: usize, T>(work: impl FnOnce() -> T) -> T {
    #[inline(never)]
    fn frame<T>(work: impl FnOnce() -> T) -> T {
        work()
    }
    let done = frame(work);
    zeroize::zeroize_stack::<DEPTH>();
    done
}
