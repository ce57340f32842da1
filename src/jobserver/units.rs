//! Methods on work units.

use super::call::{Call, Continuation, Progress, Sleep};
use super::cancel::write_cancellation;
use super::list::{ListAction, ListItem, ListItems, call_on_list};
use super::params::{Options, Param, Params};
use super::reply::{
    FailedValue, Failures, check_answer_length, ok_list, ok_pair, true_pair, write_name, write_time,
};
use crate::coordinate::storage::{Lister, Storage, UnitQuery};
use crate::coordinate::{
    Added, Completed, Counts, Deletion, DeletionInStatus, Error, IfExists, Name, NamespaceId,
    NewUnit, Operation, PriorityChange, Result, UnitReport, UnitStatus, WaitsFor, WorkSpecId,
};
use crate::limits::{self, RequestLimits};
use coordinated_client::cbor::Writer;
use std::time::Duration;

/// The number of a status on the wire. To clients, delayed units are available.
pub(super) fn status_number(status: UnitStatus) -> u64 {
    match status {
        UnitStatus::Available | UnitStatus::Delayed => 1,
        UnitStatus::Pending => 3,
        UnitStatus::Finished => 4,
        UnitStatus::Failed => 5,
    }
}

pub(super) fn add_work_units<S: Storage>(
    call: &mut Call<'_, S>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let options = Options::read(params.get("options"))?;
    let action = AddUnits {
        work_spec: params.get("work_spec_name").name()?,
        if_exists: read_if_exists(&options.get("if_exists"))?,
        added: options.get("counts").is_true().then(Added::default),
    };
    call_on_list(call, action, &params.get("work_unit_key_vals"), out)
}

fn read_if_exists(option: &Param<'_>) -> Result<IfExists> {
    let Some(name) = option.optional_unit_name()? else {
        return Ok(IfExists::default());
    };
    IfExists::from_wire(name.bytes())
        .ok_or_else(|| option.error(format_args!("expected reset, skip or error, got {name}")))
}

#[derive(Clone)]
struct AddUnits {
    work_spec: Name,
    if_exists: IfExists,
    /// What became of the units so far, if the client asked for it.
    added: Option<Added>,
}

fn new_unit<'a>(item: ListItem<'a>, limits: &RequestLimits) -> Result<NewUnit<'a>> {
    NewUnit::from_item(item.item, limits).map_err(|error| item.invalid(error))
}

impl<S: Storage> ListAction<S> for AddUnits {
    const SLICE_LEN: usize = limits::SLICE_ITEMS;
    const FAILED: FailedValue = FailedValue::False;

    fn check(&self, item: ListItem<'_>, limits: &RequestLimits) -> Result<()> {
        new_unit(item, limits).map(drop)
    }

    fn take(&mut self, items: &mut ListItems<'_>, call: &mut Call<'_, S>) -> Result<()> {
        let (slice, limits) = (items.slice(limits::SLICE_ITEMS), call.operation.limits);
        let units = slice.into_iter().map(|item| new_unit(item, limits));
        let units: Vec<NewUnit<'_>> = units.collect::<Result<_>>()?;
        let added = call
            .operation
            .add_work_units(&self.work_spec, &units, self.if_exists)?;
        if let Some(counts) = &mut self.added {
            *counts += added;
        }
        Ok(())
    }

    fn write_result(&self, _: usize, _: &[u8], out: &mut Vec<u8>) {
        match self.added {
            Some(added) => ok_pair(out, |writer| write_added(writer, added)),
            None => true_pair(out),
        }
    }
}

fn write_added(writer: &mut Writer<'_>, added: Added) {
    let counts: [(&[u8], u64); 3] = [
        (b"new", added.new),
        (b"reset", added.reset),
        (b"skipped", added.skipped),
    ];
    writer.map(counts.len());
    for (key, count) in counts {
        writer.bytes(key);
        writer.unsigned(count);
    }
}

pub(super) fn count_work_units<S: Storage>(
    call: &mut Call<'_, S>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let spec = params.get("work_spec_name").name()?;
    let counts = call.operation.work_spec(&spec).map(|spec| spec.counts);
    if let Some(counts) = call.failures.write(out, FailedValue::False, counts)? {
        ok_pair(out, |writer| write_counts(writer, &counts));
    }
    Ok(Progress::Done)
}

fn write_counts(writer: &mut Writer<'_>, counts: &Counts) {
    writer.map(shown_counts(counts).count());
    for (status, count) in shown_counts(counts) {
        writer.unsigned(status_number(status));
        writer.unsigned(count);
    }
}

/// The counts that are not zero, by the statuses that clients see.
pub(super) fn shown_counts(counts: &Counts) -> impl Iterator<Item = (UnitStatus, u64)> {
    let by_status = [
        (UnitStatus::Available, counts.available + counts.delayed),
        (UnitStatus::Pending, counts.pending),
        (UnitStatus::Finished, counts.shown(Completed::Finished)),
        (UnitStatus::Failed, counts.shown(Completed::Failed)),
    ];
    by_status.into_iter().filter(|(_, count)| *count > 0)
}

pub(super) fn get_work_units<S: Storage>(
    call: &mut Call<'_, S>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let name = params.get("work_spec_name").name()?;
    let options = Options::read(params.get("options"))?;
    let names = options.get("work_unit_keys");
    if names
        .optional_list()?
        .is_some_and(|names| names.are_more_than(0))
    {
        let action = LookUp {
            work_spec: name,
            write: find_data,
        };
        return call_on_list(call, action, &names, out);
    }
    let query = UnitQuery {
        statuses: options.get("state").optional_statuses()?,
        start: options.get("start").optional_unit_name()?,
        limit: options.get("limit").list_limit()?,
    };
    let counts = call.operation.work_spec(&name).map(|spec| spec.counts);
    let Some(counts) = call.failures.write(out, FailedValue::Null, counts)? else {
        return Ok(Progress::Done);
    };
    let (units, units_max) = (counts.there(), limits::LIST_INLINE_PASSED_MAX);
    if query.statuses.is_some() && units > units_max && !call.is_single {
        return Err(Error::Invalid(format!(
            "listing by state over {units} units is not allowed in a list of requests; send it as a single request"
        )));
    }
    let (namespace, failures) = (call.operation.namespace, call.failures);
    call.list(is_long(&query), out, move |lister, out| {
        write_units(lister, namespace, &name, &query, failures, out)
    })
}

/// True if listing may take long enough to delay other connections. Listing by status may pass over any number of units
/// in other statuses.
fn is_long(query: &UnitQuery) -> bool {
    query.limit > limits::LIST_INLINE_MAX || query.statuses.is_some()
}

fn write_units(
    lister: &mut dyn Lister,
    namespace: NamespaceId,
    work_spec: &Name,
    query: &UnitQuery,
    failures: Failures,
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
    if failures.write(out, FailedValue::Null, listed)?.is_some() {
        ok_list(out, count, &list);
    }
    Ok(())
}

/// Writes a unit's name and data; null for the data if there is no such unit.
pub(super) fn write_unit(writer: &mut Writer<'_>, name: &Name, data: Option<&[u8]>) {
    writer.tuple(2);
    name.write(writer);
    match data {
        Some(data) => writer.encoded(data),
        None => writer.null(),
    }
}

/// Writes what a call asks about one unit.
type WriteUnit<S> = fn(&mut Operation<'_, S>, WorkSpecId, &Name, &mut Vec<u8>) -> Result<()>;

/// Looks units up by their names.
struct LookUp<S: Storage> {
    work_spec: Name,
    write: WriteUnit<S>,
}

impl<S: Storage> Clone for LookUp<S> {
    fn clone(&self) -> Self {
        Self {
            work_spec: self.work_spec.clone(),
            write: self.write,
        }
    }
}

impl<S: Storage> ListAction<S> for LookUp<S> {
    const SLICE_LEN: usize = limits::SLICE_LOOKED_UP;
    const FAILED: FailedValue = FailedValue::Null;

    fn take(&mut self, items: &mut ListItems<'_>, call: &mut Call<'_, S>) -> Result<()> {
        let names = items.names(limits::SLICE_LOOKED_UP)?;
        let spec = call.operation.work_spec(&self.work_spec)?.id;
        for name in &names {
            (self.write)(&mut call.operation, spec, name, call.results)?;
            check_answer_length(call.results.len())?;
        }
        Ok(())
    }

    fn write_result(&self, count: usize, results: &[u8], out: &mut Vec<u8>) {
        ok_list(out, count, results);
    }
}

/// Writes the name of a unit and its data.
fn find_data<S: Storage>(
    operation: &mut Operation<'_, S>,
    spec: WorkSpecId,
    name: &Name,
    out: &mut Vec<u8>,
) -> Result<()> {
    let data = operation.find_work_unit_data(spec, name)?;
    check_answer_length(out.len() + data.as_ref().map_or(0, Vec::len))?;
    write_unit(&mut Writer::new(out), name, data.as_deref());
    Ok(())
}

pub(super) fn get_work_unit_status<S: Storage>(
    call: &mut Call<'_, S>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let work_spec = params.get("work_spec_name").name()?;
    let keys = params.get("work_unit_keys");
    let options = Options::read(params.get("options"))?;
    let wait = options.get("wait").wait(call.is_single)?;
    if wait.is_zero() {
        let write = find_status;
        return call_on_list(call, LookUp { work_spec, write }, &keys, out);
    }
    if keys.list()?.are_more_than(limits::WAIT_UNITS_MAX) {
        let max = limits::WAIT_UNITS_MAX;
        return Err(keys.error(format_args!(
            "more than {max} items; name fewer units, or leave out the option wait"
        )));
    }
    let units = keys.optional_names()?.unwrap_or_default();
    let awaited = Awaited {
        work_spec,
        units,
        wait,
    };
    awaited.step(call, out)
}

/// Units, of which a call waits for the first one to be completed or deleted.
#[derive(Clone)]
struct Awaited {
    work_spec: Name,
    units: Vec<Name>,
    wait: Duration,
}

impl<S: Storage> Continuation<S> for Awaited {
    /// Writes the statuses, unless there is something to wait for.
    fn step(&self, call: &mut Call<'_, S>, out: &mut Vec<u8>) -> Result<Progress<S>> {
        let spec = call.operation.work_spec(&self.work_spec);
        let Some(spec) = call
            .failures
            .write(out, FailedValue::Null, spec.map(|spec| spec.id))?
        else {
            return Ok(Progress::Done);
        };
        if !call.wait_is_over
            && let Some(units) = call.operation.units_to_wait_for(spec, &self.units)?
        {
            return Ok(Progress::Sleep(Sleep {
                rest: Box::new(self.clone()),
                waits_for: WaitsFor::Units(spec, units),
                at_most: self.wait,
            }));
        }
        let mut statuses = Vec::new();
        for name in &self.units {
            find_status(&mut call.operation, spec, name, &mut statuses)?;
            check_answer_length(statuses.len())?;
        }
        ok_list(out, self.units.len(), &statuses);
        Ok(Progress::Done)
    }

    fn held(&self) -> usize {
        let names = self.units.iter();
        names
            .map(|name| size_of::<Name>() + name.bytes().len() + limits::INDEX_ENTRY_BYTES)
            .sum()
    }
}

/// Writes the status of a unit; null if there is no such unit.
fn find_status<S: Storage>(
    operation: &mut Operation<'_, S>,
    spec: WorkSpecId,
    name: &Name,
    out: &mut Vec<u8>,
) -> Result<()> {
    let report = operation.work_unit_report(spec, name)?;
    let mut writer = Writer::new(out);
    match report {
        Some(report) => write_status(&mut writer, &report),
        None => writer.null(),
    }
    Ok(())
}

/// Writes the status of a unit.
fn write_status(writer: &mut Writer<'_>, report: &UnitReport) {
    let (has_failed, has_lost) = (report.failures > 0, report.lost > 0);
    let optional = [
        report.worker.is_some(),
        report.traceback.is_some(),
        // For two keys.
        has_failed,
        has_failed,
        has_lost,
        report.retry_at.is_some(),
        report.cancellation.is_some(),
        report.group.is_some(),
    ];
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
    if has_failed {
        writer.bytes(b"failures");
        writer.unsigned(report.failures);
        writer.bytes(b"retries");
        writer.unsigned(report.retries);
    }
    if has_lost {
        writer.bytes(b"lost");
        writer.unsigned(report.lost);
    }
    if report.retry_at.is_some() {
        writer.bytes(b"retry_at");
        write_time(writer, report.retry_at);
    }
    if let Some(cancellation) = &report.cancellation {
        writer.bytes(b"cancelled");
        write_cancellation(writer, cancellation);
    }
    if let Some(group) = &report.group {
        writer.bytes(b"group");
        writer.bytes(group.as_bytes());
    }
}

pub(super) fn prioritize_work_units<S: Storage>(
    call: &mut Call<'_, S>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let spec = params.get("work_spec_name").name()?;
    let options = Options::read(params.get("options"))?;
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
    if call
        .failures
        .write(out, FailedValue::False, known)?
        .is_none()
    {
        return Ok(Progress::Done);
    }
    if names.item().is_none() {
        let missing = Err(Error::Refused("missing work_unit_keys".to_owned()));
        call.failures
            .write::<()>(out, FailedValue::False, missing)?;
        return Ok(Progress::Done);
    }
    let action = Prioritize {
        work_spec: spec,
        change: priority.or(adjustment),
    };
    call_on_list(call, action, &names, out)
}

/// Changes the priority of units, if a change is given.
#[derive(Clone)]
struct Prioritize {
    work_spec: Name,
    change: Option<PriorityChange>,
}

impl<S: Storage> ListAction<S> for Prioritize {
    const SLICE_LEN: usize = limits::SLICE_ITEMS;
    const FAILED: FailedValue = FailedValue::False;

    fn take(&mut self, items: &mut ListItems<'_>, call: &mut Call<'_, S>) -> Result<()> {
        let names = items.names(limits::SLICE_ITEMS)?;
        call.operation.work_spec(&self.work_spec)?;
        if let Some(change) = self.change {
            call.operation
                .prioritize_work_units(&self.work_spec, &names, change)?;
        }
        Ok(())
    }

    fn write_result(&self, _: usize, _: &[u8], out: &mut Vec<u8>) {
        true_pair(out);
    }
}

pub(super) fn del_work_units<S: Storage>(
    call: &mut Call<'_, S>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let spec = params.get("work_spec_name").name()?;
    let options = Options::read(params.get("options"))?;
    let all = options.get("all").is_true();
    let names = options.get("work_unit_keys");
    let statuses = options.get("state").optional_statuses()?;
    let deleted = match (all, names.item(), statuses) {
        (true, _, _) => call.operation.delete_work_units(&spec, &Deletion::All),
        (_, Some(_), statuses) => {
            let action = DeleteNamed {
                work_spec: spec,
                statuses,
                deleted: 0,
            };
            return call_on_list(call, action, &names, out);
        }
        (_, None, Some(statuses)) => match call.operation.begin_deletion(&spec, &statuses) {
            Ok(deletion) => return DeleteInStatus(deletion).step(call, out),
            Err(error) => Err(error),
        },
        (_, None, None) => call.operation.work_spec(&spec).and_then(|_| {
            let problem = "no usable options to del_work_units";
            Err(Error::Refused(problem.to_owned()))
        }),
    };
    if let Some(count) = call.failures.write(out, FailedValue::Zero, deleted)? {
        ok_pair(out, |writer| writer.unsigned(count));
    }
    Ok(Progress::Done)
}

/// Deletes units by their names. If statuses are given, only units in one of these.
#[derive(Clone)]
struct DeleteNamed {
    work_spec: Name,
    statuses: Option<Vec<UnitStatus>>,
    deleted: u64,
}

impl<S: Storage> ListAction<S> for DeleteNamed {
    const SLICE_LEN: usize = limits::SWEEP_REMOVED;
    const FAILED: FailedValue = FailedValue::Zero;

    fn take(&mut self, items: &mut ListItems<'_>, call: &mut Call<'_, S>) -> Result<()> {
        let names = items.names(limits::SWEEP_REMOVED)?;
        let which = Deletion::Named(&names, self.statuses.as_deref());
        self.deleted += call.operation.delete_work_units(&self.work_spec, &which)?;
        Ok(())
    }

    fn write_result(&self, _: usize, _: &[u8], out: &mut Vec<u8>) {
        ok_pair(out, |writer| writer.unsigned(self.deleted));
    }
}

/// Deletes all units in certain statuses.
struct DeleteInStatus(DeletionInStatus);

impl<S: Storage> Continuation<S> for DeleteInStatus {
    fn step(&self, call: &mut Call<'_, S>, out: &mut Vec<u8>) -> Result<Progress<S>> {
        let deletion = call.operation.delete_some(&self.0, limits::SWEEP_REMOVED);
        match call.failures.write(out, FailedValue::Zero, deletion)? {
            Some(deletion) if deletion.is_over() => {
                ok_pair(out, |writer| writer.unsigned(deletion.deleted()));
            }
            Some(deletion) => return Ok(Progress::More(Box::new(Self(deletion)))),
            None => {}
        }
        Ok(Progress::Done)
    }
}
