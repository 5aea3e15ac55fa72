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
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ServerFacts {
    /// How far its file is.
    pub file: Stage,
    /// Whether the process reports the hash of just this file.
    pub loaded: bool,
    /// The barrier was not recorded, or saw another process here, or one that has loaded another file
    /// since, or the plugin had another key: for a while this server may have written with an old one.
    pub disturbed: bool,
    /// It writes with the key that the KMS plugin has now. True where the target is no plugin.
    pub taken_up: bool,
    /// Since this process has loaded what it runs with, an object of ours that it wrote was found under
    /// the target at rest, and every server read it. True where no such object can be made.
    pub proven: bool,
}

/// What a census at rest found.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct CensusFacts {
    /// Values that are not under the target.
    pub not_current: u64,
    /// Of these, such that nobody can decrypt and that the operator has waived, each by its key and as it was
    /// written then.
    pub waived: u64,
    /// Values that could not be judged.
    pub unread: u64,
}

/// What was done since the barrier: the journal tells it.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Progress {
    /// Rewrites.
    pub passes: u32,
    /// Objects that the last one set aside.
    pub set_aside: u64,
}

impl Progress {
    /// A rewrite ended.
    pub fn rewrite(&mut self, set_aside: u64) {
        self.passes += 1;
        self.set_aside = set_aside;
    }

    /// Another process goes on. A rewrite counts if it left nothing, else it is tried again.
    pub fn take_up(&mut self) {
        self.passes = u32::from(self.passes > 0 && self.set_aside == 0);
        self.set_aside = 0;
    }
}

/// All that the decision depends on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Facts {
    /// The target is a local key, and none was minted by this run.
    pub key_missing: bool,
    /// Every API server that the operator listed.
    pub servers: Vec<ServerFacts>,
    /// Only the plugin's key is another one: its provider stays, and so does what else is in the files.
    pub in_place: bool,
    /// Others than these run in the cluster.
    pub unlisted: bool,
    /// Since the barrier.
    pub progress: Progress,
    /// A request that was in flight at the barrier cannot write any more.
    pub in_flight_over: bool,
    /// A census that was taken after everything above was observed, and less than 60 s ago.
    pub census: Option<CensusFacts>,
    /// Nobody asked to hold, or the time is over.
    pub hold_over: bool,
    /// The maintenance window is closed.
    pub window_over: bool,
    /// A snapshot from before was asked for, and this run has taken none.
    pub snapshot_before_missing: bool,
    /// A snapshot from after was asked for, and this run has taken none that can be restored without the
    /// old key.
    pub snapshot_after_missing: bool,
    /// What is left of the old key was to be removed, and this run has not done it.
    pub scrub_missing: bool,
}

/// What to do now. A number is an index into [`Facts::servers`].
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Step {
    /// Make the key and put it into the escrow.
    Mint,
    /// Take a snapshot, and prove that it can be restored.
    Snapshot(Snapshot),
    /// Bring the server's file to [`Stage::Reads`].
    AddRead(usize),
    /// Bring the server's file to [`Stage::Writes`].
    Promote(usize),
    /// Have the server write an object of ours, and every server read it.
    Canary(usize),
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
    /// Remove what is left of the old key.
    Scrub,
    /// Everything is proven.
    Done,
    /// The operator has to do something first.
    Stop(Stop),
}

/// Which of the two snapshots.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Snapshot {
    /// What the servers' keys read before anything was changed.
    Before,
    /// What the new key alone reads.
    After,
}

impl Snapshot {
    /// As in `atrest/snapshots/v1`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

/// What happens by itself.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Await {
    /// The server loads its file.
    Load(usize),
    /// The server asks its plugin, and writes with the key that it names now.
    TakeUp(usize),
    /// Requests that were in flight at the barrier end.
    InFlight,
    /// The hold ends.
    Hold,
}

/// Why the rotation cannot go on by itself. The old key stays where it is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Stop {
    /// There is no server to look at.
    NoServers,
    /// An API server runs that nobody listed.
    Unlisted,
    /// Some values are still not under the target after several rewrites.
    NotCurrent,
    /// Some values could not be judged.
    Unread,
    /// The maintenance window is closed.
    Window,
}

/// Rewrites before the operator is asked to look.
const PASSES: u32 = 3;

/// One of the rules: what it stands for, and the step that it asks for where it applies.
pub(super) struct Rule {
    #[cfg_attr(not(test), allow(dead_code))] // named where they are checked
    pub(super) name: &'static str,
    pub(super) step: fn(&Facts) -> Option<Step>,
}

/// The first that applies decides. Where none does, every server has only the new key and has loaded
/// that, and every value is under it.
pub(super) static RULES: &[Rule] = &[
    Rule {
        name: "1. all servers means all, and none is not all",
        step: |facts| {
            facts
                .servers
                .is_empty()
                .then_some(Step::Stop(Stop::NoServers))
        },
    },
    Rule {
        name: "2. a server that nobody listed writes with the old key",
        step: |facts| facts.unlisted.then_some(Step::Stop(Stop::Unlisted)),
    },
    Rule {
        name: "3. the key is in the escrow before anything else has it",
        step: |facts| facts.key_missing.then_some(Step::Mint),
    },
    Rule {
        name: "4. what the old key alone reads is kept before anything is changed",
        step: |facts| {
            let is_unchanged = facts.servers.iter().all(|it| it.file == Stage::Absent);
            let missing = facts.snapshot_before_missing && (is_unchanged || facts.in_place);
            missing.then_some(Step::Snapshot(Snapshot::Before))
        },
    },
    Rule {
        name: "5. every server can read the new key before any writes with it",
        step: |facts| at(facts, Stage::Absent).map(Step::AddRead),
    },
    Rule {
        name: "6. a file counts when its server has loaded it; until then nothing further is changed, but that \
               the rest follow one that is proven",
        step: |facts| {
            let waits = |it: &ServerFacts| !it.loaded && !follows(facts, it);
            let behind = facts.servers.iter().position(waits);
            behind.map(|server| Step::Await(Await::Load(server)))
        },
    },
    Rule {
        name: "7. a plugin's key counts when the server has taken it up",
        step: |facts| {
            let lags = |it: &ServerFacts| it.file >= Stage::Writes && it.loaded && !it.taken_up;
            let behind = facts.servers.iter().position(lags);
            behind.map(|server| Step::Await(Await::TakeUp(server)))
        },
    },
    Rule {
        name: "8. a server is not believed: what one writes, all read, before the others write",
        step: |facts| {
            let unproven = |it: &ServerFacts| it.file >= Stage::Writes && it.loaded && !it.proven;
            facts.servers.iter().position(unproven).map(Step::Canary)
        },
    },
    Rule {
        name: "9. every server writes with the new key before anything is rewritten",
        step: |facts| at(facts, Stage::Reads).map(Step::Promote),
    },
    Rule {
        name: "10. from the barrier on the set of old values only shrinks, if every server stays itself",
        step: |facts| {
            let writes = |it: &&ServerFacts| it.file == Stage::Writes;
            let disturbed = facts.servers.iter().filter(writes).any(|it| it.disturbed);
            disturbed.then_some(Step::RecordBarrier)
        },
    },
    Rule {
        name: "11. everything is written again once, while requests in flight end",
        step: |facts| (facts.progress.passes == 0).then_some(Step::Rewrite),
    },
    Rule {
        name: "12. a write that began before the barrier may still end with the old key",
        step: |facts| (!facts.in_flight_over).then_some(Step::Await(Await::InFlight)),
    },
    Rule {
        name: "13. only etcd's own bytes count, and only fresh ones",
        step: |facts| facts.census.is_none().then_some(Step::Verify),
    },
    Rule {
        name: "14. what is left is rewritten a few times",
        step: |facts| {
            let again = facts.progress.passes < PASSES && facts.progress.set_aside == 0;
            (again && not_current(facts) > 0).then_some(Step::Rewrite)
        },
    },
    Rule {
        name: "15. no key leaves while something stored needs it",
        step: |facts| (not_current(facts) > 0).then_some(Step::Stop(Stop::NotCurrent)),
    },
    Rule {
        name: "16. nor while something stored might",
        step: |facts| {
            let unread = facts.census.is_some_and(|census| census.unread > 0);
            unread.then_some(Step::Stop(Stop::Unread))
        },
    },
    Rule {
        name: "17. what the new key alone reads is kept before the old one leaves",
        step: |facts| {
            let missing = facts.snapshot_after_missing;
            missing.then_some(Step::Snapshot(Snapshot::After))
        },
    },
    Rule {
        name: "18. the old key stays readable as long as the operator asked",
        step: |facts| (!facts.hold_over).then_some(Step::Await(Await::Hold)),
    },
    Rule {
        name: "19. the old key leaves one server, and then each of the others on a count of its own",
        step: |facts| {
            let next = at(facts, Stage::Writes).filter(|_| !facts.in_place);
            next.map(Step::DropRead)
        },
    },
    Rule {
        name: "20. what the old key could still open is removed at last",
        step: |facts| facts.scrub_missing.then_some(Step::Scrub),
    },
];

fn at(facts: &Facts, stage: Stage) -> Option<usize> {
    facts.servers.iter().position(|server| server.file == stage)
}

/// Whether another server is proven with the file that this one is to load, and more are to get it: then
/// these are not kept waiting. A process that is to drop the old key has to be the one of the barrier.
fn follows(facts: &Facts, server: &ServerFacts) -> bool {
    let is_proven =
        |it: &ServerFacts| it.file == server.file && it.loaded && it.taken_up && it.proven;
    let others_are_left = match server.file {
        Stage::Absent | Stage::Reads => false,
        Stage::Writes => at(facts, Stage::Reads).is_some(),
        Stage::Only => at(facts, Stage::Writes).is_some() && !server.disturbed,
    };
    others_are_left && facts.servers.iter().any(is_proven)
}

/// No key is of use to what nobody can decrypt; still only the operator's word lets it be.
fn not_current(facts: &Facts) -> u64 {
    let left = |census: CensusFacts| census.not_current.saturating_sub(census.waived);
    facts.census.map_or(0, left)
}

/// The next step.
pub fn next(facts: &Facts) -> Step {
    decide(RULES, facts)
}

/// By these rules; a closed window keeps everything but the end from beginning.
pub(super) fn decide<'a>(rules: impl IntoIterator<Item = &'a Rule>, facts: &Facts) -> Step {
    let step = rules.into_iter().find_map(|rule| (rule.step)(facts));
    match step.unwrap_or(Step::Done) {
        end @ (Step::Done | Step::Stop(_)) => end,
        _ if facts.window_over => Step::Stop(Stop::Window),
        step => step,
    }
}

/// The state that a step belongs to.
impl Step {
    /// For the journal and for `rotate status`; what is waited for belongs to what was done.
    pub fn state(self, facts: &Facts) -> State {
        let least = facts.servers.iter().map(|server| server.file).min();
        match self {
            Self::Mint => State::Mint,
            Self::Snapshot(Snapshot::Before) => State::SnapshotBefore,
            Self::Snapshot(Snapshot::After) => State::SnapshotAfter,
            Self::Scrub => State::Scrub,
            Self::AddRead(_) => State::AddRead,
            Self::Canary(_) if at(facts, Stage::Only).is_some() => State::DropRead,
            Self::Promote(_)
            | Self::Canary(_)
            | Self::RecordBarrier
            | Self::Await(Await::TakeUp(_)) => State::Promote,
            Self::Rewrite => State::Rewrite,
            Self::Verify | Self::Await(Await::InFlight) | Self::Stop(_) => State::Verify,
            Self::Await(Await::Hold) => State::Hold,
            Self::DropRead(_) => State::DropRead,
            Self::Await(Await::Load(_)) => match least {
                None | Some(Stage::Absent | Stage::Reads) => State::AddRead,
                Some(Stage::Writes) if at(facts, Stage::Only).is_none() => State::Promote,
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
        ServerFacts {
            file,
            loaded,
            disturbed: false,
            taken_up: true,
            proven: true,
        }
    }

    fn facts(servers: &[ServerFacts]) -> Facts {
        Facts {
            key_missing: false,
            servers: servers.to_vec(),
            in_place: false,
            unlisted: false,
            progress: Progress {
                passes: 1,
                set_aside: 0,
            },
            in_flight_over: true,
            census: Some(CensusFacts {
                not_current: 0,
                waived: 0,
                unread: 0,
            }),
            hold_over: true,
            window_over: false,
            snapshot_before_missing: false,
            snapshot_after_missing: false,
            scrub_missing: false,
        }
    }

    #[test]
    fn each_rule_has_its_row() {
        use Stage::{Absent, Only, Reads, Writes};
        let writes = || facts(&[server(Writes, true)]);
        let progressed = |passes, set_aside| Progress { passes, set_aside };
        let census = |not_current, unread| {
            Some(CensusFacts {
                not_current,
                waived: 0,
                unread,
            })
        };
        let stale = |passes, set_aside| Facts {
            census: census(1, 0),
            progress: progressed(passes, set_aside),
            ..writes()
        };
        let waived = |not_current, waived, unread| Facts {
            census: Some(CensusFacts {
                not_current,
                waived,
                unread,
            }),
            progress: progressed(1, 1),
            ..writes()
        };
        for (rule, facts, expected) in [
            (1, facts(&[]), Step::Stop(Stop::NoServers)),
            (
                2,
                Facts {
                    unlisted: true,
                    ..writes()
                },
                Step::Stop(Stop::Unlisted),
            ),
            (
                3,
                Facts {
                    key_missing: true,
                    ..facts(&[server(Absent, true)])
                },
                Step::Mint,
            ),
            (
                4,
                Facts {
                    snapshot_before_missing: true,
                    ..facts(&[server(Absent, true)])
                },
                Step::Snapshot(Snapshot::Before),
            ),
            (
                4,
                Facts {
                    in_place: true,
                    snapshot_before_missing: true,
                    ..writes()
                },
                Step::Snapshot(Snapshot::Before),
            ),
            (
                5,
                Facts {
                    snapshot_before_missing: true,
                    ..facts(&[server(Reads, true), server(Absent, true)])
                },
                Step::AddRead(1),
            ),
            (
                5,
                facts(&[server(Reads, true), server(Absent, true)]),
                Step::AddRead(1),
            ),
            (
                5,
                facts(&[server(Only, true), server(Absent, false)]),
                Step::AddRead(1),
            ),
            (
                6,
                facts(&[server(Reads, true), server(Reads, false)]),
                Step::Await(Await::Load(1)),
            ),
            (
                6,
                facts(&[server(Writes, false), server(Reads, true)]),
                Step::Await(Await::Load(0)),
            ),
            (
                6,
                facts(&[
                    server(Only, true),
                    ServerFacts {
                        disturbed: true,
                        ..server(Only, false)
                    },
                    server(Writes, true),
                ]),
                Step::Await(Await::Load(1)),
            ),
            (
                6,
                facts(&[server(Only, true), server(Only, false)]),
                Step::Await(Await::Load(1)),
            ),
            (
                7,
                facts(&[
                    server(Reads, true),
                    ServerFacts {
                        taken_up: false,
                        proven: false,
                        ..server(Writes, true)
                    },
                ]),
                Step::Await(Await::TakeUp(1)),
            ),
            (
                8,
                facts(&[
                    ServerFacts {
                        proven: false,
                        ..server(Writes, true)
                    },
                    server(Reads, true),
                ]),
                Step::Canary(0),
            ),
            (
                8,
                facts(&[
                    server(Writes, true),
                    ServerFacts {
                        proven: false,
                        ..server(Only, true)
                    },
                ]),
                Step::Canary(1),
            ),
            (
                9,
                facts(&[
                    server(Writes, true),
                    ServerFacts {
                        proven: false,
                        ..server(Reads, true)
                    },
                ]),
                Step::Promote(1),
            ),
            (
                9,
                facts(&[
                    server(Writes, true),
                    ServerFacts {
                        proven: false,
                        ..server(Writes, false)
                    },
                    server(Reads, true),
                ]),
                Step::Promote(2),
            ),
            (
                10,
                facts(&[
                    server(Only, true),
                    ServerFacts {
                        disturbed: true,
                        ..server(Writes, true)
                    },
                ]),
                Step::RecordBarrier,
            ),
            (
                11,
                Facts {
                    progress: progressed(0, 0),
                    in_flight_over: false,
                    ..writes()
                },
                Step::Rewrite,
            ),
            (
                12,
                Facts {
                    in_flight_over: false,
                    ..writes()
                },
                Step::Await(Await::InFlight),
            ),
            (
                13,
                Facts {
                    census: None,
                    ..writes()
                },
                Step::Verify,
            ),
            (14, stale(1, 0), Step::Rewrite),
            (15, stale(3, 0), Step::Stop(Stop::NotCurrent)),
            (15, stale(1, 1), Step::Stop(Stop::NotCurrent)),
            (15, waived(2, 1, 0), Step::Stop(Stop::NotCurrent)),
            (16, waived(1, 1, 1), Step::Stop(Stop::Unread)),
            (19, waived(2, 2, 0), Step::DropRead(0)),
            (
                16,
                Facts {
                    census: census(0, 1),
                    ..writes()
                },
                Step::Stop(Stop::Unread),
            ),
            (
                17,
                Facts {
                    hold_over: false,
                    snapshot_after_missing: true,
                    ..writes()
                },
                Step::Snapshot(Snapshot::After),
            ),
            (
                18,
                Facts {
                    hold_over: false,
                    ..writes()
                },
                Step::Await(Await::Hold),
            ),
            (
                19,
                facts(&[server(Only, true), server(Writes, true)]),
                Step::DropRead(1),
            ),
            (
                19,
                facts(&[
                    server(Only, true),
                    server(Only, false),
                    server(Writes, true),
                ]),
                Step::DropRead(2),
            ),
            (
                21,
                Facts {
                    in_place: true,
                    ..writes()
                },
                Step::Done,
            ),
            (
                20,
                Facts {
                    scrub_missing: true,
                    ..facts(&[server(Only, true)])
                },
                Step::Scrub,
            ),
            (
                21,
                facts(&[server(Only, true), server(Only, true)]),
                Step::Done,
            ),
        ] {
            assert_eq!(next(&facts), expected, "rule {rule}: {facts:?}");
            let closed = Facts {
                window_over: true,
                ..facts
            };
            let end = match expected {
                Step::Done | Step::Stop(_) => expected,
                _ => Step::Stop(Stop::Window),
            };
            assert_eq!(next(&closed), end, "rule {rule} in a closed window");
        }
    }

    #[test]
    fn a_process_that_goes_on_counts_a_rewrite_that_left_nothing() {
        let mut progress = Progress::default();
        progress.rewrite(0);
        progress.rewrite(0);
        progress.take_up();
        assert_eq!((progress.passes, progress.set_aside), (1, 0));
        progress.rewrite(3);
        progress.take_up();
        assert_eq!((progress.passes, progress.set_aside), (0, 0));
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
