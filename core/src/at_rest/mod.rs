//! What stands in etcd: prefixes, storage keys, and the census that counts them.

mod census;
mod storage_key;
mod stored_value;

pub use self::census::{Census, CurrentKey, Group, NotCurrent, ResourceCensus, State, Verdict};
pub use self::storage_key::{DEFAULT_PREFIX, GroupResource, ObjectKey, range_end};
pub use self::stored_value::{Form, StoredValue};
