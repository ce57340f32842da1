//! Methods of workers at work: getting units, and reporting on them.

use super::listed::Action;
use super::method::Call;
use super::params::{Options, Param};
use super::reply::{Nothing, answer_in_band, failed_pair, ok_pair, true_pair};
use super::steps::{Bench, Steps};
use crate::cbor::Writer;
use crate::coordinate::number::duration_from_seconds;
use crate::coordinate::storage::{OutputSliceId, Storage};
use crate::coordinate::{
    Assignment, Error, LEASE_DEFAULT, LEASE_MAX, Lease, Name, Operation, Outcome, Report, Result,
    Wish, WorkRequest,
};
use std::time::Duration;

/// Shorter leases than this, in seconds, are taken for a mistake by `get_work`.
const LEASE_SECONDS_MIN: f64 = 1.0;

/// What a worker asks for, until it has been found.
pub(super) struct Ask {
    worker: Name,
    max_jobs: i64,
    lease: Duration,
    work_specs: Vec<Name>,
    runtimes: Vec<String>,
}

pub(super) fn get_work<S: Storage>(call: &mut Call<'_, S>, out: &mut Vec<u8>) -> Result<()> {
    let worker = call.params.get("worker_id").name()?;
    let options = Options::read(call.params.get("options"))?;
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
    let ask = Ask {
        worker,
        max_jobs,
        lease: lease.map_or(LEASE_DEFAULT, lease_to_begin),
        work_specs,
        runtimes,
    };
    *call.daemon.last_asked_for_work = Some(call.operation.now);
    call.begin(Steps::GetWork(ask), out)
}

impl Ask {
    /// Bytes that it keeps of the names that it asks for.
    pub(super) fn held(&self) -> usize {
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

    /// See [`Steps::take_step`]. How far the search has come is known to the store.
    pub(super) fn take_step<S: Storage>(
        self,
        bench: &mut Bench<'_, '_, S>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Self>> {
        let request = WorkRequest {
            max_units: usize::try_from(self.max_jobs)
                .unwrap_or(1)
                .min(bench.operation.limits.get_work_units_max),
            lease: self.lease,
            work_specs: &self.work_specs,
            runtimes: &self.runtimes,
        };
        let Some(given) = bench.operation.get_work(&self.worker, &request)? else {
            return Ok(Some(self));
        };
        for assignment in &given {
            let Assignment {
                unit,
                attempt,
                work_spec,
                name,
                ..
            } = assignment;
            bench.handed_out.remember(*unit, *attempt, work_spec, name);
        }
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
        Ok(None)
    }
}

/// The lease that a worker gets with a unit. What is out of bounds becomes the default, not the bound
/// (docs/protocol.md, "Constants").
fn lease_to_begin(seconds: f64) -> Duration {
    if seconds < LEASE_SECONDS_MIN {
        LEASE_DEFAULT
    } else {
        bounded_lease(seconds)
    }
}

fn bounded_lease(seconds: f64) -> Duration {
    if seconds > LEASE_MAX.as_secs_f64() {
        LEASE_DEFAULT
    } else {
        duration_from_seconds(seconds)
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
    out: &mut Vec<u8>,
) -> Result<()> {
    let spec = call.params.get("work_spec_name").name()?;
    let unit = call.params.get("work_unit_key").unit_name()?;
    let options = Options::read(call.params.get("options"))?;
    let outcome = read_report(options).and_then(|report| {
        let handed_out = &call.session.handed_out;
        call.operation.report(handed_out, &spec, &unit, &report)
    });
    match call.operation.chained.last_slice {
        Some(last) => {
            call.go_on_with(Steps::Chain(last));
            Ok(())
        }
        None => write_outcome(out, outcome),
    }
}

/// Adds a slice of an output. False if there is more to be added until the slice `last` has been.
pub(super) fn chain_until<S: Storage>(
    last: OutputSliceId,
    operation: &mut Operation<'_, S>,
) -> Result<bool> {
    // Those of others come first, and the daemon takes some by itself.
    Ok(operation.chain_slice()?.is_none_or(|taken| taken >= last))
}

/// Many updates in one call: all are taken in order, and each has its own answer.
pub(super) fn update_work_units<S: Storage>(
    call: &mut Call<'_, S>,
    out: &mut Vec<u8>,
) -> Result<()> {
    let spec = call.params.get("work_spec_name").name()?;
    let known = call.operation.work_spec(&spec).map(|_| ());
    if answer_in_band(out, Nothing::Null, known)?.is_none() {
        return Ok(());
    }
    call.listed(spec, Action::Update, call.params.get("updates"), out)
}

/// Writes how an update ended.
pub(super) fn write_outcome(out: &mut Vec<u8>, outcome: Result<Outcome>) -> Result<()> {
    match answer_in_band(out, Nothing::False, outcome)? {
        Some(Outcome::Accepted) => true_pair(out),
        Some(Outcome::Refused(reason)) => failed_pair(out, Nothing::False, &reason),
        None => {}
    }
    Ok(())
}

/// What is reported on a unit.
///
/// # Errors
/// `Refused` if nothing is; `Invalid`.
pub(super) fn read_report(options: Options<'_>) -> Result<Report<'_>> {
    let lease = read_lease(options.get("lease_time"))?;
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

/// The lease that a report asks for. Zero and less give the unit back.
fn read_lease(lease_time: Param<'_>) -> Result<Option<Lease>> {
    Ok(lease_time.optional_number()?.map(|seconds| {
        if seconds <= 0.0 {
            Lease::Over
        } else {
            Lease::For(bounded_lease(seconds))
        }
    }))
}
