//! What the targets share.
#![forbid(unsafe_code)]

use std::backtrace::Backtrace;
use std::{panic, process};

use atrest_core::encryption_config::{Judgement, Server, Stage, Verdict, judge};

/// From the server that refuses most to the one that takes most. (No release is like the first one:
/// all that could be off is off.)
pub fn servers() -> [Server; 3] {
    [
        Server {
            kmsv1: false,
            kmsv2: false,
            automatic_reload: true,
            ..Server::default()
        },
        Server {
            kmsv1: true,
            ..Server::default()
        },
        Server {
            kmsv1: true,
            ..Server::release(30)
        },
    ]
}

/// [`judge`] takes a panic of libyaml-safer for a verdict, and keeps quiet about it. One of ours
/// must end the run, also where it would be caught with those.
pub fn abort_on_panics_of_ours() {
    // Puts the hook of `judge` in its place, on which ours has to be.
    judge(b"a", &Server::default());
    let of_judge = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map_or("", |location| location.file());
        if place.contains("/libyaml-safer-") {
            return of_judge(panic);
        }
        eprintln!("{panic}\n{}", Backtrace::force_capture());
        process::abort();
    }));
}

/// Stage, verdict, findings and configuration fit each other.
pub fn check_stage(source: &[u8], judgement: &Judgement) {
    let is_ok = judgement.stage == Stage::Ok;
    assert_eq!(judgement.verdict() == Verdict::Accept, is_ok);
    assert_eq!(judgement.configuration.is_some(), is_ok);
    assert_eq!(judgement.findings.is_empty(), is_ok);
    assert_eq!(judgement.stage == Stage::Empty, source.is_empty());
    assert!(judgement.findings.len() <= 1000, "too many findings");
}
