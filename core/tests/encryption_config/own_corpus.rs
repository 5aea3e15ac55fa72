//! `tests/corpus/encryption-configuration`: the folder of a file is the stage that 1.37 gives it, with
//! KMS v1 and without automatic reload. A comment says where another server differs. That upstream
//! agrees is the differential test's to show.

use std::path::{Path, PathBuf};

use atrest_core::encryption_config::{Server, Stage, judge};

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn named(stage: &str) -> Stage {
    match stage {
        "ok" => Stage::Ok,
        "empty" => Stage::Empty,
        "decode" => Stage::Decode,
        "validate" => Stage::Validate,
        "load" => Stage::Load,
        other => panic!("there is no stage {other}"),
    }
}

#[test]
fn each_file_stops_at_the_stage_that_it_shows() {
    let corpus =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus/encryption-configuration");
    let usual = Server {
        kmsv1: true,
        ..Server::release(37)
    };
    let others = [
        (
            "# release 1.30: ",
            Server {
                kmsv1: true,
                ..Server::release(30)
            },
        ),
        (
            "# automatic reload: ",
            Server {
                automatic_reload: true,
                ..usual
            },
        ),
        (
            "# KMSv1 off: ",
            Server {
                kmsv1: false,
                ..usual
            },
        ),
    ];
    let mut wrong = Vec::new();
    let (mut good, mut bad) = (0, 0);
    for folder in entries(&corpus) {
        let stage = named(folder.file_name().unwrap().to_str().unwrap());
        for path in entries(&folder) {
            let source = std::fs::read(&path).unwrap();
            let text = String::from_utf8_lossy(&source);
            let comments = others.iter().filter_map(|(comment, server)| {
                let line = text.lines().find_map(|line| line.strip_prefix(comment))?;
                Some((*server, named(line)))
            });
            for (server, expected) in std::iter::once((usual, stage)).chain(comments) {
                let judgement = judge(&source, &server);
                if judgement.stage != expected {
                    wrong.push(format!(
                        "{}: {:?} by {server:?}",
                        path.display(),
                        judgement.stage
                    ));
                }
            }
            match stage {
                Stage::Ok => good += 1,
                _ => bad += 1,
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(good + bad >= 400 && bad > good, "{good} good, {bad} bad");
}
