//! The bytes and names of local keys. No message says anything of the bytes but that they are
//! guessable, or those of another key.

use std::collections::{HashMap, HashSet};

use super::super::ids;
use super::Lints;
use super::survey::{Cipher, Link, Survey, What, looks_like_a_key, shown_key, text};
use crate::secret::{Fingerprint, SecretBytes};

/// Keys that everybody can read up: those of Kubernetes' documentation that have a length the
/// server takes, and the one in the examples of atrest.
const PUBLISHED: [&[u8]; 4] = [
    b"secret is secure",
    b"this is password",
    b"abcdefghijklmnopqrstuvwxyz123456",
    b"atrest sample key, never use it!",
];

pub(super) fn is_published(secret: &SecretBytes) -> bool {
    PUBLISHED.contains(&secret.expose())
}

pub(super) fn lint(survey: &Survey<'_>, lints: &mut Lints) {
    bytes(survey, lints);
    names(survey, lints);
}

fn bytes(survey: &Survey<'_>, lints: &mut Lints) {
    let mut first: HashMap<Fingerprint, (Cipher, &str)> = HashMap::new();
    for link in survey.links() {
        let What::Key(cipher, key, secret, fingerprint) = &link.what else {
            continue;
        };
        let name = text(&key.name);
        let path = format!("{}.secret", link.path());
        let place = key.secret.place;
        if let Some((other, other_name)) = first.get(fingerprint) {
            // The same key in another entry is as it should be.
            if (other, *other_name) != (cipher, name) {
                lints.push(
                    ids::BYTES_TWICE,
                    path,
                    place,
                    format!(
                        "the bytes are those of the {} key {}",
                        other.name(),
                        shown_key(other_name)
                    ),
                    "give each key bytes of its own: `head -c 32 /dev/urandom | base64`",
                );
            }
            continue; // the rest is said of the first
        }
        first.insert(*fingerprint, (*cipher, name));
        if is_published(secret) {
            lints.push(
                ids::PUBLISHED_KEY,
                path,
                place,
                format!("the key {} is printed in documentation", shown_key(name)),
                "put a new key in front (`head -c 32 /dev/urandom | base64`), rewrite what is \
                 stored, and take this one out",
            );
        } else if let Some(how) = guessable(secret.expose()) {
            lints.push(
                ids::GUESSABLE_KEY,
                path,
                place,
                format!("the key {} {how} instead of random bytes", shown_key(name)),
                "put a new key in front (`head -c 32 /dev/urandom | base64`), rewrite what is \
                 stored, and take this one out",
            );
        } else if secret.len() < 32 && *cipher != Cipher::Secretbox {
            lints.push(
                ids::SHORT_KEY,
                path,
                place,
                format!("the key {} has {} bytes", shown_key(name), secret.len()),
                "make the next key of 32 bytes: `head -c 32 /dev/urandom | base64`",
            );
        }
    }
}

/// How bytes were not made by a generator. Random bytes of 16 or more are taken for any of these
/// less than once in a million.
fn guessable(bytes: &[u8]) -> Option<&'static str> {
    let distinct: HashSet<_> = bytes.iter().collect();
    if distinct.len() <= bytes.len() / 2 && !is_text(bytes) {
        return Some("repeats itself");
    }
    if is_text(bytes) {
        return Some("is text");
    }
    let mut steps = bytes.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]));
    let step = steps.next()?;
    steps.all(|next| next == step).then_some("counts")
}

fn is_text(bytes: &[u8]) -> bool {
    let is_print = |scalar: char| !scalar.is_control() || scalar.is_ascii_whitespace();
    std::str::from_utf8(bytes).is_ok_and(|text| text.chars().all(is_print))
}

fn names(survey: &Survey<'_>, lints: &mut Lints) {
    let mut said = HashSet::new();
    let mut lower: HashMap<String, &str> = HashMap::new();
    for link in survey.links() {
        let What::Key(_, key, ..) = &link.what else {
            continue;
        };
        let name = text(&key.name);
        if name.is_empty() || !said.insert(name) {
            continue;
        }
        name_of_key(link, name, lints);
        let folded = name.to_lowercase();
        match lower.get(&folded) {
            Some(other) => push(
                link,
                lints,
                format!(
                    "{} and {} differ in case alone",
                    shown_key(other),
                    shown_key(name)
                ),
            ),
            None => {
                lower.insert(folded, name);
            }
        }
    }
}

fn name_of_key(link: &Link<'_>, name: &str, lints: &mut Lints) {
    let is_odd = |scalar: char| scalar.is_whitespace() || scalar.is_control() || !scalar.is_ascii();
    if looks_like_a_key(name) {
        lints.push(
            ids::KEY_AS_NAME,
            format!("{}.name", link.path()),
            link.place,
            "the name looks like a key, and names are stored and measured in clear",
            "give the next key a plain name, such as `key-2026-07`; if this is a key, replace it",
        );
    } else if name.contains(':') {
        lints.push(
            ids::COLON_IN_KEY_NAME,
            format!("{}.name", link.path()),
            link.place,
            format!(
                "the name {} has a colon, which also ends it in stored values",
                shown_key(name)
            ),
            "use letters, digits and dashes in the next key's name; this one must stay as it is \
             while values are stored under it",
        );
    } else if name.contains(is_odd) {
        let message = format!(
            "the name {} has blanks or unusual characters",
            shown_key(name)
        );
        push(link, lints, message);
    }
}

fn push(link: &Link<'_>, lints: &mut Lints, message: String) {
    lints.push(
        ids::ODD_KEY_NAME,
        format!("{}.name", link.path()),
        link.place,
        message,
        "use lower-case letters, digits and dashes in the next key's name; this one must stay as \
         it is while values are stored under it",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_keys_are_not_guessable() {
        for length in [16, 24, 32] {
            for _ in 0..1000 {
                let key = SecretBytes::generate(length).unwrap();
                assert_eq!(guessable(key.expose()), None);
            }
        }
    }

    #[test]
    fn patterns_are() {
        let counting: Vec<u8> = (0..32).collect();
        let high: Vec<u8> = (200..232).collect();
        for (key, how) in [
            (&[0; 16][..], "repeats itself"),
            (&[7, 200].repeat(16), "repeats itself"),
            (&counting, "counts"),
            (&high, "counts"),
            (b"correct horse battery staple 123", "is text"),
            (b"00112233445566778899aabbccddeeff", "is text"),
            (
                "\u{441}\u{435}\u{43a}\u{440}\u{435}\u{442}\u{43d}\u{43e}".as_bytes(),
                "is text",
            ),
        ] {
            assert_eq!(guessable(key), Some(how));
        }
    }
}
