//! A kubeconfig as client-go reads it (`k8s.io/client-go` `tools/clientcmd/api/v1`).

use serde::Deserialize;

/// As it stands in the file. What is secret in it is zeroized with all memory that is freed.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(crate) struct Document {
    pub(crate) clusters: Vec<NamedCluster>,
    pub(crate) users: Vec<NamedUser>,
    pub(crate) contexts: Vec<NamedContext>,
    pub(crate) current_context: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct NamedCluster {
    pub(crate) name: String,
    pub(crate) cluster: Cluster,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(crate) struct Cluster {
    pub(crate) server: String,
    pub(crate) tls_server_name: Option<String>,
    pub(crate) insecure_skip_tls_verify: bool,
    pub(crate) certificate_authority: Option<String>,
    pub(crate) certificate_authority_data: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct NamedUser {
    pub(crate) name: String,
    pub(crate) user: User,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(crate) struct User {
    pub(crate) client_certificate: Option<String>,
    pub(crate) client_certificate_data: Option<String>,
    pub(crate) client_key: Option<String>,
    pub(crate) client_key_data: Option<String>,
    pub(crate) token: Option<String>,
    #[serde(rename = "tokenFile")]
    pub(crate) token_file: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) exec: Option<serde_yaml::Value>,
    pub(crate) auth_provider: Option<serde_yaml::Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct NamedContext {
    pub(crate) name: String,
    pub(crate) context: Context,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Context {
    pub(crate) cluster: String,
    pub(crate) user: String,
}

impl Document {
    /// Reads one. `None`: it is none. What serde says would quote the file.
    pub(crate) fn read(source: &[u8]) -> Option<Self> {
        let document: Self = serde_yaml::from_slice(source).ok()?;
        let is_one = !document.clusters.is_empty() || !document.users.is_empty();
        is_one.then_some(document)
    }
}
