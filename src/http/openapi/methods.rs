//! The methods, one operation each.

use super::{content, operation as describe};
use crate::jobserver::{MethodInfo, ResultForm};
use serde_json::{Map, Value, json};

/// Says what each method does, below its heading.
const PROTOCOL: &str = include_str!("../../../docs/protocol.md");

/// The call of a method.
pub(super) fn operation(method: &MethodInfo) -> Value {
    let summary = format!("{}({})", method.name, method.params.join(", "));
    let result = match method.result {
        ResultForm::PairOfCounts => {
            json!({"type": "object", "additionalProperties": {"type": "integer"}})
        }
        // Of any type.
        ResultForm::Pair | ResultForm::Plain => json!({}),
    };
    let mut fields = json!({
        "description": description(method.name),
        "responses": {"200": content("application/json", "Its result", result)},
    });
    if !method.params.is_empty() {
        let properties: Map<String, Value> = method
            .params
            .iter()
            .map(|&name| (name.to_owned(), parameter(name)))
            .collect();
        let required = method.params.get(..method.required).unwrap_or_default();
        fields["requestBody"] = json!({
            "required": method.required > 0,
            "content": {"application/json": {"schema": {
                "type": "object",
                "properties": properties,
                "required": required,
            }}},
        });
    }
    describe("methods", method.name, &summary, fields)
}

/// The schema of a parameter, which is the same in all methods that have one of this name.
fn parameter(name: &str) -> Value {
    let name_or_null = json!({"type": ["string", "null"]});
    let path = json!({"type": "array", "items": {}});
    match name {
        "work_spec" => {
            json!({"type": "object", "description": "The definition of a work spec, with its name"})
        }
        "work_spec_name" | "worker_id" | "locker_id" | "name" | "token" => {
            json!({"type": "string"})
        }
        "work_unit_key" | "mode" | "parent" => name_or_null,
        "work_unit_keys" => json!({"type": "array", "items": {"type": "string"}}),
        "work_unit_key_vals" => json!({
            "type": "array",
            "items": {},
            "description": "Each item is a list of a key, its data and perhaps its meta, or a key alone",
        }),
        "updates" => json!({
            "type": "array",
            "items": {"type": "array", "items": {}},
            "description": "Each item is a list of a key and the options of its report",
        }),
        "options" | "data" => json!({"type": ["object", "null"]}),
        "timeout" | "expire_seconds" => json!({"type": "number", "description": "In seconds"}),
        "keys" => json!({"type": "array", "items": path, "description": "Paths, each a list"}),
        // Of any type.
        _ => json!({}),
    }
}

/// What the protocol says of a method before its example, without the targets of links.
fn description(method: &str) -> String {
    let heading = format!("\n#### `{method}(");
    let section = PROTOCOL.split_once(&heading).map_or("", |(_, after)| after);
    let (_, text) = section.split_once('\n').unwrap_or_default();
    let end = ["\n#", "\n```"].iter().filter_map(|end| text.find(end));
    let text = end.min().and_then(|end| text.get(..end)).unwrap_or(text);
    without_links(text.trim())
}

/// `[this](#that)` as `this`.
fn without_links(text: &str) -> String {
    let mut parts = text.split("](");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        if let Some(bracket) = out.rfind('[') {
            out.remove(bracket);
        }
        out.push_str(part.split_once(')').map_or(part, |(_, after)| after));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobserver::JobServer;
    use crate::store::SqliteStore;

    #[test]
    fn every_method_is_described_by_the_protocol() {
        for method in JobServer::<SqliteStore>::methods() {
            let text = description(method.name);
            assert!(text.contains("- Result: "), "{}: {text:?}", method.name);
            assert!(!text.contains("]("), "{}: {text:?}", method.name);
            assert!(!text.contains("```"), "{}: {text:?}", method.name);
        }
    }

    #[test]
    fn every_parameter_but_a_path_has_a_type() {
        let methods = JobServer::<SqliteStore>::methods();
        for name in methods.flat_map(|method| method.params) {
            let schema = parameter(name);
            assert!(schema["type"] != Value::Null || *name == "prefix", "{name}");
        }
    }

    #[test]
    fn links_lose_their_targets() {
        let text = "a [b](#c) d `[true, null]` [e](f.md#g)";
        assert_eq!(without_links(text), "a b d `[true, null]` e");
        assert_eq!(without_links("none"), "none");
    }
}
