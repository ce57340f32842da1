//! Methods on work specs.

use super::call::{Call, Progress};
use super::params::{Options, Params};
use super::reply::{
    FailedValue, Failures, check_answer_length, ok_pair, true_pair, write_limit, write_name,
    write_text, write_time,
};
use crate::clock::Timestamp;
use crate::coordinate::storage::Storage;
use crate::coordinate::{
    Control, Error, HaltAfter, Meta, Pause, Result, Schedule, WorkSpec, limit_from_integer,
};
use crate::limits;
use crate::number::{duration_from_seconds, is_true};
use coordinated_client::cbor::{Item, Writer};
use std::time::Duration;

const RUNNABLE: i64 = 1;
const PAUSED: i64 = 2;

/// How many runs of a schedule are told in advance: enough to see whether it is the one that was meant.
const NEXT_RUNS: usize = 3;

pub(super) fn set_work_spec<S: Storage>(
    call: &mut Call<'_, S>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let definition = params.get("work_spec").map()?;
    call.operation.set_work_spec(definition)?;
    true_pair(out);
    Ok(Progress::Done)
}

pub(super) fn get_work_spec<S: Storage>(
    call: &mut Call<'_, S>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let name = params.get("work_spec_name").name()?;
    match call.operation.work_spec_definition(&name) {
        Ok(definition) => write_definition(&mut Writer::new(out), &definition),
        Err(Error::NoSuchWorkSpec(_)) if call.failures == Failures::InBand => {
            Writer::new(out).null();
        }
        Err(error) => return Err(error),
    }
    Ok(Progress::Done)
}

/// Writes a work spec dictionary, with `module` and `run_function` as byte strings: the Python 2 worker imports by these
/// names, and its import does not accept text.
fn write_definition(writer: &mut Writer<'_>, definition: &[u8]) {
    let item = Item::from_checked(definition);
    let must_be_bytes = |key: Item<'_>, value: Item<'_>| {
        let key = key.as_string_bytes();
        value.is_text() && matches!(key.as_deref(), Some(b"module" | b"run_function"))
    };
    let entries = || item.as_map().into_iter().flatten();
    if !entries().any(|(key, value)| must_be_bytes(key, value)) {
        writer.encoded(definition);
        return;
    }
    writer.map(entries().count());
    for (key, value) in entries() {
        writer.encoded(key.bytes());
        match value.as_string_bytes() {
            Some(bytes) if must_be_bytes(key, value) => writer.bytes(&bytes),
            _ => writer.encoded(value.bytes()),
        }
    }
}

pub(super) fn list_work_specs<S: Storage>(
    call: &mut Call<'_, S>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let options = Options::read(params.get("options"))?;
    let start = options.get("start").optional_name()?;
    let limit = options.get("limit").optional_integer()?;
    let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(0));
    let namespace = call.operation.namespace;
    let is_long = limit > limits::LIST_INLINE_MAX && call.has_many_work_specs();
    call.list(is_long, out, move |lister, out| {
        let mut list = Vec::new();
        let (mut count, mut next) = (0, None);
        let one_more = limit.saturating_add(1);
        lister.list_work_specs(
            namespace,
            start.as_ref(),
            one_more,
            &mut |name, definition| {
                if count == limit {
                    next = Some(name.clone());
                    return Ok(());
                }
                check_answer_length(list.len() + definition.len())?;
                write_definition(&mut Writer::new(&mut list), definition);
                count += 1;
                Ok(())
            },
        )?;
        let mut writer = Writer::new(out);
        writer.array(2);
        writer.array(count);
        writer.encoded(&list);
        // The Python client keeps asking, for fewer each time, until it gets a page without a next name.
        write_name(&mut writer, next.filter(|_| limit > 0).as_ref());
        Ok(())
    })
}

pub(super) fn control_work_spec<S: Storage>(
    call: &mut Call<'_, S>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let name = params.get("work_spec_name").name()?;
    let control = read_control(Options::read(params.get("options"))?)?;
    let controlled = call.operation.control_work_spec(&name, &control);
    if call
        .failures
        .write(out, FailedValue::False, controlled)?
        .is_some()
    {
        true_pair(out);
    }
    Ok(Progress::Done)
}

fn read_control(options: Options<'_>) -> Result<Control> {
    let status = options.get("status").optional_integer()?;
    let pause = read_pause(options)?;
    let paused = match status {
        None => None,
        Some(RUNNABLE) => Some(None),
        Some(PAUSED) => Some(Some(pause.clone())),
        Some(other) => {
            return Err(Error::Invalid(format!(
                "option status: expected {RUNNABLE} (runnable) or {PAUSED} (paused), got {other}"
            )));
        }
    };
    if pause != Pause::default() && status != Some(PAUSED) {
        return Err(Error::Invalid(format!(
            "options reason, by and since: only allowed with status {PAUSED} (paused)"
        )));
    }
    // For these two, null has a meaning: no interval, no limit.
    let (interval, max_running) = (options.get("interval"), options.get("max_running"));
    let interval_seconds = interval.optional_number()?;
    let running = max_running.optional_integer()?;
    Ok(Control {
        paused,
        weight: options.get("weight").optional_integer()?,
        priority: options.get("priority").optional_number()?,
        interval: interval
            .is_given()
            .then(|| interval_seconds.map(duration_from_seconds)),
        max_running: max_running
            .is_given()
            .then(|| running.and_then(limit_from_integer)),
        continuous: options.get("continuous").item().map(is_true),
    })
}

fn read_pause(options: Options<'_>) -> Result<Pause> {
    let max = limits::PAUSE_TEXT_BYTES_MAX;
    let since = options.get("since").optional_number()?;
    Ok(Pause {
        reason: options.get("reason").optional_text(max)?,
        by: options.get("by").optional_text(max)?,
        since: since.map(Timestamp::from_seconds),
    })
}

pub(super) fn get_work_spec_meta<S: Storage>(
    call: &mut Call<'_, S>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let name = params.get("work_spec_name").name()?;
    let options = Options::read(params.get("options"))?;
    let with_pause = options.get("pause").is_true();
    let with_schedule = options.get("schedule").is_true();
    let with_limits = options.get("limits").is_true();
    let now = call.operation.now;
    let spec = call.operation.work_spec(&name).cloned();
    if let Some(spec) = call.failures.write(out, FailedValue::Null, spec)? {
        ok_pair(out, |writer| {
            let limits = if with_limits { LIMITS_FIELDS } else { 0 };
            write_meta(writer, &spec.meta, with_pause, with_schedule, limits);
            if with_limits {
                write_limits(writer, &spec, now);
            }
        });
    }
    Ok(Progress::Done)
}

/// Writes how a work spec is scheduled: a map in which `more` fields follow.
fn write_meta(
    writer: &mut Writer<'_>,
    meta: &Meta,
    with_pause: bool,
    with_schedule: bool,
    more: usize,
) {
    writer.map(5 + usize::from(with_pause) + usize::from(with_schedule) + more);
    writer.bytes(b"status");
    writer.integer(match meta.paused {
        Some(_) => PAUSED,
        None => RUNNABLE,
    });
    if with_pause {
        writer.bytes(b"pause");
        write_pause(writer, meta.paused.as_ref());
    }
    writer.bytes(b"continuous");
    writer.boolean(meta.continuous);
    writer.bytes(b"interval");
    write_seconds(writer, meta.interval);
    writer.bytes(b"max_running");
    write_limit(writer, meta.max_running);
    writer.bytes(b"weight");
    writer.integer(meta.weight);
    if with_schedule {
        writer.bytes(b"schedule");
        write_schedule(writer, meta.schedule.as_deref());
    }
}

/// Writes the runs of a schedule; null if there is none.
fn write_schedule(writer: &mut Writer<'_>, schedule: Option<&Schedule>) {
    let Some(schedule) = schedule else {
        writer.null();
        return;
    };
    writer.map(4);
    writer.bytes(b"timezone");
    writer.bytes(schedule.timezone.as_bytes());
    writer.bytes(b"next");
    let next: Vec<Timestamp> = schedule.next_runs(NEXT_RUNS).collect();
    writer.array(next.len());
    for time in next {
        write_time(writer, Some(time));
    }
    writer.bytes(b"last");
    write_time(writer, schedule.last);
    writer.bytes(b"skipped");
    write_time(writer, schedule.skipped);
}

const LIMITS_FIELDS: usize = 7;

/// Writes the fields about retries, the rate, and when failures pause the work spec.
fn write_limits(writer: &mut Writer<'_>, spec: &WorkSpec, now: Timestamp) {
    let (meta, recent) = (&spec.meta, &spec.recent);
    writer.bytes(b"retries");
    writer.unsigned(meta.retry.map_or(0, |retry| retry.retries));
    writer.bytes(b"retrying");
    writer.unsigned(spec.counts.retrying);
    writer.bytes(b"max_rate");
    match meta.max_rate {
        Some(rate) => writer.bytes(rate.to_string().as_bytes()),
        None => writer.null(),
    }
    writer.bytes(b"max_rate_burst");
    write_limit(writer, meta.max_rate.map(|rate| rate.burst().into()));
    writer.bytes(b"rate_until");
    let until = meta
        .max_rate
        .and_then(|rate| rate.next_at(recent.full_at, now));
    write_time(writer, until);
    writer.bytes(b"halt_after");
    match meta.halt_after {
        Some(halt_after) => write_halt_after(writer, halt_after),
        None => writer.null(),
    }
    writer.bytes(b"failed_in_a_row");
    writer.unsigned(recent.outcomes.failed_in_a_row);
}

fn write_halt_after(writer: &mut Writer<'_>, halt_after: HaltAfter) {
    writer.map(3);
    writer.bytes(b"failures");
    write_limit(writer, halt_after.failures);
    writer.bytes(b"rate");
    match halt_after.rate {
        Some(rate) => writer.float(rate.share),
        None => writer.null(),
    }
    writer.bytes(b"min");
    write_limit(writer, halt_after.rate.map(|rate| rate.min));
}

/// Writes who paused a work spec, when and why; null if it is not paused.
fn write_pause(writer: &mut Writer<'_>, pause: Option<&Pause>) {
    let Some(pause) = pause else {
        writer.null();
        return;
    };
    writer.map(3);
    for (key, text) in [("reason", &pause.reason), ("by", &pause.by)] {
        writer.bytes(key.as_bytes());
        write_text(writer, text.as_deref());
    }
    writer.bytes(b"since");
    write_time(writer, pause.since);
}

/// Writes a duration in seconds, as an integer if it is one; or null.
fn write_seconds(writer: &mut Writer<'_>, span: Option<Duration>) {
    match span {
        None => writer.null(),
        Some(span) if span.subsec_nanos() == 0 => writer.unsigned(span.as_secs()),
        Some(span) => writer.float(span.as_secs_f64()),
    }
}

pub(super) fn del_work_spec<S: Storage>(
    call: &mut Call<'_, S>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let name = params.get("work_spec_name").name()?;
    let deleted = call.operation.delete_work_spec(&name);
    if call
        .failures
        .write(out, FailedValue::False, deleted)?
        .is_some()
    {
        true_pair(out);
    }
    Ok(Progress::Done)
}

pub(super) fn clear<S: Storage>(
    call: &mut Call<'_, S>,
    _: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let count = call.operation.clear()?;
    Writer::new(out).unsigned(count as u64);
    Ok(Progress::Done)
}
