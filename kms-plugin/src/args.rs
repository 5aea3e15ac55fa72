//! The command line as it is typed.

use std::path::PathBuf;

use atrest_core::keyring::SealKind;
use clap::{Parser, Subcommand, ValueEnum};

/// A KMS v2 plugin for kube-apiserver with a keyring of its own.
///
/// Exit status: 0 done, 1 a proof is refused or the keyring is behind, 2 usage or unusable input, 3 something required could not be reached.
#[derive(Debug, Parser)]
#[command(name = "atrest-kms", version, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve KMS v2 over a unix socket until SIGTERM or SIGINT.
    Serve(Serve),
    /// Keep the listening socket for `serve --held`: while a plugin restarts or is exchanged, whoever
    /// connects waits and is not refused.
    Hold(Hold),
    /// Make and change the file that holds the key-encryption keys.
    #[command(subcommand)]
    Keyring(Keyring),
}

/// `serve`
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) keyring: KeyringArgs,
    /// The unix socket to listen on, created with mode 0600; @NAME for an abstract one, which has no
    /// file.
    #[arg(
        long,
        value_name = "PATH",
        required_unless_present = "socket_activation"
    )]
    pub(crate) socket: Option<PathBuf>,
    /// Take the listening socket from `atrest-kms hold`, which keeps it over restarts and upgrades.
    #[arg(long, requires = "socket")]
    pub(crate) held: bool,
    /// Take the listening socket that the service manager passes (sd_listen_fds(3)).
    #[arg(long, conflicts_with = "socket")]
    pub(crate) socket_activation: bool,
    /// Give the socket to this group, with mode 0660.
    #[arg(long, value_name = "GID", conflicts_with_all = ["held", "socket_activation"])]
    pub(crate) socket_gid: Option<u32>,
    /// A user who may call, and with --allow-gid the only ones; repeatable [default: root, and the
    /// user that this runs as].
    #[arg(long, value_name = "UID")]
    pub(crate) allow_uid: Vec<u32>,
    /// A group whose processes may call, by their effective group; repeatable [default: that of
    /// --socket-gid].
    #[arg(long, value_name = "GID")]
    pub(crate) allow_gid: Vec<u32>,
    /// Do not start where the kernel refuses to lock memory, instead of warning.
    #[arg(long)]
    pub(crate) require_locked_memory: bool,
    /// The version that Status names. It must not change while an API server runs.
    #[arg(long, value_enum, value_name = "VERSION", default_value_t = StatusVersion::V2)]
    pub(crate) status_version: StatusVersion,
    /// What is logged to stderr.
    #[arg(long, value_enum, default_value_t = LogLevel::Info)]
    pub(crate) log_level: LogLevel,
    /// The form of the log.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

/// `hold`
#[derive(Debug, clap::Args)]
pub(crate) struct Hold {
    /// The unix socket to listen on, as of `serve`.
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: PathBuf,
    /// Give the socket to this group, with mode 0660.
    #[arg(long, value_name = "GID")]
    pub(crate) socket_gid: Option<u32>,
    /// What is logged to stderr.
    #[arg(long, value_enum, default_value_t = LogLevel::Info)]
    pub(crate) log_level: LogLevel,
    /// The form of the log.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

/// `keyring`
#[derive(Debug, Subcommand)]
pub(crate) enum Keyring {
    /// Create a keyring with one active generation.
    Init(Init),
    /// Mint the next generation, readable: it decrypts, and encrypts nothing yet.
    Add(Add),
    /// Make a generation the one that encrypts; the former one stays readable.
    Activate(Activate),
    /// Take over the file that another node's `add`, `activate` or `retire` made.
    ///
    /// It has to come from the one that is here: a fork is refused, as is an older file.
    Import(Import),
    /// Go on from an older file, after the newer one is lost for good.
    ///
    /// Where something named a generation that the keyring does not have, the plugin decrypts and
    /// encrypts nothing. This says that it is what is left; numbers that were seen are never given again.
    Confirm(Confirm),
    /// Take out the key of a generation that nothing needs any more, by a census that proves it.
    Retire(Retire),
    /// Check every key of the keyring, and whether something knows of a newer keyring.
    ///
    /// Exit status: 0 all is well; 1 the keyring is older than something that named it.
    Verify(Verify),
    /// Show the generations.
    List(List),
}

/// `keyring init`
#[derive(Debug, clap::Args)]
pub(crate) struct Init {
    /// What protects the keys in the file.
    #[arg(long, value_enum)]
    pub(crate) seal: SealChoice,
    #[command(flatten)]
    pub(crate) keyring: KeyringArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `keyring add`
#[derive(Debug, clap::Args)]
pub(crate) struct Add {
    #[command(flatten)]
    pub(crate) keyring: KeyringArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `keyring activate`
#[derive(Debug, clap::Args)]
pub(crate) struct Activate {
    /// The generation's number [default: the newest].
    #[arg(long, value_name = "N")]
    pub(crate) generation: Option<u32>,
    #[command(flatten)]
    pub(crate) keyring: KeyringArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `keyring import`
#[derive(Debug, clap::Args)]
pub(crate) struct Import {
    /// The file that came from the other node, sealed with the same secret.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) keyring: KeyringArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `keyring confirm`
#[derive(Debug, clap::Args)]
pub(crate) struct Confirm {
    #[command(flatten)]
    pub(crate) keyring: KeyringArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `keyring retire`
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("end").args(["escrow", "destroy"]))]
pub(crate) struct Retire {
    /// The generation's number.
    #[arg(long, value_name = "N")]
    pub(crate) generation: u32,
    /// What `atrest verify --attest --output json` printed, at most 10 minutes ago.
    #[arg(long, value_name = "FILE")]
    pub(crate) proof: PathBuf,
    /// The EncryptionConfiguration that the census was judged by.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// What `atrest verify --snapshot FILE... --output json` said of the backups: which of them
    /// need the key.
    #[arg(long, value_name = "FILE")]
    pub(crate) backups: Option<PathBuf>,
    /// Keep the keyring as it was before, sealed as it is, in a new file: for backups that need the
    /// key.
    #[arg(long, value_name = "FILE")]
    pub(crate) escrow: Option<PathBuf>,
    /// Keep no copy: what still needs the key can never be read again.
    #[arg(long)]
    pub(crate) destroy: bool,
    #[command(flatten)]
    pub(crate) keyring: KeyringArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `keyring verify`
#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// What `keyring list --output json` printed on another node; repeatable.
    #[arg(long, value_name = "FILE")]
    pub(crate) peer: Vec<PathBuf>,
    /// What `kubectl get lease --output json` printed, for key_ids in annotations; repeatable.
    #[arg(long, value_name = "FILE")]
    pub(crate) lease: Vec<PathBuf>,
    /// What `atrest verify --output json` printed; repeatable.
    #[arg(long, value_name = "FILE")]
    pub(crate) census: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) keyring: KeyringArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `keyring list`
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    #[command(flatten)]
    pub(crate) keyring: KeyringArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// The keyring file and what opens it.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct KeyringArgs {
    /// The keyring file.
    #[arg(long = "keyring", value_name = "FILE")]
    pub(crate) path: PathBuf,
    #[command(flatten)]
    pub(crate) unseal: UnsealArgs,
}

/// At most one of these; which one is the keyring's own affair.
#[derive(Clone, Debug, clap::Args)]
#[group(multiple = false)]
pub(crate) struct UnsealArgs {
    /// The file whose bytes (at least 32, random) seal the keyring.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// The file with the passphrase that seals the keyring.
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// The systemd credential that seals the keyring, a file in $CREDENTIALS_DIRECTORY.
    #[arg(long, value_name = "NAME")]
    pub(crate) credential: Option<String>,
}

/// How results are printed.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct OutputArgs {
    /// How results are printed to stdout.
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// The form of a result.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// For programs: its schema is named in it.
    Json,
}

/// The seals to choose from.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum SealChoice {
    /// A systemd credential.
    Credential,
    /// A file of random bytes.
    KeyFile,
    /// A file with a passphrase.
    PassphraseFile,
    /// None: whoever reads the file has the keys.
    None,
}

impl From<SealChoice> for SealKind {
    fn from(choice: SealChoice) -> Self {
        match choice {
            SealChoice::Credential => Self::Credential,
            SealChoice::KeyFile => Self::KeyFile,
            SealChoice::PassphraseFile => Self::PassphraseFile,
            SealChoice::None => Self::None,
        }
    }
}

/// The versions of the KMS API that kube-apiserver tells apart by Status.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum StatusVersion {
    /// What kube-apiserver 1.29 and later want.
    V2,
    /// The only one that kube-apiserver 1.27 and 1.28 take; later ones take it too.
    V2beta1,
}

impl StatusVersion {
    /// As Status names it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::V2 => "v2",
            Self::V2beta1 => "v2beta1",
        }
    }
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum LogLevel {
    /// What stops the work.
    Error,
    /// What somebody should look at.
    Warn,
    /// Start, stop, and each change of the keyring.
    Info,
    /// Each call.
    Debug,
    /// All there is.
    Trace,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
