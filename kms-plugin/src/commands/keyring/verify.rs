//! `keyring verify`: every key works, and nothing knows of a newer keyring.

use std::path::Path;

use atrest_core::keyring::{Generation, Sign, SignKind, Stage};
use jiff::Timestamp;
use serde_json::Value;

use super::print;
use crate::args::Verify;
use crate::status::Failure;
use crate::store::{Loaded, Store};

/// Runs the command.
pub(super) fn run(args: &Verify) -> Result<(), Failure> {
    let store = Store::new(&args.keyring)?;
    let loaded = store.load()?;
    for generation in loaded.keyring.generations() {
        works(generation)?;
    }
    let evidence = [
        (SignKind::Peer, &args.peer),
        (SignKind::Lease, &args.lease),
        (SignKind::Census, &args.census),
    ];
    let mut newest: Option<Sign> = None;
    for (kind, paths) in evidence {
        for path in paths {
            let sign = sign_of(kind, path, &loaded)?;
            let known = newest.as_ref().map_or(0, |it| it.generation);
            newest = sign.filter(|it| it.generation > known).or(newest);
        }
    }
    if let Some(sign) = newest.filter(|sign| loaded.keyring.is_behind(sign)) {
        store.mark(&sign)?;
    }
    print(&loaded, args.output.output)?;
    store.refuse_behind(&loaded.keyring)
}

/// Encrypts and decrypts once.
fn works(generation: &Generation) -> Result<(), Failure> {
    if generation.stage() == Stage::Retired {
        return Ok(());
    }
    let probe = b"probe";
    let ciphertext = generation.encrypt(probe).map_err(Failure::unread)?;
    match generation.decrypt([], &ciphertext) {
        Ok(plaintext) if plaintext.expose() == probe => Ok(()),
        _ => Err(Failure::finding(format!(
            "generation {} does not decrypt what it encrypted",
            generation.n()
        ))),
    }
}

fn sign_of(kind: SignKind, path: &Path, loaded: &Loaded) -> Result<Option<Sign>, Failure> {
    let document = read_json(path)?;
    Sign::of(kind, &document, loaded.keyring.id(), Timestamp::now())
        .map_err(|error| Failure::unusable(format!("{}: {error}", path.display())))
}

/// A document of ours or of kubectl's, which holds no secret.
pub(super) fn read_json(path: &Path) -> Result<Value, Failure> {
    let text = atrest_files::read(path).map_err(Failure::unusable)?;
    serde_json::from_slice(text.expose()).map_err(|error| {
        let (path, line) = (path.display(), error.line());
        Failure::unusable(format!(
            "{path}: it is not JSON, or it is cut off, at line {line}"
        ))
    })
}
