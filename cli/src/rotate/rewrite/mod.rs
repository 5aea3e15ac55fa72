//! Engines that have every stored value written again.

pub(crate) mod api;
pub(crate) mod etcd;

use serde::Serialize;

/// As many streams as two cores of an API server keep busy.
const IN_FLIGHT: u16 = 32;

/// How hard the engine may work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Requests in flight.
    pub(crate) in_flight: u16,
    /// Objects a second.
    pub(crate) rate: Option<u32>,
}

impl Pace {
    pub(crate) fn new(in_flight: Option<u16>, rate: Option<u32>) -> Self {
        Self {
            in_flight: in_flight.unwrap_or(IN_FLIGHT),
            rate,
        }
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
