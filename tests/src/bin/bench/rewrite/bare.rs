//! Bare transactions of etcd: every value read and written back as it is, as fast as etcd takes it.

use std::fs;
use std::process::ExitCode;

use atrest_core::at_rest::range_end;
use atrest_proto::etcdserverpb::compare::{CompareResult, CompareTarget};
use atrest_proto::etcdserverpb::kv_client::KvClient;
use atrest_proto::etcdserverpb::{Compare, PutRequest, RangeRequest, RequestOp, TxnRequest};
use atrest_proto::mvccpb::KeyValue;
use futures::stream::{self, StreamExt, TryStreamExt};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// The bench itself, as the process that does this.
pub(crate) const BARE_LOOP: &str = "--bare-loop";

/// Operations that etcd takes in a transaction, bytes of a request that it takes, well below its limit,
/// and transactions in flight.
const OPERATIONS: usize = 128;
const BYTES: usize = 1 << 20;
const IN_FLIGHT: usize = 4;

/// `ENDPOINT CA CERT KEY`.
pub(crate) fn bare_loop(flags: &[&str]) -> ExitCode {
    let [endpoint, ca, cert, key] = flags else {
        return ExitCode::from(2);
    };
    let done = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())
        .and_then(|runtime| runtime.block_on(write_back(endpoint, [ca, cert, key])));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("error: {what}");
            ExitCode::FAILURE
        }
    }
}

async fn write_back(endpoint: &str, pem: [&str; 3]) -> Result<(), String> {
    let [ca, cert, key] = pem.map(|file| fs::read(file).map_err(|error| error.to_string()));
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(ca?))
        .identity(Identity::from_pem(cert?, key?));
    let channel = Endpoint::from_shared(endpoint.to_owned())
        .and_then(|endpoint| endpoint.tls_config(tls))
        .map_err(|error| error.to_string())?
        .connect()
        .await
        .map_err(|error| error.to_string())?;
    let kv = KvClient::new(channel).max_decoding_message_size(1 << 30);
    pages(kv.clone())
        .map_ok(|pairs| stream::iter(transactions(pairs).into_iter().map(Ok)))
        .try_flatten()
        .try_for_each_concurrent(IN_FLIGHT, |transaction| {
            let mut kv = kv.clone();
            async move {
                let answer = kv
                    .txn(transaction)
                    .await
                    .map_err(|error| error.to_string())?;
                match answer.into_inner().succeeded {
                    true => Ok(()),
                    false => Err("a value changed meanwhile".to_owned()),
                }
            }
        })
        .await
}

fn pages(kv: KvClient<Channel>) -> impl stream::Stream<Item = Result<Vec<KeyValue>, String>> {
    let first = RangeRequest {
        key: b"/registry/secrets/".to_vec(),
        range_end: range_end(b"/registry/secrets/"),
        limit: 512,
        ..RangeRequest::default()
    };
    stream::try_unfold((kv, Some(first)), |(mut kv, request)| async move {
        let Some(mut request) = request else {
            return Ok(None);
        };
        let page = kv.range(request.clone()).await;
        let page = page.map_err(|error| error.to_string())?.into_inner();
        request.revision = page.header.map_or(request.revision, |it| it.revision);
        let next = page
            .kvs
            .last()
            .filter(|_| page.more)
            .map(|last| RangeRequest {
                key: [&last.key[..], b"\0"].concat(),
                ..request
            });
        Ok(Some((page.kvs, (kv, next))))
    })
    .boxed()
}

/// As few as etcd takes.
fn transactions(pairs: Vec<KeyValue>) -> Vec<TxnRequest> {
    let (mut transactions, mut bytes) = (vec![TxnRequest::default()], 0);
    for pair in pairs {
        bytes += pair.key.len() + pair.value.len();
        if let Some(last) = transactions.last()
            && (last.success.len() == OPERATIONS || bytes > BYTES)
        {
            transactions.push(TxnRequest::default());
            bytes = pair.key.len() + pair.value.len();
        }
        let Some(transaction) = transactions.last_mut() else {
            continue;
        };
        transaction.compare.push(Compare {
            result: CompareResult::Equal as i32,
            target: CompareTarget::Mod as i32,
            key: pair.key.clone(),
            mod_revision: pair.mod_revision,
            ..Compare::default()
        });
        transaction.success.push(RequestOp {
            request_put: Some(PutRequest {
                key: pair.key,
                value: pair.value,
                ignore_lease: true,
                ..PutRequest::default()
            }),
            ..RequestOp::default()
        });
    }
    transactions
}
