//! The routes, each with who may use it, what handles it, and its description in OpenAPI. REST describes its own
//! ([`super::rest::OPERATIONS`]).

use super::authenticate::Who;
use super::call::Shared;
use super::openapi::{self, call_schemas, content, operation};
use super::rest::{self, Rest};
use super::{health, metrics, rpc, ui, upload};
use crate::coordinate::storage::Storage;
use crate::coordinate::{Scope, Scopes};
use axum::extract::FromRef;
use axum::routing::{MethodRouter, any, get, post};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// What all handlers share.
pub(super) struct State<S: Storage + 'static> {
    pub(super) shared: Arc<Shared<S>>,
    pub(super) rest: Arc<Rest<S>>,
}

impl<S: Storage> Clone for State<S> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            rest: Arc::clone(&self.rest),
        }
    }
}

impl<S: Storage> FromRef<State<S>> for Arc<Shared<S>> {
    fn from_ref(state: &State<S>) -> Self {
        Self::clone(&state.shared)
    }
}

impl<S: Storage> FromRef<State<S>> for Arc<Rest<S>> {
    fn from_ref(state: &State<S>) -> Self {
        Self::clone(&state.rest)
    }
}

/// Something at a path.
pub(super) struct Route<S: Storage + 'static> {
    pub(super) path: &'static str,
    pub(super) who: Who,
    pub(super) handler: MethodRouter<State<S>>,
    /// The HTTP methods that it takes, with their descriptions.
    pub(super) operations: Map<String, Value>,
}

/// The paths of all routes, and of the pages.
pub fn paths<S: Storage>() -> impl Iterator<Item = &'static str> {
    let of_pages = ui::paths::<S>();
    routes::<S>()
        .into_iter()
        .map(|route| route.path)
        .chain(of_pages)
}

/// The path of calls. It is described once for each method.
pub(super) const CALL_PATH: &str = "/rpc/{method}";

/// All routes.
pub(super) fn routes<S: Storage + 'static>() -> Vec<Route<S>> {
    let route = |path, who, handler, operations: Value| Route {
        path,
        who,
        handler,
        operations: match operations {
            Value::Object(operations) => operations,
            _ => Map::new(),
        },
    };
    let (call, outcome) = call_schemas::<S>();
    let json_answer = |description, schema| {
        let answer = content("application/json", description, schema);
        json!({"responses": {"200": answer}})
    };
    let text_answer = |description| {
        let answer = content("text/plain", description, json!({"type": "string"}));
        json!({"responses": {"200": answer}})
    };
    let mut call_all = json_answer(
        "The outcome of each call, in order",
        json!({"type": "array", "items": outcome}),
    );
    call_all["requestBody"] = json!({
        "required": true,
        "content": {"application/json": {"schema": {"type": "array", "items": call}}},
    });
    let mut scrape = text_answer("Metrics in Prometheus' text format, or in that of OpenMetrics");
    let filter = |name| json!({"in": "query", "name": name, "schema": {"type": "string"}});
    scrape["parameters"] = json!([filter("namespace"), filter("work_spec")]);
    let count = json!({"type": "integer"});
    let state = json!({
        "type": "object",
        "properties": {"lines": count, "new": count, "reset": count, "skipped": count},
        "required": ["lines", "new", "reset", "skipped"],
    });
    let upload_id = |is_required: bool| {
        let schema = json!({"type": "string", "minLength": 1, "maxLength": 128});
        json!({"in": "header", "name": "Upload-Id", "required": is_required, "schema": schema})
    };
    let spec = json!({
        "in": "path", "name": "work_spec", "required": true, "schema": {"type": "string"},
    });
    let mut upload_state = json_answer("How far it has come", state.clone());
    upload_state["parameters"] = json!([spec, upload_id(true), filter("namespace")]);
    let mut add_units = json_answer("All lines are done", state);
    let rules = json!({"type": "string", "enum": ["reset", "skip", "error"]});
    add_units["parameters"] = json!([
        spec,
        upload_id(false),
        filter("namespace"),
        {"in": "query", "name": "if_exists", "schema": rules},
        {"in": "query", "name": "from_line", "schema": {"type": "integer", "minimum": 1}},
    ]);
    add_units["requestBody"] = json!({
        "description": "Lines, each a key, a list of key, data and meta, or an object with keys and their data",
        "required": true,
        "content": {"application/x-ndjson": {"schema": {"type": "string", "format": "binary"}}},
    });
    vec![
        route(
            "/units/{work_spec}",
            Who::Known,
            get(upload::state::<S>).post(upload::add::<S>),
            json!({
                "get": operation("units", "get_upload", "How far an upload of units has come", upload_state),
                "post": operation("units", "upload_units", "Adds units from a stream of JSON lines", add_units),
            }),
        ),
        route(
            "/rpc",
            Who::Known,
            get(rpc::list::<S>).post(rpc::call_all::<S>),
            json!({
                "get": operation("methods", "list_methods", "Lists the methods", json_answer(
                    "The methods with their parameters",
                    json!({"type": "array", "items": {"type": "object"}}),
                )),
                "post": operation(
                    "methods",
                    "call_methods",
                    "Calls several methods, one after the other. A failed one does not affect the others",
                    call_all,
                ),
            }),
        ),
        route(CALL_PATH, Who::Known, post(rpc::call::<S>), json!({})),
        route(
            openapi::PATH,
            Who::Known,
            get(openapi::get::<S>),
            json!({"get": operation("daemon", "get_openapi", "This description", json_answer(
                "An OpenAPI document",
                json!({"type": "object"}),
            ))}),
        ),
        route(
            "/healthz",
            Who::Everybody,
            get(health::healthz::<S>),
            json!({"get": operation(
                "daemon",
                "get_healthz",
                "Whether the daemon handles requests",
                text_answer("It does"),
            )}),
        ),
        route(
            "/readyz",
            Who::Everybody,
            get(health::readyz::<S>),
            json!({"get": operation(
                "daemon",
                "get_readyz",
                "Whether the daemon can write",
                text_answer("It can: a transaction has been begun and committed"),
            )}),
        ),
        route(
            "/metrics",
            Who::With(Scopes::of(&[Scope::Metrics])),
            get(metrics::get::<S>),
            json!({"get": operation(
                "daemon",
                "get_metrics",
                "The queue and the daemon for Prometheus",
                scrape,
            )}),
        ),
        of_rest("/"),
        of_rest("/summary"),
        of_rest("/namespace"),
        of_rest("/namespace/{*path}"),
    ]
}

/// A path of REST, which knows itself who may do what there.
fn of_rest<S: Storage + 'static>(path: &'static str) -> Route<S> {
    Route {
        path,
        who: Who::Known,
        handler: any(rest::handle::<S>),
        operations: Map::new(),
    }
}
