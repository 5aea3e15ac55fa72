//! One server gets the file that the others have.

use std::time::{Duration, Instant};

use atrest_core::encryption_config::{EncryptionConfiguration, Provider};
use atrest_core::secret::{Fingerprint, SecretBytes};

use super::super::manual;
use super::super::observe::{connect, load, observe};
use super::super::settings::Server;
use crate::args::Global;
use crate::cluster::{ApiServer, Metrics};
use crate::configuration::{self, Loaded};
use crate::machine::Machine;
use crate::report;
use crate::status::Failure;

/// Between two looks at the server.
const LOOK: Duration = Duration::from_millis(500);

/// What is to be done for a server.
pub(crate) struct Sync<'a> {
    server: &'a Server,
    machine: Option<Machine>,
    api: ApiServer,
    from: &'a Server,
    /// The file that the others have.
    bytes: SecretBytes,
    /// The server's own, where there is one that can be read.
    old: Option<Fingerprint>,
    runs: bool,
}

impl<'a> Sync<'a> {
    /// Looks at every server, and refuses what could not end well.
    pub(crate) async fn plan(
        global: &Global,
        servers: &'a [Server],
        node: &str,
    ) -> Result<Self, Failure> {
        let is_node = |server: &&Server| server.name == node;
        let server = servers.iter().find(is_node).ok_or_else(|| {
            let names: Vec<_> = servers.iter().map(|it| it.name.as_str()).collect();
            Failure::unusable(format!("no server is named {node:?}"))
                .hint(format!("rotation.yaml lists {}", names.join(", ")))
        })?;
        let others: Vec<_> = servers.iter().filter(|it| it.name != node).collect();
        let (from, file) = common(global, &others).await?;
        let (machine, api) = (Machine::of(&server.access), connect(global, server).await?);
        let own = match &machine {
            None => None,
            Some(machine) => machine_file(machine, server).await?,
        };
        let metrics = api.metrics().await.ok();
        let old = own.as_ref().map(|own| own.source.fingerprint());
        let sync = Self {
            server,
            machine,
            api,
            from,
            bytes: file.source,
            old,
            runs: metrics.is_some(),
        };
        sync.check_writer(own.as_ref(), metrics.as_ref(), &file.configuration)?;
        Ok(sync)
    }

    /// Whether the server's file is as the others' are.
    pub(crate) fn is_there(&self) -> bool {
        self.old == Some(self.bytes.fingerprint())
    }

    /// What is about to happen, for people.
    pub(crate) fn text(&self) -> String {
        let short = |hash: Option<Fingerprint>| match hash {
            Some(hash) => format!("sha256:{}", hash.short(8)),
            None => "no file".into(),
        };
        format!(
            "{}: {} {} -> {}, as on {}",
            self.server.name,
            self.server.file.display(),
            match self.machine {
                None => "what is there".into(),
                Some(_) => short(self.old),
            },
            short(Some(self.bytes.fingerprint())),
            self.from.name,
        )
    }

    /// Writes the file, or tells the operator to, and waits until the server runs with it.
    pub(crate) async fn act(&self, limit: Duration) -> Result<(), Failure> {
        let sha256 = self.bytes.fingerprint().to_string();
        match &self.machine {
            None => report::say(manual::instruction(self.server, self.from, &sha256)),
            Some(machine) if !self.is_there() => {
                let replaced = machine.replace(&self.server.file, &self.bytes, self.old);
                replaced.await?;
            }
            Some(_) => {}
        }
        if !self.runs && self.machine.is_some() {
            report::say(format!(
                "{}: its API server does not answer; it reads the file when it starts",
                self.server.name
            ));
            return Ok(());
        }
        self.await_load(&sha256, limit).await
    }

    async fn await_load(&self, sha256: &str, limit: Duration) -> Result<(), Failure> {
        let name = &self.server.name;
        let loaded = self
            .api
            .metrics()
            .await
            .ok()
            .and_then(|it| it.loaded_config);
        if let (Some(machine), true) = (&self.machine, loaded.as_deref() != Some(sha256)) {
            self.server.reload.trigger(name, machine, sha256).await?;
        }
        let since = Instant::now();
        let mut is_said = false;
        loop {
            let seen = self.api.metrics().await.ok();
            match seen.and_then(|metrics| metrics.loaded_config) {
                Some(loaded) if loaded == sha256 => return Ok(()),
                _ if since.elapsed() < limit => {}
                _ => {
                    return Err(Failure::stopped(format!(
                        "{name} does not say that it has loaded {} ({})",
                        self.server.file.display(),
                        sha256.chars().take(8).collect::<String>(),
                    ))
                    .hint("look at its log; atrest servers list shows when it has"));
                }
            }
            if !std::mem::replace(&mut is_said, true) {
                let short: String = sha256.chars().take(8).collect();
                report::say(format!("{name} has not loaded sha256:{short} yet"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What the server's process writes with must be in the file that it gets, or nobody could read what it
    /// wrote.
    fn check_writer(
        &self,
        own: Option<&Own>,
        metrics: Option<&Metrics>,
        new: &EncryptionConfiguration,
    ) -> Result<(), Failure> {
        let name = &self.server.name;
        let loaded = metrics.and_then(|it| it.loaded_config.as_deref());
        let hash = self.bytes.fingerprint().to_string();
        let runs_with_own = || own.map(|own| own.source.fingerprint().to_string());
        let unknown = match loaded {
            Some(loaded) if loaded == hash => return Ok(()),
            Some(loaded) => runs_with_own().as_deref() != Some(loaded),
            None => false,
        };
        if unknown {
            return Err(Failure::unusable(format!(
                "{name} runs with a file that is not there any more: what it writes with is not known"
            ))
            .hint("have it load the file that it has, or stop it; then sync again"));
        }
        let Some(own) = own else { return Ok(()) };
        let Some(configuration) = &own.configuration else {
            // It does not run, and could not with this.
            return match metrics {
                None => Ok(()),
                Some(_) => Err(Failure::unusable(format!(
                    "{name} runs, and kube-apiserver would reject {}",
                    self.server.file.display()
                ))),
            };
        };
        match missing_writer(configuration, new) {
            None => Ok(()),
            Some((resource, writer)) => Err(Failure::unusable(format!(
                "{name} still writes {resource} with {writer}, which the file of {} lacks",
                self.from.name
            ))
            .hint(
                "nothing that it wrote could be read any more: add that key to every server's file, behind \
                 the others, sync, and rotate",
            )),
        }
    }
}

/// A file as it is, also one that kube-apiserver would reject.
struct Own {
    source: SecretBytes,
    configuration: Option<EncryptionConfiguration>,
}

async fn machine_file(machine: &Machine, server: &Server) -> Result<Option<Own>, Failure> {
    let source = match machine.read(&server.file).await {
        Ok(source) => source,
        Err(error) if error.is_missing() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let judged = configuration::judged(SecretBytes::new(source.expose().to_vec()), &server.file);
    Ok(Some(Own {
        source,
        configuration: judged.ok().map(|it| it.configuration),
    }))
}

/// The file that every other server has and runs with, and whose it is.
async fn common<'a>(
    global: &Global,
    others: &[&'a Server],
) -> Result<(&'a Server, Loaded), Failure> {
    let mut common: Option<(&Server, Loaded)> = None;
    for server in others {
        let api = connect(global, server).await?;
        let machine = Machine::of(&server.access);
        let first = common
            .as_ref()
            .map(|(_, file)| file.fingerprint.to_string());
        let Some(machine) = machine else {
            let loaded = api.metrics().await.ok().and_then(|it| it.loaded_config);
            if loaded.is_none() || loaded != first {
                return Err(differs(server));
            }
            continue;
        };
        let seen = observe(server, Some(&machine), &api).await?;
        let file = load(&machine, server).await?;
        let hash = file.fingerprint.to_string();
        if seen.loaded() != Some(&hash) || first.is_some_and(|first| first != hash) {
            return Err(differs(server));
        }
        common.get_or_insert((server, file));
    }
    common.ok_or_else(|| {
        Failure::unusable("there is no other server whose file is in reach")
            .hint("the file comes from a server that is local or behind ssh")
    })
}

fn differs(server: &Server) -> Failure {
    Failure::unusable(format!(
        "{} does not run with the file that the others have",
        server.name
    ))
    .hint("the others have to agree first: atrest servers list shows what each has loaded")
}

/// What writes a resource now, and could not be read with the new configuration.
fn missing_writer(
    now: &EncryptionConfiguration,
    new: &EncryptionConfiguration,
) -> Option<(String, String)> {
    let named = configuration::named_resources(now);
    named.into_iter().find_map(|resource| {
        let writer = now.chain(&resource).first().copied()?.clone();
        let can_read = new.chain(&resource).iter().any(|it| reads(it, &writer));
        let is_plain = matches!(writer, Provider::Identity) && new.chain(&resource).is_empty();
        (!can_read && !is_plain).then(|| {
            let writer = match &writer {
                Provider::Kms(kms) => format!("kms {}", kms.name),
                local => {
                    let key = local.keys().first().map_or("", |key| &key.name);
                    format!("{} {key}", local.name()).trim_end().to_owned()
                }
            };
            (resource.to_string(), writer)
        })
    })
}

/// Whether a provider reads what another one writes.
fn reads(provider: &Provider, writer: &Provider) -> bool {
    match (provider, writer) {
        (Provider::Kms(there), Provider::Kms(kms)) => {
            there.name == kms.name && there.api_version == kms.api_version
        }
        (there, writer) => {
            there.name() == writer.name()
                && writer
                    .keys()
                    .first()
                    .is_none_or(|key| there.keys().contains(key))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn configuration(providers: &[&str]) -> EncryptionConfiguration {
        let providers: String = providers.iter().map(|it| format!("  - {it}\n")).collect();
        let text = format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n\
             - resources: [secrets]\n  providers:\n{providers}"
        );
        let source = SecretBytes::new(text.into_bytes());
        configuration::judged(source, Path::new("test"))
            .unwrap()
            .configuration
    }

    #[test]
    fn what_a_server_writes_with_must_be_readable_by_the_others() {
        let key = |name: &str, byte: u8| {
            use base64::prelude::*;
            let secret = BASE64_STANDARD.encode([byte; 32]);
            format!("secretbox: {{keys: [{{name: {name}, secret: {secret}}}]}}")
        };
        let (a, other_a, b) = (key("a", 1), key("a", 2), key("b", 3));
        let plain = "identity: {}".to_owned();
        for (now, new, missing) in [
            (&[&a][..], &[&b, &plain][..], Some("secretbox a")),
            (&[&a], &[&other_a], Some("secretbox a")),
            (&[&plain], &[&b], Some("identity")),
            (&[&a, &plain], &[&b, &a], None),
            // What it only reads, the others do not read either.
            (&[&b, &a], &[&b], None),
            (&[&plain, &b], &[&b, &plain], None),
        ] {
            let of = |providers: &[&String]| {
                configuration(&providers.iter().map(|it| it.as_str()).collect::<Vec<_>>())
            };
            // Two providers of one name merge their keys in no configuration of ours.
            let found = missing_writer(&of(now), &of(new));
            let found = found.map(|(_, writer)| writer);
            assert_eq!(found.as_deref(), missing, "{now:?} {new:?}");
        }
    }
}
