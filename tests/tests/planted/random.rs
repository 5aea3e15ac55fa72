//! Bytes that a seed decides, and secrets made of them.

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use data_encoding::{HEXLOWER, HEXUPPER};
use sha2::{Digest, Sha256};

pub(crate) struct Random {
    seed: u64,
    counter: u64,
    block: Vec<u8>,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            counter: 0,
            block: Vec::new(),
        }
    }

    fn byte(&mut self) -> u8 {
        if self.block.is_empty() {
            self.counter += 1;
            let block = Sha256::new()
                .chain_update(self.seed.to_be_bytes())
                .chain_update(self.counter.to_be_bytes());
            self.block = block.finalize().to_vec();
        }
        self.block.remove(0)
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.byte()).collect()
    }

    /// Less than `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        let high = usize::from(self.byte()) << 8;
        (high | usize::from(self.byte())) % limit
    }

    fn letters(&mut self, alphabet: &str, count: usize) -> String {
        let alphabet: Vec<char> = alphabet.chars().collect();
        (0..count)
            .map(|_| alphabet[self.below(alphabet.len())])
            .collect()
    }

    /// So long that chance does not make one of the words that are said of every file.
    fn words(&mut self, separator: &str) -> String {
        let words: Vec<_> = (0..4).map(|_| self.letters(LOWER, 8)).collect();
        words.join(separator)
    }

    /// A key as the server takes it.
    pub(crate) fn key(&mut self, length: usize) -> String {
        BASE64_STANDARD.encode(self.bytes(length))
    }

    /// What cannot be taken for a name: a key in one of its encodings.
    pub(crate) fn encoded(&mut self) -> String {
        let length = 16 + self.below(17);
        let bytes = self.bytes(length);
        match self.below(5) {
            0 => BASE64_URL_SAFE_NO_PAD.encode(bytes),
            1 => HEXLOWER.encode(&bytes),
            2 => HEXUPPER.encode(&bytes),
            3 => self.letters("0123456789", 24),
            _ => BASE64_STANDARD.encode(bytes),
        }
    }

    /// Letters and digits, so that it can stand in any place: passphrases, too.
    pub(crate) fn alphanumeric(&mut self) -> String {
        let length = 12 + self.below(20);
        match self.below(5) {
            0 => self.letters(LOWER, length),
            1 => self.letters(&LOWER.to_uppercase(), length),
            2 => self.letters(
                &format!("{LOWER}{}0123456789", LOWER.to_uppercase()),
                length,
            ),
            3 => (0..3)
                .map(|_| self.letters(&LOWER.to_uppercase(), 1) + &self.letters(LOWER, 6))
                .collect(),
            _ => format!(
                "{}{}",
                self.letters(LOWER, 10),
                self.letters("0123456789", 3)
            ),
        }
    }

    /// Anything that fits on a line and begins and ends with a letter.
    pub(crate) fn any(&mut self) -> String {
        match self.below(6) {
            0 => self.encoded(),
            1 => self.alphanumeric(),
            2 => self.words(" "),
            3 => self.words("-"),
            4 => format!("x{}x", self.letters("abcXYZ089+-_.:\"\\'{}[],&*!|>%@#", 30)),
            _ => format!("x{}x", self.letters("äöüßéλжш漢字\u{301}abc", 24)),
        }
    }
}

const LOWER: &str = "abcdefghijklmnopqrstuvwxyz";
