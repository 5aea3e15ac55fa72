//! The page of a rotation, as a real browser draws it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use atrest_tests::packages;
use atrest_tests::processes::{ControlPlane, Options};
use atrest_tests::{atrest, atrest::Ended};

use crate::rotate::FEW;

/// Runs Chromium without a window and, for the page says so itself, without a network.
fn chromium(profile: &Path, arguments: &[&str], page: &Path) -> Ended {
    Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
        ])
        .args(["--disable-background-networking", "--window-size=1000,2200"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .args(arguments)
        .arg(format!("file://{}", page.display()))
        .stdin(Stdio::null())
        .output()
        .unwrap()
        .into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_one_page_that_a_browser_draws_without_asking_anybody() {
    if !packages::available(&[("chromium", "chromium")]) {
        return;
    }
    let plane = ControlPlane::start(Options {
        servers: 2,
        ..Options::default()
    });
    FEW.store(&plane.client(0).await, "page").await.unwrap();
    let rotation = atrest::rotation_yaml(&plane, 2, "");
    let rotate = |action: &str, more: &[&str]| -> Ended {
        let mut command = atrest::rotate_by(&plane, &rotation, action, more);
        command.output().unwrap().into()
    };
    rotate(
        "run",
        &["--to", "secretbox", "--max-rate", "20", "--hold", "1s"],
    )
    .expect(4);
    let unfinished = rotate("status", &["--output", "html"]).expect(0).stdout;
    assert!(unfinished.contains("not finished"), "{unfinished}");
    while rotate("resume", &[]).status != Some(0) {}
    let html = rotate("status", &["--output", "html"]).expect(0).stdout;

    // Nothing of it is elsewhere.
    for elsewhere in ["http://", "https://", "<script", "<link", "@import", "url("] {
        let without_servers = html.replace("https://127.0.0.1", "");
        assert!(!without_servers.contains(elsewhere), "{elsewhere}");
    }
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("rotation.html");
    fs::write(&page, &html).unwrap();
    let dom = chromium(folder.path(), &["--dump-dom"], &page)
        .expect(0)
        .stdout;
    for words in [
        "done and proven",
        "States over time",
        "cp1",
        "cp2",
        "holding: the old key stays readable",
        "everything is by secretbox",
    ] {
        assert!(dom.contains(words), "{words}");
    }
    let count = |what: &str| dom.matches(what).count();
    // A bar for each state, and one for each file of each server.
    assert!(count("class=\"bar\"") >= 8, "{}", count("class=\"bar\""));
    assert_eq!(count("class=\"wait\""), 6);
    assert_eq!(count("role=\"img\""), 3);
    assert!(count("class=\"rate\"") == 1 && !dom.contains("NaN") && !dom.contains("inf"));

    let kept = std::env::var_os("ATREST_SCREENSHOTS").map(std::path::PathBuf::from);
    let shots = kept.unwrap_or_else(|| folder.path().to_owned());
    fs::create_dir_all(&shots).unwrap();
    for (name, theme) in [("dark", "0"), ("light", "1")] {
        let shot = shots.join(format!("rotation-{name}.png"));
        let to = format!("--screenshot={}", shot.display());
        let theme = format!("--blink-settings=preferredColorScheme={theme}");
        chromium(folder.path(), &[&to, &theme, "--hide-scrollbars"], &page).expect(0);
        let png = fs::read(&shot).unwrap();
        assert!(
            png.starts_with(b"\x89PNG") && png.len() > 20_000,
            "{} bytes",
            png.len()
        );
    }
}
