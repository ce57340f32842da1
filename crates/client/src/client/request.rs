//! Requests: a method and its parameters.

use crate::cbor::{Value, Writer};

/// A call to be made, once or several times.
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
}

/// Methods that read, or that leave the same state and give the same answer if they are called twice
/// (docs/protocol.md, "Repeating"). `update_work_unit` is one or not, depending on its options.
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
    "list_failures",
    "list_locks",
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

    /// A call of `method` with parameters that `write` writes: the head of an array, or of a map for
    /// parameters by name, and what belongs in there. It spares the values in memory.
    pub fn with_params(method: impl Into<String>, write: impl FnOnce(&mut Writer<'_>)) -> Self {
        let method = method.into();
        let mut params = Vec::new();
        write(&mut Writer::new(&mut params));
        Self {
            is_repeatable: REPEATABLE.binary_search(&method.as_str()).is_ok(),
            method,
            params,
        }
    }

    /// The same call, known to do no harm if it is carried out twice.
    #[must_use]
    pub fn repeatable(mut self) -> Self {
        self.is_repeatable = true;
        self
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

    /// True if the call does no harm if it is carried out twice, so that it may be sent again when nobody
    /// knows whether it was.
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
