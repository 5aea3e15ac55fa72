//! What goes wrong with configurations, and moves secrets to where none belongs.

use crate::files::File;
use crate::random::Random;

/// What damage of the kinds from 10 on is done to.
const WORDS: &[&str] = &[
    "secret:",
    "name",
    "keys",
    "",
    "secret: ",
    "secret: ",
    "v1",
    "Encryption",
    "secrets",
    "3s",
    "plugin",
    "3s",
];

/// The file with damage of the kind `i`, somewhere.
pub(crate) fn broken(mut file: File, i: usize, random: &mut Random) -> File {
    let text = file.text();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let mut at = random.below(lines.len());
    if let Some(word) = WORDS.get((i % 27).wrapping_sub(10)) {
        let fit = |at: &usize| lines[*at].contains(word);
        let fitting: Vec<_> = (0..lines.len()).filter(fit).collect();
        if !fitting.is_empty() {
            at = fitting[random.below(fitting.len())];
        }
    }
    let line = lines[at].clone();
    let bare = line.trim_start().to_owned();
    let mut plant = |make: fn(&mut Random) -> String| {
        let secret = make(random);
        file.secrets.push(secret.clone());
        secret
    };
    let mut ending = "\n";
    match i % 27 {
        0 => lines[at] = line.replacen(':', "", 1),
        1 => lines[at] = line.replacen(": ", " ", 1),
        2 => lines[at] = line.replacen(": ", ":", 1),
        3 => lines[at] = format!("{}{bare}", " ".repeat(random.below(12))),
        4 => drop(lines.remove(at)),
        5 => {
            let swap = |line: &String| {
                let line = line.replace("name", "\0").replace("secret\"", "name\"");
                line.replace("secret:", "name:").replace('\0', "secret")
            };
            lines = lines.iter().map(swap).collect();
        }
        6 => lines.insert(at, line),
        7 => lines[at].push('"'),
        8 => lines[at] = format!("\t{bare}"),
        9 => lines[at] = line.replacen(['\'', '"'], "", 1),
        10 => lines[at] = line.replacen("secret", &plant(Random::alphanumeric), 1),
        11 => lines[at] = line.replacen("name", &plant(Random::alphanumeric), 1),
        12 => lines[at] = line.replacen("keys", &plant(Random::alphanumeric), 1),
        13 => lines.insert(at, format!("{}: x", plant(Random::alphanumeric))),
        14 => {
            lines[at] = line.replacen(
                "secret: ",
                &format!("secret: *{} ", plant(Random::alphanumeric)),
                1,
            )
        }
        15 => {
            lines[at] = line.replacen(
                "secret: ",
                &format!("secret: !{} ", plant(Random::alphanumeric)),
                1,
            )
        }
        16 => lines[at] = line.replacen("v1", &plant(Random::encoded), 1),
        17 => lines[at] = line.replacen("EncryptionConfiguration", &plant(Random::encoded), 1),
        18 => {
            lines[at] = line.replacen(
                "secrets",
                &format!("secrets, \"{}\"", plant(Random::encoded)),
                1,
            )
        }
        19 => lines[at] = line.replacen("3s", &plant(Random::any), 1),
        20 => {
            lines[at] = line.replacen(
                "name: plugin",
                &format!("name: '{}:'", plant(Random::encoded)),
                1,
            )
        }
        21 => {
            lines[at] = line.replacen(
                "timeout: 3s",
                &format!("cachesize: {}", plant(Random::alphanumeric)),
                1,
            )
        }
        22 => lines[at] = line.replacen("- ", "", 1),
        26 => {
            // Blanks in a key are what `--fix` mends.
            let middle = line
                .trim_end()
                .rfind(' ')
                .map_or(0, |blank| blank + 9)
                .min(line.len());
            if line.is_char_boundary(middle) {
                lines[at] = format!("{} {}", &line[..middle], &line[middle..]);
            }
        }
        23 => lines[at] = line.replacen(": ", ": [", 1),
        24 => {
            lines[at] = bare;
            ending = "\r";
        }
        _ => {
            if at + 1 < lines.len() {
                let next = lines.remove(at + 1);
                lines[at] = format!("{line} {}", next.trim());
            }
        }
    }
    file.source = (lines.join(ending) + ending).into_bytes();
    let end = random.below(file.source.len()).max(1);
    match (i / 27) % 4 {
        1 => file.source.truncate(end),
        2 => file.source[end] = random.below(256) as u8,
        3 if i.is_multiple_of(2) => {
            let units = file.text();
            let units = ["\u{feff}", &units].concat();
            file.source = units.encode_utf16().flat_map(u16::to_le_bytes).collect();
        }
        3 => file.source.splice(..0, *b"\xef\xbb\xbf{").for_each(drop),
        _ => {}
    }
    file
}
