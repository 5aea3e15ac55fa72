//! etcd's own bytes.

mod census;
mod file;
mod live;
mod maintenance;

pub(crate) use self::census::{
    Counted, NONE_WAIVED, Prover, Question, Waived, census, census_of_file, census_shown,
};
pub(crate) use self::file::{Keyspace, files_of_member, scan_file};
pub(crate) use self::live::{Client, Key, ON_KUBEADM, Pages, Quota, Usage, describe, is_compacted};
pub(crate) use self::maintenance::Member;
