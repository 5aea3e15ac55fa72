//! What there is: the API servers and etcd, their files, and what each process runs with.

use atrest_core::at_rest::GroupResource;

use crate::args::{EtcdFlags, Global};
use crate::cluster::{self, ApiServer, Metrics, Process};
use crate::commands::server_failure;
use crate::configuration::{self, Loaded};
use crate::etcd;
use crate::machine::Machine;
use crate::status::Failure;

use super::evidence::{self, Written};
use super::settings::{Server, Settings};

/// The API servers and etcd, reached.
pub(crate) struct Reached {
    pub(crate) servers: Vec<ApiServer>,
    /// Theirs, where a file can be reached.
    pub(crate) machines: Vec<Option<Machine>>,
    pub(crate) etcd: etcd::Client,
}

/// Which cluster it is.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) etcd_id: String,
    /// Of the namespace kube-system.
    pub(crate) uid: String,
}

impl Reached {
    /// Connects to everything that the settings name.
    pub(crate) async fn connect(global: &Global, settings: &Settings) -> Result<Self, Failure> {
        let mut servers = Vec::new();
        for server in &settings.servers {
            servers.push(connect(global, server).await?);
        }
        let flags = EtcdFlags::from(&settings.etcd);
        let mut etcd = etcd::Client::connect(&flags).await?;
        for server in &servers {
            same_cluster(server, &mut etcd, flags.prefix()).await?;
        }
        let machines = settings.servers.iter();
        Ok(Self {
            servers,
            machines: machines.map(|it| Machine::of(&it.access)).collect(),
            etcd,
        })
    }

    /// Which cluster it is, by the first server that says so.
    pub(crate) async fn cluster(&self) -> Result<Cluster, Failure> {
        let mut last = Failure::unread("there is no API server");
        for server in &self.servers {
            match server.cluster_uid().await {
                Ok(uid) => {
                    return Ok(Cluster {
                        etcd_id: self.etcd.cluster_id.clone(),
                        uid,
                    });
                }
                Err(error) => last = server_failure(server, &error),
            }
        }
        Err(last)
    }
}

/// The server at its own address, or at the kubeconfig's where the settings name none.
pub(super) async fn connect(global: &Global, server: &Server) -> Result<ApiServer, Failure> {
    match &server.url {
        None => ApiServer::connect(global).await,
        Some(url) => {
            let name = server.tls_server_name.as_deref();
            ApiServer::connect_to(global, url, name, server.ca_file.as_deref()).await
        }
    }
}

/// A census of another cluster's etcd would prove nothing: the namespace that every cluster has must
/// have been written at the same revision in both.
pub(super) async fn same_cluster(
    server: &ApiServer,
    etcd: &mut etcd::Client,
    prefix: &str,
) -> Result<(), Failure> {
    const NAMESPACE: &str = "kube-system";

    let namespaces = GroupResource::parse("namespaces");
    let failed = |error: cluster::Error| server_failure(server, &error);
    let resource = cluster::find(server, &namespaces).await.map_err(failed)?;
    let resource = resource.ok_or_else(|| {
        Failure::unusable(format!("{} serves no namespaces", server.url()))
            .hint("name the address of a kube-apiserver")
    })?;
    let seen = server
        .metadata(&resource, None, NAMESPACE)
        .await
        .map_err(failed)?;
    let key = format!("{}{NAMESPACE}", namespaces.directory(prefix));
    let stored = etcd.mod_revision(&key).await?;
    if stored.map(|revision| revision.to_string()) == Some(seen.resource_version) {
        return Ok(());
    }
    Err(Failure::unusable(format!(
        "{} does not store its objects below {prefix} of this etcd",
        server.url()
    ))
    .hint("the etcd flags must name the etcd of this very API server, and its --etcd-prefix"))
}

/// Nor would one of another place: `--etcd-servers-overrides` moves single resources. What the API
/// lists must stand in this etcd, written at the same revision.
pub(super) async fn stored_here(
    server: &ApiServer,
    etcd: &mut etcd::Client,
    prefix: &str,
    resources: &[GroupResource],
) -> Result<(), Failure> {
    /// Objects to look at before it is believed that they are elsewhere: any may change meanwhile.
    const LOOKS: u32 = 5;

    for name in resources {
        let failed = |error: cluster::Error| server_failure(server, &error);
        let Some(resource) = cluster::find(server, name).await.map_err(failed)? else {
            continue;
        };
        let page = match server.list(&resource, None, LOOKS).await {
            Err(error) if error.unreadable().is_some() => {
                // A value that the server cannot decrypt: it names the key, which must be here, too.
                let key = error.unreadable().unwrap_or_default();
                if etcd.mod_revision(key).await?.is_some() {
                    continue;
                }
                return Err(failed(error));
            }
            page => page.map_err(failed)?,
        };
        let mut found = page.objects.is_empty();
        for object in &page.objects {
            let key = format!("{}{object}", name.directory(prefix));
            let revision = etcd.mod_revision(&key).await?;
            found |= revision.map(|revision| revision.to_string()).as_ref()
                == Some(&object.resource_version);
        }
        if !found {
            return Err(Failure::unusable(format!(
                "{} does not store {name} below {prefix} of this etcd",
                server.url()
            ))
            .hint("look for --etcd-servers-overrides and --etcd-prefix among its flags"));
        }
    }
    Ok(())
}

/// What a server's file holds and what its process runs with.
pub(crate) struct Observed {
    /// `None` where only an operator gets to it.
    pub(crate) file: Option<Loaded>,
    /// What the process says; `None` where it could not be asked.
    pub(crate) metrics: Option<Metrics>,
    /// Whether it serves; asked where it is restarted.
    is_ready: bool,
}

impl Observed {
    /// A server that is to get the file.
    pub(super) fn planned(file: Loaded) -> Self {
        Self {
            file: Some(file),
            metrics: None,
            is_ready: false,
        }
    }

    /// The hash that the process reports.
    pub(crate) fn loaded(&self) -> Option<&str> {
        self.metrics.as_ref()?.loaded_config.as_deref()
    }

    /// The process that answered, if any did.
    pub(crate) fn process(&self) -> Option<&Process> {
        self.metrics.as_ref().map(|it| &it.process)
    }

    /// Whether it is of a release before 1.34, which looks at its file and says nothing of what it has
    /// loaded: that is known from the first file on that is written.
    pub(super) fn says_nothing_yet(&self) -> bool {
        let metrics = self.metrics.as_ref();
        metrics.is_some_and(|it| it.loaded_config.is_none() && it.looks.is_some())
    }

    /// Whether the process runs with the file, and serves.
    pub(super) fn is_loaded(&self, written: Option<&Written>) -> bool {
        let (Some(file), Some(metrics)) = (&self.file, &self.metrics) else {
            return false;
        };
        self.is_ready && evidence::has_loaded(&file.fingerprint, metrics, written)
    }
}

/// Looks at a server's file and then at its process.
pub(crate) async fn observe(
    server: &Server,
    machine: Option<&Machine>,
    api: &ApiServer,
) -> Result<Observed, Failure> {
    let file = match machine {
        None => None,
        Some(machine) => Some(load(machine, server).await?),
    };
    Ok(Observed {
        file,
        metrics: api.metrics().await.ok(),
        is_ready: !server.reload.restarts() || api.text("/readyz").await.is_ok(),
    })
}

/// Reads a server's file and insists that kube-apiserver accepts it.
pub(super) async fn load(machine: &Machine, server: &Server) -> Result<Loaded, Failure> {
    let source = machine.read(&server.file).await.map_err(|error| {
        let is_missing = error.is_missing();
        let failure = Failure::from(error);
        match is_missing {
            true => failure.hint("name the EncryptionConfiguration that the API server reads"),
            false => failure,
        }
    })?;
    configuration::judged(source, &server.file)
}

pub(super) async fn check_server(api: &ApiServer, name: &str) -> Result<(), Failure> {
    api.loaded_config().await.map(|_| ()).map_err(|error| {
        let failure = Failure::unread(format!("{name} at {}: {error}", api.url()));
        match error.code() {
            Some(401 | 403) => failure.hint("use an administrator's kubeconfig: the run reads /metrics, and lists and patches objects"),
            _ => failure.hint("every API server has to run while keys are rotated"),
        }
    })
}

/// An API server that is not on the list would go on writing with the old key.
pub(super) fn check_count(alive: usize, listed: usize) -> Result<(), Failure> {
    if alive != listed {
        return Err(Failure::unusable(format!(
            "the cluster has {alive} API servers, and {listed} are listed"
        ))
        .hint(
            "list all of them, each once: one that is forgotten goes on writing with the old key. One \
             that was taken away keeps its Lease in kube-system for an hour",
        ));
    }
    Ok(())
}

/// The API servers that keep their identity Lease alive. Those of one machine share it.
pub(super) async fn alive_servers(api: &ApiServer) -> Result<usize, Failure> {
    #[derive(serde::Deserialize)]
    struct Leases {
        items: Vec<Lease>,
    }
    #[derive(serde::Deserialize)]
    struct Lease {
        spec: Spec,
    }
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Spec {
        renew_time: Option<jiff::Timestamp>,
        lease_duration_seconds: Option<i64>,
    }

    let path = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases\
                ?labelSelector=apiserver.kubernetes.io%2Fidentity%3Dkube-apiserver";
    let leases: Leases = api.json(path).await.map_err(|error| {
        Failure::unread(format!("cannot list the API servers' identity Leases: {error}"))
            .hint("without them a forgotten API server would not be seen; use an administrator's kubeconfig")
    })?;
    // By the newest renewal, which is that of a server that answers, and not by a clock of ours.
    let renewed = |lease: &Lease| lease.spec.renew_time.map(jiff::Timestamp::as_second);
    let newest = leases
        .items
        .iter()
        .filter_map(renewed)
        .max()
        .unwrap_or_default();
    let is_alive = |lease: &&Lease| {
        let seconds = lease.spec.lease_duration_seconds.unwrap_or_default();
        renewed(lease).is_some_and(|renewed| newest - renewed <= seconds)
    };
    Ok(leases.items.iter().filter(is_alive).count())
}
