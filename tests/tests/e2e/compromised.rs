//! A rotation because others have the old key: what that key has opened and still opens is named.

use std::collections::BTreeSet;
use std::fs;

use atrest_tests::atrest::{self, Ended};
use atrest_tests::processes::{ControlPlane, Options, PLAINTEXT};
use atrest_tests::{schema, stored_values};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::rotate::{FEW, key_names, kill_when, under};

const TOLD: &str = "the old key is known to others";

#[tokio::test(flavor = "multi_thread")]
async fn what_the_old_key_opens_is_named_and_removed_as_far_as_it_is_in_reach() {
    let plane = ControlPlane::start(Options {
        encryption_config: PLAINTEXT.replace("- secrets\n", "- secrets\n  - configmaps\n"),
        ..Options::default()
    });
    let stored = FEW.store(&plane.client(0).await, "known").await.unwrap();
    let dir = plane.directory().join("snapshots");
    let more = format!("snapshots: {{dir: {}}}\n", dir.display());
    let file = atrest::rotation_yaml(&plane, 1, &more);
    let by = |action: &str, more: &[&str]| -> Ended {
        let mut command = atrest::rotate_by(&plane, &file, action, more);
        command.output().unwrap().into()
    };
    let config = &plane.servers[0].encryption_config;
    by("run", &["--to", "secretbox", "--plaintext-snapshot"]).expect(0);
    let old = key_names(config)[0].clone();
    let run_before = |ending: &str| -> BTreeSet<String> {
        let files = fs::read_dir(&dir).unwrap();
        let paths = files.map(|it| it.unwrap().path().display().to_string());
        paths.filter(|it| it.ends_with(ending)).collect()
    };
    let mut open = run_before(".after.db");
    let secrets: BTreeSet<String> = stored_values::secrets(&plane).into_keys().collect();

    // Nothing that would leave others with more than they have.
    let untouched = fs::read(config).unwrap();
    for (refused, told) in [
        (&["--hold", "1h"][..], "--hold"),
        (&["--no-scrub"], "--no-scrub"),
        (&["--to", "identity"], "plaintext"),
        (&["--resource", "secrets"], "stays with configmaps"),
    ] {
        let ended = by("run", &[&["--compromised"], refused].concat()).expect(2);
        assert!(ended.stderr.contains(told), "{}", ended.stderr);
    }
    assert_eq!(fs::read(config).unwrap(), untouched);

    // It is remembered by whoever goes on.
    let amid = ["--compromised", "--max-rate", "4"];
    kill_when(&mut atrest::rotate_by(&plane, &file, "run", &amid), || {
        key_names(config).len() == 2 && under(&plane, &key_names(config)[0]) > 5
    });
    let page = by("status", &["--output", "html"]).expect(0).stdout;
    assert!(page.contains(TOLD), "{page}");
    by("resume", &["--no-scrub"]).expect(2);
    let refused = by("rollback", &[]).expect(2);
    assert!(
        refused.stderr.contains("as good as plaintext"),
        "{refused:?}"
    );
    let done = by("resume", &[]).expect(0);
    assert!(done.stdout.contains(TOLD), "{}", done.stdout);
    let key = key_names(config);
    assert!(key.len() == 1 && key[0] != old, "{key:?}");
    assert_eq!(under(&plane, &key[0]), secrets.len());

    let mut lines = done.stdout.lines();
    let path = lines
        .find_map(|it| it.strip_prefix("certificate: "))
        .unwrap();
    let certificate: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    assert_eq!(schema::faults(&certificate), Vec::<String>::new());
    let exposed = &certificate["compromised"];
    // Each object that was under it, whatever was rewritten when the run was killed.
    let list = fs::read_to_string(exposed["list"].as_str().unwrap()).unwrap();
    let sha256 = data_encoding::HEXLOWER.encode(&Sha256::digest(&list));
    assert_eq!(exposed["list_sha256"], sha256.as_str());
    let listed: BTreeSet<String> = list.lines().map(str::to_owned).collect();
    assert!(secrets.is_subset(&listed), "{list}");
    let objects = exposed["objects"].as_array().unwrap();
    let of = |resource: &str| {
        let mut objects = objects.iter();
        let found = objects.find(|it| it["resource"] == resource).unwrap();
        found["count"].as_u64().unwrap() as usize
    };
    assert_eq!(of("secrets"), secrets.len());
    assert_eq!(of("secrets") + of("configmaps"), listed.len());
    // The snapshot that the last run ended with needs the key; those of this run hold it in etcd's history.
    let run = certificate["run"].as_str().unwrap();
    open.extend(run_before(".db").into_iter().filter(|it| it.contains(run)));
    assert_eq!(open.len(), 3);
    let named = exposed["snapshots"].as_array().unwrap().iter();
    let named: BTreeSet<_> = named.map(|it| it.as_str().unwrap().to_owned()).collect();
    assert_eq!(named, open);
    let text = fs::read_to_string(path.replace(".json", ".txt")).unwrap();
    let page = by("status", &["--output", "html"]).expect(0).stdout;
    for open in &open {
        assert!(text.contains(open) && page.contains(open) && done.stdout.contains(open));
    }
    let check = [
        &["verify".to_owned(), "--certificate".into(), path.into()],
        &plane.etcd_flags()[..],
    ];
    atrest::run(check.concat()).expect(0);

    // On a second word it goes back, and says what that means.
    kill_when(&mut atrest::rotate_by(&plane, &file, "run", &amid), || {
        let now = key_names(config);
        now.len() == 2 && under(&plane, &now[0]) > 5
    });
    let back = by("rollback", &["--accept-plaintext"]).expect(0);
    assert!(
        back.stdout.contains("rolled back to that very key"),
        "{}",
        back.stdout
    );
    stored.assert_readable(&plane.client(0).await).await;
}
