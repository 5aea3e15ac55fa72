//! A running plugin and a client of its socket.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use atrest_proto::v2::key_management_service_client::KeyManagementServiceClient;
use atrest_proto::v2::{
    DecryptRequest, EncryptRequest, EncryptResponse, StatusRequest, StatusResponse,
};
use rustix::process::{Pid, Signal, kill_process};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::folder::{Folder, read};

pub(crate) const SEED: [u8; 32] = *b"a seed of 32 bytes, as they come";

const DEADLINE: Duration = Duration::from_secs(20);

/// Ends with the test.
pub(crate) struct Plugin {
    child: Child,
    socket: PathBuf,
    log: PathBuf,
}

impl Plugin {
    /// Starts it on the folder's keyring and socket, and returns once it answers.
    pub(crate) async fn start(folder: &Folder) -> Self {
        Self::start_with(folder, &[]).await
    }

    pub(crate) async fn start_with(folder: &Folder, args: &[&str]) -> Self {
        let mut plugin = Self::spawn(folder, args);
        let started = Instant::now();
        while plugin.try_client().await.is_none() {
            let ended = plugin.child.try_wait().unwrap();
            assert!(ended.is_none(), "ended with {ended:?}: {}", plugin.log());
            assert!(
                started.elapsed() < DEADLINE,
                "does not answer: {}",
                plugin.log()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        plugin
    }

    /// Starts it, and does not wait for an answer.
    pub(crate) fn spawn(folder: &Folder, args: &[&str]) -> Self {
        Self::spawn_at(folder, folder.socket().to_str().unwrap(), args)
    }

    /// The same, at another socket.
    pub(crate) fn spawn_at(folder: &Folder, socket: &str, args: &[&str]) -> Self {
        let command = folder.command(&["serve", "--socket", socket]);
        Self::spawn_command(folder, socket, command, args)
    }

    /// The same, by a command that ends with `atrest-kms serve` and what it needs.
    pub(crate) fn spawn_command(
        folder: &Folder,
        socket: &str,
        mut command: Command,
        args: &[&str],
    ) -> Self {
        let log = folder.path("log");
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        let child = command
            .args(args)
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            child,
            socket: socket.into(),
            log,
        }
    }

    async fn try_client(&self) -> Option<Client> {
        let endpoint = Endpoint::from_shared(format!("unix:{}", self.socket.display())).unwrap();
        let channel = endpoint.connect().await.ok()?;
        Some(Client(KeyManagementServiceClient::new(channel)))
    }

    /// A connection.
    pub(crate) async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("unix:{}", self.socket.display())).unwrap();
        endpoint.connect().await.unwrap()
    }

    /// On a connection of its own.
    pub(crate) async fn client(&self) -> Client {
        self.try_client()
            .await
            .expect("the plugin takes connections")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that it wrote to stdout and stderr.
    pub(crate) fn log(&self) -> String {
        String::from_utf8(read(&self.log)).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        until("the plugin ends", async || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }

    /// SIGTERM, and the end.
    pub(crate) async fn terminate(mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.ended().await.code(), Some(0), "{}", self.log());
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What kube-apiserver does, in its words.
#[derive(Clone)]
pub(crate) struct Client(pub(crate) KeyManagementServiceClient<Channel>);

impl Client {
    pub(crate) async fn status(&mut self) -> StatusResponse {
        self.0.status(StatusRequest {}).await.unwrap().into_inner()
    }

    pub(crate) async fn encrypt(&mut self, plaintext: &[u8]) -> Result<EncryptResponse, Status> {
        let request = EncryptRequest {
            plaintext: plaintext.to_vec(),
            uid: "4f1b2c".to_owned(),
        };
        self.0
            .encrypt(request)
            .await
            .map(|response| response.into_inner())
    }

    pub(crate) async fn decrypt(&mut self, stored: &EncryptResponse) -> Result<Vec<u8>, Status> {
        let request = DecryptRequest {
            ciphertext: stored.ciphertext.clone(),
            uid: "4f1b2d".to_owned(),
            key_id: stored.key_id.clone(),
            annotations: stored.annotations.clone(),
        };
        self.0
            .decrypt(request)
            .await
            .map(|response| response.into_inner().plaintext)
    }
}

/// Waits for a condition.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < DEADLINE, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What a client of HTTP/2 sends first, and no request.
pub(crate) const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Whether the plugin answers the connection's greeting, or closes it.
pub(crate) fn is_served(mut stream: &UnixStream) -> bool {
    let patience = Some(Duration::from_secs(20));
    stream.set_read_timeout(patience).unwrap();
    let mut answer = [0; 9];
    stream.write_all(GREETING).is_ok() && stream.read_exact(&mut answer).is_ok()
}
