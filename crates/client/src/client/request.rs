//! Requests: a method and its parameters.

use crate::cbor::{Value, Writer};
use std::time::Duration;

/// A call, which can be made several times.
///
/// ```
/// use coordinated_client::cbor::Value;
/// use coordinated_client::Request;
/// let request = Request::new("count_work_units", [Value::from("squares")]);
/// assert!(request.is_repeatable());
/// ```
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    params: Vec<u8>,
    is_repeatable: bool,
    wait: Duration,
}

/// Methods that only read, or that leave the same state and return the same result if they are called twice
/// (docs/protocol.md, "Repeating"). Whether `update_work_unit` does depends on its options.
const REPEATABLE: &[&str] = &[
    "archive",
    "control_work_spec",
    "count_work_units",
    "explain_work",
    "get_attempts",
    "get_child_work_units",
    "get_config",
    "get_work_spec",
    "get_work_spec_meta",
    "get_work_unit_status",
    "get_work_units",
    "get_worker_info",
    "list_audit",
    "list_failures",
    "list_locks",
    "list_tokens",
    "list_work_specs",
    "list_worker_modes",
    "mode_counts",
    "now",
    "readlock",
    "renew",
    "server_info",
    "set_work_spec",
    "summary",
    "worker_heartbeat",
    "worker_stats",
];

impl Request {
    /// A call of `method` with parameters by position.
    pub fn new(method: impl Into<String>, params: impl IntoIterator<Item = Value>) -> Self {
        let params: Vec<Value> = params.into_iter().collect();
        Self::with_params(method, |writer| {
            writer.array(params.len());
            params.iter().for_each(|param| param.write(writer));
        })
    }

    /// A call of `method` with parameters that `write` writes: the head of an array, or of a map for parameters by name,
    /// and its items. This needs no [`Value`]s in memory.
    pub fn with_params(method: impl Into<String>, write: impl FnOnce(&mut Writer<'_>)) -> Self {
        let method = method.into();
        let mut params = Vec::new();
        write(&mut Writer::new(&mut params));
        Self {
            is_repeatable: REPEATABLE.binary_search(&method.as_str()).is_ok(),
            method,
            params,
            wait: Duration::ZERO,
        }
    }

    /// The same call, marked as one that can be executed twice without harm.
    #[must_use]
    pub fn repeatable(mut self) -> Self {
        self.is_repeatable = true;
        self
    }

    /// The same call, which asks the server to wait for so long before it answers: the client allows this much more time
    /// for the answer.
    #[must_use]
    pub fn waiting(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// How long the server may wait before it answers.
    #[must_use]
    pub fn wait(&self) -> Duration {
        self.wait
    }

    /// The method's name.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The parameters, encoded.
    #[must_use]
    pub fn params(&self) -> &[u8] {
        &self.params
    }

    /// True if the call can be executed twice without harm, so that it may be sent again when it is unknown whether it was
    /// executed.
    #[must_use]
    pub fn is_repeatable(&self) -> bool {
        self.is_repeatable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_give_or_take_work_are_not_repeated() {
        assert!(REPEATABLE.is_sorted());
        for method in [
            "get_work",
            "add_work_units",
            "prioritize_work_units",
            "lock",
            "clear",
            "unheard_of",
        ] {
            assert!(!Request::new(method, []).is_repeatable(), "{method}");
        }
        for method in ["now", "archive", "worker_stats"] {
            assert!(Request::new(method, []).is_repeatable(), "{method}");
        }
    }
}
