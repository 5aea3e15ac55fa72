//! Where kube-apiserver is told of its EncryptionConfiguration: in the manifest of its static pod, and
//! in the ClusterConfiguration that kubeadm makes that from. Both are read, and edited as text:
//! comments and order stay.

mod cluster;
mod document;
mod manifest;

use super::edit::Obstacle;
use super::form::Form;
use super::tree::Text;

pub use self::cluster::ClusterConfiguration;
pub use self::manifest::{HostFile, Manifest};

const CONFIG: &str = "encryption-provider-config";
const RELOAD: &str = "encryption-provider-config-automatic-reload";

/// What an API server is to be told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Setting {
    /// Its EncryptionConfiguration, an absolute path that is the same on the host and in the pod.
    pub file: String,
    /// Whether it reads that again when it changes.
    pub automatic_reload: bool,
    /// Where the socket of its KMS plugin is, if it is to have one.
    pub socket: Option<String>,
}

/// Why a manifest or a ClusterConfiguration cannot be read or edited.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Damaged, in UTF-16, or empty.
    #[error("it is not a YAML document")]
    Unreadable,
    /// There is none of kube-apiserver.
    #[error("it has no container whose command is kube-apiserver")]
    NotAnApiServer,
    /// Not one that kubeadm of Kubernetes 1.22 or later writes.
    #[error("it is not a ClusterConfiguration of kubeadm.k8s.io/v1beta3 or v1beta4")]
    NotAClusterConfiguration,
    /// What is there is a directory's parent, or has none.
    #[error("{0} is not an absolute path below a directory of its own")]
    Path(String),
    /// The flag is there and names another file.
    #[error("--{CONFIG} names {0} already")]
    OtherFile(String),
    /// Something else has the name that the new volume would have.
    #[error("it has another volume named {0:?} already")]
    NameTaken(&'static str),
    /// Something that is mounted there is no directory of the host's.
    #[error("{0} is mounted from somewhere else already")]
    MountTaken(String),
    /// A list that every kube-apiserver has is missing.
    #[error("it has no list {0}")]
    Missing(&'static str),
    /// Comments would get lost, or nothing can be added.
    #[error("line {line}: {what}")]
    Obstacle {
        /// From 1.
        line: u32,
        /// What stands in the way.
        what: &'static str,
    },
    /// What would be written does not say what it should.
    #[error("no edit of its text says what it should")]
    Unproven,
}

impl Error {
    fn at(obstacle: Obstacle) -> Self {
        Self::Obstacle {
            line: obstacle.line,
            what: obstacle.what,
        }
    }
}

/// A directory of the host that the pod is to see at the same path.
struct Directory {
    name: &'static str,
    path: String,
    /// It is gone after a reboot, and whoever starts first makes it.
    is_made: bool,
}

impl Directory {
    fn kind(&self) -> &'static str {
        match self.is_made {
            true => "DirectoryOrCreate",
            false => "Directory",
        }
    }
}

impl Setting {
    fn directories(&self) -> Result<Vec<Directory>, Error> {
        let mut directories = vec![Directory {
            name: "encryption-config",
            path: parent(&self.file)?,
            is_made: false,
        }];
        if let Some(socket) = &self.socket {
            directories.push(Directory {
                name: "atrest-kms",
                path: parent(socket)?,
                is_made: true,
            });
        }
        Ok(directories)
    }

    fn flags(&self) -> Vec<(&'static str, &str)> {
        let mut flags = vec![(CONFIG, self.file.as_str())];
        if self.automatic_reload {
            flags.push((RELOAD, "true"));
        }
        flags
    }
}

/// The directory that is mounted: never a shared one such as `/etc` itself, for all of it would be.
fn parent(path: &str) -> Result<String, Error> {
    let unfit = || Error::Path(path.to_owned());
    let parts: Vec<_> = path.split('/').collect();
    let is_plain = |part: &&str| !part.is_empty() && *part != "." && *part != "..";
    match parts.as_slice() {
        ["", parents @ .., file]
            if parents.len() >= 2 && parents.iter().chain([file]).all(is_plain) =>
        {
            Ok(format!("/{}", parents.join("/")))
        }
        _ => Err(unfit()),
    }
}

fn text(text: &str) -> Form {
    Form::Text(Text::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn setting() -> Setting {
        Setting {
            file: "/etc/kubernetes/enc/config.yaml".into(),
            automatic_reload: true,
            socket: Some("/run/atrest-kms/kms.sock".into()),
        }
    }

    #[test]
    fn no_directory_is_mounted_that_others_share() {
        assert_eq!(
            parent("/etc/kubernetes/enc/c.yaml").unwrap(),
            "/etc/kubernetes/enc"
        );
        for path in [
            "/etc/c.yaml",
            "/c.yaml",
            "c.yaml",
            "/etc/../enc/c",
            "/etc/enc/",
            "/a//c",
            "",
        ] {
            assert_eq!(parent(path), Err(Error::Path(path.to_owned())), "{path}");
        }
    }
}
