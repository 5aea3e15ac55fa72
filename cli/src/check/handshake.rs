//! A TLS handshake that looks, and believes nothing: what a server presents, whose clients it asks for, and
//! whether it takes a certificate.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

/// For all of a handshake and one answer: a server that stalls is one that does not answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// A status line, and nothing of what follows it.
const STATUS_LINE: usize = 64;

/// What a handshake showed.
pub(super) struct Seen {
    /// The server's certificates, DER, its own first.
    pub(super) presented: Vec<Vec<u8>>,
    /// Names of CAs, DER; `None` where no client's certificate was asked for.
    pub(super) asks_for: Option<Vec<Vec<u8>>>,
}

/// Shakes hands without a certificate.
pub(super) fn look(address: &str) -> Result<Seen, String> {
    let witness = Arc::new(Witness::default());
    let connection = connect(address, witness.clone())?;
    let presented = connection.conn.peer_certificates().unwrap_or_default();
    Ok(Seen {
        presented: presented.iter().map(|it| it.to_vec()).collect(),
        asks_for: witness.asked(),
    })
}

/// How a server takes a client's certificate.
pub(super) enum Answer {
    /// HTTP's status code: TLS took it.
    Status(u16),
    /// TLS refused it.
    Refused(String),
}

/// Shows a certificate and asks for a path.
pub(super) fn show(
    address: &str,
    path: &str,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Answer, String> {
    let key = provider()
        .key_provider
        .load_private_key(key)
        .map_err(|_| "its key cannot be used for TLS")?;
    let witness = Arc::new(Witness {
        key: Some(Arc::new(CertifiedKey::new(chain, key))),
        ..Witness::default()
    });
    let mut connection = match connect(address, witness) {
        Ok(connection) => connection,
        Err(reason) => return refused_or(reason),
    };
    if let Err(reason) = refusal(&mut connection) {
        return refused_or(reason);
    }
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let mut line = Vec::new();
    let answered = connection.write_all(request.as_bytes()).and_then(|()| {
        connection.flush()?;
        let mut piece = [0; STATUS_LINE];
        while line.len() < STATUS_LINE && !line.contains(&b'\n') {
            match connection.read(&mut piece)? {
                0 => break,
                length => line.extend_from_slice(&piece[..length]),
            }
        }
        Ok(())
    });
    if let Err(error) = answered {
        return refused_or(error.to_string());
    }
    let line = String::from_utf8_lossy(&line);
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
    status
        .map(Answer::Status)
        .ok_or_else(|| "it answers no HTTP".to_owned())
}

/// In TLS 1.3 a server refuses a client after the handshake. What is sent to one that has hung up already
/// would have the connection reset, and the alert lost: it is waited for.
fn refusal(connection: &mut StreamOwned<ClientConnection, Timed>) -> Result<(), String> {
    const A_MOMENT: Duration = Duration::from_millis(300);

    let deadline = connection.sock.deadline;
    connection.sock.deadline = Instant::now() + A_MOMENT;
    let read = connection.conn.read_tls(&mut connection.sock);
    connection.sock.deadline = deadline;
    match read {
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(()),
        Err(error) => Err(error.to_string()),
        Ok(_) => {
            let processed = connection.conn.process_new_packets();
            processed.map(|_| ()).map_err(|error| error.to_string())
        }
    }
}

/// An alert of the peer is an answer; all else is none.
fn refused_or(reason: String) -> Result<Answer, String> {
    match reason.contains("alert") {
        true => Ok(Answer::Refused(reason)),
        false => Err(reason),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn connect(
    address: &str,
    witness: Arc<Witness>,
) -> Result<StreamOwned<ClientConnection, Timed>, String> {
    let deadline = Instant::now() + DEADLINE;
    let words = |error: io::Error| error.to_string();
    let mut addresses = address.to_socket_addrs().map_err(words)?;
    let socket_address = addresses.next().ok_or("it has no address")?;
    let socket = TcpStream::connect_timeout(&socket_address, DEADLINE).map_err(words)?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(witness.clone())
        .with_client_cert_resolver(witness);
    let name = ServerName::from(socket_address.ip());
    let connection =
        ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())?;
    let mut stream = StreamOwned::new(connection, Timed { socket, deadline });
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).map_err(words)?;
    }
    Ok(stream)
}

/// A socket that ends at a time, however slowly bytes come.
struct Timed {
    socket: TcpStream,
    deadline: Instant,
}

impl Timed {
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        match left.is_zero() {
            true => Err(late()),
            false => Ok(Some(left)),
        }
    }
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "it does not answer in time")
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(self.left()?)?;
        match self.socket.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(late()),
            other => other,
        }
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(self.left()?)?;
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

/// Takes every server's certificate, where the handshake proves that the server has its key, and notes
/// whose clients it asks for. Nothing that is secret is sent.
#[derive(Debug, Default)]
struct Witness {
    key: Option<Arc<CertifiedKey>>,
    asked: Mutex<Option<Vec<Vec<u8>>>>,
}

impl Witness {
    fn asked(&self) -> Option<Vec<Vec<u8>>> {
        // A panic while it is held is nowhere.
        self.asked.lock().ok().and_then(|asked| asked.clone())
    }
}

impl ResolvesClientCert for Witness {
    fn resolve(&self, names: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        if let Ok(mut asked) = self.asked.lock() {
            *asked = Some(names.iter().map(|name| name.to_vec()).collect());
        }
        self.key.clone()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
