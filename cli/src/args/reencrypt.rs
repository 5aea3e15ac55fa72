//! `atrest reencrypt`

/// Rewrite what is not under the current key, through the API, without ever asking for data.
///
/// Exit status: 0 every object was rewritten, is current or gone; 3 a list could not be read;
/// 4 objects were set aside: they are named, and the next run tries them again.
#[derive(Debug, clap::Args)]
pub(crate) struct Reencrypt {
    /// A resource to rewrite; repeatable.
    #[arg(long = "resource", value_name = "RESOURCE", default_value = "secrets")]
    pub(crate) resources: Vec<String>,
    #[command(flatten)]
    pub(crate) pace: Pace,
    /// Only count what would be asked to be rewritten.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// How hard a rewrite may work the API server.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Pace {
    /// Requests in flight.
    #[arg(long, global = true, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) max_in_flight: Option<u16>,
    /// Objects a second [default: no limit].
    #[arg(long, global = true, value_name = "RATE", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_rate: Option<u32>,
}
