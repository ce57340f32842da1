//! Requests over HTTP: several at once are a list of calls.

use coordinated_client::cbor::Item;
use coordinated_client::cbor::json::AsJson;
use serde_json::{Value as Json, json};
use test_support::{PATIENCE, Server, Value};

/// A client of the HTTP interface.
pub struct HttpClient {
    agent: ureq::Agent,
    /// Without a slash at its end.
    root: String,
}

impl HttpClient {
    pub fn of(server: &Server) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build();
        Self {
            agent: config.into(),
            root: server.http(),
        }
    }

    /// The outcomes of calls, which are made one after the other. `None` if the daemon has gone, or takes no more.
    pub fn call(&self, calls: &[(&str, Value)]) -> Option<Vec<Json>> {
        if let [(method, params)] = calls {
            let result = self.post(&format!("/rpc/{method}"), &to_json(params))?;
            return Some(vec![json!({"result": result})]);
        }
        let calls: Vec<Json> = calls
            .iter()
            .map(|(method, params)| json!({"method": method, "params": without_wait(params)}))
            .collect();
        let outcomes = self.post("/rpc", &calls.into())?;
        Some(outcomes.as_array().expect("a list").clone())
    }

    fn post(&self, path: &str, body: &Json) -> Option<Json> {
        let request = self.agent.post(format!("{}{path}", self.root));
        let mut answer = request.send(body.to_string()).ok()?;
        let text = answer.body_mut().read_to_string().ok()?;
        match answer.status().as_u16() {
            200 => Some(serde_json::from_str(&text).expect("JSON")),
            503 => None,
            status => panic!("{path} {body}: {status}: {text}"),
        }
    }
}

/// Parameters for a call in a list: none of them can wait.
fn without_wait(params: &Value) -> Json {
    let mut params = to_json(params);
    for options in params.as_array_mut().into_iter().flatten() {
        if let Json::Object(options) = options {
            options.remove("wait");
        }
    }
    params
}

/// A value as the daemon writes it.
pub fn to_json(value: &Value) -> Json {
    let text = AsJson(Item::from_checked(&value.encode())).to_text();
    serde_json::from_str(&text).expect("JSON")
}
