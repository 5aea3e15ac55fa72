//! The way of values from etcd through the cipher and back: while some transactions are in flight the
//! next values are encrypted, and the page behind them is read.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use atrest_core::at_rest::ObjectKey;
use atrest_proto::etcdserverpb::TxnResponse;
use atrest_proto::mvccpb::KeyValue;
use tokio::task::{JoinError, JoinSet};

use super::batch::{Batch, Batcher, Item, Mark, Sent};
use super::canary::Leaving;
use super::cipher::{Cipher, Value};
use crate::etcd::describe;
use crate::report;
use crate::report::progress::Progress;
use crate::rotate::canary::Perch;
use crate::rotate::rewrite::answer::Trouble;
use crate::rotate::rewrite::connection::{Connection, Wanted};
use crate::rotate::rewrite::space::{Space, no_space};
use crate::rotate::rewrite::{Outcome, Pace, SetAside};
use crate::status::Failure;

/// Each pass after the first finds only what somebody wrote under another key meanwhile.
const PASSES: usize = 10;

/// Transactions in flight and objects of one, where other clients come first: etcd and the API
/// servers' watches get to them in between.
const GENTLY: (u16, usize) = (1, 32);

/// The same where nobody waits. More keep an etcd no busier: it applies one after the other.
const EAGERLY: (u16, usize) = (4, usize::MAX);

/// Times that somebody else may be faster before an object is set aside.
const CONFLICTS: u32 = 6;

/// One resource on its way to the key that writes now.
pub(super) struct Rewrite<'a> {
    directory: Vec<u8>,
    connection: Connection,
    cipher: Cipher<'a>,
    /// Where canaries are made before the first transaction.
    perch: Option<Perch>,
    canaries: Option<Leaving>,
    batcher: Batcher,
    throttle: Throttle,
    space: Space,
    in_flight: JoinSet<Landed>,
    bytes_in_flight: u64,
    /// What was in a transaction that was not applied, as it stands now.
    again: VecDeque<Candidate>,
    is_first_pass: bool,
    /// Values that this pass found under another key.
    stale: u64,
    /// The revisions of our own transactions.
    written: Vec<i64>,
    outcome: Outcome,
    /// With the revision at which each was last seen.
    set_aside: BTreeMap<Vec<u8>, (i64, SetAside)>,
    progress: &'a Progress,
    /// No talk.
    quiet: bool,
}

/// A value that may have to be written again.
struct Candidate {
    pair: KeyValue,
    conflicts: u32,
    /// Where it was in a transaction before: what that would have left.
    mark: Option<Mark>,
}

/// A transaction and what came of it.
struct Landed {
    sent: Vec<Sent>,
    bytes: u64,
    took: Duration,
    answer: Result<TxnResponse, tonic::Status>,
}

impl<'a> Rewrite<'a> {
    pub(super) async fn new(
        directory: String,
        mut connection: Connection,
        cipher: Cipher<'a>,
        perch: Perch,
        pace: Pace,
        progress: &'a Progress,
        quiet: bool,
    ) -> Result<Self, Failure> {
        let revision = connection.client.revision().await?;
        let throttle = Throttle::new(pace);
        Ok(Self {
            directory: directory.into_bytes(),
            connection,
            cipher,
            perch: Some(perch),
            canaries: None,
            batcher: Batcher::new(throttle.operations),
            throttle,
            space: Space::since(revision, quiet),
            quiet,
            in_flight: JoinSet::new(),
            bytes_in_flight: 0,
            again: VecDeque::new(),
            is_first_pass: true,
            stale: 0,
            written: Vec::new(),
            outcome: Outcome::default(),
            set_aside: BTreeMap::new(),
            progress,
        })
    }

    /// Rewrites until nothing is stale but what is set aside.
    pub(super) async fn run(mut self) -> Result<Outcome, Failure> {
        let end = self.passes().await;
        // After an error: whatever becomes of them, each is applied as a whole or not at all.
        self.in_flight.shutdown().await;
        if let Some(canaries) = self.canaries.take() {
            canaries.gone().await;
        }
        end.inspect_err(|_| self.say_how_far())?;
        let set_aside = self.set_aside.into_values().map(|(_, it)| it);
        self.outcome.set_aside = set_aside.collect();
        Ok(self.outcome)
    }

    fn say_how_far(&self) {
        if !self.quiet && self.outcome.rewritten > 0 {
            let directory = String::from_utf8_lossy(&self.directory);
            let rewritten = self.outcome.rewritten;
            report::say(format_args!(
                "{rewritten} values below {directory} were rewritten before"
            ));
        }
    }

    async fn passes(&mut self) -> Result<(), Failure> {
        let mut wanted = Wanted::All;
        for _ in 0..PASSES {
            let since = self.pass(wanted).await?;
            if self.stale == 0 {
                return Ok(());
            }
            self.is_first_pass = false;
            self.written.sort_unstable();
            wanted = Wanted::Unseen {
                since,
                but: self.written.clone(),
            };
        }
        Err(Failure::stopped(format!(
            "after {PASSES} passes somebody still writes with another key"
        ))
        .hint("wait until every API server (and, of KMS, its plugin) has taken up the key that writes \
               now, then run this again"))
    }

    /// Looks at each of the values once. Returns a revision up to which all are seen.
    async fn pass(&mut self, wanted: Wanted) -> Result<i64, Failure> {
        self.stale = 0;
        let mut pages = self.connection.read(&self.directory, wanted);
        let mut values = Vec::new().into_iter();
        let (mut since, mut is_over) = (None, false);
        loop {
            while let Some(landed) = self.in_flight.try_join_next() {
                self.settle(landed).await?;
            }
            if let Some(candidate) = self.again.pop_front() {
                self.consider(candidate).await?;
            } else if let Some(pair) = values.next() {
                self.consider(Candidate::from(pair)).await?;
            } else if !is_over {
                tokio::select! {
                    page = pages.recv() => match page.transpose()? {
                        Some(page) => {
                            if self.is_first_pass && since.is_none() {
                                self.progress.expect(page.count);
                            }
                            since.get_or_insert(page.revision);
                            values = page.values.into_iter();
                        }
                        None => is_over = true,
                    },
                    Some(landed) = self.in_flight.join_next() => self.settle(landed).await?,
                }
            } else if let Some(rest) = self.batcher.take() {
                self.send(rest).await?;
            } else if !self.in_flight.is_empty() {
                self.land().await?;
            } else {
                return Ok(since.unwrap_or_default());
            }
        }
    }

    /// Counts a value, or gets it on its way.
    async fn consider(&mut self, candidate: Candidate) -> Result<(), Failure> {
        let Candidate {
            pair:
                KeyValue {
                    key,
                    value,
                    mod_revision,
                    ..
                },
            conflicts,
            mark,
        } = candidate;
        if mark == Some(Mark::of(&value)) {
            // It was applied, though nobody said so.
            self.outcome.rewritten += 1;
            self.done(1);
            return Ok(());
        }
        if self.is_known(&key, mod_revision) {
            return Ok(());
        }
        let plaintext = match self.cipher.read(&key, &value).await {
            Value::Current => {
                self.outcome.current += u64::from(self.is_first_pass);
                self.done(1);
                return Ok(());
            }
            Value::Unreadable(reason) => {
                self.set_aside(key, mod_revision, reason);
                return Ok(());
            }
            Value::Stale(plaintext) => plaintext,
        };
        self.stale += u64::from(mark.is_none());
        if conflicts >= CONFLICTS {
            let reason =
                format!("{conflicts} times somebody else wrote it first, with another key");
            self.set_aside(key, mod_revision, reason);
            return Ok(());
        }
        let value = match self.cipher.encrypt(&key, &plaintext) {
            Ok(value) => value,
            Err(reason) => {
                self.set_aside(key, mod_revision, reason);
                return Ok(());
            }
        };
        let item = Item {
            key,
            mod_revision,
            value,
            conflicts,
        };
        // What is written all the time holds nothing else up.
        let batch = match conflicts {
            0 => self.batcher.push(item),
            _ => Some(Batch::from(item)),
        };
        match batch {
            Some(batch) => self.send(batch).await,
            None => Ok(()),
        }
    }

    /// Whether there is nothing to say of a value that was not said before.
    fn is_known(&mut self, key: &[u8], mod_revision: i64) -> bool {
        match self.set_aside.get(key) {
            Some((seen, _)) if *seen == mod_revision => return true,
            // Somebody wrote it since.
            Some(_) => {
                self.set_aside.remove(key);
            }
            None => {}
        }
        self.canaries
            .as_ref()
            .is_some_and(|canaries| canaries.own(key))
    }

    fn set_aside(&mut self, key: Vec<u8>, mod_revision: i64, reason: String) {
        self.done(1);
        let object = key
            .strip_prefix(&*self.directory)
            .and_then(ObjectKey::parse);
        let (namespace, name) = match object {
            Some(object) => (object.namespace, object.name),
            None => (
                None,
                String::from_utf8_lossy(&key).escape_debug().to_string(),
            ),
        };
        let set_aside = SetAside {
            namespace,
            name,
            reason,
        };
        self.set_aside.insert(key, (mod_revision, set_aside));
    }

    fn done(&self, objects: usize) {
        if self.is_first_pass {
            (0..objects).for_each(|_| self.progress.done());
        }
    }

    /// Sends a transaction once there is room for it, in etcd and among those in flight.
    async fn send(&mut self, batch: Batch) -> Result<(), Failure> {
        if let Some(perch) = self.perch.take() {
            self.canaries = Some(perch.prove(&mut self.cipher).await?);
        }
        let bytes = batch.bytes as u64;
        while self.space.is_unknown(bytes) {
            let in_flight = self.bytes_in_flight + bytes;
            if self.space.make(&mut self.connection, in_flight).await? {
                break;
            }
            while !self.in_flight.is_empty() {
                self.land().await?;
            }
        }
        self.space.take(bytes);
        while self.in_flight.len() >= self.throttle.in_flight {
            self.land().await?;
        }
        self.throttle.wait(batch.len()).await;
        self.bytes_in_flight += bytes;
        let mut client = self.connection.client.clone();
        self.in_flight.spawn(async move {
            let (request, sent) = batch.into_request();
            let start = Instant::now();
            let answer = client.transact(request).await;
            Landed {
                sent,
                bytes,
                took: start.elapsed(),
                answer,
            }
        });
        Ok(())
    }

    async fn land(&mut self) -> Result<(), Failure> {
        match self.in_flight.join_next().await {
            Some(landed) => self.settle(landed).await,
            None => Ok(()),
        }
    }

    /// Takes note of what came of a transaction.
    async fn settle(&mut self, landed: Result<Landed, JoinError>) -> Result<(), Failure> {
        let Landed {
            sent,
            bytes,
            took,
            answer,
        } = landed.map_err(|error| Failure::stopped(format!("a transaction was lost: {error}")))?;
        self.bytes_in_flight -= bytes;
        self.throttle.landed(took);
        let status = match answer {
            Ok(answer) if answer.succeeded => {
                self.connection.answered();
                let revision = answer.header.map_or(0, |header| header.revision);
                self.space.finish(revision);
                self.written.push(revision);
                self.outcome.rewritten += sent.len() as u64;
                self.done(sent.len());
                return Ok(());
            }
            // Somebody was faster.
            Ok(_) => return self.look_again(sent).await,
            Err(status) => status,
        };
        let refused = || {
            let reason = describe(&status);
            Failure::stopped(format!("etcd refuses to write: {reason}"))
                .hint("what was written is whole; run this again once that is mended")
        };
        match Trouble::of(&status) {
            Trouble::TooManyOperations if self.batcher.take_fewer_than(sent.len()) => {}
            Trouble::TooManyOperations | Trouble::Lasting => return Err(refused()),
            Trouble::TooLarge => match &*sent {
                [only] => {
                    let reason = "it is larger than etcd's --max-request-bytes".to_owned();
                    self.set_aside(only.key.clone(), only.mod_revision, reason);
                    return Ok(());
                }
                _ => self.batcher.take_less_than(bytes as usize),
            },
            Trouble::NoSpace => return Err(no_space()),
            Trouble::Passing => self.connection.recover(&status).await?,
        }
        self.look_again(sent).await
    }

    /// Reads what a transaction did not write, or may not have.
    async fn look_again(&mut self, sent: Vec<Sent>) -> Result<(), Failure> {
        let keys: Vec<_> = sent.iter().map(|it| it.key.clone()).collect();
        let now = self.connection.values(&keys).await?;
        for (sent, now) in sent.into_iter().zip(now) {
            let Some(pair) = now else {
                self.outcome.gone += u64::from(self.is_first_pass);
                self.done(1);
                continue;
            };
            let is_changed = pair.mod_revision != sent.mod_revision;
            self.again.push_back(Candidate {
                pair,
                conflicts: sent.conflicts + u32::from(is_changed),
                mark: Some(sent.mark),
            });
        }
        Ok(())
    }
}

impl From<KeyValue> for Candidate {
    fn from(pair: KeyValue) -> Self {
        Self {
            pair,
            conflicts: 0,
            mark: None,
        }
    }
}

/// Spreads objects over time.
struct Throttle {
    /// Transactions at a time.
    in_flight: usize,
    /// Objects of one.
    operations: usize,
    /// Objects a second.
    rate: Option<u32>,
    start: Option<Instant>,
    sent: u64,
    /// Whether to rest after a transaction for as long as it took.
    gentle: bool,
    rest: Option<Instant>,
}

impl Throttle {
    fn new(pace: Pace) -> Self {
        let (in_flight, operations) = if pace.gentle { GENTLY } else { EAGERLY };
        // At a low rate those of a tenth of a second, so that it is an even one.
        let of_rate = pace.rate.map_or(usize::MAX, |rate| rate as usize / 10);
        Self {
            in_flight: pace.in_flight.unwrap_or(in_flight).into(),
            operations: operations.min(of_rate),
            rate: pace.rate,
            start: None,
            sent: 0,
            gentle: pace.gentle,
            rest: None,
        }
    }

    /// A transaction took this long.
    fn landed(&mut self, took: Duration) {
        if self.gentle {
            self.rest = Some(Instant::now() + took);
        }
    }

    /// Waits until it is the turn of so many objects.
    async fn wait(&mut self, objects: usize) {
        if let Some(rest) = self.rest.take() {
            tokio::time::sleep_until(rest.into()).await;
        }
        let Some(rate) = self.rate else { return };
        let start = *self.start.get_or_insert_with(Instant::now);
        let due = start + Duration::from_secs_f64(self.sent as f64 / f64::from(rate));
        tokio::time::sleep_until(due.into()).await;
        self.sent += objects as u64;
    }
}
