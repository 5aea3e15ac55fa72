//! etcd's files: the bbolt database of a member or a snapshot, and the revisions in it.

mod bbolt;
mod revisions;

pub use self::bbolt::{Database, Error, ReadAt};
pub use self::revisions::{KEY_BUCKET, Revision, RevisionError, Row};
