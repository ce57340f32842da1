//! The model: the rules of docs/protocol.md in plain collections, as slow and as plain as can be. It
//! has no index, no kept count and no queue: whatever is asked, it looks at everything.

use super::answer::{self, Answer, Failure, encoded};
use super::groups::{Groups, Queued};
use super::locks::Lock;
use super::operations::{Cancel, Json, Listing, Path, Which};
use super::workers::Worker;
use coordinated::clock::{ClockStep, Timestamp};
use coordinated::coordinate::{
    Added, AttemptStatus, Cancelled, Control, Counts, FailureRate, HaltAfter, IfExists, LEASE_MAX,
    MaxRate, Meta, Missed, Name, Order, Overlap, Pause, PriorityChange, Retention, RetryPolicy,
    Schedule, UnitStatus,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// The grace after a start that is the default.
const GRACE: Duration = Duration::from_secs(30);

#[derive(Clone)]
pub struct Model {
    pub now: Timestamp,
    pub specs: BTreeMap<String, Spec>,
    pub workers: BTreeMap<Name, Worker>,
    pub locks: BTreeMap<Path, Lock>,
    /// The unit that was last handed out to a worker under the names of its spec and its own.
    pub by_worker: BTreeMap<(Name, String, Name), u64>,
    /// Larger than all ids of units and attempts so far, also of those that were undone.
    pub last_id: u64,
}

#[derive(Clone)]
pub struct Spec {
    definition: Vec<u8>,
    pub meta: Meta,
    /// By name, in the form in which a unit was first added.
    pub units: BTreeMap<Name, Unit>,
    archived_finished: u64,
    archived_failed: u64,
    pub groups: Groups,
    /// When the bucket of `max_rate` is full.
    pub full_at: Option<Timestamp>,
    /// Of the attempts that count for `halt_after`, whether each has failed, the oldest first.
    pub outcomes: Vec<bool>,
}

#[derive(Clone)]
pub struct Unit {
    pub id: u64,
    pub data: Vec<u8>,
    pub priority: f64,
    pub not_before: Option<Timestamp>,
    /// The time of `not_before` has not come.
    pub delayed: bool,
    pub attempts: Vec<Attempt>,
    /// The attempt that decides the status.
    pub active: Option<usize>,
    /// So many attempts are from before the unit was added again.
    pub superseded: usize,
    /// So many attempts do not count towards `max_retries`.
    pub not_counted: usize,
    /// How many times it has failed, and lost a lease, since then.
    pub failures: u64,
    pub lost: u64,
    /// When it was cancelled, and why. It still runs, or has failed for it.
    pub cancelled: Option<(Timestamp, Option<&'static str>)>,
    pub queued: Queued,
    /// Whether an attempt has failed that has just ended.
    pub ended: Option<bool>,
}

#[derive(Clone)]
pub struct Attempt {
    pub id: u64,
    pub worker: Option<Name>,
    pub status: AttemptStatus,
    /// The worker is busy with it, maybe in vain.
    pub held: bool,
    pub end: Option<Timestamp>,
    pub expiration: Timestamp,
    pub data: Option<Vec<u8>>,
}

/// A unit to be added.
#[derive(Clone)]
pub struct Addition {
    pub name: Name,
    pub data: Vec<u8>,
    pub priority: f64,
    pub delay: Option<Duration>,
    pub group: Option<String>,
}

impl Unit {
    pub fn status(&self) -> UnitStatus {
        match self.active.map(|active| self.attempts[active].status) {
            Some(AttemptStatus::Pending) => UnitStatus::Pending,
            Some(AttemptStatus::Finished) => UnitStatus::Finished,
            Some(AttemptStatus::Failed) => UnitStatus::Failed,
            Some(other) => panic!("an active attempt is {other:?}"),
            None if self.delayed => UnitStatus::Delayed,
            None => UnitStatus::Available,
        }
    }

    /// What everybody sees: the data of the active attempt if it has some, or the unit's own.
    pub fn shown_data(&self) -> &[u8] {
        let of_attempt = self
            .active_attempt()
            .and_then(|active| active.data.as_ref());
        of_attempt.unwrap_or(&self.data)
    }

    pub fn active_attempt(&self) -> Option<&Attempt> {
        self.active.map(|active| &self.attempts[active])
    }

    pub fn start_over(&mut self) {
        self.not_counted = self.attempts.len();
        (self.failures, self.lost) = (0, 0);
    }

    pub fn make_available(&mut self, now: Timestamp) {
        self.active = None;
        self.not_before = self.not_before.filter(|time| *time > now);
        self.delayed = self.not_before.is_some();
        self.queued.is_anew = true;
    }

    /// The lease has run out. Too many of them fail the unit, and then the attempt has failed.
    fn lose_lease(&mut self, active: usize, max_lost: Option<u64>, now: Timestamp) {
        if self.cancelled.is_some() {
            self.fail_cancelled(None, now);
            return;
        }
        self.lost += u64::from(max_lost.is_some());
        if max_lost.is_none_or(|max| self.lost < max) {
            self.attempts[active].finish_as(AttemptStatus::Expired, now);
            self.make_available(now);
            return;
        }
        self.ended = Some(true);
        let leases = if self.lost == 1 { "lease" } else { "leases" };
        let traceback = format!("lost {} {leases}", self.lost);
        let data = super::reports::with_traceback(self.shown_data(), &traceback);
        self.attempts[active].finish_as(AttemptStatus::Failed, now);
        self.attempts[active].data = Some(data);
    }

    /// A unit that was cancelled fails with its active attempt. What its worker has reported stays above the message.
    pub fn fail_cancelled(&mut self, reported: Option<&[u8]>, now: Timestamp) {
        let (_, reason) = self.cancelled.expect("a unit that was cancelled");
        let message = reason.map_or("cancelled".to_owned(), |why| format!("cancelled: {why}"));
        let traceback = match reported.and_then(|data| super::reports::field(data, "traceback")) {
            Some(serde_cbor::Value::Text(told)) => format!("{told}\n{message}"),
            _ => message,
        };
        let data = reported.unwrap_or(self.shown_data());
        let data = super::reports::with_traceback(data, &traceback);
        let active = self.active.expect("an attempt");
        self.attempts[active].finish_as(AttemptStatus::Failed, now);
        self.attempts[active].data = Some(data);
    }

    /// True if it fails at once, false if it runs until the grace is over, `None` if there is nothing to cancel.
    fn cancel(&mut self, how: &Cancel, now: Timestamp, id: u64) -> Option<bool> {
        let mut end = now.plus(how.grace);
        match self.status() {
            UnitStatus::Finished | UnitStatus::Failed => return None,
            UnitStatus::Available | UnitStatus::Delayed => {
                self.cancelled = Some((now, how.reason));
                // The data that everybody sees are its own until the attempt is there.
                self.open_attempt(id, None, now);
                self.fail_cancelled(None, now);
                return Some(true);
            }
            UnitStatus::Pending => {}
        }
        let active = self.active.expect("the attempt of a pending unit");
        match self.cancelled {
            Some(_) => end = end.min(self.attempts[active].expiration),
            None => self.cancelled = Some((now, how.reason)),
        }
        self.attempts[active].expiration = end;
        if end <= now {
            self.fail_cancelled(None, now);
        }
        Some(end <= now)
    }

    /// The end of a lease, or the time of completion.
    pub fn expiration(&self) -> Option<Timestamp> {
        self.active_attempt()
            .map(|active| active.end.unwrap_or(active.expiration))
    }

    pub fn worker(&self) -> Option<&Name> {
        self.active_attempt()
            .and_then(|active| active.worker.as_ref())
    }

    pub fn open_attempt(
        &mut self,
        id: u64,
        worker: Option<Name>,
        expiration: Timestamp,
    ) -> &mut Attempt {
        self.attempts.push(Attempt {
            id,
            held: worker.is_some(),
            worker,
            status: AttemptStatus::Pending,
            end: None,
            expiration,
            data: None,
        });
        let active = self.attempts.len() - 1;
        self.active = Some(active);
        &mut self.attempts[active]
    }
}

impl Attempt {
    pub fn finish_as(&mut self, status: AttemptStatus, now: Timestamp) {
        self.status = status;
        self.end = Some(now);
        if matches!(status, AttemptStatus::Finished | AttemptStatus::Failed) {
            self.held = false;
        }
    }
}

impl Spec {
    pub fn counts(&self) -> Counts {
        let mut counts = Counts {
            archived_finished: self.archived_finished,
            archived_failed: self.archived_failed,
            ..Counts::default()
        };
        for unit in self.units.values() {
            *match unit.status() {
                UnitStatus::Available => &mut counts.available,
                UnitStatus::Delayed => &mut counts.delayed,
                UnitStatus::Pending => &mut counts.pending,
                UnitStatus::Finished => &mut counts.finished,
                UnitStatus::Failed => &mut counts.failed,
            } += 1;
            let waits = matches!(unit.status(), UnitStatus::Available | UnitStatus::Delayed);
            counts.retrying += u64::from(waits && unit.failures > 0);
        }
        counts
    }

    /// Archives what is beyond the limits of one status, the oldest first.
    fn archive(&mut self, status: UnitStatus, retention: &Retention, now: Timestamp) -> u64 {
        let mut oldest_first: Vec<(u64, Name, Timestamp)> = Vec::new();
        for (name, unit) in self
            .units
            .iter()
            .filter(|(_, unit)| unit.status() == status)
        {
            let active = unit
                .active_attempt()
                .expect("the attempt that completed it");
            oldest_first.push((active.id, name.clone(), active.end.expect("its end")));
        }
        oldest_first.sort();
        let (mut there, mut archived) = (oldest_first.len() as u64, 0);
        for (_, name, end) in oldest_first {
            let is_old = retention.age.is_some_and(|age| end.plus(age) < now);
            if is_old || retention.count.is_some_and(|count| there > count) {
                self.units.remove(&name);
                there -= 1;
                archived += 1;
            }
        }
        archived
    }
}

/// How a spec is scheduled, by its definition. `None` if that can't be used.
fn meta_of(definition: &Json) -> Option<Meta> {
    let get = |key: &str| definition.0.get(key);
    let weight = match (get("weight"), get("nice")) {
        (Some(weight), _) => i64::try_from(weight.as_u64()?).ok()?,
        (None, nice) => 20 - nice.map_or(0, |nice| nice.as_i64().unwrap_or(0)),
    };
    let limit = |key: &str| {
        get(key)
            .and_then(|limit| limit.as_u64())
            .filter(|limit| *limit > 0)
    };
    let is_fraction = |key: &&str| get(key).is_some_and(|value| !value.is_i64() && !value.is_u64());
    if ["max_running", "max_getwork", "max_retries"]
        .iter()
        .any(is_fraction)
    {
        return None;
    }
    let number = |key: &str| get(key).and_then(|value| value.as_f64());
    let text = |key: &str| get(key).and_then(|value| value.as_str()).map(str::to_owned);
    let schedule = text("schedule").map(|expression| Schedule {
        expression,
        timezone: text("timezone").unwrap_or_else(|| "UTC".to_owned()),
        overlap: match get("overlap").is_some() {
            true => Overlap::Queue,
            false => Overlap::Skip,
        },
        missed: match get("missed").is_some() {
            true => Missed::Skip,
            false => Missed::RunOnce,
        },
        next: None,
        last: None,
        skipped: None,
    });
    if schedule.is_some() && get("continuous").is_some() {
        return None;
    }
    let rate = text("max_rate").map(|rate| MaxRate::from_text(&rate).expect("a rate"));
    let burst = limit("max_rate_burst").map(|burst| u32::try_from(burst).expect("few"));
    let rate = rate.map(|rate| rate.with_burst(burst.unwrap_or(rate.burst())));
    Some(Meta {
        paused: get("disabled").map(|_| Pause::default()),
        weight: weight.max(1),
        priority: number("priority").unwrap_or(0.0),
        continuous: get("continuous").is_some(),
        can_be_continuous: get("continuous").is_some(),
        interval: number("interval").map(Duration::from_secs_f64),
        next_continuous: None,
        max_running: limit("max_running"),
        max_getwork: limit("max_getwork"),
        max_retries: limit("max_retries"),
        retry: limit("retries").map(|retries| RetryPolicy {
            retries,
            delay: Duration::from_secs_f64(number("retry_delay").unwrap_or(0.0)),
            backoff: number("retry_backoff").unwrap_or(1.0),
            delay_max: Duration::from_secs_f64(number("retry_delay_max").unwrap_or(3_600.0)),
            jitter: 0.0,
        }),
        max_lost: limit("max_lost"),
        max_rate: rate,
        halt_after: halt_after(get("halt_after")),
        then: text("then").map(Name::from_text),
        runtime: text("runtime").unwrap_or_default(),
        min_gb: 0.0,
        schedule: schedule.map(Box::new),
        order: match text("order").as_deref() {
            Some("added") => Order::Added,
            Some("fifo") => return None,
            _ => Order::Name,
        },
        fair: get("fair").is_some(),
        max_running_per_group: limit("max_running_per_group"),
    })
}

/// The only ones that are drawn, with the seconds between their times, which are the same in all zones.
pub const SCHEDULES: [(&str, i64); 2] = [("*/10 * * * * *", 10), ("0 * * * * *", 60)];

fn period_us(schedule: &Schedule) -> i64 {
    let is_it = |(expression, _): &&(&str, i64)| *expression == schedule.expression;
    let (_, seconds) = SCHEDULES.iter().find(is_it).expect("one of them");
    seconds * 1_000_000
}

/// The last time of a schedule, this moment included.
fn last_time(schedule: &Schedule, now: Timestamp) -> Timestamp {
    Timestamp(now.0 - now.0.rem_euclid(period_us(schedule)))
}

fn next_time(schedule: &Schedule, now: Timestamp) -> Timestamp {
    Timestamp(last_time(schedule, now).0 + period_us(schedule))
}

/// A time in UTC, as names of scheduled units have it.
fn in_utc(time: Timestamp) -> String {
    let time = jiff::Timestamp::from_microsecond(time.0).expect("a time");
    time.to_string()
}

fn halt_after(value: Option<&serde_json::Value>) -> Option<HaltAfter> {
    let value = value?;
    let share = value.get("rate").and_then(|share| share.as_f64());
    Some(HaltAfter {
        failures: value.get("failures").and_then(|failures| failures.as_u64()),
        rate: share.map(|share| FailureRate {
            share,
            min: value
                .get("min")
                .and_then(|min| min.as_u64())
                .expect("a minimum"),
        }),
    })
}

impl Model {
    pub fn new(now: Timestamp) -> Self {
        Self {
            now,
            specs: BTreeMap::new(),
            workers: BTreeMap::new(),
            locks: BTreeMap::new(),
            by_worker: BTreeMap::new(),
            last_id: 0,
        }
    }

    pub fn new_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub fn all_units(&mut self) -> impl Iterator<Item = &mut Unit> {
        self.specs
            .values_mut()
            .flat_map(|spec| spec.units.values_mut())
    }

    /// Ends the leases, delays, workers and locks whose time is over.
    pub fn expire(&mut self) {
        let now = self.now;
        for spec in self.specs.values_mut() {
            let mut leases: Vec<(Timestamp, u64, Name)> = Vec::new();
            let mut delays: Vec<(Timestamp, u64, Name)> = Vec::new();
            for (name, unit) in &spec.units {
                match (unit.status(), unit.active_attempt(), unit.not_before) {
                    (UnitStatus::Pending, Some(active), _) if active.expiration <= now => {
                        leases.push((active.expiration, active.id, name.clone()));
                    }
                    (UnitStatus::Delayed, _, Some(time)) if time <= now => {
                        delays.push((time, unit.id, name.clone()));
                    }
                    _ => {}
                }
            }
            leases.sort();
            for (_, _, name) in leases {
                let unit = spec.units.get_mut(&name).expect("a known unit");
                let active = unit.active.expect("the attempt of a pending unit");
                unit.lose_lease(active, spec.meta.max_lost, now);
                let ended = unit.ended.take();
                let data = ended.map(|_| unit.shown_data().to_vec());
                spec.settle();
                if let Some(data) = data {
                    spec.count_outcome(true, Some(&data), now);
                }
            }
            delays.sort();
            for (_, _, name) in delays {
                let unit = spec.units.get_mut(&name).expect("a known unit");
                unit.make_available(now);
                spec.settle();
            }
        }
        let dead = self
            .workers
            .extract_if(.., |_, worker| worker.expiration <= now);
        for (worker, _) in dead.collect::<Vec<_>>() {
            self.let_go(&worker, |_| true);
        }
        self.locks.retain(|_, lock| lock.expiration > now);
        for spec in self.specs.keys().cloned().collect::<Vec<_>>() {
            self.run_schedule(&spec);
        }
    }

    /// Makes the unit of a schedule whose time has come, or skips it.
    fn run_schedule(&mut self, name: &str) {
        let now = self.now;
        let Spec { meta, units, .. } = self.specs.get_mut(name).expect("a known spec");
        let Some(schedule) = &mut meta.schedule else {
            return;
        };
        if schedule.next.expect("it has one") > now {
            return;
        }
        let time = last_time(schedule, now);
        schedule.next = Some(next_time(schedule, now));
        let is_late = now.since(time) > Duration::from_secs(60);
        let last = schedule
            .last
            .and_then(|last| units.get(&Name::from_text(in_utc(last))));
        let is_open = last.is_some_and(|last| {
            !matches!(last.status(), UnitStatus::Finished | UnitStatus::Failed)
        });
        if meta.paused.is_some()
            || is_late && schedule.missed == Missed::Skip
            || is_open && schedule.overlap == Overlap::Skip
        {
            schedule.skipped = Some(time);
            return;
        }
        schedule.last = Some(time);
        let unit = Name::from_text(in_utc(time));
        if !units.contains_key(&unit) {
            let local = in_utc(time).replace('Z', "+00:00");
            let data = serde_json::json!({"scheduled": local});
            self.add_one(
                name,
                Addition {
                    name: unit,
                    data: encoded(&Json(data)),
                    priority: 0.0,
                    delay: None,
                    group: None,
                },
            );
        }
    }

    /// The clock was set: times of schedules are those of the wall clock.
    fn plan_runs(&mut self) {
        for Spec { meta, .. } in self.specs.values_mut() {
            if let Some(schedule) = &mut meta.schedule {
                let next = next_time(schedule, self.now);
                schedule.next = schedule.next.map(|planned| planned.min(next));
            }
        }
    }

    /// The clock is set while the daemon runs: everything keeps the time that it had left.
    pub fn set_clock(&mut self, step: ClockStep) {
        self.now = self.now.moved(step);
        let of_unit = |unit: &mut Unit| {
            if matches!(unit.status(), UnitStatus::Delayed | UnitStatus::Pending) {
                unit.not_before = unit.not_before.map(|time| time.moved(step));
            }
            for attempt in &mut unit.attempts {
                if attempt.status == AttemptStatus::Pending {
                    attempt.expiration = attempt.expiration.moved(step);
                }
            }
        };
        self.all_units().for_each(of_unit);
        for worker in self.workers.values_mut() {
            worker.heartbeat = worker.heartbeat.moved(step);
            worker.expiration = worker.expiration.moved(step);
        }
        for lock in self.locks.values_mut() {
            lock.expiration = lock.expiration.moved(step);
        }
        for spec in self.specs.values_mut() {
            let next = &mut spec.meta.next_continuous;
            *next = next.map(|next| next.moved(step));
            spec.full_at = spec.full_at.map(|at| at.moved(step));
        }
        self.plan_runs();
    }

    /// The daemon starts anew: leases and lifetimes get some grace, and end within a day.
    pub fn restart(&mut self) {
        let (earliest, latest) = (self.now.plus(GRACE), self.now.plus(LEASE_MAX));
        let bounded = |time: Timestamp| time.clamp(earliest, latest);
        for attempt in self.all_units().flat_map(|unit| &mut unit.attempts) {
            if attempt.status == AttemptStatus::Pending {
                attempt.expiration = bounded(attempt.expiration);
            }
        }
        for worker in self.workers.values_mut() {
            worker.expiration = bounded(worker.expiration);
        }
        self.by_worker.clear();
        for spec in self.specs.values_mut() {
            spec.bound_tokens(self.now);
            let meta = &mut spec.meta;
            let latest = self.now.plus(meta.interval.unwrap_or_default());
            meta.next_continuous = meta.next_continuous.map(|next| next.min(latest));
        }
        self.plan_runs();
    }

    // --- work specs ---

    pub fn set_spec(&mut self, definition: &Json) -> Answer {
        let name = definition.0.get("name").and_then(|name| name.as_str());
        let (Some(name), Some(mut meta)) = (name, meta_of(definition)) else {
            return Answer::Failed(Failure::Invalid);
        };
        let spec = self.specs.entry(name.to_owned()).or_insert_with(|| Spec {
            definition: Vec::new(),
            meta: meta.clone(),
            units: BTreeMap::new(),
            archived_finished: 0,
            archived_failed: 0,
            groups: Groups::default(),
            full_at: None,
            outcomes: Vec::new(),
        });
        meta.next_continuous = spec.meta.next_continuous;
        if let Some(schedule) = &mut meta.schedule {
            if let Some(before) = &spec.meta.schedule {
                (schedule.last, schedule.skipped) = (before.last, before.skipped);
                let is_same = before.expression == schedule.expression
                    && before.timezone == schedule.timezone;
                schedule.next = before.next.filter(|_| is_same);
            }
            let next = next_time(schedule, self.now);
            schedule.next.get_or_insert(next);
        }
        if let (Some(_), Some(before)) = (&meta.paused, &spec.meta.paused) {
            meta.paused = Some(before.clone());
        }
        spec.definition = encoded(definition);
        let before = std::mem::replace(&mut spec.meta, meta);
        spec.keep_past(&before, self.now);
        spec.settle_after_change();
        Answer::Done
    }

    pub fn control(&mut self, spec: &str, control: &Control) -> Answer {
        let Some(spec) = self.specs.get_mut(spec) else {
            return Answer::Failed(Failure::NoSuchWorkSpec);
        };
        let (before, meta) = (spec.meta.clone(), &mut spec.meta);
        if control.continuous == Some(true) && !meta.can_be_continuous {
            return Answer::Failed(Failure::Refused);
        }
        let is_new = |pause: &Pause| meta.paused.is_none() || pause.reason.is_some();
        match &control.paused {
            Some(Some(pause)) if is_new(pause) => {
                let since = pause.since.unwrap_or(self.now).min(self.now);
                let mut pause = pause.clone();
                pause.since = Some(since);
                meta.paused = Some(pause);
            }
            Some(None) => meta.paused = None,
            _ => {}
        }
        meta.weight = control.weight.unwrap_or(meta.weight);
        meta.priority = control.priority.unwrap_or(meta.priority);
        meta.interval = control.interval.unwrap_or(meta.interval);
        meta.max_running = control.max_running.unwrap_or(meta.max_running);
        meta.continuous = control.continuous.unwrap_or(meta.continuous);
        spec.keep_past(&before, self.now);
        Answer::Done
    }

    pub fn delete_spec(&mut self, spec: &str) -> Answer {
        match self.specs.remove(spec) {
            Some(_) => Answer::Done,
            None => Answer::Failed(Failure::NoSuchWorkSpec),
        }
    }

    pub fn clear(&mut self) -> Answer {
        Answer::Count(std::mem::take(&mut self.specs).len() as u64)
    }

    pub fn spec(&self, spec: &str) -> Answer {
        let Some(spec) = self.specs.get(spec) else {
            return Answer::Failed(Failure::NoSuchWorkSpec);
        };
        let past = (spec.full_at, spec.failed_in_a_row());
        let line = answer::spec(&spec.definition, &spec.counts(), &spec.meta, past);
        Answer::Seen(vec![line])
    }

    pub fn spec_names(&self, start: Option<&str>) -> Answer {
        let names = self
            .specs
            .keys()
            .filter(|name| start.is_none_or(|start| name.as_str() >= start));
        Answer::Seen(
            names
                .map(|name| answer::name(&Name::from_text(name)))
                .collect(),
        )
    }

    // --- work units ---

    pub fn add(&mut self, spec: &str, additions: Vec<Addition>, if_exists: IfExists) -> Answer {
        let Some(before) = self.specs.get(spec) else {
            return Answer::Failed(Failure::NoSuchWorkSpec);
        };
        let is_among = |some: &[Addition], name: &Name| some.iter().any(|one| one.name == *name);
        let is_refused = |(index, addition): (usize, &Addition)| {
            before.units.contains_key(&addition.name)
                || is_among(&additions[..index], &addition.name)
        };
        if if_exists == IfExists::Refuse && additions.iter().enumerate().any(is_refused) {
            return Answer::Failed(Failure::Refused);
        }
        let mut added = Added::default();
        for (index, addition) in additions.iter().enumerate() {
            let exists = self.specs[spec].units.contains_key(&addition.name);
            match if_exists {
                // Of several with the same name the last one counts.
                IfExists::Reset if is_among(&additions[index + 1..], &addition.name) => continue,
                IfExists::Skip if exists => {
                    added.skipped += 1;
                    continue;
                }
                _ if exists => added.reset += 1,
                _ => added.new += 1,
            }
            self.add_one(spec, addition.clone());
        }
        Answer::Added(added)
    }

    fn add_one(&mut self, spec: &str, addition: Addition) {
        let (now, id) = (self.now, self.new_id());
        let of_spec = self.specs.get_mut(spec).expect("a known spec");
        let unit = of_spec.units.entry(addition.name).or_insert_with(|| Unit {
            id,
            data: Vec::new(),
            priority: 0.0,
            not_before: None,
            delayed: false,
            attempts: Vec::new(),
            active: None,
            superseded: 0,
            not_counted: 0,
            failures: 0,
            lost: 0,
            cancelled: None,
            queued: Queued::default(),
            ended: None,
        });
        if unit.status() == UnitStatus::Pending {
            let active = unit.active.expect("the attempt of a pending unit");
            unit.attempts[active].finish_as(AttemptStatus::Expired, now);
        }
        unit.data = addition.data;
        unit.priority = addition.priority;
        unit.not_before = addition
            .delay
            .filter(|delay| !delay.is_zero())
            .map(|delay| now.plus(delay));
        unit.superseded = unit.attempts.len();
        unit.start_over();
        unit.cancelled = None;
        unit.queued.group = addition.group;
        unit.queued.place = None;
        unit.make_available(now);
        of_spec.settle();
    }

    pub fn prioritize(&mut self, spec: &str, names: &[Name], change: PriorityChange) -> Answer {
        let Some(spec) = self.specs.get_mut(spec) else {
            return Answer::Failed(Failure::NoSuchWorkSpec);
        };
        let mut units = spec.units.clone();
        for name in names {
            if let Some(unit) = units.get_mut(name) {
                match change {
                    PriorityChange::Set(priority) => unit.priority = priority,
                    PriorityChange::Adjust(by) => unit.priority += by,
                }
                if unit.priority.is_nan() {
                    return Answer::Failed(Failure::Invalid);
                }
            }
        }
        spec.units = units;
        Answer::Done
    }

    pub fn delete_units(&mut self, spec: &str, which: &Which) -> Answer {
        let Some(spec) = self.specs.get_mut(spec) else {
            return Answer::Failed(Failure::NoSuchWorkSpec);
        };
        let before = spec.units.len() as u64;
        spec.units.retain(|name, unit| {
            let is_in = |statuses: &Vec<UnitStatus>| statuses.contains(&unit.status());
            !match which {
                Which::All => true,
                Which::Named(names, statuses) => {
                    names.contains(name) && statuses.as_ref().is_none_or(is_in)
                }
                Which::InStatus(statuses) => is_in(statuses),
            }
        });
        spec.settle();
        let mut count = before - spec.units.len() as u64;
        let in_status = |status| match which {
            Which::All => true,
            Which::Named(..) => false,
            Which::InStatus(statuses) => statuses.contains(&status),
        };
        if in_status(UnitStatus::Finished) {
            count += std::mem::take(&mut spec.archived_finished);
        }
        if in_status(UnitStatus::Failed) {
            count += std::mem::take(&mut spec.archived_failed);
        }
        Answer::Count(count)
    }

    pub fn cancel(&mut self, spec: &str, which: &Which, how: &Cancel) -> Answer {
        let (now, mut id) = (self.now, self.last_id);
        let Some(of) = self.specs.get_mut(spec) else {
            return Answer::Failed(Failure::NoSuchWorkSpec);
        };
        let all: Vec<Name> = of.units.keys().cloned().collect();
        let (names, statuses) = match which {
            Which::All => (&all, None),
            Which::InStatus(statuses) => (&all, Some(statuses)),
            Which::Named(names, statuses) => (names, statuses.as_ref()),
        };
        let mut cancelled = Cancelled::default();
        for name in names {
            if let Some(unit) = of.units.get_mut(name)
                && statuses.is_none_or(|statuses| statuses.contains(&unit.status()))
            {
                id += 1;
                match unit.cancel(how, now, id) {
                    Some(true) => cancelled.failed += 1,
                    Some(false) => cancelled.running += 1,
                    None => {}
                }
                of.settle();
            }
        }
        self.last_id = id;
        Answer::Cancelled(cancelled)
    }

    pub fn archive(&mut self, spec: Option<&str>, retention: &Retention) -> Answer {
        let now = self.now;
        let mut count = 0;
        for (name, of) in &mut self.specs {
            if spec.is_none_or(|spec| spec == name) {
                let finished = of.archive(UnitStatus::Finished, retention, now);
                let failed = of.archive(UnitStatus::Failed, retention, now);
                of.archived_finished += finished;
                of.archived_failed += failed;
                of.settle();
                count += finished + failed;
            }
        }
        Answer::Count(count)
    }

    /// True if these units are there and all have yet to be completed.
    pub fn are_all_to_be_completed(&self, spec: &str, names: &[Name]) -> bool {
        let Some(spec) = self.specs.get(spec) else {
            return false;
        };
        let is_to_be_completed = |name| {
            let unit = spec.units.get(name).map(Unit::status);
            unit.is_some_and(|status| !matches!(status, UnitStatus::Finished | UnitStatus::Failed))
        };
        !names.is_empty() && names.iter().all(is_to_be_completed)
    }

    pub fn statuses(&self, spec: &str, names: &[Name]) -> Answer {
        let Some(spec) = self.specs.get(spec) else {
            return Answer::Failed(Failure::NoSuchWorkSpec);
        };
        let line = |name| match spec.units.get(name) {
            Some(unit) => {
                let traceback = super::reports::field(unit.shown_data(), "traceback");
                let traceback = traceback.map(|value| serde_cbor::to_vec(&value).expect("encoded"));
                let is_delayed = unit.status() == UnitStatus::Delayed;
                let retry_at = unit.not_before.filter(|_| is_delayed && unit.failures > 0);
                answer::unit_status(
                    unit.status(),
                    unit.expiration(),
                    unit.worker(),
                    traceback.as_deref(),
                    (unit.failures, unit.lost, retry_at),
                    unit.cancelled,
                )
            }
            None => answer::not_there(),
        };
        Answer::Seen(names.iter().map(line).collect())
    }

    pub fn data(&self, spec: &str, names: &[Name]) -> Answer {
        let Some(spec) = self.specs.get(spec) else {
            return Answer::Failed(Failure::NoSuchWorkSpec);
        };
        let line = |name| answer::unit_data(name, spec.units.get(name).map(Unit::shown_data));
        Answer::Seen(names.iter().map(line).collect())
    }

    pub fn list(&self, spec: &str, listing: &Listing) -> Answer {
        let Some(spec) = self.specs.get(spec) else {
            return Answer::Failed(Failure::NoSuchWorkSpec);
        };
        let listed = spec.units.iter().filter(|(name, unit)| {
            listing.start.as_ref().is_none_or(|start| *name >= start)
                && listing
                    .statuses
                    .as_ref()
                    .is_none_or(|statuses| statuses.contains(&unit.status()))
        });
        let lines = listed.map(|(name, unit)| answer::unit_data(name, Some(unit.shown_data())));
        Answer::Seen(lines.take(listing.limit).collect())
    }

    pub fn attempts(&self, spec: &str, name: &Name, limit: usize) -> Answer {
        let Some(spec) = self.specs.get(spec) else {
            return Answer::Failed(Failure::NoSuchWorkSpec);
        };
        let Some(unit) = spec.units.get(name) else {
            return Answer::Failed(Failure::NoSuchWorkUnit);
        };
        let newest_first = (1..)
            .zip(&unit.attempts)
            .collect::<Vec<_>>()
            .into_iter()
            .rev();
        let lines = newest_first.map(|(number, attempt)| {
            answer::attempt(
                number,
                attempt.status,
                attempt.worker.as_ref(),
                attempt.end,
                attempt.expiration,
                attempt.data.as_deref(),
            )
        });
        Answer::Seen(lines.take(limit).collect())
    }
}
