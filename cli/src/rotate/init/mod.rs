//! A rotation.yaml for a kubeadm cluster: what its first node, its API and its other nodes say.

mod cluster;
mod document;

use std::path::{Path, PathBuf};

use atrest_core::encryption_config::{Manifest, Provider};

use self::cluster::{Endpoint, endpoints};
use super::others::alive_servers;
use super::reload::Reload;
use super::settings::Server;
use super::static_pod;
use crate::args::{Global, Init, RotateFlags};
use crate::cluster::ApiServer;
use crate::commands::server_failure;
use crate::configuration;
use crate::machine::{Access, Machine, Ssh};
use crate::status::Failure;

/// Where the EncryptionConfiguration comes to be where there is none.
const FILE: &str = "/etc/kubernetes/enc/config.yaml";

/// Flags of kube-apiserver that all of a cluster have alike.
const ALIKE: [&str; 3] = ["etcd-prefix", "etcd-servers-overrides", "request-timeout"];

/// A rotation.yaml, and what could not be found out or has to be known.
pub(crate) struct Initial {
    pub(crate) text: String,
    pub(crate) notes: Vec<String>,
}

/// What stands in the file.
struct Found {
    servers: Vec<Server>,
    etcd: Vec<(&'static str, String)>,
    endpoints: Vec<String>,
    /// What to rotate to, where that has to be said.
    to: Option<String>,
    state_dir: PathBuf,
    escrow: PathBuf,
    copies: Vec<PathBuf>,
}

/// Looks at everything, and changes nothing.
pub(crate) async fn init(
    global: &Global,
    flags: &RotateFlags,
    init: &Init,
) -> Result<Initial, Failure> {
    let here = Machine::of(&Access::Local).ok_or_else(|| Failure::unusable("no machine"))?;
    let manifest = read_manifest(&here, &init.manifest).await.map_err(|failure| {
        failure.hint("run it as root on a kubeadm control-plane node, or name the manifest with --manifest")
    })?;
    let api = ApiServer::connect(global).await?;
    let mut notes = Vec::new();
    let all = endpoints(&api).await?;
    let alive = alive_servers(&api).await?;
    if alive != all.len() {
        notes.push(format!(
            "{alive} API servers keep an identity Lease, and default/kubernetes has {} endpoints: list \
             every one that runs",
            all.len()
        ));
    }
    let own = manifest.flag("advertise-address");
    if !all.iter().any(|it| Some(it.address.as_str()) == own) {
        return Err(Failure::unusable(format!(
            "the API server of {} is none of the endpoints of default/kubernetes",
            init.manifest.display()
        ))
        .hint("its --advertise-address has to be one of them; check --kubeconfig, too"));
    }
    let mut servers = Vec::new();
    for endpoint in &all {
        let is_here = Some(endpoint.address.as_str()) == own;
        let access = access(init, endpoint, is_here);
        let machine = Machine::of(&access);
        let read = match &machine {
            _ if is_here => Some(manifest.clone()),
            Some(machine) => Some(read_manifest(machine, &init.manifest).await?),
            None => {
                notes.push(format!(
                    "{}: its manifest was not looked at; with --ssh USER it is, and the file is written there",
                    endpoint.name
                ));
                None
            }
        };
        let server = server(init, endpoint, access, read.as_ref(), flags, &mut notes);
        if let (Some(machine), Some(_)) = (
            &machine,
            read.as_ref().and_then(Manifest::encryption_config),
        ) {
            static_pod::check(machine, Some(&init.manifest), &server).await?;
        }
        if let Some(read) = &read {
            compare(&endpoint.name, &manifest, read)?;
        }
        servers.push(server);
    }
    let is_enabled = manifest.encryption_config().is_some();
    note_kubeadm(&api, is_enabled, &mut notes).await?;
    note_flags(&manifest, is_enabled, servers.len(), &mut notes);
    let socket = plugin_in_use(&here, &servers).await;
    for server in &mut servers {
        if server.socket.is_none() {
            server.socket.clone_from(&socket);
        }
    }
    let state_dir = flags.state_dir.clone();
    let state_dir = state_dir.unwrap_or_else(|| super::settings::STATE_DIR.into());
    let found = Found {
        servers,
        endpoints: etcd_endpoints(&manifest, &mut notes),
        etcd: etcd_files(&manifest),
        to: flags
            .to
            .clone()
            .or_else(|| (!is_enabled).then(|| "secretbox".into())),
        escrow: flags
            .escrow
            .clone()
            .unwrap_or_else(|| state_dir.join("escrow/key")),
        copies: match flags.escrow_copy.is_empty() {
            true => vec![state_dir.join("escrow-copy/key")],
            false => flags.escrow_copy.clone(),
        },
        state_dir,
    };
    Ok(Initial {
        text: document::render(&found),
        notes,
    })
}

async fn read_manifest(machine: &Machine, path: &Path) -> Result<Manifest, Failure> {
    let text = machine.read(path).await?;
    Manifest::read(text.expose())
        .map_err(|error| Failure::unusable(format!("{}: {error}", path.display())))
}

fn access(init: &Init, endpoint: &Endpoint, is_here: bool) -> Access {
    match (&init.ssh, is_here) {
        (_, true) => Access::Local,
        (None, false) => Access::Manual,
        (Some(user), false) => Access::Ssh(Ssh {
            host: endpoint.address.clone(),
            user: Some(user.clone()),
            port: None,
            sudo: user != "root",
        }),
    }
}

fn server(
    init: &Init,
    endpoint: &Endpoint,
    access: Access,
    manifest: Option<&Manifest>,
    flags: &RotateFlags,
    notes: &mut Vec<String>,
) -> Server {
    let name = &endpoint.name;
    let flag = manifest.and_then(Manifest::encryption_config);
    let on_host = flag.and_then(|flag| manifest?.on_host(flag));
    if let (Some(flag), None) = (flag, &on_host) {
        notes.push(format!(
            "{name}: {flag} comes from no directory of the machine; say in `file` where it does"
        ));
    }
    let file = on_host.map(|it| it.path).or(flag.map(str::to_owned));
    let reload = match manifest {
        Some(manifest) if flag.is_some() && !manifest.reloads() => {
            Reload::StaticPod(init.manifest.clone())
        }
        _ => Reload::Automatic,
    };
    Server {
        name: name.clone(),
        url: Some(endpoint.url.clone()),
        tls_server_name: None,
        ca_file: None,
        file: file.unwrap_or_else(|| FILE.into()).into(),
        access,
        reload,
        socket: flags.kms_socket.as_ref().map(|kms| kms.path.clone()),
    }
}

/// What would make the servers write to different places is no cluster to rotate.
fn compare(name: &str, first: &Manifest, other: &Manifest) -> Result<(), Failure> {
    for flag in ALIKE {
        let [here, there] = [first, other].map(|it| it.flag(flag).unwrap_or("not set"));
        if here != there {
            return Err(Failure::unusable(format!(
                "--{flag} of this node's API server is {here}, and of {name}'s {there}"
            ))
            .hint(
                "a rotation needs API servers that store alike: make their manifests equal first",
            ));
        }
    }
    Ok(())
}

async fn note_kubeadm(
    api: &ApiServer,
    is_enabled: bool,
    notes: &mut Vec<String>,
) -> Result<(), Failure> {
    let kubeadm = api.kubeadm_config().await;
    let kubeadm = kubeadm.map_err(|error| server_failure(api, &error))?;
    let Some(kubeadm) = kubeadm else {
        notes.push(
            "there is no ConfigMap kube-system/kubeadm-config: whoever writes the manifests has to keep \
             --encryption-provider-config in them"
                .into(),
        );
        return Ok(());
    };
    let read =
        atrest_core::encryption_config::ClusterConfiguration::read(kubeadm.text().as_bytes());
    match read {
        Err(error) => notes.push(format!(
            "kubeadm's ClusterConfiguration could not be read: {error}"
        )),
        Ok(read) if is_enabled && read.encryption_config().is_none() => notes.push(
            "kubeadm's ClusterConfiguration lacks --encryption-provider-config, and the next kubeadm \
             upgrade drops it: docs/guide/kubeadm.md, step 2"
                .into(),
        ),
        Ok(_) => {}
    }
    Ok(())
}

fn note_flags(manifest: &Manifest, is_enabled: bool, count: usize, notes: &mut Vec<String>) {
    if !is_enabled {
        notes.push(format!(
            "no EncryptionConfiguration is in use: `atrest rotate run` first gives each API server one, and \
             restarts it, {count} in all, one after the other"
        ));
    }
    if let Some(timeout) = manifest.flag("request-timeout") {
        notes.push(format!(
            "--request-timeout is {timeout}: say the same to `atrest rotate run`"
        ));
    }
    if manifest.flag("etcd-servers-overrides").is_some() {
        notes.push(
            "--etcd-servers-overrides moves some resources to another etcd, which a run would refuse"
                .into(),
        );
    }
}

/// The socket of the KMS plugin that the file of this node names.
async fn plugin_in_use(here: &Machine, servers: &[Server]) -> Option<PathBuf> {
    let server = servers.iter().find(|it| it.access == Access::Local)?;
    let source = here.read(&server.file).await.ok()?;
    let file = configuration::judged(source, &server.file).ok()?;
    let entries = file.configuration.resources.iter();
    let mut providers = entries.flat_map(|entry| &entry.providers);
    providers.find_map(|provider| match provider {
        Provider::Kms(kms) => Some(kms.endpoint.strip_prefix("unix://")?.into()),
        _ => None,
    })
}

fn etcd_endpoints(manifest: &Manifest, notes: &mut Vec<String>) -> Vec<String> {
    let servers = manifest.flag("etcd-servers").unwrap_or_default();
    let servers: Vec<_> = servers.split(',').filter(|it| !it.is_empty()).collect();
    if servers.is_empty() {
        notes
            .push("the manifest has no --etcd-servers: say in etcd.endpoints where etcd is".into());
    }
    servers.into_iter().map(str::to_owned).collect()
}

fn etcd_files(manifest: &Manifest) -> Vec<(&'static str, String)> {
    [
        ("caFile", "etcd-cafile"),
        ("certFile", "etcd-certfile"),
        ("keyFile", "etcd-keyfile"),
        ("prefix", "etcd-prefix"),
    ]
    .into_iter()
    .filter_map(|(field, flag)| Some((field, manifest.flag(flag)?.to_owned())))
    .collect()
}
