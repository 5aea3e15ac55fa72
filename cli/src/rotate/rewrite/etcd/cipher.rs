//! One value: whether it is stale, and the same under the key that writes now.

use std::fmt;

use atrest_core::at_rest::{ReadError, Transformers, WritingKey};
use atrest_core::secret::SecretBytes;

use crate::kms::Unwrapper;

/// Reads and writes the values of one resource as its API servers do.
pub(super) struct Cipher<'a> {
    pub(super) chain: Transformers<'a>,
    pub(super) plugins: &'a mut Unwrapper,
    /// Where a plugin writes.
    pub(super) writing: Option<&'a WritingKey>,
}

/// How a value stands to the key that writes now.
pub(super) enum Value {
    /// An update that changes nothing would leave it.
    Current,
    /// It would write it again.
    Stale(SecretBytes),
    /// It cannot be read, for this reason.
    Unreadable(String),
}

impl Cipher<'_> {
    /// Decrypts a value. Of KMS v2 its envelope is believed where it says that it is current.
    pub(super) async fn read(&mut self, key: &[u8], value: &[u8]) -> Value {
        match self.open(key, value, true).await {
            Ok(None) => Value::Current,
            Ok(Some(plaintext)) => Value::Stale(plaintext),
            Err(reason) => Value::Unreadable(reason),
        }
    }

    /// Decrypts a value whether it is stale or not.
    pub(super) async fn decrypt(
        &mut self,
        key: &[u8],
        value: &[u8],
    ) -> Result<SecretBytes, String> {
        let opened = self.open(key, value, false).await?;
        opened.ok_or_else(|| "it was not read".into())
    }

    /// The plaintext; with `stale_only` none where the value is current.
    async fn open(
        &mut self,
        key: &[u8],
        value: &[u8],
        stale_only: bool,
    ) -> Result<Option<SecretBytes>, String> {
        loop {
            match self.chain.read(key, value, self.plugins) {
                Ok(read) if stale_only && read.stale == Some(false) => return Ok(None),
                Ok(read) => return Ok(Some(read.bytes)),
                Err(ReadError::Wrapped(_))
                    if stale_only && self.chain.is_current_by_its_envelope(value, self.plugins) =>
                {
                    return Ok(None);
                }
                Err(ReadError::Wrapped(wrapped)) => {
                    // Whatever the answer is, it is kept: the plugin is asked once a seed.
                    if !self.plugins.ask(&wrapped).await {
                        return Err(format!(
                            "the KMS plugin {} does not answer",
                            wrapped.provider
                        ));
                    }
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Encrypts a plaintext with the key that writes now, and believes nothing: what came out is
    /// decrypted, has to be current and to hold the same bytes.
    pub(super) fn encrypt(&self, key: &[u8], plaintext: &SecretBytes) -> Result<Vec<u8>, String> {
        let words = |error: &dyn fmt::Display| format!("it cannot be encrypted: {error}");
        let value = self
            .chain
            .write(key, plaintext.expose(), self.writing)
            .map_err(|error| words(&error))?;
        let again = self
            .chain
            .read(key, &value, self.plugins)
            .map_err(|error| words(&error))?;
        if again.stale != Some(false) || again.bytes != *plaintext {
            return Err(words(&"it does not read as the same"));
        }
        Ok(value)
    }
}
