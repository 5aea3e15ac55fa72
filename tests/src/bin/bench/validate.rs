//! `atrest validate`: a large file in-process, a small one as a process, each beside kube-apiserver's
//! own loader (`tests/control-plane/judge`), turn by turn.

use std::fs::File;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use atrest_core::encryption_config::{
    EncryptionConfiguration, Format, Key, Provider, ResourceEntry, Server, Verdict, judge, render,
};
use atrest_core::secret::SecretBytes;
use atrest_tests::judge::{Judge, Stage};
use atrest_tests::{binaries, programs};

use crate::figure::Figure;
use crate::{Measure, Measured};

const TURNS: usize = 300;
const IN_PROCESS: Duration = Duration::from_millis(5);
const AS_A_PROCESS: Duration = Duration::from_millis(10);

/// Builds what is to be measured.
pub(crate) fn prepare() -> Result<Measure, String> {
    let atrest = binaries::path("atrest");
    let loader = programs::judge(Server::NEWEST).map_err(|error| error.to_string())?;
    Ok(Box::new(move || {
        let mut figures = Vec::new();
        for format in [Format::Yaml, Format::Json] {
            figures.extend(large_file(format)?);
        }
        figures.extend(small_file(atrest, &loader)?);
        Ok(Measured::from(figures))
    }))
}

fn large_file(format: Format) -> Result<[Figure; 2], String> {
    let source = render(&large(), format);
    let server = Server::default();
    let mut upstream = Judge::start(server.minor);
    let name = format!("{format:?}").to_uppercase();
    let kib = source.len() >> 10;
    let mut figures = [
        Figure::new(
            format!("{name}, 300 resources, 100 keys, {kib} KiB: judged in-process"),
            Some(IN_PROCESS),
        ),
        Figure::new(
            format!(
                "  kube-apiserver 1.{}'s loader, running already",
                server.minor
            ),
            None,
        ),
    ];
    for _ in 0..TURNS {
        let start = Instant::now();
        let judgement = black_box(judge(black_box(source.expose()), &server));
        figures[0].add(start.elapsed());

        let start = Instant::now();
        let answer = upstream.ask(source.expose(), &server);
        figures[1].add(start.elapsed());
        if judgement.verdict() != Verdict::Accept || answer.stage != Stage::Ok {
            return Err(format!(
                "the {name} file was not accepted: {}",
                answer.message
            ));
        }
    }
    Ok(figures)
}

/// As large as the bar's: ten entries of thirty resources and ten keys each.
fn large() -> EncryptionConfiguration {
    let key = |number: usize| Key {
        name: format!("key{number}"),
        secret: SecretBytes::new(vec![number as u8; 32]),
    };
    let entry = |i: usize| ResourceEntry {
        resources: (0..30)
            .map(|j| format!("widgets{j}.group{i}.example.com"))
            .collect(),
        providers: vec![
            Provider::AesGcm((0..5).map(|k| key(10 * i + k)).collect()),
            Provider::Secretbox((5..10).map(|k| key(10 * i + k)).collect()),
            Provider::Identity,
        ],
    };
    EncryptionConfiguration {
        resources: (0..10).map(entry).collect(),
    }
}

fn small_file(atrest: &Path, loader: &Path) -> Result<[Figure; 2], String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let small = examples.join("encryption-configuration/aescbc.yaml");
    let source = std::fs::read(&small).map_err(|error| format!("{}: {error}", small.display()))?;
    // The one request that the loader is to answer before its stdin ends.
    let request: PathBuf = folder.path().join("request");
    let head = [&[0][..], &(source.len() as u32).to_be_bytes()].concat();
    std::fs::write(&request, [head, source].concat()).map_err(|error| error.to_string())?;

    let mut figures = [
        Figure::new("atrest validate small.yaml: a process", Some(AS_A_PROCESS)),
        Figure::new(
            format!("  kube-apiserver 1.{}'s loader: a process", Server::NEWEST),
            None,
        ),
    ];
    for _ in 0..TURNS {
        let mut validate = Command::new(atrest);
        validate.arg("validate").arg(&small);
        figures[0].add(time(&mut validate)?);

        let mut upstream = Command::new(loader);
        upstream.arg(folder.path().join("file"));
        upstream.stdin(File::open(&request).map_err(|error| error.to_string())?);
        figures[1].add(time(&mut upstream)?);
    }
    Ok(figures)
}

/// From before the process is started until it has ended well.
fn time(command: &mut Command) -> Result<Duration, String> {
    command.stdout(Stdio::null());
    let start = Instant::now();
    let status = command.status();
    let duration = start.elapsed();
    match status {
        Ok(status) if status.success() => Ok(duration),
        Ok(status) => Err(format!("{}: {status}", command.get_program().display())),
        Err(error) => Err(format!("{}: {error}", command.get_program().display())),
    }
}
