//! `GET /openapi.json`: all that HTTP has, as OpenAPI 3.1. It is made from the tables that the daemon itself works with: the
//! methods ([`JobServer::methods`]), the routes ([`super::routes`]), those of REST, and the kinds of problems. What the
//! methods do is said in docs/protocol.md only.

mod methods;

use super::authenticate::Who;
use super::call::Shared;
use super::problem::{self, Problem};
use super::rest::{self, RestOperation};
use super::routes::{CALL_PATH, routes};
use crate::coordinate::storage::Storage;
use crate::jobserver::JobServer;
use axum::body::Body;
use axum::extract::{OriginalUri, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Where the document is.
pub(super) const PATH: &str = "/openapi.json";

const ABOUT: &str = "\
A queue of work units, which workers lease, do and report on.

- The operations tagged *methods* are those of CBOR-RPC, one path for each. Their descriptions are those of the protocol, whose \
results are mostly a pair of a value and a message: here the answer is the value alone, and a failure is a problem \
(RFC 9457) with a status. Parameters may also be a list, in the order of the summary.
- Text in JSON is text. A byte string that is not UTF-8, a number beyond 64 bits and other values that JSON lacks are objects \
with a single key, such as `{\"$bytes\": \"\\\\xff\"}`.
- The operations tagged *rest* are the protocol of go-coordinate's daemon. Their failures have a form of their own.";

/// `GET /openapi.json`.
pub(super) async fn get<S: Storage + 'static>(
    State(shared): State<Arc<Shared<S>>>,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, Problem> {
    let base_path = uri.path().strip_suffix(PATH).unwrap_or_default();
    // Fails for no document: the keys of its maps are strings.
    let text = serde_json::to_vec(&document::<S>(base_path)).unwrap_or_default();
    let text = shared.answers.hold(text)?;
    Ok(([(CONTENT_TYPE, "application/json")], Body::from(text)).into_response())
}

fn document<S: Storage + 'static>(base_path: &str) -> Value {
    let mut paths = Map::new();
    for route in routes::<S>() {
        if route.path == CALL_PATH {
            for method in JobServer::<S>::methods() {
                let path = CALL_PATH.replace("{method}", method.name);
                paths.insert(path, json!({"post": methods::operation(method)}));
            }
        } else if !route.operations.is_empty() {
            let mut operations = route.operations;
            if let Who::Everybody = route.who {
                for (_, operation) in &mut operations {
                    operation["security"] = json!([]);
                }
            }
            paths.insert(route.path.to_owned(), Value::Object(operations));
        }
    }
    for operation in rest::OPERATIONS {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method.to_ascii_lowercase()] = rest_operation(operation);
    }
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "coordinated",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
        },
        "tags": [
            {"name": "methods", "description": "Everything that clients of CBOR-RPC can do, as JSON"},
            {"name": "units", "description": "Adding units from a stream"},
            {"name": "daemon", "description": "Health, metrics, and this description"},
            {"name": "rest", "description": "The protocol of go-coordinate's daemon"},
        ],
        "paths": paths,
        "security": [{"bearer": []}, {"basic": []}, {}],
        "components": {
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token, which is needed once one was made",
                },
                "basic": {"type": "http", "scheme": "basic", "description": "Any user, and a token as the password"},
            },
            "schemas": {"Problem": problem_schema(), "RestError": rest_error_schema()},
            "responses": {
                "Problem": {
                    "description": "It failed",
                    "content": {"application/problem+json": {"schema": reference("schemas/Problem")}},
                },
                "RestError": {
                    "description": "It failed",
                    "content": {"application/json": {"schema": reference("schemas/RestError")}},
                },
            },
        },
    });
    if !base_path.is_empty() {
        document["servers"] = json!([{"url": base_path}]);
    }
    document
}

/// An operation of a route, with these further fields.
pub(super) fn operation(tag: &str, id: &str, summary: &str, fields: Value) -> Value {
    let mut operation = json!({"operationId": id, "summary": summary, "tags": [tag]});
    if let (Value::Object(operation), Value::Object(fields)) = (&mut operation, fields) {
        operation.extend(fields);
    }
    operation["responses"]["default"] = reference("responses/Problem");
    operation
}

/// A body of a request or an answer.
pub(super) fn content(media_type: &str, description: &str, schema: Value) -> Value {
    json!({"description": description, "content": {media_type: {"schema": schema}}})
}

/// The schema of a call in a list of calls, and that of its outcome.
pub(super) fn call_schemas<S: Storage>() -> (Value, Value) {
    let names: Vec<&str> = JobServer::<S>::methods()
        .map(|method| method.name)
        .collect();
    let id = json!({"description": "Comes back with the outcome"});
    let call = json!({
        "type": "object",
        "properties": {
            "id": id,
            "method": {"type": "string", "enum": names},
            "params": {"description": "An object, or a list in the order of the parameters"},
        },
        "required": ["method", "params"],
    });
    let outcome = json!({
        "type": "object",
        "description": "Has either a result or an error",
        "properties": {"id": id, "result": {}, "error": reference("schemas/Problem")},
    });
    (call, outcome)
}

fn reference(what: &str) -> Value {
    json!({"$ref": format!("#/components/{what}")})
}

fn problem_schema() -> Value {
    let types: Vec<String> = problem::all_types()
        .map(|name| problem::urn(&name))
        .collect();
    json!({
        "type": "object",
        "properties": {
            "type": {"type": "string", "enum": types},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string", "description": "For people"},
            "method": {"type": "string", "description": "The method that was called"},
            "parameter": {"type": "string", "description": "The parameter or option whose value can't be used"},
            "line": {"type": "integer", "description": "The line of an upload that is at fault"},
            "lines": {"type": "integer", "description": "Lines of an upload whose units are on disk"},
            "new": {"type": "integer"},
            "reset": {"type": "integer"},
            "skipped": {"type": "integer"},
        },
        "required": ["type", "title", "status", "detail"],
    })
}

fn rest_error_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "error": {"type": "string", "description": "The kind; `error` if it has none"},
            "message": {"type": "string", "description": "For people"},
            "value": {"type": "string", "description": "The name that there is nothing of"},
        },
        "required": ["error", "message"],
    })
}

fn rest_operation(operation: &RestOperation) -> Value {
    let parameter = |place, name: &str, is_required: bool, schema: Value| json!({"in": place, "name": name, "required": is_required, "schema": schema});
    let in_path = operation.path.split(['{', '}']).skip(1).step_by(2);
    let string = || json!({"type": "string"});
    let mut parameters: Vec<Value> = in_path
        .map(|name| match name {
            "attempt" => parameter("path", name, true, json!({"type": "integer"})),
            _ => parameter("path", name, true, string()),
        })
        .collect();
    parameters.extend(operation.query.iter().map(|&name| match name {
        "name" | "status" => {
            let strings = json!({"type": "array", "items": string()});
            parameter("query", name, false, strings)
        }
        "limit" => parameter("query", name, false, json!({"type": "integer"})),
        "counts" => parameter("query", name, false, json!({"type": "boolean"})),
        _ => parameter("query", name, false, string()),
    }));
    let object = || json!({"type": "object"});
    let answer = match operation.status {
        204 => json!({"description": "Done"}),
        _ => content("application/json", operation.summary, object()),
    };
    let mut described = json!({
        "summary": operation.summary,
        "tags": ["rest"],
        "parameters": parameters,
        "responses": {"default": reference("responses/RestError")},
    });
    described["responses"][operation.status.to_string()] = answer;
    if matches!(operation.method, "POST" | "PUT") {
        let mut body = json!({"content": {"application/json": {"schema": object()}}});
        body["required"] = json!(true);
        described["requestBody"] = body;
    }
    described
}
