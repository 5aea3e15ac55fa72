//! When a certificate ends: the one field of X.509 that is asked for (RFC 5280, section 4.1).

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The end of the validity of a certificate in DER; `None` where it is none.
pub(super) fn not_after(der: &[u8]) -> Option<Timestamp> {
    let (certificate, _) = take(der, SEQUENCE)?;
    let (mut fields, _) = take(certificate, SEQUENCE)?;
    if fields.first() == Some(&VERSION) {
        fields = next(fields)?.2;
    }
    // Its number, its signature's algorithm, and who issued it.
    for _ in 0..3 {
        fields = next(fields)?.2;
    }
    let (validity, _) = take(fields, SEQUENCE)?;
    let (_, _, end) = next(validity)?;
    let (tag, text, _) = next(end)?;
    let text = std::str::from_utf8(text).ok()?;
    let text = match tag {
        // Of two digits, those from 50 on are of the last century.
        UTC_TIME => {
            let century = if text < "50" { "20" } else { "19" };
            format!("{century}{text}")
        }
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let time = DateTime::strptime("%Y%m%d%H%M%SZ", text).ok()?;
    time.to_zoned(TimeZone::UTC).ok().map(|it| it.timestamp())
}

/// The content of an element of this tag, and what follows.
fn take(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = next(bytes)?;
    (found == tag).then_some((content, rest))
}

/// The first element: its tag, its content, and what follows.
fn next(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let [tag, first, rest @ ..] = bytes else {
        return None;
    };
    let (length, rest) = match first {
        ..=0x7f => (usize::from(*first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = digits
                .iter()
                .fold(0, |length, digit| length << 8 | usize::from(*digit));
            (length, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = content.len();
        let head = match length {
            0..0x80 => vec![tag, length as u8],
            _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
        };
        [&head[..], content].concat()
    }

    fn certificate(tag: u8, end: &str) -> Vec<u8> {
        let validity = [
            element(UTC_TIME, b"250102030405Z"),
            element(tag, end.as_bytes()),
        ];
        let fields = [
            element(VERSION, &element(0x02, &[2])),
            element(0x02, &[1]),
            element(SEQUENCE, b""),
            element(SEQUENCE, &[0; 200]),
            element(SEQUENCE, &validity.concat()),
        ];
        element(SEQUENCE, &element(SEQUENCE, &fields.concat()))
    }

    #[test]
    fn both_forms_of_a_time_are_read() {
        for (tag, text, end) in [
            (UTC_TIME, "261125130000Z", "2026-11-25T13:00:00Z"),
            (UTC_TIME, "991231235959Z", "1999-12-31T23:59:59Z"),
            (GENERALIZED_TIME, "20500101000000Z", "2050-01-01T00:00:00Z"),
        ] {
            let found = not_after(&certificate(tag, text)).map(|it| it.to_string());
            assert_eq!(found.as_deref(), Some(end));
        }
    }

    #[test]
    fn what_is_cut_off_is_no_certificate() {
        let whole = certificate(UTC_TIME, "261125130000Z");
        for length in 0..whole.len() {
            assert_eq!(not_after(&whole[..length]), None, "{length}");
        }
        assert_eq!(not_after(&certificate(UTC_TIME, "not a time")), None);
        assert_eq!(not_after(&certificate(0x04, "261125130000Z")), None);
    }
}
