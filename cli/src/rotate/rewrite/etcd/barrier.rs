//! What has to hold before anything is written behind the API servers' backs.

use std::path::Path;

use atrest_core::at_rest::{DekSource, GroupResource, ObjectKey};
use futures::future::try_join_all;
use futures::try_join;

use crate::cluster::{self, ApiServer, Minor};
use crate::commands::server_failure;
use crate::configuration::Loaded;
use crate::etcd;
use crate::report;
use crate::rotate::observe::same_cluster;
use crate::rotate::others::alive_servers;
use crate::status::Failure;

/// The first release whose servers write KMS v2 values under a seed.
const WRITES_SEEDS: u32 = 29;

/// What the operator says that is asked.
pub(crate) struct Barrier<'a> {
    pub(crate) servers: &'a [ApiServer],
    /// kube-apiserver's `--etcd-prefix`.
    pub(crate) prefix: &'a str,
    pub(crate) resources: &'a [GroupResource],
    pub(crate) path: &'a Path,
    pub(crate) file: &'a Loaded,
    /// Of servers that are too old to say what they have loaded.
    pub(crate) unverified: Unverified,
}

/// What is known of a server that does not say which file it has loaded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unverified {
    /// Nothing: nothing is written.
    Refused,
    /// What the operator says.
    Warned,
    /// A rotation has seen it load the file.
    Seen,
}

impl Barrier<'_> {
    /// Every API server is named, runs with this very file, and keeps its objects in this etcd.
    /// Returns what the oldest of them has a plugin wrap.
    pub(crate) async fn check(&self, etcd: &etcd::Client) -> Result<DekSource, Failure> {
        let servers = self.servers.iter();
        let releases = servers.map(|it| self.check_server(it, etcd.clone()));
        let (releases, ()) = try_join!(try_join_all(releases), self.check_cluster(etcd.clone()))?;
        let oldest = releases.into_iter().min();
        Ok(if oldest.is_some_and(|oldest| oldest.0 < WRITES_SEEDS) {
            DekSource::Key
        } else {
            DekSource::Seed
        })
    }

    async fn check_cluster(&self, mut etcd: etcd::Client) -> Result<(), Failure> {
        let Some(first) = self.servers.first() else {
            return Ok(());
        };
        let (alive, named) = (alive_servers(first).await?, self.servers.len());
        if alive > named {
            return Err(Failure::unusable(format!(
                "the cluster has {alive} API servers, and {named} are named"
            ))
            .hint("name each of them with --server: one that lacks the key could read nothing any more"));
        }
        for resource in self.resources {
            self.keeps_here(first, &mut etcd, resource).await?;
        }
        Ok(())
    }

    /// Returns the server's release.
    async fn check_server(
        &self,
        server: &ApiServer,
        mut etcd: etcd::Client,
    ) -> Result<Minor, Failure> {
        let same_cluster = same_cluster(server, &mut etcd, self.prefix);
        // Its metrics are long: the rest is asked meanwhile.
        let (minor, loaded, ()) = try_join!(minor(server), loaded(server), same_cluster)?;
        self.has_loaded(server, minor, loaded.as_deref())?;
        Ok(minor)
    }

    /// `--etcd-servers-overrides` moves single resources: what stands here must be what the API server
    /// reads. It is asked for single objects, as one that cannot be decrypted fails every list.
    async fn keeps_here(
        &self,
        server: &ApiServer,
        etcd: &mut etcd::Client,
        resource: &GroupResource,
    ) -> Result<(), Failure> {
        /// Any may change or be deleted meanwhile, or not be readable.
        const LOOKS: u32 = 20;

        let failed = |error: cluster::Error| server_failure(server, &error);
        let Some(api) = cluster::find(server, resource).await.map_err(failed)? else {
            return Ok(());
        };
        let directory = resource.directory(self.prefix).into_bytes();
        let keys = etcd.keys(&directory, &directory, LOOKS).await?;
        let mut agree = keys.is_empty()
            && server
                .list(&api, None, 1)
                .await
                .map_err(failed)?
                .objects
                .is_empty();
        for key in keys {
            let object = key.key.strip_prefix(&*directory);
            let object = object.and_then(ObjectKey::parse);
            if let (false, Some(object)) = (agree, object) {
                let seen = server
                    .metadata(&api, object.namespace.as_deref(), &object.name)
                    .await;
                agree = seen.is_ok_and(|it| it.resource_version == key.mod_revision.to_string());
            }
        }
        match agree {
            true => Ok(()),
            false => Err(Failure::unusable(format!(
                "{} does not store {resource} below {} of this etcd",
                server.url(),
                self.prefix
            ))
            .hint("look for --etcd-servers-overrides and --etcd-prefix among its flags")),
        }
    }

    fn has_loaded(
        &self,
        server: &ApiServer,
        minor: Minor,
        loaded: Option<&str>,
    ) -> Result<(), Failure> {
        let (url, path) = (server.url(), self.path.display());
        let unable = format!(
            "{url} is Kubernetes 1.{} and does not say which file it has loaded",
            minor.0
        );
        match Loading::of(&self.file.fingerprint.to_string(), loaded, minor) {
            Loading::This => Ok(()),
            Loading::Another => Err(Failure::unusable(format!(
                "{url} has loaded another file than {path}"
            ))
            .hint(
                "name the file that every API server runs with; after a change each takes up to a \
                       minute to load it, or a restart",
            )),
            Loading::None => Err(Failure::unusable(format!(
                "{url} runs without an EncryptionConfiguration"
            ))
            .hint("without --encryption-provider-config it could read nothing that is encrypted")),
            Loading::Unknown if self.unverified == Unverified::Seen => Ok(()),
            Loading::Unknown if self.unverified == Unverified::Warned => {
                report::say(format_args!("warning: {unable}"));
                Ok(())
            }
            Loading::Unknown => Err(Failure::unusable(unable).hint(
                "compare its file with this one, restart it, then say --unverified-config; or use \
                 --engine api",
            )),
        }
    }
}

/// What an API server's process runs with.
#[derive(Debug, Eq, PartialEq)]
enum Loading {
    This,
    Another,
    None,
    Unknown,
}

impl Loading {
    /// By the hash that the server reports, if it does.
    fn of(file: &str, loaded: Option<&str>, minor: Minor) -> Self {
        match loaded {
            Some(hash) if hash == file => Self::This,
            Some(_) => Self::Another,
            None if minor.says_what_it_loaded() => Self::None,
            None => Self::Unknown,
        }
    }
}

async fn loaded(server: &ApiServer) -> Result<Option<String>, Failure> {
    let loaded = server.loaded_config().await;
    loaded.map_err(|error| server_failure(server, &error))
}

async fn minor(server: &ApiServer) -> Result<Minor, Failure> {
    let version = cluster::Version::of(server).await;
    let version = version.map_err(|error| server_failure(server, &error))?;
    version.minor().ok_or_else(|| {
        Failure::unread(format!("{} does not say which release it is", server.url()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_does_not_say_is_not_believed() {
        for (loaded, minor, loading) in [
            (Some("abc"), 37, Loading::This),
            (Some("abd"), 37, Loading::Another),
            // It would say which.
            (None, 34, Loading::None),
            (None, 33, Loading::Unknown),
        ] {
            assert_eq!(Loading::of("abc", loaded, Minor(minor)), loading);
        }
    }
}
