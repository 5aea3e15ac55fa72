//! The public names of keyrings and keys.
//!
//! A key_id is `atrest1-<keyring id>-<generation>-<commitment>`: 8 lower-case hex digits, a decimal
//! number without leading zeros, and 16 bytes in lower-case base32 (RFC 4648, no padding, 26
//! characters). The commitment is HKDF-SHA256 of the key (see [`super::Kek::commitment`]), so that
//! a name never fits another key, and the number only rises, so that it is never given twice.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use rand::TryRng;

const PREFIX: &str = "atrest1";

/// The name of a keyring: 8 hex digits.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct KeyringId([u8; 4]);

impl KeyringId {
    pub(super) fn generate() -> Result<Self, rand::rngs::SysError> {
        let mut bytes = [0; 4];
        rand::rngs::SysRng.try_fill_bytes(&mut bytes)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for KeyringId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for KeyringId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for KeyringId {
    type Err = UnknownForm;

    fn from_str(text: &str) -> Result<Self, UnknownForm> {
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| UnknownForm)?;
        bytes.try_into().map(Self).map_err(|_| UnknownForm)
    }
}

/// Not a name of ours: another plugin's, or none at all.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a key_id of an atrest keyring")]
pub struct UnknownForm;

/// The name of a key: what Status and Encrypt report and kube-apiserver stores in clear.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct KeyId {
    text: String,
    keyring: KeyringId,
    generation: u32,
}

impl KeyId {
    pub(super) fn new(keyring: KeyringId, generation: u32, commitment: [u8; 16]) -> Self {
        let commitment = BASE32_NOPAD.encode(&commitment).to_ascii_lowercase();
        Self {
            text: format!("{PREFIX}-{keyring}-{generation}-{commitment}"),
            keyring,
            generation,
        }
    }

    /// As it goes over the wire.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The keyring that has the key.
    pub fn keyring(&self) -> KeyringId {
        self.keyring
    }

    /// The number of the key in its keyring.
    pub fn generation(&self) -> u32 {
        self.generation
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for KeyId {
    type Err = UnknownForm;

    /// Accepts exactly what [`KeyId::new`] makes.
    fn from_str(text: &str) -> Result<Self, UnknownForm> {
        let mut parts = text.split('-');
        let (Some(PREFIX), Some(keyring), Some(generation), Some(commitment), None) = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) else {
            return Err(UnknownForm);
        };
        let commitment = BASE32_NOPAD
            .decode(commitment.to_ascii_uppercase().as_bytes())
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(UnknownForm)?;
        let generation = generation.parse().map_err(|_| UnknownForm)?;
        let key_id = Self::new(keyring.parse()?, generation, commitment);
        // Upper case, a sign, a leading zero: the same key under a second name.
        if generation == 0 || key_id.text != text {
            return Err(UnknownForm);
        }
        Ok(key_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "atrest1-0a1b2c3d-12-aaaqeayeaudaocajbifqydiob4";

    #[test]
    fn a_key_id_has_one_form() {
        let made = KeyId::new(
            "0a1b2c3d".parse().unwrap(),
            12,
            std::array::from_fn(|i| i as u8),
        );
        assert_eq!(made.as_str(), GOOD);
        let read: KeyId = GOOD.parse().unwrap();
        assert_eq!(read, made);
        assert_eq!(
            (read.keyring().to_string().as_str(), read.generation()),
            ("0a1b2c3d", 12)
        );
    }

    #[test]
    fn what_has_another_form_is_no_key_id() {
        for bad in [
            "",
            "atrest1",
            "atrest2-0a1b2c3d-12-aaaqeayeaudaocajbifqydiob4",
            "atrest1-0A1B2C3D-12-aaaqeayeaudaocajbifqydiob4",
            "atrest1-0a1b2c-12-aaaqeayeaudaocajbifqydiob4",
            "atrest1-0a1b2c3d-012-aaaqeayeaudaocajbifqydiob4",
            "atrest1-0a1b2c3d-+12-aaaqeayeaudaocajbifqydiob4",
            "atrest1-0a1b2c3d-0-aaaqeayeaudaocajbifqydiob4",
            "atrest1-0a1b2c3d-4294967296-aaaqeayeaudaocajbifqydiob4",
            "atrest1-0a1b2c3d-12-AAAQEAYEAUDAOCAJBIFQYDIOB4",
            "atrest1-0a1b2c3d-12-aaaqeayeaudaocajbifqydiob5", // bits behind the last byte
            "atrest1-0a1b2c3d-12-aaaqeayeaudaocajbifqydiob4======",
            "atrest1-0a1b2c3d-12-aaaqeayeaudaocajbifqydi",
            "atrest1-0a1b2c3d-12-aaaqeayeaudaocajbifqydiob4-",
            " atrest1-0a1b2c3d-12-aaaqeayeaudaocajbifqydiob4",
        ] {
            assert_eq!(bad.parse::<KeyId>(), Err(UnknownForm), "{bad}");
        }
    }
}
