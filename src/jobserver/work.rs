//! Methods for workers: getting units, and reporting on them.

use super::call::{Call, Continuation, Progress};
use super::list::{ListAction, ListItem, ListItems, call_on_list};
use super::params::{Options, Params};
use super::reply::{FailedValue, failed_pair, ok_list, ok_pair, true_pair, write_in_band};
use crate::coordinate::number::duration_from_seconds;
use crate::coordinate::storage::{OutputSliceId, Storage};
use crate::coordinate::{
    Assignment, Error, Lease, Name, Operation, Outcome, Report, Result, Wish, WorkRequest,
};
use crate::limits::{self, RequestLimits};
use coordinated_client::cbor::{Item, Writer};
use std::time::Duration;

/// A request for work whose search takes several steps.
struct GetWork {
    worker: Name,
    max_jobs: i64,
    lease: Duration,
    work_specs: Vec<Name>,
    runtimes: Vec<String>,
}

pub(super) fn get_work<S: Storage>(
    call: &mut Call<'_, S>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let worker = params.get("worker_id").name()?;
    let options = Options::read(params.get("options"))?;
    let max_jobs = options
        .get("max_jobs")
        .optional_integer()?
        .unwrap_or(1)
        .max(1);
    let work_specs = options
        .get("work_spec_names")
        .optional_names()?
        .unwrap_or_default();
    let runtimes = match options.get("runtimes").optional_names()? {
        Some(names) => names
            .iter()
            .map(|name| String::from_utf8_lossy(name.bytes()).into_owned())
            .collect(),
        None => vec![String::new()],
    };
    let lease = options.get("lease_time").optional_number()?;
    let get_work = GetWork {
        worker,
        max_jobs,
        lease: Lease::to_begin(lease),
        work_specs,
        runtimes,
    };
    Box::new(get_work).step(call, out)
}

impl<S: Storage> Continuation<S> for GetWork {
    /// Continues the search. The store knows how far it has come.
    fn step(self: Box<Self>, call: &mut Call<'_, S>, out: &mut Vec<u8>) -> Result<Progress<S>> {
        call.effects.asked_for_work = true;
        let request = WorkRequest {
            max_units: usize::try_from(self.max_jobs)
                .unwrap_or(1)
                .min(call.operation.limits.get_work_units_max),
            lease: self.lease,
            work_specs: &self.work_specs,
            runtimes: &self.runtimes,
        };
        let Some(given) = call.operation.get_work(&self.worker, &request)? else {
            return Ok(Progress::More(self));
        };
        ok_pair(out, |writer| match (self.max_jobs, &given[..]) {
            (1, []) => {
                writer.tuple(3);
                (0..3).for_each(|_| writer.null());
            }
            (1, [assignment, ..]) => write_assignment(writer, assignment),
            _ => {
                writer.array(given.len());
                given
                    .iter()
                    .for_each(|assignment| write_assignment(writer, assignment));
            }
        });
        call.effects.given = given;
        Ok(Progress::Done)
    }

    fn held(&self) -> usize {
        let names = self
            .work_specs
            .iter()
            .map(|name| size_of::<Name>() + name.bytes().len());
        let runtimes = self
            .runtimes
            .iter()
            .map(|runtime| size_of::<String>() + runtime.len());
        names.chain(runtimes).sum()
    }
}

fn write_assignment(writer: &mut Writer<'_>, assignment: &Assignment) {
    writer.tuple(3);
    assignment.work_spec.write(writer);
    assignment.name.write(writer);
    writer.encoded(&assignment.data);
}

pub(super) fn update_work_unit<S: Storage>(
    call: &mut Call<'_, S>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let spec = params.get("work_spec_name").name()?;
    let unit = params.get("work_unit_key").unit_name()?;
    let options = Options::read(params.get("options"))?;
    let outcome = read_report(options).and_then(|report| {
        call.operation
            .report(call.handed_out, &spec, &unit, &report)
    });
    if let Some(last) = call.operation.chained.last_slice {
        return Ok(Progress::More(Box::new(AddOutput(last))));
    }
    write_outcome(out, outcome)?;
    Ok(Progress::Done)
}

/// Adds the units that the output of a finished unit names, up to a certain slice.
struct AddOutput(OutputSliceId);

impl<S: Storage> Continuation<S> for AddOutput {
    fn step(self: Box<Self>, call: &mut Call<'_, S>, out: &mut Vec<u8>) -> Result<Progress<S>> {
        if !chain_until(self.0, &mut call.operation)? {
            return Ok(Progress::More(self));
        }
        true_pair(out);
        Ok(Progress::Done)
    }
}

/// Adds a slice of an output. False if there is more to be added until the slice `last` has been.
fn chain_until<S: Storage>(last: OutputSliceId, operation: &mut Operation<'_, S>) -> Result<bool> {
    // Slices of other outputs come first, and the daemon adds some by itself.
    Ok(operation.chain_slice()?.is_none_or(|taken| taken >= last))
}

/// Processes many updates in order. Each has its own result.
pub(super) fn update_work_units<S: Storage>(
    call: &mut Call<'_, S>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let spec = params.get("work_spec_name").name()?;
    let known = call.operation.work_spec(&spec).map(|_| ());
    if write_in_band(out, FailedValue::Null, known)?.is_none() {
        return Ok(Progress::Done);
    }
    let action = Updates {
        work_spec: spec,
        results: Vec::new(),
        last_slice: None,
    };
    call_on_list(call, action, &params.get("updates"), out)
}

/// Updates of units, each with its own result.
struct Updates {
    work_spec: Name,
    /// The encoded results, one after the other.
    results: Vec<u8>,
    /// The last slice of an output that is to be added before the call is answered.
    last_slice: Option<OutputSliceId>,
}

impl<S: Storage> ListAction<S> for Updates {
    const SLICE_LEN: usize = limits::SLICE_ITEMS;
    const FAILED: FailedValue = FailedValue::Null;

    fn check(&self, item: ListItem<'_>, limits: &RequestLimits) -> Result<()> {
        match read_update(item, limits)?.1 {
            Ok(_) | Err(Error::Refused(_)) => Ok(()),
            Err(error) => Err(item.invalid(error)),
        }
    }

    /// Processes fewer than a slice if their outputs add enough units.
    fn take(&mut self, items: &mut ListItems<'_>, call: &mut Call<'_, S>) -> Result<()> {
        call.operation.work_spec(&self.work_spec)?;
        let (mut count, mut bytes) = (0, 0);
        while count < limits::SLICE_ITEMS
            && bytes < limits::SLICE_BYTES
            && !call.operation.chained.is_enough()
            && let Some(item) = items.next()
        {
            let (name, report) = read_update(item, call.operation.limits)?;
            let outcome = report.and_then(|report| {
                call.operation
                    .report(call.handed_out, &self.work_spec, &name, &report)
            });
            write_outcome(&mut self.results, outcome).map_err(|error| match error {
                Error::Invalid(problem) => item.invalid(problem),
                other => other,
            })?;
            count += 1;
            bytes += item.item.bytes().len();
        }
        self.last_slice = call.operation.chained.last_slice.or(self.last_slice);
        Ok(())
    }

    fn held(&self) -> usize {
        self.results.capacity()
    }

    fn has_more(&self) -> bool {
        self.last_slice.is_some()
    }

    fn finish(&mut self, call: &mut Call<'_, S>) -> Result<bool> {
        self.last_slice
            .map_or(Ok(true), |last| chain_until(last, &mut call.operation))
    }

    fn write_result(&self, count: usize, out: &mut Vec<u8>) {
        ok_list(out, count, &self.results);
    }
}

/// The name of a unit, and the report on it.
fn read_update<'a>(
    item: ListItem<'a>,
    limits: &'a RequestLimits,
) -> Result<(Name, Result<Report<'a>>)> {
    let pair: Vec<Item<'a>> = item.item.as_list().into_iter().flatten().take(3).collect();
    if let [name, options] = pair[..]
        && options.as_map().is_some()
        && let Some(name) = Name::from_item(name)
    {
        return Ok((name, read_report(Options::from_map(options, limits))));
    }
    Err(item.invalid("expected a list of a key and options"))
}

/// Writes the result of an update.
fn write_outcome(out: &mut Vec<u8>, outcome: Result<Outcome>) -> Result<()> {
    match write_in_band(out, FailedValue::False, outcome)? {
        Some(Outcome::Accepted) => true_pair(out),
        Some(Outcome::Refused(reason)) => failed_pair(out, FailedValue::False, &reason),
        None => {}
    }
    Ok(())
}

/// Reads a report on a unit.
///
/// # Errors
/// `Refused` if the options report nothing; `Invalid`.
fn read_report(options: Options<'_>) -> Result<Report<'_>> {
    let lease = options.get("lease_time").optional_number()?;
    let lease = lease.map(Lease::to_renew);
    let wish = match (options.get("status").optional_integer()?, lease) {
        (None | Some(0), None) => return Err(Error::Refused("nothing to do".to_owned())),
        (None | Some(0), Some(_)) => Wish::Renew,
        (Some(1), _) => Wish::Available,
        (Some(3), _) => Wish::Pending,
        (Some(4), _) => Wish::Finished,
        (Some(5), _) => Wish::Failed,
        (Some(other), _) => {
            return Err(Error::Invalid(format!(
                "option status: expected 1 (available), 3 (pending), 4 (finished) or 5 (failed), got {other}"
            )));
        }
    };
    Ok(Report {
        wish,
        lease,
        data: options.get("data").optional_map()?.map(|data| data.bytes()),
        worker: options.get("worker_id").optional_name()?,
        delay: options
            .get("delay")
            .optional_number()?
            .map(duration_from_seconds),
    })
}
