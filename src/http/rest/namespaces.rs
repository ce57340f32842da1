//! The root, namespaces and summaries.

use super::list::ListText;
use super::query::status_name;
use super::{Answer, Rest, Result, Within};
use crate::coordinate::storage::{Access, Lister, Storage};
use crate::coordinate::{Completed, Counts, Name, Result as OperationResult, Scopes, UnitStatus};
use crate::http::rest::error::text_of;
use crate::jobserver::{Caller, Realm};
use axum::extract::Request;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Serialize)]
struct Root {
    url: &'static str,
    namespaces_url: String,
    namespace_url: String,
    summary_url: String,
}

#[derive(Serialize)]
struct NamespaceShort<'a> {
    name: &'a str,
    url: String,
}

#[derive(Serialize)]
struct NamespaceDocument<'a> {
    name: &'a str,
    url: &'a str,
    summary_url: String,
    work_specs_url: String,
    work_spec_url: String,
    workers_url: String,
    worker_url: String,
}

#[derive(Deserialize)]
struct NamespaceForm {
    name: Option<String>,
}

/// How many units of a work spec are in a status. The keys are capitalised.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SummaryRecord<'a> {
    namespace: &'a str,
    work_spec: String,
    status: &'static str,
    count: u64,
}

/// Namespaces that are listed at a time, so that no read keeps the WAL from being moved into the file for long.
const PAGE: usize = 1_000;

impl<S: Storage + 'static> Rest<S> {
    pub(super) fn root(&self) -> Result<Answer> {
        let base = &self.urls.base;
        self.document(&Root {
            url: "",
            namespaces_url: format!("{base}/namespace"),
            namespace_url: format!("{base}/namespace/{{namespace}}"),
            summary_url: format!("{base}/summary"),
        })
    }

    pub(super) async fn list_namespaces(&self, caller: Caller) -> Result<Answer> {
        let (home, urls) = (self.home(caller), self.urls.clone());
        let text = home
            .read(move |lister, _| {
                let mut list = ListText::of_key("namespaces");
                for_each_namespace(lister, |_, _, name| {
                    list.push(&NamespaceShort {
                        name,
                        url: urls.namespace(name),
                    })
                })?;
                Ok(list.finish())
            })
            .await?;
        self.text(text)
    }

    pub(super) async fn make_namespace(
        &self,
        mut caller: Caller,
        request: Request,
    ) -> Result<Answer> {
        let form = self.form::<NamespaceForm>(request).await?.value;
        let name: Arc<str> = form.name.unwrap_or_default().into();
        self.shared
            .check(&mut caller, Realm::In(&name), Scopes::ALL)?;
        let within = self.within(caller, name);
        let answer = within.show_namespace().await?;
        Ok(answer.made(self.urls.namespace(&within.namespace)))
    }

    pub(super) async fn summary_of_all(&self, caller: Caller) -> Result<Answer> {
        let text = self
            .home(caller)
            .read(|lister, _| {
                let mut list = ListText::bare();
                for_each_namespace(lister, |lister, id, namespace| {
                    lister.list_counts(id, &mut |spec, counts, _| {
                        push_counts(&mut list, namespace, spec, counts)
                    })
                })?;
                Ok(list.finish())
            })
            .await?;
        self.text(text)
    }

    /// The namespace of CBOR-RPC clients, which is there in any case.
    fn home(&self, caller: Caller) -> Within<'_, S> {
        self.within(caller, Arc::clone(&self.home))
    }
}

/// Shows `visit` every namespace.
fn for_each_namespace<L: Lister>(
    lister: &mut L,
    mut visit: impl FnMut(&mut L, crate::coordinate::NamespaceId, &str) -> OperationResult<()>,
) -> OperationResult<()> {
    let mut after: Option<String> = None;
    loop {
        let mut page = Vec::new();
        lister.list_namespaces(after.as_deref(), PAGE, &mut |id, name| {
            page.push((id, name.to_owned()));
            Ok(())
        })?;
        for (id, name) in &page {
            visit(lister, *id, name)?;
        }
        match page.pop() {
            Some((_, last)) if page.len() + 1 == PAGE => after = Some(last),
            _ => return Ok(()),
        }
    }
}

/// The statuses of units with how many there are, but for those of which there are none. What was archived counts.
pub(super) fn counts_by_status(
    counts: &Counts,
) -> impl Iterator<Item = (&'static str, u64)> + use<> {
    let counts = *counts;
    let count_in = move |status| match status {
        UnitStatus::Available => counts.available,
        UnitStatus::Delayed => counts.delayed,
        UnitStatus::Pending => counts.pending,
        UnitStatus::Finished => counts.shown(Completed::Finished),
        UnitStatus::Failed => counts.shown(Completed::Failed),
    };
    let all = UnitStatus::ALL.into_iter();
    all.map(move |status| (status_name(status), count_in(status)))
        .filter(|(_, count)| *count > 0)
}

/// Appends the records of a work spec to a summary.
fn push_counts(
    list: &mut ListText,
    namespace: &str,
    work_spec: &Name,
    counts: &Counts,
) -> OperationResult<()> {
    for (status, count) in counts_by_status(counts) {
        list.push(&SummaryRecord {
            namespace,
            work_spec: text_of(work_spec),
            status,
            count,
        })?;
    }
    Ok(())
}

impl<S: Storage + 'static> Within<'_, S> {
    pub(super) async fn show_namespace(&self) -> Result<Answer> {
        self.run(Access::Read, |_| Ok(())).await?;
        let url = self.rest.urls.namespace(&self.namespace);
        self.rest.document(&NamespaceDocument {
            name: &self.namespace,
            summary_url: format!("{url}/summary"),
            work_specs_url: format!("{url}/work_spec"),
            work_spec_url: format!("{url}/work_spec/{{spec}}"),
            workers_url: format!("{url}/worker"),
            worker_url: format!("{url}/worker/{{worker}}"),
            url: &url,
        })
    }

    pub(super) async fn destroy_namespace(&self) -> Result<Answer> {
        self.write(|operation| operation.destroy_namespace()).await
    }

    /// The summary of a work spec, or of all.
    pub(super) async fn summary(&self, work_spec: Option<Name>) -> Result<Answer> {
        let mut list = ListText::bare();
        if let Some(spec) = work_spec {
            let counts = self.counts_of(spec.clone()).await?;
            push_counts(&mut list, &self.namespace, &spec, &counts)?;
            return self.rest.text(list.finish());
        }
        let namespace = Arc::clone(&self.namespace);
        let text = self
            .read(move |lister, id| {
                lister.list_counts(id, &mut |spec, counts, _| {
                    push_counts(&mut list, &namespace, spec, counts)
                })?;
                Ok(list.finish())
            })
            .await?;
        self.rest.text(text)
    }
}
