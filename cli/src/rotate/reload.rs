//! How an API server is made to load its file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::static_pod;
use crate::machine::Machine;
use crate::status::Failure;

/// How long a command may take.
const LIMIT: Duration = Duration::from_secs(300);

/// `reload` of rotation.yaml.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Reload {
    /// By itself: `--encryption-provider-config-automatic-reload=true`.
    #[default]
    Automatic,
    /// A program and its arguments, run where the file is.
    Command(Vec<String>),
    /// The static pod of this manifest is restarted by an annotation.
    StaticPod(PathBuf),
}

impl Reload {
    /// Whether it can be done at all.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        match self {
            Self::Command(argv) if argv.first().is_none_or(String::is_empty) => {
                Err("reload.command names no program")
            }
            Self::StaticPod(path) if !path.is_absolute() => {
                Err("reload.staticPod is not an absolute path")
            }
            _ => Ok(()),
        }
    }

    /// Does it, where it does not happen by itself. What a command prints is not shown: it may quote keys.
    pub(super) async fn trigger(
        &self,
        name: &str,
        machine: &Machine,
        sha256: &str,
    ) -> Result<(), Failure> {
        let argv = match self {
            Self::Automatic => return Ok(()),
            Self::StaticPod(manifest) => {
                return static_pod::restart(machine, manifest, sha256).await;
            }
            Self::Command(argv) => argv,
        };
        machine.run(argv, LIMIT).await.map(|_| ()).map_err(|error| {
            Failure::stopped(format!("{name}: {error}")).hint(
                "what it prints is not shown, for it may quote keys: run it yourself where the file is, \
                 then atrest rotate resume",
            )
        })
    }

    /// The static pod's manifest, where it is known.
    pub(super) fn manifest(&self) -> Option<&Path> {
        match self {
            Self::StaticPod(manifest) => Some(manifest),
            _ => None,
        }
    }

    /// Whether the process is another one after it.
    pub(super) fn restarts(&self) -> bool {
        *self != Self::Automatic
    }
}
