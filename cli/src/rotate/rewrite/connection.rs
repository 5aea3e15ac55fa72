//! etcd, asked again where it does not answer, and at another endpoint where one stays silent.

use std::ops::RangeInclusive;
use std::time::Duration;

use atrest_proto::mvccpb::KeyValue;
use tokio::sync::mpsc;

use super::answer::Trouble;
use crate::args::EtcdFlags;
use crate::etcd::{self, Pages, Usage, is_compacted};
use crate::status::Failure;

/// Times in a row that etcd does not answer before it is given up.
const SILENCES: u32 = 8;

/// The first pause after one; it doubles.
const PAUSE: Duration = Duration::from_millis(100);

/// Bytes of a page of values: three of them are in memory at a time.
const PAGE: RangeInclusive<usize> = 512 << 10..=4 << 20;

/// Bytes of a page of keys, which take some four times as many in memory.
const KEYS: RangeInclusive<usize> = 128 << 10..=512 << 10;

/// Values that are asked for at once, as etcd takes no longer list of keys.
const OPERATIONS: usize = 128;

/// Bytes of an answer that are taken: a few pages, or one value of any size that there is.
const ANSWER: usize = 64 << 20;

/// A connection that outlives a change of leader and the end of an endpoint.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) client: etcd::Client,
    flags: EtcdFlags,
    silences: u32,
}

/// Which values are read.
pub(super) enum Wanted {
    All,
    /// Those that were written after one revision, but not at some others, in their order.
    Unseen {
        since: i64,
        but: Vec<i64>,
    },
}

/// Some values of a range.
pub(super) struct Page {
    pub(super) values: Vec<KeyValue>,
    /// At which they were found.
    pub(super) revision: i64,
    /// How many there were from here on.
    pub(super) count: u64,
}

impl Connection {
    pub(super) fn new(client: etcd::Client, flags: &EtcdFlags) -> Self {
        Self {
            client,
            flags: flags.clone(),
            silences: 0,
        }
    }

    /// Waits after an error that may pass, and connects anew; returns the others.
    pub(super) async fn recover(&mut self, status: &tonic::Status) -> Result<(), Failure> {
        if Trouble::of(status) != Trouble::Passing || self.silences >= SILENCES {
            let reason = etcd::describe(status);
            return Err(Failure::stopped(format!("etcd does not answer: {reason}"))
                .hint("every value is whole, under the old key or the new one: run this again once etcd is well"));
        }
        tokio::time::sleep(PAUSE * 2_u32.pow(self.silences)).await;
        self.silences += 1;
        let again = etcd::Client::connect(&self.flags).await;
        if let Some(client) = again
            .ok()
            .filter(|it| it.cluster_id == self.client.cluster_id)
        {
            self.client = client;
        }
        Ok(())
    }

    /// It answered.
    pub(super) fn answered(&mut self) {
        self.silences = 0;
    }

    /// What stands at each of the keys now.
    pub(super) async fn values(
        &mut self,
        keys: &[Vec<u8>],
    ) -> Result<Vec<Option<KeyValue>>, Failure> {
        let mut values = Vec::with_capacity(keys.len());
        let mut most = keys.len();
        while let Some(next) = keys.get(values.len()..).filter(|left| !left.is_empty()) {
            let next = &next[..most.min(next.len())];
            match self.client.values(next.iter().cloned()).await {
                Ok(read) => {
                    self.answered();
                    values.extend(read);
                }
                Err(status) if Trouble::of(&status) == Trouble::TooManyOperations && most > 1 => {
                    most /= 2;
                }
                Err(status) => self.recover(&status).await?,
            }
        }
        Ok(values)
    }

    pub(super) async fn usage(&mut self) -> Result<Usage, Failure> {
        loop {
            match self.client.usage().await {
                Ok(usage) => {
                    self.answered();
                    return Ok(usage);
                }
                Err(status) => self.recover(&status).await?,
            }
        }
    }

    /// A large database takes longer than a request may: then it goes on behind the answer.
    pub(super) async fn compact(&mut self, revision: i64) -> Result<(), Failure> {
        loop {
            match self.client.compact(revision).await {
                Ok(()) => {
                    self.answered();
                    return Ok(());
                }
                Err(status) => self.recover(&status).await?,
            }
        }
    }

    /// Reads values below a directory, a page ahead of whoever takes them. Where the revision that is
    /// read is compacted away it goes on at the newest: no key that was there all the time is passed
    /// over.
    pub(super) fn read(
        &self,
        directory: &[u8],
        wanted: Wanted,
    ) -> mpsc::Receiver<Result<Page, Failure>> {
        let (to, pages) = mpsc::channel(1);
        let mut connection = self.clone();
        let range = Pages::below(directory, None);
        let mut range = match wanted {
            Wanted::All => range.of_bytes(PAGE),
            Wanted::Unseen { .. } => range.of_keys(KEYS),
        };
        tokio::spawn(async move {
            while let Some(page) = connection.page(&mut range, &wanted).await.transpose() {
                let has_failed = page.is_err();
                if to.send(page).await.is_err() || has_failed {
                    return;
                }
            }
        });
        pages
    }

    async fn page(&mut self, range: &mut Pages, wanted: &Wanted) -> Result<Option<Page>, Failure> {
        let mut values = loop {
            let mut client = self.client.with_answers_up_to(ANSWER);
            match client.page(range).await {
                Ok(Some(values)) => break values,
                Ok(None) => return Ok(None),
                Err(status) if is_compacted(&status) => range.renew(),
                Err(status) => self.recover(&status).await?,
            }
        };
        self.answered();
        if let Wanted::Unseen { since, but } = wanted {
            values.retain(|pair| {
                pair.mod_revision > *since && but.binary_search(&pair.mod_revision).is_err()
            });
            let keys: Vec<_> = values.into_iter().map(|pair| pair.key).collect();
            values = Vec::new();
            for keys in keys.chunks(OPERATIONS) {
                values.extend(self.values(keys).await?.into_iter().flatten());
            }
        }
        Ok(Some(Page {
            values,
            revision: range.revision(),
            count: range.count,
        }))
    }
}
