//! REST, as the clients of go-coordinate speak it: namespaces, work specs, units, attempts and workers have URLs, which
//! clients find in the documents that they get. docs/rest.md is its contract.
//!
//! It works in every namespace: naming one creates it, and so it is with workers. Each request is one operation, or a few
//! in a row, that the loop runs ([`Shared::run`]); long lists are read on a thread that may block ([`Shared::read`]).

mod attempts;
mod data;
mod error;
mod list;
mod media;
mod namespaces;
mod operations;
mod path;
mod query;
mod scopes;
mod specs;
mod time;
mod units;
mod workers;

use super::body;
use super::call::{Failed, Shared};
use super::guard::{self, Origin};
use super::problem::{self, Problem};
use crate::coordinate::storage::{Access, Storage};
use crate::coordinate::{NamespaceId, Operation, Result as OperationResult};
use crate::jobserver::{Actor, Caller};
use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use error::RestError;
pub(super) use operations::{OPERATIONS, RestOperation};
use path::{Inner, OfAttempt, OfUnit, OfWorkSpec, OfWorker, Place, Urls};
pub(super) use query::parameters as query_parameters;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// What all requests share.
pub(super) struct Rest<S: Storage + 'static> {
    shared: Arc<Shared<S>>,
    /// The namespace of CBOR-RPC clients.
    home: Arc<str>,
    urls: Urls,
    /// Whose pages may use it.
    origins: Box<[Origin]>,
}

/// The result of handling a request.
type Result<T, E = RestError> = std::result::Result<T, E>;

/// What a request gets.
struct Answer {
    status: StatusCode,
    /// The URL of what was made.
    location: Option<String>,
    body: Body,
}

impl Answer {
    /// An answer without a body.
    fn nothing() -> Self {
        Self {
            status: StatusCode::NO_CONTENT,
            location: None,
            body: Body::empty(),
        }
    }

    /// Something was made at this URL.
    fn made(mut self, url: String) -> Self {
        self.status = StatusCode::CREATED;
        self.location = Some(url);
        self
    }

    fn into_response_of(self, media: &'static str) -> Response {
        let mut response = (self.status, self.body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
        let location = self.location.and_then(|url| url.try_into().ok());
        if let Some(location) = location {
            headers.insert(LOCATION, location);
        }
        response
    }
}

/// The value of a request's body, with its share of the memory.
struct Form<T> {
    value: T,
    _share: Option<OwnedSemaphorePermit>,
}

/// Handles every request below `/namespace`, `/summary`, and `/`.
pub(super) async fn handle<S: Storage>(
    State(rest): State<Arc<Rest<S>>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    let media = media::of_answer(request.headers());
    match media {
        Err(error) => error.into_response(),
        Ok(media) => match rest.answer(caller, request).await {
            Ok(answer) => answer.into_response_of(media),
            Err(error) => error.into_response_of(media),
        },
    }
}

/// Fails if a page of another site than `origins` has sent a request, whatever its method: even GET makes namespaces and
/// workers here.
fn refuse_foreign_pages(headers: &HeaderMap, origins: &[Origin]) -> Result<()> {
    if guard::is_foreign(headers, origins) {
        let message =
            "the header Sec-Fetch-Site says that a page of another site has sent the request";
        return Err(Problem::new(problem::FOREIGN_ORIGIN, message).into());
    }
    Ok(())
}

impl<S: Storage + 'static> Rest<S> {
    pub(super) fn new(
        shared: Arc<Shared<S>>,
        home: &str,
        base_path: &str,
        origins: &[Origin],
    ) -> Self {
        let base = base_path.trim_end_matches('/').into();
        Self {
            shared,
            home: home.into(),
            urls: Urls { base },
            origins: origins.into(),
        }
    }

    async fn answer(&self, mut caller: Caller, request: Request) -> Result<Answer> {
        refuse_foreign_pages(request.headers(), &self.origins)?;
        let _request = self.shared.begin_request()?;
        let place = Place::parse(request.uri().path())?;
        let method = match request.method() {
            &Method::HEAD => Method::GET,
            method => method.clone(),
        };
        let needed = scopes::needed(&place, &method).ok_or_else(|| not_allowed(&method));
        let (realm, scopes) = needed?;
        self.shared.check(&mut caller, realm, scopes)?;
        match (place, method) {
            (Place::Root, Method::GET) => self.root(),
            (Place::Summary, Method::GET) => self.summary_of_all(caller).await,
            (Place::Namespaces, Method::GET) => self.list_namespaces(caller).await,
            (Place::Namespaces, Method::POST) => self.make_namespace(caller, request).await,
            (Place::In(namespace, inner), method) => {
                let it = self.within(caller, namespace);
                it.answer(inner, method, request).await
            }
            (_, method) => Err(not_allowed(&method)),
        }
    }

    fn within(&self, caller: Caller, namespace: Arc<str>) -> Within<'_, S> {
        Within {
            rest: self,
            actor: Arc::new(Actor::new(caller)),
            namespace,
        }
    }

    /// Reads the JSON of a body.
    ///
    /// # Errors
    /// If it has another type, is too large, or can't be read.
    async fn form<T: DeserializeOwned>(&self, request: Request) -> Result<Form<T>> {
        media::check_body(request.headers())?;
        let shared = &self.shared;
        let received = body::read(request.into_body(), &shared.bodies, &shared.limits).await?;
        if received.bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(RestError::bad_request("EOF"));
        }
        let value: Option<T> = serde_json::from_slice(&received.bytes)
            .map_err(|error| RestError::bad_request(format!("the body can't be used: {error}")))?;
        let value = value.ok_or_else(|| RestError::bad_request("Invalid input format"))?;
        Ok(Form {
            value,
            _share: received.into_share(),
        })
    }

    /// A document.
    ///
    /// # Errors
    /// If there is no memory for it.
    fn document(&self, document: &impl Serialize) -> Result<Answer> {
        // Fails for no document: the keys of its maps are strings.
        self.text(serde_json::to_vec(document).unwrap_or_default())
    }

    /// The text of a document.
    fn text(&self, text: Vec<u8>) -> Result<Answer> {
        Ok(Answer {
            status: StatusCode::OK,
            location: None,
            body: self.shared.answers.hold(text)?.into(),
        })
    }
}

fn not_allowed(method: &Method) -> RestError {
    let message = format!("Method {method} not allowed");
    RestError::new(StatusCode::METHOD_NOT_ALLOWED, message)
}

/// A request in a namespace.
struct Within<'r, S: Storage + 'static> {
    rest: &'r Rest<S>,
    actor: Arc<Actor>,
    namespace: Arc<str>,
}

impl<S: Storage + 'static> Within<'_, S> {
    /// The table of what is at each URL in a namespace.
    async fn answer(self, inner: Inner, method: Method, request: Request) -> Result<Answer> {
        use OfAttempt as A;
        use OfUnit as U;
        use OfWorkSpec as S;
        use OfWorker as W;
        const GET: Method = Method::GET;
        const PUT: Method = Method::PUT;
        const POST: Method = Method::POST;
        const DELETE: Method = Method::DELETE;
        let it = self;
        let uri = request.uri().clone();
        let query = uri.query();
        match (inner, method) {
            (Inner::Namespace, GET) => it.show_namespace().await,
            (Inner::Namespace, DELETE) => it.destroy_namespace().await,
            (Inner::Summary, GET) => it.summary(None).await,
            (Inner::WorkSpecs, GET) => it.list_specs().await,
            (Inner::WorkSpecs, POST) => it.make_spec(request).await,
            (Inner::WorkSpec(spec, S::Itself), GET) => it.show_spec(spec).await,
            (Inner::WorkSpec(spec, S::Itself), PUT) => it.put_spec(spec, request).await,
            (Inner::WorkSpec(spec, S::Itself), DELETE) => it.delete_spec(spec).await,
            (Inner::WorkSpec(spec, S::Meta), GET) => it.show_meta(spec, query).await,
            (Inner::WorkSpec(spec, S::Meta), PUT) => it.put_meta(spec, request).await,
            (Inner::WorkSpec(spec, S::Counts), GET) => it.show_counts(spec).await,
            (Inner::WorkSpec(spec, S::Summary), GET) => it.summary(Some(spec)).await,
            (Inner::WorkSpec(spec, S::Change), POST) => {
                it.prioritize(spec, query, request, false).await
            }
            (Inner::WorkSpec(spec, S::Adjust), POST) => {
                it.prioritize(spec, query, request, true).await
            }
            (Inner::WorkSpec(spec, S::Units), GET) => it.list_units(spec, query).await,
            (Inner::WorkSpec(spec, S::Units), DELETE) => it.delete_units(spec, query).await,
            (Inner::WorkSpec(spec, S::Units), POST) => it.make_unit(spec, request).await,
            (Inner::Unit(spec, unit, U::Itself), GET) => it.show_unit(spec, unit).await,
            (Inner::Unit(spec, unit, U::Itself), PUT) => it.put_unit(spec, unit, request).await,
            (Inner::Unit(spec, unit, U::Attempts), GET) => it.list_attempts(spec, unit).await,
            (Inner::Unit(spec, unit, U::AttemptCount), GET) => it.count_attempts(spec, unit).await,
            (Inner::Attempt(spec, unit, id, A::Itself), GET) => {
                it.show_attempt(spec, unit, id).await
            }
            (Inner::Attempt(spec, unit, id, A::Action(action)), POST) => {
                it.change_attempt(spec, unit, id, action, request).await
            }
            (Inner::Worker(worker, W::Itself), GET) => it.show_worker(worker).await,
            (Inner::Worker(worker, W::Itself), PUT) => it.put_worker(worker, request).await,
            (Inner::Worker(worker, W::RequestAttempts), POST) => {
                it.request_attempts(worker, request).await
            }
            (Inner::Worker(worker, W::MakeAttempt), POST) => it.make_attempt(worker, request).await,
            (Inner::Worker(worker, W::ActiveAttempts), GET) => {
                it.active_attempts(vec![worker]).await
            }
            (Inner::Worker(worker, W::AllAttempts), GET) => it.all_attempts(worker).await,
            (Inner::Worker(worker, W::ChildAttempts), GET) => it.child_attempts(worker).await,
            (_, method) => Err(not_allowed(&method)),
        }
    }

    /// See [`Shared::run`].
    async fn run<T: Send + 'static>(
        &self,
        access: Access,
        run: impl FnMut(&mut Operation<'_, S>) -> OperationResult<T> + Send + 'static,
    ) -> Result<(T, body::Share), Failed> {
        self.rest
            .shared
            .run(
                Arc::clone(&self.actor),
                Arc::clone(&self.namespace),
                access,
                run,
            )
            .await
    }

    /// The same for an operation that writes and has no result.
    async fn write(
        &self,
        run: impl FnMut(&mut Operation<'_, S>) -> OperationResult<()> + Send + 'static,
    ) -> Result<Answer> {
        self.run(Access::Write, run).await?;
        Ok(Answer::nothing())
    }

    /// See [`Shared::read`].
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut S::Reader, NamespaceId) -> OperationResult<T> + Send + 'static,
    ) -> Result<T, Failed> {
        self.rest
            .shared
            .read(Arc::clone(&self.actor), Arc::clone(&self.namespace), read)
            .await
    }
}
