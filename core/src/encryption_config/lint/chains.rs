//! Chains of providers: who writes, in which order, what is there twice.

use std::collections::{HashMap, HashSet};

use super::super::finding::quote;
use super::super::ids;
use super::super::rules::{EVERYTHING, group_resource};
use super::Lints;
use super::survey::{
    Cipher, Link, SECRETS, Same, Survey, Surveyed, What, listed, name_of, shown, shown_key, text,
};
use crate::secret::Fingerprint;

pub(super) fn lint(survey: &Survey<'_>, lints: &mut Lints) {
    for (i, entry) in survey.entries.iter().enumerate() {
        if survey.writes(i) {
            identity(survey, i, entry, lints);
            ciphers(entry, lints);
        }
        repeated(entry, lints);
        if entry.chain.len() > MANY {
            lints.push(
                ids::MANY_LINKS,
                format!("resources[{i}].providers"),
                entry.chain[MANY].place,
                format!("this entry keeps {} keys and plugins", entry.chain.len()),
                "rewrite what is stored (`atrest rotate`), and take out what `atrest verify` finds \
                 nothing of",
            );
        }
    }
    order(survey, lints);
    reused_names(survey, lints);
    wildcards(survey, lints);
}

/// More links than any rotation needs.
const MANY: usize = 10;

fn names<'a>(entry: &Surveyed<'a>) -> Vec<&'a str> {
    entry.entry.resources.iter().map(text).collect()
}

fn identity(survey: &Survey<'_>, i: usize, entry: &Surveyed<'_>, lints: &mut Lints) {
    let Some(first) = entry.chain.first() else {
        return;
    };
    let names = names(entry);
    if !first.is_identity() {
        if let Some(link) = entry.chain.iter().find(|link| link.is_identity()) {
            lints.push(
                ids::IDENTITY_LAST,
                link.path(),
                link.place,
                format!(
                    "what is stored of {} in plaintext can still be read",
                    listed(&names)
                ),
                "take it out when `atrest verify` finds no plaintext, not sooner",
            );
        }
        return;
    }
    let is_alone = entry.chain.iter().all(Link::is_identity);
    let holds_secrets = survey.covering(SECRETS).first() == Some(&i);
    // What a wildcard would encrypt can be left out by an entry of its own.
    let leaves_out = |name: &&str| {
        let (group, resource) = group_resource(name);
        let above = [(group, "*"), EVERYTHING];
        let mut above = above
            .into_iter()
            .filter(|wildcard| *wildcard != (group, resource));
        above.any(|wildcard| {
            let entries = survey.naming(wildcard).iter().take(2);
            let mut entries = entries
                .filter(|entry| **entry != i)
                .filter_map(|entry| survey.entries[*entry].chain.first());
            entries.any(|writer| !writer.is_identity())
        })
    };
    if is_alone && !holds_secrets {
        if !names.iter().any(leaves_out) {
            lints.push(
                ids::IDENTITY_ALONE,
                first.path(),
                first.place,
                format!(
                    "{} would be stored in plaintext without this entry, too",
                    listed(&names)
                ),
                "take the entry out, or put a provider that encrypts in front",
            );
        }
        return;
    }
    lints.push(
        ids::IDENTITY_FIRST,
        first.path(),
        first.place,
        format!(
            "what is written of {} is stored in plaintext",
            listed(&names)
        ),
        if is_alone {
            "put a provider that encrypts in front: `atrest generate` makes one with its key"
        } else {
            "put the provider that encrypts in front, and rewrite what is stored; leave it only on \
             the way out of encryption"
        },
    );
}

fn ciphers(entry: &Surveyed<'_>, lints: &mut Lints) {
    let Some(Link {
        what: What::Key(cipher, key, ..),
        place,
        ..
    }) = entry.chain.first()
    else {
        return;
    };
    let path = entry.chain[0].path();
    let name = shown_key(text(&key.name));
    match cipher {
        Cipher::AesCbc => lints.push(
            ids::AESCBC_WRITES,
            path,
            *place,
            format!("{name} writes with AES-CBC, which does not notice changed values"),
            "put secretbox or KMS v2 in front (`atrest rotate --to secretbox`), and keep aescbc \
             behind it until all is rewritten",
        ),
        Cipher::AesGcm => lints.push(
            ids::AESGCM_WRITES,
            path,
            *place,
            format!("{name} writes with AES-GCM, whose keys wear out by 200,000 to 2^32 writes"),
            "rotate the key on a schedule (`atrest rotate`), or put secretbox in front",
        ),
        Cipher::Secretbox => {}
    }
}

/// What is in one chain twice, or cannot be told apart.
fn repeated(entry: &Surveyed<'_>, lints: &mut Lints) {
    let mut seen = HashSet::new();
    let mut prefixes: HashMap<(Cipher, &str), ()> = HashMap::new();
    for link in &entry.chain {
        if !seen.insert(link.same()) {
            // Two KMS v1 plugins of one name have a lint of their own.
            if !matches!(link.what, What::Kms(_)) {
                lints.push(
                    ids::LINK_TWICE,
                    link.path(),
                    link.place,
                    format!("{} is in this chain already", link.words()),
                    "take this one out",
                );
            }
            continue;
        }
        let What::Key(cipher, key, ..) = &link.what else {
            continue;
        };
        let name = text(&key.name);
        if prefixes.insert((*cipher, name), ()).is_some() {
            lints.push(
                ids::PREFIX_TWICE,
                format!("{}.name", link.path()),
                link.place,
                format!(
                    "another {} key of this chain is called {}",
                    cipher.name(),
                    shown_key(name)
                ),
                "give the key that has written nothing yet a name of its own",
            );
        }
    }
}

/// Entries that share keys and write with another one of them.
fn order(survey: &Survey<'_>, lints: &mut Lints) {
    let mut writers: HashMap<Same<'_>, usize> = HashMap::new();
    let mut readers: HashSet<(usize, Same<'_>)> = HashSet::new();
    for (i, entry) in survey.entries.iter().enumerate() {
        let mut links = entry.chain.iter().filter(|link| !link.is_identity());
        if let Some(first) = links.next() {
            writers.entry(first.same()).or_insert(i);
        }
        readers.extend(links.map(|link| (i, link.same())));
    }
    for (i, entry) in survey.entries.iter().enumerate() {
        let mut links = entry.chain.iter().filter(|link| !link.is_identity());
        let Some(first) = links.next() else {
            continue;
        };
        // Of each two it is said once, of the later one.
        let before = links.find_map(|link| {
            let before = *writers.get(&link.same()).filter(|before| **before < i)?;
            readers
                .contains(&(before, first.same()))
                .then_some((before, link))
        });
        if let Some((before, link)) = before {
            lints.push(
                ids::ORDER_DIFFERS,
                first.path(),
                first.place,
                format!(
                    "{} is first here, {} in resources[{before}], and both entries have both",
                    first.words(),
                    link.words()
                ),
                "put the newer of the two in front in both entries, and rewrite what is stored",
            );
        }
    }
}

/// The name of a key for other bytes in another entry.
fn reused_names(survey: &Survey<'_>, lints: &mut Lints) {
    let mut names: HashMap<(Cipher, &str), (usize, Fingerprint)> = HashMap::new();
    for (i, entry) in survey.entries.iter().enumerate() {
        for link in &entry.chain {
            let What::Key(cipher, key, _, fingerprint) = &link.what else {
                continue;
            };
            let name = text(&key.name);
            let (first, other) = *names.entry((*cipher, name)).or_insert((i, *fingerprint));
            if first != i && other != *fingerprint {
                lints.push(
                    ids::NAME_REUSED,
                    format!("{}.name", link.path()),
                    link.place,
                    format!(
                        "resources[{first}] has another {} key that is called {}",
                        cipher.name(),
                        shown_key(name)
                    ),
                    "give the key that has written nothing yet a name of its own",
                );
            }
        }
    }
}

/// What an entry's chain is to the one of a wildcard over it.
enum Relation<'s, 'a> {
    Equal,
    /// What this link of the wildcard writes.
    NotRead(&'s Link<'a>),
    Fine,
}

fn relation<'s, 'a>(
    entry: &Surveyed<'_>,
    above: &'s Surveyed<'a>,
    own: &HashSet<Same<'_>>,
) -> Relation<'s, 'a> {
    let Some(writer) = above.chain.first() else {
        return Relation::Fine;
    };
    let equal = |(a, b): (&Link<'_>, &Link<'_>)| a.same() == b.same();
    if above.chain.len() == entry.chain.len() && above.chain.iter().zip(&entry.chain).all(equal) {
        Relation::Equal
    } else if !writer.is_identity() && !own.contains(&writer.same()) {
        Relation::NotRead(writer)
    } else {
        Relation::Fine
    }
}

/// Entries below a wildcard: their chains do not add up. Said once of an entry and a wildcard.
fn wildcards(survey: &Survey<'_>, lints: &mut Lints) {
    for (i, entry) in survey.entries.iter().enumerate() {
        // What identity in front does is said already.
        if entry.chain.first().is_none_or(Link::is_identity) {
            continue;
        }
        let own: HashSet<_> = entry.chain.iter().map(Link::same).collect();
        let mut said = HashSet::new();
        for (j, at) in entry.entry.resources.iter().enumerate() {
            let name = group_resource(text(at));
            let above = [(name.0, "*"), EVERYTHING]
                .into_iter()
                .filter(|wildcard| *wildcard != name)
                .find_map(|wildcard| Some((wildcard, *survey.naming(wildcard).first()?)));
            let Some((wildcard, above)) = above.filter(|(_, above)| *above != i) else {
                continue;
            };
            if !said.insert(above) {
                continue;
            }
            let above = &survey.entries[above];
            let path = format!("resources[{i}].resources[{j}]");
            let (quoted, wildcard) = (shown(text(at)), quote(&name_of(wildcard)));
            match relation(entry, above, &own) {
                Relation::Equal => lints.push(
                    ids::SAME_AS_WILDCARD,
                    path,
                    at.place,
                    format!("{quoted} has the same providers by {wildcard}"),
                    "take it out, so that there is one chain to rotate",
                ),
                Relation::NotRead(writer) => lints.push(
                    ids::WILDCARD_NOT_READ,
                    path,
                    at.place,
                    format!(
                        "{quoted} has the providers of this entry alone: what {} of {wildcard} \
                         wrote of it cannot be read",
                        writer.words(),
                    ),
                    "if the wildcard was there first, repeat its provider behind this entry's own \
                     until all is rewritten",
                ),
                Relation::Fine => {}
            }
        }
    }
}
