//! What a rotation is to do: from a rotation.yaml or from flags, resolved once and pinned in the
//! journal.

use std::num::{NonZeroU8, NonZeroU32};
use std::path::{Path, PathBuf};
use std::time::Duration;

use atrest_core::at_rest::GroupResource;
use atrest_core::rotation::chain::Local;
use serde::{Deserialize, Serialize};
use serde_yaml::with::singleton_map;

use super::recipients::Recipients;
use super::reload::Reload;
use super::rewrite::Pace;
use crate::args::{Engine, EtcdFlags, Orphans, RotateFlags};
use crate::machine::Access;
use crate::status::Failure;

const FILES: [&str; 2] = ["rotation.yaml", "/etc/atrest/rotation.yaml"];
pub(super) const STATE_DIR: &str = "/var/lib/atrest";

/// Everything that a run depends on, without secrets.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Settings {
    pub(crate) servers: Vec<Server>,
    pub(crate) etcd: Etcd,
    /// Empty: what the configuration covers.
    pub(crate) resources: Vec<String>,
    pub(crate) to: To,
    pub(crate) escrow: PathBuf,
    pub(crate) escrow_copies: Vec<PathBuf>,
    pub(crate) engine: Engine,
    pub(crate) pace: Pace,
    pub(crate) hold: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) load_timeout: Duration,
    /// Whom copies of the key, and snapshots in plaintext, are encrypted to.
    #[serde(default)]
    pub(crate) recipients: Vec<String>,
    /// Where snapshots of etcd are kept, if any are taken.
    #[serde(default)]
    pub(crate) snapshots: Option<PathBuf>,
    /// Whether they may hold values that nothing encrypts.
    #[serde(default)]
    pub(crate) plaintext_snapshots: bool,
    /// Whether etcd is compacted and defragmented at the end.
    #[serde(default)]
    pub(crate) scrub: bool,
    /// What becomes of objects whose namespace is gone.
    #[serde(default)]
    pub(crate) orphans: Orphans,
}

/// One API server.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Server {
    pub(crate) name: String,
    /// `None`: the kubeconfig's own.
    pub(crate) url: Option<String>,
    pub(crate) tls_server_name: Option<String>,
    pub(crate) ca_file: Option<PathBuf>,
    /// Its EncryptionConfiguration, on its machine.
    pub(crate) file: PathBuf,
    #[serde(default)]
    pub(crate) access: Access,
    #[serde(default)]
    pub(crate) reload: Reload,
    /// Its KMS plugin's socket, on its machine.
    #[serde(default)]
    pub(crate) socket: Option<PathBuf>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Etcd {
    endpoints: Vec<String>,
    cacert: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    prefix: Option<String>,
    #[serde(default)]
    data_dir: Option<PathBuf>,
}

/// Where the rotation leads.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum To {
    /// A fresh key of the provider that writes now.
    InUse,
    /// A fresh key of this local provider.
    Provider(String),
    /// A KMS v2 plugin.
    Kms { name: String, socket: PathBuf },
    /// No encryption.
    Identity,
}

impl To {
    /// Whether a key is made for it.
    pub(crate) fn mints(&self) -> bool {
        matches!(self, Self::InUse | Self::Provider(_))
    }
}

impl Settings {
    /// Reads rotation.yaml, or takes the flags as they are; flags win.
    pub(crate) fn resolve(flags: &RotateFlags) -> Result<Self, Failure> {
        let file = match (&flags.config, rotation_file(flags)) {
            (Some(config), _) => File::one_server(config),
            (None, Some(path)) => File::read(&path)?,
            (None, None) => {
                return Err(Failure::unusable("there is no rotation.yaml").hint(
                    "name one with -f, or the one server's EncryptionConfiguration with --config",
                ));
            }
        };
        file.settings(flags)
    }

    /// The settings of a run that goes on, reached in another way where the flags say so: a client
    /// certificate may have been renewed meanwhile.
    pub(crate) fn with_connections_of(&self, flags: &RotateFlags) -> Self {
        let mut settings = self.clone();
        if !flags.etcd.endpoints.is_empty() {
            settings.etcd.endpoints.clone_from(&flags.etcd.endpoints);
        }
        for (pinned, flag) in [
            (&mut settings.etcd.cacert, &flags.etcd.cacert),
            (&mut settings.etcd.cert, &flags.etcd.cert),
            (&mut settings.etcd.key, &flags.etcd.key),
        ] {
            if flag.is_some() {
                pinned.clone_from(flag);
            }
        }
        settings.pace = settings.pace.with(&flags.pace);
        settings.scrub &= !flags.no_scrub;
        settings.orphans = flags.orphans.unwrap_or(settings.orphans);
        settings
    }

    pub(crate) fn resources(&self) -> Vec<GroupResource> {
        self.resources
            .iter()
            .map(|name| GroupResource::parse(name))
            .collect()
    }
}

impl Etcd {
    /// Of the member on this machine.
    pub(crate) fn data_dir(&self) -> Option<&Path> {
        self.data_dir.as_deref()
    }
}

impl From<&Etcd> for EtcdFlags {
    fn from(etcd: &Etcd) -> Self {
        Self {
            endpoints: etcd.endpoints.clone(),
            cacert: etcd.cacert.clone(),
            cert: etcd.cert.clone(),
            key: etcd.key.clone(),
            prefix: etcd.prefix.clone(),
        }
    }
}

/// The servers of rotation.yaml, and its state directory.
pub(crate) fn listed_servers(file: Option<&Path>) -> Result<(Vec<Server>, PathBuf), Failure> {
    let path = match file {
        Some(path) => path.to_owned(),
        None => usual_file().ok_or_else(|| {
            Failure::unusable("there is no rotation.yaml").hint("name one with -f")
        })?,
    };
    let file = File::read(&path)?;
    file.check_servers()?;
    let servers = file.servers.into_iter().map(Server::from).collect();
    let state_dir = file.state_dir.unwrap_or_else(|| STATE_DIR.into());
    Ok((in_order(servers), state_dir))
}

/// The state directory: the flag's, rotation.yaml's, or the default.
pub(crate) fn state_dir(flags: &RotateFlags) -> Result<PathBuf, Failure> {
    if let Some(directory) = &flags.state_dir {
        return Ok(directory.clone());
    }
    let from_file = match rotation_file(flags) {
        Some(path) if flags.config.is_none() => File::read(&path)?.state_dir,
        _ => None,
    };
    Ok(from_file.unwrap_or_else(|| STATE_DIR.into()))
}

/// A run that is resumed from another directory means the same files.
fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

fn rotation_file(flags: &RotateFlags) -> Option<PathBuf> {
    flags.file.clone().or_else(usual_file)
}

fn usual_file() -> Option<PathBuf> {
    let mut known = FILES.iter().map(PathBuf::from);
    known.find(|path| path.exists())
}

/// rotation.yaml.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct File {
    api_version: String,
    kind: String,
    servers: Vec<FileServer>,
    #[serde(default)]
    etcd: FileEtcd,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    to: FileTo,
    #[serde(default)]
    escrow: Escrow,
    #[serde(default)]
    snapshots: Snapshots,
    #[serde(default)]
    limits: Limits,
    state_dir: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct FileServer {
    name: String,
    url: Option<String>,
    tls_server_name: Option<String>,
    ca_file: Option<PathBuf>,
    file: PathBuf,
    #[serde(default, deserialize_with = "singleton_map::deserialize")]
    access: Access,
    #[serde(default, deserialize_with = "singleton_map::deserialize")]
    reload: Reload,
    plugin: Option<Plugin>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Plugin {
    socket: PathBuf,
    #[serde(rename = "keyring")]
    _keyring: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct FileEtcd {
    endpoints: Vec<String>,
    ca_file: Option<PathBuf>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    prefix: Option<String>,
    data_dir: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileTo {
    provider: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Escrow {
    file: Option<PathBuf>,
    copies: Vec<PathBuf>,
    recipients: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Snapshots {
    dir: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Limits {
    max_rate: Option<NonZeroU32>,
    max_in_flight: Option<NonZeroU8>,
    gentle: Option<bool>,
}

impl File {
    fn one_server(config: &Path) -> Self {
        Self {
            api_version: "atrest/v1".into(),
            kind: "Rotation".into(),
            servers: vec![FileServer {
                name: "server".into(),
                url: None,
                tls_server_name: None,
                ca_file: None,
                file: config.to_owned(),
                access: Access::Local,
                reload: Reload::Automatic,
                plugin: None,
            }],
            etcd: FileEtcd::default(),
            resources: Vec::new(),
            to: FileTo::default(),
            escrow: Escrow::default(),
            snapshots: Snapshots::default(),
            limits: Limits::default(),
            state_dir: None,
        }
    }

    fn read(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        let bytes = atrest_files::read(path).map_err(Failure::unusable)?;
        let file: Self = serde_yaml::from_slice(bytes.expose()).map_err(|error| {
            // The library's own text quotes values.
            let place = error.location().map_or_else(String::new, |location| {
                format!(":{}:{}", location.line(), location.column())
            });
            Failure::unusable(format!("{shown}{place}: not a rotation.yaml"))
                .hint("docs/guide/rotate.md shows one with every field")
        })?;
        if file.api_version != "atrest/v1" || file.kind != "Rotation" {
            return Err(Failure::unusable(format!(
                "{shown}: not apiVersion atrest/v1, kind Rotation"
            )));
        }
        Ok(file)
    }

    fn settings(self, flags: &RotateFlags) -> Result<Settings, Failure> {
        self.refuse_what_is_not_there_yet()?;
        self.check_servers()?;
        Recipients::parse(&self.escrow.recipients)?;
        if flags.engine == Engine::Svm && (flags.until.is_some() || flags.max_duration.is_some()) {
            return Err(
                Failure::unusable("--engine svm cannot be stopped when a window closes")
                    .hint("leave --until and --max-duration out, or take another engine"),
            );
        }
        let state_dir = flags
            .state_dir
            .clone()
            .or(self.state_dir)
            .unwrap_or_else(|| STATE_DIR.into());
        let plugin = self
            .servers
            .iter()
            .find_map(|server| server.plugin.as_ref());
        let kms = flags
            .kms_socket
            .as_ref()
            .map(|kms| (kms.name.clone(), kms.path.clone()))
            .or_else(|| plugin.map(|plugin| ("atrest".to_owned(), plugin.socket.clone())));
        if flags.kms_socket.is_some() && flags.to.as_deref().is_some_and(|to| to != "kms") {
            return Err(Failure::unusable("--kms-socket is for a rotation to kms")
                .hint("say --to kms, or leave the socket out"));
        }
        let to = match (flags.to.clone().or(self.to.provider), kms) {
            (None, _) => To::InUse,
            (Some(provider), Some((name, socket))) if provider == "kms" => To::Kms { name, socket },
            (Some(provider), None) if provider == "kms" => {
                return Err(Failure::unusable("which KMS plugin to move to is not said")
                    .hint("--kms-socket NAME=PATH, or servers[].plugin.socket in rotation.yaml"));
            }
            (Some(provider), _) if Local::parse(&provider).is_some() => To::Provider(provider),
            (Some(provider), _) if provider == "identity" => To::Identity,
            (Some(provider), _) => {
                return Err(Failure::unusable(format!("cannot rotate to {provider:?}"))
                    .hint("to one of aescbc, aesgcm, secretbox, kms, identity"));
            }
        };
        let or = |flag: &Option<PathBuf>, file: Option<PathBuf>| flag.clone().or(file);
        let etcd = Etcd {
            endpoints: match flags.etcd.endpoints.is_empty() {
                true => self.etcd.endpoints,
                false => flags.etcd.endpoints.clone(),
            },
            cacert: or(&flags.etcd.cacert, self.etcd.ca_file),
            cert: or(&flags.etcd.cert, self.etcd.cert_file),
            key: or(&flags.etcd.key, self.etcd.key_file),
            prefix: flags.etcd.prefix.clone().or(self.etcd.prefix),
            data_dir: self.etcd.data_dir.map(absolute),
        };
        let copies = match flags.escrow_copy.is_empty() {
            true => self.escrow.copies,
            false => flags.escrow_copy.clone(),
        };
        let pace = Pace {
            gentle: self.limits.gentle.unwrap_or(true),
            in_flight: self.limits.max_in_flight.map(|n| n.get().into()),
            rate: self.limits.max_rate.map(NonZeroU32::get),
        };
        Ok(Settings {
            servers: in_order(self.servers.into_iter().map(Server::from).collect()),
            etcd,
            resources: match flags.resource.is_empty() {
                true => self.resources,
                false => flags.resource.clone(),
            },
            to,
            escrow: absolute(
                or(&flags.escrow, self.escrow.file).unwrap_or_else(|| state_dir.join("escrow/key")),
            ),
            escrow_copies: match copies.is_empty() {
                true => vec![absolute(state_dir.join("escrow-copy/key"))],
                false => copies.into_iter().map(absolute).collect(),
            },
            engine: flags.engine,
            pace: pace.with(&flags.pace),
            hold: flags.hold.unwrap_or_default(),
            request_timeout: flags.request_timeout,
            load_timeout: flags.load_timeout,
            recipients: self.escrow.recipients,
            snapshots: self.snapshots.dir.map(absolute),
            plaintext_snapshots: flags.plaintext_snapshot,
            scrub: !flags.no_scrub,
            orphans: flags.orphans.unwrap_or_default(),
        })
    }

    /// A field that would be ignored is worse than one that is refused.
    fn refuse_what_is_not_there_yet(&self) -> Result<(), Failure> {
        let refused = |field: &str| Err(Failure::unusable(format!("{field} is not there yet")));
        let mut sockets = self
            .servers
            .iter()
            .filter_map(|server| server.plugin.as_ref());
        if let Some(first) = sockets.next()
            && sockets.any(|other| other.socket != first.socket)
        {
            return refused("plugin.socket that differs between servers");
        }
        Ok(())
    }

    fn check_servers(&self) -> Result<(), Failure> {
        if self.servers.is_empty() {
            return Err(Failure::unusable("rotation.yaml lists no servers")
                .hint("list every API server of the cluster under servers"));
        }
        for (i, server) in self.servers.iter().enumerate() {
            let others = &self.servers[..i];
            let same_file = |other: &FileServer| {
                !matches!(server.access, Access::Manual)
                    && (&other.access, &other.file) == (&server.access, &server.file)
            };
            let same = others.iter().any(|other| {
                other.name == server.name || other.url == server.url || same_file(other)
            });
            if same {
                return Err(Failure::unusable(format!(
                    "server {:?} has the name, the url or the file of another one",
                    server.name
                ))
                .hint("a load balancer is no server: each API server has an address of its own"));
            }
            server.check()?;
        }
        let is_manual = |server: &FileServer| server.access == Access::Manual;
        match self.servers.iter().all(is_manual) {
            false => Ok(()),
            true => Err(Failure::unusable("every server is manual").hint(
                "the file of at least one has to be in reach, local or by ssh: the others' are copies of it",
            )),
        }
    }
}

impl FileServer {
    fn check(&self) -> Result<(), Failure> {
        let Self { name, file, .. } = self;
        let failed = |what: String| Err(Failure::unusable(format!("server {name:?}: {what}")));
        if let Access::Ssh(ssh) = &self.access
            && !ssh.is_well_formed()
        {
            return failed("access.ssh names no host and user that ssh could take".into());
        }
        if self.access != Access::Local && !file.is_absolute() {
            return failed(format!("{} is not absolute", file.display()));
        }
        match (&self.access, &self.reload) {
            (Access::Manual, Reload::Automatic) | (Access::Local | Access::Ssh(_), _) => {}
            (Access::Manual, _) => {
                return failed(
                    "reload is the operator's business, too, where access is manual".into(),
                );
            }
        }
        self.reload.check().or_else(|what| failed(what.into()))
    }
}

impl From<FileServer> for Server {
    fn from(server: FileServer) -> Self {
        Self {
            name: server.name,
            url: server.url,
            tls_server_name: server.tls_server_name,
            ca_file: server.ca_file,
            file: match server.access {
                Access::Local => absolute(server.file),
                _ => server.file,
            },
            access: server.access,
            reload: server.reload,
            socket: server.plugin.map(|plugin| plugin.socket),
        }
    }
}

/// Those whose files are copied from others' by hand come last. The rules of a rotation take servers in
/// their order.
pub(super) fn in_order(mut servers: Vec<Server>) -> Vec<Server> {
    servers.sort_by_key(|server| server.access == Access::Manual);
    servers
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The servers of a rotation.yaml.
    pub(in crate::rotate) fn servers_of(text: &str) -> Vec<Server> {
        let file: File = serde_yaml::from_str(text).unwrap();
        file.servers.into_iter().map(Server::from).collect()
    }
}
