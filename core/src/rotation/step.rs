//! The rules that lead from what was observed to the next step.
//!
//! Facts are read anew before each step; the journal contributes only what no server can tell:
//! which key was minted, and when the barrier after PROMOTE was reached. So a run that was killed
//! anywhere goes on with the same rules as one that was not.

use super::chain::Stage;

/// The states of a rotation, in their order.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum State {
    /// Nothing was changed yet.
    Plan,
    /// One run at a time.
    Lock,
    /// The new key goes to the escrow.
    Mint,
    /// A snapshot that the old key can read.
    SnapshotBefore,
    /// Every server learns to read the new key.
    AddRead,
    /// Every server writes with the new key.
    Promote,
    /// Every stored value is written again.
    Rewrite,
    /// etcd's own bytes are counted.
    Verify,
    /// A snapshot that the new key can read.
    SnapshotAfter,
    /// The old key stays readable for a while.
    Hold,
    /// The old key leaves the servers.
    DropRead,
    /// What is left of the old key is removed.
    Scrub,
    /// Proven.
    Done,
}

impl State {
    const ALL: [Self; 13] = [
        Self::Plan,
        Self::Lock,
        Self::Mint,
        Self::SnapshotBefore,
        Self::AddRead,
        Self::Promote,
        Self::Rewrite,
        Self::Verify,
        Self::SnapshotAfter,
        Self::Hold,
        Self::DropRead,
        Self::Scrub,
        Self::Done,
    ];

    /// 0 to 12.
    pub fn number(self) -> usize {
        Self::ALL
            .iter()
            .position(|state| *state == self)
            .unwrap_or_default()
    }

    /// As in `atrest/rotation/v1`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Lock => "lock",
            Self::Mint => "mint",
            Self::SnapshotBefore => "snapshot_before",
            Self::AddRead => "add_read",
            Self::Promote => "promote",
            Self::Rewrite => "rewrite",
            Self::Verify => "verify",
            Self::SnapshotAfter => "snapshot_after",
            Self::Hold => "hold",
            Self::DropRead => "drop_read",
            Self::Scrub => "scrub",
            Self::Done => "done",
        }
    }

    /// The state of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// One API server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ServerFacts {
    /// How far its file is.
    pub file: Stage,
    /// Whether the process reports the hash of just this file.
    pub loaded: bool,
}

/// What a census at rest found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CensusFacts {
    /// Values that are not under the target.
    pub not_current: u64,
    /// Values that could not be judged.
    pub unread: u64,
}

/// All that the decision depends on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Facts {
    /// The target is a local key, and none was minted by this run.
    pub key_missing: bool,
    /// Every API server of the cluster.
    pub servers: Vec<ServerFacts>,
    /// The journal has the revision at which every server wrote with the target, and no file was
    /// brought up again by us since.
    pub barrier: bool,
    /// A rewrite ended since that barrier.
    pub rewritten: bool,
    /// Objects that the rewrite set aside.
    pub set_aside: u64,
    /// Rewrites since the barrier.
    pub passes: u32,
    /// A request that was in flight at the barrier cannot write any more.
    pub in_flight_over: bool,
    /// A census that was taken after everything above was observed, and less than 60 s ago.
    pub census: Option<CensusFacts>,
    /// Nobody asked to hold, or the time is over.
    pub hold_over: bool,
}

/// What to do now. A number is an index into [`Facts::servers`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Make the key and put it into the escrow.
    Mint,
    /// Bring the server's file to [`Stage::Reads`].
    AddRead(usize),
    /// Bring the server's file to [`Stage::Writes`].
    Promote(usize),
    /// Wait for something that happens by itself.
    Await(Await),
    /// Write the barrier to the journal.
    RecordBarrier,
    /// Have every stored value written again.
    Rewrite,
    /// Take a census.
    Verify,
    /// Bring the server's file to [`Stage::Only`].
    DropRead(usize),
    /// Everything is proven.
    Done,
    /// The operator has to do something first.
    Stop(Stop),
}

/// What happens by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Await {
    /// The server loads its file.
    Load(usize),
    /// Requests that were in flight at the barrier end.
    InFlight,
    /// The hold ends.
    Hold,
}

/// Why the rotation cannot go on by itself. The old key stays where it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stop {
    /// There is no server to look at.
    NoServers,
    /// Some values are still not under the target after several rewrites.
    NotCurrent,
    /// Some values could not be judged.
    Unread,
}

/// Rewrites before the operator is asked to look.
const PASSES: u32 = 3;

/// The next step.
pub fn next(facts: &Facts) -> Step {
    let at = |stage| facts.servers.iter().position(|server| server.file == stage);
    let clean = |census: CensusFacts| census.not_current == 0 && census.unread == 0;

    // 1. All servers means all: none is not all.
    if facts.servers.is_empty() {
        return Step::Stop(Stop::NoServers);
    }
    // 2. The key is in the escrow before anything else has it.
    if facts.key_missing {
        return Step::Mint;
    }
    // 3. Every server can read the new key before any writes with it.
    if let Some(server) = at(Stage::Absent) {
        return Step::AddRead(server);
    }
    // 4. A file counts when its server has loaded it; until then nothing further is changed.
    if let Some(server) = facts.servers.iter().position(|server| !server.loaded) {
        return Step::Await(Await::Load(server));
    }
    // 5. Every server writes with the new key before anything is rewritten.
    if let Some(server) = at(Stage::Reads) {
        return Step::Promote(server);
    }
    // 6. From here on the set of old values only shrinks; the journal says since when.
    if !facts.barrier {
        return Step::RecordBarrier;
    }
    // 7. Everything is written again once.
    if !facts.rewritten {
        return Step::Rewrite;
    }
    // 8. A write that began before the barrier may still end with the old key.
    if !facts.in_flight_over {
        return Step::Await(Await::InFlight);
    }
    // 9. Only etcd's own bytes count, and only fresh ones.
    let Some(census) = facts.census else {
        return Step::Verify;
    };
    // 10. What is left is rewritten, or named to the operator; no key leaves before.
    if !clean(census) {
        if census.not_current > 0 && facts.passes < PASSES && facts.set_aside == 0 {
            return Step::Rewrite;
        }
        return Step::Stop(if census.not_current > 0 {
            Stop::NotCurrent
        } else {
            Stop::Unread
        });
    }
    // 11. The old key stays readable as long as the operator asked.
    if !facts.hold_over {
        return Step::Await(Await::Hold);
    }
    // 12. The old key leaves one server after the other.
    if let Some(server) = at(Stage::Writes) {
        return Step::DropRead(server);
    }
    // 13. Every server has only the new key, has loaded that, and every value is under it.
    Step::Done
}

/// The state that a step belongs to.
impl Step {
    /// For the journal and for `rotate status`; what is waited for belongs to what was done.
    pub fn state(self, facts: &Facts) -> State {
        let least = facts.servers.iter().map(|server| server.file).min();
        match self {
            Self::Mint => State::Mint,
            Self::AddRead(_) => State::AddRead,
            Self::Promote(_) | Self::RecordBarrier => State::Promote,
            Self::Rewrite => State::Rewrite,
            Self::Verify | Self::Await(Await::InFlight) | Self::Stop(_) => State::Verify,
            Self::Await(Await::Hold) => State::Hold,
            Self::DropRead(_) => State::DropRead,
            Self::Await(Await::Load(_)) => match least {
                None | Some(Stage::Absent | Stage::Reads) => State::AddRead,
                Some(Stage::Writes) if !facts.barrier => State::Promote,
                Some(Stage::Writes | Stage::Only) => State::DropRead,
            },
            Self::Done => State::Done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(file: Stage, loaded: bool) -> ServerFacts {
        ServerFacts { file, loaded }
    }

    fn facts(servers: &[ServerFacts]) -> Facts {
        Facts {
            key_missing: false,
            servers: servers.to_vec(),
            barrier: true,
            rewritten: true,
            set_aside: 0,
            passes: 1,
            in_flight_over: true,
            census: Some(CensusFacts {
                not_current: 0,
                unread: 0,
            }),
            hold_over: true,
        }
    }

    #[test]
    fn each_rule_has_its_row() {
        use Stage::{Absent, Only, Reads, Writes};
        let writes = || facts(&[server(Writes, true)]);
        let census = |not_current, unread| {
            Some(CensusFacts {
                not_current,
                unread,
            })
        };
        for (rule, facts, expected) in [
            (1, facts(&[]), Step::Stop(Stop::NoServers)),
            (
                2,
                Facts {
                    key_missing: true,
                    ..facts(&[server(Absent, true)])
                },
                Step::Mint,
            ),
            (
                3,
                facts(&[server(Reads, true), server(Absent, true)]),
                Step::AddRead(1),
            ),
            (
                3,
                facts(&[server(Only, true), server(Absent, false)]),
                Step::AddRead(1),
            ),
            (
                4,
                facts(&[server(Reads, true), server(Reads, false)]),
                Step::Await(Await::Load(1)),
            ),
            (
                4,
                facts(&[server(Writes, false), server(Reads, true)]),
                Step::Await(Await::Load(0)),
            ),
            (
                5,
                facts(&[server(Writes, true), server(Reads, true)]),
                Step::Promote(1),
            ),
            (
                6,
                Facts {
                    barrier: false,
                    ..writes()
                },
                Step::RecordBarrier,
            ),
            (
                7,
                Facts {
                    rewritten: false,
                    ..writes()
                },
                Step::Rewrite,
            ),
            (
                8,
                Facts {
                    in_flight_over: false,
                    ..writes()
                },
                Step::Await(Await::InFlight),
            ),
            (
                9,
                Facts {
                    census: None,
                    ..writes()
                },
                Step::Verify,
            ),
            (
                10,
                Facts {
                    census: census(1, 0),
                    ..writes()
                },
                Step::Rewrite,
            ),
            (
                10,
                Facts {
                    census: census(1, 0),
                    passes: 3,
                    ..writes()
                },
                Step::Stop(Stop::NotCurrent),
            ),
            (
                10,
                Facts {
                    census: census(1, 0),
                    set_aside: 1,
                    ..writes()
                },
                Step::Stop(Stop::NotCurrent),
            ),
            (
                10,
                Facts {
                    census: census(0, 1),
                    ..writes()
                },
                Step::Stop(Stop::Unread),
            ),
            (
                11,
                Facts {
                    hold_over: false,
                    ..writes()
                },
                Step::Await(Await::Hold),
            ),
            (
                12,
                facts(&[server(Only, true), server(Writes, true)]),
                Step::DropRead(1),
            ),
            (
                13,
                facts(&[server(Only, true), server(Only, true)]),
                Step::Done,
            ),
        ] {
            assert_eq!(next(&facts), expected, "rule {rule}: {facts:?}");
        }
    }

    /// Every combination of facts of two servers: what promises I1 and I2 forbid never comes out.
    #[test]
    fn no_facts_lead_to_a_stranded_value() {
        let stages = [Stage::Absent, Stage::Reads, Stage::Writes, Stage::Only];
        let censuses = [None, Some((0, 0)), Some((1, 0)), Some((0, 1))];
        let mut seen = 0;
        for (a, b) in stages.iter().flat_map(|a| stages.map(|b| (*a, b))) {
            for bits in 0..128_u32 {
                let bit = |i: u32| bits & (1 << i) != 0;
                for census in censuses {
                    let facts = Facts {
                        key_missing: bit(0),
                        servers: vec![server(a, bit(1)), server(b, bit(2))],
                        barrier: bit(3),
                        rewritten: bit(4),
                        in_flight_over: bit(5),
                        hold_over: bit(6),
                        census: census.map(|(not_current, unread)| CensusFacts {
                            not_current,
                            unread,
                        }),
                        ..facts(&[])
                    };
                    let step = next(&facts);
                    let all_loaded = facts.servers.iter().all(|server| server.loaded);
                    let least = a.min(b);
                    seen += 1;
                    match step {
                        Step::Promote(_) => assert!(all_loaded && least >= Stage::Reads),
                        Step::Rewrite | Step::RecordBarrier => {
                            assert!(all_loaded && least >= Stage::Writes);
                        }
                        Step::DropRead(_) | Step::Done => {
                            assert!(all_loaded && least >= Stage::Writes && !facts.key_missing);
                            assert!(facts.barrier && facts.rewritten && facts.in_flight_over);
                            assert_eq!(census, Some((0, 0)));
                            assert!(step != Step::Done || least == Stage::Only);
                        }
                        _ => {}
                    }
                }
            }
        }
        assert_eq!(seen, 16 * 128 * 4);
    }

    #[test]
    fn states_are_numbered_in_their_order() {
        assert_eq!(State::Plan.number(), 0);
        assert_eq!(State::Done.number(), 12);
        for state in State::ALL {
            assert_eq!(State::parse(state.name()), Some(state));
        }
    }
}
