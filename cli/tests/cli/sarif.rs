//! `--output sarif`, judged by OASIS's schema.

use boon::{Compiler, Schemas};
use serde_json::{Value, json};

use crate::validate::{GOOD, bad};
use crate::{atrest, atrest_with, repository};

/// What the schema says against it.
fn faults(log: &Value) -> Option<String> {
    const URL: &str = "file:///sarif.json";

    let schema = repository().join("cli/tests/sarif/sarif-schema-2.1.0.json");
    let schema = serde_json::from_slice(&std::fs::read(schema).unwrap()).unwrap();
    let mut schemas = Schemas::new();
    let mut compiler = Compiler::new();
    compiler.enable_format_assertions();
    compiler.add_resource(URL, schema).unwrap();
    let index = compiler.compile(URL, &mut schemas).unwrap();
    let verdict = schemas.validate(log, index);
    verdict.err().map(|error| error.to_string())
}

fn log(stdout: &str) -> Value {
    let log: Value = serde_json::from_str(stdout).unwrap();
    assert_eq!(faults(&log), None, "{log:#}");
    log
}

#[test]
fn findings_become_results() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a b.yaml");
    std::fs::write(&path, bad("not*base64").replace("secrets", "Sécrets")).unwrap();
    let missing = folder.path().join("missing").display().to_string();
    let path = path.display().to_string();
    let run = atrest(["validate", &path, &missing, "--output", "sarif"]);
    assert_eq!(run.status, 2);
    let log = log(&run.stdout);
    let run = &log["runs"][0];
    assert_eq!(run["columnKind"], "unicodeCodePoints");
    let results = run["results"].as_array().unwrap();
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    for result in results {
        let index = result["ruleIndex"].as_u64().unwrap();
        assert_eq!(rules[index as usize]["id"], result["ruleId"]);
    }
    let errors: Vec<_> = results.iter().filter(|it| it["level"] == "error").collect();
    assert_eq!(errors.len(), 2, "{results:#?}");
    let place = &errors[1]["locations"][0];
    assert_eq!(errors[1]["ruleId"], "AR-C018");
    assert_eq!(
        place["physicalLocation"]["region"],
        json!({"startLine": 9, "startColumn": 23})
    );
    let uri = place["physicalLocation"]["artifactLocation"]["uri"].as_str();
    assert!(uri.unwrap().ends_with("/a%20b.yaml"), "{uri:?}");
    assert_eq!(
        place["logicalLocations"][0]["fullyQualifiedName"],
        "resources[0].providers[0].aescbc.keys[0].secret"
    );
    let rule = rules.iter().find(|rule| rule["id"] == "AR-C018").unwrap();
    let help = rule["help"]["text"].as_str().unwrap();
    assert!(
        help.starts_with("The secret of a key is not base64.\n\nThe server"),
        "{help}"
    );
    let invocation = &run["invocations"][0];
    assert_eq!(invocation["executionSuccessful"], false);
    let said = &invocation["toolExecutionNotifications"][0]["message"]["text"];
    assert!(said.as_str().unwrap().contains("missing"), "{said}");
}

#[test]
fn a_good_file_has_no_result() {
    let arguments = ["validate", "-", "--output", "sarif", "--allow", "AR-L001"];
    let run = atrest_with(arguments, GOOD.as_bytes());
    assert_eq!(run.status, 0);
    let log = log(&run.stdout);
    assert_eq!(log["runs"][0]["results"], json!([]));
    assert_eq!(
        log["runs"][0]["artifacts"][0]["properties"]["verdict"],
        "accept"
    );
    assert_eq!(
        log["runs"][0]["invocations"][0]["executionSuccessful"],
        true
    );
}

#[test]
fn the_schema_would_find_a_fault() {
    let mut log = log(&atrest_with(["validate", "-", "--output", "sarif"], b"").stdout);
    log["runs"][0]["results"][0]["level"] = json!("fatal");
    assert!(faults(&log).is_some());
    log["runs"][0]["results"][0]["level"] = json!("error");
    assert_eq!(faults(&log), None);
    log["runs"][0]["snippet"] = json!("");
    assert!(faults(&log).is_some());
}

#[test]
fn other_commands_have_no_such_output() {
    for output in ["sarif", "junit"] {
        for command in [&["explain"][..], &["generate", "-o", "-"], &["verify"]] {
            let run = atrest(command.iter().chain(&["--output", output]));
            assert_eq!((run.status, run.stdout.as_str()), (2, ""), "{command:?}");
            assert!(run.stderr.contains("hint: choose text"), "{}", run.stderr);
        }
    }
}
