//! The methods of CBOR-RPC as JSON: `POST /rpc/METHOD`, a list of calls at `POST /rpc`, and the list of methods.

use super::body::{self, Received};
use super::call::Shared;
use super::problem::{self, Problem};
use crate::coordinate::storage::Storage;
use crate::jobserver::{JobServer, MethodInfo, ResultForm};
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use coordinated_client::cbor::json::AsJson;
use coordinated_client::cbor::json_text::ToCbor;
use coordinated_client::cbor::{EMPTY_MAP, Item, Kind};
use coordinated_client::cborrpc::envelope;
use serde::de::DeserializeSeed;
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// How deeply the values of an answer may be nested. What the daemon has stored was checked when it came.
const DEPTH_MAX: usize = 1_000;

fn find_method<S: Storage>(name: &[u8]) -> Option<&'static MethodInfo> {
    JobServer::<S>::methods().find(|method| method.name.as_bytes() == name)
}

/// `GET /rpc`: the methods with their parameters.
pub(super) async fn list<S: Storage>() -> Response {
    #[derive(Serialize)]
    struct Method {
        name: &'static str,
        params: &'static [&'static str],
        required: usize,
        writes: bool,
    }
    let methods: Vec<Method> = JobServer::<S>::methods()
        .map(|method| Method {
            name: method.name,
            params: method.params,
            required: method.required,
            writes: method.access.writes(),
        })
        .collect();
    // Fails for no method: it has only strings and numbers.
    json(serde_json::to_vec(&methods).unwrap_or_default())
}

/// `POST /rpc/METHOD`: calls a method. The body has its parameters: an object, a list, or nothing.
pub(super) async fn call<S: Storage>(
    State(shared): State<Arc<Shared<S>>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let Some(method) = find_method::<S>(name.as_bytes()) else {
        return Err(Problem::new(
            problem::NO_SUCH_METHOD,
            format!("there is no method {name:?}; GET /rpc lists all of them"),
        ));
    };
    let _request = shared.begin_request()?;
    let of_method = |problem: Problem| problem.of_method(method.name);
    let body = body::read(request.into_body(), &shared.bodies, &shared.limits)
        .await
        .map_err(of_method)?;
    let mut message = Vec::with_capacity(body.bytes.len() + 64);
    envelope::begin_request(&mut message, 1, method.name);
    let _share = write_json(body, EMPTY_MAP, &mut message).map_err(of_method)?;
    let responses = shared.ask(message).await.map_err(of_method)?;
    let response = envelope::Response::parse(responses.as_ref(), DEPTH_MAX).map_err(unreadable)?;
    match response.outcome {
        Ok(result) => {
            let result = MethodResult(result, method.result);
            let text = serde_json::to_vec(&result).map_err(unreadable)?;
            shared.answers.hold(text).map(|text| json(Body::from(text)))
        }
        Err(error) => Err(Problem::from_error(error, Some(method.name))),
    }
}

/// `POST /rpc`: a list of calls, one after the other, each an object with `method` and `params`. A failed one does not
/// affect the others.
pub(super) async fn call_all<S: Storage>(
    State(shared): State<Arc<Shared<S>>>,
    request: Request,
) -> Result<Response, Problem> {
    let _request = shared.begin_request()?;
    let body = body::read(request.into_body(), &shared.bodies, &shared.limits).await?;
    let mut message = Vec::with_capacity(body.bytes.len());
    let _share = write_json(body, envelope::NULL, &mut message)?;
    let calls = Item::from_checked(&message);
    let Kind::Array(calls) = calls.kind() else {
        return Err(Problem::new(
            problem::INVALID,
            format!("expected a list of calls, got {}", calls.kind_name()),
        ));
    };
    let methods: Vec<Option<&'static MethodInfo>> = calls
        .map(|call| {
            let name = call.get_some("method").and_then(Item::as_string_bytes);
            name.and_then(|name| find_method::<S>(&name))
        })
        .collect();
    let responses = shared.ask(message).await?;
    let item = Item::from_checked(responses.as_ref());
    let Some(responses) = item.as_list() else {
        let response = envelope::Response::from_item(item).map_err(unreadable)?;
        return match response.outcome {
            Ok(_) => Err(unreadable("a single response to a list of requests")),
            Err(error) => Err(Problem::from_error(error, None)),
        };
    };
    let results = CallResults(responses.zip(methods).collect());
    let text = serde_json::to_vec(&results).map_err(unreadable)?;
    shared.answers.hold(text).map(|text| json(Body::from(text)))
}

fn unreadable(error: impl std::fmt::Display) -> Problem {
    Problem::new(
        problem::DATABASE_ERROR,
        format!("the answer can't be read: {error}"),
    )
}

/// Appends the JSON of a body as CBOR, or `or_else` if the body is empty. Returns the body's share of the memory.
fn write_json(
    body: Received,
    or_else: &[u8],
    out: &mut Vec<u8>,
) -> Result<Option<OwnedSemaphorePermit>, Problem> {
    if body.bytes.iter().all(u8::is_ascii_whitespace) {
        out.extend_from_slice(or_else);
        return Ok(body.into_share());
    }
    let mut json = serde_json::Deserializer::from_slice(&body.bytes);
    ToCbor(out)
        .deserialize(&mut json)
        .and_then(|()| json.end())
        .map_err(|error| {
            Problem::new(problem::INVALID, format!("the body is not JSON: {error}"))
        })?;
    Ok(body.into_share())
}

fn json(body: impl IntoResponse) -> Response {
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

/// The result of a successful call as JSON: of a pair only the value, since its message is null.
struct MethodResult<'a>(Item<'a>, ResultForm);

impl Serialize for MethodResult<'_> {
    fn serialize<S: Serializer>(&self, json: S) -> Result<S::Ok, S::Error> {
        let value = || self.0.as_list().and_then(|mut pair| pair.next());
        match (self.1, value()) {
            (ResultForm::Pair, Some(value)) => AsJson(value).serialize(json),
            (ResultForm::PairOfCounts, Some(counts)) => {
                let entries = counts.as_map().into_iter().flatten();
                json.collect_map(
                    entries.map(|(status, count)| (AsJson(status).to_text(), AsJson(count))),
                )
            }
            _ => AsJson(self.0).serialize(json),
        }
    }
}

/// The responses to a list of calls, with their methods.
struct CallResults<'a>(Vec<(Item<'a>, Option<&'static MethodInfo>)>);

impl Serialize for CallResults<'_> {
    fn serialize<S: Serializer>(&self, json: S) -> Result<S::Ok, S::Error> {
        let mut list = json.serialize_seq(Some(self.0.len()))?;
        for (response, method) in &self.0 {
            list.serialize_element(&CallResult(*response, *method))?;
        }
        list.end()
    }
}

struct CallResult<'a>(Item<'a>, Option<&'static MethodInfo>);

impl Serialize for CallResult<'_> {
    fn serialize<S: Serializer>(&self, json: S) -> Result<S::Ok, S::Error> {
        let response = envelope::Response::from_item(self.0).map_err(serde::ser::Error::custom)?;
        let mut map = json.serialize_map(None)?;
        if let Some(id) = response.id.filter(|id| !id.is_null()) {
            map.serialize_entry("id", &AsJson(id))?;
        }
        match (response.outcome, self.1) {
            (Ok(result), method) => {
                let form = method.map_or(ResultForm::Plain, |method| method.result);
                map.serialize_entry("result", &MethodResult(result, form))?;
            }
            (Err(error), method) => {
                let problem = Problem::from_error(error, method.map(|method| method.name));
                map.serialize_entry("error", &problem.document())?;
            }
        }
        map.end()
    }
}
