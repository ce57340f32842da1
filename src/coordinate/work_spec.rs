//! Work specs: what their dictionaries say.

use super::halt::{HaltAfter, Outcomes};
use super::queueing::{Order, Queueing};
use super::rate::MaxRate;
use super::retry::RetryPolicy;
use super::schedule::{self, Missed, Overlap, Schedule};
use super::work_unit::Completed;
use super::{Error, Name, Result, WorkSpecId};
use crate::clock::Timestamp;
use crate::number::{self, is_true};
use coordinated_client::cbor::{Item, Kind};
use std::time::Duration;

/// A work spec without its dictionary: what scheduling needs to know.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkSpec {
    /// Its identity.
    pub id: WorkSpecId,
    /// Its name.
    pub name: Name,
    /// How it is scheduled.
    pub meta: Meta,
    /// How many units it has in each status.
    pub counts: Counts,
    /// Since when it has had available units without a break. `None` if it has none, or if that is not
    /// known.
    pub waiting_since: Option<Timestamp>,
    /// True if some groups have available units, and all of these have as many pending ones as `max_running_per_group`
    /// allows.
    pub groups_are_full: bool,
    /// What has happened lately.
    pub recent: Recent,
}

/// What a work spec remembers of the last hand-outs and attempts: kept only if it has `max_rate` or `halt_after`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Recent {
    /// When the bucket of `max_rate` is full again, or since when it is.
    pub full_at: Option<Timestamp>,
    /// How attempts have ended.
    pub outcomes: Outcomes,
}

/// How the units of a work spec are scheduled: derived from its dictionary, then changed by
/// `control_work_spec`.
#[derive(Clone, Debug, PartialEq)]
pub struct Meta {
    /// If it is paused: no units are handed out.
    pub paused: Option<Pause>,
    /// Its share among specs of the same priority; none at 0 and below.
    pub weight: i64,
    /// Specs of a lower priority wait while this one has work.
    pub priority: f64,
    /// Makes units by itself when it has none.
    pub continuous: bool,
    /// Whether `continuous` may be turned on.
    pub can_be_continuous: bool,
    /// The shortest time between two units that are made so.
    pub interval: Option<Duration>,
    /// When the next unit may be made so.
    pub next_continuous: Option<Timestamp>,
    /// How many units may be pending at a time.
    pub max_running: Option<u64>,
    /// At most how many units one call hands out.
    pub max_getwork: Option<u64>,
    /// At most how many attempts at one unit are handed out.
    pub max_retries: Option<u64>,
    /// What is done with units that fail. Without it the first failure is final.
    pub retry: Option<RetryPolicy>,
    /// How many workers a unit may cost their lease before it fails.
    pub max_lost: Option<u64>,
    /// How fast units are handed out at most.
    pub max_rate: Option<MaxRate>,
    /// When failures pause it.
    pub halt_after: Option<HaltAfter>,
    /// The work spec that gets the output of finished units.
    pub then: Option<Name>,
    /// What runs the units; only workers that ask for this runtime get them.
    pub runtime: String,
    /// Memory that a unit needs, as its author says. Not used in scheduling.
    pub min_gb: f64,
    /// When it makes units by itself, whether or not a worker asks for them.
    pub schedule: Option<Box<Schedule>>,
    /// In which order units of the same priority are handed out.
    pub order: Order,
    /// Hands out units of each group in turn.
    pub fair: bool,
    /// How many units of a group may be pending at a time. With a limit, groups are taken in turn, too.
    pub max_running_per_group: Option<u64>,
}

/// Who paused a work spec, when and why, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pause {
    /// Why, for people.
    pub reason: Option<String>,
    /// Who: a person or a rule.
    pub by: Option<String>,
    /// When. A time of the past, which does not change when the clock is set.
    pub since: Option<Timestamp>,
}

/// How many units a work spec has in each status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Waiting to be handed out.
    pub available: u64,
    /// To be handed out later.
    pub delayed: u64,
    /// Those of the available and the delayed ones that have failed, and are to be tried again.
    pub retrying: u64,
    /// Leased to a worker.
    pub pending: u64,
    /// Done.
    pub finished: u64,
    /// Given up.
    pub failed: u64,
    /// Done, and removed since (see retention.rs). Not among those in `finished`.
    pub archived_finished: u64,
    /// Given up, and removed since. Not among those in `failed`.
    pub archived_failed: u64,
}

impl Counts {
    /// All units, those that were archived included.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.there() + self.archived_finished + self.archived_failed
    }

    /// All units but those that were archived.
    #[must_use]
    pub fn there(&self) -> u64 {
        self.available + self.delayed + self.pending + self.finished + self.failed
    }

    /// How many units are finished or failed, and there.
    #[must_use]
    pub fn completed(&self, status: Completed) -> u64 {
        match status {
            Completed::Finished => self.finished,
            Completed::Failed => self.failed,
        }
    }

    /// How many units clients are told are finished or failed: those that are there, and those that were
    /// archived.
    #[must_use]
    pub fn shown(&self, status: Completed) -> u64 {
        self.completed(status) + self.archived(status)
    }

    /// How many units were archived in a status.
    #[must_use]
    pub fn archived(&self, status: Completed) -> u64 {
        match status {
            Completed::Finished => self.archived_finished,
            Completed::Failed => self.archived_failed,
        }
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, more: Self) {
        self.available += more.available;
        self.delayed += more.delayed;
        self.retrying += more.retrying;
        self.pending += more.pending;
        self.finished += more.finished;
        self.failed += more.failed;
        self.archived_finished += more.archived_finished;
        self.archived_failed += more.archived_failed;
    }
}

const WEIGHT_DEFAULT: i64 = 20;

impl Meta {
    /// Pauses the work spec `now`, if the pause does not say when. A paused one keeps who paused it, when and why, unless
    /// there is a new reason.
    pub(super) fn pause(&mut self, pause: Pause, now: Timestamp) {
        if self.paused.is_none() || pause.reason.is_some() {
            let since = pause.since.map_or(now, |since| since.min(now));
            self.paused = Some(Pause {
                since: Some(since),
                ..pause
            });
        }
    }

    /// The priority as an integer, for clients that take no other.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the cast goes to the nearest integer"
    )]
    pub fn rounded_priority(&self) -> i64 {
        self.priority.round() as i64
    }

    /// Makes a change `now`.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a priority beyond 2^53 is rounded"
    )]
    pub(super) fn change(&mut self, change: &MetaChange, now: Timestamp) {
        if change.priority != self.rounded_priority() {
            self.priority = change.priority as f64;
        }
        match change.paused {
            true => self.pause(Pause::default(), now),
            false => self.paused = None,
        }
        self.weight = change.weight;
        self.continuous = change.continuous && self.can_be_continuous;
        self.min_gb = change.min_gb;
        self.interval = change.interval;
        self.next_continuous = change.next_continuous;
        self.max_running = change.max_running;
        self.max_getwork = change.max_getwork;
        self.max_retries = change.max_retries;
    }

    /// The keys of a dictionary that mean something here; all others are for workers.
    pub const KEYS: &[&str] = &[
        "name",
        "disabled",
        "priority",
        "weight",
        "nice",
        "continuous",
        "interval",
        "max_running",
        "max_getwork",
        "max_retries",
        "retries",
        "retry_delay",
        "retry_backoff",
        "retry_delay_max",
        "retry_jitter",
        "max_lost",
        "then",
        "runtime",
        "min_gb",
        "schedule",
        "timezone",
        "overlap",
        "missed",
        "order",
        "fair",
        "max_running_per_group",
        "max_rate",
        "max_rate_burst",
        "halt_after",
    ];

    /// Those of them that are for workers, too, if there is no `schedule`.
    pub const KEYS_WITH_SCHEDULE: &[&str] = &["timezone", "overlap", "missed"];

    /// Derives the meta of a work spec from its dictionary (docs/protocol.md, "Work spec keys").
    ///
    /// # Errors
    /// `Invalid` if a value is of a type that can't be converted, or not allowed.
    pub fn from_definition(definition: Item<'_>) -> Result<Self> {
        let keys = Definition(definition);
        let weight = match (keys.integer("weight")?, keys.integer("nice")?) {
            (Some(weight), _) if weight < 0 => return Err(keys.mismatch("weight", "at least 1")),
            (Some(weight), _) => weight.max(1),
            (None, nice) => WEIGHT_DEFAULT.saturating_sub(nice.unwrap_or(0)).max(1),
        };
        let continuous = keys.boolean("continuous");
        Ok(Self {
            paused: keys.boolean("disabled").then(Pause::default),
            weight,
            priority: keys.float("priority")?.unwrap_or(0.0),
            continuous,
            can_be_continuous: continuous,
            interval: keys.float("interval")?.map(number::duration_from_seconds),
            next_continuous: None,
            max_running: keys.limit("max_running")?,
            max_getwork: keys.limit("max_getwork")?,
            max_retries: keys.limit("max_retries")?,
            retry: keys.retry_policy()?,
            max_lost: keys.count("max_lost")?.filter(|max| *max > 0),
            max_rate: keys.max_rate()?,
            halt_after: keys.halt_after()?,
            then: keys.name("then")?.filter(|then| !then.bytes().is_empty()),
            runtime: keys.text("runtime")?.unwrap_or_default(),
            min_gb: keys.float("min_gb")?.unwrap_or(0.0),
            schedule: keys.schedule()?.map(Box::new),
            order: keys.order()?,
            fair: keys.boolean("fair"),
            max_running_per_group: keys.count("max_running_per_group")?.filter(|max| *max > 0),
        })
    }

    /// How units are queued.
    #[must_use]
    pub fn queueing(&self) -> Queueing {
        Queueing {
            order: self.order,
            in_turn: self.fair || self.max_running_per_group.is_some(),
        }
    }
}

/// A limit, where 0 means none.
#[must_use]
pub fn limit_from_integer(value: i64) -> Option<u64> {
    u64::try_from(value).ok().filter(|value| *value > 0)
}

/// Reads the keys of a work spec dictionary; null counts as absent.
struct Definition<'a>(Item<'a>);

impl Definition<'_> {
    fn get(&self, key: &str) -> Option<Item<'_>> {
        debug_assert!(Meta::KEYS.contains(&key), "{key} is not among the keys");
        self.0.get_some(key)
    }

    fn read<T>(
        &self,
        key: &str,
        expected: &str,
        convert: impl Fn(Item<'_>) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match convert(value) {
            Some(value) => Ok(Some(value)),
            None => Err(self.mismatch(key, expected)),
        }
    }

    fn mismatch(&self, key: &str, expected: &str) -> Error {
        let found = self.get(key).map_or_else(|| "nothing".to_owned(), found);
        Error::Invalid(format!(
            "work spec key {key:?}: expected {expected}, got {found}"
        ))
    }

    fn integer(&self, key: &str) -> Result<Option<i64>> {
        self.read(key, "an integer", number::as_whole_number_or_numeral)
    }

    fn limit(&self, key: &str) -> Result<Option<u64>> {
        Ok(self.integer(key)?.and_then(limit_from_integer))
    }

    fn float(&self, key: &str) -> Result<Option<f64>> {
        self.read(key, "a number", |value| {
            number::as_float_or_numeral(value).filter(|value| !value.is_nan())
        })
    }

    /// The keys about retries; `None` if the first failure is final.
    fn retry_policy(&self) -> Result<Option<RetryPolicy>> {
        let retries = self.count("retries")?.unwrap_or(0);
        let delay = self.seconds("retry_delay")?.unwrap_or_default();
        let delay_max = self.seconds("retry_delay_max")?;
        let policy = RetryPolicy {
            retries,
            delay,
            backoff: self
                .number("retry_backoff", "a number of at least 1", |factor| {
                    factor >= 1.0
                })?
                .unwrap_or(1.0),
            delay_max: delay_max.unwrap_or(RetryPolicy::DELAY_MAX.max(delay)),
            jitter: self
                .number("retry_jitter", "a number from 0 to 1", |part| {
                    (0.0..=1.0).contains(&part)
                })?
                .unwrap_or(0.0),
        };
        Ok((retries > 0).then_some(policy))
    }

    /// The keys about the schedule. Without one, the others are none of ours.
    fn schedule(&self) -> Result<Option<Schedule>> {
        let Some(expression) = self.text("schedule")? else {
            return Ok(None);
        };
        let invalid =
            |key: &str, what: &str| Error::Invalid(format!("work spec key {key:?}: {what}"));
        schedule::check_expression(&expression).map_err(|what| invalid("schedule", &what))?;
        if self.boolean("continuous") {
            let what = "not allowed with continuous, which makes units by itself, too";
            return Err(invalid("schedule", what));
        }
        let timezone = self.text("timezone")?.unwrap_or_else(|| "UTC".to_owned());
        if schedule::timezone(&timezone).is_none() {
            let what =
                "expected a time zone of the IANA database, such as \"Europe/Berlin\" or \"UTC\"";
            return Err(invalid("timezone", what));
        }
        Ok(Some(Schedule {
            expression,
            timezone,
            overlap: self
                .word("overlap", Overlap::ALL, Overlap::word)?
                .unwrap_or_default(),
            missed: self
                .word("missed", Missed::ALL, Missed::word)?
                .unwrap_or_default(),
            next: None,
            last: None,
            skipped: None,
        }))
    }

    /// One of two values, by its word.
    fn word<T: Copy>(
        &self,
        key: &str,
        values: [T; 2],
        word_of: impl Fn(T) -> &'static str,
    ) -> Result<Option<T>> {
        let [one, other] = values.map(&word_of);
        self.read(key, &format!("{one:?} or {other:?}"), |value| {
            let word = value.as_string_bytes()?;
            let mut values = values.into_iter();
            values.find(|value| word_of(*value).as_bytes() == &*word)
        })
    }

    /// The order of units; by name by default.
    fn order(&self) -> Result<Order> {
        let order = self.word("order", Order::ALL, Order::word)?;
        Ok(order.unwrap_or_default())
    }

    /// The keys about the rate of units.
    fn max_rate(&self) -> Result<Option<MaxRate>> {
        let rate = self.read("max_rate", MaxRate::EXPECTED, MaxRate::from_item)?;
        let burst = self.read("max_rate_burst", "an integer of at least 1", |value| {
            let burst = number::as_whole_number_or_numeral(value).filter(|_| !is_boolean(value))?;
            u32::try_from(burst).ok().filter(|burst| *burst > 0)
        })?;
        Ok(match burst {
            Some(burst) => rate.map(|rate| rate.with_burst(burst)),
            None => rate,
        })
    }

    fn halt_after(&self) -> Result<Option<HaltAfter>> {
        let halt_after = self.get("halt_after").map(HaltAfter::from_item).transpose();
        halt_after
            .map_err(|problem| Error::Invalid(format!("work spec key \"halt_after\": {problem}")))
    }

    fn count(&self, key: &str) -> Result<Option<u64>> {
        self.read(key, "an integer of at least 0", |value| {
            let count = number::as_whole_number_or_numeral(value).filter(|_| !is_boolean(value))?;
            u64::try_from(count).ok()
        })
    }

    fn seconds(&self, key: &str) -> Result<Option<Duration>> {
        let seconds = self.number(key, "a number of seconds, at least 0", |seconds| {
            seconds >= 0.0
        });
        Ok(seconds?.map(number::duration_from_seconds))
    }

    /// A finite number that `is_allowed`.
    fn number(
        &self,
        key: &str,
        expected: &str,
        is_allowed: impl Fn(f64) -> bool,
    ) -> Result<Option<f64>> {
        self.read(key, expected, |value| {
            let number = number::as_float_or_numeral(value).filter(|_| !is_boolean(value))?;
            (number.is_finite() && is_allowed(number)).then_some(number)
        })
    }

    fn boolean(&self, key: &str) -> bool {
        self.get(key).is_some_and(is_true)
    }

    fn name(&self, key: &str) -> Result<Option<Name>> {
        self.read(key, "the name of a work spec", Name::from_item)
    }

    fn text(&self, key: &str) -> Result<Option<String>> {
        self.read(key, "a text string", |value| {
            String::from_utf8(value.as_string_bytes()?.into_owned()).ok()
        })
    }
}

fn is_boolean(value: Item<'_>) -> bool {
    matches!(value.kind(), Kind::Bool(_))
}

/// A value in a message: a number as it is, and the kind of anything else, since messages may be logged and data may
/// not.
pub(super) fn found(value: Item<'_>) -> String {
    match value.kind() {
        Kind::Unsigned(number) => number.to_string(),
        Kind::Negative(number) => (-1 - i128::from(number)).to_string(),
        Kind::Float(number) => format!("{number:?}"),
        _ => value.kind_name().to_owned(),
    }
}

/// Reads and checks the name that a work spec dictionary gives itself.
pub(super) fn name_of(definition: Item<'_>, bytes_max: usize) -> Result<Name> {
    let invalid = |what: String| Error::Invalid(format!("work spec key \"name\": {what}"));
    let Some(value) = definition.get_some("name") else {
        return Err(invalid("missing; every work spec needs a name".to_owned()));
    };
    let Some(name) = Name::from_item(value) else {
        return Err(invalid(format!(
            "expected a string, got {}",
            value.kind_name()
        )));
    };
    match name.bytes() {
        [] => Err(invalid("empty; every work spec needs a name".to_owned())),
        bytes if bytes.len() > bytes_max => Err(invalid(format!(
            "{} bytes long, at most {bytes_max} are allowed",
            bytes.len()
        ))),
        bytes if std::str::from_utf8(bytes).is_err() => {
            Err(invalid(format!("{name} is not UTF-8")))
        }
        _ => Ok(name),
    }
}

/// All of the meta that is set at once.
#[derive(Debug)]
pub struct MetaChange {
    /// The priority as an integer. The one that is in force stays if it is this one, rounded.
    pub priority: i64,
    /// The share among specs of the same priority; none at 0 and below.
    pub weight: i64,
    /// Stops handing out units. Who paused it before, when and why, stays.
    pub paused: bool,
    /// Whether units are made by itself. Not set if the spec can't be continuous.
    pub continuous: bool,
    /// Memory that a unit needs.
    pub min_gb: f64,
    /// The time between units made by itself.
    pub interval: Option<Duration>,
    /// When the next unit may be made so.
    pub next_continuous: Option<Timestamp>,
    /// How many units may be pending at a time.
    pub max_running: Option<u64>,
    /// At most how many units one call hands out.
    pub max_getwork: Option<u64>,
    /// At most how many attempts at one unit are handed out.
    pub max_retries: Option<u64>,
}

/// What `control_work_spec` may change; `None` leaves a value as it is.
#[derive(Debug, Default)]
pub struct Control {
    /// Stops handing out units; `Some(None)` hands them out again.
    pub paused: Option<Option<Pause>>,
    /// The share among specs of the same priority.
    pub weight: Option<i64>,
    /// Specs of a lower priority wait while this one has work.
    pub priority: Option<f64>,
    /// The time between units made by itself; `Some(None)` for none.
    pub interval: Option<Option<Duration>>,
    /// How many units may be pending at a time; `Some(None)` for no limit.
    pub max_running: Option<Option<u64>>,
    /// Whether units are made by itself.
    pub continuous: Option<bool>,
}
