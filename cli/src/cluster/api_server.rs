//! One API server, asked over HTTPS with the credentials of a kubeconfig.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use atrest_proto::metadata;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use serde::Deserialize;
use tower::{BoxError, ServiceBuilder};

use super::envelope;
use super::metrics::{self, Metrics};
use crate::args::Global;
use crate::status::{Failure, innermost};

/// Longer than a healthy server takes to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A little longer than the API server's own limit of a request, 60 s.
const READ_TIMEOUT: Duration = Duration::from_secs(65);

/// Over HTTP/2 a connection that is dead is found out by asking.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// However long a server, or a webhook behind it, asks us to wait.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// What an API server says of a value that it cannot decrypt where it does not name its key: since 1.37,
/// and before (`k8s.io/apiserver` `pkg/storage/value`).
const UNREADABLE: [&str; 10] = [
    "data from the storage is not transformable",
    "object not decodable",
    "no matching prefix found",
    "no matching key was found for the provided",
    "output array was not large enough for encryption",
    "cipher: message authentication failed",
    "invalid padding on input",
    "the stored data was shorter than the required size",
    "failed to read uint16 length prefixed data",
    "failed to decrypt DEK",
];

/// Kubernetes' own reasons (`k8s.io/apimachinery` `pkg/apis/meta/v1/types.go`): a webhook may put any
/// text there, and only these are repeated.
const REASONS: [&str; 19] = [
    "AlreadyExists",
    "BadRequest",
    "Conflict",
    "Expired",
    "Forbidden",
    "Gone",
    "InternalError",
    "Invalid",
    "MethodNotAllowed",
    "NotAcceptable",
    "NotFound",
    "RequestEntityTooLarge",
    "ServerTimeout",
    "ServiceUnavailable",
    "StorageReadError",
    "Timeout",
    "TooManyRequests",
    "Unauthorized",
    "UnsupportedMediaType",
];

/// A connection to an API server.
#[derive(Clone)]
pub(crate) struct ApiServer {
    client: kube::Client,
    url: String,
}

/// Why an API server did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Error {
    /// No answer: nothing listens, TLS failed, it took too long.
    Unreachable(String),
    /// An answer that is not a success.
    Answer {
        /// HTTP's status code.
        code: u16,
        /// Kubernetes' reason, such as `Conflict`.
        reason: String,
        /// What stands in the way, in words of ours or names that are public.
        detail: Option<String>,
        /// When to ask again.
        retry_after: Option<Duration>,
        /// The storage key of a value that nobody can read.
        unreadable: Option<String>,
    },
    /// An answer that makes no sense.
    Garbled(&'static str),
}

impl Error {
    /// HTTP's status code, where there was an answer.
    pub(crate) fn code(&self) -> Option<u16> {
        match self {
            Self::Answer { code, .. } => Some(*code),
            Self::Garbled(_) | Self::Unreachable(_) => None,
        }
    }

    /// The storage key of the value that the server could not read.
    pub(crate) fn unreadable(&self) -> Option<&str> {
        match self {
            Self::Answer { unreadable, .. } => unreadable.as_deref(),
            Self::Garbled(_) | Self::Unreachable(_) => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(reason) => f.write_str(reason),
            Self::Answer {
                code,
                reason,
                detail,
                ..
            } => {
                write!(f, "{code}")?;
                if !reason.is_empty() {
                    write!(f, " {reason}")?;
                }
                match detail {
                    Some(detail) => write!(f, ": {detail}"),
                    None => Ok(()),
                }
            }
            Self::Garbled(what) => write!(f, "an answer that is no {what}"),
        }
    }
}

impl ApiServer {
    /// The server of the kubeconfig's current context, or of the one that was asked for.
    pub(crate) async fn connect(global: &Global) -> Result<Self, Failure> {
        Self::from_config(config(global).await?)
    }

    /// The client certificate that the kubeconfig shows, in PEM, if it shows one.
    pub(crate) async fn client_certificate(global: &Global) -> Result<Option<Vec<u8>>, Failure> {
        let user = config(global).await?.auth_info;
        if let Some(data) = user.client_certificate_data {
            let pem = BASE64_STANDARD.decode(data).map_err(|_| {
                Failure::unusable("the kubeconfig's client-certificate-data is no base64")
            })?;
            return Ok(Some(pem));
        }
        match user.client_certificate {
            Some(path) => {
                let pem = atrest_files::read(Path::new(&path)).map_err(Failure::unusable)?;
                Ok(Some(pem.expose().to_vec()))
            }
            None => Ok(None),
        }
    }

    /// Another server of the same cluster, with the same credentials.
    pub(crate) async fn connect_to(
        global: &Global,
        url: &str,
        tls_server_name: Option<&str>,
        ca_file: Option<&Path>,
    ) -> Result<Self, Failure> {
        let mut config = config(global).await?;
        config.cluster_url = url.parse().map_err(|_| {
            Failure::unusable(format!("not an address of an API server: {url:?}"))
                .hint("it looks like https://10.0.0.11:6443")
        })?;
        config.tls_server_name = tls_server_name
            .map(str::to_owned)
            .or(config.tls_server_name);
        if let Some(file) = ca_file {
            config.root_cert = None;
            config.root_cert_file = Some(file.to_owned());
        }
        Self::from_config(config)
    }

    /// The server of the kubeconfig, over one HTTP/2 connection: behind a balancer of connections all
    /// requests reach the same process.
    pub(crate) async fn connect_once(global: &Global) -> Result<Self, Failure> {
        Self::new(config(global).await?, over_http2)
    }

    fn from_config(config: kube::Config) -> Result<Self, Failure> {
        Self::new(config, kube::Client::try_from)
    }

    fn new(
        mut config: kube::Config,
        client: impl FnOnce(kube::Config) -> kube::Result<kube::Client>,
    ) -> Result<Self, Failure> {
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.read_timeout = Some(READ_TIMEOUT);
        config.default_retry = false; // what may be tried again is ours to say
        let url = config
            .cluster_url
            .to_string()
            .trim_end_matches('/')
            .to_owned();
        let client = client(config).map_err(|_| {
            // kube's own words may quote key material.
            Failure::unusable("the kubeconfig's certificates or keys cannot be used").hint(
                "check client-certificate-data, client-key-data and certificate-authority-data",
            )
        })?;
        Ok(Self { client, url })
    }

    /// `https://host:port`.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// GET of a path, answered in text.
    pub(crate) async fn text(&self, path: &str) -> Result<String, Error> {
        let body = self.send(Request::get(path), "*/*", Vec::new()).await?;
        String::from_utf8(body).map_err(|_| Error::Garbled("text"))
    }

    /// GET of a path, answered in JSON.
    pub(crate) async fn json<T: for<'de> Deserialize<'de>>(&self, path: &str) -> Result<T, Error> {
        let body = self
            .send(Request::get(path), "application/json", Vec::new())
            .await?;
        serde_json::from_slice(&body).map_err(|_| Error::Garbled("JSON of the expected form"))
    }

    /// The SHA-256, in hex, of the EncryptionConfiguration that the server has loaded; `None`
    /// before Kubernetes 1.34, and where no file is configured.
    pub(crate) async fn loaded_config(&self) -> Result<Option<String>, Error> {
        Ok(self.metrics().await?.loaded_config)
    }

    /// What the process that answers says of itself.
    pub(crate) async fn metrics(&self) -> Result<Metrics, Error> {
        Ok(Metrics::parse(&self.text(&metrics::path()).await?))
    }

    pub(super) async fn send(
        &self,
        request: http::request::Builder,
        accept: &str,
        body: Vec<u8>,
    ) -> Result<Vec<u8>, Error> {
        let request = request
            .header(header::ACCEPT, accept)
            .body(Body::from(body))
            .map_err(|_| Error::Garbled("request"))?;
        let response = self
            .client
            .send(request)
            .await
            .map_err(|error| unreachable(&error))?;
        let status = response.status();
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(|error| unreachable(&error))?
            .to_bytes();
        if status.is_success() {
            Ok(body.into())
        } else {
            Err(answer(status, &body))
        }
    }
}

/// As kube's own client is put together, but for the protocol.
fn over_http2(config: kube::Config) -> kube::Result<kube::Client> {
    if config.proxy_url.is_some() {
        return kube::Client::try_from(config);
    }
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_connect_timeout(config.connect_timeout);
    let mut builder = HttpsConnectorBuilder::new()
        .with_tls_config(config.rustls_client_config()?)
        .https_or_http();
    if let Some(name) = &config.tls_server_name
        && let Ok(name) = name.clone().try_into()
    {
        builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    let connector = builder.enable_all_versions().wrap_connector(connector);
    let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .http2_keep_alive_interval(KEEP_ALIVE)
        .http2_keep_alive_timeout(KEEP_ALIVE)
        .build::<_, Body>(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(client);
    Ok(kube::Client::new(service, config.default_namespace))
}

/// The kubeconfig, or in a pod without one the pod's own account.
async fn config(global: &Global) -> Result<kube::Config, Failure> {
    let options = KubeConfigOptions {
        context: global.context.clone(),
        ..KubeConfigOptions::default()
    };
    let loaded = match &global.kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    let is_in_pod = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    if let (Err(KubeconfigError::ReadConfig(..) | KubeconfigError::FindPath), None, true) =
        (&loaded, &global.kubeconfig, is_in_pod)
    {
        return kube::Config::incluster_env().map_err(|_| {
            Failure::unusable("the pod's account cannot be used").hint(
                "give the pod a serviceAccountName and automountServiceAccountToken: true, or atrest a \
                 kubeconfig",
            )
        });
    }
    let config = match loaded {
        Ok(kubeconfig) => kube::Config::from_custom_kubeconfig(kubeconfig, &options).await,
        Err(error) => Err(error),
    };
    config.map_err(|error| kubeconfig_failure(&error))
}

/// kube's own message of a parse error quotes the lines around it, tokens included.
fn kubeconfig_failure(error: &KubeconfigError) -> Failure {
    let message = match error {
        KubeconfigError::CurrentContextNotSet => "the kubeconfig has no current context".into(),
        KubeconfigError::LoadContext(name) => format!("the kubeconfig has no context {name:?}"),
        KubeconfigError::LoadClusterOfContext(name) => {
            format!("the kubeconfig has no cluster {name:?}")
        }
        KubeconfigError::FindPath => "there is no kubeconfig".into(),
        KubeconfigError::ReadConfig(source, path) => {
            format!("cannot read the kubeconfig {}: {source}", path.display())
        }
        KubeconfigError::Parse(_) => "the kubeconfig is not valid YAML of its kind".into(),
        KubeconfigError::MissingClusterUrl => "the kubeconfig names no server".into(),
        _ => "the kubeconfig cannot be used".into(),
    };
    Failure::unusable(message).hint(
        "name one with --kubeconfig; on a control-plane node it is /etc/kubernetes/admin.conf",
    )
}

fn unreachable(error: &kube::Error) -> Error {
    if matches!(error, kube::Error::Auth(_)) {
        // kube's own words quote what a credential plugin printed.
        return Error::Unreachable("the kubeconfig's credentials could not be had".into());
    }
    Error::Unreachable(innermost(error))
}

fn answer(status: StatusCode, body: &[u8]) -> Error {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Status {
        reason: String,
        message: String,
        details: Details,
    }
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Details {
        retry_after_seconds: i32,
    }

    // In the form that was asked for, or JSON where the request did not get as far as that.
    let answer = envelope::message(body).unwrap_or_else(|| {
        let answer: Status = serde_json::from_slice(body).unwrap_or_default();
        metadata::Status {
            message: answer.message,
            reason: answer.reason,
            details: Some(metadata::StatusDetails {
                retry_after_seconds: answer.details.retry_after_seconds,
            }),
        }
    });
    let seconds = answer.details.unwrap_or_default().retry_after_seconds;
    let seconds = u64::try_from(seconds).unwrap_or_default();
    let unreadable = unreadable(&answer.message);
    Error::Answer {
        code: status.as_u16(),
        detail: match &unreadable {
            Some(key) => Some(format!("a stored value cannot be decrypted: {key}")),
            None => detail(status, &answer.message),
        },
        reason: REASONS
            .iter()
            .find(|known| **known == answer.reason)
            .map_or_else(String::new, |known| (*known).to_owned()),
        retry_after: (seconds > 0).then(|| Duration::from_secs(seconds).min(MAX_PAUSE)),
        unreadable,
    }
}

/// The storage key in what an API server says of a value that it cannot decrypt or decode: since 1.37
/// and before.
fn unreadable(message: &str) -> Option<String> {
    between(message, "corrupt object, Code: 7, Key: ", ",")
        .or_else(|| between(message, "unable to transform key \"", "\""))
}

fn between(text: &str, start: &str, end: &str) -> Option<String> {
    let (_, rest) = text.split_once(start)?;
    let (found, _) = rest.split_once(end)?;
    Some(found.to_owned())
}

/// The server's message as far as it is made of names: a webhook may put anything into its own.
fn detail(status: StatusCode, message: &str) -> Option<String> {
    if let Some(name) = between(message, "webhook \"", "\"") {
        return Some(format!("admission webhook {name:?}"));
    }
    let is_unreadable = UNREADABLE.iter().any(|words| message.contains(words));
    if status == StatusCode::INTERNAL_SERVER_ERROR && is_unreadable {
        return Some("its stored value cannot be decrypted".into());
    }
    if status == StatusCode::FORBIDDEN {
        // `User "x" cannot list resource "secrets" in API group "" at the cluster scope`
        let (_, rest) = message.split_once(": ")?;
        return rest.starts_with("User ").then(|| rest.to_owned());
    }
    (status == StatusCode::NOT_FOUND)
        .then(|| between(message, "namespaces \"", "\" not found"))
        .flatten()
        .map(|namespace| format!("namespace {namespace:?} is gone"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_webhook_says_is_not_repeated() {
        let body = br#"{"reason":"hunter2","message":"admission webhook \"w.example\" denied the request: hunter2"}"#;
        let error = answer(StatusCode::BAD_REQUEST, body).to_string();
        assert_eq!(error, "400: admission webhook \"w.example\"");
    }

    #[test]
    fn a_refusal_says_who_may_not_do_what() {
        let body = br#"{"reason":"Forbidden","message":"secrets is forbidden: User \"u\" cannot list resource \"secrets\" in API group \"\" at the cluster scope"}"#;
        let error = answer(StatusCode::FORBIDDEN, body).to_string();
        assert!(
            error.contains("User \"u\" cannot list resource \"secrets\""),
            "{error}"
        );
    }

    #[test]
    fn poison_is_named_by_its_key() {
        for message in [
            "Internal error occurred: unable to transform key \\\"/registry/secrets/a/b\\\": no matching prefix found",
            "failed to read one or more secrets from the storage: StorageError: corrupt object, Code: 7, \
             Key: /registry/secrets/a/b, ResourceVersion: 0, AdditionalErrorMsg: x (and 1 more)",
        ] {
            let body = format!("{{\"message\":\"{message}\"}}");
            let error = answer(StatusCode::INTERNAL_SERVER_ERROR, body.as_bytes());
            assert_eq!(error.unreadable(), Some("/registry/secrets/a/b"));
            let error = error.to_string();
            assert!(error.ends_with("cannot be decrypted: /registry/secrets/a/b"));
        }
    }
}
