//! The manifest of kube-apiserver's static pod.

use super::super::form::Form;
use super::super::tree::NodeId;
use super::document::Document;
use super::{CONFIG, Error, RELOAD, Setting, text};

/// What a manifest says of its kube-apiserver.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Manifest {
    flags: Vec<(String, String)>,
    mounts: Vec<Mount>,
    volumes: Vec<String>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Mount {
    path: String,
    /// Of the host; `None` for another kind of volume.
    host: Option<String>,
    is_part: bool,
}

/// A file that kube-apiserver reads, where it is on the host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HostFile {
    /// Its path there.
    pub path: String,
    /// It is mounted by itself: the kubelet gives the pod the very file that was there when the pod
    /// started, and what replaces that is never seen.
    pub is_pinned: bool,
}

impl Manifest {
    /// Reads a static pod's manifest.
    pub fn read(source: &[u8]) -> Result<Self, Error> {
        let document = Document::read(source)?;
        let pod = Pod::find(&document)?;
        Ok(pod.manifest())
    }

    /// The value of a flag; the last one counts.
    pub fn flag(&self, name: &str) -> Option<&str> {
        let found = self.flags.iter().rev().find(|flag| flag.0 == name);
        found.map(|flag| flag.1.as_str())
    }

    /// Its EncryptionConfiguration as the pod sees it; `None` where it has none.
    pub fn encryption_config(&self) -> Option<&str> {
        self.flag(CONFIG)
    }

    /// Whether it reads its EncryptionConfiguration again when that changes.
    pub fn reloads(&self) -> bool {
        self.flag(RELOAD) == Some("true")
    }

    /// Where a file of the pod is on the host; `None` where that does not give it to the pod.
    pub fn on_host(&self, file: &str) -> Option<HostFile> {
        let mount = self.mount_over(file)?;
        let inside = file.strip_prefix(mount.path.as_str())?;
        Some(HostFile {
            path: format!("{}{inside}", mount.host.as_deref()?),
            is_pinned: inside.is_empty() || mount.is_part,
        })
    }

    /// The innermost mount that a path is in.
    fn mount_over(&self, path: &str) -> Option<&Mount> {
        let is_over = |mount: &&Mount| {
            let rest = path.strip_prefix(mount.path.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let over = self.mounts.iter().filter(is_over);
        over.max_by_key(|mount| mount.path.len())
    }

    /// The manifest's text with what makes its kube-apiserver encrypt: flags, and the directories that it
    /// needs for that. What is there already stays as it is.
    pub fn enable(source: &[u8], setting: &Setting) -> Result<Vec<u8>, Error> {
        let document = Document::read(source)?;
        let pod = Pod::find(&document)?;
        let mut to = pod.manifest();
        if let Some(other) = to.encryption_config().filter(|file| *file != setting.file) {
            return Err(Error::OtherFile(other.to_owned()));
        }
        let (mut flags, mut mounts, mut volumes) = (Vec::new(), Vec::new(), Vec::new());
        for (name, value) in setting.flags() {
            if to.flag(name) != Some(value) {
                flags.push(text(&format!("--{name}={value}")));
                to.flags.push((name.to_owned(), value.to_owned()));
            }
        }
        for directory in setting.directories()? {
            let path = &directory.path;
            match to.mount_over(path) {
                Some(mount) if mount.host.is_some() && !mount.is_part => {
                    let here = to.on_host(path).map(|on_host| on_host.path);
                    if here.as_ref() == Some(path) {
                        continue;
                    }
                    return Err(Error::MountTaken(path.clone()));
                }
                Some(_) => return Err(Error::MountTaken(path.clone())),
                None => {}
            }
            if to.volumes.iter().any(|name| name == directory.name) {
                return Err(Error::NameTaken(directory.name));
            }
            mounts.push(Form::Map(vec![
                ("mountPath", text(path)),
                ("name", text(directory.name)),
                ("readOnly", Form::Bool(true)),
            ]));
            let host = vec![("path", text(path)), ("type", text(directory.kind()))];
            volumes.push(Form::Map(vec![
                ("hostPath", Form::Map(host)),
                ("name", text(directory.name)),
            ]));
            to.volumes.push(directory.name.to_owned());
            to.mounts.push(Mount {
                path: path.clone(),
                host: Some(path.clone()),
                is_part: false,
            });
        }
        let lists = [
            (pod.container, pod.words_in, flags),
            (pod.container, "volumeMounts", mounts),
            (pod.spec, "volumes", volumes),
        ];
        let edited = document.edited(|editor| {
            let mut splices = Vec::new();
            for (parent, name, items) in lists {
                let list = document.field(parent, name).ok_or(Error::Missing(name))?;
                splices.extend(editor.append(list, &items)?);
            }
            Ok(splices)
        })?;
        match Self::read(&edited)? == to {
            true => Ok(edited),
            false => Err(Error::Unproven),
        }
    }
}

/// Where kube-apiserver stands in the document.
struct Pod<'a> {
    document: &'a Document<'a>,
    spec: NodeId,
    container: NodeId,
    /// `args`, or `command` where all is in that.
    words_in: &'static str,
}

impl<'a> Pod<'a> {
    fn find(document: &'a Document<'a>) -> Result<Self, Error> {
        let found = || {
            let spec = document.field(document.root().ok()?, "spec")?;
            let containers = document.list(spec, "containers").iter();
            let container = containers.copied().find(|container| {
                let words = document.list(*container, "command");
                let program = words.first().and_then(|word| document.text(*word));
                // Of a shell's words nothing could be concluded.
                program.is_some_and(|it| it.rsplit('/').next() == Some("kube-apiserver"))
            })?;
            let words_in = match document.list(container, "args").is_empty() {
                true => "command",
                false => "args",
            };
            Some(Self {
                document,
                spec,
                container,
                words_in,
            })
        };
        found().ok_or(Error::NotAnApiServer)
    }

    fn manifest(&self) -> Manifest {
        let document = self.document;
        let words = ["command", "args"].map(|name| document.list(self.container, name));
        let words: Vec<_> = words
            .into_iter()
            .flatten()
            .filter_map(|word| document.text(*word))
            .collect();
        let volumes = document.list(self.spec, "volumes").iter();
        let volumes: Vec<_> = volumes
            .filter_map(|volume| Some((document.text_field(*volume, "name")?, *volume)))
            .collect();
        let mount = |mount: &NodeId| {
            let name = document.text_field(*mount, "name");
            let volume = volumes.iter().find(|volume| Some(volume.0) == name);
            let host = volume.and_then(|volume| document.field(volume.1, "hostPath"));
            let host = host.and_then(|host| document.text_field(host, "path"));
            Some(Mount {
                path: trimmed(document.text_field(*mount, "mountPath")?),
                host: host.map(trimmed),
                is_part: document.field(*mount, "subPath").is_some()
                    || document.field(*mount, "subPathExpr").is_some(),
            })
        };
        let mounts = document.list(self.container, "volumeMounts").iter();
        Manifest {
            flags: flags(&words),
            mounts: mounts.filter_map(mount).collect(),
            volumes: volumes.iter().map(|volume| volume.0.to_owned()).collect(),
        }
    }
}

fn trimmed(path: &str) -> String {
    path.trim_end_matches('/').to_owned()
}

/// As pflag reads them: `--name=value`, `--name value`, and `--name` of a switch.
fn flags(words: &[&str]) -> Vec<(String, String)> {
    let mut flags = Vec::new();
    let mut words = words.iter().skip(1).peekable();
    while let Some(word) = words.next() {
        let Some(word) = word.strip_prefix("--") else {
            continue;
        };
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, value),
            None => match words.next_if(|next| word != RELOAD && !next.starts_with('-')) {
                Some(value) => (word, *value),
                None => (word, "true"),
            },
        };
        flags.push((name.to_owned(), value.to_owned()));
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::super::tests::setting;
    use super::*;

    const MANIFEST: &str = "\
# kept by hand: ticket 4711
apiVersion: v1
kind: Pod
spec:
  containers:
  - command:
    - kube-apiserver
    - --advertise-address=10.0.0.11
    - --etcd-servers=https://127.0.0.1:2379 # ours
    - --secure-port=6443
    image: registry.k8s.io/kube-apiserver:v1.37.2
    name: kube-apiserver
    volumeMounts:
    - mountPath: /etc/ssl/certs
      name: ca-certs
      readOnly: true
    # kubeadm's
    - mountPath: /etc/kubernetes/pki
      name: k8s-certs
      readOnly: true
  hostNetwork: true
  volumes:
  - hostPath:
      path: /etc/ssl/certs
      type: DirectoryOrCreate
    name: ca-certs
  - hostPath:
      path: /etc/kubernetes/pki
      type: DirectoryOrCreate
    name: k8s-certs
status: {}
";

    fn enabled(source: &str) -> String {
        String::from_utf8(Manifest::enable(source.as_bytes(), &setting()).unwrap()).unwrap()
    }

    fn with_mount(mount: &str, volume: &str) -> String {
        MANIFEST
            .replace("    # kubeadm's\n", &format!("{mount}    # kubeadm's\n"))
            .replace("status:", &format!("{volume}status:"))
    }

    #[test]
    fn a_manifest_gains_flags_and_directories_and_nothing_else_changes() {
        let to = MANIFEST
            .replace(
                "    - --secure-port=6443\n",
                "    - --secure-port=6443
    - --encryption-provider-config=/etc/kubernetes/enc/config.yaml
    - --encryption-provider-config-automatic-reload=true
",
            )
            .replace(
                "      name: k8s-certs\n      readOnly: true\n",
                "      name: k8s-certs\n      readOnly: true
    - mountPath: /etc/kubernetes/enc
      name: encryption-config
      readOnly: true
    - mountPath: /run/atrest-kms
      name: atrest-kms
      readOnly: true
",
            )
            .replace(
                "    name: k8s-certs\nstatus",
                "    name: k8s-certs
  - hostPath:
      path: /etc/kubernetes/enc
      type: Directory
    name: encryption-config
  - hostPath:
      path: /run/atrest-kms
      type: DirectoryOrCreate
    name: atrest-kms
status",
            );
        let edited = enabled(MANIFEST);
        assert_eq!(edited, to);
        assert_eq!(enabled(&edited), edited, "once more changes nothing");
        let read = Manifest::read(edited.as_bytes()).unwrap();
        assert_eq!(
            read.encryption_config(),
            Some("/etc/kubernetes/enc/config.yaml")
        );
        assert!(read.reloads());
        assert_eq!(
            read.on_host("/etc/kubernetes/enc/config.yaml"),
            Some(HostFile {
                path: "/etc/kubernetes/enc/config.yaml".into(),
                is_pinned: false
            })
        );
    }

    #[test]
    fn a_file_that_is_mounted_by_itself_is_pinned() {
        let volume =
            "  - {name: enc, hostPath: {path: /etc/kubernetes/enc/config.yaml, type: File}}\n";
        let part = "  - {name: enc, hostPath: {path: /etc/kubernetes/enc}}\n";
        for (mount, volume) in [
            ("    - {name: enc, mountPath: /enc.yaml}\n", volume),
            (
                "    - {name: enc, mountPath: /enc.yaml, subPath: config.yaml}\n",
                part,
            ),
        ] {
            let read = Manifest::read(with_mount(mount, volume).as_bytes()).unwrap();
            assert!(read.on_host("/enc.yaml").unwrap().is_pinned, "{mount}");
            assert_eq!(read.on_host("/enc.yaml.d/x"), None);
        }
        let directory = with_mount("    - {name: enc, mountPath: /enc/}\n", part);
        let read = Manifest::read(directory.as_bytes()).unwrap();
        let file = read.on_host("/enc/config.yaml").unwrap();
        assert_eq!(
            (file.path.as_str(), file.is_pinned),
            ("/etc/kubernetes/enc/config.yaml", false)
        );
    }

    #[test]
    fn what_is_there_already_is_not_given_twice_nor_taken_over() {
        let covered = with_mount(
            "    - {name: all, mountPath: /etc/kubernetes}\n",
            "  - {name: all, hostPath: {path: /etc/kubernetes}}\n",
        );
        let edited = enabled(&covered);
        assert!(!edited.contains("name: encryption-config"), "{edited}");
        assert!(edited.contains("name: atrest-kms"), "{edited}");

        let refused = |source: &str| Manifest::enable(source.as_bytes(), &setting()).unwrap_err();
        let elsewhere = with_mount(
            "    - {name: enc, mountPath: /etc/kubernetes/enc}\n",
            "  - {name: enc, hostPath: {path: /srv/enc}}\n",
        );
        assert_eq!(
            refused(&elsewhere),
            Error::MountTaken("/etc/kubernetes/enc".into())
        );
        let taken = with_mount("", "  - {name: encryption-config, emptyDir: {}}\n");
        assert_eq!(refused(&taken), Error::NameTaken("encryption-config"));
        let other = MANIFEST.replace(
            "    - --secure",
            "    - --encryption-provider-config=/other.yaml\n    - --secure",
        );
        assert_eq!(refused(&other), Error::OtherFile("/other.yaml".into()));
    }

    #[test]
    fn nothing_is_concluded_from_what_is_no_kube_apiserver() {
        for source in [
            "",
            "[",
            "spec: {containers: [{command: [sh, -c, exec kube-apiserver]}]}",
            "spec: {containers: []}",
            "\u{feff}\0",
        ] {
            let error = Manifest::read(source.as_bytes()).unwrap_err();
            assert!(
                matches!(error, Error::NotAnApiServer | Error::Unreadable),
                "{source:?}"
            );
        }
        let bare = "spec: {containers: [{command: [/bin/kube-apiserver]}]}";
        let error = Manifest::enable(bare.as_bytes(), &setting()).unwrap_err();
        assert_eq!(error, Error::Missing("volumeMounts"));
    }

    #[test]
    fn flags_are_read_as_the_server_reads_them() {
        let read = flags(&[
            "kube-apiserver",
            "--a=1",
            "--b",
            "2",
            "--a=3",
            "--c",
            &format!("--{RELOAD}"),
            "stray",
        ]);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            read,
            [
                pair("a", "1"),
                pair("b", "2"),
                pair("a", "3"),
                pair("c", "true"),
                pair(RELOAD, "true"),
            ]
        );
    }
}
