//! `atrest explain`

/// Say what a finding means, why it is one, and how to mend it.
///
/// Without an id: a table of all of them.
#[derive(Debug, clap::Args)]
pub(crate) struct Explain {
    /// The id of a finding, `AR-C018` for one.
    #[arg(value_name = "ID")]
    pub(crate) id: Option<String>,
}
