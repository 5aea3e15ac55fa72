//! The seal of a keyring file: which secret opens it and how a key is made of that secret.
//!
//! | kind | the secret | key |
//! |---|---|---|
//! | `credential` | a systemd credential's bytes | HKDF-SHA256 (salt of the file, info `atrest/keyring/seal/v1`) |
//! | `key-file` | a file's bytes, all of them | the same |
//! | `passphrase-file` | a file's bytes without the line end behind them | Argon2id 1.3, parameters and salt of the file |
//! | `none` | none | none: the keys stand in the file |

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use hkdf::Hkdf;
use rand::TryRng;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::{Error, aead};
use crate::secret::SecretBytes;

const INFO: &[u8] = b"atrest/keyring/seal/v1";

/// A file of random bytes shorter than the key made of it was cut off, or is no such file.
const MIN_KEY_FILE: usize = 32;
const MIN_PASSPHRASE: usize = 12;

/// What keeps a keyring file from being read by whoever has it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum SealKind {
    /// A systemd credential (`LoadCredentialEncrypted=`).
    Credential,
    /// A file of at least 32 random bytes, kept apart from the keyring.
    KeyFile,
    /// A file with a passphrase.
    PassphraseFile,
    /// Nothing but the file's mode.
    None,
}

impl SealKind {
    /// Its name in the file and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Credential => "credential",
            Self::KeyFile => "key-file",
            Self::PassphraseFile => "passphrase-file",
            Self::None => "none",
        }
    }

    fn minimum(self) -> usize {
        match self {
            Self::Credential | Self::KeyFile => MIN_KEY_FILE,
            Self::PassphraseFile => MIN_PASSPHRASE,
            Self::None => 0,
        }
    }
}

impl fmt::Display for SealKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The kind of a seal and its public parameters. Made by [`Seal::new`], kept as long as the
/// keyring lives.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Seal(pub(super) Form);

/// As it stands in the file, under `seal`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Form {
    Credential {
        kdf: HkdfSha256,
        salt: Salt,
    },
    KeyFile {
        kdf: HkdfSha256,
        salt: Salt,
    },
    PassphraseFile {
        kdf: Argon2id,
        memory_kib: u32,
        passes: u32,
        lanes: u32,
        salt: Salt,
    },
    None {},
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) enum HkdfSha256 {
    #[serde(rename = "hkdf-sha256")]
    Name,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) enum Argon2id {
    #[serde(rename = "argon2id")]
    Name,
}

/// 16 bytes in base64.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Salt(pub(super) [u8; 16]);

impl TryFrom<String> for Salt {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = data_encoding::BASE64.decode(text.as_bytes()).ok();
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or("not 16 bytes in base64")
    }
}

impl From<Salt> for String {
    fn from(salt: Salt) -> Self {
        data_encoding::BASE64.encode(&salt.0)
    }
}

/// The second choice of RFC 9106, section 4: 64 MiB, 3 passes, 4 lanes.
const ARGON2ID: (u32, u32, u32) = (64 << 10, 3, 4);

/// What a file may ask of the machine that opens it.
const MAX_ARGON2ID: (u32, u32, u32) = (1 << 20, 16, 16);

impl Seal {
    /// A seal of this kind with a fresh salt.
    pub fn new(kind: SealKind) -> Result<Self, Error> {
        let mut salt = Salt([0; 16]);
        rand::rngs::SysRng
            .try_fill_bytes(&mut salt.0)
            .map_err(Error::Random)?;
        let (memory_kib, passes, lanes) = ARGON2ID;
        Ok(Self(match kind {
            SealKind::Credential => Form::Credential {
                kdf: HkdfSha256::Name,
                salt,
            },
            SealKind::KeyFile => Form::KeyFile {
                kdf: HkdfSha256::Name,
                salt,
            },
            SealKind::PassphraseFile => Form::PassphraseFile {
                kdf: Argon2id::Name,
                memory_kib,
                passes,
                lanes,
                salt,
            },
            SealKind::None => Form::None {},
        }))
    }

    /// Which it is.
    pub fn kind(&self) -> SealKind {
        match self.0 {
            Form::Credential { .. } => SealKind::Credential,
            Form::KeyFile { .. } => SealKind::KeyFile,
            Form::PassphraseFile { .. } => SealKind::PassphraseFile,
            Form::None {} => SealKind::None,
        }
    }

    /// Makes the key of what the operator gave: its kind and its bytes, or nothing. A passphrase
    /// takes a tenth of a second and 64 MiB.
    ///
    /// The kind must be the seal's: somebody who can replace the file must not be able to choose
    /// how it is protected.
    pub fn key(&self, given: Option<(SealKind, &SecretBytes)>) -> Result<SealKey, Error> {
        let kind = self.kind();
        let (given, secret) = match given {
            None if kind == SealKind::None => return Ok(SealKey(None)),
            None => return Err(Error::Sealed(kind)),
            Some(given) => given,
        };
        if given != kind {
            return Err(Error::OtherSeal { found: kind, given });
        }
        let secret = match kind {
            SealKind::PassphraseFile => without_line_end(secret.expose()),
            _ => secret.expose(),
        };
        let minimum = kind.minimum();
        if secret.len() < minimum {
            return Err(Error::WeakSecret { kind, minimum });
        }
        let mut key = vec![0; aead::KEY_LENGTH];
        match &self.0 {
            Form::None {} => return Ok(SealKey(None)),
            Form::Credential { salt, .. } | Form::KeyFile { salt, .. } => {
                Hkdf::<Sha256>::new(Some(&salt.0), secret)
                    .expand(INFO, &mut key)
                    // HKDF-SHA256 gives up to 8,160 bytes.
                    .expect("32 bytes are a valid length");
            }
            Form::PassphraseFile {
                memory_kib,
                passes,
                lanes,
                salt,
                ..
            } => {
                argon2id(*memory_kib, *passes, *lanes)?
                    .hash_password_into(secret, &salt.0, &mut key)
                    .map_err(|_| Error::invalid("seal", "Argon2id refuses its parameters"))?;
            }
        }
        Ok(SealKey(Some(SecretBytes::new(key))))
    }

    /// Refuses parameters that no file of ours has.
    pub(super) fn check(&self) -> Result<(), Error> {
        match self.0 {
            Form::PassphraseFile {
                memory_kib,
                passes,
                lanes,
                ..
            } => argon2id(memory_kib, passes, lanes).map(drop),
            _ => Ok(()),
        }
    }

    /// The fields that a sealed file authenticates, in this order: kind, key derivation, its
    /// parameters, salt. Numbers are big-endian `u32`.
    pub(super) fn fields(&self) -> Vec<Vec<u8>> {
        let mut fields = vec![self.kind().name().into()];
        match &self.0 {
            Form::None {} => {}
            Form::Credential { salt, .. } | Form::KeyFile { salt, .. } => {
                fields.extend([b"hkdf-sha256".to_vec(), salt.0.to_vec()]);
            }
            Form::PassphraseFile {
                memory_kib,
                passes,
                lanes,
                salt,
                ..
            } => {
                fields.push(b"argon2id".to_vec());
                fields.extend(
                    [memory_kib, passes, lanes].map(|number| number.to_be_bytes().to_vec()),
                );
                fields.push(salt.0.to_vec());
            }
        }
        fields
    }
}

/// What opens and closes the seal of one keyring; nothing for an unsealed one.
#[derive(Clone, Debug)]
pub struct SealKey(pub(super) Option<SecretBytes>);

fn argon2id(memory_kib: u32, passes: u32, lanes: u32) -> Result<Argon2<'static>, Error> {
    let unfit = || Error::invalid("seal", "its Argon2id parameters are out of range");
    if memory_kib > MAX_ARGON2ID.0 || passes > MAX_ARGON2ID.1 || lanes > MAX_ARGON2ID.2 {
        return Err(unfit());
    }
    let parameters =
        Params::new(memory_kib, passes, lanes, Some(aead::KEY_LENGTH)).map_err(|_| unfit())?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters))
}

/// Editors and `echo` leave one behind.
fn without_line_end(text: &[u8]) -> &[u8] {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.strip_suffix(b"\r").unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    const SALT: Salt = Salt([
        0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8b, 0x8c, 0x8d, 0x8e,
        0x8f,
    ]);

    fn key(seal: &Seal, secret: &[u8]) -> String {
        let secret = SecretBytes::new(secret.to_vec());
        let SealKey(key) = seal.key(Some((seal.kind(), &secret))).unwrap();
        HEXLOWER.encode(key.unwrap().expose())
    }

    fn passphrase() -> Seal {
        Seal(Form::PassphraseFile {
            kdf: Argon2id::Name,
            memory_kib: 64,
            passes: 3,
            lanes: 4,
            salt: SALT,
        })
    }

    // The vectors were made by Go's crypto/hkdf and golang.org/x/crypto/argon2.
    #[test]
    fn the_key_of_a_key_file_is_pinned() {
        let secret: Vec<u8> = (0x40..0x60).collect();
        for seal in [
            Seal(Form::KeyFile {
                kdf: HkdfSha256::Name,
                salt: SALT,
            }),
            Seal(Form::Credential {
                kdf: HkdfSha256::Name,
                salt: SALT,
            }),
        ] {
            assert_eq!(
                key(&seal, &secret),
                "eb6e790b8a9d72a5bae37f799c53701beb9a6b0e7c9e4acc1f970e5c73101f64"
            );
        }
    }

    #[test]
    fn the_key_of_a_passphrase_is_pinned() {
        let expected = "44b8b018dd13632360568f4a2366255e410f781454d347c5f1086f0f439760f2";
        for text in [
            "correct horse battery",
            "correct horse battery\n",
            "correct horse battery\r\n",
        ] {
            assert_eq!(key(&passphrase(), text.as_bytes()), expected);
        }
        assert_ne!(key(&passphrase(), b"correct horse battery\n\n"), expected);
    }

    #[test]
    fn what_is_too_short_is_refused() {
        for (kind, minimum) in [
            (SealKind::Credential, 32),
            (SealKind::KeyFile, 32),
            (SealKind::PassphraseFile, 12),
        ] {
            let seal = Seal::new(kind).unwrap();
            let secret = SecretBytes::new(vec![b'x'; minimum - 1]);
            let result = seal.key(Some((kind, &secret)));
            assert!(matches!(result, Err(Error::WeakSecret { .. })), "{kind}");
        }
    }

    #[test]
    fn the_operator_says_which_kind_it_is() {
        let secret = SecretBytes::new(vec![7; 32]);
        let kinds = [
            SealKind::Credential,
            SealKind::KeyFile,
            SealKind::PassphraseFile,
            SealKind::None,
        ];
        for kind in kinds {
            let seal = Seal::new(kind).unwrap();
            for given in kinds.into_iter().filter(|given| *given != kind) {
                let result = seal.key(Some((given, &secret)));
                assert!(
                    matches!(result, Err(Error::OtherSeal { .. })),
                    "{kind} {given}"
                );
            }
            assert_eq!(seal.key(None).is_ok(), kind == SealKind::None);
        }
    }

    #[test]
    fn two_seals_have_two_salts() {
        assert_ne!(
            Seal::new(SealKind::KeyFile).unwrap(),
            Seal::new(SealKind::KeyFile).unwrap()
        );
    }
}
