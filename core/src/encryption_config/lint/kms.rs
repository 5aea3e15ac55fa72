//! KMS plugins: versions, timeouts, sockets.

use std::collections::HashMap;
use std::time::Duration;

use super::super::decode::Plugin;
use super::super::finding::quote;
use super::super::ids;
use super::super::model::Kms;
use super::Lints;
use super::endpoint::dialled;
use super::survey::{Survey, text};

/// What upstream asks of a plugin's Encrypt (KEP-3299).
const ENCRYPT: Duration = Duration::from_millis(100);
/// kube-apiserver's `--request-timeout`.
const REQUEST: Duration = Duration::from_secs(60);
/// The `timeoutSeconds` of kubeadm's readiness probe.
const PROBE: Duration = Duration::from_secs(15);

pub(super) fn lint(survey: &Survey<'_>, lints: &mut Lints) {
    let mut together = Duration::ZERO;
    let mut count = 0;
    let mut sockets: HashMap<String, &str> = HashMap::new();
    let mut names: HashMap<&str, &str> = HashMap::new();
    for (path, plugin) in survey.plugins() {
        let (name, endpoint) = (text(&plugin.name), text(&plugin.endpoint));
        let is_v1 = text(&plugin.api_version) == "v1";
        let timeout = timeout(plugin);
        version(plugin, &path, lints);
        calls(plugin, timeout, is_v1, &path, lints);
        socket(plugin, &path, lints);

        let repeated = match names.get(name) {
            Some(other) => *other == endpoint,
            None => false,
        };
        if is_v1 {
            if names.contains_key(name) && !name.is_empty() {
                let message = if repeated {
                    format!("the KMS v1 plugin {} is there twice", quote(name))
                } else {
                    format!("two KMS v1 plugins are called {}", quote(name))
                };
                lints.push(
                    ids::KMS_V1_NAME_TWICE,
                    format!("{path}.name"),
                    plugin.name.place,
                    message,
                    "put its resources into one entry, or give the newer plugin a name of its own",
                );
            }
            names.entry(name).or_insert(endpoint);
        }
        if let Some(dialled) = dialled(endpoint) {
            match sockets.get(&dialled.address) {
                Some(other) if *other != name => lints.push(
                    ids::SOCKET_TWICE,
                    format!("{path}.endpoint"),
                    plugin.endpoint.place,
                    format!("{} and {} have one socket", quote(other), quote(name)),
                    "check the endpoint, or take out the name under which nothing is stored any more",
                ),
                Some(_) => {}
                None => {
                    sockets.insert(dialled.address, name);
                }
            }
        }
        count += 1;
        let calls = if is_v1 { 2 } else { 1 };
        let before = together;
        together = together.saturating_add(timeout.saturating_mul(calls));
        if count > 1 && before <= PROBE && together > PROBE && timeout < REQUEST {
            let place = plugin.timeout.as_ref().map_or(plugin.place, |at| at.place);
            lints.push(
                ids::TIMEOUTS_TOGETHER,
                format!("{path}.timeout"),
                place,
                format!(
                    "with this one the plugins' timeouts are {} together, longer than a readiness \
                     probe waits",
                    seconds(together)
                ),
                "leave the timeouts out for 3s each, or take out plugins that are not needed",
            );
        }
    }
}

fn timeout(plugin: &Plugin) -> Duration {
    let nanoseconds = plugin
        .timeout
        .as_ref()
        .map(|at| u64::try_from(at.value).unwrap_or(0));
    nanoseconds.map_or(Kms::DEFAULT_TIMEOUT, Duration::from_nanos)
}

fn seconds(duration: Duration) -> String {
    match duration.subsec_millis() {
        0 => format!("{} s", duration.as_secs()),
        _ => format!("{} ms", duration.as_millis()),
    }
}

fn version(plugin: &Plugin, path: &str, lints: &mut Lints) {
    if text(&plugin.api_version) != "v1" {
        return;
    }
    let place = plugin.api_version.place;
    let path = format!("{path}.apiVersion");
    if place == plugin.place {
        lints.push(
            ids::KMS_V1_UNSAID,
            path,
            place,
            format!(
                "{} has no apiVersion and is taken for v1",
                quote(text(&plugin.name))
            ),
            "write `apiVersion: v2`; if v1 has written already, keep that behind it with \
             `apiVersion: v1`",
        );
    } else {
        lints.push(
            ids::KMS_V1,
            path,
            place,
            "KMS v1 is deprecated, and off by default since 1.29",
            "put the plugin's v2 in front under a new name, and keep this behind it until \
             `atrest verify` finds nothing of it",
        );
    }
}

fn calls(plugin: &Plugin, timeout: Duration, is_v1: bool, path: &str, lints: &mut Lints) {
    if let Some(at) = &plugin.timeout {
        let path = format!("{path}.timeout");
        if timeout >= REQUEST {
            lints.push(
                ids::TIMEOUT_LONG,
                path,
                at.place,
                "the server ends a request after 60 s, this timeout would come later",
                "take it out for 3s, or write a few seconds",
            );
        } else if timeout < ENCRYPT {
            lints.push(
                ids::TIMEOUT_SHORT,
                path,
                at.place,
                "a plugin may take 100 ms for a call, this timeout cuts it off sooner",
                "take it out for 3s, or write `s` where `ms` stands",
            );
        }
    }
    if let Some(at) = &plugin.cachesize
        && is_v1
        && !(100..=1_000_000).contains(&at.value)
    {
        let message = match at.value {
            ..0 => "without a cache each read of an object calls the plugin".to_owned(),
            0..100 => format!("a cache of {} data keys: each object has its own", at.value),
            _ => format!(
                "a cache of {} data keys is more than objects are likely",
                at.value
            ),
        };
        lints.push(
            ids::CACHESIZE,
            format!("{path}.cachesize"),
            at.place,
            message,
            "take it out for 1000, or write a number somewhat above that of the objects",
        );
    }
}

fn socket(plugin: &Plugin, path: &str, lints: &mut Lints) {
    const THREE_SLASHES: &str = "write three slashes and an absolute path, as in \
                                 `unix:///run/kms/kms.sock`";

    let Some(dialled) = dialled(text(&plugin.endpoint)) else {
        return;
    };
    let address = dialled.address.as_str();
    let place = plugin.endpoint.place;
    let path = format!("{path}.endpoint");
    if matches!(address, "" | "/" | "@") {
        let message = match address {
            "" => "the server dials the empty address",
            "/" => "the server dials /, which is a directory",
            _ => "the server dials an abstract socket without a name",
        };
        lints.push(ids::DIALS_NOTHING, path, place, message, THREE_SLASHES);
        return;
    }
    if !dialled.dropped.is_empty() {
        lints.push(
            ids::DIALS_ELSEWHERE,
            path.as_str(),
            place,
            format!(
                "the server drops {} and dials {}",
                dialled.dropped.join(" and "),
                quote(address)
            ),
            THREE_SLASHES,
        );
    } else if dialled.has_escapes {
        lints.push(
            ids::ESCAPES_IN_ENDPOINT,
            path.as_str(),
            place,
            format!(
                "the percent escapes are decoded: the server dials {}",
                quote(address)
            ),
            "choose a path of letters, digits, dashes and dots",
        );
    }
    let is_abstract = address.starts_with('@');
    if is_abstract {
        lints.push(
            ids::ABSTRACT_SOCKET,
            path.as_str(),
            place,
            format!(
                "{} is an abstract socket, which no mode or owner guards",
                quote(address)
            ),
            "use a path in a directory of root's, as in `unix:///run/kms/kms.sock`",
        );
    }
    if ["/tmp/", "/var/tmp/", "/dev/shm/"]
        .iter()
        .any(|it| address.starts_with(it))
    {
        lints.push(
            ids::SOCKET_FOR_ALL,
            path.as_str(),
            place,
            "any user may create a socket in this directory before the plugin does",
            "use a directory of root's, as in `unix:///run/kms/kms.sock`",
        );
    }
    let most = if is_abstract { 108 } else { 107 };
    if address.len() > most {
        lints.push(
            ids::SOCKET_TOO_LONG,
            path,
            place,
            format!(
                "the socket's address has {} bytes, Linux takes {most}",
                address.len()
            ),
            "choose a shorter path, as in `unix:///run/kms/kms.sock`",
        );
    }
}
