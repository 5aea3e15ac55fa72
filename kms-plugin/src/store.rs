//! The keyring file on disk: reads it with the secret that opens it, and replaces it whole.

use std::path::{Path, PathBuf};

use atrest_core::keyring::{Error, Keyring, KeyringFile, Seal, SealKey, SealKind, Sign};
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

    /// The keyring in another file, opened by the same secret.
    pub(crate) fn at(&self, path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            secret: self.secret.clone(),
        }
    }

    /// Whether the file is there, whatever it holds.
    pub(crate) fn exists(&self) -> bool {
        std::fs::symlink_metadata(&self.path).is_ok()
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

    /// The sign of a newer keyring that was seen, kept beside the file; `None` where there is none
    /// that this keyring does not know of.
    pub(crate) fn sign(&self, keyring: &Keyring) -> Result<Option<Sign>, Failure> {
        let path = self.mark_path();
        let text = match atrest_files::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == Some(std::io::ErrorKind::NotFound) => return Ok(None),
            Err(error) => return Err(Failure::unusable(error)),
        };
        let sign = Sign::from_mark(text.expose()).map_err(|error| {
            Failure::unusable(format!("{}: {error}", path.display())).hint(
                "remove it, and have `atrest-kms keyring verify` look again for newer keyrings",
            )
        })?;
        Ok(keyring.is_behind(&sign).then_some(sign))
    }

    /// Refuses where a newer keyring is known of.
    pub(crate) fn refuse_behind(&self, keyring: &Keyring) -> Result<(), Failure> {
        match self.sign(keyring)? {
            None => Ok(()),
            Some(sign) => Err(self.behind(keyring, &sign)),
        }
    }

    /// Keeps a sign: the plugin of this keyring encrypts nothing from now on.
    pub(crate) fn mark(&self, sign: &Sign) -> Result<(), Failure> {
        let path = self.mark_path();
        let former = match atrest_files::read(&path) {
            Ok(text) => Some(text.fingerprint()),
            Err(error) if error.kind() == Some(std::io::ErrorKind::NotFound) => None,
            Err(error) => return Err(Failure::unusable(error)),
        };
        atrest_files::replace(&path, sign.to_mark().as_bytes(), former).map_err(Failure::unusable)
    }

    fn mark_path(&self) -> PathBuf {
        let mut path = self.path.as_os_str().to_owned();
        path.push(".mark");
        PathBuf::from(path)
    }

    /// The keyring was rolled back.
    pub(crate) fn behind(&self, keyring: &Keyring, sign: &Sign) -> Failure {
        Failure::finding(format!(
            "keyring {} is older than what was in use: {sign}, and it ends with {}",
            self.path.display(),
            keyring.highest()
        ))
        .hint(
            "`keyring import` the newer file from another node or its backup; where it is lost for \
             good, `keyring confirm` goes on with this one",
        )
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

    /// Writes a keyring that came from another node, sealed as it came, where there was none.
    pub(crate) fn adopt(&self, loaded: &Loaded) -> Result<(), Failure> {
        let text = self.render(&loaded.keyring, &loaded.seal, &loaded.key)?;
        atrest_files::create(&self.path, text.expose()).map_err(Failure::unusable)
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
            Error::OtherKeyring { .. } => "name the file of this cluster's keyring",
            Error::Fork(_) | Error::Diverged(_) => {
                "keep both files: each may have written values. Go on with the one whose keys are in \
                 use (`atrest verify` counts by key_id), on every node"
            }
            Error::Lacks(_) | Error::Older { .. } | Error::Resurrected(_) => {
                "import the newest file: that of the node where the keyring was changed last"
            }
            Error::Active(_) => {
                "`keyring activate` another generation first, and rewrite what is stored"
            }
            Error::Former(_) => "`keyring add` makes a new one, which can be activated",
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
