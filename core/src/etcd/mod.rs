//! etcd's files: the bbolt database of a member or a snapshot, the revisions in it, and the
//! write-ahead log.

mod bbolt;
mod replay;
mod request;
mod revisions;
mod standing;
mod wal;

pub use self::bbolt::{Database, Error, ReadAt, Visit};
pub use self::replay::{Replay, ReplayError, Replayed};
pub use self::revisions::{KEY_BUCKET, Newest, Revision, RevisionError, Row};
pub use self::standing::{Standing, StandingError};
pub use self::wal::{Log, Unfit, WalError};
