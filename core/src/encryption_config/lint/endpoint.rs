//! What a server dials for an endpoint (`k8s.io/kms` `pkg/util/util.go`, `ParseEndpoint`): the
//! URL's path and nothing else.

use super::super::dialect::url_scheme;

/// What the server makes of an endpoint that it takes.
pub(super) struct Dialled {
    /// A path, `@name` for an abstract socket, or empty.
    pub(super) address: String,
    /// What it leaves out: `a host`, `a query`, ...
    pub(super) dropped: Vec<&'static str>,
    /// Whether percent escapes were decoded.
    pub(super) has_escapes: bool,
}

/// `None` for what the server refuses.
pub(super) fn dialled(endpoint: &str) -> Option<Dialled> {
    let scheme = url_scheme(endpoint).ok()?;
    if scheme != "unix" {
        return None;
    }
    let (_, rest) = endpoint.split_once(':')?;
    let mut dropped = Vec::new();
    let mut cut = |rest, separator: char, what| match str::split_once(rest, separator) {
        Some((before, _)) => {
            dropped.push(what);
            before
        }
        None => rest,
    };
    let rest = cut(rest, '#', "what follows the #");
    let rest = cut(rest, '?', "what follows the ?");
    let path = match rest.strip_prefix("//") {
        Some(authority) => {
            let end = authority.find('/').unwrap_or(authority.len());
            match authority[..end].rsplit_once('@') {
                Some((_, "")) => dropped.push("what stands before the path"),
                Some(_) => dropped.push("the user and the host before the path"),
                None if end > 0 => dropped.push("what stands before the third slash"),
                None => {}
            }
            &authority[end..]
        }
        None if rest.starts_with('/') => rest,
        // Without a slash the rest is opaque, and no path.
        None => "",
    };
    let address = unescape(path);
    let has_escapes = address != path;
    let address = match address.strip_prefix("/@") {
        Some(name) => format!("@{name}"),
        None => address,
    };
    Some(Dialled {
        address,
        dropped,
        has_escapes,
    })
}

fn unescape(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
    while let Some(byte) = rest.next() {
        match (byte, rest.clone().next(), rest.clone().nth(1)) {
            (b'%', high, low) if digit(high).is_some() && digit(low).is_some() => {
                let value = digit(high).unwrap_or(0) << 4 | digit(low).unwrap_or(0);
                bytes.push(u8::try_from(value).unwrap_or(byte));
                rest.nth(1);
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::dialled;

    #[test]
    fn only_the_path_is_dialled() {
        for (endpoint, address, is_plain) in [
            ("unix:///tmp/k.sock", "/tmp/k.sock", true),
            ("unix:/tmp/k.sock", "/tmp/k.sock", true),
            ("UNIX:///tmp/k.sock", "/tmp/k.sock", true),
            ("unix:///@k", "@k", true),
            ("unix:///tmp/@x", "/tmp/@x", true),
            ("unix://tmp/k.sock", "/k.sock", false),
            ("unix://host/tmp/k.sock", "/tmp/k.sock", false),
            ("unix://u:p@h/c", "/c", false),
            ("unix:tmp/k.sock", "", true),
            ("unix:", "", true),
            ("unix://", "", true),
            ("unix://@k", "", false),
            ("unix:///", "/", true),
            ("unix:///tmp/a%20b", "/tmp/a b", false),
            ("unix:///tmp/a b", "/tmp/a b", true),
            ("unix:///tmp/a?x=y", "/tmp/a", false),
            ("unix:///tmp/a#f", "/tmp/a", false),
            ("unix:///@", "@", true),
        ] {
            let dialled = dialled(endpoint).unwrap();
            assert_eq!(dialled.address, address, "{endpoint}");
            let plain = dialled.dropped.is_empty() && !dialled.has_escapes;
            assert_eq!(plain, is_plain, "{endpoint}");
        }
        for endpoint in ["", "/tmp/k", "tcp://x", "unix:///%zz", "unix://[::1/x"] {
            assert!(dialled(endpoint).is_none(), "{endpoint}");
        }
    }
}
