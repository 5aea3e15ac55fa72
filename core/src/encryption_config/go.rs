//! Values as Go prints them, for the words that kube-apiserver itself says. What is secret, or may be,
//! is [`REDACTED`], which is the server's own word where it hides a key.

use std::fmt;

use super::decode::{Element, List, NamedKey};
use super::dialect::NoDuration;
use super::fields::reads_as_name;
use super::model::Kms;
use super::tree::{Scalar, Value};

/// Stands for what is not shown.
pub(super) const REDACTED: &str = "REDACTED";

/// A name that may be shown; long ones and those of several lines may have swallowed what follows,
/// and some are keys.
pub(super) fn shown(name: &str) -> &str {
    const LONGEST: usize = 100;
    if name.len() > LONGEST || name.contains(['\n', '\r']) || !reads_as_name(name) {
        REDACTED
    } else {
        name
    }
}

/// An endpoint that may be shown: no user, no query, nothing as long as a key or with its capitals.
pub(super) fn shown_endpoint(endpoint: &str) -> &str {
    const LONGEST: usize = 20;
    let is_path = |byte: u8| byte.is_ascii_lowercase() || b"0123456789/.:-_%".contains(&byte);
    let segments = endpoint.split(['/', ':']);
    if endpoint.bytes().all(is_path) && segments.map(str::len).all(|length| length <= LONGEST) {
        endpoint
    } else {
        REDACTED
    }
}

/// A duration's text that may be shown, in the quotes of package `time`, which differ beyond ASCII.
pub(super) fn quoted_time(text: &str) -> String {
    const LONGEST: usize = 20;
    const FEW: usize = 7; // no passphrase
    let is_plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\';
    let few = |class: fn(&u8) -> bool| text.bytes().filter(class).count() <= FEW;
    let is_shown = text.len() <= LONGEST
        && text.bytes().all(is_plain)
        && few(u8::is_ascii_alphabetic)
        && few(u8::is_ascii_digit);
    format!("\"{}\"", if is_shown { text } else { REDACTED })
}

/// `%q`
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for scalar in text.chars() {
        match scalar {
            '"' | '\\' => quoted.extend(['\\', scalar]),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            scalar if is_printable(scalar) => quoted.push(scalar),
            scalar => quoted.push_str(&match u32::from(scalar) {
                code @ (0..0x20 | 0x7f) => format!("\\x{code:02x}"),
                code @ 0..0x10000 => format!("\\u{code:04x}"),
                code => format!("\\U{code:08x}"),
            }),
        }
    }
    quoted.push('"');
    quoted
}

/// Rust's `Debug` has the same notion, but for marks that begin a text.
fn is_printable(scalar: char) -> bool {
    let debug = format!("a{scalar}").escape_debug().to_string();
    !scalar.is_control() && !debug.contains("\\u{")
}

/// `json.Marshal`
pub(super) fn json(text: &str) -> String {
    let mut quoted = String::from("\"");
    for scalar in text.chars() {
        match scalar {
            '"' | '\\' => quoted.extend(['\\', scalar]),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\0'..' ' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(scalar)));
            }
            scalar => quoted.push(scalar),
        }
    }
    quoted.push('"');
    quoted
}

/// `time.Duration.String`
pub(super) fn duration(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let all = nanoseconds.unsigned_abs();
    let decimal = |value: u64, unit: u64, digits: usize| {
        let number = format!("{}.{:0digits$}", value / unit, value % unit);
        number
            .trim_end_matches('0')
            .trim_end_matches('.')
            .to_owned()
    };
    match all {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{all}ns"),
        1_000..1_000_000 => format!("{sign}{}µs", decimal(all, 1_000, 3)),
        1_000_000..1_000_000_000 => format!("{sign}{}ms", decimal(all, 1_000_000, 6)),
        _ => {
            let seconds = decimal(all % 60_000_000_000, 1_000_000_000, 9);
            match all / 60_000_000_000 {
                0 => format!("{sign}{seconds}s"),
                minutes @ 1..60 => format!("{sign}{minutes}m{seconds}s"),
                minutes => format!("{sign}{}h{}m{seconds}s", minutes / 60, minutes % 60),
            }
        }
    }
}

/// A value as `encoding/json` names its type.
pub(super) fn noun(value: &Value) -> &'static str {
    match value {
        Value::Scalar(Scalar::Bool(_), _) => "bool",
        Value::Scalar(Scalar::Text | Scalar::Null, _) => "string",
        Value::Scalar(..) => "number",
        Value::List(_) => "array",
        Value::Map(_) | Value::Alias(_) => "object",
    }
}

/// What `encoding/json` says of a value that does not fit into the field at `path`.
pub(super) fn wrong_type(value: &Value, path: &str) -> String {
    unfit(noun(value), path)
}

/// The same of a number that is whole and too large.
pub(super) fn no_int32(number: impl fmt::Display, path: &str) -> String {
    unfit(&format!("number {number}"), path)
}

fn unfit(value: &str, path: &str) -> String {
    let is_item = path.ends_with(']');
    let names: Vec<&str> = path
        .split('.')
        .map(|step| step.split_once('[').map_or(step, |(name, _)| name))
        .collect();
    let kind = |names: &[&str]| match names {
        [] => "EncryptionConfiguration",
        ["resources"] => "ResourceConfiguration",
        [.., "providers"] => "ProviderConfiguration",
        [.., "identity"] => "IdentityConfiguration",
        [.., "kms"] => "KMSConfiguration",
        [.., "aescbc" | "aesgcm"] => "AESConfiguration",
        [.., "secretbox"] => "SecretboxConfiguration",
        [.., "keys"] => "Key",
        [.., "cachesize"] => "int32",
        _ => "string",
    };
    let owner = kind(&names[..names.len() - 1]);
    let mut wanted = kind(&names).to_owned();
    if !matches!(&*wanted, "int32" | "string") {
        wanted.insert_str(0, "v1.");
    }
    let is_list = matches!(names.last(), Some(&("resources" | "providers" | "keys")));
    if is_list && !is_item {
        wanted.insert_str(0, "[]");
    }
    let field = names.join(".");
    format!("json: cannot unmarshal {value} into Go struct field {owner}.{field} of type {wanted}")
}

/// What `time.ParseDuration` says.
pub(super) fn no_duration(text: &str, problem: NoDuration<'_>) -> String {
    let quoted = quoted_time(text);
    match problem {
        NoDuration::Invalid => format!("time: invalid duration {quoted}"),
        NoDuration::MissingUnit => format!("time: missing unit in duration {quoted}"),
        NoDuration::UnknownUnit(unit) => {
            format!(
                "time: unknown unit {} in duration {quoted}",
                quoted_time(unit)
            )
        }
    }
}

/// `json.Marshal` of a provider element, which in the server's log has the keys in clear.
pub(super) fn element(element: &Element) -> String {
    let keys = |keys: Option<&List<NamedKey>>| match keys {
        None => "null".to_owned(),
        Some(keys) if keys.is_null() => r#"{"Keys":null}"#.to_owned(),
        Some(keys) => {
            let hidden = |text: &str| json(if text.is_empty() { "" } else { REDACTED });
            let key = |key: &NamedKey| {
                let [name, secret] = [&key.name, &key.secret].map(|at| hidden(at.value.expose()));
                format!(r#"{{"Name":{name},"Secret":{secret}}}"#)
            };
            let keys: Vec<_> = keys.iter().map(key).collect();
            format!(r#"{{"Keys":[{}]}}"#, keys.join(","))
        }
    };
    let [aesgcm, aescbc, secretbox] = [&element.aesgcm, &element.aescbc, &element.secretbox]
        .map(|it| keys(it.as_ref().map(|at| &at.value)));
    let identity = if element.identity { "{}" } else { "null" };
    let kms = element.kms.as_ref().map_or("null".to_owned(), |plugin| {
        let version = plugin.api_version.value.expose();
        let cachesize = match &plugin.cachesize {
            Some(at) => at.value.to_string(),
            None if version == "v1" => "1000".to_owned(),
            None => "null".to_owned(),
        };
        let default = i64::try_from(Kms::DEFAULT_TIMEOUT.as_nanos()).unwrap_or_default();
        let timeout = plugin.timeout.as_ref().map_or(default, |at| at.value);
        format!(
            r#"{{"APIVersion":{},"Name":{},"CacheSize":{cachesize},"Endpoint":{},"Timeout":"{}"}}"#,
            json(shown(version)),
            json(shown(plugin.name.value.expose())),
            json(shown_endpoint(plugin.endpoint.value.expose())),
            duration(timeout),
        )
    });
    format!(
        r#"{{"AESGCM":{aesgcm},"AESCBC":{aescbc},"Secretbox":{secretbox},"Identity":{identity},"KMS":{kms}}}"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_quoted_as_go_does() {
        assert_eq!(
            quoted("a\"\\\u{7}\n\t\u{0}\u{7f}é\u{85}\u{2028}\u{feff}🔑\u{10ffff}"),
            r#""a\"\\\a\n\t\x00\x7fé\u0085\u2028\ufeff🔑\U0010ffff""#
        );
        assert_eq!(
            json("a\"\\\n<&>\u{7f}\u{85}\u{2028}é\u{1}"),
            "\"a\\\"\\\\\\n\\u003c\\u0026\\u003e\u{7f}\u{85}\\u2028é\\u0001\""
        );
    }

    #[test]
    fn durations_are_written_as_go_does() {
        for (nanoseconds, text) in [
            (0, "0s"),
            (1, "1ns"),
            (-1_100, "-1.1µs"),
            (2_200_000, "2.2ms"),
            (3_300_000_000, "3.3s"),
            (-90_500_000_000, "-1m30.5s"),
            (300_000_000_000, "5m0s"),
            (3_600_000_000_000, "1h0m0s"),
            (i64::MAX, "2562047h47m16.854775807s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ] {
            assert_eq!(duration(nanoseconds), text);
        }
    }

    #[test]
    fn an_endpoint_is_shown_where_it_holds_nothing_else() {
        for endpoint in [
            "",
            "unix:///run/kms.sock",
            "http://127.0.0.1:8080",
            "unix:///%zz",
        ] {
            assert_eq!(shown_endpoint(endpoint), endpoint);
        }
        for endpoint in [
            "unix://user:word@host/a",
            "unix:///a?token=b",
            "bm8ga2V5LCBidXQgYXMgbG9uZyBhcyBvbmUgaXMuLi4=",
            "unix:///0123456789abcdef0123456789abcdef",
        ] {
            assert_eq!(shown_endpoint(endpoint), REDACTED);
        }
    }
}
