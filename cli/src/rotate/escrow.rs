//! The escrow: every minted key is on disk, twice, before anything else has it.

use std::path::{Path, PathBuf};

use atrest_core::encryption_config::Key;
use atrest_core::rotation::chain::Local;
use atrest_core::secret::SecretBytes;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use super::recipients::Recipients;
use super::settings::Settings;
use crate::status::Failure;

/// `atrest/escrow/v1`: one key.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Deposit {
    schema: String,
    run: String,
    created: String,
    etcd_id: String,
    provider: String,
    name: String,
    /// base64, as it stands in the configuration.
    secret: String,
    fingerprint: String,
}

const SCHEMA: &str = "atrest/escrow/v1";

/// Of a copy that is encrypted to recipients, whom alone it is for: a run goes on with the first file.
const ENCRYPTED: &str = "age";

/// Where a run's key is, the second copy last.
pub(crate) fn paths(settings: &Settings, run: &str) -> Vec<PathBuf> {
    let named = |base: &Path, suffix: String| {
        let mut path = base.as_os_str().to_owned();
        path.push(suffix);
        PathBuf::from(path)
    };
    let of_copy = match settings.recipients.is_empty() {
        true => format!(".{run}"),
        false => format!(".{run}.{ENCRYPTED}"),
    };
    let copies = settings.escrow_copies.iter();
    let copies = copies.map(|base| named(base, of_copy.clone()));
    std::iter::once(named(&settings.escrow, format!(".{run}")))
        .chain(copies)
        .collect()
}

fn is_encrypted(path: &Path) -> bool {
    path.extension().is_some_and(|it| it == ENCRYPTED)
}

/// The run's key: the one in the escrow, or a new one that is put there and read back. A run that
/// was killed between the two finds its key again, so that it mints one and never two.
pub(crate) fn find_or_mint(
    settings: &Settings,
    run: &str,
    etcd_id: &str,
    provider: Local,
) -> Result<Key, Failure> {
    let paths = paths(settings, run);
    let key = match find(&paths)? {
        Some((_, key)) => key,
        None => {
            let today = jiff::Zoned::now().date();
            Key::mint(32, today)
                .map_err(|error| Failure::unread(format!("cannot make a key: {error}")))?
        }
    };
    let deposit = Deposit {
        schema: SCHEMA.into(),
        run: run.into(),
        created: jiff::Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%SZ")
            .to_string(),
        etcd_id: etcd_id.into(),
        provider: provider.name().into(),
        name: key.name.clone(),
        secret: BASE64_STANDARD.encode(key.secret.expose()),
        fingerprint: key.secret.fingerprint().to_string(),
    };
    let bytes = serde_json::to_vec_pretty(&deposit)
        .map(SecretBytes::new)
        .map_err(|error| Failure::unusable(format!("cannot write the escrow: {error}")))?;
    let recipients = Recipients::parse(&settings.recipients)?;
    for path in &paths {
        if is_encrypted(path) {
            store_encrypted(path, &bytes, &recipients)?;
            continue;
        }
        store(path, &bytes)?;
        let (_, stored) = read(path)?.ok_or_else(|| unreadable(path))?;
        if stored != key {
            return Err(Failure::unusable(format!(
                "{} holds another key than the one that was put there",
                path.display()
            )));
        }
    }
    Ok(key)
}

/// The run's key, where it is in the escrow.
pub(crate) fn find(paths: &[PathBuf]) -> Result<Option<(Local, Key)>, Failure> {
    for path in paths.iter().filter(|path| !is_encrypted(path)) {
        if let Some(found) = read(path)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// What a killed run put there is of the same key. Nobody here can read it; that it is whole can be seen.
fn store_encrypted(
    path: &Path,
    bytes: &SecretBytes,
    recipients: &Recipients,
) -> Result<(), Failure> {
    const FIRST_LINE: &[u8] = b"age-encryption.org/v1\n";

    let encrypted = recipients.encrypt(bytes).map_err(|error| {
        Failure::unusable(format!(
            "the key cannot be encrypted to its recipients: {error}"
        ))
    })?;
    store(path, &SecretBytes::new(encrypted))?;
    let stored = atrest_files::read(path).map_err(Failure::unusable)?;
    match stored.expose().starts_with(FIRST_LINE) {
        true => Ok(()),
        false => Err(unreadable(path)),
    }
}

fn store(path: &Path, bytes: &SecretBytes) -> Result<(), Failure> {
    if let Some(parent) = path.parent() {
        atrest_files::create_private_directory(parent).map_err(Failure::unusable)?;
    }
    match atrest_files::create(path, bytes.expose()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == Some(std::io::ErrorKind::AlreadyExists) => Ok(()),
        Err(error) => Err(Failure::unusable(format!("the escrow cannot be written: {error}"))
            .hint("nothing was changed; make room, or name another place with --escrow and --escrow-copy")),
    }
}

fn read(path: &Path) -> Result<Option<(Local, Key)>, Failure> {
    let bytes = match atrest_files::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == Some(std::io::ErrorKind::NotFound) => return Ok(None),
        Err(error) => return Err(Failure::unusable(error)),
    };
    let deposit: Deposit = serde_json::from_slice(bytes.expose()).map_err(|_| unreadable(path))?;
    let secret = BASE64_STANDARD
        .decode(&deposit.secret)
        .map(SecretBytes::new)
        .map_err(|_| unreadable(path))?;
    let provider = Local::parse(&deposit.provider).ok_or_else(|| unreadable(path))?;
    if deposit.schema != SCHEMA || secret.fingerprint().to_string() != deposit.fingerprint {
        return Err(unreadable(path));
    }
    let key = Key {
        name: deposit.name,
        secret,
    };
    Ok(Some((provider, key)))
}

fn unreadable(path: &Path) -> Failure {
    Failure::unusable(format!(
        "{} is no escrow of atrest, or damaged",
        path.display()
    ))
    .hint("if a copy is whole, put it in this place and run again")
}
