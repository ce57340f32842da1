//! Changes of one work spec or one unit, by forms.

use super::frame::Frame;
use super::spec::typed;
use super::{Form, Result, Visit, name_from_url, see_other};
use crate::coordinate::storage::{Access, Storage};
use crate::coordinate::{Control, Deletion, Name, Pause};
use crate::http::problem::{self, Problem};
use crate::limits::PAUSE_TEXT_BYTES_MAX;
use axum::extract::{Path, Request};
use axum::response::Response;

/// Who is said to have done what somebody does here who has not signed in.
const SOMEBODY: &str = "web page";

/// `POST /ui/spec/SPEC/pause`.
pub(super) async fn pause<S: Storage>(
    ui: Visit<S>,
    frame: Frame,
    Path(spec): Path<String>,
    request: Request,
) -> Result<Response> {
    let form = ui.form(request).await?;
    let reason = form.text("reason");
    if reason
        .as_ref()
        .is_some_and(|reason| reason.len() > PAUSE_TEXT_BYTES_MAX)
    {
        return Err(invalid(format!(
            "the reason has more than {PAUSE_TEXT_BYTES_MAX} bytes"
        )));
    }
    let pause = Pause {
        reason,
        by: Some(ui.person().unwrap_or(SOMEBODY).to_owned()),
        since: None,
    };
    let control = Control {
        paused: Some(Some(pause)),
        ..Control::default()
    };
    ui.control(&frame, &spec, control).await
}

/// `POST /ui/spec/SPEC/resume`.
pub(super) async fn resume<S: Storage>(
    ui: Visit<S>,
    frame: Frame,
    Path(spec): Path<String>,
    request: Request,
) -> Result<Response> {
    ui.form(request).await?;
    let control = Control {
        paused: Some(None),
        ..Control::default()
    };
    ui.control(&frame, &spec, control).await
}

/// `POST /ui/spec/SPEC/settings`.
pub(super) async fn settings<S: Storage>(
    ui: Visit<S>,
    frame: Frame,
    Path(spec): Path<String>,
    request: Request,
) -> Result<Response> {
    let form = ui.form(request).await?;
    let weight = form.text("weight").map(|weight| {
        weight
            .parse::<i64>()
            .map_err(|_| invalid(format!("weight: expected an integer, got {weight:?}")))
    });
    let priority = form
        .text("priority")
        .map(|text| number_of("priority", &text));
    // Nothing in the field means no limit.
    let max_running = match form.text("max_running") {
        None => None,
        Some(text) => {
            let max = text.parse().ok().filter(|max: &u64| *max > 0);
            let expected = || {
                invalid(format!(
                    "max_running: expected a number from 1 on, got {text:?}"
                ))
            };
            Some(max.ok_or_else(expected)?)
        }
    };
    let control = Control {
        weight: weight.transpose()?,
        priority: priority.transpose()?,
        max_running: Some(max_running),
        ..Control::default()
    };
    ui.control(&frame, &spec, control).await
}

/// `POST /ui/spec/SPEC/delete`: deletes the work spec with all of its units.
pub(super) async fn delete_spec<S: Storage>(
    ui: Visit<S>,
    frame: Frame,
    Path(spec): Path<String>,
    request: Request,
) -> Result<Response> {
    let spec = name_from_url(&spec)?;
    check_typed(&ui.form(request).await?, &spec)?;
    ui.run(Access::Write, move |operation| {
        operation.delete_work_spec(&spec)
    })
    .await?;
    Ok(see_other(&frame.url("")))
}

/// `POST /ui/spec/SPEC/unit/UNIT/retry`.
pub(super) async fn retry_unit<S: Storage>(
    ui: Visit<S>,
    frame: Frame,
    Path((spec, unit)): Path<(String, String)>,
    request: Request,
) -> Result<Response> {
    ui.form(request).await?;
    let (spec, unit) = (name_from_url(&spec)?, name_from_url(&unit)?);
    let url = frame.unit(&spec, &unit);
    let retry = ui.run(Access::Write, move |operation| {
        operation.clear_active_attempt(&spec, &unit)
    });
    retry.await?;
    Ok(see_other(&url))
}

/// `POST /ui/spec/SPEC/unit/UNIT/delete`.
pub(super) async fn delete_unit<S: Storage>(
    ui: Visit<S>,
    frame: Frame,
    Path((spec, unit)): Path<(String, String)>,
    request: Request,
) -> Result<Response> {
    let (spec, unit) = (name_from_url(&spec)?, name_from_url(&unit)?);
    check_typed(&ui.form(request).await?, &spec)?;
    let url = format!("{}/units", frame.spec(&spec));
    let delete = ui.run(Access::Write, move |operation| {
        let names = [unit.clone()];
        operation.delete_work_units(&spec, &Deletion::Named(&names, None))
    });
    delete.await?;
    Ok(see_other(&url))
}

/// Fails if the name of the work spec was not typed.
pub(super) fn check_typed(form: &Form, spec: &Name) -> Result<()> {
    let expected = typed(spec);
    if form.text("typed").as_deref() == Some(expected.trim()) {
        return Ok(());
    }
    Err(invalid(format!(
        "nothing was deleted: to confirm, type the name of the work spec, {expected}, into the form"
    )))
}

/// The number that a field is.
///
/// # Errors
/// If it is none.
pub(super) fn number_of(field: &str, text: &str) -> Result<f64> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite());
    number.ok_or_else(|| invalid(format!("{field}: expected a number, got {text:?}")))
}

pub(super) fn invalid(detail: String) -> super::PageError {
    Problem::new(problem::INVALID, detail).into()
}

impl<S: Storage + 'static> Visit<S> {
    /// Changes how a work spec is scheduled, and goes to its page.
    async fn control(&self, frame: &Frame, spec: &str, control: Control) -> Result<Response> {
        let spec = name_from_url(spec)?;
        let url = frame.spec(&spec);
        let change = self.run(Access::Write, move |operation| {
            operation.control_work_spec(&spec, &control)
        });
        change.await?;
        Ok(see_other(&url))
    }
}
