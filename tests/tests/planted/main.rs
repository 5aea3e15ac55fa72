//! Secrets that are planted in configurations, good and broken, are in nothing that `atrest
//! validate` says, in no form and no part.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a test
#![allow(clippy::print_stderr)] // the seed

mod damage;
mod files;
mod random;

use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use atrest_core::encryption_config::{Server, Verdict, judge};
use atrest_tests::atrest;
use atrest_tests::planted::Said;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::files::File;
use crate::random::Random;

const GOOD: usize = 100;
const BROKEN: usize = 100;
/// In each file.
const SECRETS: usize = 20;

/// Every way to be asked for a verdict; a new output, or a flag that prints more, belongs here.
const WAYS: &[&[&str]] = &[
    &[],
    &["--color", "always", "--fail-on", "info"],
    &["--quiet", "--color", "never"],
    &["--kubernetes-version", "1.30"],
    &[
        "--kubernetes-version",
        "1.27",
        "--feature-gates",
        "KMSv2=false",
    ],
    &["--feature-gates", "KMSv1=true", "--automatic-reload"],
    &["--output", "json"],
    &["--output", "json", "--kubernetes-version", "1.30"],
    &["--output", "yaml", "--fail-on", "warning"],
    &[
        "--output",
        "yaml",
        "--kubernetes-version",
        "1.30",
        "--quiet",
    ],
    &["--output", "sarif"],
    &["--output", "sarif", "--kubernetes-version", "1.30"],
    &["--output", "junit"],
    &["--same", "--output", "json"],
    &["--fix", "--dry-run"],
    &[
        "--output",
        "junit",
        "--kubernetes-version",
        "1.30",
        "--fail-on",
        "info",
    ],
];

fn verdict(source: &[u8]) -> Verdict {
    judge(source, &Server::default()).verdict()
}

/// The files, by a seed.
fn planted(random: &mut Random) -> Vec<File> {
    let mut files = Vec::new();
    for i in 0..GOOD {
        let file = files::good(random, i);
        assert_eq!(verdict(&file.source), Verdict::Accept, "{}", file.text());
        files.push(file);
    }
    for i in 0..BROKEN {
        // Damage in a comment does no harm, and not every kind of it fits every file.
        let mut attempts = (i..).map(|kind| damage::broken(files::good(random, i), kind, random));
        let file = attempts
            .find(|file| verdict(&file.source) == Verdict::Reject)
            .unwrap();
        files.push(file);
    }
    files
}

#[test]
fn no_output_holds_a_piece_of_a_secret() {
    let seed = match std::env::var("ATREST_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_nanos() as u64,
    };
    eprintln!("ATREST_SEED={seed}");
    let files = planted(&mut Random::new(seed));
    assert!(files.iter().all(|file| file.secrets.len() >= SECRETS));
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<_> = (0..files.len())
        .map(|i| folder.path().join(format!("{i}")))
        .collect();
    for (path, file) in paths.iter().zip(&files) {
        std::fs::write(path, &file.source).unwrap();
    }

    let mut outputs = Vec::new();
    for way in WAYS {
        let paths = paths.iter().map(|path| path.to_str().unwrap());
        let arguments = ["validate"]
            .into_iter()
            .chain(way.iter().copied())
            .chain(paths);
        let output = atrest::command(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{way:?}");
        assert!(
            output.stdout.windows(5).any(|it| it == b"AR-D0"),
            "{way:?} says nothing"
        );
        outputs.push(output);
    }
    outputs.extend(files.iter().map(|file| from_stdin(&file.source)));
    let shows_diffs = |output: &Output| output.stderr.windows(6).any(|it| it == b"\n+kind");
    assert!(outputs.iter().any(shows_diffs), "nothing was mended");

    let mut said = Said::default();
    for Output { stdout, stderr, .. } in &outputs {
        said.add(stdout);
        said.add(stderr);
    }
    // The search would find one.
    assert!(said.piece_of(b"EncryptionConfiguration").is_some());
    for (path, file) in paths.iter().zip(&files) {
        for secret in &file.secrets {
            let decoded = BASE64_STANDARD.decode(secret).unwrap_or_default();
            for value in [secret.as_bytes(), &decoded] {
                if let Some(piece) = said.piece_of(value) {
                    panic!("{}", shown(&piece, secret, path, file, &outputs));
                }
            }
        }
    }
}

fn from_stdin(source: &[u8]) -> Output {
    let mut program = atrest::command(["validate", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    program.stdin.take().unwrap().write_all(source).unwrap();
    program.wait_with_output().unwrap()
}

/// Where the piece of the planted secret was said.
fn shown(piece: &[u8], secret: &str, path: &Path, file: &File, outputs: &[Output]) -> String {
    let line = outputs
        .iter()
        .flat_map(|output| [&output.stdout, &output.stderr])
        .flat_map(|said| said.split(|byte| *byte == b'\n'))
        .find(|line| line.windows(piece.len()).any(|it| it == piece))
        .unwrap_or_default();
    format!(
        "{} of {secret} is said: {}\n{}: {}",
        String::from_utf8_lossy(piece),
        String::from_utf8_lossy(line),
        path.display(),
        file.text(),
    )
}
