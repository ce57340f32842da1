//! Work specs, their metadata and counts.

use super::data::{Dictionary, Given};
use super::error::{RestError, text_of};
use super::list::ListText;
use super::namespaces::counts_by_status;
use super::path::UNIT_QUERY;
use super::query::wants_counts;
use super::time::{Nanoseconds, Time};
use super::{Answer, Result, Within};
use crate::coordinate::storage::{Access, Lister, Storage};
use crate::coordinate::{Counts, Meta, MetaChange, Name, limit_from_integer};
use axum::extract::Request;
use axum::http::StatusCode;
use coordinated_client::cbor::Item;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Serialize)]
struct SpecShort {
    name: String,
    url: String,
}

#[derive(Serialize)]
struct SpecDocument<'a> {
    name: String,
    url: &'a str,
    data: Dictionary<'a>,
    meta: String,
    summary_url: String,
    work_units_url: String,
    work_unit_counts_url: String,
    work_unit_url: String,
    work_unit_query_url: String,
    work_unit_change_url: String,
    work_unit_adjust_url: String,
}

#[derive(Deserialize)]
struct SpecForm {
    data: Option<Given>,
}

#[derive(Serialize)]
struct MetaDocument {
    priority: i64,
    weight: i64,
    paused: bool,
    continuous: bool,
    can_be_continuous: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_memory_gb: Option<f64>,
    interval: Nanoseconds,
    next_continuous: Time,
    max_running: u64,
    max_attempts_returned: u64,
    max_retries: u64,
    next_work_spec_name: String,
    runtime: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    available_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pending_count: Option<u64>,
}

/// What can be set of the metadata. What is left out becomes 0, false, or no time.
#[derive(Deserialize)]
struct MetaForm {
    priority: Option<i64>,
    weight: Option<i64>,
    paused: Option<bool>,
    continuous: Option<bool>,
    min_memory_gb: Option<f64>,
    interval: Option<Nanoseconds>,
    next_continuous: Option<Time>,
    max_running: Option<i64>,
    max_attempts_returned: Option<i64>,
    max_retries: Option<i64>,
}

impl<S: Storage + 'static> Within<'_, S> {
    fn spec_url(&self, spec: &Name) -> String {
        self.rest.urls.work_spec(&self.namespace, spec)
    }

    pub(super) async fn list_specs(&self) -> Result<Answer> {
        let (namespace, urls) = (Arc::clone(&self.namespace), self.rest.urls.clone());
        let text = self
            .read(move |lister, id| {
                let mut list = ListText::of_key("work_specs");
                lister.list_counts(id, &mut |spec, _, _| {
                    list.push(&SpecShort {
                        name: text_of(spec),
                        url: urls.work_spec(&namespace, spec),
                    })
                })?;
                Ok(list.finish())
            })
            .await?;
        self.rest.text(text)
    }

    pub(super) async fn make_spec(&self, request: Request) -> Result<Answer> {
        let form = self.rest.form::<SpecForm>(request).await?;
        let Some(data) = form.value.data else {
            return Err(RestError::bad_request("Missing data"));
        };
        let definition = data.into_encoded(self.rest.shared.limits.depth_max)?;
        let name = name_in(&definition)?;
        self.set_spec(definition).await?;
        let url = self.spec_url(&name);
        let short = SpecShort {
            name: text_of(&name),
            url: url.clone(),
        };
        Ok(self.rest.document(&short)?.made(url))
    }

    pub(super) async fn put_spec(&self, spec: Name, request: Request) -> Result<Answer> {
        let form = self.rest.form::<SpecForm>(request).await?;
        self.counts_of(spec.clone()).await?;
        let Some(data) = form.value.data else {
            return Ok(Answer::nothing());
        };
        let definition = data.into_encoded(self.rest.shared.limits.depth_max)?;
        if name_in(&definition)? != spec {
            let message = "Cannot change work spec 'name'";
            let status = StatusCode::BAD_REQUEST;
            return Err(RestError::of_kind(status, "ErrChangedName", message));
        }
        self.set_spec(definition).await
    }

    async fn set_spec(&self, definition: Vec<u8>) -> Result<Answer> {
        self.write(move |operation| operation.set_work_spec(Item::from_checked(&definition)))
            .await
    }

    pub(super) async fn show_spec(&self, spec: Name) -> Result<Answer> {
        let name = spec.clone();
        let read = move |operation: &mut crate::coordinate::Operation<'_, S>| {
            let definition = operation.work_spec_definition(&name)?;
            operation.effects.answer_bytes += definition.len();
            Ok(definition)
        };
        let (definition, _share) = self.run(Access::Read, read).await?;
        let url = self.spec_url(&spec);
        self.rest.document(&SpecDocument {
            name: text_of(&spec),
            data: Dictionary::of_definition(&definition),
            meta: format!("{url}/meta{{?counts}}"),
            summary_url: format!("{url}/summary"),
            work_units_url: format!("{url}/work_unit"),
            work_unit_counts_url: format!("{url}/counts"),
            work_unit_url: format!("{url}/work_unit/{{unit}}"),
            work_unit_query_url: format!("{url}/work_unit{UNIT_QUERY}"),
            work_unit_change_url: format!("{url}/change{UNIT_QUERY}"),
            work_unit_adjust_url: format!("{url}/adjust{UNIT_QUERY}"),
            url: &url,
        })
    }

    pub(super) async fn delete_spec(&self, spec: Name) -> Result<Answer> {
        self.write(move |operation| operation.delete_work_spec(&spec))
            .await
    }

    pub(super) async fn show_meta(&self, spec: Name, query: Option<&str>) -> Result<Answer> {
        let ((meta, counts), _) = self
            .run(Access::Read, move |operation| {
                let spec = operation.work_spec(&spec)?;
                Ok((spec.meta.clone(), spec.counts))
            })
            .await?;
        let counts = wants_counts(query).then_some(counts);
        self.rest.document(&MetaDocument::of(&meta, counts))
    }

    pub(super) async fn put_meta(&self, spec: Name, request: Request) -> Result<Answer> {
        let change = self.rest.form::<MetaForm>(request).await?.value.change();
        self.write(move |operation| operation.set_work_spec_meta(&spec, &change))
            .await
    }

    pub(super) async fn show_counts(&self, spec: Name) -> Result<Answer> {
        let counts = self.counts_of(spec).await?;
        let counts: BTreeMap<_, _> = counts_by_status(&counts).collect();
        self.rest.document(&counts)
    }

    /// The counts of a work spec.
    pub(super) async fn counts_of(&self, spec: Name) -> Result<Counts> {
        let counts = self.run(Access::Read, move |operation| {
            Ok(operation.work_spec(&spec)?.counts)
        });
        Ok(counts.await?.0)
    }
}

/// The name in a definition.
///
/// # Errors
/// If it has none.
fn name_in(definition: &[u8]) -> Result<Name> {
    let name = Item::from_checked(definition).get_some("name");
    let error = |kind, message| RestError::of_kind(StatusCode::BAD_REQUEST, kind, message);
    let missing = || error("ErrNoWorkSpecName", "No 'name' key in work spec");
    let Some(name) = name else {
        return Err(missing());
    };
    match Name::from_item(name) {
        Some(name) if name.bytes().is_empty() => Err(missing()),
        Some(name) => Ok(name),
        None => Err(error(
            "ErrBadWorkSpecName",
            "Work spec 'name' must be a string",
        )),
    }
}

impl MetaDocument {
    fn of(meta: &Meta, counts: Option<Counts>) -> Self {
        Self {
            priority: meta.rounded_priority(),
            weight: meta.weight,
            paused: meta.paused.is_some(),
            continuous: meta.continuous,
            can_be_continuous: meta.can_be_continuous,
            min_memory_gb: Some(meta.min_gb).filter(|gb| gb.is_normal()),
            interval: meta.interval.into(),
            next_continuous: Time(meta.next_continuous),
            max_running: meta.max_running.unwrap_or(0),
            max_attempts_returned: meta.max_getwork.unwrap_or(0),
            max_retries: meta.max_retries.unwrap_or(0),
            next_work_spec_name: meta.then.as_ref().map(text_of).unwrap_or_default(),
            runtime: meta.runtime.clone(),
            available_count: counts.map(|counts| counts.available),
            pending_count: counts.map(|counts| counts.pending),
        }
    }
}

impl MetaForm {
    fn change(self) -> MetaChange {
        MetaChange {
            priority: self.priority.unwrap_or(0),
            weight: self.weight.unwrap_or(0),
            paused: self.paused.unwrap_or(false),
            continuous: self.continuous.unwrap_or(false),
            min_gb: self.min_memory_gb.unwrap_or(0.0),
            interval: self.interval.and_then(Nanoseconds::duration),
            next_continuous: self.next_continuous.and_then(|time| time.0),
            max_running: self.max_running.and_then(limit_from_integer),
            max_getwork: self.max_attempts_returned.and_then(limit_from_integer),
            max_retries: self.max_retries.and_then(limit_from_integer),
        }
    }
}
