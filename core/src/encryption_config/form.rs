//! A configuration as nothing but fields, lists, texts and numbers: what is written, and what two
//! configurations are compared by.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::model::{EncryptionConfiguration, Key, Kms, KmsVersion, Provider, ResourceEntry};
use super::tree::Text;

/// A value of the file. Its texts may be keys.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Form {
    Text(Text),
    Number(i32),
    Bool(bool),
    List(Vec<Form>),
    Map(Vec<(&'static str, Form)>),
}

impl Form {
    /// The whole file. Whatever is the server's default is left out, except the version of a KMS
    /// plugin's API, whose default is the one that is deprecated.
    pub(super) fn of(configuration: &EncryptionConfiguration) -> Self {
        Self::Map(vec![
            ("apiVersion", text("apiserver.config.k8s.io/v1")),
            ("kind", text("EncryptionConfiguration")),
            ("resources", list(&configuration.resources, entry)),
        ])
    }

    /// The value of a field.
    pub(super) fn field(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Map(fields) => fields
                .iter()
                .find(|field| field.0 == name)
                .map(|field| &field.1),
            _ => None,
        }
    }

    /// The items of a list.
    pub(super) fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }
}

fn text(text: impl Into<String>) -> Form {
    Form::Text(Text::new(text.into()))
}

fn list<T>(items: &[T], form: impl Fn(&T) -> Form) -> Form {
    Form::List(items.iter().map(form).collect())
}

fn entry(entry: &ResourceEntry) -> Form {
    Form::Map(vec![
        ("resources", list(&entry.resources, |name| text(name))),
        ("providers", list(&entry.providers, provider)),
    ])
}

fn provider(provider: &Provider) -> Form {
    let value = match provider {
        Provider::Identity => Form::Map(Vec::new()),
        Provider::AesCbc(keys) | Provider::AesGcm(keys) | Provider::Secretbox(keys) => {
            Form::Map(vec![("keys", list(keys, key))])
        }
        Provider::Kms(kms) => Form::Map(plugin(kms)),
    };
    Form::Map(vec![(provider.name(), value)])
}

fn key(Key { name, secret }: &Key) -> Form {
    // `encode` allocates once, with the length that it needs.
    let secret = text(BASE64_STANDARD.encode(secret.expose()));
    Form::Map(vec![("name", text(name)), ("secret", secret)])
}

fn plugin(kms: &Kms) -> Vec<(&'static str, Form)> {
    // The server refuses a cachesize for v2.
    let cachesize = match kms.api_version {
        KmsVersion::V1 => kms.cachesize,
        KmsVersion::V2 => None,
    };
    let timeout = (kms.timeout != Kms::DEFAULT_TIMEOUT).then(|| go_duration(kms.timeout));
    [
        Some(("apiVersion", text(kms.api_version.to_string()))),
        Some(("name", text(&kms.name))),
        Some(("endpoint", text(&kms.endpoint))),
        cachesize.map(|size| ("cachesize", Form::Number(size))),
        timeout.map(|timeout| ("timeout", text(timeout))),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A duration as Go's `time.ParseDuration` reads it: `1m30s`, `1.5s`, `20ms`.
fn go_duration(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    let exact = |unit: u128| {
        nanoseconds
            .is_multiple_of(unit)
            .then_some(nanoseconds / unit)
    };
    if nanoseconds < 1_000_000_000 {
        return match (exact(1_000_000), exact(1_000)) {
            (Some(milliseconds), _) => format!("{milliseconds}ms"),
            (None, Some(microseconds)) => format!("{microseconds}us"),
            (None, None) => format!("{nanoseconds}ns"),
        };
    }
    let seconds = duration.as_secs();
    let mut text = String::new();
    for (amount, unit) in [(seconds / 3600, 'h'), (seconds / 60 % 60, 'm')] {
        if amount > 0 {
            text.push_str(&amount.to_string());
            text.push(unit);
        }
    }
    let fraction = format!("{:09}", duration.subsec_nanos());
    let fraction = fraction.trim_end_matches('0');
    match (seconds % 60, fraction) {
        (0, "") => {}
        (seconds, "") => text.push_str(&format!("{seconds}s")),
        (seconds, fraction) => text.push_str(&format!("{seconds}.{fraction}s")),
    }
    text
}
