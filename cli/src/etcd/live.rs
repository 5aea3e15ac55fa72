//! A running etcd, over mutual TLS.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use atrest_core::at_rest::{GroupResource, range_end};
use atrest_core::secret::SecretBytes;
use atrest_proto::etcdserverpb::kv_client::KvClient;
use atrest_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use atrest_proto::etcdserverpb::{
    CompactionRequest, RangeRequest, RequestOp, StatusRequest, TxnRequest, TxnResponse,
};
use atrest_proto::mvccpb::KeyValue;
use tokio::time::timeout;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::args::EtcdFlags;
use crate::report::progress::Progress;
use crate::status::{Failure, innermost};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes that a page of a range read should have.
const PAGE_BYTES: usize = 4 << 20;

/// Values of a page, however small the last ones were: of the largest that etcd takes (1.5 MiB) these
/// still fit into a message.
const PAGE_VALUES: usize = 300;

const MAX_MESSAGE: usize = 512 << 20;

/// Where etcd is on most nodes.
pub(crate) const ON_KUBEADM: &str = "on a kubeadm node: --etcd-endpoints https://127.0.0.1:2379 \
     --etcd-cacert /etc/kubernetes/pki/etcd/ca.crt \
     --etcd-cert /etc/kubernetes/pki/apiserver-etcd-client.crt \
     --etcd-key /etc/kubernetes/pki/apiserver-etcd-client.key";

/// A connection to the first endpoint that answered.
#[derive(Clone)]
pub(crate) struct Client {
    kv: KvClient<Channel>,
    pub(super) maintenance: MaintenanceClient<Channel>,
    pub(super) channel: Channel,
    /// Whether it may have [`Client::stream`].
    streams: bool,
    /// Of the cluster, in hex as `etcdctl endpoint status` shows it.
    pub(crate) cluster_id: String,
}

/// The size of the database of the member that was asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Usage {
    /// Bytes of the file, free pages among them: what the quota is held against.
    pub(crate) file: u64,
    /// Bytes that hold something.
    pub(crate) in_use: u64,
    /// `None` before etcd 3.6, which does not say.
    pub(crate) quota: Option<Quota>,
    /// Whether it takes no writes until somebody makes room.
    pub(crate) is_full: bool,
    /// Entries of the log that are agreed upon and not applied.
    pub(crate) backlog: u64,
}

/// etcd's `--quota-backend-bytes`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Quota {
    Bytes(u64),
    Off,
}

/// A range that is read page by page, at one revision.
pub(crate) struct Pages {
    request: RangeRequest,
    /// A hundredth of what is left, within these bounds: etcd counts all that is left for each page.
    page_bytes: RangeInclusive<usize>,
    page_values: usize,
    is_over: bool,
    /// Keys in the range behind the last page, that page among them.
    pub(crate) count: u64,
}

impl Pages {
    /// Every value below `directory`, at the given revision or the newest.
    pub(crate) fn below(directory: &[u8], revision: Option<i64>) -> Self {
        Self {
            request: RangeRequest {
                key: directory.to_vec(),
                range_end: range_end(directory),
                limit: 64,
                revision: revision.unwrap_or_default(),
                ..RangeRequest::default()
            },
            page_bytes: PAGE_BYTES..=PAGE_BYTES,
            page_values: PAGE_VALUES,
            is_over: false,
            count: 0,
        }
    }

    /// Of about so many bytes, however many values these are.
    pub(crate) fn of_bytes(self, page_bytes: RangeInclusive<usize>) -> Self {
        Self {
            page_bytes,
            page_values: usize::MAX,
            ..self
        }
    }

    /// Keys alone, of about so many bytes.
    pub(crate) fn of_keys(mut self, page_bytes: RangeInclusive<usize>) -> Self {
        self.request.keys_only = true;
        self.of_bytes(page_bytes)
    }

    /// The revision that is read; 0 before the first page.
    pub(crate) fn revision(&self) -> i64 {
        self.request.revision
    }

    /// Goes on at the newest revision, where the one so far was compacted.
    pub(crate) fn renew(&mut self) {
        self.request.revision = 0;
    }

    /// As many as fill a page if the rest is like these, and never a jump.
    fn fitting(&self, last: &[KeyValue]) -> i64 {
        let bytes = last.iter().map(|it| it.key.len() + it.value.len()).sum();
        let average = usize::max(bytes, 1) / last.len().max(1);
        let left = usize::try_from(self.count).unwrap_or(usize::MAX);
        let hundredth = left.saturating_mul(average) / 100;
        let page = hundredth.clamp(*self.page_bytes.start(), *self.page_bytes.end());
        let fitting = (page / average.max(1)).clamp(1, (last.len() * 4).max(1));
        i64::try_from(fitting.min(self.page_values)).unwrap_or(i64::MAX)
    }

    /// Asks for less from now on; `false` where there is no less.
    fn shrink(&mut self) -> bool {
        let is_one = self.request.limit <= 1;
        self.request.limit = (self.request.limit / 2).max(1);
        !is_one
    }
}

/// See [`Client::first_keys`].
pub(crate) struct FirstKeys {
    pub(crate) keys: Vec<Vec<u8>>,
    pub(crate) revision: i64,
}

/// A key and when it was written.
pub(crate) struct Key {
    pub(crate) key: Vec<u8>,
    pub(crate) mod_revision: i64,
}

/// A stored value and when it was written.
pub(crate) struct Value<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    pub(crate) mod_revision: i64,
}

impl Client {
    /// Tries the endpoints in their order.
    pub(crate) async fn connect(flags: &EtcdFlags) -> Result<Self, Failure> {
        let mut last = None;
        for endpoint in &flags.endpoints {
            match Self::connect_one(endpoint, flags).await {
                Ok(client) => return Ok(client),
                Err(failure) => last = Some(failure),
            }
        }
        Err(last.unwrap_or_else(|| Failure::unusable("no etcd endpoint").hint(ON_KUBEADM)))
    }

    async fn connect_one(address: &str, flags: &EtcdFlags) -> Result<Self, Failure> {
        let channel = channel(address, flags, REQUEST_TIMEOUT).await?;
        let status = MaintenanceClient::new(channel.clone())
            .status(StatusRequest {})
            .await
            .map_err(|status| unreached(address, &describe(&status)))?
            .into_inner();
        let cluster_id = status
            .header
            .map(|header| header.cluster_id)
            .unwrap_or_default();
        Ok(Self {
            kv: KvClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE),
            maintenance: MaintenanceClient::new(channel.clone()),
            channel,
            streams: true,
            cluster_id: format!("{cluster_id:x}"),
        })
    }

    /// The same connection, which refuses answers that are longer.
    pub(crate) fn with_answers_up_to(&self, bytes: usize) -> Self {
        Self {
            kv: self.kv.clone().max_decoding_message_size(bytes),
            ..self.clone()
        }
    }

    /// The next page of a range; `None` behind the last one.
    pub(crate) async fn page(
        &mut self,
        pages: &mut Pages,
    ) -> Result<Option<Vec<KeyValue>>, tonic::Status> {
        if pages.is_over {
            return Ok(None);
        }
        let page = loop {
            match self.kv.range(pages.request.clone()).await {
                Ok(page) => break page.into_inner(),
                // The message was longer than we take.
                Err(status) if is_too_long(&status) && pages.shrink() => {}
                Err(status) => return Err(status),
            }
        };
        if pages.request.revision == 0 {
            pages.request.revision = page.header.map_or(0, |header| header.revision);
        }
        pages.count = u64::try_from(page.count).unwrap_or_default();
        pages.is_over = !page.more;
        if let Some(last) = page.kvs.last() {
            pages.request.key = [&last.key[..], b"\0"].concat();
        } else if page.more {
            return Err(tonic::Status::data_loss("an empty page, and there is more"));
        }
        pages.request.limit = pages.fitting(&page.kvs);
        Ok(Some(page.kvs))
    }

    /// Reads every value below `directory` at one revision: the given one, or the newest. Returns
    /// the revision. Memory holds one page, or what is on its way.
    pub(crate) async fn read(
        &mut self,
        directory: &[u8],
        revision: Option<i64>,
        progress: &Progress,
        mut each: impl FnMut(Value<'_>),
    ) -> Result<i64, Failure> {
        if progress.is_shown() {
            progress.expect(self.count(directory).await?);
        }
        let mut each = |pairs: &[KeyValue]| {
            progress.advance(pairs.len() as u64);
            for pair in pairs {
                each(Value {
                    key: &pair.key,
                    value: &pair.value,
                    mod_revision: pair.mod_revision,
                });
            }
        };
        let mut pages = Pages::below(directory, revision);
        let failed = |status: tonic::Status| {
            let (name, reason) = (String::from_utf8_lossy(directory), describe(&status));
            Failure::unread(format!("cannot read {name} from etcd: {reason}")).hint(
                "every value is read at one revision; if that was compacted meanwhile, try again",
            )
        };
        let streamed = self.stream(&pages.request, &mut each).await;
        if let Some(revision) = streamed.map_err(failed)? {
            return Ok(revision);
        }
        while let Some(page) = self.page(&mut pages).await.map_err(failed)? {
            each(&page);
        }
        Ok(pages.revision())
    }

    /// The same in one long answer, which takes less than half the time: etcd reads on while values
    /// are on their way. `None` before etcd 3.7 and behind a proxy, which have no such answer.
    async fn stream(
        &mut self,
        request: &RangeRequest,
        each: &mut impl FnMut(&[KeyValue]),
    ) -> Result<Option<i64>, tonic::Status> {
        if !self.streams {
            return Ok(None);
        }
        let request = RangeRequest {
            limit: 0,
            ..request.clone()
        };
        let asked_for = request.revision;
        let mut parts = match self.kv.range_stream(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => return self.without_stream(status),
        };
        let (mut has_read, mut last) = (false, None);
        loop {
            let silence = |_| tonic::Status::deadline_exceeded("it stopped in the middle");
            let part = timeout(REQUEST_TIMEOUT, parts.message());
            let part = match part.await.map_err(silence)? {
                Ok(Some(part)) => part.range_response.unwrap_or_default(),
                Ok(None) => break,
                Err(status) if has_read => return Err(status),
                Err(status) => return self.without_stream(status),
            };
            has_read = true;
            each(&part.kvs);
            last = part.header.filter(|_| !part.more);
        }
        // Without it the answer was cut off.
        let last = last.ok_or_else(|| tonic::Status::data_loss("it ended too early"))?;
        Ok(Some(match asked_for {
            0 => last.revision,
            revision => revision,
        }))
    }

    /// Nothing was read yet where etcd does not know the request.
    fn without_stream(&mut self, status: tonic::Status) -> Result<Option<i64>, tonic::Status> {
        if status.code() != tonic::Code::Unimplemented {
            return Err(status);
        }
        self.streams = false;
        Ok(None)
    }

    /// The first key of each directory below the prefix, and the revision at which they were read.
    pub(crate) async fn first_keys(&mut self, prefix: &str) -> Result<FirstKeys, Failure> {
        // Of a resource without a name: the prefix and its slash.
        let below = GroupResource::parse("a").directory(prefix);
        let below = below.trim_end_matches("a/").as_bytes();
        let mut request = RangeRequest {
            key: below.to_vec(),
            range_end: range_end(below),
            limit: 1,
            keys_only: true,
            ..RangeRequest::default()
        };
        let mut keys = Vec::new();
        loop {
            let page = self.kv.range(request.clone()).await.map_err(|status| {
                let reason = describe(&status);
                Failure::unread(format!("cannot list what etcd has: {reason}"))
            })?;
            let page = page.into_inner();
            if request.revision == 0 {
                request.revision = page.header.map_or(0, |header| header.revision);
            }
            let Some(pair) = page.kvs.into_iter().next() else {
                return Ok(FirstKeys {
                    keys,
                    revision: request.revision,
                });
            };
            request.key = match GroupResource::of_key(&pair.key, prefix) {
                Some((_, end)) => range_end(&pair.key[..end]),
                None => [&pair.key[..], b"\0"].concat(),
            };
            keys.push(pair.key);
        }
    }

    /// The first `limit` keys below `directory` from `from` on, as they are now.
    ///
    /// A limit on modification revisions is not sent with it: etcd would then read every value of the
    /// rest for each page.
    pub(crate) async fn keys(
        &mut self,
        directory: &[u8],
        from: &[u8],
        limit: u32,
    ) -> Result<Vec<Key>, Failure> {
        let request = RangeRequest {
            key: from.to_vec(),
            range_end: range_end(directory),
            limit: limit.into(),
            keys_only: true,
            ..RangeRequest::default()
        };
        let page = self.kv.range(request).await.map_err(|status| {
            let (name, reason) = (String::from_utf8_lossy(directory), describe(&status));
            Failure::unread(format!("cannot list {name} in etcd: {reason}"))
        })?;
        let pairs = page.into_inner().kvs.into_iter();
        let keys = pairs.map(|pair| Key {
            key: pair.key,
            mod_revision: pair.mod_revision,
        });
        Ok(keys.collect())
    }

    /// How many keys there are below `directory`.
    pub(crate) async fn count(&mut self, directory: &[u8]) -> Result<u64, Failure> {
        let request = RangeRequest {
            key: directory.to_vec(),
            range_end: range_end(directory),
            count_only: true,
            ..RangeRequest::default()
        };
        let answer = self.kv.range(request).await.map_err(|status| {
            let (name, reason) = (String::from_utf8_lossy(directory), describe(&status));
            Failure::unread(format!("cannot count {name} in etcd: {reason}"))
        })?;
        Ok(answer.into_inner().count.try_into().unwrap_or_default())
    }

    /// The value of a key; `None` where there is no such key.
    pub(crate) async fn get(&mut self, key: &str) -> Result<Option<SecretBytes>, Failure> {
        let request = RangeRequest {
            key: key.as_bytes().to_vec(),
            ..RangeRequest::default()
        };
        let response = self.kv.range(request).await.map_err(|status| {
            let reason = describe(&status);
            Failure::unread(format!("cannot read {key} from etcd: {reason}"))
        })?;
        let pair = response.into_inner().kvs.into_iter().next();
        Ok(pair.map(|pair| SecretBytes::new(pair.value)))
    }

    /// What stands at each of the keys now.
    pub(crate) async fn values(
        &mut self,
        keys: impl IntoIterator<Item = Vec<u8>>,
    ) -> Result<Vec<Option<KeyValue>>, tonic::Status> {
        let range = |key| RequestOp {
            request_range: Some(RangeRequest {
                key,
                ..RangeRequest::default()
            }),
            ..RequestOp::default()
        };
        let request = TxnRequest {
            success: keys.into_iter().map(range).collect(),
            ..TxnRequest::default()
        };
        let asked = request.success.len();
        let answer = self.kv.txn(request).await?.into_inner();
        if answer.responses.len() != asked {
            return Err(tonic::Status::data_loss("not as many answers as questions"));
        }
        let values = answer.responses.into_iter();
        Ok(values
            .map(|response| response.response_range?.kvs.into_iter().next())
            .collect())
    }

    /// A transaction.
    pub(crate) async fn transact(
        &mut self,
        request: TxnRequest,
    ) -> Result<TxnResponse, tonic::Status> {
        Ok(self.kv.txn(request).await?.into_inner())
    }

    /// How large the database is.
    pub(crate) async fn usage(&mut self) -> Result<Usage, tonic::Status> {
        let status = self
            .maintenance
            .status(StatusRequest {})
            .await?
            .into_inner();
        let bytes = |number: i64| u64::try_from(number).unwrap_or_default();
        Ok(Usage {
            file: bytes(status.db_size),
            in_use: bytes(status.db_size_in_use),
            quota: match status.db_size_quota {
                0 => None,
                ..0 => Some(Quota::Off),
                quota => Some(Quota::Bytes(bytes(quota))),
            },
            backlog: status.raft_index.saturating_sub(status.raft_applied_index),
            is_full: status.errors.iter().any(|alarm| alarm.contains("NOSPACE")),
        })
    }

    /// Takes away what was superseded before a revision, and returns once its space can be used.
    pub(crate) async fn compact(&mut self, revision: i64) -> Result<(), tonic::Status> {
        let request = CompactionRequest {
            revision,
            physical: true,
        };
        match self.kv.compact(request).await {
            Err(status) if is_compacted(&status) => Ok(()),
            answer => answer.map(|_| ()),
        }
    }

    /// When a key was written; `None` where there is no such key.
    pub(crate) async fn mod_revision(&mut self, key: &str) -> Result<Option<i64>, Failure> {
        let request = RangeRequest {
            key: key.as_bytes().to_vec(),
            keys_only: true,
            ..RangeRequest::default()
        };
        let response = self.kv.range(request).await.map_err(|status| {
            Failure::unread(format!(
                "cannot read {key} from etcd: {}",
                describe(&status)
            ))
        })?;
        Ok(response
            .into_inner()
            .kvs
            .first()
            .map(|pair| pair.mod_revision))
    }

    /// The newest revision.
    pub(crate) async fn revision(&mut self) -> Result<i64, Failure> {
        let request = RangeRequest {
            key: b"/".to_vec(),
            count_only: true,
            ..RangeRequest::default()
        };
        let response = self.kv.range(request).await.map_err(|status| {
            Failure::unread(format!(
                "cannot read etcd's revision: {}",
                describe(&status)
            ))
        })?;
        Ok(response
            .into_inner()
            .header
            .map(|header| header.revision)
            .unwrap_or_default())
    }
}

/// A connection to one endpoint. No answer may take longer to begin.
pub(super) async fn channel(
    address: &str,
    flags: &EtcdFlags,
    answers_within: Duration,
) -> Result<Channel, Failure> {
    let unusable = |what: &str| Failure::unusable(format!("{address}: {what}"));
    let mut endpoint = Endpoint::from_shared(address.to_owned())
        .map_err(|_| unusable("not an address").hint("it looks like https://127.0.0.1:2379"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(answers_within);
    if address.starts_with("https:") {
        let mut tls = ClientTlsConfig::new();
        if let Some(ca) = &flags.cacert {
            tls = tls.ca_certificate(Certificate::from_pem(pem(ca)?.expose()));
        }
        if let (Some(cert), Some(key)) = (&flags.cert, &flags.key) {
            tls = tls.identity(Identity::from_pem(pem(cert)?.expose(), pem(key)?.expose()));
        }
        endpoint = endpoint.tls_config(tls).map_err(|_| {
            unusable("the certificate or key files cannot be used")
                .hint("all three are PEM; check that --etcd-cert and --etcd-key are not swapped")
        })?;
    }
    endpoint
        .connect()
        .await
        .map_err(|error| unreached(address, &innermost(&error)))
}

fn unreached(address: &str, reason: &str) -> Failure {
    Failure::unread(format!("cannot reach etcd at {address}: {reason}"))
        .hint("check --etcd-endpoints, --etcd-cacert, --etcd-cert and --etcd-key")
}

fn pem(path: &Path) -> Result<SecretBytes, Failure> {
    atrest_files::read(path).map_err(Failure::unusable)
}

/// Whether a revision is asked for that a compaction took away.
pub(crate) fn is_compacted(status: &tonic::Status) -> bool {
    status.message().contains("has been compacted")
}

/// tonic's own words.
fn is_too_long(status: &tonic::Status) -> bool {
    status.code() == tonic::Code::OutOfRange
        && status
            .message()
            .contains("decoded message length too large")
}

/// In a few words.
pub(crate) fn describe(status: &tonic::Status) -> String {
    match std::error::Error::source(status) {
        Some(source) => innermost(source),
        None => format!("{:?}: {}", status.code(), status.message()),
    }
}
