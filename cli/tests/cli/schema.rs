//! As much of JSON Schema as the schemas in `docs/schema` use.

use serde_json::Value;

use crate::repository;

/// Panics where the value is not as the schema says.
pub(crate) fn check(schema: &str, value: &Value) {
    let path = repository().join("docs/schema").join(schema);
    let schema: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    Checker { root: &schema }.check(&schema, value, "$");
}

struct Checker<'a> {
    root: &'a Value,
}

impl Checker<'_> {
    fn check(&self, schema: &Value, value: &Value, at: &str) {
        for (keyword, argument) in schema.as_object().unwrap() {
            match keyword.as_str() {
                "$ref" => {
                    let pointer = argument.as_str().unwrap().trim_start_matches('#');
                    self.check(self.root.pointer(pointer).unwrap(), value, at);
                }
                "type" => {
                    let fits = match argument.as_str().unwrap() {
                        "array" => value.is_array(),
                        "integer" => value.is_u64(),
                        "object" => value.is_object(),
                        "string" => value.is_string(),
                        other => panic!("type {other} is not known here"),
                    };
                    assert!(fits, "{at} is not of type {argument}: {value}");
                }
                "const" => assert_eq!(value, argument, "{at}"),
                "enum" => assert!(
                    argument.as_array().unwrap().contains(value),
                    "{at}: {value}"
                ),
                "minimum" => assert!(value.as_u64() >= argument.as_u64(), "{at}: {value}"),
                "items" => {
                    for (index, item) in value.as_array().unwrap().iter().enumerate() {
                        self.check(argument, item, &format!("{at}[{index}]"));
                    }
                }
                "required" => {
                    for name in argument.as_array().unwrap() {
                        assert!(
                            value.get(name.as_str().unwrap()).is_some(),
                            "{at} lacks {name}"
                        );
                    }
                }
                "properties" => {
                    for (name, value) in value.as_object().unwrap() {
                        let schema = &argument[name];
                        assert!(!schema.is_null(), "{at}.{name} is not in the schema");
                        self.check(schema, value, &format!("{at}.{name}"));
                    }
                }
                "additionalProperties" => assert_eq!(argument, false),
                "$schema" | "$id" | "$defs" | "title" | "description" => {}
                other => panic!("keyword {other} is not known here"),
            }
        }
    }
}
