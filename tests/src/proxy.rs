//! A TLS-terminating proxy before an API server, which keeps every body that crosses it.

use std::fs;
use std::io::{self, Read as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use flate2::read::GzDecoder;
use futures::stream::{self, StreamExt};
use http::{Request, Response, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::processes::{ControlPlane, install_crypto_provider};

/// How deep base64, gzip and JSON may be in each other.
const LAYERS: usize = 6;

/// A request and its answer.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// `GET /api/v1/secrets?limit=500`.
    pub request: String,
    /// The `Accept` header.
    pub accept: String,
    /// The answer's `Content-Type`.
    pub content_type: String,
    /// Whether the answer came compressed.
    pub gzip: bool,
    /// The bodies of request and answer, as they crossed the wire.
    pub bodies: [Vec<u8>; 2],
}

impl Exchange {
    /// Both bodies and all that is in them: unpacked from gzip, parsed as JSON, decoded from
    /// base64, and so on inside what that yields.
    pub fn layers(&self) -> Vec<Vec<u8>> {
        let mut layers = Vec::new();
        for body in &self.bodies {
            unwrap_layers(body.clone(), LAYERS, &mut layers);
        }
        layers
    }
}

/// A running proxy; it ends when it is dropped.
pub struct Proxy {
    /// A kubeconfig of an administrator that leads to the proxy. It holds a token: a client
    /// certificate would not pass.
    pub kubeconfig: PathBuf,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

/// An answer that the proxy stopped in its middle.
pub struct Held {
    /// Resolves when the first half is on its way.
    pub reached: oneshot::Receiver<()>,
    /// Lets the second half go.
    pub release: oneshot::Sender<()>,
}

struct Hold {
    request: String,
    reached: oneshot::Sender<()>,
    release: oneshot::Receiver<()>,
}

struct Shared {
    server: SocketAddr,
    /// Answers instead of it when its metrics are asked for.
    metrics: SocketAddr,
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    exchanges: Mutex<Vec<Exchange>>,
    hold: Mutex<Option<Hold>>,
}

type Sender = tokio::sync::Mutex<SendRequest<Full<Bytes>>>;

type Body = BoxBody<Bytes, std::convert::Infallible>;

impl Proxy {
    /// Starts a proxy before an API server, with that server's own serving certificate.
    pub fn start(plane: &ControlPlane, server: usize) -> Self {
        Self::start_crossed(plane, server, server)
    }

    /// The same; whoever asks for metrics gets those of another API server.
    pub fn start_crossed(plane: &ControlPlane, server: usize, metrics: usize) -> Self {
        install_crypto_provider();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("threads can be started");
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .expect("loopback has a free port");
        let port = listener.local_addr().expect("bound").port();
        let (acceptor, connector) = tls(&plane.pki());
        let address = |server: usize| (Ipv4Addr::LOCALHOST, plane.servers[server].port).into();
        let shared = Arc::new(Shared {
            server: address(server),
            metrics: address(metrics),
            acceptor,
            connector,
            exchanges: Mutex::default(),
            hold: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("it does not block");
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&accepting);
                // A client that goes away ends its connection; what it asked is recorded.
                tokio::spawn(async move { shared.serve(stream).await.ok() });
            }
        });
        Self {
            kubeconfig: kubeconfig(plane, server, port),
            shared,
            runtime: Some(runtime),
        }
    }

    /// What crossed since the last call, in the order of the answers.
    pub fn take(&self) -> Vec<Exchange> {
        std::mem::take(&mut *self.shared.exchanges.lock().expect("no holder panics"))
    }

    /// Stops the answer to the next request that begins so after its first half.
    pub fn hold(&self, request: &str) -> Held {
        let (reached, has_reached) = oneshot::channel();
        let (release, released) = oneshot::channel();
        *self.shared.hold.lock().expect("no holder panics") = Some(Hold {
            request: request.to_owned(),
            reached,
            release: released,
        });
        Held {
            reached: has_reached,
            release,
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    async fn serve(self: Arc<Self>, stream: TcpStream) -> Result<(), Box<dyn std::error::Error>> {
        let stream = self.acceptor.accept(stream).await?;
        let [server, metrics] = [self.connect(self.server), self.connect(self.metrics)];
        let (server, metrics) = (server.await?, metrics.await?);
        let service = service_fn(|request: Request<Incoming>| {
            let sender = match request.uri().path() {
                "/metrics" => Arc::clone(&metrics),
                _ => Arc::clone(&server),
            };
            let shared = Arc::clone(&self);
            async move { shared.forward(request, &sender).await }
        });
        hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await?;
        Ok(())
    }

    async fn connect(&self, server: SocketAddr) -> io::Result<Arc<Sender>> {
        let stream = TcpStream::connect(server).await?;
        let name = ServerName::IpAddress(server.ip().into());
        let stream = self.connector.connect(name, stream).await?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(Arc::new(Sender::new(sender)))
    }

    async fn forward(
        &self,
        request: Request<Incoming>,
        sender: &Sender,
    ) -> hyper::Result<Response<Body>> {
        let (mut parts, body) = request.into_parts();
        let asked = body.collect().await?.to_bytes();
        whole_body(&mut parts.headers);
        let line = format!("{} {}", parts.method, parts.uri);
        let accept = text(&parts.headers, header::ACCEPT);
        let request = Request::from_parts(parts, Full::new(asked.clone()));
        let response = sender.lock().await.send_request(request).await?;

        let (mut parts, body) = response.into_parts();
        let answered = body.collect().await?.to_bytes();
        whole_body(&mut parts.headers);
        self.exchanges
            .lock()
            .expect("no holder panics")
            .push(Exchange {
                accept,
                content_type: text(&parts.headers, header::CONTENT_TYPE),
                gzip: text(&parts.headers, header::CONTENT_ENCODING) == "gzip",
                bodies: [asked.to_vec(), answered.to_vec()],
                request: line.clone(),
            });
        let hold = self
            .hold
            .lock()
            .expect("no holder panics")
            .take_if(|hold| line.starts_with(&hold.request));
        let body = match hold {
            None => Full::new(answered).boxed(),
            Some(hold) => in_two_halves(answered, hold),
        };
        Ok(Response::from_parts(parts, body))
    }
}

fn in_two_halves(body: Bytes, hold: Hold) -> Body {
    let rest = body.slice(body.len() / 2..);
    let first = body.slice(..body.len() / 2);
    let halves = stream::once(async move { first }).chain(stream::once(async move {
        let _ = hold.reached.send(());
        // A holder that is gone holds nothing.
        let _ = hold.release.await;
        rest
    }));
    BodyExt::boxed(StreamBody::new(halves.map(|half| Ok(Frame::data(half)))))
}

/// The length is that of the bytes that are passed on.
fn whole_body(headers: &mut http::HeaderMap) {
    headers.remove(header::TRANSFER_ENCODING);
    headers.remove(header::CONTENT_LENGTH);
}

fn text(headers: &http::HeaderMap, name: header::HeaderName) -> String {
    let value = headers.get(name).map(http::HeaderValue::as_bytes);
    String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
}

fn tls(pki: &Path) -> (TlsAcceptor, TlsConnector) {
    let chain = CertificateDer::pem_file_iter(pki.join("apiserver.crt"))
        .and_then(Iterator::collect)
        .expect("kubeadm wrote it");
    let key = PrivateKeyDer::from_pem_file(pki.join("apiserver.key")).expect("kubeadm wrote it");
    let server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("they belong together");
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(pki.join("ca.crt")).expect("kubeadm wrote it"))
        .expect("it is a certificate");
    let client = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (
        TlsAcceptor::from(Arc::new(server)),
        TlsConnector::from(Arc::new(client)),
    )
}

fn kubeconfig(plane: &ControlPlane, server: usize, port: u16) -> PathBuf {
    let kubectl = |arguments: &[&str]| {
        let output = plane
            .kubectl(server)
            .args(["-n", "kube-system"])
            .args(arguments)
            .output()
            .expect("kubectl was built");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let name = format!("proxy-{port}");
    kubectl(&["create", "serviceaccount", &name]);
    kubectl(&[
        "create",
        "clusterrolebinding",
        &name,
        "--clusterrole=cluster-admin",
        &format!("--serviceaccount=kube-system:{name}"),
    ]);
    let token = kubectl(&["create", "token", &name, "--duration=1h"]);
    let path = plane.directory().join(format!("{name}.conf"));
    let ca = plane.pki().join("ca.crt");
    let text = format!(
        "apiVersion: v1
kind: Config
clusters:
- name: proxy
  cluster: {{server: 'https://127.0.0.1:{port}', certificate-authority: '{}'}}
users:
- name: proxy
  user: {{token: '{token}'}}
contexts:
- name: proxy
  context: {{cluster: proxy, user: proxy}}
current-context: proxy
",
        ca.display()
    );
    fs::write(&path, text).expect("our directory");
    path
}

fn unwrap_layers(bytes: Vec<u8>, depth: usize, layers: &mut Vec<Vec<u8>>) {
    if depth > 0 {
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let mut unpacked = Vec::new();
            if GzDecoder::new(&bytes[..])
                .read_to_end(&mut unpacked)
                .is_ok()
            {
                unwrap_layers(unpacked, depth - 1, layers);
            }
        }
        if bytes
            .iter()
            .find(|byte| !byte.is_ascii_whitespace())
            .is_some_and(|byte| b"{[\"".contains(byte))
            && let Ok(value) = serde_json::from_slice(&bytes)
        {
            strings(value, &mut |text| {
                unwrap_layers(text.into_bytes(), depth - 1, layers);
            });
        } else if bytes.len() >= 16 {
            let trimmed = bytes.trim_ascii();
            for decoded in [
                BASE64_STANDARD.decode(trimmed),
                BASE64_URL_SAFE_NO_PAD.decode(trimmed),
            ]
            .into_iter()
            .flatten()
            {
                unwrap_layers(decoded, depth - 1, layers);
            }
        }
    }
    layers.push(bytes);
}

fn strings(value: serde_json::Value, found: &mut impl FnMut(String)) {
    match value {
        serde_json::Value::String(text) => found(text),
        serde_json::Value::Array(values) => {
            for value in values {
                strings(value, found);
            }
        }
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                found(name);
                strings(value, found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::write::GzEncoder;

    use super::*;

    #[test]
    fn what_is_wrapped_many_times_is_unwrapped() {
        let value = b"the very value that was hidden";
        let gzip = |bytes: &[u8]| {
            let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        };
        let packed = BASE64_STANDARD.encode(gzip(value));
        let inner = serde_json::json!({ "data": { "release": packed } }).to_string();
        let outer = serde_json::json!([{ "annotations": { "applied": inner } }]).to_string();
        let exchange = Exchange {
            request: "GET /".into(),
            accept: String::new(),
            content_type: String::new(),
            gzip: true,
            bodies: [Vec::new(), gzip(outer.as_bytes())],
        };
        assert!(exchange.layers().iter().any(|layer| layer == value));
    }
}
