//! `atrest rotate`

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use super::reencrypt::{Engine, Pace};
use super::{EtcdFlags, KmsSocket};

/// Rotate the key (or the provider) that writes, and prove it from etcd's bytes. Without a
/// subcommand it is `plan`, which changes nothing.
///
/// Exit status: 0 proven; 2 the run cannot start, nothing was changed; 3 something could not be
/// reached; 4 stopped: both keys stay readable, and `rotate resume` goes on.
#[derive(Debug, clap::Args)]
pub(crate) struct Rotate {
    #[command(subcommand)]
    pub(crate) action: Option<RotateAction>,
    #[command(flatten)]
    pub(crate) flags: RotateFlags,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum RotateAction {
    /// Write a rotation.yaml for this kubeadm cluster.
    Init(Init),
    /// Show what a run would do.
    Plan,
    /// Do it.
    Run,
    /// Show how far the run is.
    Status,
    /// Go on where a run was stopped or killed.
    Resume,
    /// Go back, from any step before the end, to the key that wrote before the run.
    Rollback,
}

/// Write a rotation.yaml: what this control-plane node, the cluster and, with --ssh, its other nodes
/// say. Nothing else is changed.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Init {
    /// The file to write, `-` for stdout; one that exists is left alone.
    #[arg(short = 'o', value_name = "FILE", default_value = "rotation.yaml")]
    pub(crate) to_file: PathBuf,
    /// Who reaches the other control-plane nodes by SSH, as your ssh configuration has it; anybody but
    /// root by `sudo -n`. Without it somebody else has to copy files there.
    #[arg(long, value_name = "USER", value_parser = user)]
    pub(crate) ssh: Option<String>,
    /// kube-apiserver's static pod, on every node.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/etc/kubernetes/manifests/kube-apiserver.yaml"
    )]
    pub(crate) manifest: PathBuf,
}

/// A rotation.yaml, or flags where there is one API server with its file on this machine.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RotateFlags {
    /// The rotation.yaml [default: ./rotation.yaml, then /etc/atrest/rotation.yaml].
    #[arg(long = "file", short = 'f', global = true, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// The one API server's EncryptionConfiguration on this machine, instead of a rotation.yaml.
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "file")]
    pub(crate) config: Option<PathBuf>,
    /// The provider to rotate to: aescbc, aesgcm, secretbox, kms, or identity, which decrypts
    /// everything [default: the one in use].
    #[arg(long, global = true, value_name = "PROVIDER")]
    pub(crate) to: Option<String>,
    /// A resource to rotate, such as secrets; repeatable [default: all that the configuration names].
    /// What shares an entry with others gets one of its own.
    #[arg(long, global = true, value_name = "RESOURCE")]
    pub(crate) resource: Vec<String>,
    /// The KMS v2 plugin to move to: its provider name and its socket.
    #[arg(long, global = true, value_name = "NAME=PATH")]
    pub(crate) kms_socket: Option<KmsSocket>,
    /// Where the new key is kept besides the configuration; the run's id is added to the name
    /// [default: STATE_DIR/escrow/key].
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) escrow: Option<PathBuf>,
    /// A second copy; repeatable [default: STATE_DIR/escrow-copy/key].
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) escrow_copy: Vec<PathBuf>,
    /// Where the journal is kept [default: /var/lib/atrest].
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Go on with a run whose machine and state directory are lost, from its escrow; of `resume`.
    #[arg(long, global = true, value_name = "RUN", value_parser = run)]
    pub(crate) adopt_run: Option<String>,
    /// Take the snapshots of snapshots.dir also where they would hold values in plaintext.
    #[arg(long, global = true)]
    pub(crate) plaintext_snapshot: bool,
    /// Leave etcd's history and the free pages of its databases as they are at the end.
    #[arg(long, global = true)]
    pub(crate) no_scrub: bool,
    /// What becomes of objects whose namespace is gone and that are under the old key: they are named and
    /// keep it, their namespaces are created again and left, or they are deleted in etcd
    /// [default: report].
    #[arg(long, global = true, value_enum, value_name = "WHAT")]
    pub(crate) orphans: Option<Orphans>,
    /// The etcd key of a value that nobody can decrypt, such as /registry/secrets/NAMESPACE/NAME: the old
    /// key's removal does not wait for it; repeatable.
    #[arg(long, global = true, value_name = "KEY")]
    pub(crate) waive: Vec<String>,
    /// Do not ask before the first change.
    #[arg(long, short = 'y', global = true)]
    pub(crate) yes: bool,
    /// Store everything in plaintext again, with `--to identity` or `rollback`: the second word that
    /// this needs where nobody can be asked.
    #[arg(long, global = true)]
    pub(crate) accept_plaintext: bool,
    /// Keep the old key readable for this long before it is dropped, such as 30m or 24h.
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration)]
    pub(crate) hold: Option<std::time::Duration>,
    /// Stop cleanly before this time, RFC 3339 or HH:MM of this machine, with exit status 4; the next
    /// run goes on at the object.
    #[arg(long, global = true, value_name = "TIME", value_parser = time)]
    pub(crate) until: Option<jiff::Timestamp>,
    /// Stop cleanly after this long, such as 2h, with exit status 4.
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration)]
    pub(crate) max_duration: Option<std::time::Duration>,
    /// Wait until this time, RFC 3339 or HH:MM of this machine, before anything is looked at.
    #[arg(long, global = true, value_name = "TIME", value_parser = time, requires = "yes")]
    pub(crate) not_before: Option<jiff::Timestamp>,
    /// The API servers' own --request-timeout: how long a write may be in flight.
    #[arg(long, global = true, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub(crate) request_timeout: std::time::Duration,
    /// How long an API server may take to load its file before the run stops.
    #[arg(long, global = true, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub(crate) load_timeout: std::time::Duration,
    /// What rewrites.
    #[arg(long, global = true, value_enum, value_name = "ENGINE", default_value_t = Engine::Api)]
    pub(crate) engine: Engine,
    #[command(flatten)]
    pub(crate) pace: Pace,
    #[command(flatten)]
    pub(crate) etcd: EtcdFlags,
}

/// What becomes of objects whose namespace is gone.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Orphans {
    /// They are named; those that no API server writes again keep the old key.
    #[default]
    Report,
    /// Their namespaces are created again, and left.
    Adopt,
    /// They are deleted in etcd, after their stored bytes are kept.
    Purge,
}

/// It becomes part of file names.
fn run(text: &str) -> Result<String, String> {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric();
    match !text.is_empty() && text.bytes().all(is_known) {
        true => Ok(text.to_owned()),
        false => Err("not the id of a run, such as 20261201T043000000Z".into()),
    }
}

/// What ssh would take for one of its flags is nobody.
fn user(text: &str) -> Result<String, String> {
    match !text.is_empty() && !text.starts_with('-') && !text.contains(char::is_whitespace) {
        true => Ok(text.to_owned()),
        false => Err("not the name of a user".into()),
    }
}

/// The time of a day is the next one.
fn time(text: &str) -> Result<jiff::Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let now = jiff::Zoned::now();
    let time: jiff::civil::Time = text
        .parse()
        .map_err(|_| "not a time such as 04:30 or 2026-12-01T04:30:00Z")?;
    let next = |date: jiff::civil::Date| date.to_datetime(time).to_zoned(now.time_zone().clone());
    let today = next(now.date()).map_err(|error| error.to_string())?;
    let next = match today > now {
        true => today,
        false => now
            .date()
            .tomorrow()
            .and_then(next)
            .map_err(|error| error.to_string())?,
    };
    Ok(next.timestamp())
}

pub(super) fn duration(text: &str) -> Result<std::time::Duration, String> {
    text.parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|duration| duration.try_into().ok())
        .ok_or_else(|| "not a duration such as 90s, 30m or 24h".into())
}
