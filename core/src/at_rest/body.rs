//! What stands behind a value's prefix: the ciphers of kube-apiserver's providers, decoded and
//! encoded (`k8s.io/apiserver` `pkg/storage/value/encrypt/{aes,secretbox}`).
//!
//! ```text
//! aesgcm     nonce (12) || ciphertext || tag (16)           bound to the storage key
//! aescbc     IV (16) || ciphertext, PKCS#7 padded           authenticates nothing
//! secretbox  nonce (24) || tag (16) || ciphertext           not bound to the storage key
//! seed       info (32) || aesgcm under HKDF-Expand(seed, info)
//! ```

use aes_gcm::aead::consts::{U12, U16};
use aes_gcm::aead::{Aead, Payload};
use aes_gcm::aes::{Aes128, Aes192, Aes256};
use aes_gcm::{AesGcm, KeyInit};
use cbc::cipher::{
    Array, BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, KeyIvInit,
};
use crypto_secretbox::XSalsa20Poly1305;
use crypto_secretbox::aead::{Aead as _, KeyInit as _};
use hkdf::Hkdf;
use rand::TryRng;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::secret::SecretBytes;

const GCM_NONCE: usize = 12;
const BLOCK: usize = 16;
const SECRETBOX_NONCE: usize = 24;
const SECRETBOX_OVERHEAD: usize = SECRETBOX_NONCE + 16;
/// Random bytes from which each write derives a key of its own.
const INFO: usize = 32;

/// Why a body was not decoded or encoded.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// Cut off, or never written by this provider.
    #[error("it is shorter than any value of this provider")]
    TooShort,
    /// Of a block cipher: cut off.
    #[error("its length is not a multiple of the block size")]
    BlockSize,
    /// Of a block cipher: another key, or changed bytes.
    #[error("its padding is not valid")]
    Padding,
    /// Another key, another storage key, or changed bytes.
    #[error("it is not authentic")]
    Refused,
    /// The plugin gave a data-encryption key that the cipher has no use for.
    #[error("the key has {0} bytes")]
    KeyLength(usize),
    /// `getrandom` is not there or is forbidden.
    #[error("the operating system's generator gives no random bytes")]
    Random,
}

/// Decodes AES-GCM; the key has 16, 24 or 32 bytes.
pub(super) fn open_gcm(
    key: &SecretBytes,
    storage_key: &[u8],
    body: &[u8],
) -> Result<SecretBytes, BodyError> {
    let (nonce, ciphertext) = body
        .split_first_chunk::<GCM_NONCE>()
        .ok_or(BodyError::TooShort)?;
    let payload = Payload {
        msg: ciphertext,
        aad: storage_key,
    };
    with_gcm(key, |cipher| cipher.decrypt(nonce, payload)).map(SecretBytes::new)
}

/// Encodes AES-GCM with a random nonce.
pub(super) fn seal_gcm(
    key: &SecretBytes,
    storage_key: &[u8],
    plaintext: &[u8],
) -> Result<Vec<u8>, BodyError> {
    let nonce = random::<GCM_NONCE>()?;
    let payload = Payload {
        msg: plaintext,
        aad: storage_key,
    };
    let ciphertext = with_gcm(key, |cipher| cipher.encrypt(&nonce, payload))?;
    Ok([&nonce[..], &ciphertext].concat())
}

/// AES-GCM under a key of any of its three lengths.
trait Gcm {
    fn decrypt(&self, nonce: &[u8; GCM_NONCE], payload: Payload<'_, '_>) -> Option<Vec<u8>>;
    fn encrypt(&self, nonce: &[u8; GCM_NONCE], payload: Payload<'_, '_>) -> Option<Vec<u8>>;
}

impl<C> Gcm for AesGcm<C, U12>
where
    Self: Aead<NonceSize = U12>,
{
    fn decrypt(&self, nonce: &[u8; GCM_NONCE], payload: Payload<'_, '_>) -> Option<Vec<u8>> {
        Aead::decrypt(self, nonce.into(), payload).ok()
    }

    fn encrypt(&self, nonce: &[u8; GCM_NONCE], payload: Payload<'_, '_>) -> Option<Vec<u8>> {
        Aead::encrypt(self, nonce.into(), payload).ok()
    }
}

fn with_gcm(
    key: &SecretBytes,
    act: impl FnOnce(&dyn Gcm) -> Option<Vec<u8>>,
) -> Result<Vec<u8>, BodyError> {
    let length = |_| BodyError::KeyLength(key.len());
    let key = key.expose();
    let done = match key.len() {
        16 => act(&AesGcm::<Aes128, U12>::new_from_slice(key).map_err(length)?),
        24 => act(&AesGcm::<Aes192, U12>::new_from_slice(key).map_err(length)?),
        _ => act(&AesGcm::<Aes256, U12>::new_from_slice(key).map_err(length)?),
    };
    done.ok_or(BodyError::Refused)
}

/// Decodes AES-CBC as kube-apiserver does: padding may be longer than a block. Nothing proves that
/// what comes out is what went in: one wrong key in 256 yields bytes.
pub(super) fn open_cbc(key: &SecretBytes, body: &[u8]) -> Result<SecretBytes, BodyError> {
    let (iv, ciphertext) = body
        .split_first_chunk::<BLOCK>()
        .ok_or(BodyError::TooShort)?;
    if !ciphertext.len().is_multiple_of(BLOCK) {
        return Err(BodyError::BlockSize);
    }
    let mut blocks = Zeroizing::new(ciphertext.to_vec());
    let (chunks, _) = blocks.as_chunks_mut::<BLOCK>();
    match key.len() {
        16 => decrypt_blocks::<Aes128>(key, iv, chunks),
        24 => decrypt_blocks::<Aes192>(key, iv, chunks),
        _ => decrypt_blocks::<Aes256>(key, iv, chunks),
    }?;
    // Of a body without a block (which kube-apiserver panics over) there is no last byte.
    let padding = blocks.last().copied().ok_or(BodyError::TooShort)?;
    let length = usize::from(padding);
    let start = blocks.len().checked_sub(length).filter(|_| length > 0);
    let start = start.ok_or(BodyError::Padding)?;
    if blocks[start..].iter().any(|byte| *byte != padding) {
        return Err(BodyError::Padding);
    }
    Ok(SecretBytes::new(blocks[..start].to_vec()))
}

/// Encodes AES-CBC with a random IV.
pub(super) fn seal_cbc(key: &SecretBytes, plaintext: &[u8]) -> Result<Vec<u8>, BodyError> {
    let iv = random::<BLOCK>()?;
    let padding = BLOCK - plaintext.len() % BLOCK;
    let mut blocks = Zeroizing::new(Vec::with_capacity(plaintext.len() + padding));
    blocks.extend_from_slice(plaintext);
    // At most a block's length.
    blocks.resize(plaintext.len() + padding, padding as u8);
    let (chunks, _) = blocks.as_chunks_mut::<BLOCK>();
    match key.len() {
        16 => encrypt_blocks::<Aes128>(key, &iv, chunks),
        24 => encrypt_blocks::<Aes192>(key, &iv, chunks),
        _ => encrypt_blocks::<Aes256>(key, &iv, chunks),
    }?;
    Ok([&iv[..], &blocks].concat())
}

fn decrypt_blocks<C>(
    key: &SecretBytes,
    iv: &[u8; BLOCK],
    chunks: &mut [[u8; BLOCK]],
) -> Result<(), BodyError>
where
    cbc::Decryptor<C>: KeyIvInit + BlockModeDecrypt<BlockSize = U16>,
    C: BlockCipherDecrypt,
{
    cbc::Decryptor::<C>::new_from_slices(key.expose(), iv)
        .map_err(|_| BodyError::KeyLength(key.len()))?
        .decrypt_blocks(Array::cast_slice_from_core_mut(chunks));
    Ok(())
}

fn encrypt_blocks<C>(
    key: &SecretBytes,
    iv: &[u8; BLOCK],
    chunks: &mut [[u8; BLOCK]],
) -> Result<(), BodyError>
where
    cbc::Encryptor<C>: KeyIvInit + BlockModeEncrypt<BlockSize = U16>,
    C: BlockCipherEncrypt,
{
    cbc::Encryptor::<C>::new_from_slices(key.expose(), iv)
        .map_err(|_| BodyError::KeyLength(key.len()))?
        .encrypt_blocks(Array::cast_slice_from_core_mut(chunks));
    Ok(())
}

/// Decodes XSalsa20-Poly1305; the key has 32 bytes.
pub(super) fn open_secretbox(key: &SecretBytes, body: &[u8]) -> Result<SecretBytes, BodyError> {
    if body.len() < SECRETBOX_OVERHEAD {
        return Err(BodyError::TooShort);
    }
    let (nonce, ciphertext) = body.split_at(SECRETBOX_NONCE);
    secretbox(key)?
        .decrypt(nonce.into(), ciphertext)
        .map(SecretBytes::new)
        .map_err(|_| BodyError::Refused)
}

/// Encodes XSalsa20-Poly1305 with a random nonce.
pub(super) fn seal_secretbox(key: &SecretBytes, plaintext: &[u8]) -> Result<Vec<u8>, BodyError> {
    let nonce = random::<SECRETBOX_NONCE>()?;
    let ciphertext = secretbox(key)?
        .encrypt((&nonce).into(), plaintext)
        .map_err(|_| BodyError::Refused)?;
    Ok([&nonce[..], &ciphertext].concat())
}

fn secretbox(key: &SecretBytes) -> Result<XSalsa20Poly1305, BodyError> {
    XSalsa20Poly1305::new_from_slice(key.expose()).map_err(|_| BodyError::KeyLength(key.len()))
}

/// Decodes what KMS v2 writes since Kubernetes 1.29: each value under a key of its own, expanded
/// from the seed, which is the pseudorandom key itself and has 32 bytes or more.
pub(super) fn open_seeded(
    seed: &SecretBytes,
    storage_key: &[u8],
    body: &[u8],
) -> Result<SecretBytes, BodyError> {
    let (info, body) = body
        .split_first_chunk::<INFO>()
        .ok_or(BodyError::TooShort)?;
    open_gcm(&expand(seed, info)?, storage_key, body)
}

/// Encodes under a key expanded from the seed by random bytes.
pub(super) fn seal_seeded(
    seed: &SecretBytes,
    storage_key: &[u8],
    plaintext: &[u8],
) -> Result<Vec<u8>, BodyError> {
    let info = random::<INFO>()?;
    let sealed = seal_gcm(&expand(seed, &info)?, storage_key, plaintext)?;
    Ok([&info[..], &sealed].concat())
}

fn expand(seed: &SecretBytes, info: &[u8; INFO]) -> Result<SecretBytes, BodyError> {
    let wrong = |_| BodyError::KeyLength(seed.len());
    if seed.len() < 32 {
        return Err(BodyError::KeyLength(seed.len()));
    }
    let hkdf = Hkdf::<Sha256>::from_prk(seed.expose()).map_err(wrong)?;
    let mut key = Zeroizing::new(vec![0; 32]);
    hkdf.expand(info, &mut key)
        .map_err(|_| BodyError::KeyLength(32))?;
    Ok(SecretBytes::new(std::mem::take(&mut *key)))
}

fn random<const LENGTH: usize>() -> Result<[u8; LENGTH], BodyError> {
    let mut bytes = [0; LENGTH];
    rand::rngs::SysRng
        .try_fill_bytes(&mut bytes)
        .map_err(|_| BodyError::Random)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(length: usize) -> SecretBytes {
        SecretBytes::new((0..length as u8).collect())
    }

    const PLACE: &[u8] = b"/registry/secrets/default/db";

    fn text(opened: Result<SecretBytes, BodyError>) -> Vec<u8> {
        opened.unwrap().expose().to_vec()
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens(plaintext in proptest::collection::vec(any::<u8>(), 0..100)) {
            for length in [16, 24, 32] {
                let key = key(length);
                let sealed = seal_gcm(&key, PLACE, &plaintext).unwrap();
                prop_assert_eq!(&text(open_gcm(&key, PLACE, &sealed)), &plaintext);
                prop_assert_eq!(open_gcm(&key, b"/elsewhere", &sealed), Err(BodyError::Refused));
                let sealed = seal_cbc(&key, &plaintext).unwrap();
                prop_assert_eq!(&text(open_cbc(&key, &sealed)), &plaintext);
            }
            let sealed = seal_secretbox(&key(32), &plaintext).unwrap();
            prop_assert_eq!(&text(open_secretbox(&key(32), &sealed)), &plaintext);
            for length in [32, 33, 64] {
                let seed = key(length);
                let sealed = seal_seeded(&seed, PLACE, &plaintext).unwrap();
                prop_assert_eq!(&text(open_seeded(&seed, PLACE, &sealed)), &plaintext);
                let moved = open_seeded(&seed, b"/elsewhere", &sealed);
                prop_assert_eq!(moved, Err(BodyError::Refused));
            }
        }

        #[test]
        fn hostile_bytes_do_not_open(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(open_gcm(&key(32), PLACE, &body).is_err());
            prop_assert!(open_secretbox(&key(32), &body).is_err());
            prop_assert!(open_seeded(&key(32), PLACE, &body).is_err());
            let _ = open_cbc(&key(32), &body);
        }
    }

    #[test]
    fn lengths_are_checked() {
        assert_eq!(
            open_gcm(&key(32), PLACE, &[0; 11]),
            Err(BodyError::TooShort)
        );
        assert_eq!(
            open_gcm(&key(17), PLACE, &[0; 40]),
            Err(BodyError::KeyLength(17))
        );
        assert_eq!(open_cbc(&key(32), &[0; 15]), Err(BodyError::TooShort));
        // An IV and nothing else: upstream panics.
        assert_eq!(open_cbc(&key(32), &[0; 16]), Err(BodyError::TooShort));
        assert_eq!(open_cbc(&key(32), &[0; 33]), Err(BodyError::BlockSize));
        assert_eq!(open_secretbox(&key(32), &[0; 39]), Err(BodyError::TooShort));
        assert_eq!(
            open_secretbox(&key(16), &[0; 40]),
            Err(BodyError::KeyLength(16))
        );
        assert_eq!(
            open_seeded(&key(31), PLACE, &[0; 80]),
            Err(BodyError::KeyLength(31))
        );
        assert_eq!(
            open_seeded(&key(32), PLACE, &[0; 31]),
            Err(BodyError::TooShort)
        );
    }

    #[test]
    fn padding_may_be_longer_than_a_block() {
        let mut blocks = b"xxxxxxxxxxxx".to_vec();
        blocks.resize(32, 20);
        // Encoded without padding of its own: what seal_cbc adds is cut off again.
        let sealed = seal_cbc(&key(32), &blocks).unwrap();
        let sealed = &sealed[..BLOCK + 32];
        assert_eq!(
            open_cbc(&key(32), sealed).unwrap().expose(),
            b"xxxxxxxxxxxx"
        );
    }
}
