//! What stands in etcd: prefixes, storage keys, bodies, and the census that counts them.

mod body;
mod census;
mod judgement;
mod object;
mod reads;
mod residue;
mod storage_key;
mod stored_value;
mod transformers;

pub use self::body::BodyError;
pub use self::census::{Census, Group, NotCurrent, Orphan, ResourceCensus, Seed, Stored, Verdict};
pub use self::judgement::{CurrentKey, Expectation, Proof, State};
pub use self::object::{Object, ObjectError, manifest};
pub use self::reads::{Reads, Tally, Writer};
pub use self::residue::{Copies, LOOKAHEAD, LOOKBEHIND, Part, Residue};
pub use self::storage_key::{DEFAULT_PREFIX, GroupResource, ObjectKey, range_end};
pub use self::stored_value::{Form, StoredValue};
pub use self::transformers::{
    DekSource, NoPlugins, Plaintext, Plugins, ReadError, Refusal, Transformers, Trust, WrappedKey,
    WriteError, WritingKey,
};
