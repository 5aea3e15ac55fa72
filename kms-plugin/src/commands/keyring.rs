//! `atrest-kms keyring`: makes and changes the file that holds the keys.

mod retire;
mod verify;

use std::fmt::Write as _;

use atrest_core::keyring::{Generation, Keyring, SealKind};
use jiff::Timestamp;
use serde::Serialize;

use crate::args::{self, Activate, Add, Confirm, Import, Init, List, Output};
use crate::report;
use crate::status::Failure;
use crate::store::{Loaded, Store};

/// Runs `keyring` and prints the keyring as it is afterwards.
pub(crate) fn run(args: &args::Keyring) -> Result<(), Failure> {
    match args {
        args::Keyring::Init(args) => init(args),
        args::Keyring::Add(args) => add(args),
        args::Keyring::Activate(args) => activate(args),
        args::Keyring::Import(args) => import(args),
        args::Keyring::Confirm(args) => confirm(args),
        args::Keyring::Retire(args) => retire::run(args),
        args::Keyring::Verify(args) => verify::run(args),
        args::Keyring::List(args) => list(args),
    }
}

fn init(args: &Init) -> Result<(), Failure> {
    let store = Store::new(&args.keyring)?;
    let kind = SealKind::from(args.seal);
    if kind != store.secret_kind() {
        let option = match kind {
            SealKind::Credential => "--credential NAME",
            SealKind::KeyFile => "--key-file FILE",
            SealKind::PassphraseFile => "--passphrase-file FILE",
            _ => "none of --key-file, --passphrase-file and --credential",
        };
        return Err(Failure::unusable(format!("--seal {kind} takes {option}")));
    }
    let keyring = Keyring::mint(Timestamp::now()).map_err(|error| store.failure(error))?;
    let loaded = store.create(keyring, kind)?;
    if kind == SealKind::None {
        report::say(
            "warning: the keys stand in the file unsealed: whoever reads it, or a backup of it, has them",
        );
    }
    report::say(
        "keep a copy of the keyring and of what opens it, apart from each other and from etcd's backups",
    );
    print(&loaded, args.output.output)
}

fn add(args: &Add) -> Result<(), Failure> {
    let store = Store::new(&args.keyring)?;
    let mut loaded = store.load()?;
    store.refuse_behind(&loaded.keyring)?;
    loaded
        .keyring
        .add(Timestamp::now())
        .map_err(|error| store.failure(error))?;
    store.replace(&loaded)?;
    report::say("put the file on every control-plane node before `keyring activate`");
    print(&loaded, args.output.output)
}

fn activate(args: &Activate) -> Result<(), Failure> {
    let store = Store::new(&args.keyring)?;
    let mut loaded = store.load()?;
    store.refuse_behind(&loaded.keyring)?;
    let n = args
        .generation
        .unwrap_or_else(|| loaded.keyring.newest().n());
    let changed = loaded
        .keyring
        .activate(n)
        .map_err(|error| store.failure(error))?;
    if changed {
        store.replace(&loaded)?;
    } else {
        report::say(format!("generation {n} is active already"));
    }
    print(&loaded, args.output.output)
}

fn import(args: &Import) -> Result<(), Failure> {
    let store = Store::new(&args.keyring)?;
    let source = store.at(&args.file);
    let mut theirs = source.load()?;
    if !store.exists() {
        store.adopt(&theirs)?;
        return print(&theirs, args.output.output);
    }
    let mut loaded = store.load()?;
    let changed = theirs
        .keyring
        .succeed(&loaded.keyring)
        .map_err(|error| source.failure(error))?;
    if changed {
        loaded.keyring = theirs.keyring;
        store.replace(&loaded)?;
    } else {
        report::say("it is the same already");
    }
    print(&loaded, args.output.output)
}

fn confirm(args: &Confirm) -> Result<(), Failure> {
    let store = Store::new(&args.keyring)?;
    let mut loaded = store.load()?;
    match store.sign(&loaded.keyring)? {
        None => report::say("nothing knows of a newer keyring: there is nothing to confirm"),
        Some(sign) => {
            let confirmed = loaded.keyring.confirm(sign.generation);
            confirmed.map_err(|error| store.failure(error))?;
            store.replace(&loaded)?;
            report::say(format!(
                "warning: what generations after {} wrote cannot be read with this keyring",
                loaded.keyring.newest().n()
            ));
        }
    }
    print(&loaded, args.output.output)
}

fn list(args: &List) -> Result<(), Failure> {
    let loaded = Store::new(&args.keyring)?.load()?;
    print(&loaded, args.output.output)
}

/// `atrest/keyring-list/v1`: what a keyring holds, without its keys.
#[derive(Serialize)]
struct Listing<'a> {
    schema: &'static str,
    id: String,
    serial: u64,
    seal: &'static str,
    generations: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    n: u32,
    key_id: &'a str,
    backend: &'static str,
    stage: String,
    created: String,
    retired: Option<String>,
    proof: Option<&'a str>,
}

fn row(generation: &Generation) -> Row<'_> {
    Row {
        n: generation.n(),
        key_id: generation.key_id().as_str(),
        backend: generation.backend().name(),
        stage: generation.stage().to_string(),
        created: generation.created().to_string(),
        retired: generation.retired().map(|time| time.to_string()),
        proof: generation.proof(),
    }
}

fn print(loaded: &Loaded, output: Output) -> Result<(), Failure> {
    let listing = Listing {
        schema: "atrest/keyring-list/v1",
        id: loaded.keyring.id().to_string(),
        serial: loaded.keyring.serial(),
        seal: loaded.seal.kind().name(),
        generations: loaded.keyring.generations().iter().map(row).collect(),
    };
    match output {
        Output::Json => report::json(&listing),
        Output::Text => report::text(&table(&listing)),
    }
}

fn table(listing: &Listing<'_>) -> String {
    let mut text = format!(
        "keyring {}, serial {}, seal {}\n{:>10}  {:<8}  {:<20}  KEY_ID\n",
        listing.id, listing.serial, listing.seal, "GENERATION", "STAGE", "CREATED",
    );
    for row in &listing.generations {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:>10}  {:<8}  {:<20}  {}",
            row.n, row.stage, row.created, row.key_id
        );
    }
    text
}
