//! Every way that a rotation can go, up to a size: the rules, beside API servers that lag, restart, lie,
//! go back to an old file or are on nobody's list, clients that write, requests in flight, and a run
//! that is killed anywhere.
//!
//! What no run can know is left out: that a server goes back, or a new one appears, after the last look
//! before the first key leaves. Up to there both keys are in every file.

use std::time::Instant;

use stateright::{Checker, Expectation, HasDiscoveries, Model, Property};

use super::chain::Stage;
use super::step::{CensusFacts, Facts, Progress, RULES, Rule, ServerFacts, Snapshot, Step, decide};

/// What a value is stored under.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
enum Under {
    Old,
    New,
    /// Nobody can decrypt it.
    Nobody,
}

impl Stage {
    fn reads(self, under: Under) -> bool {
        match under {
            Under::Old => self != Self::Only,
            Under::New => self != Self::Absent,
            Under::Nobody => false,
        }
    }

    fn writes(self) -> Under {
        match self {
            Self::Absent | Self::Reads => Under::Old,
            Self::Writes | Self::Only => Under::New,
        }
    }
}

/// An API server.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Server {
    file: Stage,
    /// What its process runs with.
    loaded: Stage,
    is_listed: bool,
    /// It says that it has loaded its file, and has not.
    lies: bool,
    /// It has not asked the plugin yet, which has another key now.
    lags: bool,
    /// What it writes was seen at rest, and read by all, since it has loaded what it runs with.
    is_proven: bool,
    /// Another file or another process than the barrier saw.
    is_disturbed: bool,
    /// What its file was before something put the old one back.
    went_back_from: Option<Stage>,
    /// The process has run with the old file since, and cannot be expected to read all.
    is_behind: bool,
    /// A write that has begun: what it is encrypted under, and whether it began before the barrier
    /// was recorded or taken up.
    in_flight: Option<(Under, bool)>,
}

impl Server {
    fn new(is_listed: bool) -> Self {
        Self {
            file: Stage::Absent,
            loaded: Stage::Absent,
            is_listed,
            lies: false,
            lags: false,
            is_proven: false,
            is_disturbed: true,
            went_back_from: None,
            is_behind: false,
            in_flight: None,
        }
    }

    fn writes(&self) -> Under {
        match self.lags {
            true => Under::Old,
            false => self.loaded.writes(),
        }
    }

    fn load(&mut self) {
        self.loaded = self.file;
        self.lies = false;
        // It asks when it begins.
        self.lags = false;
        self.is_proven = false;
        self.is_disturbed = true;
        self.is_behind = self.file == Stage::Absent && self.went_back_from.is_some();
        if !self.is_behind {
            self.went_back_from = None;
        }
    }
}

/// The run.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Run {
    /// There is no process.
    Down,
    /// It looks next.
    Idle,
    /// It has looked, and seen the file of the server that it is about to write.
    Decided(Step, Option<Stage>),
    /// The key is in the escrow, and the journal does not say so yet.
    Escrowed,
    /// The journal says that a server's file is brought from one stage to another.
    Writing(usize, Stage, Stage),
    /// Objects were set aside so far.
    Rewriting(u64),
    Done,
}

/// What may still happen.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Left {
    kills: u8,
    restarts: u8,
    /// A server goes back to the old file, or comes back from it.
    returns: u8,
    writes: u8,
    appearances: u8,
    /// A server says that it has loaded a file, and has not.
    lies: u8,
    /// The plugin that writes gets yet another key.
    keys: u8,
    /// A census that cannot judge what it should.
    unread: u8,
    /// A server does not let the rewrite write an object.
    refusals: u8,
    /// A stored value is damaged.
    poison: u8,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct World {
    servers: Vec<Server>,
    /// Sorted, for it does not matter which is which; and whether the rewrite has come by.
    objects: Vec<(Under, bool)>,
    run: Run,
    /// Of the process.
    census: Option<CensusFacts>,
    in_flight_over: bool,
    /// Of the journal.
    is_minted: bool,
    progress: Progress,
    was_proven: bool,
    escrowed: u8,
    hold_over: bool,
    /// The last look before the first key leaves was had.
    is_dropping: bool,
    has_snapshot_before: bool,
    has_snapshot_after: bool,
    is_scrubbed: bool,
    /// What nobody can decrypt was waived: a later damage is not.
    is_waived: bool,
    killed: bool,
    went_back: bool,
    rewrote_early: bool,
    rewrote_twice: bool,
    /// A step was asked for that could not be done.
    is_stuck: bool,
    left: Left,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Event {
    Start,
    Kill,
    Look,
    Act,
    /// The rewrite sends an object to a server; to none, where none can read or write it.
    Send(usize, Option<usize>),
    CannotJudge,
    HoldEnds,
    /// Requests from before the barrier have ended.
    Elapse,
    Load(usize),
    TakeUp(usize),
    Restart(usize),
    Lie(usize),
    Activate,
    GoBack(usize),
    ComeBack(usize),
    Begin(usize),
    End(usize, usize),
    Appear,
    Spoil(usize),
    /// The operator's word, between two processes.
    Waive,
}

/// Where a rotation begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Origin {
    /// Where nobody has the new key.
    TheStart,
    /// Where a rotation in the other direction was left, at any step: its old key is this one's new key.
    AnyStep,
    /// Where the plugin that writes has got another key, and reads with both.
    InPlace,
}

struct Rotation {
    servers: usize,
    from: Origin,
    objects: usize,
    /// Whether snapshots and a scrub were asked for.
    keeps: bool,
    left: Left,
    rules: Vec<&'static Rule>,
}

impl Rotation {
    /// The other rotation was bringing files from one stage to the next, and its servers had loaded some.
    fn left_by_another(&self, start: &World) -> Vec<World> {
        use Stage::{Absent, Only, Reads, Writes};
        let some_new = |new| move |i| (if i < new { Under::New } else { Under::Old }, false);
        let mut left = Vec::new();
        for (stages, mixes) in [
            ([Only, Writes], self.objects..=self.objects),
            ([Writes, Reads], 0..=self.objects),
            ([Reads, Absent], 0..=0),
        ] {
            for new in mixes {
                // Two bits of each server: its file, and what it has loaded.
                for bits in 0..1_usize << (2 * self.servers) {
                    let mut world = start.clone();
                    world.is_minted = true;
                    world.escrowed = 1;
                    world.has_snapshot_before = true;
                    world.objects = (0..self.objects).map(some_new(new)).collect();
                    world.objects.sort_unstable();
                    for (i, server) in world.servers.iter_mut().enumerate() {
                        server.file = stages[bits >> (2 * i) & 1];
                        server.loaded = stages[bits >> (2 * i + 1) & 1];
                    }
                    left.push(world);
                }
            }
        }
        left
    }

    fn facts(&self, world: &World) -> Facts {
        let listed = world.servers.iter().filter(|server| server.is_listed);
        Facts {
            key_missing: !world.is_minted,
            servers: listed
                .map(|server| ServerFacts {
                    file: server.file,
                    loaded: server.loaded == server.file || server.lies,
                    disturbed: server.is_disturbed,
                    taken_up: !server.lags,
                    // Where nobody lies, no canary fails.
                    proven: server.is_proven || self.left.lies == 0,
                })
                .collect(),
            in_place: self.from == Origin::InPlace,
            unlisted: world.servers.iter().any(|server| !server.is_listed),
            progress: world.progress,
            in_flight_over: world.in_flight_over,
            census: world.census,
            hold_over: world.hold_over,
            window_over: false,
            snapshot_before_missing: !world.has_snapshot_before,
            snapshot_after_missing: !world.has_snapshot_after,
            scrub_missing: !world.is_scrubbed,
        }
    }
}

impl World {
    fn look(&mut self, step: Step) {
        let file = match step {
            Step::AddRead(i) | Step::Promote(i) | Step::DropRead(i) => Some(self.servers[i].file),
            _ => None,
        };
        self.run = match step {
            Step::Stop(_) => Run::Down,
            Step::Await(_) => Run::Idle,
            Step::Done => Run::Done,
            _ => Run::Decided(step, file),
        };
        match step {
            Step::DropRead(_) => self.is_dropping = true,
            // Who runs is noted from this look, not from a later one.
            Step::RecordBarrier => {
                for server in &mut self.servers {
                    server.is_disturbed = false;
                }
            }
            _ => {}
        }
    }

    fn act(&mut self) {
        self.run = match self.run.clone() {
            Run::Decided(Step::Mint, _) => {
                // What a process that was killed left in the escrow is found again.
                self.escrowed = self.escrowed.max(1);
                Run::Escrowed
            }
            Run::Escrowed => {
                self.is_minted = true;
                Run::Idle
            }
            Run::Decided(Step::Snapshot(Snapshot::Before), _) => {
                self.has_snapshot_before = true;
                Run::Idle
            }
            // One that the new key alone does not read is none, and the run stops.
            Run::Decided(Step::Snapshot(Snapshot::After), _) => match self.left() {
                0 => {
                    self.has_snapshot_after = true;
                    Run::Idle
                }
                _ => Run::Down,
            },
            Run::Decided(Step::Scrub, _) => {
                self.is_scrubbed = true;
                Run::Idle
            }
            Run::Decided(Step::AddRead(i), Some(from)) => self.write(i, from, Stage::Reads),
            Run::Decided(Step::Promote(i), Some(from)) => self.write(i, from, Stage::Writes),
            Run::Decided(Step::DropRead(i), Some(from)) => self.write(i, from, Stage::Only),
            Run::Writing(i, from, to) => {
                // The file is replaced if it is still what was looked at.
                match self.servers[i].file == from {
                    true => {
                        self.servers[i].file = to;
                        Run::Idle
                    }
                    false => Run::Down,
                }
            }
            Run::Decided(Step::Canary(i), _) => {
                let mut listed = self.servers.iter().filter(|it| it.is_listed);
                let is_read = listed.all(|it| it.loaded.reads(Under::New));
                // What is not so stops the run, which looks again later.
                match is_read && self.servers[i].writes() == Under::New {
                    true => {
                        self.servers[i].is_proven = true;
                        Run::Idle
                    }
                    false => Run::Down,
                }
            }
            Run::Decided(Step::RecordBarrier, _) => {
                self.progress = Progress::default();
                self.census = None;
                self.await_in_flight();
                Run::Idle
            }
            Run::Decided(Step::Rewrite, _) => {
                self.census = None;
                self.rewrote_early |= !self.in_flight_over;
                for object in &mut self.objects {
                    object.1 = false;
                }
                Run::Rewriting(0)
            }
            Run::Rewriting(set_aside) => {
                self.progress.rewrite(set_aside);
                self.rewrote_twice |= self.progress.passes > 1;
                for object in &mut self.objects {
                    object.1 = false;
                }
                Run::Idle
            }
            Run::Decided(Step::Verify, _) => {
                self.take_census(false);
                Run::Idle
            }
            run => run,
        };
        self.objects.sort_unstable();
    }

    fn write(&mut self, i: usize, from: Stage, to: Stage) -> Run {
        self.is_stuck |= !self.is_minted;
        self.census = None;
        Run::Writing(i, from, to)
    }

    fn take_census(&mut self, cannot_judge: bool) {
        let (old, poison) = (self.count(Under::Old), self.count(Under::Nobody));
        let (not_current, unread) = if cannot_judge { (0, old) } else { (old, 0) };
        let waived = if self.is_waived { poison } else { 0 };
        self.was_proven |= not_current + poison == waived && unread == 0;
        self.census = Some(CensusFacts {
            not_current: not_current + poison,
            waived,
            unread,
        });
    }

    /// Values that a removal of the old key has to wait for.
    fn left(&self) -> u64 {
        let poison = if self.is_waived {
            0
        } else {
            self.count(Under::Nobody)
        };
        self.count(Under::Old) + poison
    }

    /// What is in flight now has to end first.
    fn await_in_flight(&mut self) {
        self.in_flight_over = false;
        for server in &mut self.servers {
            server.in_flight = server.in_flight.map(|(under, _)| (under, true));
        }
    }

    fn count(&self, under: Under) -> u64 {
        self.objects.iter().filter(|it| it.0 == under).count() as u64
    }
}

impl Model for Rotation {
    type State = World;
    type Action = Event;

    fn init_states(&self) -> Vec<World> {
        let start = World {
            servers: vec![Server::new(true); self.servers],
            objects: vec![(Under::Old, false); self.objects],
            run: Run::Down,
            census: None,
            in_flight_over: false,
            is_minted: false,
            progress: Progress::default(),
            was_proven: false,
            escrowed: 0,
            hold_over: false,
            is_dropping: false,
            has_snapshot_before: !self.keeps,
            has_snapshot_after: !self.keeps,
            is_scrubbed: !self.keeps,
            is_waived: false,
            killed: false,
            went_back: false,
            rewrote_early: false,
            rewrote_twice: false,
            is_stuck: false,
            left: self.left,
        };
        match self.from {
            Origin::TheStart => vec![start],
            Origin::AnyStep => self.left_by_another(&start),
            Origin::InPlace => {
                let mut start = start;
                (start.is_minted, start.escrowed) = (true, 1);
                for server in &mut start.servers {
                    (server.file, server.loaded) = (Stage::Writes, Stage::Writes);
                    server.lags = true;
                }
                vec![start]
            }
        }
    }

    fn actions(&self, world: &World, events: &mut Vec<Event>) {
        match &world.run {
            Run::Done => return,
            Run::Down => events.push(Event::Start),
            Run::Idle => events.push(Event::Look),
            Run::Rewriting(_) if world.objects.iter().any(|object| !object.1) => {
                for (i, object) in world.objects.iter().enumerate() {
                    let is_other = i == 0 || world.objects[i - 1] != *object;
                    if object.1 || !is_other {
                        continue;
                    }
                    let listed = || world.servers.iter().enumerate().filter(|it| it.1.is_listed);
                    let able = || listed().filter(|(_, server)| server.loaded.reads(object.0));
                    events.extend(able().map(|(server, _)| Event::Send(i, Some(server))));
                    if able().next().is_none() || world.left.refusals > 0 {
                        events.push(Event::Send(i, None));
                    }
                }
            }
            Run::Decided(Step::Verify, _) => {
                events.push(Event::Act);
                if world.left.unread > 0 && world.count(Under::Old) > 0 {
                    events.push(Event::CannotJudge);
                }
            }
            _ => events.push(Event::Act),
        }
        if world.run != Run::Down && world.left.kills > 0 {
            events.push(Event::Kill);
        }
        if world.was_proven && !world.hold_over {
            events.push(Event::HoldEnds);
        }
        let from_before = |server: &Server| matches!(server.in_flight, Some((_, true)));
        if world.run != Run::Down && !world.in_flight_over && !world.servers.iter().any(from_before)
        {
            events.push(Event::Elapse);
        }
        for (i, server) in world.servers.iter().enumerate() {
            if server.loaded != server.file {
                events.push(Event::Load(i));
            }
            if server.lags {
                events.push(Event::TakeUp(i));
            }
            if world.left.restarts > 0 {
                events.push(Event::Restart(i));
            }
            // Whether the old key has left is no matter of what a server writes.
            let may_lie = server.is_listed && !server.lies && server.file != Stage::Only;
            if world.left.lies > 0 && may_lie && server.loaded != server.file {
                events.push(Event::Lie(i));
            }
            if server.is_listed && world.left.returns > 0 && !world.is_dropping {
                if server.went_back_from.is_some() {
                    events.push(Event::ComeBack(i));
                } else if server.file > Stage::Absent {
                    events.push(Event::GoBack(i));
                }
            }
            match server.in_flight {
                Some(_) => events.extend((0..self.objects).map(|object| Event::End(i, object))),
                None if world.left.writes > 0 => events.push(Event::Begin(i)),
                None => {}
            }
        }
        if world.left.keys > 0 {
            events.push(Event::Activate);
        }
        if world.left.appearances > 0 && !world.is_dropping {
            events.push(Event::Appear);
        }
        // After the last census it is no matter: no key reads it.
        if world.left.poison > 0 && world.census.is_none() && !world.is_dropping && !world.is_waived
        {
            events.extend((0..self.objects).map(Event::Spoil));
        }
        if world.run == Run::Down && !world.is_waived && world.count(Under::Nobody) > 0 {
            events.push(Event::Waive);
        }
    }

    fn next_state(&self, last: &World, event: Event) -> Option<World> {
        let mut world = last.clone();
        match event {
            Event::Start => {
                world.run = Run::Idle;
                world.progress.take_up();
                world.await_in_flight();
            }
            Event::Kill => {
                world.left.kills -= 1;
                world.killed = true;
                world.run = Run::Down;
                world.census = None;
                for object in &mut world.objects {
                    object.1 = false;
                }
            }
            Event::Look => {
                let rules = self.rules.iter().copied();
                world.look(decide(rules, &self.facts(last)));
                // A run that stopped is a process that ended.
                if world.run == Run::Down {
                    world.census = None;
                }
            }
            Event::Act => world.act(),
            Event::Send(object, server) => {
                if let Some(server) = server {
                    world.objects[object].0 = world.servers[server].writes();
                } else if let Run::Rewriting(set_aside) = &mut world.run {
                    *set_aside += 1;
                    let under = last.objects[object].0;
                    let is_able = |it: &Server| it.is_listed && it.loaded.reads(under);
                    world.left.refusals -= u8::from(last.servers.iter().any(is_able));
                }
                world.objects[object].1 = true;
            }
            Event::CannotJudge => {
                world.left.unread -= 1;
                world.take_census(true);
                world.run = Run::Idle;
            }
            Event::HoldEnds => world.hold_over = true,
            Event::Elapse => world.in_flight_over = true,
            Event::Load(i) => world.servers[i].load(),
            Event::TakeUp(i) => world.servers[i].lags = false,
            Event::Restart(i) => {
                world.left.restarts -= 1;
                world.servers[i].load();
                world.servers[i].in_flight = None;
            }
            Event::Lie(i) => {
                world.left.lies -= 1;
                world.servers[i].lies = true;
            }
            Event::Activate => {
                world.left.keys -= 1;
                // What was new is old now.
                for object in &mut world.objects {
                    if object.0 == Under::New {
                        object.0 = Under::Old;
                    }
                }
                for server in &mut world.servers {
                    (server.lags, server.is_disturbed) = (true, true);
                    server.in_flight = server.in_flight.map(|(_, before)| (Under::Old, before));
                }
            }
            Event::GoBack(i) => {
                world.left.returns -= 1;
                world.went_back = true;
                let server = &mut world.servers[i];
                server.went_back_from = Some(server.file);
                server.file = Stage::Absent;
            }
            Event::ComeBack(i) => {
                world.left.returns -= 1;
                let server = &mut world.servers[i];
                server.file = server.went_back_from?;
            }
            Event::Begin(i) => {
                world.left.writes -= 1;
                let server = &mut world.servers[i];
                server.in_flight = Some((server.writes(), false));
            }
            Event::End(i, object) => {
                let (under, _) = world.servers[i].in_flight.take()?;
                world.objects[object].0 = under;
            }
            Event::Spoil(object) => {
                world.left.poison -= 1;
                world.objects[object].0 = Under::Nobody;
            }
            Event::Waive => world.is_waived = true,
            Event::Appear => {
                world.left.appearances -= 1;
                world.servers.push(Server::new(false));
            }
        }
        world.objects.sort_unstable();
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "every listed server reads whatever is stored",
                |_, world: &World| {
                    let expected = |it: &&Server| it.is_listed && !it.is_behind && !it.lies;
                    world.servers.iter().filter(expected).all(|server| {
                        let mut objects = world.objects.iter().filter(|it| it.0 != Under::Nobody);
                        objects.all(|object| server.loaded.reads(object.0))
                    })
                },
            ),
            Property::always(
                "whatever is stored has its key on disk",
                |_, world: &World| {
                    let has_old = |it: &Server| it.is_listed && it.file.reads(Under::Old);
                    world.objects.iter().all(|object| match object.0 {
                        Under::Old => world.servers.iter().any(has_old),
                        Under::New => world.escrowed > 0,
                        Under::Nobody => true,
                    })
                },
            ),
            Property::always("done is proven", |model: &Self, world: &World| {
                let end = match model.from {
                    Origin::InPlace => Stage::Writes,
                    Origin::TheStart | Origin::AnyStep => Stage::Only,
                };
                let is_whole = |it: &Server| it.is_listed && it.file == end && it.loaded == end;
                world.run != Run::Done
                    || world.left() == 0
                        && !world.servers.is_empty()
                        && world.servers.iter().all(is_whole)
            }),
            Property::always(
                "no two servers write with what a listed one cannot read",
                |_, world: &World| {
                    let writes = |it: &&Server| it.is_listed && it.loaded >= Stage::Writes;
                    let lacks = |it: &Server| it.lies && !it.loaded.reads(Under::New);
                    world.servers.iter().filter(writes).count() < 2
                        || !world.servers.iter().any(lacks)
                },
            ),
            Property::always(
                "nothing is rewritten while a server says what is not so, or lags behind its plugin",
                |model: &Self, world: &World| {
                    // Unless that is news amid the rewrite.
                    let lags = |it: &Server| it.lags && world.left.keys == model.left.keys;
                    let is_off = |it: &Server| (it.lies || lags(it)) && it.is_listed;
                    !matches!(world.run, Run::Rewriting(_)) || !world.servers.iter().any(is_off)
                },
            ),
            Property::always("one key is minted", |_, world: &World| world.escrowed <= 1),
            Property::always(
                "no key is written that was not minted",
                |_, world: &World| !world.is_stuck,
            ),
            Property::always(
                "no key leaves before its hold is over",
                |_, world: &World| !world.is_dropping || world.hold_over,
            ),
            Property::always(
                "nothing is changed before there is a snapshot of it",
                |model: &Self, world: &World| {
                    let is_changed = |it: &Server| it.file != Stage::Absent;
                    world.has_snapshot_before
                        || match model.from {
                            Origin::InPlace => !matches!(world.run, Run::Rewriting(_)),
                            _ => !world.servers.iter().any(is_changed),
                        }
                },
            ),
            Property::always(
                "no key leaves before there is a snapshot that does without",
                |_, world: &World| !world.is_dropping || world.has_snapshot_after,
            ),
            Property::always("done is scrubbed", |_, world: &World| {
                world.run != Run::Done || world.is_scrubbed
            }),
            Property::sometimes(DONE, |_, world: &World| world.run == Run::Done),
            Property::sometimes(
                "done beside what was waived",
                |model: &Self, world: &World| {
                    let may = model.left.poison > 0;
                    world.run == Run::Done && (world.count(Under::Nobody) > 0 || !may)
                },
            ),
            Property::sometimes("done after a kill", |_, world: &World| {
                world.run == Run::Done && world.killed
            }),
            Property::sometimes(
                "done after a server went back",
                |model: &Self, world: &World| {
                    let may = model.left.returns > 0;
                    world.run == Run::Done && (world.went_back || !may)
                },
            ),
            Property::sometimes(
                "rewritten while requests are in flight",
                |_, world: &World| world.rewrote_early,
            ),
            Property::sometimes(
                "done after a late write was rewritten",
                |_, world: &World| world.run == Run::Done && world.rewrote_twice,
            ),
        ]
    }
}

const DONE: &str = "done";

/// What may happen in a run.
const SOME: Left = Left {
    kills: 1,
    restarts: 1,
    returns: 2,
    writes: 1,
    appearances: 1,
    lies: 0,
    keys: 0,
    unread: 1,
    refusals: 1,
    poison: 0,
};

/// Servers that lie, beside what else may go wrong meanwhile.
const LIES: Left = Left {
    kills: 1,
    restarts: 1,
    returns: 0,
    writes: 1,
    appearances: 0,
    lies: 2,
    keys: 0,
    unread: 0,
    refusals: 1,
    poison: 0,
};

/// A value that is damaged, beside what else may go wrong meanwhile.
const POISON: Left = Left {
    returns: 0,
    appearances: 0,
    unread: 0,
    poison: 1,
    ..SOME
};

/// A change of the plugin's key alone. Which files could come back depends on what was before.
const IN_PLACE: Left = Left {
    returns: 0,
    appearances: 0,
    keys: 1,
    ..SOME
};

/// The properties that do not hold, and how many states were seen.
fn check(
    from: Origin,
    (servers, objects): (usize, usize),
    keeps: bool,
    left: Left,
    rules: Vec<&'static Rule>,
) -> (Vec<String>, usize) {
    let model = Rotation {
        servers,
        from,
        objects,
        keeps,
        left,
        rules,
    };
    let checker = model
        .checker()
        .threads(2)
        .finish_when(HasDiscoveries::AnyFailures);
    let checker = checker.spawn_bfs().join();
    let found = checker.discoveries();
    let broken = checker.model().properties().into_iter().filter(|property| {
        // With nobody there is nothing to be done.
        let can_be = servers > 0 || property.expectation == Expectation::Always;
        let is_found = found.contains_key(property.name);
        can_be && is_found == (property.expectation == Expectation::Always)
    });
    let broken = broken.map(|property| match found.get(property.name) {
        Some(path) => format!("{}: {:?}", property.name, path.clone().into_actions()),
        None => format!("never {}", property.name),
    });
    (broken.collect(), checker.unique_state_count())
}

#[test]
fn no_rotation_strands_a_value() {
    let few = Left {
        restarts: 0,
        returns: 1,
        ..SOME
    };
    let mut sizes = vec![
        (0, 0, true, SOME),
        (1, 2, true, SOME),
        (2, 1, true, few),
        (2, 2, false, SOME),
        (3, 4, false, few),
    ];
    sizes.extend([(1, 2, true, LIES), (2, 2, false, LIES), (3, 2, false, LIES)]);
    sizes.extend([(1, 2, true, POISON), (2, 2, false, POISON)]);
    if std::env::var_os("ATREST_LONG").is_some() {
        let more = Left {
            restarts: 0,
            ..SOME
        };
        sizes.extend([
            (1, 4, true, SOME),
            (2, 4, false, SOME),
            (2, 4, true, more),
            (3, 4, false, more),
        ]);
    }
    for (servers, objects, keeps, left) in sizes {
        let start = Instant::now();
        let (broken, states) = check(
            Origin::TheStart,
            (servers, objects),
            keeps,
            left,
            RULES.iter().collect(),
        );
        assert_eq!(broken, Vec::<String>::new(), "{servers} servers");
        println!(
            "{servers} servers, {objects} objects, {}, {left:?}: {states} states, 17 properties hold \
             ({:.1} s)",
            if keeps { "snapshots and scrub" } else { "bare" },
            start.elapsed().as_secs_f64()
        );
    }
}

#[test]
fn no_rollback_strands_a_value() {
    // Which files could come back, and with what a server would appear, depends on the step that was left.
    let left = Left {
        returns: 0,
        appearances: 0,
        ..SOME
    };
    for (servers, objects) in [(1, 4), (2, 4), (3, 2)] {
        let rules = RULES.iter().collect();
        let (broken, states) = check(Origin::AnyStep, (servers, objects), true, left, rules);
        assert_eq!(broken, Vec::<String>::new(), "{servers} servers");
        println!("back, {servers} servers, {objects} objects, {left:?}: {states} states");
    }
}

#[test]
fn a_plugins_key_is_changed_in_place() {
    for (servers, objects) in [(1, 4), (2, 4), (3, 2)] {
        let rules = RULES.iter().collect();
        let (broken, states) = check(Origin::InPlace, (servers, objects), true, IN_PLACE, rules);
        assert_eq!(broken, Vec::<String>::new(), "{servers} servers");
        println!("in place, {servers} servers, {objects} objects, {IN_PLACE:?}: {states} states");
    }
}

#[test]
fn no_rule_can_be_left_out() {
    let mut killed = 0;
    for without in RULES {
        let rules = || {
            let others = RULES.iter().filter(|rule| !std::ptr::eq(*rule, without));
            others.collect::<Vec<_>>()
        };
        use Origin::{InPlace, TheStart};
        let sizes = [
            (TheStart, 0, 0, SOME),
            (TheStart, 1, 1, SOME),
            (TheStart, 2, 1, SOME),
            (TheStart, 2, 1, LIES),
            (TheStart, 1, 1, POISON),
            (InPlace, 2, 1, IN_PLACE),
        ];
        let broken = sizes
            .into_iter()
            .map(|(from, servers, objects, left)| {
                check(from, (servers, objects), true, left, rules()).0
            })
            .find(|broken| !broken.is_empty());
        println!(
            "without {:?}: {:?}",
            without.name,
            broken.as_ref().map(|it| &it[0])
        );
        killed += usize::from(broken.is_some());
    }
    println!("{killed} of {} mutants killed", RULES.len());
    assert_eq!(killed, RULES.len());
}
