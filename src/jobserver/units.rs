//! Methods on work units.

use super::listed::Action;
use super::method::Call;
use super::params::Options;
use super::reply::{
    Nothing, answer_in_band, check_answer_length, failed_pair, ok_list, ok_pair, write_name,
    write_time,
};
use super::steps::Steps;
use crate::cbor::Writer;
use crate::coordinate::storage::{Lister, Storage, UnitQuery};
use crate::coordinate::{
    Completed, Counts, Deletion, Error, Name, NamespaceId, PriorityChange, Result, UnitReport,
    UnitStatus,
};
use crate::limits;

/// The number by which clients know a status. To them a delayed unit is an available one.
pub(super) fn status_number(status: UnitStatus) -> u64 {
    match status {
        UnitStatus::Available | UnitStatus::Delayed => 1,
        UnitStatus::Pending => 3,
        UnitStatus::Finished => 4,
        UnitStatus::Failed => 5,
    }
}

pub(super) fn add_work_units<S: Storage>(call: &mut Call<'_, S>, out: &mut Vec<u8>) -> Result<()> {
    let spec = call.params.get("work_spec_name").name()?;
    call.listed(
        spec,
        Action::Add,
        call.params.get("work_unit_key_vals"),
        out,
    )
}

pub(super) fn count_work_units<S: Storage>(
    call: &mut Call<'_, S>,
    out: &mut Vec<u8>,
) -> Result<()> {
    let spec = call.params.get("work_spec_name").name()?;
    let counts = call.operation.work_spec(&spec).map(|spec| spec.counts);
    if let Some(counts) = answer_in_band(out, Nothing::False, counts)? {
        ok_pair(out, |writer| write_counts(writer, &counts));
    }
    Ok(())
}

fn write_counts(writer: &mut Writer<'_>, counts: &Counts) {
    writer.map(shown_counts(counts).count());
    for (status, count) in shown_counts(counts) {
        writer.unsigned(status_number(status));
        writer.unsigned(count);
    }
}

/// The counts that are not zero, by the statuses that clients know.
pub(super) fn shown_counts(counts: &Counts) -> impl Iterator<Item = (UnitStatus, u64)> {
    let by_status = [
        (UnitStatus::Available, counts.available + counts.delayed),
        (UnitStatus::Pending, counts.pending),
        (UnitStatus::Finished, counts.shown(Completed::Finished)),
        (UnitStatus::Failed, counts.shown(Completed::Failed)),
    ];
    by_status.into_iter().filter(|(_, count)| *count > 0)
}

pub(super) fn get_work_units<S: Storage>(call: &mut Call<'_, S>, out: &mut Vec<u8>) -> Result<()> {
    let name = call.params.get("work_spec_name").name()?;
    let options = Options::read(call.params.get("options"))?;
    let names = options.get("work_unit_keys");
    if names
        .optional_list()?
        .is_some_and(|names| names.are_more_than(0))
    {
        return call.listed(name, Action::Data, names, out);
    }
    let query = UnitQuery {
        statuses: options.get("state").optional_statuses()?,
        start: options.get("start").optional_unit_name()?,
        limit: options.get("limit").list_limit()?,
    };
    let counts = call.operation.work_spec(&name).map(|spec| spec.counts);
    let Some(counts) = answer_in_band(out, Nothing::Null, counts)? else {
        return Ok(());
    };
    let (units, units_max) = (counts.there(), limits::LIST_INLINE_PASSED_MAX);
    if query.statuses.is_some() && units > units_max && !call.is_alone {
        return Err(Error::Invalid(format!(
            "{units} units are too many to look for those in a state within a list of requests: send this one alone"
        )));
    }
    let namespace = call.operation.namespace;
    call.list(is_long(&query), out, move |lister, out| {
        write_units(lister, namespace, &name, &query, out)
    })
}

/// True if listing may take long enough to hold others up. One by status may have to pass over any
/// number of units in other ones.
fn is_long(query: &UnitQuery) -> bool {
    query.limit > limits::LIST_INLINE_MAX || query.statuses.is_some()
}

fn write_units(
    lister: &mut dyn Lister,
    namespace: NamespaceId,
    work_spec: &Name,
    query: &UnitQuery,
    out: &mut Vec<u8>,
) -> Result<()> {
    let mut list = Vec::new();
    let mut count = 0;
    let mut visit = |name: &Name, data: &[u8]| {
        check_answer_length(list.len() + data.len())?;
        count += 1;
        write_unit(&mut Writer::new(&mut list), name, Some(data));
        Ok(())
    };
    let listed = lister.list_work_units(namespace, work_spec, query, &mut visit);
    if answer_in_band(out, Nothing::Null, listed)?.is_some() {
        ok_list(out, count, &list);
    }
    Ok(())
}

/// Writes a unit's name with its data; null if there is no such unit.
pub(super) fn write_unit(writer: &mut Writer<'_>, name: &Name, data: Option<&[u8]>) {
    writer.tuple(2);
    name.write(writer);
    match data {
        Some(data) => writer.encoded(data),
        None => writer.null(),
    }
}

pub(super) fn get_work_unit_status<S: Storage>(
    call: &mut Call<'_, S>,
    out: &mut Vec<u8>,
) -> Result<()> {
    let spec = call.params.get("work_spec_name").name()?;
    call.listed(spec, Action::Status, call.params.get("work_unit_keys"), out)
}

/// Writes where a unit stands.
pub(super) fn write_report(writer: &mut Writer<'_>, report: &UnitReport) {
    let optional = [report.worker.is_some(), report.traceback.is_some()];
    writer.map(2 + optional.iter().filter(|is_there| **is_there).count());
    writer.bytes(b"status");
    writer.unsigned(status_number(report.status));
    writer.bytes(b"expiration");
    write_time(writer, report.expiration);
    if report.worker.is_some() {
        writer.bytes(b"worker_id");
        write_name(writer, report.worker.as_ref());
    }
    if let Some(traceback) = &report.traceback {
        writer.bytes(b"traceback");
        writer.encoded(traceback);
    }
}

pub(super) fn prioritize_work_units<S: Storage>(
    call: &mut Call<'_, S>,
    out: &mut Vec<u8>,
) -> Result<()> {
    let spec = call.params.get("work_spec_name").name()?;
    let options = Options::read(call.params.get("options"))?;
    let names = options.get("work_unit_keys");
    let priority = options
        .get("priority")
        .optional_number()?
        .map(PriorityChange::Set);
    let adjustment = options
        .get("adjustment")
        .optional_number()?
        .map(PriorityChange::Adjust);
    let known = call.operation.work_spec(&spec).map(|_| ());
    if answer_in_band(out, Nothing::False, known)?.is_none() {
        return Ok(());
    }
    if names.item().is_none() {
        failed_pair(out, Nothing::False, "missing work_unit_keys");
        return Ok(());
    }
    let change = priority.or(adjustment);
    call.listed(spec, Action::Prioritize(change), names, out)
}

pub(super) fn del_work_units<S: Storage>(call: &mut Call<'_, S>, out: &mut Vec<u8>) -> Result<()> {
    let spec = call.params.get("work_spec_name").name()?;
    let options = Options::read(call.params.get("options"))?;
    let all = options
        .get("all")
        .item()
        .is_some_and(crate::coordinate::number::is_true);
    let names = options.get("work_unit_keys");
    let statuses = options.get("state").optional_statuses()?;
    let deleted = match (all, names.item(), statuses) {
        (true, _, _) => call.operation.delete_work_units(&spec, &Deletion::All),
        (_, Some(_), statuses) => return call.listed(spec, Action::Delete(statuses), names, out),
        (_, None, Some(statuses)) => match call.operation.begin_deletion(&spec, statuses) {
            Ok(deletion) => return call.begin(Steps::DeleteInStatus(deletion), out),
            Err(error) => Err(error),
        },
        (_, None, None) => call.operation.work_spec(&spec).and_then(|_| {
            let problem = "no usable options to del_work_units";
            Err(Error::Refused(problem.to_owned()))
        }),
    };
    if let Some(count) = answer_in_band(out, Nothing::Zero, deleted)? {
        ok_pair(out, |writer| writer.unsigned(count));
    }
    Ok(())
}
