//! Random sequences of edits. The suite `differential` uses this file, too.

use atrest_core::encryption_config::{Change, EditError, Server, judge, rewrite};

use crate::random::Random;
use crate::styles::{Written, change, comments, configuration, write};

pub(crate) const SERVER: Server = Server {
    minor: Server::NEWEST,
    kmsv1: true,
    kmsv2: true,
    automatic_reload: false,
};

/// What a sequence came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) edits: usize,
    /// Edits that would have lost a comment.
    pub(crate) refused: usize,
}

/// A file and one to eight edits of it, each on what the one before left. `accepts` is asked for a
/// verdict on each result.
pub(crate) fn sequence(seed: u64, mut accepts: impl FnMut(&[u8]) -> bool) -> Outcome {
    let mut random = Random::new(seed);
    let mut now = configuration(&mut random);
    let written = write(&mut random, &now);
    let judged = judge(written.text.as_bytes(), &SERVER);
    assert_eq!(
        judged.configuration.as_ref(),
        Some(&now),
        "seed {seed}: {:?}\n{}",
        judged.findings,
        written.text
    );
    let mut text = written.text.clone();
    let mut outcome = Outcome::default();
    for step in 0..1 + random.below(8) {
        let (change, next) = change(&mut random, &now);
        let edited = match rewrite(text.as_bytes(), &next, &SERVER) {
            Err(EditError::Obstacle { .. }) => {
                outcome.refused += 1;
                continue;
            }
            edited => {
                edited.unwrap_or_else(|error| panic!("seed {seed}: {error}: {change:?}\n{text}"))
            }
        };
        let edited = String::from_utf8(edited.expose().to_vec()).unwrap();
        let said = |what: &str| {
            format!("{what}: seed {seed}: {change:?}\n--- before\n{text}\n--- after\n{edited}\n---")
        };
        let read = judge(edited.as_bytes(), &SERVER).configuration;
        assert!(
            read.as_ref() == Some(&next),
            "{}",
            said("it says something else")
        );
        assert!(
            accepts(edited.as_bytes()),
            "{}",
            said("upstream rejects it")
        );
        assert!(
            keeps_comments(&change, &text, &edited),
            "{}",
            said("a comment is lost")
        );
        if written.is_plain {
            assert!(
                keeps_lines(&change, &text, &edited),
                "{}",
                said("a line is touched")
            );
        }
        if step == 0 && !written.has_aliases {
            assert!(
                keeps_the_rest(&change, &written, &edited),
                "{}",
                said("the rest is touched")
            );
        }
        (now, text) = (next, edited);
        outcome.edits += 1;
    }
    outcome
}

/// Comments leave with what they belong to, and else never.
fn keeps_comments(change: &Change, before: &str, after: &str) -> bool {
    let (before, after) = (comments(before), comments(after));
    match change {
        _ if drops(change) => after.iter().all(|it| before.contains(it)),
        // The providers are there twice.
        Change::SplitResource { .. } => before.iter().all(|it| after.contains(it)),
        _ => after == before,
    }
}

/// What is added comes between lines that stay; what leaves, leaves such lines; what moves stays
/// what it is.
fn keeps_lines(change: &Change, before: &str, after: &str) -> bool {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (mut before, mut after) = (lines(before), lines(after));
    let is_subsequence = |short: &[String], long: &[String]| {
        let mut long = long.iter();
        short.iter().all(|line| long.any(|it| it == line))
    };
    match change {
        Change::AddKey { .. } | Change::AddProvider { .. } | Change::AddEntry(_) => {
            is_subsequence(&before, &after)
        }
        Change::DropKey { .. } | Change::DropProvider { .. } => is_subsequence(&after, &before),
        Change::PromoteKey { .. } | Change::PromoteProvider { .. } => {
            before.sort();
            after.sort();
            before == after
        }
        _ => true,
    }
}

/// Nothing changes but the list that is edited.
fn keeps_the_rest(change: &Change, written: &Written, after: &str) -> bool {
    let (start, end) = match change {
        Change::AddKey {
            entry, provider, ..
        }
        | Change::PromoteKey {
            entry, provider, ..
        }
        | Change::DropKey {
            entry, provider, ..
        } => (format!("{entry}.providers.{provider}."), ".keys"),
        Change::AddProvider { entry, .. }
        | Change::ReplaceProvider { entry, .. }
        | Change::PromoteProvider { entry, .. }
        | Change::DropProvider { entry, .. } => (format!("{entry}.providers"), ".providers"),
        _ => (String::new(), "resources"),
    };
    let lists = written.lists.iter();
    let mut lists = lists.filter(|(path, _)| path.starts_with(&start) && path.ends_with(end));
    let list = match start.as_str() {
        "" => written.lists.get("resources"),
        _ => lists.next().map(|(_, range)| range),
    };
    let list = list.unwrap_or_else(|| panic!("there is no list {start}...{end}"));
    let text = &written.text;
    let end = list.end.min(text.len());
    after.starts_with(&text[..list.start]) && after.ends_with(&text[end..])
}

fn drops(change: &Change) -> bool {
    matches!(
        change,
        Change::DropKey { .. } | Change::DropProvider { .. } | Change::ReplaceProvider { .. }
    )
}
