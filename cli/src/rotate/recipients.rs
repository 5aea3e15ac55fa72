//! Whom keys and plaintext are encrypted to, in the age format: what is kept outside of this machine.

use std::io::{self, Write};
use std::str::FromStr;

use age::stream::StreamWriter;
use age::x25519;
use atrest_core::secret::SecretBytes;

use crate::status::Failure;

/// Of `escrow.recipients`: public keys such as `age1...`.
pub(crate) struct Recipients(Vec<x25519::Recipient>);

impl Recipients {
    pub(crate) fn parse(names: &[String]) -> Result<Self, Failure> {
        let recipients = names.iter().map(|name| {
            x25519::Recipient::from_str(name).map_err(|_| {
                // Not quoted: a private key is put here easily.
                Failure::unusable("escrow.recipients holds what is no recipient of age")
                    .hint("a recipient is the public key that age-keygen prints: age1...")
            })
        });
        recipients.collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Encrypts what is written to it; [`StreamWriter::finish`] ends it.
    pub(crate) fn writer<W: Write>(&self, to: W) -> io::Result<StreamWriter<W>> {
        let recipients = self.0.iter().map(|it| it as &dyn age::Recipient);
        let encryptor = age::Encryptor::with_recipients(recipients).map_err(io::Error::other)?;
        encryptor.wrap_output(to)
    }

    /// Encrypts as a whole.
    pub(crate) fn encrypt(&self, bytes: &SecretBytes) -> io::Result<Vec<u8>> {
        let mut writer = self.writer(Vec::new())?;
        writer.write_all(bytes.expose())?;
        writer.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_recipient_is_refused_and_not_shown() {
        let private = "AGE-SECRET-KEY-1QQQ".to_owned();
        let Err(failure) = Recipients::parse(&[private]) else {
            panic!("it was taken");
        };
        let said = failure.to_string();
        assert!(
            said.contains("no recipient") && !said.contains("SECRET"),
            "{said}"
        );
    }

    #[test]
    fn only_its_identity_reads_it() {
        let [one, other] = [(); 2].map(|()| x25519::Identity::generate());
        let recipients = Recipients::parse(&[one.to_public().to_string()]).unwrap();
        let bytes = SecretBytes::new(b"a key".to_vec());
        let encrypted = recipients.encrypt(&bytes).unwrap();
        assert_eq!(age::decrypt(&one, &encrypted).unwrap(), bytes.expose());
        assert!(age::decrypt(&other, &encrypted).is_err());
    }
}
