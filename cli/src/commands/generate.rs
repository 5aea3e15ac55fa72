//! `atrest generate`

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use atrest_core::encryption_config::{
    EncryptionConfiguration, Extended, Format, Key, Kms, KmsVersion, Profile, Provider,
    ResourceEntry, Server, judge, render,
};
use atrest_core::secret::SecretBytes;

use crate::args::{Generate, GenerateProvider, Global, Output};
use crate::configuration::{self, Loaded};
use crate::report;
use crate::status::{ExitStatus, Failure};

/// Of every local provider: aescbc and aesgcm take shorter ones, for which there is no reason.
const KEY_LENGTH: usize = 32;

/// Runs the command.
pub(crate) fn run(global: &Global, arguments: &Generate) -> Result<ExitStatus, Failure> {
    if let Some(endpoint) = &arguments.kms_endpoint {
        if arguments.provider != GenerateProvider::Kms {
            return Err(
                Failure::unusable("--kms-endpoint is of no use to this provider")
                    .hint("add --provider kms, or leave it out"),
            );
        }
        refuse_misleading(endpoint)?;
    }
    let provider = provider(arguments)?;
    let Some(from) = &arguments.from else {
        return anew(global, arguments, provider);
    };
    if global.output == Output::Json {
        return Err(Failure::unusable("a file that is extended keeps its form")
            .hint("leave --output json out"));
    }
    let from = configuration::load(from)?;
    let reads_plaintext = !arguments.no_identity;
    let extended = from
        .configuration
        .extended(&arguments.resources, &provider, reads_plaintext)
        .map_err(|refusal| {
            Failure::unusable(refusal)
                .hint("name other resources, or another provider; nothing was written")
        })?;
    if extended.configuration == from.configuration {
        return Err(Failure::unusable(
            "the configuration has this provider for these resources already",
        )
        .hint("name other resources, or another provider"));
    }
    let bytes = configuration::edit(&from.source, &extended.configuration)?;
    hand_over(arguments, &bytes, Some(&from))?;
    if !global.quiet {
        tell_extended(arguments, &provider, &extended);
    }
    Ok(ExitStatus::Done)
}

fn anew(global: &Global, arguments: &Generate, provider: Provider) -> Result<ExitStatus, Failure> {
    let configuration = configuration(arguments, provider);
    let format = match global.output {
        Output::Json => Format::Json,
        _ => Format::Yaml,
    };
    let bytes = render(&configuration, format);
    refuse_what_is_rejected(&bytes, &configuration)?;
    hand_over(arguments, &bytes, None)?;
    if !global.quiet {
        tell(arguments, &configuration);
    }
    Ok(ExitStatus::Done)
}

fn hand_over(
    arguments: &Generate,
    bytes: &SecretBytes,
    from: Option<&Loaded>,
) -> Result<(), Failure> {
    if arguments.file == Path::new("-") {
        return report::bytes(bytes.expose());
    }
    write(arguments, bytes, from)
}

fn provider(arguments: &Generate) -> Result<Provider, Failure> {
    let mint = || {
        let today = jiff::Timestamp::now()
            .to_zoned(jiff::tz::TimeZone::UTC)
            .date();
        Key::mint(KEY_LENGTH, today)
            .map(|key| vec![key])
            .map_err(|error| Failure::unread(error).hint("look for what forbids getrandom(2)"))
    };
    Ok(match arguments.provider {
        GenerateProvider::Aescbc => Provider::AesCbc(mint()?),
        GenerateProvider::Aesgcm => Provider::AesGcm(mint()?),
        GenerateProvider::Secretbox => Provider::Secretbox(mint()?),
        GenerateProvider::Kms => Provider::Kms(Kms {
            api_version: KmsVersion::V2,
            name: arguments.kms_name.clone(),
            endpoint: arguments.kms_endpoint.clone().unwrap_or_default(),
            timeout: arguments.kms_timeout,
            cachesize: None,
        }),
        GenerateProvider::Identity => Provider::Identity,
    })
}

fn configuration(arguments: &Generate, first: Provider) -> EncryptionConfiguration {
    let mut providers = vec![first];
    if arguments.provider != GenerateProvider::Identity && !arguments.no_identity {
        providers.push(Provider::Identity);
    }
    EncryptionConfiguration {
        resources: match arguments.profile {
            Some(profile) => Profile::from(profile).entries(providers),
            None => vec![ResourceEntry {
                resources: arguments.resources.clone(),
                providers,
            }],
        },
    }
}

/// kube-apiserver takes URLs whose path is not what it seems to be: of `unix://run/k.sock` it dials
/// `/k.sock`.
fn refuse_misleading(endpoint: &str) -> Result<(), Failure> {
    let is_path = |rest: &str| rest.len() > 1 && !rest.contains(['?', '#', '%']);
    if endpoint
        .strip_prefix("unix://")
        .is_some_and(|rest| rest.starts_with('/') && is_path(rest))
    {
        return Ok(());
    }
    Err(
        Failure::unusable("--kms-endpoint is not the URL of a socket").hint(
            "write unix:/// and the path of the plugin's socket: unix:///run/atrest/kms.sock",
        ),
    )
}

/// What was asked for may be nothing that an API server takes.
fn refuse_what_is_rejected(
    bytes: &SecretBytes,
    configuration: &EncryptionConfiguration,
) -> Result<(), Failure> {
    let judgement = judge(bytes.expose(), &Server::default());
    if let Some(finding) = judgement.findings.first() {
        let message = format!(
            "kube-apiserver would reject this configuration: {}: {}",
            finding.path, finding.message
        );
        return Err(Failure::unusable(message).hint(&finding.fix));
    }
    if judgement.configuration.as_ref() != Some(configuration) {
        // Render and judge disagree: nobody may run with such a file.
        return Err(
            Failure::unusable("the file would not say what was asked for")
                .hint("this is a fault of atrest; please report it with the command line"),
        );
    }
    Ok(())
}

fn write(arguments: &Generate, bytes: &SecretBytes, from: Option<&Loaded>) -> Result<(), Failure> {
    let path = &arguments.file;
    let unwritten = |error: atrest_files::Error| {
        Failure::unusable(error).hint("its directory must exist, have room and be writable for you")
    };
    let mode = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return atrest_files::replace(path, bytes.expose(), None).map_err(unwritten);
        }
        Err(error) => {
            let message = format!("cannot look at {}: {error}", path.display());
            return Err(Failure::unusable(message).hint("name a file that you may write"));
        }
        Ok(metadata) => metadata.mode(),
    };
    if !arguments.force {
        return Err(
            Failure::unusable(format!("{} exists", path.display())).hint(
                "name another file; --force replaces it, and values under its keys can then not be \
             read any more",
            ),
        );
    }
    let is_same = |other: &Path| {
        let [a, b] = [path, other].map(std::fs::canonicalize);
        matches!((a, b), (Ok(a), Ok(b)) if a == b)
    };
    let current = match from {
        // Nobody else's change is to be lost.
        Some(from) if arguments.from.as_deref().is_some_and(is_same) => from.fingerprint,
        _ => atrest_files::read(path)
            .map_err(Failure::unusable)?
            .fingerprint(),
    };
    atrest_files::replace(path, bytes.expose(), Some(current)).map_err(unwritten)?;
    if mode & 0o077 != 0 {
        report::say(format_args!(
            "warning: {} keeps its mode {:04o}, by which others than its owner may use it",
            path.display(),
            mode & 0o7777
        ));
    }
    Ok(())
}

fn tell_written(arguments: &Generate, provider: &Provider) {
    if arguments.file != Path::new("-") {
        report::say(format_args!("wrote {}", arguments.file.display()));
    }
    for key in provider.keys() {
        report::say(format_args!(
            "{} key {}, {} bytes, SHA-256 {}...",
            provider.name(),
            key.name,
            key.secret.len(),
            key.secret.fingerprint().short(8)
        ));
    }
}

fn tell_extended(arguments: &Generate, provider: &Provider, extended: &Extended) {
    tell_written(arguments, provider);
    let name = provider.name();
    if !extended.writes.is_empty() {
        let resources = extended.writes.join(", ");
        report::say(format_args!(
            "{name} writes {resources}, which had no entry"
        ));
    }
    if !extended.reads.is_empty() {
        let resources = extended.reads.join(", ");
        report::say(format_args!(
            "{name} only reads {resources}: what writes them stays, for other servers cannot read \
             what something new writes before they have this file; `atrest rotate` changes what \
             writes, in an order that is safe"
        ));
    }
}

fn tell(arguments: &Generate, configuration: &EncryptionConfiguration) {
    // What a profile leaves out comes before.
    let Some(entry) = configuration.resources.last() else {
        return;
    };
    tell_written(arguments, &entry.providers[0]);
    match (entry.providers.first(), entry.providers.last()) {
        (Some(Provider::Identity), _) => {
            report::say("identity is first: what is written is stored in plaintext");
        }
        (_, Some(Provider::Identity)) => report::say(
            "identity is last, so that what is stored in plaintext can be read until it is \
             rewritten; take it out when `atrest verify` finds no plaintext",
        ),
        _ => report::say(
            "identity is not in the file: what is stored in plaintext cannot be read with it",
        ),
    }
}
