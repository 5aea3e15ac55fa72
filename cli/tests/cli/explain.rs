//! `atrest explain`

use serde_json::Value;

use crate::{atrest, schema};

#[test]
fn a_page_says_what_why_and_how() {
    for id in ["AR-C018", "ar-c018"] {
        let run = atrest(["explain", id]);
        assert_eq!((run.status, run.stderr.as_str()), (0, ""));
        assert!(
            run.stdout.starts_with(
                "error[AR-C018]: The secret of a key is not base64.\n\nThe server decodes"
            ),
            "{}",
            run.stdout
        );
        assert!(
            run.stdout.contains("\n    - name: key1\n"),
            "{}",
            run.stdout
        );
    }
}

#[test]
fn an_unknown_id_gets_the_nearest() {
    let run = atrest(["explain", "AR-C0188"]);
    assert_eq!((run.status, run.stdout.as_str()), (2, ""));
    assert_eq!(
        run.stderr,
        "error: no finding has the id AR-C0188\nhint: the nearest is AR-C018; `atrest explain` lists all\n"
    );
}

#[test]
fn all_ids_are_listed_in_every_form() {
    let table = atrest(["explain"]).stdout;
    let ids: Vec<_> = table
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let json: Value =
        serde_json::from_str(&atrest(["explain", "--output", "json"]).stdout).unwrap();
    schema::check("explain-v1.json", &json);
    let rules = json["rules"].as_array().unwrap();
    assert_eq!(
        rules.iter().map(|rule| &rule["id"]).collect::<Vec<_>>(),
        ids
    );
    assert!(ids.len() > 40);
    let yaml = atrest(["--output", "yaml", "explain"]).stdout;
    assert_eq!(serde_yaml::from_str::<Value>(&yaml).unwrap(), json);

    let one = atrest(["explain", "AR-D001", "--output", "json"]).stdout;
    let one: Value = serde_json::from_str(&one).unwrap();
    schema::check("explain-v1.json", &one);
    assert_eq!(one["rules"][0], rules[0]);
}
