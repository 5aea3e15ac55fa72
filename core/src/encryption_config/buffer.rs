//! Text with keys in it while it is being written.

use zeroize::Zeroizing;

use crate::secret::SecretBytes;

/// Bytes that grow. Whatever they outgrow is zeroized, as they are themselves.
#[derive(Default)]
pub(super) struct Buffer(Zeroizing<Vec<u8>>);

impl Buffer {
    pub(super) fn push(&mut self, text: &str) {
        self.push_bytes(text.as_bytes());
    }

    pub(super) fn push_bytes(&mut self, bytes: &[u8]) {
        let needed = self.0.len() + bytes.len();
        if needed > self.0.capacity() {
            // A `Vec` that grows by itself leaves its old bytes behind.
            let mut larger = Zeroizing::new(Vec::with_capacity((2 * needed).max(512)));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn push_blanks(&mut self, count: usize) {
        for _ in 0..count {
            self.push(" ");
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn truncate(&mut self, length: usize) {
        self.0.truncate(length);
    }

    pub(super) fn into_secret(mut self) -> SecretBytes {
        SecretBytes::new(std::mem::take(&mut *self.0))
    }
}
