//! Errors as HTTP clients get them: problem details (RFC 9457).

use super::upload::UploadState;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use coordinated_client::cbor::Item;
use serde::Serialize;
use std::time::Duration;

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    code: &'static Code,
    detail: String,
    method: Option<String>,
    /// After how long the same request may succeed.
    retry_after: Option<Duration>,
    /// How far an upload has come.
    upload: Option<UploadState>,
}

/// A kind of problem, which programs tell by its name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Code {
    name: &'static str,
    title: &'static str,
    status: StatusCode,
    /// True if the same request may succeed a little later.
    is_temporary: bool,
}

macro_rules! codes {
    ($($constant:ident: $name:literal, $status:ident, $title:literal, $is_temporary:literal;)*) => {
        $(pub(super) const $constant: &Code = &Code {
            name: $name,
            title: $title,
            status: StatusCode::$status,
            is_temporary: $is_temporary,
        };)*

        /// All kinds of problems.
        const CODES: &[&Code] = &[$($constant),*];
    };
}

codes! {
    // Those of the methods (`coordinate::Error::code`, and batches).
    INVALID: "invalid", BAD_REQUEST, "A value of the request can't be used", false;
    NO_SUCH_WORK_SPEC: "no_such_work_spec", NOT_FOUND, "There is no such work spec", false;
    NO_SUCH_WORK_UNIT: "no_such_work_unit", NOT_FOUND, "There is no such work unit", false;
    NO_SUCH_ATTEMPT: "no_such_attempt", NOT_FOUND, "There is no such attempt", false;
    NO_SUCH_WORKER: "no_such_worker", NOT_FOUND, "There is no such worker", false;
    REFUSED: "refused", CONFLICT, "The present state does not allow it", false;
    BUSY: "busy", SERVICE_UNAVAILABLE, "The daemon is busy", true;
    ROLLED_BACK: "rolled_back", SERVICE_UNAVAILABLE, "The change could not be committed", true;
    DISK_FULL: "disk_full", INSUFFICIENT_STORAGE, "The disk is full", true;
    OUTCOME_UNKNOWN: "outcome_unknown", INTERNAL_SERVER_ERROR, "Writing failed, so the outcome is not known", false;
    FILE_GONE: "file_gone", INTERNAL_SERVER_ERROR, "The database file is gone", false;
    DATABASE_ERROR: "database_error", INTERNAL_SERVER_ERROR, "The database failed", false;
    FORBIDDEN: "forbidden", FORBIDDEN, "The token does not allow it", false;
    UNAUTHENTICATED: "unauthenticated", UNAUTHORIZED, "A valid token is needed", false;
    // Those of HTTP.
    NO_SUCH_METHOD: "no_such_method", NOT_FOUND, "There is no such method", false;
    NOT_FOUND: "not_found", NOT_FOUND, "There is nothing at this path", false;
    METHOD_NOT_ALLOWED: "method_not_allowed", METHOD_NOT_ALLOWED, "The path does not take this HTTP method", false;
    TOO_LARGE: "too_large", PAYLOAD_TOO_LARGE, "The body is too large", false;
    TIMED_OUT: "timed_out", REQUEST_TIMEOUT, "The body took too long", false;
    UNKNOWN_ENCODING: "unknown_encoding", UNSUPPORTED_MEDIA_TYPE, "The encoding of the body is not known", false;
    FOREIGN_HOST: "foreign_host", MISDIRECTED_REQUEST, "The daemon does not answer to this host name", false;
    FOREIGN_ORIGIN: "foreign_origin", FORBIDDEN, "A page of another site sent the request", false;
    TOO_MANY_TRIES: "too_many_tries", TOO_MANY_REQUESTS, "Too many tries with wrong tokens", false;
    STOPPING: "stopping", SERVICE_UNAVAILABLE, "The daemon is stopping", true;
    NOT_READY: "not_ready", SERVICE_UNAVAILABLE, "The daemon is not ready", true;
}

impl Code {
    /// Its name as clients see it.
    fn wire_name(&self) -> String {
        self.name.replace('_', "-")
    }
}

/// The types of all problems.
pub(super) fn all_types() -> impl Iterator<Item = String> {
    CODES.iter().map(|code| code.wire_name())
}

/// The type of the problem with this name, as documents have it.
pub(super) fn urn(name: &str) -> String {
    format!("urn:coordinated:problem:{name}")
}

/// Tells of an answer which problem it is.
#[derive(Clone, Copy)]
pub(super) struct Type(&'static Code);

impl Type {
    pub(super) fn name(self) -> String {
        self.0.wire_name()
    }
}

impl Problem {
    pub(super) fn new(code: &'static Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            method: None,
            retry_after: code.is_temporary.then_some(Duration::from_secs(1)),
            upload: None,
        }
    }

    /// The error map of a response.
    pub(super) fn from_error(error: Item<'_>, method: Option<&str>) -> Self {
        let text_of = |key| {
            let bytes = error.get_some(key).and_then(Item::as_string_bytes);
            String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
        };
        let mut problem = Self::of_code(&text_of("code"), text_of("message"));
        problem.method = method.map(str::to_owned);
        problem
    }

    /// The problem with the code of an error or of a batch.
    pub(super) fn of_code(name: &str, detail: String) -> Self {
        let code = CODES.iter().find(|code| code.name == name);
        Self::new(code.unwrap_or(&DATABASE_ERROR), detail)
    }

    /// The same, with the method that was called.
    pub(super) fn of_method(mut self, method: &str) -> Self {
        self.method = Some(method.to_owned());
        self
    }

    /// The same, with the time after which the request may succeed.
    pub(super) fn retry_after(mut self, time: Duration) -> Self {
        self.retry_after = Some(time);
        self
    }

    /// The same with how far an upload has come.
    pub(super) fn of_upload(mut self, state: UploadState) -> Self {
        self.upload = Some(state);
        self
    }

    /// The same about a line.
    pub(super) fn of_line(self, number: u64) -> Self {
        self.after(&format!("line {number}: "))
    }

    /// The same with this before its detail.
    pub(super) fn after(mut self, text: &str) -> Self {
        self.detail.insert_str(0, text);
        self
    }

    /// True if it is of this kind.
    pub(super) fn is(&self, code: &Code) -> bool {
        self.code.name == code.name
    }

    /// Whose fault it is.
    pub(super) fn status(&self) -> StatusCode {
        self.code.status
    }

    /// The kind that it is of, for people.
    pub(super) fn title(&self) -> &'static str {
        self.code.title
    }

    /// What it is, for people.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    /// As JSON.
    pub(super) fn document(&self) -> Document<'_> {
        Document {
            r#type: urn(&self.code.wire_name()),
            title: self.code.title,
            status: self.code.status.as_u16(),
            detail: &self.detail,
            method: self.method.as_deref(),
            parameter: self.parameter(),
            upload: self.upload,
        }
    }

    /// The parameter or the option whose value can't be used: messages about one begin with it.
    fn parameter(&self) -> Option<&str> {
        let message = match &self.method {
            Some(method) => self
                .detail
                .strip_prefix(method.as_str())?
                .strip_prefix(": ")?,
            None => &self.detail,
        };
        let labels = ["parameter ", "option "];
        let rest = labels
            .iter()
            .find_map(|label| message.strip_prefix(label))?;
        rest.split_once(':').map(|(name, _)| name)
    }
}

/// The body of a failed request.
#[derive(Debug, Serialize)]
pub(super) struct Document<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter: Option<&'a str>,
    #[serde(flatten)]
    upload: Option<UploadState>,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        // Fails for no document: it has only strings and numbers.
        let body = serde_json::to_string(&self.document()).unwrap_or_default();
        let mut response = (self.code.status, body).into_response();
        response.extensions_mut().insert(Type(self.code));
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(time) = self.retry_after {
            headers.insert(RETRY_AFTER, time.as_secs().into());
        }
        if self.code.status == StatusCode::UNAUTHORIZED {
            let schemes = HeaderValue::from_static("Bearer, Basic realm=\"coordinated\"");
            headers.insert(WWW_AUTHENTICATE, schemes);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinate::{AttemptId, Error, Name, StorageError};

    #[test]
    fn each_error_of_an_operation_has_a_status_of_its_own_kind() {
        let name = || Name::from_bytes("x");
        let (spec, unit) = (Error::NoSuchWorkSpec(name()), Error::NoSuchWorker(name()));
        for (error, status) in [
            (spec, 404),
            (unit, 404),
            (Error::NoSuchAttempt(AttemptId(1)), 404),
            (
                Error::NoSuchWorkUnit {
                    work_spec: name(),
                    name: name(),
                },
                404,
            ),
            (Error::Refused(String::new()), 409),
            (Error::Forbidden(String::new()), 403),
            (Error::Unauthenticated(String::new()), 401),
            (Error::Invalid(String::new()), 400),
            (StorageError::Full(String::new()).into(), 507),
            (StorageError::Busy(String::new()).into(), 503),
            (StorageError::Unknown(String::new()).into(), 500),
            (StorageError::Gone(String::new()).into(), 500),
            (StorageError::Other(String::new()).into(), 500),
        ] {
            let code = CODES.iter().find(|code| code.name == error.code());
            let code = code.unwrap_or_else(|| panic!("{} has no code", error.code()));
            assert_eq!(code.status.as_u16(), status, "{}", code.name);
        }
    }

    #[test]
    fn a_problem_with_a_parameter_or_an_option_names_it() {
        for (detail, parameter) in [
            (
                "get_work: option lease_time: expected a number, got text",
                Some("lease_time"),
            ),
            (
                "get_work: parameter worker_id: missing; expected worker_id",
                Some("worker_id"),
            ),
            ("get_work: params: missing", None),
            ("set_work: option x: y", None),
        ] {
            let problem = Problem::new(INVALID, detail).of_method("get_work");
            assert_eq!(problem.parameter(), parameter, "{detail}");
        }
    }
}
