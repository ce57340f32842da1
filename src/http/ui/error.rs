//! Errors as pages.

use super::assets;
use super::frame::{Frame, Tab};
use crate::http::call::Failed;
use crate::http::problem::Problem;
use askama::Template;
use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};

/// Why there is no page.
pub(super) struct PageError(Problem);

impl<E: Into<Failed>> From<E> for PageError {
    fn from(error: E) -> Self {
        Self(error.into().into())
    }
}

/// What the page about an error says.
#[derive(Clone)]
struct Text {
    title: &'static str,
    detail: String,
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let text = Text {
            title: self.0.title(),
            detail: self.0.detail().to_owned(),
        };
        let mut response = self.0.into_response();
        response.extensions_mut().insert(text);
        response
    }
}

#[derive(Template)]
#[template(path = "error.html")]
struct Page {
    frame: Frame,
    status: u16,
    text: Text,
}

/// The answer that shows an error as a page; other answers stay as they are.
pub(super) fn as_page(frame: Frame, response: Response) -> Response {
    let Some(text) = response.extensions().get::<Text>().cloned() else {
        return response;
    };
    let (mut parts, _) = response.into_parts();
    let takes_gzip = frame.takes_gzip;
    let page = Page {
        frame: frame.on(Tab::None),
        status: parts.status.as_u16(),
        text,
    };
    // Fails for no page: it writes to memory.
    let html = page.render().unwrap_or_default();
    parts.headers.remove(CONTENT_LENGTH);
    // Browsers would ask for a name and a password.
    parts.headers.remove(WWW_AUTHENTICATE);
    let html_type = HeaderValue::from_static("text/html; charset=utf-8");
    parts.headers.insert(CONTENT_TYPE, html_type);
    let body = if takes_gzip {
        parts
            .headers
            .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assets::gzip(html.as_bytes())
    } else {
        html.into_bytes()
    };
    Response::from_parts(parts, Body::from(body))
}
