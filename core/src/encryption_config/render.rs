//! Writes a file that every kube-apiserver loads, strict or lenient, YAML 1.1 or JSON.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

use super::model::{EncryptionConfiguration, Key, Kms, KmsVersion, Provider, ResourceEntry};
use super::resolve::is_text;
use crate::secret::SecretBytes;

/// The form of the file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// Block style, two spaces.
    Yaml,
    /// Two spaces.
    Json,
}

/// Writes the configuration. Whatever is the server's default is left out, except the version of
/// a KMS plugin's API, whose default is the one that is deprecated.
pub fn render(configuration: &EncryptionConfiguration, format: Format) -> SecretBytes {
    // One allocation: what a growing buffer leaves behind would not be zeroized.
    let mut out = Zeroizing::new(Vec::with_capacity(room(configuration)));
    match format {
        Format::Yaml => yaml(configuration, &mut out),
        Format::Json => json(configuration, &mut out),
    }
    SecretBytes::new(std::mem::take(&mut *out))
}

/// More bytes than any form of the configuration has.
fn room(configuration: &EncryptionConfiguration) -> usize {
    const LINE: usize = 64; // indentation and field name
    const ESCAPE: usize = 12; // the longest form of one scalar
    let mut room = 4 * LINE;
    for entry in &configuration.resources {
        room += 4 * LINE;
        for resource in &entry.resources {
            room += LINE + ESCAPE * resource.len();
        }
        for provider in &entry.providers {
            room += 4 * LINE;
            for key in provider.keys() {
                room += 4 * LINE + ESCAPE * key.name.len() + 2 * key.secret.len();
            }
            if let Provider::Kms(kms) = provider {
                room += 8 * LINE + ESCAPE * (kms.name.len() + kms.endpoint.len());
            }
        }
    }
    room
}

fn yaml(configuration: &EncryptionConfiguration, out: &mut Vec<u8>) {
    push(
        out,
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\n",
    );
    if configuration.resources.is_empty() {
        push(out, "resources: []\n");
        return;
    }
    push(out, "resources:\n");
    for ResourceEntry {
        resources,
        providers,
    } in &configuration.resources
    {
        push(out, "  - resources:");
        push(out, if resources.is_empty() { " []\n" } else { "\n" });
        for resource in resources {
            push(out, "      - ");
            yaml_string(resource, out);
            push(out, "\n");
        }
        push(out, "    providers:");
        push(out, if providers.is_empty() { " []\n" } else { "\n" });
        for provider in providers {
            yaml_provider(provider, out);
        }
    }
}

fn yaml_provider(provider: &Provider, out: &mut Vec<u8>) {
    push(out, "      - ");
    push(out, provider.name());
    match provider {
        Provider::Identity => push(out, ": {}\n"),
        Provider::AesCbc(keys) | Provider::AesGcm(keys) | Provider::Secretbox(keys) => {
            push(out, ":\n          keys:");
            push(out, if keys.is_empty() { " []\n" } else { "\n" });
            for Key { name, secret } in keys {
                push(out, "            - name: ");
                yaml_string(name, out);
                push(out, "\n              secret: ");
                yaml_string(&encoded(secret), out);
                push(out, "\n");
            }
        }
        Provider::Kms(kms) => {
            push(out, ":\n");
            for (field, value) in kms_fields(kms) {
                push(out, "          ");
                push(out, field);
                push(out, ": ");
                match value {
                    Value::Text(text) => yaml_string(&text, out),
                    Value::Number(number) => push(out, &number.to_string()),
                }
                push(out, "\n");
            }
        }
    }
}

fn json(configuration: &EncryptionConfiguration, out: &mut Vec<u8>) {
    push(
        out,
        "{\n  \"apiVersion\": \"apiserver.config.k8s.io/v1\",\n",
    );
    push(
        out,
        "  \"kind\": \"EncryptionConfiguration\",\n  \"resources\": ",
    );
    json_list(&configuration.resources, 2, out, |entry, out| {
        push(out, "{\n      \"resources\": ");
        json_list(&entry.resources, 6, out, |resource, out| {
            json_string(resource, out)
        });
        push(out, ",\n      \"providers\": ");
        json_list(&entry.providers, 6, out, json_provider);
        push(out, "\n    }");
    });
    push(out, "\n}\n");
}

fn json_provider(provider: &Provider, out: &mut Vec<u8>) {
    push(out, "{\n          \"");
    push(out, provider.name());
    push(out, "\": ");
    match provider {
        Provider::Identity => push(out, "{}"),
        Provider::AesCbc(keys) | Provider::AesGcm(keys) | Provider::Secretbox(keys) => {
            push(out, "{\n            \"keys\": ");
            json_list(keys, 12, out, |Key { name, secret }, out| {
                push(out, "{\n                \"name\": ");
                json_string(name, out);
                push(out, ",\n                \"secret\": ");
                json_string(&encoded(secret), out);
                push(out, "\n              }");
            });
            push(out, "\n          }");
        }
        Provider::Kms(kms) => {
            push(out, "{");
            for (index, (field, value)) in kms_fields(kms).enumerate() {
                push(
                    out,
                    if index == 0 {
                        "\n            \""
                    } else {
                        ",\n            \""
                    },
                );
                push(out, field);
                push(out, "\": ");
                match value {
                    Value::Text(text) => json_string(&text, out),
                    Value::Number(number) => push(out, &number.to_string()),
                }
            }
            push(out, "\n          }");
        }
    }
    push(out, "\n        }");
}

fn json_list<T>(
    items: &[T],
    indentation: usize,
    out: &mut Vec<u8>,
    mut item: impl FnMut(&T, &mut Vec<u8>),
) {
    push(out, "[");
    for (index, value) in items.iter().enumerate() {
        push(out, if index == 0 { "\n" } else { ",\n" });
        out.resize(out.len() + indentation + 2, b' ');
        item(value, out);
    }
    if !items.is_empty() {
        push(out, "\n");
        out.resize(out.len() + indentation, b' ');
    }
    push(out, "]");
}

enum Value {
    Text(String),
    Number(i32),
}

fn kms_fields(kms: &Kms) -> impl Iterator<Item = (&'static str, Value)> {
    // The server refuses a cachesize for v2.
    let cachesize = match kms.api_version {
        KmsVersion::V1 => kms.cachesize,
        KmsVersion::V2 => None,
    };
    let timeout = (kms.timeout != Kms::DEFAULT_TIMEOUT).then(|| go_duration(kms.timeout));
    [
        Some(("apiVersion", Value::Text(kms.api_version.to_string()))),
        Some(("name", Value::Text(kms.name.clone()))),
        Some(("endpoint", Value::Text(kms.endpoint.clone()))),
        cachesize.map(|size| ("cachesize", Value::Number(size))),
        timeout.map(|timeout| ("timeout", Value::Text(timeout))),
    ]
    .into_iter()
    .flatten()
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

fn encoded(secret: &SecretBytes) -> Zeroizing<String> {
    // `encode` allocates once, with the length that it needs.
    Zeroizing::new(BASE64_STANDARD.encode(secret.expose()))
}

fn push(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// Plain where nobody can read anything else in it, else in double quotes.
fn yaml_string(text: &str, out: &mut Vec<u8>) {
    // Nobody's numbers end with an equals sign; base64 mostly does.
    let is_word = |first: char| first.is_ascii_alphabetic() || first == '/';
    let is_base64 = |first: char| text.ends_with('=') && (first.is_ascii_digit() || first == '+');
    let plain = text.starts_with(|first| is_word(first) || is_base64(first))
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._/+=".contains(&byte))
        && is_text(text);
    if plain {
        return push(out, text);
    }
    quoted(text, out, |scalar, out| {
        push(
            out,
            &match u32::from(scalar) {
                value @ 0..=0xff => format!("\\x{value:02x}"),
                value @ 0x100..=0xffff => format!("\\u{value:04x}"),
                value => format!("\\U{value:08x}"),
            },
        );
    });
}

fn json_string(text: &str, out: &mut Vec<u8>) {
    quoted(text, out, |scalar, out| {
        for unit in scalar.encode_utf16(&mut [0; 2]) {
            push(out, &format!("\\u{unit:04x}"));
        }
    });
}

fn quoted(text: &str, out: &mut Vec<u8>, escape: impl Fn(char, &mut Vec<u8>)) {
    push(out, "\"");
    for scalar in text.chars() {
        match scalar {
            '"' => push(out, "\\\""),
            '\\' => push(out, "\\\\"),
            '\n' => push(out, "\\n"),
            '\r' => push(out, "\\r"),
            '\t' => push(out, "\\t"),
            ' '..='~' => push(out, scalar.encode_utf8(&mut [0; 4])),
            _ if scalar.is_alphanumeric() => push(out, scalar.encode_utf8(&mut [0; 4])),
            _ => escape(scalar, out),
        }
    }
    push(out, "\"");
}
