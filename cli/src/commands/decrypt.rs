//! `atrest decrypt`

use std::io::{IsTerminal, Read};
use std::path::Path;

use atrest_core::at_rest::{self, GroupResource, ObjectError, ReadError, Transformers, Trust};
use atrest_core::encryption_config::EncryptionConfiguration;
use atrest_core::secret::SecretBytes;

use crate::args::{Decrypt, Global, Output};
use crate::status::{ExitStatus, Failure};
use crate::{configuration, etcd, kms, report};

/// Runs the command.
pub(crate) async fn run(global: &Global, arguments: &Decrypt) -> Result<ExitStatus, Failure> {
    if std::io::stdout().is_terminal() && !arguments.show {
        return Err(Failure::unusable(
            "what would be printed is a secret, and stdout is a terminal",
        )
        .hint("send it to a file or a program, or add --show"));
    }
    let configuration = configuration::load(&arguments.config)?.configuration;
    let (key, value) = stored(arguments, &configuration, global.quiet).await?;
    let resource = match &arguments.resource {
        Some(name) => GroupResource::parse(name),
        None => match arguments.object.as_deref().and_then(named) {
            Some((resource, _)) => in_configuration(resource, &configuration),
            None => resource(&key, arguments.etcd.prefix(), &configuration)?,
        },
    };
    let written_under = arguments.original_key.as_deref().unwrap_or(&key);
    let plaintext = read(arguments, &configuration, &resource, written_under, &value).await?;
    if arguments.raw {
        report::bytes(plaintext.expose())?;
        return Ok(ExitStatus::Done);
    }
    let manifest = at_rest::manifest(plaintext.expose()).map_err(|error| {
        let failure = Failure::unusable(format!("{key} decrypts, and has no manifest: {error}"));
        match error {
            ObjectError::Kind | ObjectError::Cbor => failure.hint("--raw prints its bytes"),
            _ => failure.hint(
                "it was damaged before it was encrypted, or a wrong aescbc key let garbage through; \
                 --raw prints its bytes",
            ),
        }
    })?;
    match global.output {
        Output::Json => report::json(&manifest)?,
        _ => report::yaml(&manifest)?,
    }
    Ok(ExitStatus::Done)
}

/// The key of etcd and the value that stands there.
async fn stored(
    arguments: &Decrypt,
    configuration: &EncryptionConfiguration,
    quiet: bool,
) -> Result<(String, SecretBytes), Failure> {
    if let (Some(path), Some(key)) = (&arguments.value, &arguments.storage_key) {
        return Ok((key.clone(), value_of(path)?));
    }
    let object = arguments.object.as_deref().unwrap_or_default();
    let key = key(object, arguments.etcd.prefix(), configuration)?;
    let value = if let Some(path) = &arguments.snapshot {
        etcd::Keyspace::snapshot(path, quiet)?.get(&key)?
    } else if let Some(path) = &arguments.data_dir {
        etcd::Keyspace::data_directory(path, quiet)?.get(&key)?
    } else {
        etcd::Client::connect(&arguments.etcd)
            .await?
            .get(&key)
            .await?
    };
    let value = value.ok_or_else(|| {
        Failure::unusable(format!("there is no {key} here"))
            .hint("check the name, the source and --etcd-prefix")
    })?;
    Ok((key, value))
}

fn value_of(path: &Path) -> Result<SecretBytes, Failure> {
    if path != Path::new("-") {
        return atrest_files::read(path).map_err(Failure::unusable);
    }
    let mut bytes = Vec::new();
    std::io::stdin()
        .lock()
        .take(atrest_files::MAX_SIZE)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::unusable(format!("cannot read stdin: {error}")))?;
    Ok(SecretBytes::new(bytes))
}

/// `secrets/default/db` as a key of etcd; a key stays what it is.
fn key(
    object: &str,
    prefix: &str,
    configuration: &EncryptionConfiguration,
) -> Result<String, Failure> {
    if object.starts_with('/') {
        return Ok(object.to_owned());
    }
    let (resource, rest) = named(object).ok_or_else(|| {
        Failure::unusable(format!("{object:?} is no object"))
            .hint("write secrets/NAMESPACE/NAME, or a key of etcd, which begins with a slash")
    })?;
    let resource = in_configuration(resource, configuration);
    Ok(format!("{}{rest}", resource.directory(prefix)))
}

/// The resource that `secrets/default/db` begins with, and the rest; none of a key of etcd.
fn named(object: &str) -> Option<(GroupResource, &str)> {
    let (name, rest) = object.split_once('/')?;
    let is_object = !name.is_empty() && !rest.is_empty();
    is_object.then(|| (GroupResource::parse(name), rest))
}

/// `secret` is what kubectl takes, too; the configuration knows the plural.
fn in_configuration(
    resource: GroupResource,
    configuration: &EncryptionConfiguration,
) -> GroupResource {
    let known = configuration::named_resources(configuration);
    let plural = GroupResource {
        resource: format!("{}s", resource.resource),
        ..resource.clone()
    };
    match known.contains(&plural) && !known.contains(&resource) {
        true => plural,
        false => resource,
    }
}

/// The resource of the configuration in whose directory the key is, else the one that its path says.
fn resource(
    key: &str,
    prefix: &str,
    configuration: &EncryptionConfiguration,
) -> Result<GroupResource, Failure> {
    let named = configuration::named_resources(configuration);
    let holds = |resource: &&GroupResource| {
        !resource.is_wildcard() && key.starts_with(&resource.directory(prefix))
    };
    if let Some(resource) = named.iter().find(holds) {
        return Ok(resource.clone());
    }
    match GroupResource::of_key(key.as_bytes(), prefix) {
        Some((resource, _)) => Ok(resource),
        None => Err(
            Failure::unusable(format!("{key} does not say which resource it belongs to"))
                .hint("name it with --resource secrets, and check --etcd-prefix"),
        ),
    }
}

async fn read(
    arguments: &Decrypt,
    configuration: &EncryptionConfiguration,
    resource: &GroupResource,
    key: &str,
    value: &SecretBytes,
) -> Result<SecretBytes, Failure> {
    let chain = Transformers::of(configuration, resource, Trust::Upstream);
    let mut plugins =
        kms::Unwrapper::new(configuration, &arguments.kms_sockets, Default::default());
    loop {
        let error = match chain.read(key.as_bytes(), value.expose(), &plugins) {
            Ok(plaintext) => return Ok(plaintext.bytes),
            Err(ReadError::Wrapped(wrapped)) if plugins.ask(&wrapped).await => continue,
            Err(error) => error,
        };
        let failure = Failure::unread(format!("{key} cannot be decrypted: {error}"));
        return Err(failure.hint(match error {
            ReadError::NoMatch => {
                "the configuration has no key of the name that stands in front of the value: \
                 atrest verify shows it"
            }
            ReadError::Wrapped(_) | ReadError::PluginRefused => {
                "run this where the plugin runs, or name its socket with --kms-socket NAME=PATH"
            }
            _ => {
                "the key of that name has other bytes, the value was damaged, or it was written under \
                 another key of etcd: --original-key"
            }
        }));
    }
}
