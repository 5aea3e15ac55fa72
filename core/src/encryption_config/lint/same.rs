//! Two servers' files side by side: what one would load and the other would not.

use std::collections::BTreeSet;

use super::super::finding::{Finding, Place, quote};
use super::super::ids;
use super::super::judge::{Server, decode_source};
use super::super::model::Kms;
use super::Lints;
use super::survey::{GroupResource, Link, Same, Survey, What, name_of, text};

/// How one server's file differs from another one's. Findings are about the second, their paths and
/// places are in it. None for files that are equal; none for those that do not decode, for which
/// [`judge`](super::super::judge::judge) has words.
pub fn compare(first: &[u8], second: &[u8], server: &Server) -> Vec<Finding> {
    let mut lints = Lints::default();
    let read = |source| match decode_source(source, server) {
        Ok((_, draft, findings)) if findings.is_empty() => Some(draft),
        _ => None,
    };
    if first == second {
        return Vec::new();
    }
    let (Some(first), Some(second)) = (read(first), read(second)) else {
        return Vec::new();
    };
    let (first, second) = (Survey::of(&first), Survey::of(&second));
    // The lookup falls back to wildcards: chains that are equal for every name that either file
    // has are equal for every resource.
    let names: BTreeSet<GroupResource<'_>> = first
        .names()
        .chain(second.names())
        .chain([super::survey::EVERYTHING])
        .collect();
    let mut seen = BTreeSet::new();
    let mut differ = false;
    for name in names {
        // One entry's chain is one difference, however many resources it has.
        let covering = [&first, &second].map(|survey| survey.covering(name));
        if !seen.insert(covering) {
            continue;
        }
        let chains = [&first, &second].map(|survey| survey.chain(name));
        let [theirs, ours] = chains.each_ref().map(Vec::as_slice);
        let equal = |(a, b): (&&Link<'_>, &&Link<'_>)| is_equal(a, b);
        if theirs.len() == ours.len() && theirs.iter().zip(ours).all(equal) {
            continue;
        }
        differ = true;
        let (path, place) = match (ours.first(), covering[1].first()) {
            (Some(link), _) => (link.path(), link.place),
            (None, Some(entry)) => {
                let place = second.entries[*entry].entry.place;
                (format!("resources[{entry}]"), place)
            }
            (None, None) => ("resources".to_owned(), second.place),
        };
        describe(&name_of(name), theirs, ours, path, place, &mut lints);
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

/// Whether two links read the same values in the same way.
fn is_equal(a: &Link<'_>, b: &Link<'_>) -> bool {
    a.same() == b.same()
        && match (&a.what, &b.what) {
            (What::Kms(a), What::Kms(b)) => {
                let timeout = |it: &Option<super::super::decode::At<i64>>| {
                    it.as_ref().map_or(Kms::DEFAULT_TIMEOUT.as_nanos(), |at| {
                        u128::from(at.value.unsigned_abs())
                    })
                };
                let cachesize =
                    |it: &super::super::decode::Plugin| it.cachesize.as_ref().map(|at| at.value);
                text(&a.endpoint) == text(&b.endpoint)
                    && timeout(&a.timeout) == timeout(&b.timeout)
                    && cachesize(a) == cachesize(b)
            }
            _ => true,
        }
}

fn describe(
    name: &str,
    theirs: &[&Link<'_>],
    ours: &[&Link<'_>],
    path: String,
    place: Place,
    lints: &mut Lints,
) {
    let name = quote(name);
    let reads = |chain: &[&Link<'_>], writer: Option<&&Link<'_>>| {
        let same = writer.map_or(Same::Identity, |link| link.same());
        chain.iter().any(|link| link.same() == same) || chain.is_empty() && same == Same::Identity
    };
    let words = |writer: Option<&&Link<'_>>| writer.map_or("identity".to_owned(), |it| it.words());
    let (their_writer, our_writer) = (theirs.first(), ours.first());
    // A key of the same name that is not the same key.
    let clash = |writer: Option<&&Link<'_>>, chain: &[&Link<'_>]| {
        let Some(What::Key(cipher, key, ..)) = writer.map(|link| &link.what) else {
            return "";
        };
        let same_name = |link: &&Link<'_>| matches!(&link.what, What::Key(other, it, ..) if other == cipher && text(&it.name) == text(&key.name));
        if chain.iter().any(same_name) {
            ": it has other bytes under the same name"
        } else {
            ""
        }
    };
    if !reads(ours, their_writer) {
        let message = format!(
            "{name}: this server cannot read what the other one writes with {}{}",
            words(their_writer),
            clash(their_writer, ours)
        );
        let fix = "add what the other server writes with to this file, as a reader, and reload";
        lints.push(ids::SAME_UNREADABLE, path.as_str(), place, message, fix);
    }
    if !reads(theirs, our_writer) {
        let message = format!(
            "{name}: the other server cannot read what this one writes with {}{}",
            words(our_writer),
            clash(our_writer, theirs)
        );
        let fix = "add what this server writes with to the other file, as a reader, and reload";
        lints.push(ids::SAME_UNREADABLE, path.as_str(), place, message, fix);
    }
    if !reads(ours, their_writer) || !reads(theirs, our_writer) {
        return;
    }
    let writers =
        [their_writer, our_writer].map(|writer| writer.map_or(Same::Identity, |it| it.same()));
    let missing = |of: &[&Link<'_>], from: &[&Link<'_>]| {
        let missing = |link: &&&Link<'_>| !reads(from, Some(link));
        of.iter().find(missing).map(|link| link.words())
    };
    let what = if writers[0] != writers[1] {
        format!(
            "writes with {}, the other server with {}",
            words(our_writer),
            words(their_writer)
        )
    } else if let Some(link) = missing(ours, theirs) {
        format!("can read {link}, the other server cannot")
    } else if let Some(link) = missing(theirs, ours) {
        format!("cannot read {link}, the other server can")
    } else {
        "has its readers in another order, twice, or with other settings of a plugin".to_owned()
    };
    lints.push(
        ids::SAME_BUT_STEP,
        path,
        place,
        format!("{name}: this server {what}; each reads what the other writes"),
        "finish the rotation on all servers (`atrest rotate status`), or copy the newer file",
    );
}
