//! A key-encryption key, and what it makes of kube-apiserver's seeds.
//!
//! A ciphertext is
//!
//! ```text
//! 0x01 || suite (1 byte) || nonce (12) || encrypted plaintext || tag (16)
//! ```
//!
//! at most [`MAX_CIPHERTEXT`] bytes. Suite 0x01 is AES-256-GCM with a random nonce, whose
//! associated data is, in this order,
//!
//! ```text
//! field("atrest/kms/v2") || field(key_id) || field(key) || field(value) || ...
//! ```
//!
//! where `field(x)` is the length of x in bytes as a big-endian `u32`, then x, and the annotations
//! stand sorted by the bytes of their keys. So a ciphertext opens under the name and with the
//! annotations it was made with, and no others. With random nonces one key is good for 2^32
//! ciphertexts; kube-apiserver asks for one at each start, reload and change of the key.

use std::fmt;
use std::sync::Arc;

use aes_gcm::Aes256Gcm;
use atrest_locked::Locked;
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::ZeroizeOnDrop;

use super::aead;
use super::key_id::KeyId;
use crate::secret::{Fingerprint, SecretBytes};

/// What kube-apiserver accepts (`k8s.io/apiserver`, kmsv2/envelope.go).
pub const MAX_CIPHERTEXT: usize = 1024;

/// What makes a ciphertext of that size. A seed has 32 bytes.
pub const MAX_PLAINTEXT: usize = MAX_CIPHERTEXT - HEADER.len() - aead::OVERHEAD;

const HEADER: [u8; 2] = [FORMAT, AES_256_GCM];
const FORMAT: u8 = 0x01;
const AES_256_GCM: u8 = 0x01;

const LABEL: &[u8] = b"atrest/kms/v2";
const COMMITMENT: &[u8] = b"atrest/kms/commit/v1";

/// Why nothing was encrypted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncryptError {
    /// More than [`MAX_PLAINTEXT`] bytes: not from kube-apiserver, which sends 32.
    #[error("the plaintext has {0} bytes, at most {MAX_PLAINTEXT} can be encrypted")]
    TooLong(usize),
    /// A retired generation.
    #[error("the key is gone")]
    NoKey,
    /// The operating system's generator failed.
    #[error("the operating system gives no random bytes")]
    Random,
    /// The cipher refused; it does so for sizes that cannot occur here.
    #[error("the cipher failed")]
    Cipher,
}

/// Why nothing was decrypted: damaged, or made by another key, under another name, with other
/// annotations. Which of these is not told.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the ciphertext does not open under this key_id and these annotations")]
pub struct DecryptError;

/// A key-encryption key: 32 bytes and the cipher's round keys, in locked memory, where copies of this
/// value share them. What makes one leaves traces on the stack: see [`zeroize::zeroize_stack`].
#[derive(Clone)]
pub struct Kek(Arc<Locked<Material>>);

#[derive(ZeroizeOnDrop)]
struct Material {
    bytes: [u8; aead::KEY_LENGTH],
    cipher: Aes256Gcm,
}

impl Kek {
    /// A fresh one of the operating system's generator.
    pub(super) fn generate() -> Result<Self, rand::rngs::SysError> {
        let bytes = SecretBytes::generate(aead::KEY_LENGTH)?;
        // It takes as many bytes as were asked for.
        Ok(Self::new(bytes).expect("32 bytes"))
    }

    /// Takes exactly 32 bytes.
    pub fn new(bytes: SecretBytes) -> Option<Self> {
        let cipher = aead::cipher(bytes.expose()).ok()?;
        let bytes = bytes.expose().try_into().ok()?;
        Some(Self(Arc::new(Locked::new(Material { bytes, cipher }))))
    }

    /// The bytes themselves. Do not print, log or format what this returns.
    pub fn expose(&self) -> &[u8] {
        &self.0.bytes
    }

    /// HKDF-SHA256 (RFC 5869) without salt, info `atrest/kms/commit/v1`, 16 bytes: names the key
    /// without giving it away.
    pub fn commitment(&self) -> [u8; 16] {
        let mut commitment = [0; 16];
        Hkdf::<Sha256>::new(None, &self.0.bytes)
            .expand(COMMITMENT, &mut commitment)
            // HKDF-SHA256 gives up to 8,160 bytes.
            .expect("16 bytes are a valid length");
        commitment
    }

    pub(super) fn encrypt<'a>(
        &self,
        key_id: &KeyId,
        annotations: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, EncryptError> {
        if plaintext.len() > MAX_PLAINTEXT {
            return Err(EncryptError::TooLong(plaintext.len()));
        }
        let data = associated_data(key_id, annotations);
        let sealed = aead::seal(&self.0.cipher, &data, plaintext).map_err(|error| match error {
            aead::Error::Random(_) => EncryptError::Random,
            aead::Error::Refused => EncryptError::Cipher,
        })?;
        Ok([&HEADER[..], &sealed].concat())
    }

    pub(super) fn decrypt<'a>(
        &self,
        key_id: &KeyId,
        annotations: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        ciphertext: &[u8],
    ) -> Result<SecretBytes, DecryptError> {
        if ciphertext.len() > MAX_CIPHERTEXT {
            return Err(DecryptError);
        }
        let sealed = ciphertext.strip_prefix(&HEADER).ok_or(DecryptError)?;
        let data = associated_data(key_id, annotations);
        aead::open(&self.0.cipher, &data, sealed).map_err(|_| DecryptError)
    }
}

impl fmt::Debug for Kek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} secret bytes>", aead::KEY_LENGTH)
    }
}

impl PartialEq for Kek {
    /// Compares digests, so that time tells nothing about the bytes.
    fn eq(&self, other: &Self) -> bool {
        Fingerprint::of(&self.0.bytes) == Fingerprint::of(&other.0.bytes)
    }
}

impl Eq for Kek {}

fn associated_data<'a>(
    key_id: &KeyId,
    annotations: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> Vec<u8> {
    let mut annotations: Vec<_> = annotations.into_iter().collect();
    annotations.sort_unstable();
    let mut fields = vec![LABEL, key_id.as_str().as_bytes()];
    for (key, value) in annotations {
        fields.extend([key.as_bytes(), value]);
    }
    aead::associated_data(fields)
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    use super::*;

    fn kek() -> Kek {
        Kek::new(SecretBytes::new((0..32).collect())).unwrap()
    }

    fn key_id() -> KeyId {
        KeyId::new("0a1b2c3d".parse().unwrap(), 1, kek().commitment())
    }

    const ANNOTATIONS: [(&str, &[u8]); 2] = [("b.example", b"2"), ("a.example", b"1")];

    // The vectors were made by Go's crypto/hkdf and crypto/cipher.
    #[test]
    fn the_commitment_is_pinned() {
        assert_eq!(
            key_id().as_str(),
            "atrest1-0a1b2c3d-1-fxflsx4kyhzylsd45pycnxtx3m"
        );
    }

    #[test]
    fn associated_data_is_pinned() {
        let data = associated_data(&key_id(), ANNOTATIONS);
        assert_eq!(
            HEXLOWER.encode(&data),
            "0000000d6174726573742f6b6d732f76320000002d617472657374312d30613162326333642d312d6678666c7378346b79687a796c736434357079636e787478336d00000009612e6578616d706c65000000013100000009622e6578616d706c650000000132"
        );
    }

    #[test]
    fn the_ciphertext_is_pinned() {
        let data = associated_data(&key_id(), []);
        let nonce = std::array::from_fn(|i| 0xa0 + i as u8);
        let sealed = aead::seal_with_nonce(
            &kek().0.cipher,
            nonce,
            &data,
            b"thirty-two bytes of a test seed!",
        )
        .unwrap();
        let ciphertext = [&HEADER[..], &sealed].concat();
        assert_eq!(
            HEXLOWER.encode(&ciphertext),
            "0101a0a1a2a3a4a5a6a7a8a9aaab9270155f31b22fcb150aa7b17e0ea5ad50c33f30f3973609ef7a06f51ace112007e0dc6c0b6806633bc339fa7043e6cd"
        );
        let plaintext = kek().decrypt(&key_id(), [], &ciphertext).unwrap();
        assert_eq!(plaintext.expose(), b"thirty-two bytes of a test seed!");
    }

    #[test]
    fn the_longest_plaintext_makes_the_longest_ciphertext() {
        let ciphertext = kek().encrypt(&key_id(), [], &[7; MAX_PLAINTEXT]).unwrap();
        assert_eq!(ciphertext.len(), MAX_CIPHERTEXT);
        let result = kek().encrypt(&key_id(), [], &[7; MAX_PLAINTEXT + 1]);
        assert!(matches!(result, Err(EncryptError::TooLong(995))));
    }

    #[test]
    fn r14_equal_plaintexts_make_different_ciphertexts() {
        let [a, b] = [(); 2].map(|()| kek().encrypt(&key_id(), [], b"seed").unwrap());
        assert_ne!(a, b);
    }

    #[test]
    fn name_and_annotations_are_bound() {
        let ciphertext = kek().encrypt(&key_id(), ANNOTATIONS, b"seed").unwrap();
        let mut reversed = ANNOTATIONS;
        reversed.reverse();
        assert!(kek().decrypt(&key_id(), reversed, &ciphertext).is_ok());

        let renamed = KeyId::new("0a1b2c3d".parse().unwrap(), 2, kek().commitment());
        assert!(kek().decrypt(&renamed, ANNOTATIONS, &ciphertext).is_err());
        assert!(kek().decrypt(&key_id(), [], &ciphertext).is_err());
        assert!(
            kek()
                .decrypt(&key_id(), [("a.example", &b"1"[..])], &ciphertext)
                .is_err()
        );
        let moved: [(&str, &[u8]); 2] = [("b.example", b"1"), ("a.example", b"2")];
        assert!(kek().decrypt(&key_id(), moved, &ciphertext).is_err());
    }

    #[test]
    fn a_key_has_32_bytes() {
        assert!(Kek::new(SecretBytes::new(vec![0; 31])).is_none());
        assert!(Kek::new(SecretBytes::new(vec![0; 33])).is_none());
    }

    proptest! {
        #[test]
        fn what_was_encrypted_decrypts(plaintext in proptest::collection::vec(any::<u8>(), 0..=MAX_PLAINTEXT)) {
            let kek = Kek::generate().unwrap();
            let ciphertext = kek.encrypt(&key_id(), ANNOTATIONS, &plaintext).unwrap();
            prop_assert!(ciphertext.len() <= MAX_CIPHERTEXT);
            let decrypted = kek.decrypt(&key_id(), ANNOTATIONS, &ciphertext).unwrap();
            prop_assert_eq!(decrypted.expose(), plaintext);
        }

        #[test]
        fn garbage_is_refused(ciphertext in proptest::collection::vec(any::<u8>(), 0..1100)) {
            prop_assert!(kek().decrypt(&key_id(), [], &ciphertext).is_err());
        }
    }

    #[test]
    fn every_changed_or_missing_byte_is_refused() {
        let ciphertext = kek().encrypt(&key_id(), [], &[7; 32]).unwrap();
        for at in 0..ciphertext.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut changed = ciphertext.clone();
                changed[at] ^= flip;
                assert!(kek().decrypt(&key_id(), [], &changed).is_err(), "byte {at}");
            }
            assert!(
                kek().decrypt(&key_id(), [], &ciphertext[..at]).is_err(),
                "cut at {at}"
            );
        }
    }
}
