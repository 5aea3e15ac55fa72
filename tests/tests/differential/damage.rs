//! Damages files, byte by byte and line by line.

use crate::random::Random;

const TOKENS: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b": ",
    b"\"",
    b"'",
    b"#",
    b" #",
    b"&a ",
    b"*a",
    b"!",
    b"!!str ",
    b"!!int ",
    b"%",
    b"|",
    b">",
    b"@",
    b"`",
    b"\t",
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"  ",
    b"\x00",
    b"\x1b",
    b"\x7f",
    b"\xff",
    b"\xc2\x85",
    b"\xc2\xa0",
    b"\xef\xbb\xbf",
    b"\xe2\x80\xa8",
    b"\xed\xa0\x80",
    b"\xf0\x9f\x94\x91",
    b"\\",
    b"\\u00e9",
    b"\\ud800",
    b"\\/",
    b"\\'",
    b"\\x",
    b"- ",
    b"? ",
    b"---\n",
    b"...\n",
    b"\n---\n",
    b"<<: *a",
    b"<<: {name: a}\n",
    b"null",
    b"~",
    b"1",
    b"0x10",
    b"yes",
    b"*.",
    b"*.*",
    b"v1",
    b"v2",
    b"=",
    b"==",
    b"-",
    b"%YAML 1.1\n---\n",
    b"%TAG ! a\n",
    b"\"a\":1,",
    b"kind: a\n",
    b"name: a\n",
    b"secret: a\n",
    b"- null\n",
    b"identity: {}\n",
    b"A",
];

/// A damaged copy of `file`; pieces of `other` may get into it.
pub(crate) fn damage(random: &mut Random, file: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = file.to_vec();
    let most = 1 + random.below(4);
    for _ in 0..=random.below(most) {
        match random.below(12) {
            0..3 => {
                let at = random.below(bytes.len() + 1);
                let replaced = random.below(2).min(bytes.len() - at);
                let token = random.pick(TOKENS);
                bytes.splice(at..at + replaced, token.iter().copied());
            }
            3 if !bytes.is_empty() => {
                let at = random.below(bytes.len());
                let end = bytes.len().min(at + 1 + random.below(8));
                bytes.drain(at..end);
            }
            4 if !bytes.is_empty() => {
                let at = random.below(bytes.len());
                bytes[at] = match random.below(3) {
                    0 => bytes[at] ^ 0x20,
                    1 => bytes[at] ^ 1,
                    _ => random.byte(),
                };
            }
            5 => {
                let from = random.below(other.len() + 1);
                let to = other.len().min(from + random.below(60));
                let at = random.below(bytes.len() + 1);
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            6 if bytes.len() > 1 && random.percent(20) => bytes.truncate(random.below(bytes.len())),
            _ => bytes = damage_a_line(random, &bytes, other),
        }
    }
    bytes
}

fn damage_a_line(random: &mut Random, bytes: &[u8], other: &[u8]) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = bytes.split(|it| *it == b'\n').map(<[u8]>::to_vec).collect();
    let at = random.below(lines.len());
    match random.below(7) {
        0 => {
            lines.remove(at);
        }
        1 => lines.insert(at, lines[at].clone()),
        2 => {
            let with = random.below(lines.len());
            lines.swap(at, with);
        }
        3 => lines[at].insert(0, b' '),
        4 if lines[at].starts_with(b" ") => {
            lines[at].remove(0);
        }
        5 => {
            let others: Vec<&[u8]> = other.split(|it| *it == b'\n').collect();
            lines.insert(at, others[random.below(others.len())].to_vec());
        }
        _ => {
            // Another value after the colon.
            if let Some(colon) = lines[at].iter().position(|it| *it == b':') {
                lines[at].truncate(colon + 1);
                lines[at].push(b' ');
                lines[at].extend(random.pick(TOKENS));
            }
        }
    }
    lines.join(&b'\n')
}
