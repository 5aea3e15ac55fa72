//! etcd's own bytes.

mod census;
mod live;

pub(crate) use self::census::{Question, census};
pub(crate) use self::live::Client;
