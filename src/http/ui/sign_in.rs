//! Signing in with a token, and who is there.

use super::frame::{Frame, Tab};
use super::{PageError, Result, Ui, asks_for_page, see_other};
use crate::clock::wall_clock;
use crate::coordinate::storage::Storage;
use crate::coordinate::{Secret, TokenHash};
use crate::http::authenticate::{self, Who};
use crate::http::forwarded;
use crate::http::problem::{self, Problem};
use crate::http::serve::Connection;
use crate::jobserver::{Caller, Interface};
use askama::Template;
use axum::Extension;
use axum::extract::{OriginalUri, RawQuery, Request, State};
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use std::time::Instant;

/// The cookie with the id of a session.
const SESSION_COOKIE: &str = "coordinated-session";

/// Lets a request pass if its sender may use the page. Browsers of those who have not signed in are led to the form.
pub(super) async fn admit<S: Storage>(
    State((ui, who)): State<(Arc<Ui<S>>, Who)>,
    Extension(connection): Extension<Connection>,
    OriginalUri(uri): OriginalUri,
    mut request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    let session = session_of(headers).and_then(|id| ui.sessions.token_of(id, Instant::now()));
    let problem = match authenticate::caller(&ui.shared, who, &connection, headers, session) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            return next.run(request).await;
        }
        Err(problem) => problem,
    };
    if problem.is(problem::UNAUTHENTICATED) && asks_for_page(&request) {
        return see_other(&format!("{}/ui/sign-in?{}", ui.base, query_of(&uri)));
    }
    PageError::from(problem).into_response()
}

/// The query that makes the form lead to a page.
fn query_of(page: &Uri) -> String {
    form_urlencoded::Serializer::new(String::new())
        .append_pair("next", page.path_and_query().map_or("", |it| it.as_str()))
        .finish()
}

/// Who has sent a request that was admitted.
pub(super) fn caller_of<S: Storage>(ui: &Ui<S>, parts: &Parts) -> Caller {
    let admitted = parts.extensions.get::<Caller>().cloned();
    // All routes admit, so there is one. Somebody unknown may do nothing that needs a token.
    admitted.unwrap_or_else(|| {
        ui.shared
            .submitter
            .doorkeeper()
            .greet(Interface::Http, None)
    })
}

fn session_of(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(COOKIE)
        .into_iter()
        .filter_map(|cookies| cookies.to_str().ok())
        .flat_map(|cookies| cookies.split(';'))
        .find_map(|cookie| {
            let (name, value) = cookie.trim().split_once('=')?;
            (name == SESSION_COOKIE).then_some(value)
        })
}

#[derive(Template)]
#[template(path = "sign_in.html")]
struct Page {
    frame: Frame,
    next: String,
    error: Option<String>,
}

/// `GET /ui/sign-in`: the form. With a code it signs in.
pub(super) async fn show<S: Storage>(
    State(ui): State<Arc<Ui<S>>>,
    Extension(connection): Extension<Connection>,
    frame: Frame,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response> {
    let query = super::Form::parse(query.unwrap_or_default().as_bytes());
    let error = match query.get("code") {
        None => None,
        Some(code) => {
            let doorkeeper = ui.shared.submitter.doorkeeper();
            if let Some(token) = doorkeeper.take_sign_in_code(code, wall_clock()) {
                let is_secure = forwarded::is_https(&connection, &headers, &ui.shared.proxies);
                return Ok(begin_session(&ui, token, &frame.url(""), is_secure));
            }
            Some(
                "this link was used before, or is older than a minute: coordinated ui makes another one",
            )
        }
    };
    let page = Page {
        next: query.get("next").unwrap_or_default().to_owned(),
        error: error.map(str::to_owned),
        frame: frame.on(Tab::None),
    };
    ui.page(&page.frame, &page)
}

/// Leads somebody who has signed in to a page.
fn begin_session<S: Storage>(
    ui: &Ui<S>,
    token: TokenHash,
    page: &str,
    is_secure: bool,
) -> Response {
    let id = ui.sessions.begin(token, Instant::now());
    let mut response = see_other(page);
    set_cookie(&mut response, &ui.base, &id, is_secure, "");
    response
}

/// `POST /ui/sign-in`.
pub(super) async fn sign_in<S: Storage>(
    State(ui): State<Arc<Ui<S>>>,
    Extension(connection): Extension<Connection>,
    frame: Frame,
    request: Request,
) -> Result<Response> {
    let headers = request.headers();
    let client = forwarded::client(connection.peer(), headers, &ui.shared.proxies);
    let is_secure = forwarded::is_https(&connection, headers, &ui.shared.proxies);
    let form = ui.form(request).await?;
    let given = form.text("token").unwrap_or_default();
    let doorkeeper = ui.shared.submitter.doorkeeper();
    let recognized = doorkeeper.recognize(Interface::Http, client, &given, wall_clock());
    let next = form.get("next").unwrap_or_default();
    let (Ok(_), Some(secret)) = (&recognized, Secret::parse(&given)) else {
        let problem = recognized.err().map(Problem::from);
        let problem = problem
            .unwrap_or_else(|| Problem::new(problem::UNAUTHENTICATED, "the token is not known"));
        let page = Page {
            next: next.to_owned(),
            error: Some(problem.detail().to_owned()),
            frame: frame.on(Tab::None),
        };
        let mut response = ui.page(&page.frame, &page)?;
        *response.status_mut() = problem.status();
        return Ok(response);
    };
    // Only to our own pages: what comes before is the path to them.
    let pages = frame.url("");
    let is_ours = next.starts_with(&pages) && next.bytes().all(|byte| byte.is_ascii_graphic());
    let page = if is_ours { next } else { &pages };
    Ok(begin_session(&ui, secret.hash(), page, is_secure))
}

/// `POST /ui/sign-out`.
pub(super) async fn sign_out<S: Storage>(
    State(ui): State<Arc<Ui<S>>>,
    frame: Frame,
    request: Request,
) -> Result<Response> {
    let id = session_of(request.headers()).map(str::to_owned);
    ui.form(request).await?;
    if let Some(id) = id {
        ui.sessions.end(&id);
    }
    let mut response = see_other(&frame.url("sign-in"));
    set_cookie(&mut response, &ui.base, "", false, "; Max-Age=0");
    Ok(response)
}

/// Scripts can't read it, and pages of other sites can't have it sent.
fn set_cookie(response: &mut Response, base: &str, id: &str, is_secure: bool, end: &str) {
    let secure = if is_secure { "; Secure" } else { "" };
    let cookie =
        format!("{SESSION_COOKIE}={id}; Path={base}/ui; HttpOnly; SameSite=Strict{secure}{end}");
    // A base path has only characters that are allowed here.
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
}
