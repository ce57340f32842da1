//! Methods for people who look at the queue: what waits, what failed, and why.

use super::call::{Call, Progress};
use super::params::{Options, Params};
use super::reply::{FailedValue, check_answer_length, ok_list, ok_pair, write_name, write_time};
use super::units::{shown_counts, status_number};
use crate::coordinate::storage::Storage;
use crate::coordinate::{
    Attempt, AttemptStatus, Counts, Error, FailureGroup, Name, Result, UnitStatus, group_failures,
};
use crate::limits;
use coordinated_client::cbor::Writer;
use std::time::Duration;

pub(super) fn summary<S: Storage>(
    call: &mut Call<'_, S>,
    _: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let (namespace, now) = (call.operation.namespace, call.operation.now);
    let is_long = call.has_many_work_specs();
    call.list(is_long, out, move |lister, out| {
        let mut entries = Vec::new();
        let mut count = 0;
        lister.list_counts(namespace, &mut |name, counts, waiting_since| {
            let waiting = waiting_since.map(|since| now.since(since));
            count += write_summary(&mut Writer::new(&mut entries), name, counts, waiting);
            check_answer_length(entries.len())
        })?;
        ok_list(out, count, &entries);
        Ok(())
    })
}

/// Writes an entry for each status in which a work spec has units. Returns the number of entries.
fn write_summary(
    writer: &mut Writer<'_>,
    work_spec: &Name,
    counts: &Counts,
    waiting: Option<Duration>,
) -> usize {
    for (status, count) in shown_counts(counts) {
        let is_available = status == UnitStatus::Available;
        let has_retries = is_available && counts.retrying > 0;
        writer.map(if is_available { 5 } else { 3 } + usize::from(has_retries));
        writer.bytes(b"work_spec");
        work_spec.write(writer);
        writer.bytes(b"status");
        writer.unsigned(status_number(status));
        writer.bytes(b"count");
        writer.unsigned(count);
        if is_available {
            writer.bytes(b"delayed");
            writer.unsigned(counts.delayed);
            writer.bytes(b"waiting");
            match waiting {
                Some(waiting) => writer.float(waiting.as_secs_f64()),
                None => writer.null(),
            }
        }
        if has_retries {
            writer.bytes(b"retrying");
            writer.unsigned(counts.retrying);
        }
    }
    shown_counts(counts).count()
}

pub(super) fn get_attempts<S: Storage>(
    call: &mut Call<'_, S>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let spec = params.get("work_spec_name").name()?;
    let unit = params.get("work_unit_key").unit_name()?;
    let options = Options::read(params.get("options"))?;
    let limit = options.get("limit").list_limit()?;
    let (namespace, failures) = (call.operation.namespace, call.failures);
    call.list(limit > limits::LIST_INLINE_MAX, out, move |lister, out| {
        let mut list = Vec::new();
        let mut count = 0;
        let listed = lister.list_attempts(namespace, &spec, &unit, limit, &mut |attempt, data| {
            check_answer_length(list.len() + data.map_or(0, <[u8]>::len))?;
            count += 1;
            write_attempt(&mut Writer::new(&mut list), attempt, data);
            Ok(())
        });
        if failures.write(out, FailedValue::Null, listed)?.is_some() {
            ok_list(out, count, &list);
        }
        Ok(())
    })
}

fn write_attempt(writer: &mut Writer<'_>, attempt: &Attempt, data: Option<&[u8]>) {
    writer.map(7);
    writer.bytes(b"number");
    writer.unsigned(attempt.number);
    writer.bytes(b"worker_id");
    write_name(writer, attempt.worker.as_ref());
    writer.bytes(b"status");
    writer.unsigned(attempt_status_number(attempt.status));
    writer.bytes(b"start");
    write_time(writer, Some(attempt.start));
    writer.bytes(b"end");
    write_time(writer, attempt.end);
    writer.bytes(b"expiration");
    write_time(writer, Some(attempt.expiration));
    writer.bytes(b"data");
    match data {
        Some(data) => writer.encoded(data),
        None => writer.null(),
    }
}

/// The number of an attempt's status on the wire. Statuses of active attempts have the number of the unit's status,
/// others have numbers of their own.
fn attempt_status_number(status: AttemptStatus) -> u64 {
    match status {
        AttemptStatus::Pending => status_number(UnitStatus::Pending),
        AttemptStatus::Finished => status_number(UnitStatus::Finished),
        AttemptStatus::Failed => status_number(UnitStatus::Failed),
        AttemptStatus::Expired => 6,
        AttemptStatus::Retryable => 7,
    }
}

pub(super) fn list_failures<S: Storage>(
    call: &mut Call<'_, S>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let name = params.get("work_spec_name").name()?;
    let options = Options::read(params.get("options"))?;
    let limit = options.get("limit").list_limit()?;
    let failed = call
        .operation
        .work_spec(&name)
        .map(|spec| spec.counts.failed);
    let Some(failed) = call.failures.write(out, FailedValue::Null, failed)? else {
        return Ok(Progress::Done);
    };
    let is_long = failed > limits::LIST_INLINE_MAX as u64;
    if is_long && !call.is_single {
        return Err(Error::Invalid(format!(
            "listing the failures of {failed} failed units is not allowed in a list of requests; send it as a single request"
        )));
    }
    let (namespace, failures) = (call.operation.namespace, call.failures);
    call.list(is_long, out, move |lister, out| {
        let groups = group_failures(lister, namespace, &name);
        if let Some(mut groups) = failures.write(out, FailedValue::Null, groups)? {
            groups.truncate(limit);
            write_failures(out, &groups)?;
        }
        Ok(())
    })
}

fn write_failures(out: &mut Vec<u8>, groups: &[FailureGroup]) -> Result<()> {
    let mut list = Vec::new();
    for group in groups {
        check_answer_length(list.len())?;
        let mut writer = Writer::new(&mut list);
        writer.map(4);
        writer.bytes(b"message");
        writer.bytes(group.message.as_bytes());
        writer.bytes(b"count");
        writer.unsigned(group.count);
        writer.bytes(b"first_key");
        group.first.write(&mut writer);
        writer.bytes(b"last_failed");
        write_time(&mut writer, Some(group.last_failed));
    }
    ok_list(out, groups.len(), &list);
    Ok(())
}

pub(super) fn explain_work<S: Storage>(
    call: &mut Call<'_, S>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let spec = params.get("work_spec_name").name()?;
    let unit = params.get("work_unit_key").optional_unit_name()?;
    let reasons = call.operation.explain_work(&spec, unit.as_ref());
    let Some(reasons) = call.failures.write(out, FailedValue::Null, reasons)? else {
        return Ok(Progress::Done);
    };
    let now = call.operation.now;
    ok_pair(out, |writer| {
        writer.array(reasons.len());
        for reason in &reasons {
            writer.map(2);
            writer.bytes(b"code");
            writer.bytes(reason.code().as_bytes());
            writer.bytes(b"text");
            writer.bytes(reason.text(now).as_bytes());
        }
    });
    Ok(Progress::Done)
}
