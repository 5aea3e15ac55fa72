//! Makes every `:authority` one that the `http` crate takes, in the bytes of HTTP/2 requests.
//!
//! kube-apiserver sends the path of the socket as `:authority` before 1.32, percent-encoded since
//! 1.29, and always so for KMS v1. Neither is an authority by RFC 3986, and h2 resets such streams.
//! On a unix socket it names nothing, so each value is replaced by one of as many bytes on the wire
//! and as many characters: frames keep their places, and HPACK's dynamic table (RFC 7541, sections
//! 4.1 and 5.2) its sizes on both sides.

const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
const FRAME_HEADER: usize = 9;
const HEADERS: u8 = 0x1;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// The largest frame that a server takes unless it asks for larger ones, which h2 does not.
const MAX_FRAME: usize = 16_384;

/// The index of `:authority` in the static table.
const AUTHORITY: usize = 1;

/// What a client sends, frame by frame.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes that are passed as they are before the next frame begins.
    skip: usize,
    greeted: bool,
}

impl Frames {
    pub(super) fn new() -> Self {
        Self {
            skip: PREFACE,
            greeted: false,
        }
    }

    /// Whether the client has begun to speak HTTP/2: a first frame is there.
    pub(super) fn greeted(&self) -> bool {
        self.greeted
    }

    /// Looks at what follows the bytes of the last call, and tells how many of these can go on. The
    /// others are the beginning of a frame that has to be seen whole, at most [`MAX_FRAME`] and a
    /// frame's header: the next call begins with them.
    pub(super) fn pass(&mut self, bytes: &mut [u8]) -> usize {
        let mut at = 0;
        loop {
            let skipped = self.skip.min(bytes.len() - at);
            self.skip -= skipped;
            at += skipped;
            let Some(&[a, b, c, kind, flags, ..]) = bytes[at..].first_chunk::<FRAME_HEADER>()
            else {
                return at;
            };
            self.greeted = true;
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            if kind != HEADERS || length > MAX_FRAME {
                self.skip = FRAME_HEADER + length;
                continue;
            }
            let end = at + FRAME_HEADER + length;
            let Some(payload) = bytes.get_mut(at + FRAME_HEADER..end) else {
                return at;
            };
            // What is malformed stays as it is: h2 has the words for it.
            let _ = headers(flags, payload);
            at = end;
        }
    }
}

/// A HEADERS frame (RFC 9113, section 6.2). A header block that goes on in CONTINUATION frames has
/// its pseudo-headers here: they come first.
fn headers(flags: u8, mut payload: &mut [u8]) -> Option<()> {
    if flags & PADDED != 0 {
        let (padding, rest) = payload.split_first_mut()?;
        let kept = rest.len().checked_sub(usize::from(*padding))?;
        payload = &mut rest[..kept];
    }
    if flags & PRIORITY != 0 {
        payload = payload.get_mut(5..)?;
    }
    block(payload)
}

/// A header block (RFC 7541, section 6).
fn block(bytes: &mut [u8]) -> Option<()> {
    let mut at = 0;
    while let Some(&first) = bytes.get(at) {
        let (prefix, literal) = match first {
            0x80.. => (7, false),
            0x40.. => (6, true),
            0x20.. => (5, false),
            _ => (4, true),
        };
        let index = integer(bytes, &mut at, prefix)?;
        if !literal {
            continue;
        }
        if index == 0 {
            string(bytes, &mut at)?;
        }
        let value = string(bytes, &mut at)?;
        if index == AUTHORITY {
            replace(value);
        }
    }
    Some(())
}

/// An integer (RFC 7541, section 5.1) with a prefix of so many bits.
fn integer(bytes: &[u8], at: &mut usize, prefix: u32) -> Option<usize> {
    let mut next = || {
        let byte = *bytes.get(*at)?;
        *at += 1;
        Some(byte)
    };
    let most = (1 << prefix) - 1;
    let mut value = usize::from(next()? & most);
    if value < usize::from(most) {
        return Some(value);
    }
    // Enough for any index or length in a frame.
    for shift in [0, 7, 14] {
        let byte = next()?;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The bytes of a string (RFC 7541, section 5.2).
struct Text<'a> {
    huffman: bool,
    bytes: &'a mut [u8],
}

fn string<'a>(bytes: &'a mut [u8], at: &mut usize) -> Option<Text<'a>> {
    let huffman = bytes.get(*at)? & 0x80 != 0;
    let length = integer(bytes, at, 7)?;
    let start = *at;
    *at += length;
    let bytes = bytes.get_mut(start..*at)?;
    Some(Text { huffman, bytes })
}

fn replace(value: Text<'_>) {
    if !value.huffman {
        value.bytes.fill(b'a');
    } else if let Some(characters) = count(value.bytes) {
        fill(value.bytes, characters);
    }
}

/// The first code of each length in bits, from the left, in HPACK's Huffman code (RFC 7541, appendix
/// B). It is canonical: codes of one length follow each other, and longer ones follow shorter ones.
const CODES: [(usize, u32); 21] = [
    (5, 0x0000_0000),
    (6, 0x5000_0000),
    (7, 0xb800_0000),
    (8, 0xf800_0000),
    (10, 0xfe00_0000),
    (11, 0xff40_0000),
    (12, 0xffa0_0000),
    (13, 0xffc0_0000),
    (14, 0xfff0_0000),
    (15, 0xfff8_0000),
    (19, 0xfffe_0000),
    (20, 0xfffe_6000),
    (21, 0xfffe_e000),
    (22, 0xffff_4800),
    (23, 0xffff_b000),
    (24, 0xffff_ea00),
    (25, 0xffff_f600),
    (26, 0xffff_f800),
    (27, 0xffff_fbc0),
    (28, 0xffff_fe20),
    (30, 0xffff_fff0),
];

/// How many characters the bytes stand for.
fn count(bytes: &[u8]) -> Option<usize> {
    let bits = bytes.len() * 8;
    let (mut at, mut characters) = (0, 0);
    loop {
        let next = window(bytes, at);
        // Ones follow the last character, up to the end of its byte.
        if bits - at < 8 && next == u32::MAX {
            return Some(characters);
        }
        let (length, _) = CODES.iter().rev().find(|(_, first)| *first <= next)?;
        at += length;
        if at > bits {
            return None;
        }
        characters += 1;
    }
}

/// The 32 bits from a bit on; ones behind the end.
fn window(bytes: &[u8], bit: usize) -> u32 {
    let byte = |offset| bytes.get(bit / 8 + offset).copied().unwrap_or(0xff);
    let five = (0..5).fold(0_u64, |before, offset| {
        before << 8 | u64::from(byte(offset))
    });
    (five >> (8 - bit % 8)) as u32
}

/// Characters of an authority whose codes have 5, 6, 7 and 8 bits: `a`, `-`, `B`, `X`.
const FILLING: [(usize, u32); 4] = [(5, 0x03), (6, 0x16), (7, 0x5d), (8, 0xfc)];

/// Makes the bytes stand for so many characters, as [`count`] counts them: at most one for 5 bits.
/// Where there are more bytes than characters nothing is done: no encoder makes such a string, since
/// without the code it is shorter.
fn fill(bytes: &mut [u8], characters: usize) {
    if bytes.len() > characters {
        return;
    }
    let mut left = bytes.len() * 8;
    let mut filled = bytes.iter_mut();
    let (mut window, mut bits) = (0_u32, 0);
    for following in (0..characters).rev() {
        // As many bits as the following ones can do without: no bit is left in the end.
        let room = left.saturating_sub(5 * following);
        let (length, code) = FILLING[room.clamp(5, 8) - 5];
        left = left.saturating_sub(length);
        window = window << length | code;
        bits += length;
        if bits >= 8
            && let Some(byte) = filled.next()
        {
            bits -= 8;
            *byte = (window >> bits) as u8;
        }
    }
}

#[cfg(test)]
mod tests;
