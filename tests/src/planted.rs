//! Values that a test plants in Secrets, and the search for them in whatever form they take.

use std::collections::{BTreeSet, HashMap, HashSet};

use base64::Engine;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use data_encoding::{HEXLOWER, HEXUPPER};
use sha2::{Digest, Sha256};

/// What the text values are made of: what JSON escapes is among it.
const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-_.:\"\\";

/// Entries of the table that tells most places in a haystack from a needle, a power of two.
const SIEVE: usize = 1 << 20;

/// `count` values of 32 to 64 bytes that look random, and are the same for the same label: four of
/// five are ASCII, the others binary.
pub fn values(label: &str, count: usize) -> Vec<Vec<u8>> {
    (0..count)
        .map(|i| {
            let mut bytes = (0_u8..2).flat_map(|block| {
                Sha256::new()
                    .chain_update(label)
                    .chain_update(i.to_be_bytes())
                    .chain_update([block])
                    .finalize()
            });
            let length = 32 + i * 7 % 33;
            if i % 5 == 4 {
                bytes.by_ref().take(length).collect()
            } else {
                let letter = |byte: u8| ALPHABET[usize::from(byte) % ALPHABET.len()];
                bytes.by_ref().take(length).map(letter).collect()
            }
        })
        .collect()
}

/// Finds a piece of any of some values: as it is, backwards, in base64 wherever it begins, in hex,
/// escaped as JSON once or twice.
pub struct Search {
    window: usize,
    pieces: HashMap<Vec<u8>, usize>,
    sieve: Vec<bool>,
}

impl Search {
    /// A search for every piece of `window` bytes of every form of the values.
    pub fn new(values: &[Vec<u8>], window: usize) -> Self {
        assert!(window >= 4, "the sieve looks at four bytes");
        let mut search = Self {
            window,
            pieces: HashMap::new(),
            sieve: vec![false; SIEVE],
        };
        for (i, value) in values.iter().enumerate() {
            for form in forms(value) {
                for piece in form.windows(window) {
                    search.sieve[slot(piece)] = true;
                    search.pieces.insert(piece.to_vec(), i);
                }
            }
        }
        search
    }

    /// The indices of the values of which a piece is in the haystack.
    pub fn find(&self, haystack: &[u8]) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        for place in haystack.windows(self.window) {
            if self.sieve[slot(place)]
                && let Some(i) = self.pieces.get(place)
            {
                found.insert(*i);
            }
        }
        found
    }
}

/// Every piece of eight bytes that was said: for very many values and little that is said.
#[derive(Default)]
pub struct Said(HashSet<[u8; 8]>);

impl Said {
    /// Takes in what was said.
    pub fn add(&mut self, said: &[u8]) {
        self.0.extend(pieces(said));
    }

    /// A piece of the value, in any of its forms, that was said.
    pub fn piece_of(&self, value: &[u8]) -> Option<[u8; 8]> {
        let forms = forms(value);
        let mut pieces = forms.iter().flat_map(|form| pieces(form));
        pieces.find(|piece| self.0.contains(piece))
    }
}

fn pieces(text: &[u8]) -> impl Iterator<Item = [u8; 8]> {
    text.windows(8).filter_map(|piece| piece.try_into().ok())
}

fn slot(piece: &[u8]) -> usize {
    let start = u32::from_le_bytes([piece[0], piece[1], piece[2], piece[3]]);
    start.wrapping_mul(0x9e37_79b1) as usize >> 12 & (SIEVE - 1)
}

fn forms(value: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = vec![
        value.to_vec(),
        HEXLOWER.encode(value).into_bytes(),
        HEXUPPER.encode(value).into_bytes(),
        value.iter().rev().copied().collect(),
    ];
    for skipped in 0..3 {
        // Of a value inside something longer, the first and last characters depend on what is
        // around it; the pieces between do not.
        let whole = &value[skipped.min(value.len())..];
        let whole = &whole[..whole.len() / 3 * 3];
        forms.push(BASE64_STANDARD_NO_PAD.encode(whole).into_bytes());
        forms.push(BASE64_URL_SAFE_NO_PAD.encode(whole).into_bytes());
    }
    if let Ok(text) = std::str::from_utf8(value) {
        let once = escaped(text);
        forms.push(escaped(&once).into_bytes());
        forms.push(once.into_bytes());
    }
    forms
}

fn escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

#[cfg(test)]
mod tests {
    use base64::prelude::BASE64_STANDARD;

    use super::*;

    #[test]
    fn what_was_said_is_found_in_every_form() {
        for value in values("said", 10) {
            for form in forms(&value) {
                let mut said = Said::default();
                said.add(b"nothing of this value");
                assert_eq!(said.piece_of(&value), None);
                said.add(&form[3..10]);
                assert_eq!(said.piece_of(&value), None);
                said.add(&form[3..11]);
                assert_eq!(
                    said.piece_of(&value).as_ref().map(|it| &it[..]),
                    Some(&form[3..11])
                );
            }
        }
    }

    #[test]
    fn every_form_is_found_and_nothing_else() {
        let values = values("forms", 10);
        let search = Search::new(&values, 16);
        for (i, value) in values.iter().enumerate() {
            let only = BTreeSet::from([i]);
            let piece = &value[5..21];
            assert_eq!(search.find(&[b"..", piece, b".."].concat()), only);
            for before in ["", "a", "ab", "abc"] {
                let longer = [before.as_bytes(), value, b"after"].concat();
                for text in [BASE64_STANDARD.encode(&longer), HEXLOWER.encode(&longer)] {
                    assert_eq!(search.find(text.as_bytes()), only, "{before:?}");
                }
            }
            if let Ok(text) = std::str::from_utf8(value) {
                let inner = serde_json::json!({ "k": text }).to_string();
                let outer = serde_json::json!({ "annotation": inner }).to_string();
                assert_eq!(search.find(inner.as_bytes()), only);
                assert_eq!(search.find(outer.as_bytes()), only);
            }
        }
        for other in super::values("other", 50) {
            for form in forms(&other) {
                assert_eq!(search.find(&form), BTreeSet::new());
            }
        }
        assert_eq!(search.find(b"short"), BTreeSet::new());
    }
}
