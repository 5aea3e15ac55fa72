//! `keyring retire`: takes a key out for good, once a census proved that nothing needs it.

use std::path::Path;

use atrest_core::at_rest::GroupResource;
use atrest_core::encryption_config::{Server, judge};
use atrest_core::keyring::{Error, KeyId, Proof};
use atrest_core::secret::Fingerprint;
use jiff::Timestamp;
use serde_json::Value;

use super::print;
use super::verify::read_json;
use crate::args::Retire;
use crate::report;
use crate::status::Failure;
use crate::store::{Loaded, Store};

/// Runs the command.
pub(super) fn run(args: &Retire) -> Result<(), Failure> {
    let store = Store::new(&args.keyring)?;
    let mut loaded = store.load()?;
    store.refuse_behind(&loaded.keyring)?;
    let n = args.generation;
    let named = |error: Error| store.failure(error);
    let generation = loaded.keyring.may_retire(n).map_err(named)?;
    let key_id = generation.key_id().clone();

    let now = Timestamp::now();
    let (config, configured) = configured(&args.config)?;
    let proof = atrest_files::read(&args.proof).map_err(Failure::unusable)?;
    let scope = Proof::parse(proof.expose())
        .and_then(|proof| proof.check(&loaded.keyring, &key_id, config, &configured, now))
        .map_err(|error| {
            Failure::finding(format!("generation {n} is not retired: {error}")).hint(
                "atrest verify --config FILE --etcd-endpoints ... --attest --output json makes a \
                 proof; atrest reencrypt rewrites what is left",
            )
        })?;
    end(args, &key_id)?;

    if let Some(path) = &args.escrow {
        escrow(&store.at(path), &loaded, &key_id)?;
    }
    loaded
        .keyring
        .retire(n, &scope, now)
        .map_err(|error| store.failure(error))?;
    store.replace(&loaded)?;
    report::say("put the file on every control-plane node with `keyring import`");
    print(&loaded, args.output.output)
}

/// What becomes of backups that need the key has to be said.
fn end(args: &Retire, key_id: &KeyId) -> Result<(), Failure> {
    let needing = match &args.backups {
        Some(path) => backups_that_need(path, key_id)?,
        None => Vec::new(),
    };
    if args.escrow.is_some() || args.destroy {
        for backup in needing.iter().filter(|_| args.destroy) {
            report::say(format!(
                "warning: {backup} needs the key: it cannot be restored any more"
            ));
        }
        return Ok(());
    }
    let n = args.generation;
    let reason = match &*needing {
        [] => "snapshots and backups of etcd may need its key".to_owned(),
        [backup] => format!("the snapshot {backup} needs its key"),
        [backup, more @ ..] => {
            format!("the snapshot {backup} and {} more need its key", more.len())
        }
    };
    Err(
        Failure::finding(format!("generation {n} is not retired: {reason}")).hint(
            "--escrow FILE keeps a sealed copy of the keyring for them; --destroy gives them up",
        ),
    )
}

/// The paths of the backups whose values a key wrote, by `atrest/backups/v1`.
fn backups_that_need(path: &Path, key_id: &KeyId) -> Result<Vec<String>, Failure> {
    let document = read_json(path)?;
    if document["schema"] != "atrest/backups/v1" {
        return Err(Failure::unusable(format!(
            "{}: it is not what `atrest verify --snapshot FILE... --output json` prints",
            path.display()
        )));
    }
    let paths: Vec<_> = array(&document["backups"])
        .map(|it| it["path"].as_str())
        .collect();
    let rows = array(&document["keys"]).filter(|row| row["key"].as_str() == Some(key_id.as_str()));
    let mut needing = Vec::new();
    for row in rows {
        // Counts stand in the order of the backups.
        for (path, count) in paths.iter().zip(array(&row["counts"])) {
            if count.as_u64() != Some(0) {
                needing.push(path.unwrap_or("?").to_owned());
            }
        }
    }
    needing.dedup();
    Ok(needing)
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A copy of the keyring as it was, sealed as it is. One that a run left that was killed will do.
fn escrow(copy: &Store, loaded: &Loaded, key_id: &KeyId) -> Result<(), Failure> {
    if !copy.exists() {
        copy.adopt(loaded)?;
    }
    let kept = copy.load()?.keyring;
    let has_key = kept.find(key_id.as_str()).is_some_and(|it| {
        Some(it.backend()) == loaded.keyring.find(key_id.as_str()).map(|it| it.backend())
    });
    match has_key {
        true => Ok(()),
        false => Err(Failure::unusable(
            "the escrow is a file that does not have the key; nothing was changed",
        )
        .hint("name a file that does not exist")),
    }
}

/// The SHA-256 of an EncryptionConfiguration and the resources that it names, but for wildcards:
/// what those cover is found in etcd.
fn configured(path: &Path) -> Result<(Fingerprint, Vec<String>), Failure> {
    let text = atrest_files::read(path).map_err(Failure::unusable)?;
    // Every gate on: whether the server takes it is not the question here.
    let server = Server {
        kmsv1: true,
        automatic_reload: true,
        ..Server::default()
    };
    let judgement = judge(text.expose(), &server);
    let configuration = judgement.configuration.ok_or_else(|| {
        let path = path.display();
        Failure::unusable(format!("kube-apiserver would reject {path}"))
            .hint(format!("atrest validate {path} says what is wrong"))
    })?;
    let entries = configuration.resources.iter();
    let resources = entries.flat_map(|entry| &entry.resources);
    let named = resources
        .map(|name| GroupResource::parse(name))
        .filter(|resource| !resource.is_wildcard());
    Ok((text.fingerprint(), named.map(|it| it.to_string()).collect()))
}
