//! Attempts.

use super::data::{Dictionary, Given};
use super::error::RestError;
use super::list::ListText;
use super::path::{Action, Urls, attempt_url};
use super::time::{Nanoseconds, Time};
use super::{Answer, Result, Within};
use crate::coordinate::storage::{Access, Lister, Storage};
use crate::coordinate::{
    Attempt, AttemptChange, AttemptDetails, AttemptId, AttemptOutcome, AttemptStatus, LEASE_MAX,
    Name, NamespaceId, Result as OperationResult,
};
use axum::extract::Request;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Serialize)]
struct AttemptShort {
    url: String,
    work_unit_url: String,
    worker_url: String,
    start_time: Time,
}

#[derive(Serialize)]
pub(super) struct AttemptDocument<'a> {
    #[serde(flatten)]
    short: AttemptShort,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Dictionary<'a>>,
    end_time: Time,
    expiration_time: Time,
    renew_url: String,
    expire_url: String,
    finish_url: String,
    fail_url: String,
    retry_url: String,
}

#[derive(Deserialize)]
struct CompletionForm {
    data: Option<Given>,
    extend_duration: Option<Nanoseconds>,
    delay: Option<Nanoseconds>,
}

/// Attempts that a list has at most: the newest of a unit, the oldest pending ones of a worker.
const LISTED_MAX: usize = 10_000;

/// How many of the newest attempts of all workers are searched for those of one: a second of work, or two.
const SEARCHED_MAX: i64 = 1_000_000;

/// How many are searched at a time, so that no read keeps the WAL from being moved into the file for long.
const SEARCHED_AT_ONCE: i64 = 50_000;

impl AttemptShort {
    fn of(urls: &Urls, namespace: &str, spec: &Name, unit: &Name, attempt: &Attempt) -> Self {
        let unit_url = urls.unit(namespace, spec, unit);
        let nobody = Name::from_bytes([]);
        Self {
            url: attempt_url(&unit_url, attempt),
            work_unit_url: unit_url,
            worker_url: urls.worker(namespace, attempt.worker.as_ref().unwrap_or(&nobody)),
            start_time: attempt.start.into(),
        }
    }
}

impl<'a> AttemptDocument<'a> {
    pub(super) fn of(urls: &Urls, namespace: &str, details: &'a AttemptDetails) -> Self {
        let AttemptDetails {
            attempt,
            work_spec,
            unit,
            data,
        } = details;
        let short = AttemptShort::of(urls, namespace, work_spec, unit, attempt);
        let url = &short.url;
        Self {
            status: match attempt.status {
                AttemptStatus::Pending => "pending",
                AttemptStatus::Finished => "finished",
                AttemptStatus::Failed => "failed",
                AttemptStatus::Expired => "expired",
                AttemptStatus::Retryable => "retryable",
            },
            data: Dictionary::of(data),
            end_time: Time(attempt.end),
            expiration_time: attempt.expiration.into(),
            renew_url: format!("{url}/renew"),
            expire_url: format!("{url}/expire"),
            finish_url: format!("{url}/finish"),
            fail_url: format!("{url}/fail"),
            retry_url: format!("{url}/retry"),
            short,
        }
    }
}

impl<S: Storage + 'static> Within<'_, S> {
    pub(super) async fn show_attempt(
        &self,
        spec: Name,
        unit: Name,
        id: AttemptId,
    ) -> Result<Answer> {
        let read = self.run(Access::Read, move |operation| {
            operation.attempt_details(&spec, &unit, id)
        });
        let (details, _share) = read.await?;
        let urls = &self.rest.urls;
        self.rest
            .document(&AttemptDocument::of(urls, &self.namespace, &details))
    }

    /// The attempts at a unit, in the order in which they began.
    pub(super) async fn list_attempts(&self, spec: Name, unit: Name) -> Result<Answer> {
        let (namespace, urls) = (Arc::clone(&self.namespace), self.rest.urls.clone());
        let text = self
            .read(move |lister, id| {
                let mut attempts = Vec::new();
                lister.list_attempts(id, &spec, &unit, LISTED_MAX, &mut |attempt, _| {
                    attempts.push(attempt.clone());
                    Ok(())
                })?;
                let mut list = ListText::of_key("attempts");
                for attempt in attempts.iter().rev() {
                    let short = AttemptShort::of(&urls, &namespace, &spec, &unit, attempt);
                    list.push(&short)?;
                }
                Ok(list.finish())
            })
            .await?;
        self.rest.text(text)
    }

    pub(super) async fn count_attempts(&self, spec: Name, unit: Name) -> Result<Answer> {
        let count = self.run(Access::Read, move |operation| {
            operation.attempt_count(&spec, &unit)
        });
        let (count, _) = count.await?;
        self.rest.document(&count)
    }

    /// Renews, ends or gives back an attempt.
    pub(super) async fn change_attempt(
        &self,
        spec: Name,
        unit: Name,
        id: AttemptId,
        action: Action,
        request: Request,
    ) -> Result<Answer> {
        let form = self.rest.form::<CompletionForm>(request).await?;
        let depth_max = self.rest.shared.limits.depth_max;
        let data = form.value.data.map(|data| data.into_encoded(depth_max));
        let data = data.transpose()?;
        let time = |given: Option<Nanoseconds>| {
            let duration = given.and_then(Nanoseconds::duration);
            duration.unwrap_or_default().min(LEASE_MAX)
        };
        let change = match action {
            Action::Renew => AttemptChange::Renew(time(form.value.extend_duration)),
            Action::Expire => AttemptChange::Expire,
            Action::Finish => AttemptChange::Finish,
            Action::Fail => AttemptChange::Fail,
            Action::Retry => AttemptChange::Retry(time(form.value.delay)),
        };
        let run = self.run(Access::Write, move |operation| {
            let outcome = operation.change_attempt(&spec, &unit, id, change, data.as_deref())?;
            Ok((outcome, operation.chained.unfinished))
        });
        let ((outcome, mut unfinished), _) = run.await?;
        // The units of a long output are added in steps.
        while let Some(attempt) = unfinished {
            let step = self.run(Access::Write, move |operation| {
                operation.chain_slice_of(attempt)
            });
            let (is_over, _) = step.await?;
            unfinished = (!is_over).then_some(attempt);
        }
        let conflict = |kind, message| RestError::of_kind(StatusCode::CONFLICT, kind, message);
        match outcome {
            AttemptOutcome::Done => Ok(Answer::nothing()),
            AttemptOutcome::NotPending => Err(conflict("ErrNotPending", "Attempt is not pending")),
            AttemptOutcome::LostLease => {
                Err(conflict("ErrLostLease", "No longer the active attempt"))
            }
        }
    }

    /// The attempts that workers hold, and that are pending.
    pub(super) async fn active_attempts(&self, workers: Vec<Name>) -> Result<Answer> {
        let (namespace, urls) = (Arc::clone(&self.namespace), self.rest.urls.clone());
        let text = self
            .read(move |lister, id| {
                let mut list = ListText::of_key("attempts");
                for worker in &workers {
                    lister.list_pending_attempts(
                        id,
                        worker,
                        LISTED_MAX,
                        &mut |attempt, spec, unit| {
                            list.push(&AttemptShort::of(&urls, &namespace, spec, unit, attempt))
                        },
                    )?;
                }
                Ok(list.finish())
            })
            .await?;
        self.rest.text(text)
    }

    /// All attempts by a worker, as far back as they are searched.
    pub(super) async fn all_attempts(&self, worker: Name) -> Result<Answer> {
        let (namespace, urls) = (Arc::clone(&self.namespace), self.rest.urls.clone());
        let (newest, _) = self
            .run(Access::Read, |operation| {
                Ok(operation.store.newest_attempt())
            })
            .await?;
        let text = self
            .read(move |lister, id| {
                let mut list = ListText::of_key("attempts");
                for_each_attempt_by(lister, id, &worker, newest, |attempt, spec, unit| {
                    list.push(&AttemptShort::of(&urls, &namespace, spec, unit, attempt))
                })?;
                Ok(list.finish())
            })
            .await?;
        self.rest.text(text)
    }
}

/// Shows `visit` the attempts by a worker among the newest ones of all, the oldest first.
fn for_each_attempt_by(
    lister: &mut impl Lister,
    namespace: NamespaceId,
    worker: &Name,
    newest: AttemptId,
    mut visit: impl FnMut(&Attempt, &Name, &Name) -> OperationResult<()>,
) -> OperationResult<()> {
    let mut after = newest.0.saturating_sub(SEARCHED_MAX).max(0);
    while after < newest.0 {
        let until = after.saturating_add(SEARCHED_AT_ONCE).min(newest.0);
        let (first, last) = (AttemptId(after), AttemptId(until));
        lister.list_attempts_by(namespace, worker, first, last, &mut visit)?;
        after = until;
    }
    Ok(())
}
