//! Methods for workers: getting units, and reporting on them.

use super::call::{Call, Continuation, Progress, Sleep};
use super::list::{ListAction, ListItem, ListItems, call_on_list};
use super::params::{Options, Params};
use super::reply::{FailedValue, Failures, ok_list, ok_pair, true_pair, write_time};
use crate::clock::Timestamp;
use crate::coordinate::storage::Storage;
use crate::coordinate::{
    Assignment, AttemptId, Error, Lease, Name, Outcome, Report, ReportKind, Result, UnitReport,
    WaitsFor, Work, WorkRequest,
};
use crate::limits::{self, RequestLimits};
use crate::number::{duration_from_seconds, is_true};
use coordinated_client::cbor::{Item, Writer};
use std::sync::Arc;
use std::time::Duration;

/// A request for work whose search takes several steps, or that waits.
struct GetWork {
    worker: Name,
    max_jobs: i64,
    lease: Duration,
    work_specs: Vec<Name>,
    runtimes: Vec<String>,
    /// The answer also tells the attempts.
    tells_attempts: bool,
    /// How long it waits for a unit.
    wait: Duration,
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
    let tells_attempts = options.get("attempts").item().is_some_and(is_true);
    let get_work = Arc::new(GetWork {
        worker,
        max_jobs,
        lease: Lease::to_begin(lease),
        work_specs,
        runtimes,
        tells_attempts,
        wait: options.get("wait").wait(call.is_single)?,
    });
    get_work.step(call, out)
}

impl<S: Storage> Continuation<S> for Arc<GetWork> {
    /// Continues the search. The store knows how far it has come.
    fn step(&self, call: &mut Call<'_, S>, out: &mut Vec<u8>) -> Result<Progress<S>> {
        let request = WorkRequest {
            max_units: usize::try_from(self.max_jobs).unwrap_or(1),
            lease: self.lease,
            work_specs: &self.work_specs,
            runtimes: &self.runtimes,
        };
        let given = if call.wait_is_over {
            // Perhaps nobody is there any more to take a unit.
            Vec::new()
        } else {
            match call.operation.get_work(&self.worker, &request)? {
                Some(given) if given.is_empty() && !self.wait.is_zero() => {
                    return Ok(Progress::Sleep(self.sleep()));
                }
                Some(given) => given,
                None => return Ok(Progress::More(Box::new(Self::clone(self)))),
            }
        };
        ok_pair(out, |writer| match (self.max_jobs, &given[..]) {
            (1, []) => {
                writer.tuple(self.fields());
                (0..self.fields()).for_each(|_| writer.null());
            }
            (1, [assignment, ..]) => self.write_assignment(writer, assignment),
            _ => {
                writer.array(given.len());
                given
                    .iter()
                    .for_each(|assignment| self.write_assignment(writer, assignment));
            }
        });
        call.given = given;
        Ok(Progress::Done)
    }

    fn held(&self) -> usize {
        // One that waits is also among those that wait: its work twice, and in an index by each name.
        let (copies, entry) = match self.wait.is_zero() {
            true => (1, 0),
            false => (4, limits::INDEX_ENTRY_BYTES),
        };
        let names = self
            .work_specs
            .iter()
            .map(|name| size_of::<Name>() + name.bytes().len());
        let runtimes = self
            .runtimes
            .iter()
            .map(|runtime| size_of::<String>() + runtime.len());
        names
            .chain(runtimes)
            .map(|bytes| bytes * copies + entry)
            .sum()
    }
}

impl GetWork {
    /// Waits until there may be a unit.
    fn sleep<S: Storage>(self: &Arc<Self>) -> Sleep<S> {
        let work = Work {
            work_specs: self.work_specs.iter().cloned().collect(),
            runtimes: self.runtimes.iter().cloned().collect(),
        };
        let max_units = usize::try_from(self.max_jobs).unwrap_or(1);
        Sleep {
            rest: Box::new(Arc::clone(self)),
            waits_for: WaitsFor::Work { work, max_units },
            at_most: self.wait,
        }
    }
}

impl GetWork {
    /// How many fields the tuple of a unit has.
    fn fields(&self) -> usize {
        if self.tells_attempts { 4 } else { 3 }
    }

    fn write_assignment(&self, writer: &mut Writer<'_>, assignment: &Assignment) {
        writer.tuple(self.fields());
        assignment.work_spec.write(writer);
        assignment.name.write(writer);
        writer.encoded(&assignment.data);
        if self.tells_attempts {
            writer.map(3);
            writer.bytes(b"attempt");
            writer.integer(assignment.attempt.0);
            writer.bytes(b"number");
            writer.unsigned(assignment.number);
            writer.bytes(b"expires");
            write_time(writer, Some(assignment.expiration));
        }
    }
}

pub(super) fn update_work_unit<S: Storage>(
    call: &mut Call<'_, S>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let spec = params.get("work_spec_name").name()?;
    let unit = params.get("work_unit_key").unit_name()?;
    let options = Options::read(params.get("options"))?;
    let outcome = read_report(options).and_then(|update| update.run(call, &spec, &unit));
    if let Some(attempt) = call.operation.chained.unfinished {
        return Ok(Progress::More(Box::new(AddOutput(attempt))));
    }
    write_outcome(out, call.operation.now, outcome, call.failures)?;
    Ok(Progress::Done)
}

/// Adds the rest of the units that the output of a finished attempt names.
struct AddOutput(AttemptId);

impl<S: Storage> Continuation<S> for AddOutput {
    fn step(&self, call: &mut Call<'_, S>, out: &mut Vec<u8>) -> Result<Progress<S>> {
        if !call.operation.chain_slice_of(self.0)? {
            return Ok(Progress::More(Box::new(Self(self.0))));
        }
        true_pair(out);
        Ok(Progress::Done)
    }
}

/// Processes many updates in order. Each has its own result.
pub(super) fn update_work_units<S: Storage>(
    call: &mut Call<'_, S>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let spec = params.get("work_spec_name").name()?;
    let known = call.operation.work_spec(&spec).map(|_| ());
    if call
        .failures
        .write(out, FailedValue::Null, known)?
        .is_none()
    {
        return Ok(Progress::Done);
    }
    let action = Updates {
        work_spec: spec,
        unfinished: None,
    };
    call_on_list(call, action, &params.get("updates"), out)
}

/// Updates of units, each with its own result.
#[derive(Clone)]
struct Updates {
    work_spec: Name,
    /// The attempt whose output is to be added before anything else is done.
    unfinished: Option<AttemptId>,
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
            let (name, update) = read_update(item, call.operation.limits)?;
            let outcome = update.and_then(|update| update.run(call, &self.work_spec, &name));
            let (now, failures) = (call.operation.now, Failures::InBand);
            write_outcome(call.results, now, outcome, failures).map_err(|error| match error {
                Error::Invalid(problem) => item.invalid(problem),
                other => other,
            })?;
            count += 1;
            bytes += item.item.bytes().len();
        }
        self.unfinished = call.operation.chained.unfinished;
        Ok(())
    }

    fn has_more(&self) -> bool {
        self.unfinished.is_some()
    }

    fn finish(&mut self, call: &mut Call<'_, S>) -> Result<()> {
        if let Some(attempt) = self.unfinished
            && call.operation.chain_slice_of(attempt)?
        {
            self.unfinished = None;
        }
        Ok(())
    }

    fn write_result(&self, count: usize, results: &[u8], out: &mut Vec<u8>) {
        ok_list(out, count, results);
    }
}

/// The name of a unit, and the report on it.
fn read_update<'a>(
    item: ListItem<'a>,
    limits: &'a RequestLimits,
) -> Result<(Name, Result<Update<'a>>)> {
    let pair: Vec<Item<'a>> = item.item.as_list().into_iter().flatten().take(3).collect();
    if let [name, options] = pair[..]
        && options.as_map().is_some()
        && let Some(name) = Name::from_item(name)
    {
        return Ok((name, read_report(Options::from_map(options, limits))));
    }
    Err(item.invalid("expected a list of a key and options"))
}

/// A report on a unit, and what its answer is to tell.
struct Update<'a> {
    report: Report<'a>,
    /// Of a failure, whether the unit will be tried again.
    tells_retry: bool,
}

impl Update<'_> {
    /// Takes the report. Also returns where the unit stands, if it is to be told that it will be tried again.
    fn run<S: Storage>(
        &self,
        call: &mut Call<'_, S>,
        spec: &Name,
        unit: &Name,
    ) -> Result<(Outcome, Option<UnitReport>)> {
        let outcome = call
            .operation
            .report(call.handed_out, spec, unit, &self.report)?;
        let is_asked = self.tells_retry && self.report.kind == ReportKind::Failed;
        if !is_asked || outcome != Outcome::Accepted {
            return Ok((outcome, None));
        }
        let id = call.operation.work_spec(spec)?.id;
        let unit = call.operation.work_unit_report(id, unit)?;
        Ok((outcome, unit.filter(UnitReport::will_be_retried)))
    }
}

/// Writes the result of an update.
fn write_outcome(
    out: &mut Vec<u8>,
    now: Timestamp,
    outcome: Result<(Outcome, Option<UnitReport>)>,
    failures: Failures,
) -> Result<()> {
    let accepted = outcome.and_then(|(outcome, unit)| match outcome {
        Outcome::Accepted => Ok(unit),
        Outcome::Refused(reason) => Err(Error::Refused(reason)),
    });
    match failures.write(out, FailedValue::False, accepted)? {
        Some(None) => true_pair(out),
        Some(Some(unit)) => {
            let mut writer = Writer::new(out);
            writer.array(2);
            writer.boolean(true);
            writer.map(3);
            writer.bytes(b"failures");
            writer.unsigned(unit.failures);
            writer.bytes(b"retries");
            writer.unsigned(unit.retries);
            writer.bytes(b"delay");
            let delay = unit.retry_at.map_or(Duration::ZERO, |at| at.since(now));
            writer.float(delay.as_secs_f64());
        }
        None => {}
    }
    Ok(())
}

/// Reads a report on a unit.
///
/// # Errors
/// `Refused` if the options report nothing; `Invalid`.
fn read_report(options: Options<'_>) -> Result<Update<'_>> {
    let lease = options.get("lease_time").optional_number()?;
    let lease = lease.map(Lease::to_renew);
    let kind = match (options.get("status").optional_integer()?, lease) {
        (None | Some(0), None) => return Err(Error::Refused("nothing to do".to_owned())),
        (None | Some(0), Some(_)) => ReportKind::Renew,
        (Some(1), _) => ReportKind::Available,
        (Some(3), _) => ReportKind::Pending,
        (Some(4), _) => ReportKind::Finished,
        (Some(5), _) => ReportKind::Failed,
        (Some(other), _) => {
            return Err(Error::Invalid(format!(
                "option status: expected 1 (available), 3 (pending), 4 (finished) or 5 (failed), got {other}"
            )));
        }
    };
    let report = Report {
        kind,
        lease,
        data: options.get("data").optional_map()?.map(|data| data.bytes()),
        attempt: options.get("attempt").optional_integer()?.map(AttemptId),
        worker: options.get("worker_id").optional_name()?,
        delay: options
            .get("delay")
            .optional_number()?
            .map(duration_from_seconds),
        is_final: options.get("final").item().is_some_and(is_true),
    };
    Ok(Update {
        report,
        tells_retry: options.get("tell_retry").is_true(),
    })
}
