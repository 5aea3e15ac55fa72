//! The files of a node.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::rc::Rc;

use atrest_core::check::{
    Bundle, Certificate, Cluster, ConfOwner, Context, Credential, FileState, Key, Kubeconfig,
    Layout, Missing, Node, Pair, Path as Place, PublicKey, Role, ServiceAccountKeys, StaticPod,
    Time, Trust, Unread, User, UserCredential, acl,
};
use atrest_core::secret::SecretBytes;
use atrest_files::Root;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_yaml::Value;

use super::file::{self, Content, PrivateKey};
use super::kubeconfig::{self, Document};

const MANIFESTS: &str = "/etc/kubernetes/manifests";

/// A certificate with its key, to be shown to the server that it is for.
pub(crate) struct ClientPair {
    pub(crate) role: Role,
    pub(crate) object: String,
    pub(crate) presented: Vec<Certificate>,
    pub(crate) key: PrivateKey,
}

/// Reads everything that is to be judged. What cannot be read is in the node, with the reason.
pub(crate) fn read(root: &Root) -> (Node, Vec<ClientPair>) {
    let mut reader = Reader {
        root,
        node: Node {
            owner: root.owner(),
            ..Node::default()
        },
        pairs: Vec::new(),
        read: HashMap::new(),
    };
    reader.facts();
    let layout = Layout::of(&reader.node.facts);
    reader.bundles(&layout);
    for pair in &layout.pairs {
        reader.pair(pair);
    }
    for (owner, path) in &layout.kubeconfigs {
        reader.kubeconfig(*owner, path);
    }
    for path in reader.other_kubeconfigs(&layout) {
        reader.kubeconfig(ConfOwner::Other, &path);
    }
    reader.service_accounts(&layout);
    reader.nothing();
    (reader.node, reader.pairs)
}

/// Notes what could not be read, once.
pub(super) fn unread(node: &mut Node, input: impl Into<String>, reason: impl Into<String>) {
    let unread = Unread {
        input: input.into(),
        reason: reason.into(),
    };
    if !node.unread.contains(&unread) {
        node.unread.push(unread);
    }
}

struct Reader<'a> {
    root: &'a Root,
    node: Node,
    pairs: Vec<ClientPair>,
    /// Each file is read once, and its faults are told once.
    read: HashMap<String, Option<Rc<SecretBytes>>>,
}

impl Reader<'_> {
    fn unread(&mut self, input: impl Into<String>, reason: impl Into<String>) {
        unread(&mut self.node, input, reason);
    }

    /// A file's bytes. Where it is not there and has to be, it is missing; where it cannot be read, it is
    /// unread.
    fn bytes(&mut self, place: &Place) -> Option<Rc<SecretBytes>> {
        let path = &place.path;
        if let Some(known) = self.read.get(path) {
            return known.clone();
        }
        let bytes = match self.root.read(Path::new(path)) {
            Ok(found) => {
                let mut state = FileState {
                    object: path.clone(),
                    mode: found.metadata.mode() & 0o7777,
                    owner: found.metadata.uid(),
                    changed: Time::from_unix(found.metadata.mtime()),
                    parents: self.parents(path),
                    ..FileState::default()
                };
                match found.acl.as_deref().map(acl) {
                    None => {}
                    Some(Some(entries)) => state.acl = entries,
                    Some(None) => self.unread(path, "its access control list is not known here"),
                }
                self.node.files.push(state);
                Some(Rc::new(found.bytes))
            }
            Err(error) if error.kind() == Some(ErrorKind::NotFound) => {
                if let Some(by) = place.needed_by {
                    self.node.missing.push(Missing {
                        object: path.clone(),
                        needed_by: by.to_owned(),
                    });
                    self.read.insert(path.clone(), None);
                }
                return None;
            }
            Err(error) => {
                self.unread(path, error.to_string());
                None
            }
        };
        self.read.insert(path.clone(), bytes.clone());
        bytes
    }

    fn parents(&mut self, path: &str) -> Vec<(String, u32, u32)> {
        let mut parents = Vec::new();
        for parent in Path::new(path).ancestors().skip(1) {
            let name = parent.to_string_lossy().into_owned();
            match self.root.metadata(parent) {
                Ok(metadata) => parents.push((name, metadata.mode() & 0o7777, metadata.uid())),
                Err(error) => self.unread(name, error.to_string()),
            }
        }
        parents.reverse();
        parents
    }

    fn content(&mut self, place: &Place) -> Option<Content> {
        let bytes = self.bytes(place)?;
        match file::content(bytes.expose()) {
            Ok(content) => {
                if content.key.is_some() {
                    self.is_secret(&place.path);
                }
                Some(content)
            }
            Err(reason) => {
                self.unread(&place.path, reason);
                None
            }
        }
    }

    fn is_secret(&mut self, path: &str) {
        let states = self.node.files.iter_mut();
        for state in states.filter(|state| state.object == path) {
            state.is_secret = true;
        }
    }

    /// Static pods and the kubelet's configuration.
    fn facts(&mut self) {
        let names = match self.root.names(Path::new(MANIFESTS)) {
            Ok(names) => names,
            Err(error) => {
                if error.kind() != Some(ErrorKind::NotFound) {
                    self.unread(MANIFESTS, error.to_string());
                }
                Vec::new()
            }
        };
        for name in names {
            let name = name.to_string_lossy().into_owned();
            // As the kubelet passes over them.
            if name.starts_with('.') {
                continue;
            }
            let path = format!("{MANIFESTS}/{name}");
            let Some(bytes) = self.bytes(&optional(&path)) else {
                continue;
            };
            match StaticPod::read(bytes.expose()) {
                Some(pod) => self.node.facts.pods.push(pod),
                None => self.unread(path, "it is no manifest of a pod"),
            }
        }
        self.kubelet();
        let root = self.root;
        let is_there = |path: &str| match root.metadata(Path::new(path)) {
            Ok(_) => true,
            // What cannot be looked at is there, and will be said to be unread.
            Err(error) => error.kind() != Some(ErrorKind::NotFound),
        };
        let any = |names: &[&str]| {
            let mut paths = names.iter().map(|name| format!("/etc/kubernetes/{name}"));
            paths.any(|path| is_there(&path))
        };
        let facts = &mut self.node.facts;
        facts.is_control_plane = facts.pod("kube-apiserver").is_some()
            || any(&[
                "manifests/kube-apiserver.yaml",
                "pki/apiserver.crt",
                "pki/apiserver.key",
                "pki/ca.key",
                "pki/sa.key",
                "controller-manager.conf",
            ]);
        facts.has_etcd = facts.pod("etcd").is_some()
            || any(&[
                "manifests/etcd.yaml",
                "pki/etcd/server.crt",
                "pki/etcd/server.key",
                "pki/etcd/peer.crt",
                "pki/etcd/ca.key",
            ]);
    }

    fn kubelet(&mut self) {
        const CONFIG: &str = "/var/lib/kubelet/config.yaml";
        const KIND: &str = "KubeletConfiguration";

        let Some(bytes) = self.bytes(&optional(CONFIG)) else {
            return;
        };
        let config = serde_yaml::from_slice::<Value>(bytes.expose()).ok();
        let is_one = |it: &Value| it.get("kind").and_then(Value::as_str) == Some(KIND);
        let Some(config) = config.filter(is_one) else {
            self.unread(CONFIG, "it is no KubeletConfiguration");
            return;
        };
        let text = |value: Option<&Value>| {
            let text = value.and_then(Value::as_str);
            text.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let x509 = config.get("authentication").and_then(|it| it.get("x509"));
        let facts = &mut self.node.facts;
        facts.kubelet_client_ca = text(x509.and_then(|it| it.get("clientCAFile")));
        let certificate = text(config.get("tlsCertFile"));
        let host = text(config.get("address")).filter(|it| it != "0.0.0.0" && it != "::");
        let host = host.unwrap_or_else(|| "127.0.0.1".into());
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host
        };
        let port = config.get("port").and_then(Value::as_u64).unwrap_or(10_250);
        facts.kubelet_address = Some(format!("{host}:{port}"));
        facts.kubelet_serving = certificate.zip(text(config.get("tlsPrivateKeyFile")));
    }

    fn bundles(&mut self, layout: &Layout) {
        for (anchor, place) in &layout.anchors {
            let Some(content) = self.content(place) else {
                continue;
            };
            if content.certificates.is_empty() {
                self.unread(&place.path, "there is no certificate in it");
                continue;
            }
            self.node.bundles.push(Bundle {
                anchor: *anchor,
                object: place.path.clone(),
                certificates: content.certificates,
            });
        }
    }

    fn pair(&mut self, pair: &Pair) {
        let Some(content) = self.content(&pair.certificate) else {
            // The key's own faults are told all the same.
            self.content(&pair.key);
            return;
        };
        if content.certificates.is_empty() {
            self.unread(&pair.certificate.path, "there is no certificate in it");
        }
        let beside = match pair.key.path == pair.certificate.path {
            true => Some(content.key),
            false => self.content(&pair.key).map(|content| content.key),
        };
        let key = match beside {
            None => match self.node.unread.iter().any(|it| it.input == pair.key.path) {
                true => Err(Key::Unread),
                false => Err(Key::Absent),
            },
            Some(found) => self.key(&pair.key.path, found).ok_or(Key::Unread),
        };
        let (object, presented) = (pair.certificate.path.clone(), content.certificates);
        self.credential(pair.role, object, pair.key.path.clone(), presented, key);
    }

    fn key(
        &mut self,
        object: &str,
        found: Option<Result<PrivateKey, String>>,
    ) -> Option<PrivateKey> {
        match found {
            Some(Ok(key)) => return Some(key),
            Some(Err(reason)) => self.unread(object, reason),
            None => self.unread(object, "there is no private key in it"),
        }
        None
    }

    fn credential(
        &mut self,
        role: Role,
        object: String,
        key_object: String,
        presented: Vec<Certificate>,
        key: Result<PrivateKey, Key>,
    ) {
        if let Ok(key) = &key {
            self.pairs.push(ClientPair {
                role,
                object: object.clone(),
                presented: presented.clone(),
                key: key.clone(),
            });
        }
        self.node.credentials.push(Credential {
            role,
            object,
            key_object,
            presented,
            key: key.map_or_else(|absent| absent, |key| Key::Half(key.half)),
        });
    }

    /// Kubeconfigs beside kubeadm's own, and those of users.
    fn other_kubeconfigs(&mut self, layout: &Layout) -> Vec<Place> {
        let mut paths = Vec::new();
        for name in self.names("/etc/kubernetes") {
            if name.ends_with(".conf") {
                paths.push(format!("/etc/kubernetes/{name}"));
            }
        }
        let mut homes = vec!["/root".to_owned()];
        homes.extend(
            self.names("/home")
                .iter()
                .map(|name| format!("/home/{name}")),
        );
        paths.extend(homes.into_iter().map(|home| format!("{home}/.kube/config")));
        paths.retain(|path| {
            !layout
                .kubeconfigs
                .iter()
                .any(|(_, known)| known.path == *path)
        });
        paths.iter().map(|path| optional(path)).collect()
    }

    fn names(&mut self, path: &str) -> Vec<String> {
        match self.root.names(Path::new(path)) {
            Ok(names) => {
                let names = names.iter();
                names
                    .map(|name| name.to_string_lossy().into_owned())
                    .collect()
            }
            Err(error) => {
                if error.kind() != Some(ErrorKind::NotFound) {
                    self.unread(path, error.to_string());
                }
                Vec::new()
            }
        }
    }

    fn kubeconfig(&mut self, owner: ConfOwner, place: &Place) {
        let Some(bytes) = self.bytes(place) else {
            return;
        };
        self.is_secret(&place.path);
        let Some(document) = Document::read(bytes.expose()) else {
            self.unread(&place.path, "it is no kubeconfig");
            return;
        };
        let mut kubeconfig = Kubeconfig {
            object: place.path.clone(),
            owner,
            current_context: document.current_context,
            contexts: Vec::new(),
            clusters: Vec::new(),
            users: Vec::new(),
        };
        for it in document.contexts {
            kubeconfig.contexts.push(Context {
                name: it.name,
                cluster: it.context.cluster,
                user: it.context.user,
            });
        }
        for it in document.clusters {
            let trust = self.trust(&kubeconfig.object, &it);
            kubeconfig.clusters.push(Cluster {
                name: it.name,
                server: it.cluster.server,
                tls_server_name: it.cluster.tls_server_name,
                is_insecure: it.cluster.insecure_skip_tls_verify,
                trust,
            });
        }
        if document.users.is_empty() {
            self.unread(&kubeconfig.object, "there is no user in it");
        }
        for it in document.users {
            let credentials = self.user(&kubeconfig, owner, &it);
            // A file that was cut off may still be YAML.
            if credentials.is_empty() && owner != ConfOwner::Other {
                let object = kubeconfig.user_object(&it.name);
                self.unread(object, "it has no certificate, token, password or program");
            }
            kubeconfig.users.push(User {
                name: it.name,
                credentials,
            });
        }
        self.node.kubeconfigs.push(kubeconfig);
    }

    fn trust(&mut self, object: &str, it: &kubeconfig::NamedCluster) -> Trust {
        let data = it.cluster.certificate_authority_data.as_deref();
        let path = it.cluster.certificate_authority.as_deref();
        if is_empty(data) && is_empty(path) {
            return Trust::Machine;
        }
        let place = format!("{object}: cluster {}", it.name);
        match self.embedded(object, &place, data, path) {
            Some((content, _)) if !content.certificates.is_empty() => {
                Trust::Certificates(content.certificates)
            }
            Some((_, from)) => {
                self.unread(from, "there is no certificate in it");
                Trust::Unread
            }
            None => Trust::Unread,
        }
    }

    /// What is in a kubeconfig, or in the file that it names; data counts more than a file. The other
    /// part is where that is.
    fn embedded(
        &mut self,
        object: &str,
        place: &str,
        data: Option<&str>,
        path: Option<&str>,
    ) -> Option<(Content, String)> {
        if let Some(data) = data.filter(|data| !data.is_empty()) {
            let Ok(bytes) = STANDARD.decode(data.as_bytes()) else {
                self.unread(place, "its data is not base64");
                return None;
            };
            let bytes = SecretBytes::new(bytes);
            return match file::content(bytes.expose()) {
                Ok(content) => Some((content, place.to_owned())),
                Err(reason) => {
                    self.unread(place, reason);
                    None
                }
            };
        }
        let path = beside(object, path?);
        let place = Place {
            path: path.clone(),
            needed_by: Some("a kubeconfig"),
        };
        self.content(&place).map(|content| (content, path))
    }

    fn user(
        &mut self,
        kubeconfig: &Kubeconfig,
        owner: ConfOwner,
        it: &kubeconfig::NamedUser,
    ) -> Vec<UserCredential> {
        let mut credentials = Vec::new();
        let user = &it.user;
        let (data, path) = (
            user.client_certificate_data.as_deref(),
            user.client_certificate.as_deref(),
        );
        if !is_empty(data) || !is_empty(path) {
            credentials.push(UserCredential::Certificate);
            self.certificate(kubeconfig, owner, it);
        }
        for (is_there, kind) in [
            (!is_empty(user.token.as_deref()), UserCredential::Token),
            (!is_empty(user.token_file.as_deref()), UserCredential::Token),
            (
                !is_empty(user.password.as_deref()),
                UserCredential::Password,
            ),
            (user.exec.is_some(), UserCredential::Program),
            (user.auth_provider.is_some(), UserCredential::Program),
        ] {
            if is_there && !credentials.contains(&kind) {
                credentials.push(kind);
            }
        }
        credentials
    }

    fn certificate(
        &mut self,
        kubeconfig: &Kubeconfig,
        owner: ConfOwner,
        it: &kubeconfig::NamedUser,
    ) {
        let object = &kubeconfig.object;
        let place = kubeconfig.user_object(&it.name);
        let user = &it.user;
        let Some((content, from)) = self.embedded(
            object,
            &place,
            user.client_certificate_data.as_deref(),
            user.client_certificate.as_deref(),
        ) else {
            return;
        };
        if content.certificates.is_empty() {
            self.unread(from, "there is no certificate in it");
        }
        let (data, path) = (user.client_key_data.as_deref(), user.client_key.as_deref());
        let key = match is_empty(data) && is_empty(path) {
            true => {
                self.unread(&place, "it has a certificate and no key");
                None
            }
            false => {
                let found = self.embedded(object, &place, data, path);
                found.and_then(|(content, from)| self.key(&from, content.key))
            }
        };
        let (role, presented) = (Role::Kubeconfig(owner), content.certificates);
        self.credential(
            role,
            place.clone(),
            place,
            presented,
            key.ok_or(Key::Unread),
        );
    }

    fn service_accounts(&mut self, layout: &Layout) {
        let Some((_, private)) = layout.service_account.first() else {
            return;
        };
        let mut public: Vec<(String, Vec<PublicKey>)> = Vec::new();
        let mut is_whole = true;
        for (place, _) in &layout.service_account {
            let Some(mut content) = self.content(place) else {
                is_whole = false;
                continue;
            };
            let certificates = content.certificates.into_iter();
            content.public_keys.extend(certificates.map(|it| it.key));
            if content.public_keys.is_empty() {
                self.unread(&place.path, "there is no public key in it");
                is_whole = false;
            }
            public.push((place.path.clone(), content.public_keys));
        }
        let key = self.content(private).map(|content| content.key);
        let key = key.and_then(|key| self.key(&private.path, key));
        if !is_whole {
            return; // What could not be read may be the one that belongs to it.
        }
        let all = public.iter().flat_map(|(_, keys)| keys);
        self.node.token_keys = Some(all.cloned().collect());
        if let Some(key) = key {
            self.node.service_accounts.push(ServiceAccountKeys {
                private_object: private.path.clone(),
                private: key.half,
                public,
            });
        }
    }

    /// A machine without anything of Kubernetes is no node that is well.
    fn nothing(&mut self) {
        let node = &self.node;
        let is_empty = node.credentials.is_empty() && node.kubeconfigs.is_empty();
        if is_empty && node.unread.is_empty() {
            self.node.missing.clear();
            self.unread(
                "/etc/kubernetes",
                "nothing of a node that kubeadm made is here",
            );
        }
    }
}

fn optional(path: &str) -> Place {
    Place {
        path: path.to_owned(),
        needed_by: None,
    }
}

/// A file that a kubeconfig names is looked for beside it.
fn beside(object: &str, path: &str) -> String {
    let directory = Path::new(object).parent().unwrap_or(Path::new("/"));
    directory.join(path).to_string_lossy().into_owned()
}

fn is_empty(text: Option<&str>) -> bool {
    text.is_none_or(str::is_empty)
}
