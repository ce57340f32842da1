//! What a party may ask for, and what that does to the part of the daemon's state that is its own.
//!
//! A party is one connection with a work spec, a worker's name and a tree of locks of its own, so what
//! its requests do follows from those before them alone. One work spec is shared: which of its units a
//! party gets, only the answer tells.

use std::collections::{BTreeMap, BTreeSet};
use test_support::{Value, diag};

/// Leases, workers and locks outlive the whole test, however slow it is.
const LONG: u64 = 80_000;

/// The shared work spec. It takes its groups in turn, and gives fewer units than the parties ask for.
pub const SHARED: &str =
    "{'name': 'shared', 'then': 'next', 'fair': true, 'max_rate': '2000/s', 'max_rate_burst': 200}";

/// How many units of it may be handed out in a second, and how many at once.
pub const SHARED_RATE: (u64, u64) = (2_000, 200);

/// How many groups its units have.
const GROUPS: u64 = 3;

/// A work spec whose units the daemon makes, one each second.
pub const TICKS: &str = "{'name': 'ticks', 'schedule': '* * * * * *', 'overlap': 'queue'}";

/// A unit's status, by the numbers in the file.
pub type Status = u8;
pub const AVAILABLE: Status = 1;
pub const DELAYED: Status = 2;
pub const PENDING: Status = 3;
pub const FINISHED: Status = 4;
pub const FAILED: Status = 5;

/// All that the daemon should know of one party. Numbers stand for what is made from them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// The version in the definition of its work spec.
    pub version: u64,
    pub units: BTreeMap<String, Unit>,
    pub locks: BTreeSet<String>,
    /// The number in its worker's mode and environment, if the worker is registered.
    pub worker: Option<u64>,
    /// How many units it has added to the shared work spec.
    pub added: u64,
    /// The units of the shared work spec that it got, whoever added them.
    pub shared: BTreeMap<String, Status>,
    /// How many units it has added to its work spec that halts when one fails.
    pub halting_added: u64,
    /// How many of them have failed.
    pub halting_failed: u64,
    /// That work spec is paused.
    pub is_halted: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Unit {
    pub status: Status,
    pub priority: i64,
    pub data: u64,
    /// The data of the active attempt.
    pub left: Option<u64>,
    pub attempts: u64,
    /// Since it was added or retried. The first failure is followed by another try.
    pub failures: u64,
    /// It was cancelled while it was pending, or has failed for it.
    pub cancelled: bool,
}

#[derive(Clone, Copy, Debug)]
pub enum Wish {
    Finish,
    Fail,
    FailForGood,
    Renew,
    /// Makes it available again; a retry, if it was completed.
    GiveBack,
    Delay,
}

#[derive(Clone, Debug)]
pub enum Request {
    SetSpec(u64),
    /// Keys, and the number for data; the priority is its last digit.
    Add(Vec<(String, u64)>),
    Take(usize),
    Report(Vec<(String, Wish, u64)>),
    Delete(Vec<String>),
    /// Those that run get a grace that never ends here.
    Cancel(Vec<String>),
    DeleteCompleted,
    Adjust(Vec<String>, i64),
    Lock(Vec<String>),
    Unlock(Vec<String>),
    Heartbeat(u64),
    Unregister,
    AddShared(u64),
    /// Keys with the attempts that are told.
    ReportShared(Vec<(String, Option<u64>)>, Status),
    TakeShared(usize),
    AddHalting(u64),
    /// Fails the next unit of the work spec that halts.
    FailHalting,
    Resume,
}

/// A dictionary of 2 to 20 KB that can't be mistaken for another one.
pub fn data(number: u64) -> Value {
    let size = 2_000 + (number * 7_919) % 18_000;
    let bytes = (0..size).map(|i| (number + i) as u8).collect();
    Value::Map(vec![
        (Value::bytes("number"), Value::Unsigned(number)),
        (Value::bytes("bytes"), Value::Bytes(bytes)),
    ])
}

/// What a unit with these data has once it has failed as cancelled.
pub fn data_of_cancelled(number: u64) -> Value {
    let Value::Map(mut entries) = data(number) else {
        panic!("not a map")
    };
    entries.push((Value::bytes("traceback"), Value::bytes(CANCELLED)));
    Value::Map(entries)
}

/// What those learn who report on a cancelled unit.
const CANCELLED: &str = "cancelled: why";

pub fn definition(party: usize, version: u64) -> Value {
    diag(&format!(
        "{{'name': 'own-{party}', 'version': {version}, 'retries': 1}}"
    ))
}

pub fn halting_definition(party: usize) -> Value {
    diag(&format!(
        "{{'name': 'halting-{party}', 'halt_after': {{'failures': 1}}}}"
    ))
}

fn halting_key(index: u64) -> String {
    format!("h{index:07}")
}

pub fn shared_key(party: usize, index: u64) -> String {
    format!("p{party}-{index:07}")
}

/// Some requests for work wait for a moment: for nothing, or for what another party adds.
fn wait(max_units: usize) -> String {
    let millis = [0, 1, 10][max_units % 3];
    format!("'wait': {}", f64::from(millis) / 1_000.0)
}

fn strings(strings: &[String]) -> Value {
    Value::Array(strings.iter().map(Value::bytes).collect())
}

impl Request {
    /// The method, and its parameters.
    pub fn call(&self, party: usize, before: &State) -> (&'static str, Value) {
        let own = Value::bytes(format!("own-{party}"));
        let worker = Value::bytes(format!("w-{party}"));
        let shared = || Value::bytes("shared");
        let halting = || Value::bytes(format!("halting-{party}"));
        let paths = |labels: &[String]| {
            let path = |label| Value::Array(vec![Value::bytes(format!("lock-{party}")), label]);
            Value::Array(labels.iter().map(|l| path(Value::bytes(l))).collect())
        };
        let options = |text: String| diag(&text);
        let (method, params) = match self {
            Request::SetSpec(version) => ("set_work_spec", vec![definition(party, *version)]),
            Request::Add(units) => {
                let item = |(key, number): &(String, u64)| {
                    let meta = diag(&format!("{{'priority': {}}}", number % 10));
                    Value::Array(vec![Value::bytes(key), data(*number), meta])
                };
                let items = units.iter().map(item).collect();
                ("add_work_units", vec![own, Value::Array(items)])
            }
            Request::Take(max) => {
                let only = format!("'work_spec_names': ['own-{party}'], {}", wait(*max));
                let wishes = format!("{{'max_jobs': {max}, 'lease_time': {LONG}, {only}}}");
                ("get_work", vec![worker, options(wishes)])
            }
            Request::TakeShared(max) => {
                let only = format!(
                    "'work_spec_names': ['shared'], 'attempts': true, {}",
                    wait(*max)
                );
                let wishes = format!("{{'max_jobs': {max}, 'lease_time': {LONG}, {only}}}");
                ("get_work", vec![worker, options(wishes)])
            }
            Request::Report(reports) => {
                let report = |(key, wish, number): &(String, Wish, u64)| {
                    let report = before.report(*wish, key, *number);
                    Value::Array(vec![Value::bytes(key), with_worker(report, &worker)])
                };
                many_or_one(own, reports.iter().map(report).collect())
            }
            Request::ReportShared(keys, status) => {
                let report = |(key, attempt): &(String, Option<u64>)| {
                    let attempt = attempt.map_or("null".to_owned(), |attempt| attempt.to_string());
                    let output = format!("'attempt': {attempt}, 'data': {{'output': ['{key}']}}");
                    let wish = format!("{{'status': {status}, {output}}}");
                    Value::Array(vec![Value::bytes(key), with_worker(options(wish), &worker)])
                };
                many_or_one(shared(), keys.iter().map(report).collect())
            }
            Request::Cancel(keys) => {
                let mut how = vec![(Value::bytes("work_unit_keys"), strings(keys))];
                let more = format!("{{'reason': 'why', 'grace': {LONG}}}");
                let Value::Map(more) = options(more) else {
                    panic!("not a map")
                };
                how.extend(more);
                ("cancel_work_units", vec![own, Value::Map(how)])
            }
            Request::Delete(keys) => {
                let which = Value::Map(vec![(Value::bytes("work_unit_keys"), strings(keys))]);
                ("del_work_units", vec![own, which])
            }
            Request::DeleteCompleted => ("del_work_units", vec![own, diag("{'state': [4, 5]}")]),
            Request::Adjust(keys, by) => {
                let options = Value::Map(vec![
                    (Value::bytes("work_unit_keys"), strings(keys)),
                    (Value::bytes("adjustment"), diag(&by.to_string())),
                ]);
                ("prioritize_work_units", vec![own, options])
            }
            Request::Lock(labels) => {
                let time = Value::Unsigned(LONG);
                ("lock", vec![worker, time, paths(labels)])
            }
            Request::Unlock(labels) => ("unlock", vec![worker, paths(labels)]),
            Request::Heartbeat(number) => {
                let mode = Value::bytes(number.to_string());
                let time = Value::Unsigned(LONG);
                let params = vec![worker, mode, time, data(*number), Value::Null];
                ("worker_heartbeat", params)
            }
            Request::Unregister => ("worker_unregister", vec![worker]),
            Request::AddShared(count) => {
                let unit = |index| {
                    let key = Value::bytes(shared_key(party, index));
                    let group = diag(&format!("{{'group': 'g{}'}}", index % GROUPS));
                    Value::Array(vec![key, diag(&format!("{{'index': {index}}}")), group])
                };
                let units = (before.added..before.added + count).map(unit).collect();
                ("add_work_units", vec![shared(), Value::Array(units)])
            }
            Request::AddHalting(count) => {
                let unit = |index| {
                    let key = Value::bytes(halting_key(index));
                    Value::Array(vec![key, diag("{}")])
                };
                let all = before.halting_added..before.halting_added + count;
                let units = Value::Array(all.map(unit).collect());
                ("add_work_units", vec![halting(), units])
            }
            Request::FailHalting => {
                let key = Value::bytes(halting_key(before.halting_failed));
                let params = vec![halting(), key, diag("{'status': 5}")];
                ("update_work_unit", params)
            }
            Request::Resume => ("control_work_spec", vec![halting(), diag("{'status': 1}")]),
        };
        (method, Value::Array(params))
    }

    /// True if it is a report on one unit, which was cancelled.
    pub fn is_refused(&self, before: &State) -> bool {
        match self {
            Request::Report(reports) => match &reports[..] {
                [(key, ..)] => before.units.get(key).is_some_and(|unit| unit.cancelled),
                _ => false,
            },
            _ => false,
        }
    }

    /// What the request does, and what it must be answered. Of `TakeShared` nobody can say.
    pub fn apply(&self, party: usize, state: &mut State) -> Value {
        let mut result = Value::Bool(true);
        match self {
            Request::SetSpec(version) => state.version = *version,
            Request::Add(units) => {
                for (key, number) in units {
                    let attempts = state.units.get(key).map_or(0, |unit| unit.attempts);
                    let unit = Unit {
                        status: AVAILABLE,
                        priority: (number % 10) as i64,
                        data: *number,
                        left: None,
                        attempts,
                        failures: 0,
                        cancelled: false,
                    };
                    state.units.insert(key.clone(), unit);
                }
            }
            Request::Take(max) => {
                let mut available: Vec<(&String, &mut Unit)> = state
                    .units
                    .iter_mut()
                    .filter(|(_, unit)| unit.status == AVAILABLE)
                    .collect();
                // A stable sort: equal ones stay in the order of their keys.
                available.sort_by_key(|(_, unit)| -unit.priority);
                let taken = available.into_iter().take(*max).map(|(key, unit)| {
                    unit.status = PENDING;
                    unit.attempts += 1;
                    let own = Value::bytes(format!("own-{party}"));
                    Value::tuple(vec![own, Value::bytes(key), data(unit.data)])
                });
                result = Value::Array(taken.collect());
            }
            Request::Report(reports) => {
                let mut outcome = |(key, wish, number): &(String, Wish, u64)| {
                    let unit = state.units.get_mut(key).expect("a unit that is there");
                    match unit.take_report(*wish, *number) {
                        true => diag("[true, null]"),
                        false => diag(&format!("[false, '{CANCELLED}']")),
                    }
                };
                let mut outcomes: Vec<Value> = reports.iter().map(&mut outcome).collect();
                if outcomes.len() == 1 {
                    return outcomes.remove(0);
                }
                result = Value::Array(outcomes);
            }
            Request::ReportShared(keys, status) => {
                for (key, _) in keys {
                    state.shared.insert(key.clone(), *status);
                }
                result = each_is_done(keys.len());
            }
            Request::Delete(keys) => {
                let gone = keys.iter().filter(|key| state.units.remove(*key).is_some());
                result = Value::Unsigned(gone.count() as u64);
            }
            Request::Cancel(keys) => {
                let (mut failed, mut running) = (0, 0);
                for key in keys {
                    let Some(unit) = state.units.get_mut(key) else {
                        continue;
                    };
                    match unit.status {
                        PENDING => running += 1,
                        AVAILABLE | DELAYED => {
                            failed += 1;
                            unit.attempts += 1;
                            unit.fail_cancelled(None);
                        }
                        _ => continue,
                    }
                    unit.cancelled = true;
                }
                result = diag(&format!("{{'failed': {failed}, 'running': {running}}}"));
            }
            Request::DeleteCompleted => {
                let before = state.units.len();
                state.units.retain(|_, unit| unit.status < FINISHED);
                result = Value::Unsigned((before - state.units.len()) as u64);
            }
            Request::Adjust(keys, by) => {
                for key in keys {
                    state
                        .units
                        .entry(key.clone())
                        .and_modify(|unit| unit.priority += by);
                }
            }
            Request::Lock(labels) => state.locks.extend(labels.iter().cloned()),
            Request::Unlock(labels) => labels.iter().for_each(|label| {
                state.locks.remove(label);
            }),
            Request::Heartbeat(number) => state.worker = Some(*number),
            Request::Unregister => state.worker = None,
            Request::AddShared(count) => state.added += count,
            Request::TakeShared(_) => {}
            Request::AddHalting(count) => state.halting_added += count,
            Request::FailHalting => {
                state.halting_failed += 1;
                state.is_halted = true;
            }
            Request::Resume => state.is_halted = false,
        }
        Value::Array(vec![result, Value::Null])
    }
}

impl Unit {
    /// False if the report is refused.
    fn take_report(&mut self, wish: Wish, number: u64) -> bool {
        if self.cancelled && (self.status == FAILED || !matches!(wish, Wish::Finish)) {
            let is_pending = self.status == PENDING;
            match wish {
                Wish::Renew if is_pending => self.left = Some(number),
                Wish::Fail | Wish::FailForGood if is_pending => self.fail_cancelled(Some(number)),
                Wish::GiveBack | Wish::Delay if is_pending => self.fail_cancelled(self.left),
                _ => {}
            }
            return is_pending && !matches!(wish, Wish::Renew);
        }
        self.cancelled = false;
        match wish {
            Wish::Finish => (self.status, self.left) = (FINISHED, Some(number)),
            Wish::Fail | Wish::FailForGood => {
                self.failures += 1;
                (self.status, self.left) = match (wish, self.failures) {
                    (Wish::Fail, 1) => (AVAILABLE, None),
                    _ => (FAILED, Some(number)),
                };
            }
            Wish::Renew => self.left = Some(number),
            Wish::GiveBack => {
                if self.status > PENDING {
                    (self.data, self.failures) = (number, 0);
                }
                (self.status, self.left) = (AVAILABLE, None);
            }
            Wish::Delay => (self.status, self.left) = (DELAYED, None),
        }
        true
    }

    /// With the data that its worker has left, or its own.
    fn fail_cancelled(&mut self, left: Option<u64>) {
        self.status = FAILED;
        self.left = Some(left.unwrap_or(self.data));
    }
}

impl State {
    /// The options of a report.
    fn report(&self, wish: Wish, key: &str, number: u64) -> Value {
        let (mut entries, with_data) = match wish {
            Wish::Finish => (vec![("status", 4)], true),
            Wish::Fail => (vec![("status", 5)], true),
            Wish::FailForGood => (vec![("status", 5), ("final", 1)], true),
            Wish::Renew => (vec![("status", 3), ("lease_time", LONG)], true),
            Wish::GiveBack => (vec![("status", 1)], self.units[key].status > PENDING),
            Wish::Delay => (vec![("status", 1), ("delay", LONG)], false),
        };
        let mut options: Vec<(Value, Value)> = entries
            .drain(..)
            .map(|(key, number)| (Value::bytes(key), Value::Unsigned(number)))
            .collect();
        if with_data {
            options.push((Value::bytes("data"), data(number)));
        }
        Value::Map(options)
    }
}

fn with_worker(options: Value, worker: &Value) -> Value {
    let Value::Map(mut entries) = options else {
        panic!("not a map: {options}")
    };
    entries.push((Value::bytes("worker_id"), worker.clone()));
    Value::Map(entries)
}

/// Reports `[key, options]` on units of a work spec.
fn many_or_one(spec: Value, mut reports: Vec<Value>) -> (&'static str, Vec<Value>) {
    if reports.len() > 1 {
        return ("update_work_units", vec![spec, Value::Array(reports)]);
    }
    let report = reports.remove(0);
    let params = vec![spec, report.item(0).clone(), report.item(1).clone()];
    ("update_work_unit", params)
}

fn each_is_done(count: usize) -> Value {
    match count {
        1 => Value::Bool(true),
        _ => Value::Array(vec![diag("[true, null]"); count]),
    }
}
