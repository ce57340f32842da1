//! Work units, and queries for them.

use super::data::{Dictionary, Given, or_empty};
use super::error::text_of;
use super::list::ListText;
use super::path::attempt_url;
use super::query::{status_name, unit_selection};
use super::time::Time;
use super::{Answer, Result, Within};
use crate::coordinate::storage::{Access, Lister, Storage, UnitQuery};
use crate::coordinate::{
    Deletion, Name, NewUnit, PriorityChange, UnitAction, UnitDetails, UnitSelection,
};
use crate::http::name_in_url::into_name;
use crate::limits::SLICE_LOOKED_UP;
use axum::extract::Request;
use coordinated_client::cbor::Item;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Serialize)]
struct UnitShort {
    name: String,
    url: String,
}

#[derive(Serialize)]
struct UnitDocument<'a> {
    name: String,
    url: &'a str,
    work_spec_url: String,
    attempts_url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Dictionary<'a>>,
    meta: UnitMeta,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    active_attempt_url: Option<String>,
}

#[derive(Clone, Copy, Serialize)]
struct UnitMeta {
    priority: f64,
    not_before: Time,
}

#[derive(Deserialize)]
struct UnitForm {
    name: Option<String>,
    data: Option<Given>,
    meta: Option<UnitMetaForm>,
    active_attempt_url: Option<String>,
}

#[derive(Clone, Copy, Default, Deserialize)]
struct UnitMetaForm {
    priority: Option<f64>,
    not_before: Option<Time>,
}

/// How many units were deleted. The key is capitalised.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Deleted {
    deleted: u64,
}

/// Units that are listed at a time, so that no read keeps the WAL from being moved into the file for long.
const PAGE: usize = 10_000;

/// What a PUT gives as the URL of the active attempt to clear it.
const NO_ATTEMPT: &str = "-";

impl<S: Storage + 'static> Within<'_, S> {
    pub(super) fn unit_url(&self, spec: &Name, unit: &Name) -> String {
        self.rest.urls.unit(&self.namespace, spec, unit)
    }

    pub(super) async fn list_units(&self, spec: Name, query: Option<&str>) -> Result<Answer> {
        let selection = unit_selection(query)?;
        let mut list = ListText::of_key("work_units");
        if let Some(names) = selection.sorted_names() {
            let mut left = selection.limit.unwrap_or(usize::MAX);
            self.counts_of(spec.clone()).await?;
            for names in names.chunks(SLICE_LOOKED_UP) {
                let names: Vec<Name> = names.iter().copied().cloned().collect();
                let (of, statuses) = (spec.clone(), selection.statuses.clone());
                let (existing, _share) = self
                    .run(Access::Read, move |operation| {
                        operation.existing_units(&of, &names, statuses.as_deref())
                    })
                    .await?;
                for name in existing.iter().take(left) {
                    list.push(&self.unit_short(&spec, name))?;
                }
                left = left.saturating_sub(existing.len());
                if left == 0 {
                    break;
                }
            }
            return self.rest.text(list.finish());
        }
        let (namespace, urls) = (Arc::clone(&self.namespace), self.rest.urls.clone());
        let text = self
            .read(move |lister, id| {
                for_each_name(lister, id, &spec, &selection, |name| {
                    list.push(&UnitShort {
                        name: text_of(name),
                        url: urls.unit(&namespace, &spec, name),
                    })
                })?;
                Ok(list.finish())
            })
            .await?;
        self.rest.text(text)
    }

    fn unit_short(&self, spec: &Name, name: &Name) -> UnitShort {
        UnitShort {
            name: text_of(name),
            url: self.unit_url(spec, name),
        }
    }

    pub(super) async fn make_unit(&self, spec: Name, request: Request) -> Result<Answer> {
        let form = self.rest.form::<UnitForm>(request).await?;
        let data = or_empty(form.value.data, self.rest.shared.limits.depth_max)?;
        let name = Name::from_text(form.value.name.unwrap_or_default());
        let meta = form.value.meta.unwrap_or_default();
        let short = self.unit_short(&spec, &name);
        let not_before = meta.not_before.and_then(|time| time.0);
        self.write(move |operation| {
            let unit = NewUnit {
                name: name.clone(),
                data: Item::from_checked(&data),
                priority: meta.priority,
                delay: not_before.map(|time| time.since(operation.now)),
                group: None,
            };
            operation.put_work_unit(&spec, &unit)
        })
        .await?;
        Ok(self.rest.document(&short)?.made(short.url))
    }

    pub(super) async fn show_unit(&self, spec: Name, unit: Name) -> Result<Answer> {
        let url = self.unit_url(&spec, &unit);
        let (of, name) = (spec.clone(), unit.clone());
        let read = self.run(Access::Read, move |operation| {
            operation.unit_details(&of, &name)
        });
        let (details, _share) = read.await?;
        let UnitDetails {
            unit: it,
            data,
            active,
        } = &details;
        self.rest.document(&UnitDocument {
            name: text_of(&unit),
            work_spec_url: self.rest.urls.work_spec(&self.namespace, &spec),
            attempts_url: format!("{url}/attempts"),
            data: Dictionary::of(data),
            meta: UnitMeta {
                priority: it.priority,
                not_before: Time(it.not_before),
            },
            status: status_name(it.status),
            active_attempt_url: active.as_ref().map(|attempt| attempt_url(&url, attempt)),
            url: &url,
        })
    }

    /// Clears the active attempt, and sets when the unit is handed out. Its data can't be changed so.
    pub(super) async fn put_unit(
        &self,
        spec: Name,
        unit: Name,
        request: Request,
    ) -> Result<Answer> {
        let form = self.rest.form::<UnitForm>(request).await?.value;
        let clears = form.active_attempt_url.as_deref() == Some(NO_ATTEMPT);
        let schedule = form.meta.map(|meta| {
            let not_before = meta.not_before.and_then(|time| time.0);
            (meta.priority.unwrap_or(0.0), not_before)
        });
        self.write(move |operation| operation.change_work_unit(&spec, &unit, clears, schedule))
            .await
    }

    pub(super) async fn delete_units(&self, spec: Name, query: Option<&str>) -> Result<Answer> {
        let selection = unit_selection(query)?;
        let deleted = if selection.is_all() {
            let delete = self.run(Access::Write, move |operation| {
                operation.delete_work_units(&spec, &Deletion::All)
            });
            delete.await?.0
        } else {
            self.act_on_units(spec, selection, UnitAction::Delete)
                .await?
        };
        self.rest.document(&Deleted { deleted })
    }

    /// Sets the priority of units, or adds to it.
    pub(super) async fn prioritize(
        &self,
        spec: Name,
        query: Option<&str>,
        request: Request,
        adds: bool,
    ) -> Result<Answer> {
        let selection = unit_selection(query)?;
        let form = self.rest.form::<UnitForm>(request).await?.value;
        self.counts_of(spec.clone()).await?;
        if let Some(meta) = form.meta {
            let priority = meta.priority.unwrap_or(0.0);
            let change = match adds {
                true => PriorityChange::Adjust(priority),
                false => PriorityChange::Set(priority),
            };
            self.act_on_units(spec, selection, UnitAction::Prioritize(change))
                .await?;
        }
        Ok(Answer::nothing())
    }

    /// Does something with the units that are selected, in steps. Returns how many there were.
    async fn act_on_units(
        &self,
        spec: Name,
        selection: UnitSelection,
        action: UnitAction,
    ) -> Result<u64> {
        let begin = self.run(Access::Read, move |operation| {
            operation.begin_unit_pass(&spec, &selection)
        });
        let (mut pass, _) = begin.await?;
        while !pass.is_over() {
            let step = self.run(Access::Write, move |operation| {
                operation.take_some_units(&pass, action)
            });
            (pass, _) = step.await?;
        }
        Ok(pass.taken())
    }
}

/// Shows `visit` the names of the units that are selected, by other conditions than their names.
fn for_each_name<L: Lister>(
    lister: &mut L,
    namespace: crate::coordinate::NamespaceId,
    spec: &Name,
    selection: &UnitSelection,
    mut visit: impl FnMut(&Name) -> crate::coordinate::Result<()>,
) -> crate::coordinate::Result<()> {
    // The first name that comes after another one has a zero byte more.
    let behind = |name: &Name| into_name([name.bytes(), b"\0"].concat());
    let mut left = selection.limit.unwrap_or(usize::MAX);
    let mut start = selection.after.as_ref().map(behind);
    loop {
        let mut last = None;
        let mut found = 0;
        let query = UnitQuery {
            statuses: selection.statuses.clone(),
            start,
            limit: left.min(PAGE),
        };
        lister.list_work_units(namespace, spec, &query, &mut |name, _| {
            found += 1;
            last = Some(name.clone());
            visit(name)
        })?;
        left -= found;
        if found < PAGE || left == 0 {
            return Ok(());
        }
        start = last.as_ref().map(behind);
    }
}
