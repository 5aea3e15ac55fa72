//! What etcd's answer to a transaction means for what was in it.

use tonic::{Code, Status};

/// Why a transaction was not taken, or may not have been.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Trouble {
    /// More operations than etcd's `--max-txn-ops`.
    TooManyOperations,
    /// More bytes than etcd's `--max-request-bytes`.
    TooLarge,
    /// The database has grown to its quota: no write is taken from now on.
    NoSpace,
    /// No leader, no connection, no answer in time: nobody knows whether it was applied.
    Passing,
    /// The same transaction is never going to be taken.
    Lasting,
}

impl Trouble {
    /// By the words of etcd's `api/v3rpc/rpctypes/error.go`, as its codes stand for several.
    pub(super) fn of(status: &Status) -> Self {
        let says = |words: &str| status.message().contains(words);
        match status.code() {
            Code::InvalidArgument if says("too many operations") => Self::TooManyOperations,
            Code::InvalidArgument if says("request is too large") => Self::TooLarge,
            // Of gRPC itself, whose limit is a little larger.
            Code::ResourceExhausted if says("message larger than max") => Self::TooLarge,
            Code::ResourceExhausted if says("database space exceeded") => Self::NoSpace,
            Code::FailedPrecondition if says("not leader") => Self::Passing,
            // Broken connections are `Unknown` or `Internal`, our own timeout is `Cancelled`.
            Code::Aborted
            | Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Internal
            | Code::ResourceExhausted
            | Code::Unavailable
            | Code::Unknown => Self::Passing,
            _ => Self::Lasting,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etcds_words_tell_what_its_codes_do_not() {
        for (code, message, trouble) in [
            (
                Code::InvalidArgument,
                "etcdserver: too many operations in txn request",
                Trouble::TooManyOperations,
            ),
            (
                Code::InvalidArgument,
                "etcdserver: request is too large",
                Trouble::TooLarge,
            ),
            (
                Code::ResourceExhausted,
                "grpc: received message larger than max (3000000 vs. 2097152)",
                Trouble::TooLarge,
            ),
            (
                Code::ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
                Trouble::NoSpace,
            ),
            (
                Code::ResourceExhausted,
                "etcdserver: too many requests",
                Trouble::Passing,
            ),
            (
                Code::Unavailable,
                "etcdserver: leader changed",
                Trouble::Passing,
            ),
            (
                Code::FailedPrecondition,
                "etcdserver: not leader",
                Trouble::Passing,
            ),
            (Code::Cancelled, "Timeout expired", Trouble::Passing),
            (
                Code::PermissionDenied,
                "etcdserver: permission denied",
                Trouble::Lasting,
            ),
            (
                Code::InvalidArgument,
                "etcdserver: duplicate key given in txn request",
                Trouble::Lasting,
            ),
        ] {
            assert_eq!(
                Trouble::of(&Status::new(code, message)),
                trouble,
                "{message}"
            );
        }
    }
}
