//! The model's reports: the tables of docs/protocol.md, "Reports" and "Late reports", and "Chaining".

use super::answer::{Answer, Failure, encoded};
use super::model::{Addition, Model, Unit};
use super::operations::{Report, Subject};
use super::scheduling::Assignment;
use coordinated::clock::Timestamp;
use coordinated::coordinate::{
    AttemptStatus as Attempt, IfExists, LEASE_DEFAULT, LEASE_MAX, Lease, Name, ReportKind,
    RetryPolicy, UnitStatus,
};
use serde_cbor::Value;
use std::time::Duration;

/// What a connection remembers: the last few units that were handed out on it, the oldest first.
#[derive(Default)]
pub struct Memory {
    pub handed_out: Vec<Assignment>,
}

impl Memory {
    pub fn remember(&mut self, given: &[Assignment], limit: usize) {
        self.handed_out.extend_from_slice(given);
        let too_many = self.handed_out.len().saturating_sub(limit);
        self.handed_out.drain(..too_many);
    }
}

/// A dictionary with another traceback.
pub fn with_traceback(data: &[u8], traceback: &str) -> Vec<u8> {
    let Ok(Value::Map(mut entries)) = serde_cbor::from_slice(data) else {
        panic!("the data are no map");
    };
    entries.remove(&Value::Text("traceback".to_owned()));
    // Maps here have one key at the most, which comes first.
    let mut changed = vec![0xa1 + u8::try_from(entries.len()).expect("few")];
    for (key, value) in &entries {
        changed.extend(serde_cbor::to_vec(key).expect("encoded"));
        changed.extend(serde_cbor::to_vec(value).expect("encoded"));
    }
    let text = |text: &str| serde_cbor::to_vec(&Value::Text(text.into())).expect("encoded");
    changed.extend([text("traceback"), text(traceback)].concat());
    changed
}

/// The value of a key in a dictionary.
pub fn field(data: &[u8], key: &str) -> Option<Value> {
    let Ok(Value::Map(entries)) = serde_cbor::from_slice(data) else {
        return None;
    };
    let is_key = |candidate: &Value| match candidate {
        Value::Text(text) => text == key,
        Value::Bytes(bytes) => bytes == key.as_bytes(),
        _ => false,
    };
    entries
        .into_iter()
        .find(|(candidate, _)| is_key(candidate))
        .map(|(_, value)| value)
}

impl Model {
    pub fn report(&mut self, memory: &Memory, subject: &Subject, report: &Report) -> Answer {
        let Subject {
            spec,
            name,
            attempt,
        } = subject;
        let (now, id) = (self.now, self.new_id());
        let Some(of_spec) = self.specs.get_mut(spec) else {
            return Answer::Failed(Failure::NoSuchWorkSpec);
        };
        let (then, retry) = (of_spec.meta.then.clone(), of_spec.meta.retry);
        let Some(unit) = of_spec.units.get_mut(name) else {
            return Answer::Failed(Failure::NoSuchWorkUnit);
        };
        let before = unit.status();
        let index = |id| unit.attempts.iter().position(|attempt| attempt.id == id);
        let own = match (attempt, &report.worker) {
            (Some(token), _) => match index(token.in_model) {
                Some(own) => Some(own),
                None => return Answer::Failed(Failure::Refused),
            },
            (None, Some(worker)) => {
                let is_own =
                    |attempt: &super::model::Attempt| attempt.worker.as_ref() == Some(worker);
                unit.attempts.iter().rposition(is_own)
            }
            (None, None) => {
                let here = memory
                    .handed_out
                    .iter()
                    .rev()
                    .filter(|given| given.unit == unit.id);
                here.filter_map(|given| index(given.attempt)).next()
            }
        };
        let had_namesake = match &report.worker {
            Some(worker) => {
                let names = (worker.clone(), spec.clone(), name.clone());
                let given = self.by_worker.get(&names);
                given.is_some_and(|given| *given != unit.id)
            }
            None => memory
                .handed_out
                .iter()
                .any(|given| given.unit != unit.id && given.spec == *spec && given.name == *name),
        };
        if own.is_none() && before == UnitStatus::Pending && had_namesake {
            return Answer::Failed(Failure::Refused);
        }
        let is_named = attempt.is_some() || report.worker.is_some();
        let has_lost_it = own.is_some_and(|own| unit.active != Some(own));
        let counts = match own {
            _ if unit.cancelled.is_some() && (before == UnitStatus::Failed || !has_lost_it) => {
                unit.report_on_cancelled(own.is_some(), is_named, report, now, id)
            }
            Some(own) if unit.active != Some(own) => unit.report_late(own, report, retry, now, id),
            _ => {
                unit.report_in_turn(own.is_some(), report, retry, now, id);
                true
            }
        };
        let ended = unit.ended.take();
        let is_finished = before != UnitStatus::Finished && unit.status() == UnitStatus::Finished;
        let (output, priority) = (field(unit.shown_data(), "output"), unit.priority);
        of_spec.settle();
        if let (true, Some(then), Some(output)) = (is_finished, then, output) {
            let then = String::from_utf8_lossy(then.bytes());
            self.add(&then, additions(&output, priority), IfExists::Reset);
        }
        if let Some(has_failed) = ended {
            let data = report.data.as_ref().map(encoded);
            let of_spec = self.specs.get_mut(spec).expect("a known spec");
            of_spec.count_outcome(has_failed, data.as_deref(), now);
        }
        if counts {
            Answer::Done
        } else {
            Answer::Failed(Failure::Refused)
        }
    }
}

impl Unit {
    /// The table of "Reports".
    fn report_in_turn(
        &mut self,
        by_holder: bool,
        report: &Report,
        retry: Option<RetryPolicy>,
        now: Timestamp,
        id: u64,
    ) {
        use UnitStatus as Is;
        let gives_back = report.lease == Some(Lease::Over);
        match (self.status(), report.kind) {
            (Is::Available | Is::Delayed, ReportKind::Available | ReportKind::Renew) => {
                self.keep_waiting(report, now);
            }
            (Is::Available | Is::Delayed, ReportKind::Pending) if gives_back => {
                self.keep_waiting(report, now);
            }
            (Is::Pending, ReportKind::Available) => self.give_back(by_holder, report, now),
            (Is::Pending, ReportKind::Pending | ReportKind::Renew) if gives_back => {
                self.give_back(by_holder, report, now);
            }
            (Is::Pending, ReportKind::Pending | ReportKind::Renew) => self.renew(report, now),
            (Is::Finished | Is::Failed, ReportKind::Available) => self.retry(report, now),
            (Is::Finished | Is::Failed, ReportKind::Renew) | (Is::Finished, ReportKind::Failed) => {
            }
            (Is::Finished | Is::Failed, ReportKind::Pending) if gives_back => {}
            (Is::Finished, ReportKind::Finished) | (Is::Failed, ReportKind::Failed) => {
                self.set_active_data(report)
            }
            (_, ReportKind::Pending) => {
                let lease = match report.lease {
                    Some(Lease::For(lease)) => lease,
                    _ => LEASE_DEFAULT,
                };
                self.open_attempt(id, report.worker.clone(), now.plus(lease));
                self.set_active_data(report);
            }
            (Is::Available | Is::Delayed, ReportKind::Failed)
                if self.waits_for_retry() && !report.is_final => {}
            (_, ReportKind::Finished) => self.complete(Attempt::Finished, report, now, id),
            (_, ReportKind::Failed) => {
                self.complete(Attempt::Failed, report, now, id);
                self.count_failure(report, retry, now);
            }
        }
    }

    /// The table of "Cancelling". True if the report counts.
    fn report_on_cancelled(
        &mut self,
        by_worker: bool,
        is_named: bool,
        report: &Report,
        now: Timestamp,
        id: u64,
    ) -> bool {
        if self.status() == UnitStatus::Failed {
            let is_retry = report.kind == ReportKind::Available && !(by_worker && is_named);
            if is_retry {
                self.retry(report, now);
            }
            return is_retry;
        }
        let lets_go = report.lease == Some(Lease::Over);
        let data = report.data.as_ref().map(encoded);
        match report.kind {
            ReportKind::Finished => {
                self.cancelled = None;
                self.complete(Attempt::Finished, report, now, id);
            }
            ReportKind::Available if !by_worker => {
                self.cancelled = None;
                self.give_back(false, report, now);
            }
            ReportKind::Renew | ReportKind::Pending if !lets_go => {
                self.set_active_data(report);
                return false;
            }
            _ => self.fail_cancelled(data.as_deref(), now),
        }
        true
    }

    fn waits_for_retry(&self) -> bool {
        let waits = matches!(self.status(), UnitStatus::Available | UnitStatus::Delayed);
        let failed = |last: &super::model::Attempt| last.status == Attempt::Failed;
        waits && self.failures > 0 && self.attempts.last().is_some_and(failed)
    }

    fn count_failure(&mut self, report: &Report, retry: Option<RetryPolicy>, now: Timestamp) {
        let Some(retry) = retry else { return };
        self.failures += 1;
        if report.is_final || self.failures > retry.retries {
            return;
        }
        let mut seconds = retry.delay.as_secs_f64();
        for _ in 1..self.failures {
            seconds *= retry.backoff;
        }
        let by_spec = Duration::from_secs_f64(seconds).min(retry.delay_max);
        self.not_before = Some(now.plus(report.delay.unwrap_or(by_spec)));
        self.make_available(now);
    }

    /// The table of "Late reports", its rows from the top. True if the report counts.
    fn report_late(
        &mut self,
        own: usize,
        report: &Report,
        retry: Option<RetryPolicy>,
        now: Timestamp,
        id: u64,
    ) -> bool {
        let status = self.status();
        let is_completed = status.is_completed();
        if is_completed && report.kind == ReportKind::Available {
            self.retry(report, now);
            return true;
        }
        if matches!(
            self.attempts[own].status,
            Attempt::Finished | Attempt::Failed
        ) {
            let is_last = own + 1 == self.attempts.len();
            if is_last && self.waits_for_retry() {
                match report.kind {
                    ReportKind::Finished => {
                        self.active = Some(own);
                        self.complete(Attempt::Finished, report, now, id);
                    }
                    ReportKind::Available | ReportKind::Failed => {
                        self.report_in_turn(false, report, retry, now, id);
                    }
                    ReportKind::Pending | ReportKind::Renew => {}
                }
            }
            return true;
        }
        let wants_unit = matches!(report.kind, ReportKind::Pending | ReportKind::Renew);
        let lets_go = !wants_unit || report.lease == Some(Lease::Over);
        let attempt = &mut self.attempts[own];
        attempt.data = report.data.as_ref().map(encoded).or(attempt.data.take());
        attempt.held &= !lets_go;
        if own < self.superseded {
            return false;
        }
        match status {
            UnitStatus::Pending => false,
            UnitStatus::Finished | UnitStatus::Failed => {
                matches!(report.kind, ReportKind::Finished | ReportKind::Failed)
            }
            UnitStatus::Available | UnitStatus::Delayed => {
                if report.kind == ReportKind::Available || wants_unit && lets_go {
                    self.wait(report.delay, now);
                } else {
                    let attempt = &mut self.attempts[own];
                    if attempt.status == Attempt::Expired && attempt.end >= Some(attempt.expiration)
                    {
                        self.lost = self.lost.saturating_sub(1);
                    }
                    self.queued.was_reactivated = true;
                    attempt.status = Attempt::Pending;
                    attempt.end = None;
                    attempt.held = attempt.worker.is_some();
                    attempt.expiration = attempt
                        .expiration
                        .clamp(now.plus(LEASE_DEFAULT), now.plus(LEASE_MAX));
                    self.active = Some(own);
                    self.report_in_turn(true, report, retry, now, id);
                }
                true
            }
        }
    }

    fn wait(&mut self, delay: Option<Duration>, now: Timestamp) {
        if let Some(delay) = delay {
            self.not_before = Some(now.plus(delay));
            self.make_available(now);
        }
    }

    /// A unit that nobody has: the data become its own, a delay begins anew.
    fn keep_waiting(&mut self, report: &Report, now: Timestamp) {
        self.set_own_data(report);
        self.wait(report.delay, now);
    }

    /// Of a pending unit. Its worker is busy with it still, unless it was that worker who said so.
    fn give_back(&mut self, by_holder: bool, report: &Report, now: Timestamp) {
        self.set_active_data(report);
        let active = self.active.expect("the attempt of a pending unit");
        let attempt = &mut self.attempts[active];
        attempt.finish_as(
            if report.delay.is_some() {
                Attempt::Retryable
            } else {
                Attempt::Expired
            },
            now,
        );
        attempt.held &= !by_holder;
        self.not_before = report
            .delay
            .map(|delay| now.plus(delay))
            .or(self.not_before);
        self.make_available(now);
    }

    fn retry(&mut self, report: &Report, now: Timestamp) {
        self.set_own_data(report);
        self.cancelled = None;
        self.not_before = report.delay.map(|delay| now.plus(delay));
        self.start_over();
        self.make_available(now);
    }

    fn renew(&mut self, report: &Report, now: Timestamp) {
        self.set_active_data(report);
        let active = self.active.expect("the attempt of a pending unit");
        let attempt = &mut self.attempts[active];
        if let Some(Lease::For(lease)) = report.lease {
            attempt.expiration = now.plus(lease);
        }
        if let Some(worker) = &report.worker {
            attempt.worker = Some(worker.clone());
            attempt.held = true;
        }
    }

    fn complete(&mut self, status: Attempt, report: &Report, now: Timestamp, id: u64) {
        if self.active.is_none() {
            self.open_attempt(id, report.worker.clone(), now);
        }
        let active = self.active.expect("an attempt");
        self.attempts[active].finish_as(status, now);
        self.ended = Some(status == Attempt::Failed);
        self.set_active_data(report);
    }

    fn set_own_data(&mut self, report: &Report) {
        if let Some(data) = &report.data {
            self.data = encoded(data);
        }
    }

    fn set_active_data(&mut self, report: &Report) {
        if let (Some(data), Some(active)) = (&report.data, self.active) {
            self.attempts[active].data = Some(encoded(data));
        }
    }
}

/// The units that an output names. What is malformed is left out.
fn additions(output: &Value, priority: f64) -> Vec<Addition> {
    match output {
        Value::Map(entries) => {
            let pairs = entries.iter();
            pairs
                .filter_map(|(key, data)| addition(key, data, None, None, priority))
                .collect()
        }
        Value::Array(items) => items
            .iter()
            .filter_map(|item| match item {
                Value::Array(fields) => match &fields[..] {
                    [key, data] => addition(key, data, None, None, priority),
                    [key, data, meta] => addition(key, data, Some(meta), None, priority),
                    [key, data, meta, stated] => {
                        addition(key, data, Some(meta), Some(stated), priority)
                    }
                    _ => None,
                },
                key => addition(key, &Value::Null, None, None, priority),
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn addition(
    key: &Value,
    data: &Value,
    meta: Option<&Value>,
    stated: Option<&Value>,
    inherited: f64,
) -> Option<Addition> {
    let Value::Text(name) = key else { return None };
    let data = match data {
        Value::Null => b"\xa0".to_vec(),
        Value::Map(_) => serde_cbor::to_vec(data).expect("encoded"),
        _ => return None,
    };
    let mut addition = Addition {
        name: Name::from_text(name),
        data,
        priority: inherited,
        delay: None,
        group: None,
    };
    match meta {
        None | Some(Value::Null) => {}
        Some(Value::Map(entries)) => {
            for (key, value) in entries {
                match key {
                    Value::Text(key) if key == "priority" => addition.priority = number(value)?,
                    Value::Text(key) if key == "delay" => {
                        addition.delay = Some(Duration::from_secs_f64(number(value)?));
                    }
                    Value::Text(key) if key == "group" => {
                        let Value::Text(group) = value else {
                            return None;
                        };
                        addition.group = Some(group.clone());
                    }
                    _ => {}
                }
            }
        }
        Some(_) => return None,
    }
    match stated {
        None | Some(Value::Null) => {}
        Some(stated) => addition.priority = number(stated)?,
    }
    Some(addition)
}

#[expect(clippy::cast_precision_loss, reason = "the numbers here are small")]
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(value) => Some(*value as f64),
        Value::Float(value) => Some(*value),
        _ => None,
    }
}
