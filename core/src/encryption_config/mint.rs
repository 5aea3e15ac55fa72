//! New keys of local providers.

use jiff::civil::Date;

use super::model::Key;
use crate::secret::SecretBytes;

/// Why no key could be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MintError {
    /// `getrandom` is not there or is forbidden, by a seccomp profile for one.
    #[error("the operating system's generator gives no random bytes: {0}")]
    Generator(rand::rngs::SysError),
}

impl Key {
    /// A new key of `length` bytes (16, 24 or 32; 32 for secretbox) from the operating system's
    /// generator. Its name tells keys apart and says how old they are: the date and the start of
    /// the key's SHA-256, `20261122-0f3a9c41`.
    pub fn mint(length: usize, date: Date) -> Result<Self, MintError> {
        let secret = SecretBytes::generate(length).map_err(MintError::Generator)?;
        let name = format!(
            "{}-{}",
            date.strftime("%Y%m%d"),
            secret.fingerprint().short(8)
        );
        Ok(Self { name, secret })
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn a_key_is_named_after_its_day_and_its_digest() {
        let key = Key::mint(32, date(2026, 3, 9)).unwrap();
        assert_eq!(key.secret.len(), 32);
        let digest = key.secret.fingerprint().to_string();
        assert_eq!(key.name, format!("20260309-{}", &digest[..8]));
    }

    #[test]
    fn no_two_keys_are_the_same() {
        let [a, b] = [(); 2].map(|()| Key::mint(32, date(2026, 3, 9)).unwrap());
        assert_ne!(a.name, b.name);
        assert_ne!(a.secret, b.secret);
    }
}
