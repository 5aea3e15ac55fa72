//! The verdict on configurations whose verdict by kube-apiserver is known. They are upstream's and
//! lie outside of the repository: in `../shared/corpus` beside it, or where `ATREST_CORPUS` says.

use std::path::{Path, PathBuf};

use atrest_core::encryption_config::{Judgement, Server, Stage, Verdict, judge};

fn corpus() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    let corpus = std::env::var_os("ATREST_CORPUS").map_or(beside, PathBuf::from);
    if corpus.join("configs/index.tsv").is_file() {
        return Some(corpus);
    }
    println!("skipped: there is no corpus in {}", corpus.display());
    None
}

/// One row of the index.
struct Row<'a> {
    file: &'a str,
    verdict: &'a str,
    error: &'a str,
    automatic_reload: bool,
    stage: &'a str,
    without_kmsv1: &'a str,
    lenient: &'a str,
}

fn rows(index: &str) -> Vec<Row<'_>> {
    index
        .lines()
        .skip(1)
        .map(|line| {
            let columns: Vec<&str> = line.split('\t').collect();
            Row {
                file: columns[0],
                verdict: columns[1],
                error: columns[2],
                automatic_reload: columns[4] == "reload",
                stage: columns[5],
                without_kmsv1: columns[7],
                lenient: columns[8],
            }
        })
        .collect()
}

fn verdict(judgement: &Judgement) -> &'static str {
    match judgement.verdict() {
        Verdict::Accept => "accept",
        Verdict::Reject => "reject",
    }
}

fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Ok => "ok",
        Stage::Empty => "empty",
        Stage::Decode => "decode",
        Stage::Validate => "validate",
        Stage::Load => "load",
    }
}

#[test]
fn the_verdict_is_that_of_kube_apiserver() {
    let Some(corpus) = corpus() else { return };
    let index = std::fs::read_to_string(corpus.join("configs/index.tsv")).unwrap();
    let rows = rows(&index);
    let mut wrong = Vec::new();
    for row in &rows {
        let source = std::fs::read(corpus.join("configs").join(row.file)).unwrap();
        let server = Server {
            kmsv1: true,
            automatic_reload: row.automatic_reload,
            ..Server::default()
        };
        let judgement = judge(&source, &server);
        let mut differs = |what: &str, ours: &str, theirs: &str| {
            if theirs != "-" && ours != theirs {
                let ids: Vec<_> = judgement
                    .findings
                    .iter()
                    .map(|finding| finding.id)
                    .collect();
                wrong.push(format!(
                    "{}: {what} {ours}, not {theirs}: {ids:?}",
                    row.file
                ));
            }
        };
        differs("verdict", verdict(&judgement), row.verdict);
        differs("stage", stage(judgement.stage), row.stage);
        // Errors of validation begin with the path and the kind.
        if row.stage == "validate" {
            let first = &judgement.findings.first();
            let first = first.map_or(String::new(), |it| format!("{}: {}", it.path, it.kind));
            differs("first finding", &first, row.error);
        }
        let without_kmsv1 = Server {
            kmsv1: false,
            ..server
        };
        let judgement_without = judge(&source, &without_kmsv1);
        differs(
            "verdict without KMSv1",
            verdict(&judgement_without),
            row.without_kmsv1,
        );
        let lenient = Server {
            minor: 30,
            ..server
        };
        differs(
            "verdict of 1.30",
            verdict(&judge(&source, &lenient)),
            row.lenient,
        );
        assert_eq!(
            judgement.configuration.is_some(),
            judgement.stage == Stage::Ok
        );
    }
    assert!(
        wrong.is_empty(),
        "of {} files:\n{}",
        rows.len(),
        wrong.join("\n")
    );
    println!("{} files judged as kube-apiserver does", rows.len());
}
