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
    /// Files by stage.
    stages: Vec<(Stage, usize)>,
    differences: Vec<String>,
}

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
            stages: stages.map(|stage| (stage, 0)).to_vec(),
            differences: Vec::new(),
        }
    }

    /// Compares one, and returns the stage that upstream gives it.
    pub(crate) fn add(&mut self, case: &Case) -> Stage {
        let ours = ours::judge(case.file, &case.server);
        let theirs = self.judge.ask(case.file, &case.server);
        for (stage, count) in &mut self.stages {
            *count += usize::from(*stage == theirs.stage);
        }
        if let Some(difference) = difference(&ours, &theirs, &case.server) {
            let Case { name, file, server } = case;
            self.differences.push(format!(
                "{name} by {server:?}\n{difference}\n--- the file\n{}\n---\n",
                file.escape_ascii().to_string().replace("\\n", "\n")
            ));
        }
        theirs.stage
    }

    /// How many files have come to this stage.
    pub(crate) fn count(&self, stage: Stage) -> usize {
        self.stages
            .iter()
            .find(|(it, _)| *it == stage)
            .map_or(0, |(_, count)| *count)
    }

    /// Panics where something differed.
    pub(crate) fn conclude(self) -> String {
        let count = self.differences.len();
        assert!(
            count == 0,
            "{count} differ ({self}):\n{}",
            self.differences[..count.min(Self::SHOWN)].join("\n")
        );
        self.to_string()
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: usize = self.stages.iter().map(|(_, count)| count).sum();
        write!(f, "{all} files")?;
        for (stage, count) in &self.stages {
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
