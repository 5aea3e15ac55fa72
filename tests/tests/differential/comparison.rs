//! Asks both, and keeps what differs.

use std::fmt;
use std::time::{Duration, Instant};

use atrest_core::encryption_config::{self as ours, Judgement, Server};
use atrest_tests::judge::{Answer, Judge, Stage};

use crate::words;

/// A file and who judges it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case<'a> {
    pub(crate) name: &'a str,
    pub(crate) file: &'a [u8],
    pub(crate) server: Server,
}

/// What has come out so far.
pub(crate) struct Comparison {
    minor: u32,
    judge: Judge,
    counts: Counts,
    differences: Vec<String>,
    /// Files that both refuse to decode, for a reason that they put differently.
    reworded: Vec<String>,
    /// What both took.
    spent: Duration,
}

/// Files by stage.
#[derive(Clone, Debug)]
pub(crate) struct Counts([(Stage, usize); 5]);

impl Comparison {
    /// More are counted, not shown.
    const SHOWN: usize = 5;

    pub(crate) fn with(minor: u32) -> Self {
        let stages = [
            Stage::Ok,
            Stage::Empty,
            Stage::Decode,
            Stage::Validate,
            Stage::Load,
        ];
        Self {
            minor,
            judge: Judge::start(minor),
            counts: Counts(stages.map(|stage| (stage, 0))),
            differences: Vec::new(),
            reworded: Vec::new(),
            spent: Duration::ZERO,
        }
    }

    /// Compares one, and returns the stage that upstream gives it.
    pub(crate) fn add(&mut self, case: &Case) -> Stage {
        let started = Instant::now();
        let ours = ours::judge(case.file, &case.server);
        let theirs = self.judge.ask(case.file, &case.server);
        self.spent += started.elapsed();
        for (stage, count) in &mut self.counts.0 {
            *count += usize::from(*stage == theirs.stage);
        }
        if let Some(difference) = difference(&ours, &theirs, &case.server) {
            let Case { name, file, server } = case;
            let lines = file.split(|byte| *byte == b'\n');
            let lines: Vec<_> = lines.map(|line| line.escape_ascii().to_string()).collect();
            let file = lines.join("\n");
            let is_reworded = theirs.stage == Stage::Decode && ours.stage == ours::Stage::Decode;
            let kept = match is_reworded {
                true => &mut self.reworded,
                false => &mut self.differences,
            };
            kept.push(format!(
                "{name} by {server:?}\n{difference}\n--- the file\n{file}\n---\n"
            ));
        }
        theirs.stage
    }

    /// Says what came out, and panics where something differed. Of a file that is damaged in several
    /// places the parsers may name another one first: of a thousand such files one may be.
    pub(crate) fn conclude(mut self) -> Counts {
        let reworded = self.reworded.len();
        if reworded * 1000 > self.counts.of(Stage::Decode) {
            self.differences.append(&mut self.reworded);
        }
        let count = self.differences.len();
        assert!(
            count == 0,
            "{count} differ ({}):\n{}",
            self.counts,
            self.differences[..count.min(Self::SHOWN)].join("\n")
        );
        println!(
            "1.{}: {} in {} s, {reworded} refused in other words",
            self.minor,
            self.counts,
            self.spent.as_secs()
        );
        self.counts
    }
}

impl Counts {
    fn all(&self) -> usize {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// How much of all came to this stage.
    pub(crate) fn percent(&self, stage: Stage) -> usize {
        self.of(stage) * 100 / self.all().max(1)
    }

    fn of(&self, stage: Stage) -> usize {
        let stages = self.0.iter().filter(|(it, _)| *it == stage);
        stages.map(|(_, count)| count).sum()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} files", self.all())?;
        for (stage, count) in &self.0 {
            write!(f, ", {count} {stage:?}")?;
        }
        Ok(())
    }
}

/// What differs: the stage, the list of paths and kinds, or the words of the newest release.
fn difference(ours: &Judgement, theirs: &Answer, server: &Server) -> Option<String> {
    let stage = match ours.stage {
        ours::Stage::Ok => Stage::Ok,
        ours::Stage::Empty => Stage::Empty,
        ours::Stage::Decode => Stage::Decode,
        ours::Stage::Validate => Stage::Validate,
        ours::Stage::Load => Stage::Load,
    };
    let paths = ours
        .findings
        .iter()
        .map(|it| (it.path.clone(), it.kind.to_string()));
    let expected = theirs
        .fields
        .iter()
        .map(|it| (it.path.clone(), it.kind.clone()));
    let is_alike = stage == theirs.stage
        && (stage != Stage::Validate || paths.eq(expected))
        && (server.minor != Server::NEWEST || words::are_alike(ours, theirs));
    (!is_alike).then(|| format!("ours: {stage:?} {:#?}\ntheirs: {theirs:#?}", ours.findings))
}
