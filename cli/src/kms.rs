//! KMS plugins, asked for the key_id that they write with now, to unwrap keys, and to wrap a new one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Duration;

use atrest_core::at_rest::{Plugins, Refusal, WrappedKey, WritingKey};
use atrest_core::encryption_config::{EncryptionConfiguration, Kms, KmsVersion, Provider};
use atrest_core::secret::{Fingerprint, SecretBytes};
use atrest_proto::v2::key_management_service_client::KeyManagementServiceClient;
use atrest_proto::v2::{DecryptRequest, EncryptRequest, StatusRequest};
use atrest_proto::{v1beta1, v2};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use crate::args::KmsSocket;
use crate::report;
use crate::status::{Failure, innermost};

/// kube-apiserver's own default.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The current key_id of each KMS v2 provider that answers, by its name. The socket is the one
/// that the command line names, else the one of the configuration. A plugin that does not answer
/// is said so and left out: what depends on it counts as unread.
pub(crate) async fn key_ids(
    configuration: &EncryptionConfiguration,
    sockets: &[KmsSocket],
) -> BTreeMap<String, String> {
    let mut key_ids = BTreeMap::new();
    for (kms, path) in plugins(configuration, sockets) {
        if kms.api_version != KmsVersion::V2 || key_ids.contains_key(&kms.name) {
            continue;
        }
        match status(&path).await {
            Ok(key_id) => {
                key_ids.insert(kms.name.clone(), key_id);
            }
            Err(failure) => report::say(format!("warning: {failure}")),
        }
    }
    key_ids
}

/// The plugins of a configuration that have a socket, and that.
fn plugins<'a>(
    configuration: &'a EncryptionConfiguration,
    sockets: &[KmsSocket],
) -> impl Iterator<Item = (&'a Kms, PathBuf)> {
    let entries = configuration.resources.iter();
    let providers = entries.flat_map(|entry| &entry.providers);
    providers.filter_map(|provider| {
        let Provider::Kms(kms) = provider else {
            return None;
        };
        Some((kms, socket(kms, sockets)?))
    })
}

fn socket(kms: &Kms, sockets: &[KmsSocket]) -> Option<PathBuf> {
    match sockets.iter().find(|socket| socket.name == kms.name) {
        Some(socket) => Some(socket.path.clone()),
        None => Some(PathBuf::from(kms.endpoint.strip_prefix("unix://")?)),
    }
}

/// Unwraps keys, each once: what plugins answered is kept as long as this lives. Of KMS v1, which
/// wraps a key a write, only the last few answers are kept.
pub(crate) struct Unwrapper {
    plugins: BTreeMap<(KmsVersion, String), (PathBuf, Option<Channel>)>,
    answers: BTreeMap<Fingerprint, Result<SecretBytes, Refusal>>,
    last_of_v1: VecDeque<Fingerprint>,
    key_ids: BTreeMap<String, String>,
    /// Plugins that did not answer, which are not asked again.
    silent: BTreeSet<(KmsVersion, String)>,
    /// Plugins whose trouble was told.
    warned: BTreeSet<(KmsVersion, String)>,
}

/// Why a plugin said neither yes nor no.
enum Trouble {
    /// It is not there, or does not answer.
    Silent(String),
    /// It answers with an error that says nothing about the key.
    Answer(String),
}

impl Plugins for Unwrapper {
    fn unwrapped(&self, key: &WrappedKey) -> Option<Result<&SecretBytes, Refusal>> {
        let answer = self.answers.get(&key.fingerprint())?;
        Some(answer.as_ref().map_err(|refusal| *refusal))
    }

    fn key_id(&self, provider: &str) -> Option<&str> {
        self.key_ids.get(provider).map(String::as_str)
    }
}

impl Unwrapper {
    /// Knows the plugins, and has asked none.
    pub(crate) fn new(
        configuration: &EncryptionConfiguration,
        sockets: &[KmsSocket],
        key_ids: BTreeMap<String, String>,
    ) -> Self {
        let named = plugins(configuration, sockets)
            .map(|(kms, path)| ((kms.api_version, kms.name.clone()), (path, None)));
        Self {
            plugins: named.collect(),
            answers: BTreeMap::new(),
            last_of_v1: VecDeque::new(),
            key_ids,
            silent: BTreeSet::new(),
            warned: BTreeSet::new(),
        }
    }

    /// Takes note of a key that the plugin just wrapped, which is the one that it writes with.
    pub(crate) fn learn(&mut self, writing: &WritingKey) {
        let WritingKey { key, wrapped } = writing;
        self.answers.insert(wrapped.fingerprint(), Ok(key.clone()));
        let (provider, key_id) = (wrapped.provider.clone(), wrapped.key_id.clone());
        self.key_ids.insert(provider, key_id);
    }

    /// Asks the plugin for a key. Whether there is an answer now, which can be a refusal.
    pub(crate) async fn ask(&mut self, key: &WrappedKey) -> bool {
        let name = (key.version, key.provider.clone());
        if self.silent.contains(&name) {
            return false;
        }
        let Some((path, channel)) = self.plugins.get_mut(&name) else {
            return false;
        };
        let answer = match unwrap(path, channel, key).await {
            Ok(answer) => answer,
            // Its bad day is that of one key.
            Err(Trouble::Answer(_)) if self.warned.contains(&name) => return false,
            Err(trouble) => {
                let (path, provider) = (path.display(), &key.provider);
                let reason = match &trouble {
                    Trouble::Silent(reason) | Trouble::Answer(reason) => reason,
                };
                report::say(format_args!(
                    "warning: the KMS plugin {provider} at {path} does not unwrap keys: {reason}"
                ));
                if let Trouble::Silent(_) = trouble {
                    self.silent.insert(name.clone());
                }
                self.warned.insert(name);
                return false;
            }
        };
        let fingerprint = key.fingerprint();
        if key.version == KmsVersion::V1 {
            // More than there are providers that could be asked for one value.
            self.last_of_v1.push_back(fingerprint);
            if self.last_of_v1.len() > 64
                && let Some(oldest) = self.last_of_v1.pop_front()
            {
                self.answers.remove(&oldest);
            }
        }
        self.answers.insert(fingerprint, answer);
        true
    }
}

async fn unwrap(
    path: &Path,
    channel: &mut Option<Channel>,
    key: &WrappedKey,
) -> Result<Result<SecretBytes, Refusal>, Trouble> {
    let channel = match channel {
        Some(channel) => channel.clone(),
        None => channel
            .insert(connect(path).await.map_err(Trouble::Silent)?)
            .clone(),
    };
    let answer = match key.version {
        KmsVersion::V1 => {
            let request = v1beta1::DecryptRequest {
                version: "v1beta1".into(),
                cipher: key.ciphertext.clone(),
            };
            v1beta1::key_management_service_client::KeyManagementServiceClient::new(channel)
                .decrypt(request)
                .await
                .map(|response| response.into_inner().plain)
        }
        KmsVersion::V2 => {
            let request = DecryptRequest {
                ciphertext: key.ciphertext.clone(),
                uid: format!("atrest-{}", key.fingerprint().short(16)),
                key_id: key.key_id.clone(),
                annotations: key.annotations.clone(),
            };
            v2::key_management_service_client::KeyManagementServiceClient::new(channel)
                .decrypt(request)
                .await
                .map(|response| response.into_inner().plaintext)
        }
    };
    match answer {
        Ok(bytes) => Ok(Ok(SecretBytes::new(bytes))),
        // It was asked, understood, and says no. Any other code may be its bad day.
        Err(status) => match status.code() {
            Code::InvalidArgument | Code::NotFound | Code::FailedPrecondition | Code::DataLoss => {
                Ok(Err(Refusal))
            }
            code @ (Code::Unavailable | Code::DeadlineExceeded) => {
                Err(Trouble::Silent(format!("{code:?}")))
            }
            code => Err(Trouble::Answer(format!("{code:?}"))),
        },
    }
}

async fn connect(path: &Path) -> Result<Channel, String> {
    Endpoint::from_shared(format!("unix://{}", path.display()))
        .map_err(|_| "not a path of a socket".to_owned())?
        .connect_timeout(TIMEOUT)
        .timeout(TIMEOUT)
        .connect()
        .await
        .map_err(|error| innermost(&error))
}

/// A fresh seed (up to Kubernetes 1.28 a data-encryption key, of the same length), wrapped by one
/// Encrypt of the plugin.
pub(crate) async fn fresh_seed(kms: &Kms, sockets: &[KmsSocket]) -> Result<WritingKey, Failure> {
    const LENGTH: usize = 32;

    let key = SecretBytes::generate(LENGTH)
        .map_err(|error| Failure::unread(format!("the system gives no random bytes: {error}")))?;
    let wrapped = wrap(kms, sockets, &key).await?;
    Ok(WritingKey { key, wrapped })
}

/// Has every KMS v2 plugin of a configuration encrypt a statement, each once.
pub(crate) async fn vouch(
    configuration: &EncryptionConfiguration,
    sockets: &[KmsSocket],
    statement: &[u8],
) -> Result<Vec<WrappedKey>, Failure> {
    let statement = SecretBytes::new(statement.to_vec());
    let mut vouched: Vec<WrappedKey> = Vec::new();
    for (kms, _) in plugins(configuration, sockets) {
        let is_known = vouched.iter().any(|it| it.provider == kms.name);
        if kms.api_version == KmsVersion::V2 && !is_known {
            vouched.push(wrap(kms, sockets, &statement).await?);
        }
    }
    Ok(vouched)
}

/// One Encrypt of a plugin, by the key that its Status names.
async fn wrap(kms: &Kms, sockets: &[KmsSocket], key: &SecretBytes) -> Result<WrappedKey, Failure> {
    let (name, no_socket) = (&kms.name, "the configuration's endpoint is no path");
    let path = socket(kms, sockets);
    let path = path.ok_or_else(|| unasked(Path::new(&kms.endpoint), no_socket))?;
    let key_id = status(&path).await?;
    let request = EncryptRequest {
        plaintext: key.expose().to_vec(),
        uid: format!("atrest-{}", key.fingerprint().short(16)),
    };
    let channel = connect(&path).await.map_err(|why| unasked(&path, &why))?;
    let response = KeyManagementServiceClient::new(channel)
        .encrypt(request)
        .await
        .map_err(|status| unasked(&path, &format!("Encrypt: {:?}", status.code())))?
        .into_inner();
    if response.key_id != key_id {
        return Err(Failure::unread(format!(
            "the KMS plugin {name} encrypts with another key than its Status names"
        ))
        .hint("its key is being changed: run this again once every API server has taken up the new one"));
    }
    Ok(WrappedKey {
        version: KmsVersion::V2,
        provider: name.clone(),
        key_id,
        ciphertext: response.ciphertext,
        annotations: response.annotations,
    })
}

/// The key_id of a plugin that is healthy.
pub(crate) async fn status(socket: &Path) -> Result<String, Failure> {
    let channel = connect(socket).await.map_err(|why| unasked(socket, &why))?;
    let status = KeyManagementServiceClient::new(channel)
        .status(StatusRequest {})
        .await
        .map_err(|status| unasked(socket, &format!("{:?}", status.code())))?
        .into_inner();
    if status.healthz != "ok" || status.key_id.is_empty() {
        return Err(unasked(socket, "it is not healthy"));
    }
    Ok(status.key_id)
}

fn unasked(socket: &Path, reason: &str) -> Failure {
    let socket = socket.display();
    Failure::unread(format!("cannot ask the KMS plugin at {socket}: {reason}"))
        .hint("run this on the node of the plugin, or name its socket with --kms-socket NAME=PATH")
}
