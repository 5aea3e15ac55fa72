//! Asks both, and keeps what differs.

use std::fmt;

use atrest_core::encryption_config::{self as ours, Judgement, Server};
use atrest_tests::judge::{Answer, Judge, Stage};

/// A file and who judges it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case<'a> {
    pub(crate) name: &'a str,
    pub(crate) file: &'a [u8],
    pub(crate) server: Server,
}

/// What has come out so far.
pub(crate) struct Comparison {
    judge: Judge,
    counts: Counts,
    differences: Vec<String>,
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
            judge: Judge::start(minor),
            counts: Counts(stages.map(|stage| (stage, 0))),
            differences: Vec::new(),
        }
    }

    /// Compares one, and returns the stage that upstream gives it.
    pub(crate) fn add(&mut self, case: &Case) -> Stage {
        let ours = ours::judge(case.file, &case.server);
        let theirs = self.judge.ask(case.file, &case.server);
        for (stage, count) in &mut self.counts.0 {
            *count += usize::from(*stage == theirs.stage);
        }
        if let Some(difference) = difference(&ours, &theirs, &case.server) {
            let Case { name, file, server } = case;
            let lines = file.split(|byte| *byte == b'\n');
            let lines: Vec<_> = lines.map(|line| line.escape_ascii().to_string()).collect();
            let file = lines.join("\n");
            self.differences.push(format!(
                "{name} by {server:?}\n{difference}\n--- the file\n{file}\n---\n"
            ));
        }
        theirs.stage
    }

    /// Panics where something differed.
    pub(crate) fn conclude(self) -> Counts {
        let count = self.differences.len();
        assert!(
            count == 0,
            "{count} differ ({}):\n{}",
            self.counts,
            self.differences[..count.min(Self::SHOWN)].join("\n")
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
        let stages = self.0.iter().filter(|(it, _)| *it == stage);
        stages.map(|(_, count)| count * 100).sum::<usize>() / self.all().max(1)
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

fn difference(ours: &Judgement, theirs: &Answer, server: &Server) -> Option<String> {
    let stage = match ours.stage {
        ours::Stage::Ok => Stage::Ok,
        ours::Stage::Empty => Stage::Empty,
        ours::Stage::Decode => Stage::Decode,
        ours::Stage::Validate => Stage::Validate,
        ours::Stage::Load => Stage::Load,
    };
    let list = || -> Vec<String> {
        let finding = |it: &ours::Finding| format!("{}: {}", it.path, it.kind);
        ours.findings.iter().map(finding).collect()
    };
    if stage != theirs.stage {
        return Some(format!("ours: {stage:?} {:?}\ntheirs: {theirs:?}", list()));
    }
    if stage == Stage::Validate {
        let expected: Vec<_> = theirs
            .fields
            .iter()
            .map(|it| format!("{}: {}", it.path, it.kind))
            .collect();
        if expected != list() {
            return Some(format!("ours: {:#?}\ntheirs: {expected:#?}", list()));
        }
    }
    let _ = server;
    None
}
