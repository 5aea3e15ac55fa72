//! Two servers' files side by side: what one would load and the other would not.

use std::collections::{BTreeSet, HashSet};

use super::super::decode::{Draft, Plugin};
use super::super::finding::{Finding, Place, quote};
use super::super::ids;
use super::super::judge::{Server, decode_source};
use super::super::model::Kms;
use super::super::rules;
use super::super::rules::{EVERYTHING, GroupResource};
use super::Lints;
use super::survey::{Link, Same, Survey, What, name_of, text};

/// How one server's file differs from another one's. Findings are about the second; their paths and
/// places are in it. None for files that are equal, and none where one breaks a rule of the server:
/// then [`judge`](super::super::judge::judge) has words.
pub fn compare(first: &[u8], second: &[u8], server: &Server) -> Vec<Finding> {
    if first == second {
        return Vec::new();
    }
    let (Some(first), Some(second)) = (valid(first, server), valid(second, server)) else {
        return Vec::new();
    };
    let (first, second) = (Survey::of(&first), Survey::of(&second));
    // The lookup falls back to wildcards: chains that are equal for every name that either file
    // has are equal for every resource.
    let names: BTreeSet<GroupResource<'_>> = first
        .names()
        .chain(second.names())
        .chain([EVERYTHING])
        .collect();
    let mut lints = Lints::default();
    let mut seen = BTreeSet::new();
    let mut differ = false;
    for name in names {
        // One entry's chain is one difference, however many resources it has.
        let covering = [&first, &second].map(|survey| survey.covering(name));
        if !seen.insert(covering) {
            continue;
        }
        let [theirs, ours] = [&first, &second].map(|survey| Side::of(survey, name));
        if theirs.is_equal(&ours) {
            continue;
        }
        differ = true;
        let (path, place) = match ours.chain.first() {
            Some(link) => (link.path(), link.place),
            None => ("resources".to_owned(), second.place),
        };
        describe(
            &quote(&name_of(name)),
            &theirs,
            &ours,
            &path,
            place,
            &mut lints,
        );
    }
    if !differ {
        lints.push(
            ids::SAME_BUT_FORM,
            "",
            Place::START,
            "the files mean the same, and differ in comments or form, and so in their SHA-256",
            "copy one of the two to all servers, byte by byte",
        );
    }
    lints.into_findings()
}

fn valid(source: &[u8], server: &Server) -> Option<Draft> {
    let (_, draft, findings) = decode_source(source, server).ok()?;
    let is_valid = || rules::validate(&draft, server).into_findings().is_empty();
    (findings.is_empty() && is_valid()).then_some(draft)
}

/// A resource as one server reads and writes it.
struct Side<'s, 'a> {
    /// Empty for a resource that nothing covers, which is read and written as it is.
    chain: Vec<&'s Link<'a>>,
    readers: HashSet<Same<'a>>,
}

impl<'s, 'a> Side<'s, 'a> {
    fn of(survey: &'s Survey<'a>, name: GroupResource<'s>) -> Self {
        let chain = survey.chain(name);
        let mut readers: HashSet<_> = chain.iter().map(|link| link.same()).collect();
        if chain.is_empty() {
            readers.insert(Same::Identity);
        }
        Self { chain, readers }
    }

    fn is_equal(&self, other: &Self) -> bool {
        let pairs = self.chain.iter().zip(&other.chain);
        self.chain.len() == other.chain.len() && pairs.into_iter().all(|(a, b)| is_equal(a, b))
    }

    /// What makes what this server writes.
    fn writer(&self) -> Same<'a> {
        self.chain
            .first()
            .map_or(Same::Identity, |link| link.same())
    }

    fn writes_with(&self) -> String {
        let first = self.chain.first();
        first.map_or_else(|| "identity".to_owned(), |link| link.words())
    }

    fn reads(&self, writer: Same<'_>) -> bool {
        self.readers.contains(&writer)
    }

    /// The first of our links that the other side cannot read.
    fn beyond(&self, other: &Self) -> Option<String> {
        let mut links = self.chain.iter();
        let link = links.find(|link| !other.readers.contains(&link.same()))?;
        Some(link.words())
    }

    /// Whether this side has the name of what the other writes with, for another key.
    fn has_other_bytes(&self, other: &Self) -> bool {
        let Same::Key(cipher, name, _) = other.writer() else {
            return false;
        };
        let is_named = |reader: &Same<'_>| matches!(reader, Same::Key(other, it, _) if *other == cipher && *it == name);
        self.readers.iter().any(is_named)
    }
}

/// Whether two links read the same values in the same way.
fn is_equal(a: &Link<'_>, b: &Link<'_>) -> bool {
    let settings = |plugin: &Plugin| {
        let timeout = plugin.timeout.as_ref().map(|at| i128::from(at.value));
        let default = Kms::DEFAULT_TIMEOUT.as_nanos().cast_signed();
        let cachesize = plugin.cachesize.as_ref().map(|at| at.value);
        (timeout.unwrap_or(default), cachesize)
    };
    match (&a.what, &b.what) {
        (What::Kms(x), What::Kms(y)) => {
            a.same() == b.same()
                && text(&x.endpoint) == text(&y.endpoint)
                && settings(x) == settings(y)
        }
        _ => a.same() == b.same(),
    }
}

fn describe(
    name: &str,
    theirs: &Side<'_, '_>,
    ours: &Side<'_, '_>,
    path: &str,
    place: Place,
    lints: &mut Lints,
) {
    let mut is_readable = true;
    for (reader, writer, message, fix) in [
        (
            ours,
            theirs,
            "this server cannot read what the other one writes with",
            "add what the other server writes with to this file, as a reader, and reload",
        ),
        (
            theirs,
            ours,
            "the other server cannot read what this one writes with",
            "add what this server writes with to the other file, as a reader, and reload",
        ),
    ] {
        if reader.reads(writer.writer()) {
            continue;
        }
        is_readable = false;
        let mut message = format!("{name}: {message} {}", writer.writes_with());
        if reader.has_other_bytes(writer) {
            message += ": it has other bytes under that name";
        }
        lints.push(ids::SAME_UNREADABLE, path, place, message, fix);
    }
    if !is_readable {
        return;
    }
    let difference = if theirs.writer() != ours.writer() {
        format!(
            "writes with {}, the other one with {}",
            ours.writes_with(),
            theirs.writes_with()
        )
    } else if let Some(link) = ours.beyond(theirs) {
        format!("can read {link}, the other one cannot")
    } else if let Some(link) = theirs.beyond(ours) {
        format!("cannot read {link}, the other one can")
    } else {
        "has its readers in another order, or a plugin with other settings".to_owned()
    };
    lints.push(
        ids::SAME_BUT_STEP,
        path,
        place,
        format!("{name}: this server {difference}; each reads what the other writes"),
        "finish the rotation on all servers (`atrest rotate status`), or copy the newer file",
    );
}
