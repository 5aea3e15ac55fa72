//! What a scalar without quotes means in YAML 1.1, as `go.yaml.in/yaml/v2` has it (`resolve.go`):
//! `yes` is true, `010` is eight, `1_000` a thousand.

use super::tree::Scalar;

/// Tags of the YAML type repository share this start.
pub(super) const TAG_PREFIX: &str = "tag:yaml.org,2002:";

/// A value that does not fit its explicit tag.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Mismatch;

/// Resolves a plain scalar, or one that carries a tag; `tag` is in its long form.
pub(super) fn resolve(tag: Option<&str>, text: &str) -> Result<Scalar, Mismatch> {
    let Some(tag) = tag else {
        return Ok(plain(text));
    };
    let fits = |scalar: Scalar, fits: bool| fits.then_some(scalar).ok_or(Mismatch);
    match (tag.strip_prefix(TAG_PREFIX), plain(text)) {
        (Some("null"), scalar) => fits(scalar, scalar == Scalar::Null),
        (Some("bool"), scalar) => fits(scalar, matches!(scalar, Scalar::Bool(_))),
        (Some("int"), scalar) => fits(scalar, matches!(scalar, Scalar::Int(_) | Scalar::Uint(_))),
        (Some("float"), Scalar::Int(number)) => Ok(Scalar::Float(number as f64)),
        (Some("float"), scalar) => fits(scalar, matches!(scalar, Scalar::Float(_))),
        (Some("timestamp"), _) => fits(Scalar::Text, looks_like_a_date(text)),
        // Tags that the server does not know leave the text as it is.
        _ => Ok(Scalar::Text),
    }
}

/// Whether the text, written without quotes, is read as text.
pub(super) fn is_text(text: &str) -> bool {
    plain(text) == Scalar::Text
}

fn plain(text: &str) -> Scalar {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Scalar::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Scalar::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Scalar::Float(f64::INFINITY);
        }
        "-.inf" | "-.Inf" | "-.INF" => return Scalar::Float(f64::NEG_INFINITY),
        _ => {}
    }
    match text.as_bytes()[0] {
        b'.' => float(text),
        b'0'..=b'9' | b'+' | b'-' => number(&text.replace('_', "")),
        _ => Scalar::Text,
    }
}

fn number(text: &str) -> Scalar {
    if let Some(number) = integer(text) {
        return number;
    }
    // A sign after the prefix is go-yaml's own.
    if let Some(number) = text
        .strip_prefix("0b")
        .and_then(|digits| i64::from_str_radix(digits, 2).ok())
    {
        return Scalar::Int(number);
    }
    float(text)
}

/// Go's integer literals with a sign; a leading zero means octal.
fn integer(text: &str) -> Option<Scalar> {
    let (negative, unsigned) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    let prefix = unsigned.get(..2).map(str::to_ascii_lowercase);
    let (radix, digits) = match prefix.as_deref() {
        Some("0x") if unsigned.len() > 2 => (16, &unsigned[2..]),
        Some("0o") if unsigned.len() > 2 => (8, &unsigned[2..]),
        Some("0b") if unsigned.len() > 2 => (2, &unsigned[2..]),
        _ if unsigned.len() > 1 && unsigned.starts_with('0') => (8, &unsigned[1..]),
        _ => (10, unsigned),
    };
    if !digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    if negative {
        return 0_i64.checked_sub_unsigned(magnitude).map(Scalar::Int);
    }
    match i64::try_from(magnitude) {
        Ok(number) => Some(Scalar::Int(number)),
        // A sign makes it a float.
        Err(_) if text.starts_with('+') => None,
        Err(_) => Some(Scalar::Uint(magnitude)),
    }
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`, as long as it is finite.
fn float(text: &str) -> Scalar {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_mantissa = match mantissa.split_once('.') {
        None => digits(mantissa),
        Some(("", fraction)) => digits(fraction),
        Some((whole, fraction)) => digits(whole) && (fraction.is_empty() || digits(fraction)),
    };
    let is_exponent =
        exponent.is_none_or(|text| digits(text.strip_prefix(['-', '+']).unwrap_or(text)));
    match text.parse::<f64>() {
        Ok(number) if is_mantissa && is_exponent && number.is_finite() => Scalar::Float(number),
        _ => Scalar::Text,
    }
}

fn looks_like_a_date(text: &str) -> bool {
    let mut parts = text.splitn(3, '-');
    let mut is_number = |lengths: std::ops::RangeInclusive<usize>| {
        parts.next().is_some_and(|part| {
            let digits = part.bytes().take_while(u8::is_ascii_digit).count();
            lengths.contains(&digits)
        })
    };
    is_number(4..=4) && is_number(1..=2) && is_number(1..=2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_go() {
        for (text, number) in [
            ("0", 0),
            ("010", 8),
            ("0o10", 8),
            ("0x10", 16),
            ("-0X1f", -31),
            ("0b101", 5),
            ("0b-101", -5),
            ("1_000", 1000),
            ("+7", 7),
            ("-9223372036854775808", i64::MIN),
        ] {
            assert_eq!(plain(text), Scalar::Int(number), "{text}");
        }
        assert_eq!(plain("18446744073709551615"), Scalar::Uint(u64::MAX));
        for (text, number) in [
            ("08", 8.0),
            ("1e3", 1000.0),
            ("100.0", 100.0),
            (".5", 0.5),
            ("-1.", -1.0),
            ("99999999999999999999", 1e20),
        ] {
            assert_eq!(plain(text), Scalar::Float(number), "{text}");
        }
    }

    #[test]
    fn words_are_those_of_yaml_1_1() {
        for text in ["y", "Yes", "on", "TRUE"] {
            assert_eq!(plain(text), Scalar::Bool(true), "{text}");
        }
        for text in ["n", "No", "off", "false"] {
            assert_eq!(plain(text), Scalar::Bool(false), "{text}");
        }
        for text in ["", "~", "null", "NULL"] {
            assert_eq!(plain(text), Scalar::Null, "{text}");
        }
    }

    #[test]
    fn the_rest_is_text() {
        for text in [
            "1:40",
            "yES",
            "nUll",
            "<<",
            "0x",
            "0b",
            "1e999",
            "--1",
            "+-1",
            "0x+1",
            "2026-11-22",
            "20261122-12345678",
            "1.2.3",
            ".",
            "1e",
            "+",
            "0xfffffffffffffffff",
            "é",
        ] {
            assert_eq!(plain(text), Scalar::Text, "{text}");
        }
    }

    #[test]
    fn a_tag_must_fit() {
        let long = |tag: &str| format!("{TAG_PREFIX}{tag}");
        assert_eq!(resolve(Some(&long("str")), "1"), Ok(Scalar::Text));
        assert_eq!(resolve(Some("!mine"), "1"), Ok(Scalar::Text));
        assert_eq!(resolve(Some(&long("int")), "1"), Ok(Scalar::Int(1)));
        assert_eq!(resolve(Some(&long("float")), "1"), Ok(Scalar::Float(1.0)));
        assert_eq!(
            resolve(Some(&long("timestamp")), "2026-1-2"),
            Ok(Scalar::Text)
        );
        for (tag, text) in [
            ("int", "1.5"),
            ("int", "x"),
            ("null", "x"),
            ("bool", "1"),
            ("float", "x"),
            ("timestamp", "soon"),
        ] {
            assert_eq!(
                resolve(Some(&long(tag)), text),
                Err(Mismatch),
                "{tag} {text}"
            );
        }
    }
}
