//! kubeadm's ClusterConfiguration: what it makes every kube-apiserver's manifest from.

use super::super::form::Form;
use super::super::tree::NodeId;
use super::document::Document;
use super::{CONFIG, Error, RELOAD, Setting, text};

/// What a ClusterConfiguration says of kube-apiserver.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClusterConfiguration {
    args: Vec<(String, String)>,
    volumes: Vec<(String, String)>,
}

impl ClusterConfiguration {
    /// Reads kubeadm's own, as it is in the ConfigMap `kube-system/kubeadm-config`.
    pub fn read(source: &[u8]) -> Result<Self, Error> {
        Ok(Server::find(&Document::read(source)?)?.configuration())
    }

    /// The EncryptionConfiguration that kubeadm names in the manifests that it writes.
    pub fn encryption_config(&self) -> Option<&str> {
        self.arg(CONFIG)
    }

    /// Whether kubeadm tells kube-apiserver to read it again when it changes.
    pub fn reloads(&self) -> bool {
        self.arg(RELOAD) == Some("true")
    }

    fn arg(&self, name: &str) -> Option<&str> {
        let found = self.args.iter().rev().find(|arg| arg.0 == name);
        found.map(|arg| arg.1.as_str())
    }

    /// Its text with the same that [`super::Manifest::enable`] gives a manifest.
    pub fn enable(source: &[u8], setting: &Setting) -> Result<Vec<u8>, Error> {
        let document = Document::read(source)?;
        let server = Server::find(&document)?;
        let mut to = server.configuration();
        if let Some(other) = to.encryption_config().filter(|file| *file != setting.file) {
            return Err(Error::OtherFile(other.to_owned()));
        }
        let mut args = Vec::new();
        for (name, value) in setting.flags() {
            if to.arg(name) != Some(value) {
                args.push((name, value));
                to.args.push((name.to_owned(), value.to_owned()));
            }
        }
        let mut volumes = Vec::new();
        for directory in setting.directories()? {
            let path = &directory.path;
            if to.volumes.iter().any(|volume| volume.1 == *path) {
                continue;
            }
            if to.volumes.iter().any(|volume| volume.0 == directory.name) {
                return Err(Error::NameTaken(directory.name));
            }
            volumes.push(Form::Map(vec![
                ("name", text(directory.name)),
                ("hostPath", text(path)),
                ("mountPath", text(path)),
                ("pathType", text(directory.kind())),
                ("readOnly", Form::Bool(true)),
            ]));
            to.volumes.push((directory.name.to_owned(), path.clone()));
        }
        let edited = server.edited(&args, volumes)?;
        let mut read = Self::read(&edited)?;
        // Of a mapping, the order is nobody's.
        read.args.sort();
        to.args.sort();
        match read == to {
            true => Ok(edited),
            false => Err(Error::Unproven),
        }
    }
}

/// Where kube-apiserver's part is in the document.
struct Server<'a> {
    document: &'a Document<'a>,
    root: NodeId,
    /// v1beta4 has a list of names and values, v1beta3 a mapping.
    has_list: bool,
    server: Option<NodeId>,
}

impl<'a> Server<'a> {
    fn find(document: &'a Document<'a>) -> Result<Self, Error> {
        let root = document.root()?;
        let version = document.text_field(root, "apiVersion");
        let has_list = match version.and_then(|it| it.strip_prefix("kubeadm.k8s.io/")) {
            Some("v1beta4") => true,
            Some("v1beta3") => false,
            _ => return Err(Error::NotAClusterConfiguration),
        };
        if document.text_field(root, "kind") != Some("ClusterConfiguration") {
            return Err(Error::NotAClusterConfiguration);
        }
        Ok(Self {
            document,
            root,
            has_list,
            server: document.field(root, "apiServer"),
        })
    }

    fn field(&self, name: &str) -> Option<NodeId> {
        self.document.field(self.server?, name)
    }

    fn configuration(&self) -> ClusterConfiguration {
        let document = self.document;
        let pair = |id: NodeId, [name, value]: [&str; 2]| {
            let name = document.text_field(id, name)?.to_owned();
            Some((name, document.text_field(id, value)?.to_owned()))
        };
        let args = match (self.field("extraArgs"), self.has_list) {
            (None, _) => Vec::new(),
            (Some(args), true) => {
                let items = document.items(args).iter();
                items
                    .filter_map(|arg| pair(*arg, ["name", "value"]))
                    .collect()
            }
            (Some(args), false) => {
                let fields = document.fields(args).into_iter();
                let text = |(name, id): (&str, NodeId)| {
                    Some((name.to_owned(), document.text(id)?.to_owned()))
                };
                fields.filter_map(text).collect()
            }
        };
        let volumes = self.field("extraVolumes");
        let volumes = volumes.map_or(&[][..], |id| document.items(id)).iter();
        let mut volumes: Vec<_> = volumes
            .filter_map(|id| pair(*id, ["name", "mountPath"]))
            .collect();
        for volume in &mut volumes {
            volume.1 = volume.1.trim_end_matches('/').to_owned();
        }
        ClusterConfiguration { args, volumes }
    }

    fn edited(&self, args: &[(&'static str, &str)], volumes: Vec<Form>) -> Result<Vec<u8>, Error> {
        let named = |(name, value): &(&'static str, &str)| {
            Form::Map(vec![("name", text(name)), ("value", text(value))])
        };
        let fields: Vec<_> = args
            .iter()
            .map(|(name, value)| (*name, text(value)))
            .collect();
        let items: Vec<_> = args.iter().map(named).collect();
        self.document.edited(|editor| {
            let (mut new, mut inside) = (Vec::new(), Vec::new());
            match (self.field("extraArgs"), self.has_list) {
                _ if args.is_empty() => {}
                (Some(id), true) => inside.push((id, editor.append(id, &items)?)),
                (Some(id), false) => inside.push((id, editor.extend(id, &fields, Vec::new())?)),
                (None, true) => new.push(("extraArgs", Form::List(items))),
                (None, false) => new.push(("extraArgs", Form::Map(fields))),
            }
            match self.field("extraVolumes") {
                _ if volumes.is_empty() => {}
                Some(id) => inside.push((id, editor.append(id, &volumes)?)),
                None => new.push(("extraVolumes", Form::List(volumes))),
            }
            match self.server {
                Some(server) => editor.extend(server, &new, inside),
                None => editor.extend(self.root, &[("apiServer", Form::Map(new))], Vec::new()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::setting;
    use super::*;

    const LISTS: &str = "\
apiServer:
  extraArgs:
  - name: encryption-provider-config
    value: /etc/kubernetes/enc/config.yaml
  - name: encryption-provider-config-automatic-reload
    value: \"true\"
  extraVolumes:
  - name: encryption-config
    hostPath: /etc/kubernetes/enc
    mountPath: /etc/kubernetes/enc
    pathType: Directory
    readOnly: true
  - name: atrest-kms
    hostPath: /run/atrest-kms
    mountPath: /run/atrest-kms
    pathType: DirectoryOrCreate
    readOnly: true
";

    fn enabled(source: &str) -> String {
        let edited = ClusterConfiguration::enable(source.as_bytes(), &setting()).unwrap();
        String::from_utf8(edited).unwrap()
    }

    fn cluster(version: u8, server: &str) -> String {
        format!(
            "{server}apiVersion: kubeadm.k8s.io/v1beta{version}\nclusterName: kubernetes # ours\n\
             kind: ClusterConfiguration\n"
        )
    }

    #[test]
    fn a_cluster_gains_arguments_and_volumes_beside_those_it_has() {
        let server = "apiServer:\n  extraArgs:\n  - name: profiling\n    value: off-by-hand\n";
        let to = LISTS.replace(
            "  extraArgs:\n",
            "  extraArgs:\n  - name: profiling\n    value: off-by-hand\n",
        );
        let edited = enabled(&cluster(4, server));
        assert_eq!(edited, cluster(4, &to));
        assert_eq!(enabled(&edited), edited, "once more changes nothing");
        assert!(
            ClusterConfiguration::read(edited.as_bytes())
                .unwrap()
                .reloads()
        );
    }

    #[test]
    fn of_v1beta3_the_arguments_are_a_mapping() {
        let server = "apiServer:\n  extraArgs:\n    v: \"2\"\n  timeoutForControlPlane: 4m0s\n";
        let edited = enabled(&cluster(3, server));
        assert!(
            edited.contains(
                "    v: \"2\"\n    encryption-provider-config: /etc/kubernetes/enc/config.yaml\n    \
                 encryption-provider-config-automatic-reload: \"true\"\n  timeoutForControlPlane"
            ),
            "{edited}"
        );
        assert!(edited.contains("  extraVolumes:\n"), "{edited}");
    }

    #[test]
    fn a_cluster_without_settings_gains_them() {
        for server in ["apiServer: {}\n", ""] {
            for version in [3, 4] {
                let edited = enabled(&cluster(version, server));
                let read = ClusterConfiguration::read(edited.as_bytes()).unwrap();
                assert!(read.reloads(), "{edited}");
                assert_eq!(read.volumes.len(), 2, "{edited}");
                assert!(edited.contains("# ours"), "{edited}");
            }
        }
    }

    #[test]
    fn what_kubeadm_does_not_know_is_refused() {
        let refused =
            |source: &str| ClusterConfiguration::enable(source.as_bytes(), &setting()).unwrap_err();
        assert_eq!(refused(&cluster(2, "")), Error::NotAClusterConfiguration);
        assert_eq!(refused("kind: Other"), Error::NotAClusterConfiguration);
        let other = LISTS.replace("enc/config", "other/config");
        assert_eq!(
            refused(&cluster(4, &other)),
            Error::OtherFile("/etc/kubernetes/other/config.yaml".into())
        );
        let taken = LISTS.replace("mountPath: /etc/kubernetes/enc", "mountPath: /enc");
        assert_eq!(
            refused(&cluster(4, &taken)),
            Error::NameTaken("encryption-config")
        );
    }
}
