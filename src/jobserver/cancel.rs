//! Cancelling work units.

use super::call::{Call, Continuation, Progress};
use super::list::{ListAction, ListItems, call_on_list};
use super::params::{Options, Param, Params};
use super::reply::{FailedValue, ok_pair, write_text, write_time};
use crate::coordinate::storage::Storage;
use crate::coordinate::{
    Cancellation, CancellationInStatus, Cancelled, Error, LEASE_MAX, Name, Result, UnitStatus,
};
use crate::limits;
use coordinated_client::cbor::Writer;
use std::time::Duration;

/// How long the worker of a running unit may take to end it, unless the caller says otherwise: our workers learn of the
/// cancellation after some 20 s, and give a program 10 s to end.
const GRACE_DEFAULT: Duration = Duration::from_secs(30);

/// The statuses of units that can be cancelled.
const CANCELLABLE: [UnitStatus; 3] = [
    UnitStatus::Available,
    UnitStatus::Delayed,
    UnitStatus::Pending,
];

/// Why and how units are cancelled.
#[derive(Clone)]
struct Order {
    cancellation: Cancellation,
    grace: Duration,
}

pub(super) fn cancel_work_units<S: Storage>(
    call: &mut Call<'_, S>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let spec = params.get("work_spec_name").name()?;
    let options = Options::read(params.get("options"))?;
    let text = |name| {
        options
            .get(name)
            .optional_text(limits::CANCEL_TEXT_BYTES_MAX)
    };
    let order = Order {
        cancellation: Cancellation {
            reason: text("reason")?,
            by: text("by")?,
            at: call.operation.now,
        },
        grace: read_grace(&options.get("grace"))?,
    };
    let (all, names) = (options.get("all").is_true(), options.get("work_unit_keys"));
    let statuses = options.get("state").optional_statuses()?;
    let pass = match (all, names.item(), statuses) {
        (true, _, _) => call.operation.begin_cancellation(&spec, &CANCELLABLE),
        (_, Some(_), statuses) => {
            let action = CancelNamed {
                work_spec: spec,
                statuses,
                order,
                cancelled: Cancelled::default(),
            };
            return call_on_list(call, action, &names, out);
        }
        (_, None, Some(statuses)) => call.operation.begin_cancellation(&spec, &statuses),
        (_, None, None) => call.operation.work_spec(&spec).and_then(|_| {
            let problem =
                "no usable options to cancel_work_units: give work_unit_keys, state or all";
            Err(Error::Refused(problem.to_owned()))
        }),
    };
    match call.failures.write(out, FailedValue::Null, pass)? {
        Some(pass) => CancelInStatus { pass, order }.step(call, out),
        None => Ok(Progress::Done),
    }
}

fn read_grace(option: &Param<'_>) -> Result<Duration> {
    let Some(seconds) = option.optional_number()? else {
        return Ok(GRACE_DEFAULT);
    };
    let max = LEASE_MAX.as_secs_f64();
    match (0.0..=max).contains(&seconds) {
        true => Ok(Duration::from_secs_f64(seconds)),
        false => Err(option.error(format_args!(
            "expected a number of seconds from 0 to {max}, got {seconds}"
        ))),
    }
}

/// Cancels units by their names. If statuses are given, only units in one of these.
#[derive(Clone)]
struct CancelNamed {
    work_spec: Name,
    statuses: Option<Vec<UnitStatus>>,
    order: Order,
    cancelled: Cancelled,
}

impl<S: Storage> ListAction<S> for CancelNamed {
    const SLICE_LEN: usize = limits::SWEEP_CANCELLED;
    const FAILED: FailedValue = FailedValue::Null;

    fn take(&mut self, items: &mut ListItems<'_>, call: &mut Call<'_, S>) -> Result<()> {
        let names = items.names(limits::SWEEP_CANCELLED)?;
        self.cancelled += call.operation.cancel_work_units(
            &self.work_spec,
            &names,
            self.statuses.as_deref(),
            &self.order.cancellation,
            self.order.grace,
        )?;
        Ok(())
    }

    fn write_result(&self, _: usize, _: &[u8], out: &mut Vec<u8>) {
        write_cancelled(out, self.cancelled);
    }
}

/// Cancels all units in certain statuses.
#[derive(Clone)]
struct CancelInStatus {
    pass: CancellationInStatus,
    order: Order,
}

impl<S: Storage> Continuation<S> for CancelInStatus {
    fn step(&self, call: &mut Call<'_, S>, out: &mut Vec<u8>) -> Result<Progress<S>> {
        let Order {
            cancellation,
            grace,
        } = &self.order;
        let units_max = limits::SWEEP_CANCELLED;
        let pass = call
            .operation
            .cancel_some(&self.pass, cancellation, *grace, units_max);
        match call.failures.write(out, FailedValue::Null, pass)? {
            Some(pass) if pass.is_over() => write_cancelled(out, pass.cancelled()),
            Some(pass) => {
                let order = self.order.clone();
                return Ok(Progress::More(Box::new(Self { pass, order })));
            }
            None => {}
        }
        Ok(Progress::Done)
    }

    fn held(&self) -> usize {
        let Cancellation { reason, by, .. } = &self.order.cancellation;
        let texts = [reason, by].into_iter().flatten();
        texts.map(String::len).sum()
    }
}

fn write_cancelled(out: &mut Vec<u8>, cancelled: Cancelled) {
    ok_pair(out, |writer| {
        writer.map(2);
        writer.bytes(b"failed");
        writer.unsigned(cancelled.failed);
        writer.bytes(b"running");
        writer.unsigned(cancelled.running);
    });
}

/// Writes who cancelled a unit, when and why.
pub(super) fn write_cancellation(writer: &mut Writer<'_>, cancellation: &Cancellation) {
    writer.map(3);
    writer.bytes(b"reason");
    write_text(writer, cancellation.reason.as_deref());
    writer.bytes(b"by");
    write_text(writer, cancellation.by.as_deref());
    writer.bytes(b"at");
    write_time(writer, Some(cancellation.at));
}
