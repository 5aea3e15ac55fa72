//! Engines that have every stored value written again.

mod answer;
pub(crate) mod api;
mod connection;
pub(crate) mod etcd;
mod governor;
pub(super) mod quota;
mod space;
mod steward;
pub(crate) mod svm;
mod work;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) use self::steward::Steward;
pub(crate) use self::work::{Found, List, Source};
use crate::args;
use crate::cluster::Error;

/// Requests in flight at most: of a cluster that has other work, and of one that has none. More keep
/// two cores of an API server no busier.
const IN_FLIGHT: [u16; 2] = [8, 64];

/// Times that one request is tried.
pub(crate) const TRIES: u32 = 6;

/// The first pause after an error of the server; it doubles.
const PAUSE: Duration = Duration::from_millis(200);

/// How hard an engine may work.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Pace {
    /// Whether other clients of the cluster come first.
    pub(crate) gentle: bool,
    /// Requests in flight at most.
    pub(crate) in_flight: Option<u16>,
    /// Objects a second.
    pub(crate) rate: Option<u32>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            gentle: true,
            in_flight: None,
            rate: None,
        }
    }
}

impl Pace {
    /// What flags say wins.
    pub(crate) fn with(self, flags: &args::Pace) -> Self {
        Self {
            gentle: flags.gentle.unwrap_or(self.gentle),
            in_flight: flags.max_in_flight.or(self.in_flight),
            rate: flags.max_rate.or(self.rate),
        }
    }

    fn most_in_flight(&self) -> u16 {
        let [gently, eagerly] = IN_FLIGHT;
        self.in_flight
            .unwrap_or(if self.gentle { gently } else { eagerly })
    }
}

/// What became of the objects.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// The resourceVersion moved: a stale value was written again.
    pub(crate) rewritten: u64,
    /// It did not: the value was current.
    pub(crate) current: u64,
    /// Deleted meanwhile.
    pub(crate) gone: u64,
    /// Could not be rewritten.
    pub(crate) set_aside: Vec<SetAside>,
    /// The time was over before all was done.
    pub(crate) was_cut_short: bool,
}

impl Outcome {
    /// Objects in all.
    pub(crate) fn total(&self) -> u64 {
        self.rewritten + self.current + self.gone + self.set_aside.len() as u64
    }
}

/// An object that could not be rewritten, and why.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SetAside {
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
    pub(crate) reason: String,
}

/// Whether the same request may do better in a while.
pub(crate) fn is_passing(error: &Error) -> bool {
    match error {
        Error::Unreachable(_) => true,
        // A value that cannot be decrypted is a 500 that stays; so is what a webhook does.
        Error::Answer {
            code: 500,
            detail: Some(_),
            ..
        } => false,
        Error::Answer { code, .. } => matches!(code, 429 | 500 | 502 | 503 | 504),
        Error::Garbled(_) => false,
    }
}

/// How long to wait after an error: as long as the server asks for.
pub(crate) fn pause(error: &Error, tries: u32) -> Duration {
    let asked = match error {
        Error::Answer { retry_after, .. } => *retry_after,
        Error::Garbled(_) | Error::Unreachable(_) => None,
    };
    asked.unwrap_or(PAUSE * 2_u32.pow(tries.clamp(1, TRIES) - 1))
}
