//! The command line as it is typed.

mod check;
mod decrypt;
mod etcd;
mod explain;
mod generate;
mod reencrypt;
mod rotate;
mod servers;
mod validate;
mod verify;

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

pub(crate) use self::check::{Certificates, Check, CheckAction};
pub(crate) use self::decrypt::Decrypt;
pub(crate) use self::etcd::EtcdFlags;
pub(crate) use self::explain::Explain;
pub(crate) use self::generate::{Generate, GenerateProvider};
pub(crate) use self::reencrypt::{Engine, Pace, Reencrypt};
pub(crate) use self::rotate::{Init, Orphans, Rotate, RotateAction, RotateFlags};
pub(crate) use self::servers::{Servers, ServersAction, ServersFlags};
pub(crate) use self::validate::Validate;
pub(crate) use self::verify::{KmsSocket, Verify};

/// Keeps a Kubernetes cluster's Secrets encrypted at rest, and proves it.
///
/// Exit status: 0 done (and proven), 1 findings, 2 usage or unusable input, 3 something required
/// could not be reached, 4 stopped and can be resumed.
#[derive(Debug, Parser)]
#[command(name = "atrest", version, max_term_width = 100)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command, taken before and after it.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Global {
    /// The kubeconfig file [default: $KUBECONFIG, then ~/.kube/config].
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// How results are printed to stdout.
    #[arg(long, global = true, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    /// Whether findings are coloured; `auto` does it on a terminal, unless NO_COLOR is set.
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = Color::Auto)]
    pub(crate) color: Color,
    /// No progress and no talk on stderr but errors.
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

/// The form of a result.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// For programs: its schema is named in it.
    Json,
    /// The same as JSON, in YAML.
    Yaml,
    /// SARIF 2.1.0, for code hosts: of `validate` alone.
    Sarif,
    /// JUnit's XML, for CI systems: of `validate` alone.
    Junit,
    /// One page that needs nothing else: of `rotate status` alone.
    Html,
}

/// When text is coloured.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal.
    Auto,
    /// In files and pipes, too.
    Always,
    /// Not at all.
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Check(Check),
    Decrypt(Box<Decrypt>),
    Explain(Explain),
    Generate(Generate),
    Reencrypt(Reencrypt),
    Rotate(Box<Rotate>),
    Servers(Servers),
    Validate(Validate),
    Verify(Box<Verify>),
}
