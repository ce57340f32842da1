//! The operators' page: HTML for people, below `/ui/`.
//!
//! A file for each page has its route, reads what the page shows, and fills the template of the same name. All data come
//! from operations, as for REST: those that the loop runs ([`Shared::run`]), and lists that are read beside it
//! ([`Shared::read`]). Every page is useful without JavaScript. Forms are answered by a redirection to the page that
//! shows their effect.

mod actions;
mod assets;
mod audit;
mod bulk;
mod chart;
mod daemon;
mod data;
mod error;
mod events;
mod failures;
mod frame;
mod locks;
mod overview;
mod sessions;
mod shown;
mod sign_in;
mod spec;
mod tokens;
mod unit;
mod units;
mod workers;

pub(super) use events::Visible;

use super::authenticate::Who;
use super::body::{self, Share};
use super::call::{Failed, Shared};
use super::limits::Limits;
use super::name_in_url as names;
use super::problem::{self, Problem};
use crate::coordinate::storage::{Access, Storage};
use crate::coordinate::{Name, NamespaceId, Operation, Result as OperationResult, Scope, Scopes};
use crate::engine::Shown;
use crate::jobserver::{Actor, Caller, Scrape};
use crate::server::SubmitError;
use askama::Template;
use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, LOCATION, VARY};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any, get, post};
use bulk::BulkActions;
use data::Redaction;
use error::PageError;
use frame::Frame;
use sessions::Sessions;
use std::convert::Infallible;
use std::ops::Deref;
use std::sync::Arc;
use tokio::sync::oneshot;

/// What all pages share.
pub(super) struct Ui<S: Storage + 'static> {
    shared: Arc<Shared<S>>,
    /// The namespace that is shown.
    namespace: Arc<str>,
    /// The path before all others, without a slash at its end.
    base: Arc<str>,
    redaction: Redaction,
    bulk: BulkActions,
    visible: Arc<Visible>,
    sessions: Sessions,
}

/// The result of making a page.
type Result<T, E = PageError> = std::result::Result<T, E>;

/// The size of the body of a form, 256 KiB: a page's selection of units with long names.
const FORM_BYTES_MAX: usize = 256 << 10;

/// A path, who may use it, and what is there.
type Route<S> = (&'static str, Who, MethodRouter<Arc<Ui<S>>>);

/// All routes.
fn routes<S: Storage>() -> [Route<S>; 32] {
    /// To see.
    const READ: Who = Who::AtHome(Scopes::of(&[Scope::Read]));
    /// To change.
    const OPERATE: Who = Who::AtHome(Scopes::of(&[Scope::Operate]));
    /// To see and change who may.
    const ADMIN: Who = Who::AtHome(Scopes::of(&[Scope::Admin]));
    [
        ("/ui", Who::Everybody, get(to_overview::<S>)),
        ("/ui/", READ, get(overview::show::<S>)),
        (
            "/ui/sign-in",
            Who::Everybody,
            get(sign_in::show::<S>).post(sign_in::sign_in::<S>),
        ),
        ("/ui/sign-out", Who::Everybody, post(sign_in::sign_out::<S>)),
        ("/ui/spec/{spec}", READ, get(spec::show::<S>)),
        ("/ui/spec/{spec}/pause", OPERATE, post(actions::pause::<S>)),
        (
            "/ui/spec/{spec}/resume",
            OPERATE,
            post(actions::resume::<S>),
        ),
        (
            "/ui/spec/{spec}/settings",
            OPERATE,
            post(actions::settings::<S>),
        ),
        (
            "/ui/spec/{spec}/delete",
            OPERATE,
            post(actions::delete_spec::<S>),
        ),
        ("/ui/spec/{spec}/units", READ, get(units::show::<S>)),
        // Both only show what would be done.
        (
            "/ui/spec/{spec}/bulk",
            READ,
            get(bulk::preview::<S>).post(bulk::preview_selection::<S>),
        ),
        (
            "/ui/spec/{spec}/bulk/apply",
            OPERATE,
            post(bulk::apply::<S>),
        ),
        ("/ui/spec/{spec}/unit/{unit}", READ, get(unit::show::<S>)),
        (
            "/ui/spec/{spec}/unit/{unit}/data",
            READ,
            get(unit::data::<S>),
        ),
        (
            "/ui/spec/{spec}/unit/{unit}/retry",
            OPERATE,
            post(actions::retry_unit::<S>),
        ),
        (
            "/ui/spec/{spec}/unit/{unit}/delete",
            OPERATE,
            post(actions::delete_unit::<S>),
        ),
        ("/ui/failures", READ, get(failures::show::<S>)),
        ("/ui/workers", READ, get(workers::list::<S>)),
        ("/ui/worker/{worker}", READ, get(workers::show::<S>)),
        ("/ui/locks", READ, get(locks::show::<S>)),
        ("/ui/locks/break", OPERATE, post(locks::break_lock::<S>)),
        ("/ui/operations", READ, get(bulk::list::<S>)),
        ("/ui/operations/{id}", READ, get(bulk::show::<S>)),
        ("/ui/operations/{id}/stop", OPERATE, post(bulk::stop::<S>)),
        (
            "/ui/daemon",
            Who::With(Scopes::of(&[Scope::Read])),
            get(daemon::show::<S>),
        ),
        ("/ui/daemon/tokens", ADMIN, post(tokens::create::<S>)),
        ("/ui/daemon/tokens/rotate", ADMIN, post(tokens::rotate::<S>)),
        ("/ui/daemon/tokens/revoke", ADMIN, post(tokens::revoke::<S>)),
        ("/ui/audit", ADMIN, get(audit::show::<S>)),
        ("/ui/events", READ, get(events::stream::<S>)),
        ("/ui/assets/{name}", Who::Everybody, get(assets::get)),
        ("/ui/{*path}", READ, any(nothing_here)),
    ]
}

/// The paths of all routes.
pub(super) fn paths<S: Storage>() -> impl Iterator<Item = &'static str> {
    routes::<S>().into_iter().map(|(path, ..)| path)
}

/// Routes to the pages, below the base path.
pub(super) fn router<S: Storage>(ui: Ui<S>) -> Router {
    let ui = Arc::new(ui);
    let mut router = Router::new();
    for (path, who, handler) in routes() {
        let admitted = from_fn_with_state((Arc::clone(&ui), who), sign_in::admit::<S>);
        router = router.route(path, handler.layer(admitted));
    }
    router
        .method_not_allowed_fallback(wrong_method)
        .with_state(Arc::clone(&ui))
        .layer(from_fn_with_state(ui, dress::<S>))
}

/// Sends browsers that ask for `/` to the page. Everything else gets what is there for programs.
pub(super) async fn redirect_browsers(
    State(base): State<Arc<str>>,
    request: Request,
    next: Next,
) -> Response {
    if request.uri().path() == "/" && asks_for_page(&request) {
        return redirect(StatusCode::FOUND, &format!("{base}/ui/"));
    }
    next.run(request).await
}

/// True if a browser wants a page to show, and not a program something else.
fn asks_for_page(request: &Request) -> bool {
    let accept = request.headers().get(ACCEPT);
    let accept = accept.and_then(|accept| accept.to_str().ok());
    request.method() == Method::GET && accept.is_some_and(|accept| accept.contains("text/html"))
}

async fn to_overview<S: Storage>(State(ui): State<Arc<Ui<S>>>) -> Response {
    redirect(StatusCode::PERMANENT_REDIRECT, &format!("{}/ui/", ui.base))
}

async fn nothing_here(uri: Uri) -> PageError {
    Problem::new(problem::NOT_FOUND, format!("nothing is at {}", uri.path())).into()
}

async fn wrong_method(method: Method, uri: Uri) -> PageError {
    let detail = format!("{} does not take {method}", uri.path());
    Problem::new(problem::METHOD_NOT_ALLOWED, detail).into()
}

/// After a form: go and see.
fn see_other(url: &str) -> Response {
    redirect(StatusCode::SEE_OTHER, url)
}

fn redirect(status: StatusCode, url: &str) -> Response {
    let mut response = status.into_response();
    // All our URLs are ASCII.
    if let Ok(url) = HeaderValue::from_str(url) {
        response.headers_mut().insert(LOCATION, url);
    }
    response
}

/// Nothing but our own files, no frames, and no HTML from JavaScript except through the policy that page.js has for it.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types coordinated";

/// Turns errors into pages, and says what browsers may do with an answer.
async fn dress<S: Storage>(State(ui): State<Arc<Ui<S>>>, request: Request, next: Next) -> Response {
    let frame = Frame::new(&ui.base, request.headers());
    let response = match ui.shared.begin_request() {
        Ok(_permit) => next.run(request).await,
        Err(problem) => PageError::from(problem).into_response(),
    };
    let mut response = error::as_page(frame, response);
    let headers = response.headers_mut();
    for (name, value) in [
        ("content-security-policy", CONTENT_SECURITY_POLICY),
        // With "no-referrer" browsers would not say from where a form is sent either, which is checked.
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The pages for somebody.
pub(super) struct Visit<S: Storage + 'static> {
    ui: Arc<Ui<S>>,
    caller: Caller,
    actor: Arc<Actor>,
}

impl<S: Storage> Clone for Visit<S> {
    fn clone(&self) -> Self {
        Self {
            ui: Arc::clone(&self.ui),
            caller: self.caller.clone(),
            actor: Arc::clone(&self.actor),
        }
    }
}

impl<S: Storage> Deref for Visit<S> {
    type Target = Ui<S>;

    fn deref(&self) -> &Ui<S> {
        &self.ui
    }
}

impl<S: Storage> FromRequestParts<Arc<Ui<S>>> for Visit<S> {
    type Rejection = Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        ui: &Arc<Ui<S>>,
    ) -> Result<Self, Self::Rejection> {
        let caller = sign_in::caller_of(ui, parts);
        Ok(Self {
            ui: Arc::clone(ui),
            actor: Arc::new(Actor::new(caller.clone())),
            caller,
        })
    }
}

impl<S: Storage + 'static> Visit<S> {
    /// The name of the token with which the person has signed in.
    fn person(&self) -> Option<&str> {
        self.caller.token_name()
    }

    /// See [`Shared::run`].
    async fn run<T: Send + 'static>(
        &self,
        access: Access,
        run: impl FnMut(&mut Operation<'_, S>) -> OperationResult<T> + Send + 'static,
    ) -> Result<(T, Share), Failed> {
        let (actor, namespace) = (Arc::clone(&self.actor), Arc::clone(&self.ui.namespace));
        self.ui.shared.run(actor, namespace, access, run).await
    }

    /// See [`Shared::read`].
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut S::Reader, NamespaceId) -> OperationResult<T> + Send + 'static,
    ) -> Result<T, Failed> {
        let (actor, namespace) = (Arc::clone(&self.actor), Arc::clone(&self.ui.namespace));
        self.ui.shared.read(actor, namespace, read).await
    }
}

impl<S: Storage + 'static> Ui<S> {
    /// The pages about a namespace, at this base path. `redacted` are keys of data whose values are not shown.
    pub(super) fn new(
        shared: Arc<Shared<S>>,
        visible: Arc<Visible>,
        namespace: &str,
        base_path: &str,
        redacted: &[String],
    ) -> Self {
        Self {
            shared,
            namespace: namespace.into(),
            base: base_path.into(),
            redaction: Redaction::new(redacted),
            bulk: BulkActions::default(),
            visible,
            sessions: Sessions::default(),
        }
    }

    /// The state of the queue, without that of each work spec.
    async fn scrape(&self) -> Result<Scrape> {
        let (sender, receiver) = oneshot::channel();
        let take = Box::new(move |scrape| {
            // If the client is gone, nobody waits for it.
            let _ = sender.send(scrape);
        });
        let submitted = self.shared.submitter.scrape(Shown::Oldest(0), take);
        submitted.map_err(Problem::from)?;
        let scraped = receiver.await;
        Ok(scraped.map_err(|_| Problem::from(SubmitError::Stopped))?)
    }

    /// Answers with a page.
    fn page(&self, frame: &Frame, page: &impl Template) -> Result<Response> {
        let html = page.render().map_err(|error| {
            Problem::new(
                problem::DATABASE_ERROR,
                format!("the page can't be made: {error}"),
            )
        })?;
        let (bytes, encoding) = match frame.takes_gzip {
            true => (assets::gzip(html.as_bytes()), Some("gzip")),
            false => (html.into_bytes(), None),
        };
        let mut response = Body::from(self.shared.answers.hold(bytes)?).into_response();
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/html; charset=utf-8"),
        );
        headers.insert(VARY, HeaderValue::from_static("accept-encoding, cookie"));
        if let Some(encoding) = encoding {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        Ok(response)
    }

    /// The fields of a form that was sent.
    ///
    /// # Errors
    /// If it is no form, is too large, or breaks off.
    async fn form(&self, request: Request) -> Result<Form> {
        let limits = Limits {
            body_bytes_max: FORM_BYTES_MAX,
            ..self.shared.limits
        };
        check_form_type(request.headers())?;
        let body = body::read(request.into_body(), &self.shared.bodies, &limits).await?;
        Ok(Form::parse(&body.bytes))
    }
}

/// Fails if a body is no form of ours. Other types are of no use here, and can be sent by scripts only.
fn check_form_type(headers: &HeaderMap) -> Result<()> {
    let given = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    match given {
        Some(given) if given.starts_with("application/x-www-form-urlencoded") => Ok(()),
        _ => {
            let detail = "expected a form (application/x-www-form-urlencoded)";
            Err(Problem::new(problem::INVALID, detail).into())
        }
    }
}

/// The fields of a form, or of a query.
#[derive(Debug, Default)]
struct Form(Vec<(String, String)>);

impl Form {
    fn parse(bytes: &[u8]) -> Self {
        Self(form_urlencoded::parse(bytes).into_owned().collect())
    }

    /// All values of a field.
    fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        let of_key = self.0.iter().filter(move |(name, _)| name == key);
        of_key.map(|(_, value)| value.as_str())
    }

    /// The value of a field that is not empty.
    fn get(&self, key: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(name, _)| name == key)?;
        (!value.is_empty()).then_some(value)
    }

    /// The value of a field without blanks around it, if there is any.
    fn text(&self, key: &str) -> Option<String> {
        let text = self.get(key)?.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// The name that a field is, as [`name_in_url`] has written it.
    ///
    /// # Errors
    /// If it is none.
    fn name(&self, key: &str) -> Result<Option<Name>> {
        self.get(key).map(name_from_url).transpose()
    }
}

/// A name as part of a URL, the same as in REST.
fn name_in_url(name: &Name) -> String {
    names::encode(name.bytes())
}

/// The name that a part of a URL is. axum has decoded it.
///
/// # Errors
/// If it is none.
fn name_from_url(text: &str) -> Result<Name> {
    let bytes = names::decode(text.as_bytes().to_vec());
    let bytes = bytes.map_err(|detail| Problem::new(problem::INVALID, detail))?;
    Ok(names::into_name(bytes))
}
