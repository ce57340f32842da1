//! Errors as REST clients get them: a status, and JSON with a name that the client knows.

use super::media::V1;
use crate::coordinate::{Error, Name, StorageError};
use crate::http::call::Failed;
use crate::http::problem::Problem;
use crate::jobserver::Failure;
use crate::server::BatchError;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// Why a request failed.
#[derive(Debug, Serialize)]
pub(super) struct RestError {
    #[serde(skip)]
    status: StatusCode,
    /// The kind, if the client tells it from others; `error` for all the rest.
    error: &'static str,
    /// For people.
    message: String,
    /// The name that there is nothing of.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
}

impl RestError {
    /// An error of no special kind.
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self::of_kind(status, "error", message)
    }

    /// A request that makes no sense.
    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn of_kind(
        status: StatusCode,
        error: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            status,
            error,
            message: message.into(),
            value: None,
        }
    }

    /// The same about a name.
    fn about(mut self, name: &Name) -> Self {
        self.value = Some(text_of(name));
        self
    }

    #[cfg(test)]
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// As an answer of this media type.
    pub(super) fn into_response_of(self, media: &'static str) -> Response {
        // Fails for no error: it has only strings.
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl IntoResponse for RestError {
    fn into_response(self) -> Response {
        self.into_response_of(V1)
    }
}

/// A name as JSON has it. Bytes that are not UTF-8 are replaced.
pub(super) fn text_of(name: &Name) -> String {
    String::from_utf8_lossy(name.bytes()).into_owned()
}

impl From<Error> for RestError {
    fn from(error: Error) -> Self {
        let message = match &error {
            Error::NoSuchWorkSpec(name) => format!("No such work spec {}", text_of(name)),
            Error::NoSuchWorkUnit { name, .. } => format!("No such work unit {:?}", text_of(name)),
            Error::NoSuchAttempt(_) => "no such attempt".to_owned(),
            error => error.to_string(),
        };
        match error {
            Error::NoSuchWorkSpec(name) => {
                Self::of_kind(StatusCode::NOT_FOUND, "ErrNoSuchWorkSpec", message).about(&name)
            }
            Error::NoSuchWorkUnit { name, .. } => {
                Self::of_kind(StatusCode::NOT_FOUND, "ErrNoSuchWorkUnit", message).about(&name)
            }
            Error::NoSuchAttempt(_) | Error::NoSuchWorker(_) => {
                Self::new(StatusCode::NOT_FOUND, message)
            }
            Error::Refused(_) => Self::new(StatusCode::CONFLICT, message),
            Error::Forbidden(_) => Self::new(StatusCode::FORBIDDEN, message),
            Error::Unauthenticated(_) => Self::new(StatusCode::UNAUTHORIZED, message),
            Error::Invalid(_) => Self::bad_request(message),
            Error::Storage(error) => Self::new(
                match error {
                    StorageError::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
                    StorageError::Full(_) => StatusCode::INSUFFICIENT_STORAGE,
                    _ => StatusCode::INTERNAL_SERVER_ERROR,
                },
                message,
            ),
        }
    }
}

impl From<Failed> for RestError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Operation(Failure::Operation(error)) => error.into(),
            Failed::Operation(Failure::Batch(error)) => Self::new(
                match error {
                    BatchError::RolledBack(_) => StatusCode::SERVICE_UNAVAILABLE,
                    _ => StatusCode::INTERNAL_SERVER_ERROR,
                },
                error.to_string(),
            ),
            Failed::Http(problem) => problem.into(),
        }
    }
}

impl From<Problem> for RestError {
    fn from(problem: Problem) -> Self {
        Self::new(problem.status(), problem.detail())
    }
}
