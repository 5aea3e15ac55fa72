//! AES-256-GCM as both the seal and the KEKs use it.
//!
//! A box is `nonce (12 bytes) || ciphertext || tag (16 bytes)`, its nonce from the operating
//! system's generator. Associated data is a sequence of fields, each preceded by its length in
//! bytes as a big-endian `u32`, so that no two sequences have the same encoding.

use aes_gcm::aead::{Aead, KeyInit, Nonce, Payload};
use aes_gcm::{Aes256Gcm, Key};
use rand::TryRng;

use crate::secret::SecretBytes;

pub(super) const KEY_LENGTH: usize = 32;
pub(super) const NONCE_LENGTH: usize = 12;
const TAG_LENGTH: usize = 16;

/// How much longer than its content a box is.
pub(super) const OVERHEAD: usize = NONCE_LENGTH + TAG_LENGTH;

/// Why nothing was encrypted or decrypted.
#[derive(Debug)]
pub(super) enum Error {
    /// The operating system's generator failed.
    Random(rand::rngs::SysError),
    /// The box does not open: other key, other associated data, or changed bytes. Also a key of
    /// the wrong length and a message beyond the cipher's limit, which our callers rule out.
    Refused,
}

pub(super) fn associated_data<'a>(fields: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut encoded = Vec::new();
    for field in fields {
        // Fields are bounded by the size of a file or of a message, far below 4 GiB.
        encoded.extend_from_slice(&(field.len() as u32).to_be_bytes());
        encoded.extend_from_slice(field);
    }
    encoded
}

pub(super) fn seal(cipher: &Aes256Gcm, data: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, Error> {
    let mut nonce = [0; NONCE_LENGTH];
    rand::rngs::SysRng
        .try_fill_bytes(&mut nonce)
        .map_err(Error::Random)?;
    seal_with_nonce(cipher, nonce, data, plaintext)
}

pub(super) fn seal_with_nonce(
    cipher: &Aes256Gcm,
    nonce: [u8; NONCE_LENGTH],
    data: &[u8],
    plaintext: &[u8],
) -> Result<Vec<u8>, Error> {
    let payload = Payload {
        msg: plaintext,
        aad: data,
    };
    let ciphertext = cipher
        .encrypt(&Nonce::<Aes256Gcm>::from(nonce), payload)
        .map_err(|_| Error::Refused)?;
    let mut sealed = Vec::with_capacity(NONCE_LENGTH + ciphertext.len());
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(&ciphertext);
    Ok(sealed)
}

pub(super) fn open(cipher: &Aes256Gcm, data: &[u8], sealed: &[u8]) -> Result<SecretBytes, Error> {
    let (nonce, ciphertext) = sealed
        .split_first_chunk::<NONCE_LENGTH>()
        .ok_or(Error::Refused)?;
    let payload = Payload {
        msg: ciphertext,
        aad: data,
    };
    cipher
        .decrypt(&Nonce::<Aes256Gcm>::from(*nonce), payload)
        .map(SecretBytes::new)
        .map_err(|_| Error::Refused)
}

/// The cipher under a key of [`KEY_LENGTH`] bytes.
pub(super) fn cipher(key: &[u8]) -> Result<Aes256Gcm, Error> {
    let key: &Key<Aes256Gcm> = key.try_into().map_err(|_| Error::Refused)?;
    Ok(Aes256Gcm::new(key))
}
