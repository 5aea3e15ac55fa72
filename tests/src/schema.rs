//! The JSON Schemas of `docs/schema`, as much of them as is about what must be there.

use std::path::Path;

use serde_json::Value;

/// The schema that a result names in its own `schema` field.
pub fn of(result: &Value) -> Result<Value, String> {
    let name = result["schema"].as_str().ok_or("it names no schema")?;
    let file = name
        .strip_prefix("atrest/")
        .ok_or_else(|| format!("{name:?} is no schema of atrest"))?
        .replace('/', "-");
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../docs/schema/{file}.json")))
}

/// Reads a schema.
pub fn read(path: &Path) -> Result<Value, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", path.display()))
}

/// What a result lacks, or has of another type than its schema says. Empty: nothing.
pub fn faults(result: &Value) -> Vec<String> {
    match of(result) {
        Err(reason) => vec![reason],
        Ok(schema) => {
            let mut faults = Vec::new();
            check(&schema, &schema, result, "$", &mut faults);
            faults
        }
    }
}

fn check(root: &Value, schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
    if let Some(pointer) = schema["$ref"].as_str() {
        match root.pointer(pointer.trim_start_matches('#')) {
            Some(target) => check(root, target, value, at, faults),
            None => faults.push(format!("{at}: the schema has no {pointer}")),
        }
        return;
    }
    let types: Vec<_> = match &schema["type"] {
        Value::String(name) => vec![name.as_str()],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !types.is_empty() && !types.iter().any(|name| is(value, name)) {
        faults.push(format!(
            "{at} is not of type {}: {value}",
            types.join(" or ")
        ));
        return;
    }
    if let Some(constant) = schema.get("const").filter(|constant| *constant != value) {
        faults.push(format!("{at} is not {constant}: {value}"));
    }
    if let Some(words) = schema["enum"]
        .as_array()
        .filter(|words| !words.contains(value))
    {
        faults.push(format!("{at} is none of {words:?}: {value}"));
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        let there = name.as_str().is_some_and(|name| value.get(name).is_some());
        if !there && value.is_object() {
            faults.push(format!("{at} lacks {name}"));
        }
    }
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(value) = value.get(name) {
            check(root, schema, value, &format!("{at}.{name}"), faults);
        }
    }
    if let Some(items) = schema.get("items") {
        for (i, value) in value.as_array().into_iter().flatten().enumerate() {
            check(root, items, value, &format!("{at}[{i}]"), faults);
        }
    }
}

fn is(value: &Value, name: &str) -> bool {
    match name {
        "array" => value.is_array(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "object" => value.is_object(),
        "string" => value.is_string(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(value: Value) -> Vec<String> {
        let schema = json!({
            "type": "object",
            "required": ["a", "b"],
            "properties": {
                "a": {"type": ["string", "null"]},
                "b": {"type": "array", "items": {"$ref": "#/$defs/b"}},
            },
            "$defs": {"b": {"required": ["c"], "properties": {"c": {"enum": ["x"]}}}},
        });
        let mut faults = Vec::new();
        check(&schema, &schema, &value, "$", &mut faults);
        faults
    }

    #[test]
    fn what_is_missing_or_of_another_type_is_named_by_its_place() {
        assert!(found(json!({"a": null, "b": [{"c": "x"}], "more": 1})).is_empty());
        for (value, fault) in [
            (json!([]), "$ is not of type object"),
            (json!({"a": "s"}), "$ lacks \"b\""),
            (json!({"a": 1, "b": []}), "$.a is not of type"),
            (
                json!({"a": null, "b": [{"c": "x"}, {}]}),
                "$.b[1] lacks \"c\"",
            ),
            (json!({"a": null, "b": [{"c": "y"}]}), "$.b[0].c is none of"),
        ] {
            let found = found(value);
            assert!(found.len() == 1 && found[0].starts_with(fault), "{found:?}");
        }
    }

    #[test]
    fn a_result_without_a_schema_has_a_fault() {
        assert_eq!(faults(&json!({})).len(), 1);
        assert_eq!(faults(&json!({"schema": "atrest/absent/v1"})).len(), 1);
    }
}
