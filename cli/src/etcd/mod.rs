//! etcd's own bytes.

mod census;
mod file;
mod live;

pub(crate) use self::census::{Counted, Prover, Question, census, census_of_file};
pub(crate) use self::file::Keyspace;
pub(crate) use self::live::{Client, Key, Pages, Quota, Usage, describe, is_compacted};
