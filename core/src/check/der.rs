//! As much of DER as it takes to find the bytes that were signed, named or compared as they stand.

/// A value with its tag and length, and without.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    /// Tag, length and value.
    pub(super) whole: &'a [u8],
    pub(super) value: &'a [u8],
}

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;

/// The first element, and what follows it.
pub(super) fn split(bytes: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    // Tags of more than one byte are nowhere in what is read here.
    if tag & 0x1f == 0x1f {
        return None;
    }
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = digits
                .iter()
                .fold(0, |length, digit| length << 8 | usize::from(*digit));
            // The shortest form is the only one.
            let is_shortest = digits[0] != 0 && length > 0x7f;
            (is_shortest.then_some(length)?, rest)
        }
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(length)?;
    let whole = &bytes[..bytes.len() - rest.len()];
    Some((Element { tag, whole, value }, rest))
}

/// The elements of a SEQUENCE that is all there is.
pub(super) fn sequence(bytes: &[u8]) -> Option<Vec<Element<'_>>> {
    let (outer, rest) = split(bytes)?;
    (outer.tag == SEQUENCE && rest.is_empty()).then(|| elements(outer.value))?
}

/// All elements, one after the other.
pub(super) fn elements(mut bytes: &[u8]) -> Option<Vec<Element<'_>>> {
    let mut elements = Vec::new();
    while !bytes.is_empty() {
        let (element, rest) = split(bytes)?;
        elements.push(element);
        bytes = rest;
    }
    Some(elements)
}

/// The bytes of a BIT STRING without unused bits.
pub(super) fn bits<'a>(element: &Element<'a>) -> Option<&'a [u8]> {
    let (unused, bytes) = element.value.split_first()?;
    (element.tag == BIT_STRING && *unused == 0).then_some(bytes)
}

/// A positive INTEGER without the zero in front.
pub(super) fn unsigned<'a>(element: &Element<'a>) -> Option<&'a [u8]> {
    (element.tag == INTEGER).then_some(())?;
    match element.value {
        [] => None,
        [0, rest @ ..] if !rest.is_empty() => Some(rest),
        value => Some(value),
    }
}

/// A SEQUENCE of the parts.
pub(super) fn wrap(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = content.len();
    let mut der = vec![tag];
    if length < 0x80 {
        der.push(length as u8);
    } else {
        let digits = length.to_be_bytes();
        let zeros = digits.iter().take_while(|digit| **digit == 0).count();
        der.push(0x80 | (digits.len() - zeros) as u8);
        der.extend_from_slice(&digits[zeros..]);
    }
    der.extend_from_slice(&content);
    der
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrapped_is_split() {
        for length in [0, 1, 127, 128, 255, 256, 70_000] {
            let inner = vec![7; length];
            let der = wrap(SEQUENCE, &[&wrap(OCTET_STRING, &[&inner])]);
            let parts = sequence(&der).unwrap();
            assert_eq!(parts.len(), 1);
            assert_eq!((parts[0].tag, parts[0].value), (OCTET_STRING, &inner[..]));
        }
    }

    #[test]
    fn other_forms_are_refused() {
        for der in [
            &[][..],
            &[0x30],
            &[0x30, 0x01],
            &[0x30, 0x80, 0, 0],          // indefinite
            &[0x30, 0x81, 0x01, 0x05],    // too long a length
            &[0x30, 0x82, 0x00, 0x80, 0], // the same
            &[0x30, 0x85, 0, 0, 0, 0, 1, 5],
            &[0x1f, 0x81, 0x01, 0],
            &[0x30, 0x00, 0x00],
        ] {
            assert_eq!(sequence(der), None, "{der:x?}");
        }
    }
}
