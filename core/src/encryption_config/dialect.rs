//! Durations, base64 and URLs as Go's standard library takes them.

use zeroize::Zeroizing;

use crate::secret::SecretBytes;

/// Why something is no duration.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum NoDuration<'a> {
    Invalid,
    MissingUnit,
    UnknownUnit(&'a str),
}

/// `time.ParseDuration`, in nanoseconds: `1m30s`, `.5s`, `-1h`, `0`.
pub(super) fn duration(text: &str) -> Result<i64, NoDuration<'_>> {
    const INVALID: NoDuration<'static> = NoDuration::Invalid;

    let (negative, mut rest) = match text.as_bytes().first().ok_or(INVALID)? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(INVALID);
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(INVALID);
        }
        let end = after
            .find(|scalar: char| scalar == '.' || scalar.is_ascii_digit())
            .unwrap_or(after.len());
        let unit: u64 = match &after[..end] {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "" => return Err(NoDuration::MissingUnit),
            unknown => return Err(NoDuration::UnknownUnit(unknown)),
        };
        rest = &after[end..];
        let added = whole.parse().map(|whole: u64| whole.checked_mul(unit));
        let added = if whole.is_empty() {
            Some(0)
        } else {
            added.ok().flatten()
        };
        let sum =
            added.and_then(|added| total.checked_add(added)?.checked_add(part(fraction, unit)));
        total = sum
            .filter(|sum| *sum <= i64::MIN.unsigned_abs())
            .ok_or(INVALID)?;
    }
    let signed = if negative {
        0_i64.checked_sub_unsigned(total)
    } else {
        i64::try_from(total).ok()
    };
    signed.ok_or(INVALID)
}

/// `0.fraction * unit`, through a float, as Go does it; digits beyond 63 bits do not count.
fn part(fraction: &str, unit: u64) -> u64 {
    let (mut value, mut scale) = (0_u64, 1_f64);
    for digit in fraction.bytes().map(|digit| u64::from(digit - b'0')) {
        if value > i64::MAX as u64 / 10 {
            break;
        }
        let next = value * 10 + digit;
        if next > i64::MIN.unsigned_abs() {
            break;
        }
        (value, scale) = (next, scale * 10.0);
    }
    (value as f64 * (unit as f64 / scale)) as u64
}

fn digits(text: &str) -> (&str, &str) {
    let end = text
        .find(|scalar: char| !scalar.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

/// `base64.StdEncoding`: padding required, line breaks anywhere, bits after the end ignored.
pub(super) fn base64(text: &str) -> Option<SecretBytes> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() / 4 * 3 + 3));
    let mut characters = text.bytes().filter(|byte| !b"\r\n".contains(byte));
    let (mut quantum, mut length) = (0_u32, 0);
    while let Some(character) = characters.next() {
        let value = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => {
                let rest = match length {
                    2 => characters.next() == Some(b'='),
                    3 => true,
                    _ => false,
                };
                if !rest || characters.next().is_some() {
                    return None;
                }
                let whole = (quantum << (6 * (4 - length))).to_be_bytes();
                bytes.extend_from_slice(&whole[1..length]);
                return Some(SecretBytes::new(std::mem::take(&mut *bytes)));
            }
            _ => return None,
        };
        quantum = quantum << 6 | u32::from(value);
        length += 1;
        if length == 4 {
            bytes.extend_from_slice(&quantum.to_be_bytes()[1..]);
            (quantum, length) = (0, 0);
        }
    }
    (length == 0).then(|| SecretBytes::new(std::mem::take(&mut *bytes)))
}

/// Why something is no URL. Nothing of it is in the sentences.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct NoUrl {
    pub(super) message: &'static str,
    /// Go's own words; what they quote is `REDACTED`.
    pub(super) server: &'static str,
}

const fn no_url(message: &'static str, server: &'static str) -> NoUrl {
    NoUrl { message, server }
}

const ESCAPE: NoUrl = no_url(
    "a percent sign is not followed by two hex digits",
    r#"invalid URL escape "REDACTED""#,
);
const PORT: NoUrl = no_url(
    "the port after the host is not a number",
    r#"invalid port "REDACTED" after host"#,
);

/// `url.Parse`, as far as whether it succeeds and which scheme it finds, in lower case.
pub(super) fn url_scheme(url: &str) -> Result<String, NoUrl> {
    let (url, fragment) = url.split_once('#').unwrap_or((url, ""));
    if url.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(no_url(
            "it holds a control character",
            "net/url: invalid control character in URL",
        ));
    }
    if url == "*" {
        return Ok(String::new());
    }
    let (scheme, rest) = split_scheme(url)?;
    let scheme = scheme.to_ascii_lowercase();
    let rest = rest.split_once('?').map_or(rest, |(path, _)| path);
    if !rest.starts_with('/') {
        if !scheme.is_empty() {
            return if is_escaped(fragment) {
                Ok(scheme)
            } else {
                Err(ESCAPE)
            };
        }
        if rest
            .split('/')
            .next()
            .is_some_and(|segment| segment.contains(':'))
        {
            return Err(no_url(
                "a colon stands in its first segment",
                "first path segment in URL cannot contain colon",
            ));
        }
    }
    let mut path = rest;
    if let Some(authority) = rest.strip_prefix("//")
        && (!scheme.is_empty() || !rest.starts_with("///"))
    {
        let end = authority.find('/').unwrap_or(authority.len());
        path = &authority[end..];
        check_authority(&scheme, &authority[..end])?;
    }
    if is_escaped(path) && is_escaped(fragment) {
        Ok(scheme)
    } else {
        Err(ESCAPE)
    }
}

fn split_scheme(url: &str) -> Result<(&str, &str), NoUrl> {
    for (at, byte) in url.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => {}
            b':' if at == 0 => {
                return Err(no_url(
                    "the scheme before the colon is missing",
                    "missing protocol scheme",
                ));
            }
            b':' => return Ok((&url[..at], &url[at + 1..])),
            _ => break,
        }
    }
    Ok(("", url))
}

fn check_authority(scheme: &str, authority: &str) -> Result<(), NoUrl> {
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    check_host(scheme, host)?;
    let is_user = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&byte);
    if !user.bytes().all(is_user) {
        return Err(no_url(
            "its user part holds a character that cannot stand there",
            "net/url: invalid userinfo",
        ));
    }
    is_escaped(user).then_some(()).ok_or(ESCAPE)
}

fn check_host(scheme: &str, host: &str) -> Result<(), NoUrl> {
    let is_port = |port: &str| match port.strip_prefix(':') {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_digit()),
        None => port.is_empty(),
    };
    match host.rfind('[') {
        Some(0) => {
            let end = host.rfind(']').ok_or(no_url(
                "the bracket of its host is not closed",
                "missing ']' in host",
            ))?;
            if !is_port(&host[end + 1..]) {
                return Err(PORT);
            }
            let name = host.get(1..end).unwrap_or_default();
            let (address, zone) = name.split_once("%25").unwrap_or((name, "zone"));
            if address.parse::<std::net::Ipv6Addr>().is_err() || zone.is_empty() {
                return Err(no_url(
                    "its host in brackets is no IPv6 address",
                    "REDACTED",
                ));
            }
            return Ok(());
        }
        Some(_) => return Err(no_url("a bracket stands in its host", "invalid IP-literal")),
        None => {}
    }
    // Other schemes may name several hosts with a port each.
    let port = if matches!(scheme, "http" | "https") {
        host.find(':')
    } else {
        host.rfind(':')
    };
    if port.is_some_and(|at| !is_port(&host[at..])) {
        return Err(PORT);
    }
    let mut bytes = host.bytes();
    while let Some(byte) = bytes.next() {
        let fits = match byte {
            b'%' => matches!(
                (bytes.next(), bytes.next()),
                (Some(b'8'..=b'9' | b'a'..=b'f' | b'A'..=b'F'), Some(low)) if low.is_ascii_hexdigit()
            ),
            0x80.. => true,
            _ => byte.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:[]<>\"".contains(&byte),
        };
        if !fits {
            return Err(no_url(
                "its host holds a character that cannot stand there",
                "REDACTED",
            ));
        }
    }
    Ok(())
}

fn is_escaped(text: &str) -> bool {
    text.split('%')
        .skip(1)
        .all(|after| after.len() >= 2 && after.bytes().take(2).all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        for (text, nanoseconds) in [
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("+3s", 3_000_000_000),
            ("-1m", -60_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1ns", 1),
            ("1µs", 1000),
            ("1μs", 1000),
            ("0", 0),
            ("-0", 0),
            ("2562047h47m16.854775807s", i64::MAX),
            ("-2562047h47m16.854775808s", i64::MIN),
            ("0.3333333333333333333h", 1_200_000_000_000),
            ("0.9223372036854775807999999s", 922_337_203),
        ] {
            assert_eq!(duration(text), Ok(nanoseconds), "{text}");
        }
        for text in [
            "",
            "3",
            "+",
            "1d",
            "3S",
            "3 s",
            "s",
            ".s",
            "-.s",
            "2562048h",
            "1s2",
            "--1s",
            "9223372036854775808ns",
            "1e3s",
            "١s",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn base64_is_that_of_go() {
        let decode = |text: &str| base64(text).map(|bytes| bytes.expose().to_vec());
        for (text, bytes) in [
            ("", &b""[..]),
            ("\n", b""),
            ("YQ==", b"a"),
            ("YR==", b"a"), // bits after the end
            ("YWI=", b"ab"),
            ("YWJj", b"abc"),
            ("Y\nW\r\nJj\n", b"abc"),
            ("YQ=\n=\n", b"a"),
            ("YWJjZA==", b"abcd"),
        ] {
            assert_eq!(decode(text).as_deref(), Some(bytes), "{text:?}");
        }
        for text in [
            "Y", "YQ", "YQ=", "YWI", "YQ===", "YQ==YQ==", "YWI=\t", " YWJj", "YW-j", "=", "A===",
            "YWJj=", "YQ==\n=",
        ] {
            assert_eq!(decode(text), None, "{text:?}");
        }
    }

    #[test]
    fn urls_are_those_of_go() {
        for (url, scheme) in [
            ("unix:///tmp/k.sock", "unix"),
            ("UNIX:/tmp/k.sock", "unix"),
            ("unix:///@k", "unix"),
            ("unix://tmp/k.sock", "unix"),
            ("unix:tmp/k.sock", "unix"),
            ("unix:", "unix"),
            ("unix://", "unix"),
            ("unix://u:p@h/c", "unix"),
            ("unix:///tmp/a b", "unix"),
            ("unix:///tmp/a?%zz", "unix"),
            ("unix:%zz", "unix"),
            ("unix://a:1:2/x", "unix"),
            ("unix://[::1]:80/x", "unix"),
            ("unix://[fe80::1%25eth0]/x", "unix"),
            ("https://www.foo.com", "https"),
            ("/tmp/k.sock", ""),
            ("tmp", ""),
            ("*", ""),
        ] {
            assert_eq!(url_scheme(url).as_deref(), Ok(scheme), "{url}");
        }
        for url in [
            "unix:///foo\n.socket",
            "unix:///%zz",
            "unix:///%a",
            "unix:///a#%zz",
            "unix:a#%zz",
            "unix://[::1/x",
            "unix://[1.2.3.4]/x",
            "unix://a[b]/x",
            "unix://h:port/x",
            "unix://a b/x",
            "unix://a%20b/x",
            "unix://u u@h/x",
            "https://a:1:2/",
            " unix:///x",
            "1:2/x",
            ":foo",
            "a_b:c/d",
            "unix:///tmp/\u{7f}",
        ] {
            assert!(url_scheme(url).is_err(), "{url:?}");
        }
    }
}
