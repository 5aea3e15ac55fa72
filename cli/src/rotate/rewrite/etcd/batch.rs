//! Transactions: as many values as etcd takes at once, each guarded by the revision at which it was
//! read.

use atrest_proto::etcdserverpb::compare::{CompareResult, CompareTarget};
use atrest_proto::etcdserverpb::{Compare, PutRequest, RequestOp, TxnRequest};

/// etcd's `--max-txn-ops`, unless somebody changed it.
const OPERATIONS: usize = 128;

/// Two thirds of etcd's `--max-request-bytes`, unless somebody changed it.
const BYTES: usize = 1 << 20;

/// What a comparison and a put take besides their key and value, rounded up.
const OVERHEAD: usize = 64;

/// A value to be written in the place of the one that was read.
pub(super) struct Item {
    pub(super) key: Vec<u8>,
    /// Of the value that was read.
    pub(super) mod_revision: i64,
    pub(super) value: Vec<u8>,
    /// How often somebody else was faster.
    pub(super) conflicts: u32,
}

impl Item {
    fn bytes(&self) -> usize {
        2 * self.key.len() + self.value.len() + OVERHEAD
    }
}

/// What is known of an item that is on its way.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Sent {
    pub(super) key: Vec<u8>,
    pub(super) mod_revision: i64,
    pub(super) conflicts: u32,
    pub(super) mark: Mark,
}

/// Tells a ciphertext from any other one: its last bytes, a tag or a block of a random write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Mark([u8; 16]);

impl Mark {
    pub(super) fn of(value: &[u8]) -> Self {
        let mut mark = [0; 16];
        let end = &value[value.len().saturating_sub(16)..];
        mark[..end.len()].copy_from_slice(end);
        Self(mark)
    }
}

/// The items of one transaction.
#[derive(Default)]
pub(super) struct Batch {
    items: Vec<Item>,
    pub(super) bytes: usize,
}

impl Batch {
    fn push(&mut self, item: Item) {
        self.bytes += item.bytes();
        self.items.push(item);
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// A transaction that writes all of them, or nothing where one was written or deleted since it
    /// was read. It can create no key: each is compared with a revision at which it existed.
    pub(super) fn into_request(self) -> (TxnRequest, Vec<Sent>) {
        let mut request = TxnRequest::default();
        let mut sent = Vec::with_capacity(self.items.len());
        for item in self.items {
            request.compare.push(is_at(&item.key, item.mod_revision));
            sent.push(Sent {
                key: item.key.clone(),
                mod_revision: item.mod_revision,
                conflicts: item.conflicts,
                mark: Mark::of(&item.value),
            });
            request.success.push(put(item.key, item.value));
        }
        (request, sent)
    }
}

impl From<Item> for Batch {
    fn from(item: Item) -> Self {
        let mut batch = Self::default();
        batch.push(item);
        batch
    }
}

/// Holds where the key was last written at this revision.
pub(in crate::rotate) fn is_at(key: &[u8], mod_revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Mod as i32,
        key: key.to_vec(),
        mod_revision,
        ..Compare::default()
    }
}

/// Writes a value, and leaves the key's lease (an event's time to live) as it is.
pub(super) fn put(key: Vec<u8>, value: Vec<u8>) -> RequestOp {
    RequestOp {
        request_put: Some(PutRequest {
            key,
            value,
            ignore_lease: true,
            ..PutRequest::default()
        }),
        ..RequestOp::default()
    }
}

/// Gathers items into batches.
pub(super) struct Batcher {
    operations: usize,
    bytes: usize,
    batch: Batch,
}

impl Batcher {
    /// At most so many operations a transaction, and no more than etcd takes by default.
    pub(super) fn new(operations: usize) -> Self {
        Self {
            operations: operations.clamp(1, OPERATIONS),
            bytes: BYTES,
            batch: Batch::default(),
        }
    }

    /// Adds an item. Returns the batch that it has no more room in. An item that is larger than any
    /// batch is one of its own.
    pub(super) fn push(&mut self, item: Item) -> Option<Batch> {
        let is_full = self.batch.len() >= self.operations
            || self.batch.bytes + item.bytes() > self.bytes && self.batch.len() > 0;
        let full = is_full.then(|| std::mem::take(&mut self.batch));
        self.batch.push(item);
        full
    }

    /// What is left.
    pub(super) fn take(&mut self) -> Option<Batch> {
        (self.batch.len() > 0).then(|| std::mem::take(&mut self.batch))
    }

    /// etcd takes fewer operations than `refused`. `false` where it cannot be fewer.
    pub(super) fn take_fewer_than(&mut self, refused: usize) -> bool {
        self.operations = self.operations.min((refused / 2).max(1));
        refused > 1
    }

    /// etcd takes fewer bytes than those of a batch.
    pub(super) fn take_less_than(&mut self, refused: usize) {
        self.bytes = self.bytes.min(refused / 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(key: &str, length: usize) -> Item {
        Item {
            key: key.into(),
            mod_revision: 7,
            value: vec![1; length],
            conflicts: 0,
        }
    }

    /// The lengths of the batches that items of these lengths come in.
    fn batches(batcher: &mut Batcher, lengths: &[usize]) -> Vec<usize> {
        let mut batches: Vec<_> = lengths
            .iter()
            .filter_map(|length| batcher.push(item("k", *length)))
            .collect();
        batches.extend(batcher.take());
        assert!(batcher.take().is_none());
        batches.iter().map(Batch::len).collect()
    }

    #[test]
    fn small_values_fill_a_transaction_by_number_and_large_ones_by_bytes() {
        let mut batcher = Batcher::new(usize::MAX);
        assert!(batches(&mut batcher, &[]).is_empty());
        assert_eq!(batches(&mut batcher, &[1024; 300]), [128, 128, 44]);
        assert_eq!(batches(&mut batcher, &[200 << 10; 12]), [5, 5, 2]);
        // Larger than any: alone, and its neighbours are not held up.
        assert_eq!(batches(&mut batcher, &[10, 2 << 20, 10]), [1, 1, 1]);
    }

    #[test]
    fn a_rate_makes_smaller_batches() {
        assert_eq!(batches(&mut Batcher::new(2), &[10; 5]), [2, 2, 1]);
        assert_eq!(batches(&mut Batcher::new(0), &[10; 2]), [1, 1]);
    }

    #[test]
    fn what_etcd_refuses_is_halved_until_it_is_one() {
        let mut batcher = Batcher::new(usize::MAX);
        assert!(batcher.take_fewer_than(128));
        // Another one that was in flight meanwhile says nothing new.
        assert!(batcher.take_fewer_than(128));
        assert_eq!(batches(&mut batcher, &[10; 130]), [64, 64, 2]);
        assert!(batcher.take_fewer_than(3));
        assert_eq!(batches(&mut batcher, &[10; 2]), [1, 1]);
        assert!(!batcher.take_fewer_than(1));

        let mut batcher = Batcher::new(usize::MAX);
        batcher.take_less_than(1 << 20);
        assert_eq!(batches(&mut batcher, &[200 << 10; 4]), [2, 2]);
        batcher.take_less_than(100);
        assert_eq!(batches(&mut batcher, &[10; 2]), [1, 1]);
    }

    #[test]
    fn a_transaction_compares_every_revision_and_keeps_every_lease() {
        let mut batch = Batch::from(item("a", 20));
        batch.push(Item {
            mod_revision: 9,
            ..item("b", 3)
        });
        let (request, sent) = batch.into_request();
        let compared: Vec<_> = request
            .compare
            .iter()
            .map(|it| (&*it.key, it.mod_revision, it.result, it.target))
            .collect();
        let is = |key, revision| {
            let (equal, r#mod) = (CompareResult::Equal, CompareTarget::Mod);
            (key, revision, equal as i32, r#mod as i32)
        };
        assert_eq!(compared, [is(&b"a"[..], 7), is(b"b", 9)]);
        assert!(request.failure.is_empty());
        for (operation, length) in request.success.iter().zip([20, 3]) {
            let put = operation.request_put.as_ref().unwrap();
            assert!(put.ignore_lease && !put.ignore_value && put.lease == 0);
            assert_eq!(put.value.len(), length);
        }
        assert_eq!(sent[1].mark, Mark::of(&[1; 3]));
        assert_ne!(sent[0].mark, sent[1].mark);
    }
}
