//! Workers, and the work that they ask for.

use super::attempts::AttemptDocument;
use super::data::{Dictionary, Given};
use super::error::text_of;
use super::time::{Nanoseconds, Time};
use super::{Answer, Result, Within};
use crate::coordinate::storage::{Access, Storage};
use crate::coordinate::{
    AttemptDetails, LEASE_MAX, Name, Operation, Result as OperationResult, WorkRequest,
    WorkerChange,
};
use axum::extract::Request;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

#[derive(Serialize)]
struct WorkerDocument<'a> {
    name: String,
    url: &'a str,
    active: bool,
    mode: String,
    data: Option<Dictionary<'a>>,
    expiration: Time,
    last_update: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_url: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    child_urls: Vec<String>,
    request_attempts_url: String,
    make_attempt_url: String,
    active_attempts_url: String,
    all_attempts_url: String,
    child_attempts_url: String,
}

#[derive(Deserialize)]
struct WorkerForm {
    parent: Option<String>,
    active: Option<bool>,
    mode: Option<String>,
    data: Option<Given>,
    expiration: Option<Time>,
    last_update: Option<Time>,
}

#[derive(Deserialize)]
struct RequestForm {
    lifetime: Option<Nanoseconds>,
    number_of_work_units: Option<i64>,
    work_specs: Option<FewTexts>,
    runtimes: Option<FewTexts>,
}

/// A list of texts that is not long: each takes far more memory than in the body.
struct FewTexts(Vec<String>);

/// How many texts that may be: more than there are work specs.
const TEXTS_MAX: usize = 100_000;

impl<'de> Deserialize<'de> for FewTexts {
    fn deserialize<D: Deserializer<'de>>(json: D) -> std::result::Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = FewTexts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {TEXTS_MAX} strings")
            }

            fn visit_seq<A: SeqAccess<'de>>(
                self,
                mut items: A,
            ) -> std::result::Result<FewTexts, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = items.next_element()? {
                    if texts.len() >= TEXTS_MAX {
                        return Err(A::Error::invalid_length(TEXTS_MAX + 1, &self));
                    }
                    texts.push(text);
                }
                Ok(FewTexts(texts))
            }
        }
        json.deserialize_seq(List)
    }
}

#[derive(Deserialize)]
struct AttemptForm {
    work_spec: Option<String>,
    work_unit: Option<String>,
    lifetime: Option<Nanoseconds>,
}

#[derive(Serialize)]
struct Attempts<'a> {
    attempts: Vec<AttemptDocument<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    work_spec_url: Option<String>,
}

/// The lease of a worker that asks for none.
const LEASE_USUAL: Duration = Duration::from_secs(15 * 60);

/// The lease that a worker asks for.
fn lease_of(lifetime: Option<Nanoseconds>) -> Duration {
    let lease = lifetime.and_then(Nanoseconds::duration);
    lease.unwrap_or(LEASE_USUAL).min(LEASE_MAX)
}

impl<S: Storage + 'static> Within<'_, S> {
    pub(super) async fn show_worker(&self, worker: Name) -> Result<Answer> {
        let name = worker.clone();
        let read = move |operation: &mut Operation<'_, S>| {
            let Some(known) = operation.known_worker(&name)? else {
                return Ok(None);
            };
            Ok(Some((known, operation.children(&name)?)))
        };
        let (mut known, mut share) = self.run(Access::Read, read).await?;
        if known.is_none() {
            let name = worker.clone();
            let make = move |operation: &mut Operation<'_, S>| {
                let known = operation.known_or_new_worker(&name)?;
                Ok(Some((known, operation.children(&name)?)))
            };
            (known, share) = self.run(Access::Write, make).await?;
        }
        let Some(((it, data), children)) = known else {
            return Err(crate::coordinate::Error::NoSuchWorker(worker).into());
        };
        let url_of = |name: &Name| self.rest.urls.worker(&self.namespace, name);
        let url = url_of(&worker);
        let document = WorkerDocument {
            name: text_of(&worker),
            active: it.is_active,
            mode: it.mode.as_ref().map(text_of).unwrap_or_default(),
            data: data.as_deref().and_then(Dictionary::of),
            expiration: it.expiration.into(),
            last_update: it.heartbeat.into(),
            parent: it.parent.as_ref().map(text_of),
            parent_url: it.parent.as_ref().map(url_of),
            child_urls: children.iter().map(url_of).collect(),
            request_attempts_url: format!("{url}/request_attempts"),
            make_attempt_url: format!("{url}/make_attempt"),
            active_attempts_url: format!("{url}/active_attempts"),
            all_attempts_url: format!("{url}/all_attempts"),
            child_attempts_url: format!("{url}/child_attempts"),
            url: &url,
        };
        let answer = self.rest.document(&document);
        drop(share);
        answer
    }

    /// Sets the parent of a worker, updates it, or deactivates it.
    pub(super) async fn put_worker(&self, worker: Name, request: Request) -> Result<Answer> {
        let form = self.rest.form::<WorkerForm>(request).await?;
        let form = form.value;
        let depth_max = self.rest.shared.limits.depth_max;
        let data = form.data.map(|data| data.into_encoded(depth_max));
        let data = data.transpose()?;
        let to_name = |text: String| (!text.is_empty()).then(|| Name::from_text(text));
        let (is_active, mode) = (form.active.unwrap_or(false), form.mode.and_then(to_name));
        let times = (form.last_update, form.expiration);
        let [heartbeat, expiration] = [times.0, times.1].map(|time| time.and_then(|time| time.0));
        let parent = form.parent.map(to_name);
        self.write(move |operation| {
            if let Some(parent) = &parent {
                operation.change_worker(&worker, &WorkerChange::Parent(parent.clone()))?;
            }
            let change = match (is_active, &parent) {
                (true, _) => WorkerChange::Update {
                    mode: mode.clone(),
                    environment: data.as_deref(),
                    heartbeat,
                    expiration,
                },
                (false, None) => WorkerChange::Deactivate,
                (false, Some(_)) => return Ok(()),
            };
            operation.change_worker(&worker, &change)
        })
        .await
    }

    /// Gives a worker the best available units.
    pub(super) async fn request_attempts(&self, worker: Name, request: Request) -> Result<Answer> {
        let form = self.rest.form::<RequestForm>(request).await?.value;
        let names = form.work_specs.map(|names| names.0).unwrap_or_default();
        let work_specs: Vec<Name> = names.into_iter().map(Name::from_text).collect();
        let runtimes = form.runtimes.map(|runtimes| runtimes.0);
        let runtimes = runtimes.filter(|runtimes| !runtimes.is_empty());
        let max_units = form.number_of_work_units.unwrap_or(1).max(1);
        let max_units = usize::try_from(max_units).unwrap_or(usize::MAX);
        let lease = lease_of(form.lifetime);
        let ask = move |operation: &mut Operation<'_, S>| {
            let any = || operation.runtimes();
            let request = WorkRequest {
                max_units,
                lease,
                work_specs: &work_specs,
                runtimes: &runtimes.clone().unwrap_or_else(any),
            };
            give_work(operation, &worker, &request)
        };
        // A search that is not finished goes on in another batch.
        let ask = Arc::new(ask);
        let (given, _share) = loop {
            let ask = Arc::clone(&ask);
            let run = self.run(Access::Write, move |operation| ask(operation));
            if let (Some(given), share) = run.await? {
                break (given, share);
            }
        };
        let urls = &self.rest.urls;
        let document = |details| AttemptDocument::of(urls, &self.namespace, details);
        let first = given.first();
        self.rest.document(&Attempts {
            attempts: given.iter().map(document).collect(),
            work_spec_url: first.map(|it| urls.work_spec(&self.namespace, &it.work_spec)),
        })
    }

    /// Gives a worker a certain unit.
    pub(super) async fn make_attempt(&self, worker: Name, request: Request) -> Result<Answer> {
        let form = self.rest.form::<AttemptForm>(request).await?.value;
        let spec = Name::from_text(form.work_spec.unwrap_or_default());
        let unit = Name::from_text(form.work_unit.unwrap_or_default());
        let lease = lease_of(form.lifetime);
        let make = self.run(Access::Write, move |operation| {
            operation.known_or_new_worker(&worker)?;
            operation.make_attempt(&worker, &spec, &unit, lease)
        });
        let (details, _share) = make.await?;
        let urls = &self.rest.urls;
        self.rest
            .document(&AttemptDocument::of(urls, &self.namespace, &details))
    }

    /// The pending attempts of a worker's children.
    pub(super) async fn child_attempts(&self, worker: Name) -> Result<Answer> {
        let children = self.run(Access::Read, move |operation| operation.children(&worker));
        let (children, _) = children.await?;
        self.active_attempts(children).await
    }
}

/// `None` if the search for work is not finished.
fn give_work<S: Storage>(
    operation: &mut Operation<'_, S>,
    worker: &Name,
    request: &WorkRequest<'_>,
) -> OperationResult<Option<Vec<AttemptDetails>>> {
    operation.known_or_new_worker(worker)?;
    let Some(given) = operation.get_work(worker, request)? else {
        return Ok(None);
    };
    let details = given
        .iter()
        .map(|it| operation.attempt_details(&it.work_spec, &it.name, it.attempt));
    details.collect::<OperationResult<_>>().map(Some)
}
