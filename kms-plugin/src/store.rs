//! The keyring file on disk: reads it with the secret that opens it, and replaces it whole.

use std::path::PathBuf;

use atrest_core::keyring::{Error, Keyring, KeyringFile, Seal, SealKey, SealKind};
use atrest_core::secret::{Fingerprint, SecretBytes};

use crate::args::{KeyringArgs, UnsealArgs};
use crate::status::Failure;

/// Where a keyring is, and where the secret that opens it.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    path: PathBuf,
    secret: Option<(SealKind, PathBuf)>,
}

/// A keyring as it was read.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) keyring: Keyring,
    pub(crate) seal: Seal,
    key: SealKey,
    /// Of the file's bytes.
    pub(crate) fingerprint: Fingerprint,
}

impl Store {
    /// Resolves what was typed; nothing is read yet.
    pub(crate) fn new(args: &KeyringArgs) -> Result<Self, Failure> {
        Ok(Self {
            path: args.path.clone(),
            secret: secret_path(&args.unseal)?,
        })
    }

    /// The kind of secret that was named.
    pub(crate) fn secret_kind(&self) -> SealKind {
        self.secret
            .as_ref()
            .map_or(SealKind::None, |(kind, _)| *kind)
    }

    /// Reads and opens the keyring.
    pub(crate) fn load(&self) -> Result<Loaded, Failure> {
        let text = self.read()?;
        let secret = self.read_secret()?;
        self.open(&text, secret.as_ref())
    }

    /// Reads the file as it is.
    pub(crate) fn read(&self) -> Result<SecretBytes, Failure> {
        atrest_files::read(&self.path).map_err(|error| {
            let missing = error.kind() == Some(std::io::ErrorKind::NotFound);
            let failure = Failure::unusable(error);
            if missing {
                failure.hint(
                    "`atrest-kms keyring init` makes a new one; a lost one comes from its backup",
                )
            } else {
                failure
            }
        })
    }

    /// Reads the secret that was named, if one was.
    pub(crate) fn read_secret(&self) -> Result<Option<SecretBytes>, Failure> {
        let Some((_, path)) = &self.secret else {
            return Ok(None);
        };
        atrest_files::read(path)
            .map(Some)
            .map_err(Failure::unusable)
    }

    /// Makes a keyring of what was read.
    pub(crate) fn open(
        &self,
        text: &SecretBytes,
        secret: Option<&SecretBytes>,
    ) -> Result<Loaded, Failure> {
        let file = KeyringFile::parse(text).map_err(|error| self.failure(error))?;
        let seal = file.seal().clone();
        let key = self.seal_key(&seal, secret)?;
        let keyring = file.open(&key).map_err(|error| self.failure(error))?;
        Ok(Loaded {
            keyring,
            seal,
            key,
            fingerprint: text.fingerprint(),
        })
    }

    fn seal_key(&self, seal: &Seal, secret: Option<&SecretBytes>) -> Result<SealKey, Failure> {
        let given = secret.map(|secret| (self.secret_kind(), secret));
        seal.key(given).map_err(|error| self.failure(error))
    }

    /// Writes a new keyring; a file that is there already stays as it is.
    pub(crate) fn create(&self, keyring: Keyring, kind: SealKind) -> Result<Loaded, Failure> {
        let seal = Seal::new(kind).map_err(|error| self.failure(error))?;
        let secret = self.read_secret()?;
        let key = self.seal_key(&seal, secret.as_ref())?;
        let text = self.render(&keyring, &seal, &key)?;
        atrest_files::create(&self.path, text.expose()).map_err(|error| {
            let exists = error.kind() == Some(std::io::ErrorKind::AlreadyExists);
            let failure = Failure::unusable(error);
            if exists {
                failure.hint(
                    "a keyring is never overwritten: Secrets may need its keys; name another file",
                )
            } else {
                failure
            }
        })?;
        Ok(Loaded {
            keyring,
            seal,
            key,
            fingerprint: text.fingerprint(),
        })
    }

    /// Replaces the file that was read as `loaded` by what `loaded` is now.
    pub(crate) fn replace(&self, loaded: &Loaded) -> Result<(), Failure> {
        let text = self.render(&loaded.keyring, &loaded.seal, &loaded.key)?;
        atrest_files::replace(&self.path, text.expose(), Some(loaded.fingerprint))
            .map_err(Failure::unusable)
    }

    /// The text to be written, which opens again: a keyring that does not would lose its keys.
    fn render(
        &self,
        keyring: &Keyring,
        seal: &Seal,
        key: &SealKey,
    ) -> Result<SecretBytes, Failure> {
        let text = keyring
            .to_file(seal, key)
            .map_err(|error| self.failure(error))?;
        let read = KeyringFile::parse(&text).and_then(|file| file.open(key));
        match read {
            Ok(read) if read == *keyring => Ok(text),
            _ => Err(Failure::unusable(
                "the keyring does not come back from its own form; nothing was written",
            )),
        }
    }

    /// Names the file and says what to do.
    pub(crate) fn failure(&self, error: Error) -> Failure {
        let hint = match &error {
            Error::TooLarge | Error::NotAKeyring { .. } => {
                "name a keyring that `atrest-kms keyring init` made"
            }
            Error::NotJson { .. } | Error::Invalid { .. } => {
                "put the file back from its backup; a keyring is not edited by hand"
            }
            Error::Sealed(SealKind::Credential) => "name the credential with --credential",
            Error::Sealed(SealKind::KeyFile) => "name the key file with --key-file",
            Error::Sealed(_) => "name the passphrase's file with --passphrase-file",
            Error::OtherSeal {
                found: SealKind::None,
                ..
            } => {
                "somebody may have exchanged the file; if it is the right one, leave the option out"
            }
            Error::OtherSeal { .. } => "use the option of the keyring's own seal",
            Error::WeakSecret {
                kind: SealKind::PassphraseFile,
                ..
            } => "choose a longer passphrase",
            Error::WeakSecret { .. } => "make it of random bytes: head -c 32 /dev/urandom",
            Error::Unsealing => {
                "name the secret that the keyring was made with, or put the file back from its backup"
            }
            Error::NoGeneration(_) | Error::Retired(_) => {
                "`atrest-kms keyring list` shows what there is"
            }
            _ => return Failure::unusable(format!("keyring {}: {error}", self.path.display())),
        };
        Failure::unusable(format!("keyring {}: {error}", self.path.display())).hint(hint)
    }
}

fn secret_path(args: &UnsealArgs) -> Result<Option<(SealKind, PathBuf)>, Failure> {
    if let Some(path) = &args.key_file {
        return Ok(Some((SealKind::KeyFile, path.clone())));
    }
    if let Some(path) = &args.passphrase_file {
        return Ok(Some((SealKind::PassphraseFile, path.clone())));
    }
    let Some(name) = &args.credential else {
        return Ok(None);
    };
    if name.is_empty() || name.contains('/') || name == "." || name == ".." {
        return Err(Failure::unusable(
            "a credential's name is a file name, not a path",
        ));
    }
    let directory = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| {
        Failure::unusable("there are no credentials: CREDENTIALS_DIRECTORY is not set")
            .hint("systemd sets it in a unit with LoadCredentialEncrypted= or LoadCredential=")
    })?;
    Ok(Some((
        SealKind::Credential,
        PathBuf::from(directory).join(name),
    )))
}
