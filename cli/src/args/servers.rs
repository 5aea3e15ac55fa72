//! `atrest servers`

use std::path::PathBuf;

use clap::Subcommand;

/// Show the API servers and what each has loaded, or bring one up to date. Without a subcommand it is
/// `list`, which changes nothing.
///
/// Exit status of `list`: 0 every server runs with its file and all files mean the same; 1 one does
/// not; 3 one could not be asked. Of `sync`: 0 the server runs with the file, or will when it starts; 2
/// refused, nothing was changed; 4 the file is there and not loaded yet.
#[derive(Debug, clap::Args)]
pub(crate) struct Servers {
    #[command(subcommand)]
    pub(crate) action: Option<ServersAction>,
    #[command(flatten)]
    pub(crate) flags: ServersFlags,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ServersAction {
    /// Show each server's file, what it has loaded, its release and its identity.
    List,
    /// Give a new server, or one that fell behind, the file that the others have.
    Sync {
        /// The server's name in rotation.yaml.
        #[arg(value_name = "NODE")]
        node: String,
        /// Show what would be done.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Which servers, and how to go about it.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ServersFlags {
    /// The rotation.yaml [default: ./rotation.yaml, then /etc/atrest/rotation.yaml].
    #[arg(long, short = 'f', global = true, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Where the lock is that rotations hold while they act [default: rotation.yaml's].
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Do not ask before the change.
    #[arg(long, short = 'y', global = true)]
    pub(crate) yes: bool,
    /// How long the server may take to load its file.
    #[arg(long, global = true, value_name = "DURATION", default_value = "5m", value_parser = super::rotate::duration)]
    pub(crate) load_timeout: std::time::Duration,
}
