//! Whatever the bytes of a file are, they get a verdict that keeps its word.
#![no_main]

use atrest_core::encryption_config::{
    Change, EncryptionConfiguration, Finding, Format, Judgement, Key, Kind, Provider, Server,
    Stage, Surroundings, fix, judge, lint, mask, render, rewrite,
};
use atrest_fuzz::{abort_on_panics_of_ours, check_stage, servers};
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: abort_on_panics_of_ours(),
    |source: &[u8]| {
        let servers = servers();
        let judgements = servers.map(|server| judge(source, &server));
        for (server, judgement) in servers.iter().zip(&judgements) {
            check_stage(source, judgement);
            if let Some(configuration) = &judgement.configuration {
                check_round_trip(configuration, server);
            }
        }
        check_order(&judgements);

        let mut findings: Vec<_> = judgements.iter().flat_map(|it| &it.findings).cloned().collect();
        let mut said = mask(source);
        let texts = [Text::new(source), Text::new(said.as_bytes())];
        // Lints, fixes and edits need a file that is decoded, which the last one does soonest.
        if let [.., server] = &servers
            && let [.., judgement] = &judgements
            && !matches!(judgement.stage, Stage::Empty | Stage::Decode)
        {
            let lints = lint(source, server, &Surroundings::default());
            assert!(lints.len() <= 1000, "too many lints");
            findings.extend(lints);
            said.push_str(&check_fix(source, judgement, server));
            if let Some(configuration) = &judgement.configuration {
                said.push_str(&check_edit(source, configuration, server));
            }
        }
        for finding in &findings {
            check_finding(&texts, finding);
        }
        check_silence(source, &judgements, &findings, said);
    }
);

/// The mask has the lines and columns of the file, as YAML counts them. Bytes that are no text, which
/// are malformed, are placed by line feeds alone.
fn check_finding([source, mask]: &[Text; 2], finding: &Finding) {
    assert!(source.has(finding.line, finding.column), "{finding:?}");
    let in_mask = mask.has(finding.line, finding.column);
    assert!(
        in_mask || finding.kind == Kind::Malformed,
        "in the mask: {finding:?}"
    );
    assert!(!finding.message.is_empty() && !finding.fix.is_empty());
    for said in [&finding.path, &finding.message, &finding.fix] {
        assert!(!said.chars().any(char::is_control), "{finding:?}");
    }
}

fn check_round_trip(configuration: &EncryptionConfiguration, server: &Server) {
    for format in [Format::Yaml, Format::Json] {
        let rendered = render(configuration, format);
        let read = judge(rendered.expose(), server);
        assert_eq!(read.configuration.as_ref(), Some(configuration), "{read:?}");
    }
}

/// A server that refuses less takes all that the one before it takes, and reads the same in it.
fn check_order(judgements: &[Judgement]) {
    for pair in judgements.windows(2) {
        if let [strict, lenient] = pair
            && strict.configuration.is_some()
        {
            assert_eq!(strict.configuration, lenient.configuration);
        }
    }
}

/// What it says. A file that is accepted says the same when it is mended.
fn check_fix(source: &[u8], judgement: &Judgement, server: &Server) -> String {
    let fixed = fix(source, server);
    if judgement.stage == Stage::Ok {
        let mended = judge(fixed.bytes.expose(), server);
        assert_eq!(mended.configuration, judgement.configuration);
    }
    fixed
        .mended
        .iter()
        .map(|mend| format!("\n{}\n{}", mend.path, mend.what))
        .collect()
}

/// What it says where it does not edit. An edited file says what it was to say.
fn check_edit(source: &[u8], from: &EncryptionConfiguration, server: &Server) -> String {
    let (entry, provider) = (0, 0);
    let change = match source.len() % 8 {
        0 => Change::PromoteKey {
            entry,
            provider,
            key: 1,
        },
        1 => Change::DropKey {
            entry,
            provider,
            key: 0,
        },
        2 => Change::PromoteProvider { entry, provider: 1 },
        3 => Change::DropProvider { entry, provider },
        4 => Change::AddProvider {
            entry,
            provider: Provider::Identity,
        },
        5 => Change::ReplaceProvider {
            entry,
            provider,
            with: Provider::Identity,
        },
        6 => Change::SplitResource {
            entry,
            resource: from.resources[0].resources[0].clone(),
        },
        _ => Change::AddKey {
            entry,
            provider,
            key: Key {
                name: "another".to_owned(),
                secret: vec![0; 32].into(),
            },
        },
    };
    let Ok(to) = from.changed(&change) else {
        return String::new();
    };
    match rewrite(source, &to, server) {
        Ok(edited) => {
            let read = judge(edited.expose(), server);
            assert_eq!(read.configuration, Some(to), "{change:?}");
            String::new()
        }
        Err(refused) => format!("\n{refused}"),
    }
}

/// Nothing that is said holds a key of the configuration that one of the servers reads in the file.
fn check_silence(source: &[u8], judgements: &[Judgement], findings: &[Finding], mut said: String) {
    let Some(configuration) = judgements.iter().find_map(|it| it.configuration.as_ref()) else {
        return;
    };
    // An alias can say a key's bytes a second time, as the name of a resource.
    if source.contains(&b'*') {
        return;
    }
    for finding in findings {
        said.push_str(&format!("\n{finding:?}"));
    }
    for entry in &configuration.resources {
        for key in entry.providers.iter().flat_map(|it| it.keys()) {
            let secret = base64(key.secret.expose());
            // What stands in the file twice may be a name as well.
            let stands_once = source
                .windows(secret.len())
                .filter(|window| *window == secret.as_bytes())
                .count()
                == 1;
            assert!(!stands_once || !said.contains(&secret), "{said}");
        }
    }
}

/// Without padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    let bits = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1))
        .collect::<Vec<_>>();
    bits.chunks(6)
        .map(|bits| {
            let value = bits.iter().fold(0, |value, bit| value << 1 | bit);
            char::from(ALPHABET[usize::from(value << (6 - bits.len()))])
        })
        .collect()
}

/// How many scalars each line has: as an editor counts lines, and as YAML does.
struct Text([Vec<usize>; 2]);

impl Text {
    fn new(source: &[u8]) -> Self {
        let utf16 = |unit: fn([u8; 2]) -> u16| {
            let units: Vec<u16> = source[2..]
                .as_chunks()
                .0
                .iter()
                .map(|it| unit(*it))
                .collect();
            String::from_utf16_lossy(&units).into_bytes()
        };
        let decoded = match source {
            [0xff, 0xfe, ..] => utf16(u16::from_le_bytes),
            [0xfe, 0xff, ..] => utf16(u16::from_be_bytes),
            _ => source.to_vec(),
        };
        Self([
            lines(&decoded, |rest| usize::from(rest[0] == b'\n')),
            lines(&decoded, |rest| match rest {
                [b'\r', b'\n', ..] | [0xc2, 0x85, ..] => 2,
                [b'\r' | b'\n', ..] => 1,
                [0xe2, 0x80, 0xa8 | 0xa9, ..] => 3,
                _ => 0,
            }),
        ])
    }

    /// Whether the place is in the text, or right behind a line. YAML ends a last line that has no
    /// break by one.
    fn has(&self, line: u32, column: u32) -> bool {
        let (line, column) = (line as usize, column as usize);
        self.0
            .iter()
            .any(|lines| match lines.get(line.wrapping_sub(1)) {
                Some(scalars) => (1..=scalars + 1).contains(&column),
                None => line == lines.len() + 1 && column == 1,
            })
    }
}

/// `line_break` gives the length of the break that the rest begins with.
fn lines(text: &[u8], line_break: impl Fn(&[u8]) -> usize) -> Vec<usize> {
    let mut lines = vec![0];
    let mut rest = text;
    while let Some(byte) = rest.first() {
        let length = line_break(rest);
        if length > 0 {
            lines.push(0);
        } else if byte & 0xc0 != 0x80
            && let Some(scalars) = lines.last_mut()
        {
            *scalars += 1;
        }
        rest = &rest[length.max(1)..];
    }
    lines
}
