//! Work units.

use super::answer::Answer;
use super::{Coordinate, Name, Request, Result, names, options};
use crate::cbor::Value;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The status of a work unit, or of an attempt at one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It can be handed out, now or after its delay.
    Available,
    /// No server uses this status, so no unit has it.
    Blocked,
    /// A worker has it.
    Pending,
    /// It is done.
    Finished,
    /// A worker has reported a failure.
    Failed,
    /// Of an attempt: its lease expired, or its worker gave the unit back.
    Expired,
    /// Of an attempt: its worker gave the unit back, to be tried again after a delay.
    Retryable,
}

impl Status {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Available, "available"),
        (Self::Blocked, "blocked"),
        (Self::Pending, "pending"),
        (Self::Finished, "finished"),
        (Self::Failed, "failed"),
        (Self::Expired, "expired"),
        (Self::Retryable, "retryable"),
    ];

    /// The number of the status on the wire.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Available => 1,
            Self::Blocked => 2,
            Self::Pending => 3,
            Self::Finished => 4,
            Self::Failed => 5,
            Self::Expired => 6,
            Self::Retryable => 7,
        }
    }

    /// The name, in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        let mut all = Self::ALL.iter();
        all.find(|(status, _)| *status == self)
            .map_or("", |(_, name)| name)
    }

    pub(super) fn from_answer(answer: &Answer) -> Result<Self> {
        let number = answer.integer()?;
        let mut all = Self::ALL.iter();
        all.find(|(status, _)| i64::from(status.number()) == number)
            .map(|(status, _)| *status)
            .ok_or_else(|| answer.unexpected("the number of a status"))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A text is not the name of a status.
#[derive(Debug, thiserror::Error)]
#[error("write available, pending, finished or failed")]
pub struct ParseStatusError;

impl FromStr for Status {
    type Err = ParseStatusError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut all = Self::ALL.iter();
        let found = all.find(|(_, name)| *name == text);
        found.map(|(status, _)| *status).ok_or(ParseStatusError)
    }
}

/// A work unit to add.
#[derive(Clone, Debug)]
pub struct NewUnit {
    /// Its name.
    pub key: Name,
    /// Its data: a map.
    pub data: Value,
    /// Units of higher priority are handed out first; `None` is 0.
    pub priority: Option<f64>,
    /// How long it must wait. Only `coordinated` and the last Go server support this.
    pub delay: Option<Duration>,
    /// Its group. It matters if the work spec has `fair` or `max_running_per_group`. Only `coordinated` supports this.
    pub group: Option<String>,
}

impl NewUnit {
    /// A unit with priority 0 and without a group, available at once.
    pub fn new(key: impl Into<Name>, data: Value) -> Self {
        Self {
            key: key.into(),
            data,
            priority: None,
            delay: None,
            group: None,
        }
    }

    fn write(&self, writer: &mut crate::cbor::Writer<'_>) {
        let meta = options([
            ("priority", self.priority.map(Value::from)),
            ("delay", self.delay.map(|delay| delay.as_secs_f64().into())),
            ("group", self.group.as_deref().map(Value::from)),
        ]);
        let has_meta = meta != Value::EMPTY_MAP;
        writer.tuple(if has_meta { 3 } else { 2 });
        self.key.write(writer);
        self.data.write(writer);
        if has_meta {
            meta.write(writer);
        }
    }
}

/// What adding does to units that exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IfExists {
    /// They get the new data, and become available again.
    #[default]
    Reset,
    /// They stay as they are.
    Skip,
    /// The call is refused.
    Refuse,
}

impl IfExists {
    /// The options of a call that adds units in this way and answers with counts.
    fn options(self) -> Value {
        let name = match self {
            Self::Reset => "reset",
            Self::Skip => "skip",
            Self::Refuse => "error",
        };
        options([
            ("if_exists", Some(name.into())),
            ("counts", Some(true.into())),
        ])
    }
}

/// What became of the units of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// How many did not exist.
    pub new: u64,
    /// How many existed, and became available again.
    pub reset: u64,
    /// How many existed, and stayed as they were.
    pub skipped: u64,
}

/// A work unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Unit {
    /// Its name.
    pub key: Name,
    /// Its data; `None` if it was listed by name and there is no such unit.
    pub data: Option<Value>,
}

/// Which units to list.
///
/// ```
/// use coordinated_client::cbor::Value;
/// use coordinated_client::{Coordinate, Name, NewUnit, Status, UnitQuery};
/// # test_support::example::with_daemon(|address| {
/// let mut daemon = Coordinate::connect(address)?;
/// let spec = Name::from("ws");
/// daemon.set_work_spec(&Value::map([("name", Value::from("ws"))]))?;
/// let units = ["a", "b", "c"].map(|key| NewUnit::new(key, Value::EMPTY_MAP));
/// daemon.add_work_units(&spec, units)?;
/// let query = UnitQuery {
///     statuses: vec![Status::Available],
///     start: Some("b".into()),
///     ..UnitQuery::default()
/// };
/// assert_eq!(daemon.get_work_units(&spec, &query)?.len(), 2);
/// # Ok::<(), coordinated_client::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug, Default)]
pub struct UnitQuery {
    /// Exactly these, in this order; the other fields are ignored. An empty list means that no keys are given.
    pub keys: Vec<Name>,
    /// Units in one of these statuses; in any status if the list is empty.
    pub statuses: Vec<Status>,
    /// Begins with the first unit whose name is not before this one.
    pub start: Option<Name>,
    /// The highest number of units to list: 1,000 if `None`, and at most 10,000.
    pub limit: Option<u64>,
}

/// The state of a unit.
#[derive(Clone, Debug, PartialEq)]
pub struct UnitStatus {
    /// Its status; delayed units count as available.
    pub status: Status,
    /// When its lease ends or, if it is finished or failed, when it ended: seconds since 1970.
    pub expiration: Option<f64>,
    /// The worker that has it, or had it last.
    pub worker: Option<Name>,
    /// The traceback of a failure, from its worker.
    pub traceback: Option<Value>,
    /// How many times it has failed since it was added or retried, if its work spec has `retries`.
    pub failures: u64,
    /// How many failures its work spec retries; 0 if the unit has not failed yet.
    pub retries: u64,
    /// How many leases of it were lost since it was added or retried, if its work spec has a `max_lost`.
    pub lost: u64,
    /// When it is tried again, if it waits for that: seconds since 1970.
    pub retry_at: Option<f64>,
    /// Its group, if it was added to one.
    pub group: Option<String>,
    /// Who cancelled it, when and why, if it was cancelled. If its status is pending, its worker has until `expiration`.
    pub cancelled: Option<Cancellation>,
}

/// Who cancelled a unit, when and why, as far as that is known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cancellation {
    /// Why.
    pub reason: Option<String>,
    /// Who.
    pub by: Option<String>,
    /// When, in seconds since 1970.
    pub at: Option<f64>,
}

impl Cancellation {
    fn from_answer(answer: &Answer) -> Result<Self> {
        let text = |key| {
            let text = answer.field(key).optional();
            text.map(|text| text.text()).transpose()
        };
        Ok(Self {
            reason: text("reason")?,
            by: text("by")?,
            at: answer.field("at").optional_number()?,
        })
    }
}

/// How long workers may take to end the units that they run when these are cancelled, unless [`Cancel::grace`] says
/// otherwise.
pub const CANCEL_GRACE: Duration = Duration::from_secs(30);

/// How units are cancelled.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cancel {
    /// Why, for people: the units fail with the message `cancelled: REASON`.
    pub reason: Option<String>,
    /// Who cancels them.
    pub by: Option<String>,
    /// How long workers may take to end the units that they run, up to a day; [`CANCEL_GRACE`] if `None`.
    pub grace: Option<Duration>,
}

/// What became of units that were cancelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cancelled {
    /// How many have failed at once.
    pub failed: u64,
    /// How many run until their workers let them go, or until the grace is over.
    pub running: u64,
}

/// How many units there are of each status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Units that can be handed out, now or after their delay.
    pub available: u64,
    /// Units that a worker has.
    pub pending: u64,
    /// Units that are done.
    pub finished: u64,
    /// Units that have failed.
    pub failed: u64,
    /// Units in other statuses.
    pub other: u64,
}

impl Counts {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.available + self.pending + self.finished + self.failed + self.other
    }

    pub(super) fn of(&mut self, status: Status) -> &mut u64 {
        match status {
            Status::Available => &mut self.available,
            Status::Pending => &mut self.pending,
            Status::Finished => &mut self.finished,
            Status::Failed => &mut self.failed,
            Status::Blocked | Status::Expired | Status::Retryable => &mut self.other,
        }
    }
}

/// How to change the priorities of units.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Priority {
    /// To this priority.
    Set(f64),
    /// By this amount.
    Adjust(f64),
}

/// Which units to delete.
#[derive(Clone, Debug)]
pub enum Deletion {
    /// All of the work spec.
    All,
    /// Those with these names; only in this status, if one is given.
    Named(Vec<Name>, Option<Status>),
    /// All in this status.
    InStatus(Status),
}

/// One attempt at a unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// The attempt number, from 1.
    pub number: Option<u64>,
    /// The worker.
    pub worker: Option<Name>,
    /// Its status.
    pub status: Status,
    /// When it began, in seconds since 1970.
    pub start: Option<f64>,
    /// When it ended, in seconds since 1970.
    pub end: Option<f64>,
    /// When its lease ends or ended, in seconds since 1970.
    pub expiration: Option<f64>,
    /// The unit's data after the attempt, if it changed them.
    pub data: Option<Value>,
}

/// Failed units with the same message.
#[derive(Clone, Debug, PartialEq)]
pub struct FailureGroup {
    /// The last line of their tracebacks.
    pub message: String,
    /// How many there are.
    pub count: u64,
    /// One of them.
    pub first_key: Name,
    /// When the last one failed, in seconds since 1970.
    pub last_failed: Option<f64>,
}

/// A reason why a work spec or a unit is not worked on now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// A word for programs.
    pub code: String,
    /// A sentence for people.
    pub text: String,
}

impl Coordinate {
    /// Adds units to a work spec. Units that exist already get the new data, and become available again.
    ///
    /// Up to 1,000 units, in up to 4 MiB, are added all or none. `coordinated` adds more of them in several steps; if a
    /// step fails, the units of earlier steps have been added.
    pub fn add_work_units(
        &mut self,
        work_spec: &Name,
        units: impl IntoIterator<Item = NewUnit>,
    ) -> Result<()> {
        self.call(&Self::adding(work_spec, units))?.done()
    }

    /// Adds units to a work spec, and says what becomes of those that exist. Returns how many were new, reset and skipped.
    /// Only `coordinated` supports this, with the feature `if_exists`.
    ///
    /// The call is sent again if the connection breaks and units are to be skipped. Then the units that the first call
    /// added count as skipped.
    ///
    /// ```
    /// use coordinated_client::cbor::Value;
    /// use coordinated_client::{Added, Coordinate, IfExists, NewUnit};
    /// # test_support::example::with_daemon(|address| {
    /// let mut daemon = Coordinate::connect(address)?;
    /// daemon.set_work_spec(&Value::map([("name", Value::from("ws"))]))?;
    /// let spec = "ws".into();
    /// daemon.add_work_units(&spec, [NewUnit::new("a", Value::EMPTY_MAP)])?;
    /// let units = ["a", "b"].map(|key| NewUnit::new(key, Value::EMPTY_MAP));
    /// let added = daemon.add_work_units_if(&spec, units, IfExists::Skip)?;
    /// assert_eq!(added, Added { new: 1, reset: 0, skipped: 1 });
    /// # Ok::<(), coordinated_client::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// `Refused` if a unit exists and [`IfExists::Refuse`] was given. If the units are as few as for
    /// [`Coordinate::add_work_units`], none was added.
    pub fn add_work_units_if(
        &mut self,
        work_spec: &Name,
        units: impl IntoIterator<Item = NewUnit>,
        if_exists: IfExists,
    ) -> Result<Added> {
        let mut request = Self::request_to_add(work_spec, units, Some(if_exists));
        if if_exists == IfExists::Skip {
            request = request.repeatable();
        }
        Self::added_counts(self.connection.call(&request)?)
    }

    /// The request that adds units, to be sent in a [`super::Pipeline`]; [`Coordinate::added`] reads the answer.
    pub fn adding(work_spec: &Name, units: impl IntoIterator<Item = NewUnit>) -> Request {
        Self::request_to_add(work_spec, units, None)
    }

    fn request_to_add(
        work_spec: &Name,
        units: impl IntoIterator<Item = NewUnit>,
        if_exists: Option<IfExists>,
    ) -> Request {
        let (mut encoded, mut count) = (Vec::new(), 0);
        for unit in units {
            unit.write(&mut crate::cbor::Writer::new(&mut encoded));
            count += 1;
        }
        Self::request_to_add_encoded(work_spec, count, &encoded, if_exists)
    }

    /// The request that adds `count` units whose encodings follow one another: each a list of a key, data and meta.
    /// Without `if_exists` every server takes it, and [`Coordinate::added`] reads the answer, otherwise
    /// [`Coordinate::added_counts`].
    #[must_use]
    pub fn request_to_add_encoded(
        work_spec: &Name,
        count: usize,
        encoded: &[u8],
        if_exists: Option<IfExists>,
    ) -> Request {
        Request::with_params("add_work_units", |writer| {
            writer.array(2 + usize::from(if_exists.is_some()));
            work_spec.write(writer);
            writer.array(count);
            writer.encoded(encoded);
            if let Some(if_exists) = if_exists {
                if_exists.options().write(writer);
            }
        })
    }

    /// Reads the answer to a request that adds units.
    ///
    /// # Errors
    /// `Refused` if there is no such work spec; then no unit was added.
    pub fn added(answer: Value) -> Result<()> {
        Answer::new("add_work_units", answer).done()
    }

    /// Reads the answer to a request that adds units with [`IfExists`].
    ///
    /// # Errors
    /// `Refused` if there is no such work spec, or if a unit exists and is not to be added.
    pub fn added_counts(answer: Value) -> Result<Added> {
        let counts = Answer::new("add_work_units", answer).accepted()?;
        Ok(Added {
            new: counts.field("new").count()?,
            reset: counts.field("reset").count()?,
            skipped: counts.field("skipped").count()?,
        })
    }

    /// Counts a work spec's units.
    pub fn count_work_units(&mut self, work_spec: &Name) -> Result<Counts> {
        let answer = self
            .call_with("count_work_units", [work_spec.into()])?
            .accepted()?;
        let mut counts = Counts::default();
        for (status, count) in answer.entries()? {
            *counts.of(Status::from_answer(&status)?) += count.count()?;
        }
        Ok(counts)
    }

    /// Lists units by name. (With a status, the Python server lists them by priority instead, where `start` is of no
    /// use.)
    pub fn get_work_units(&mut self, work_spec: &Name, query: &UnitQuery) -> Result<Vec<Unit>> {
        let numbers = |statuses: &[Status]| {
            let numbers = statuses.iter().map(|status| status.number().into());
            Value::Array(numbers.collect())
        };
        let options = options([
            (
                "work_unit_keys",
                (!query.keys.is_empty()).then(|| names(&query.keys)),
            ),
            (
                "state",
                (!query.statuses.is_empty()).then(|| numbers(&query.statuses)),
            ),
            ("start", query.start.as_ref().map(Value::from)),
            ("limit", query.limit.map(Value::from)),
        ]);
        let answer = self
            .call_with("get_work_units", [work_spec.into(), options])?
            .accepted()?;
        let mut units = Vec::new();
        for item in answer.items()? {
            let [key, data] = item.exactly()?;
            units.push(Unit {
                key: key.name()?,
                data: data.optional().map(Answer::value),
            });
        }
        Ok(units)
    }

    /// The states of some units, in the same order; `None` for units that don't exist.
    pub fn get_work_unit_status(
        &mut self,
        work_spec: &Name,
        keys: &[Name],
    ) -> Result<Vec<Option<UnitStatus>>> {
        let params = [work_spec.into(), names(keys)];
        self.statuses(&Request::new("get_work_unit_status", params))
    }

    /// As [`Coordinate::get_work_unit_status`], but waits until one of the units has been completed or deleted, for `wait`
    /// at the longest: at most a minute, and for at most 250 units. Only `coordinated` supports this, if it has the
    /// feature `wait`.
    pub fn wait_for_work_units(
        &mut self,
        work_spec: &Name,
        keys: &[Name],
        wait: Duration,
    ) -> Result<Vec<Option<UnitStatus>>> {
        let options = options([("wait", Some(wait.as_secs_f64().into()))]);
        let params = [work_spec.into(), names(keys), options];
        self.statuses(&Request::new("get_work_unit_status", params).waiting(wait))
    }

    fn statuses(&mut self, request: &Request) -> Result<Vec<Option<UnitStatus>>> {
        let answer = self.call(request)?.accepted()?;
        let mut statuses = Vec::new();
        for item in answer.items()? {
            let read = |item: Answer| {
                Ok(UnitStatus {
                    status: Status::from_answer(&item.field("status"))?,
                    expiration: item.field("expiration").optional_number()?,
                    worker: item.field("worker_id").optional_name()?,
                    traceback: item.field("traceback").optional().map(Answer::value),
                    failures: item.field("failures").optional_count()?.unwrap_or(0),
                    retries: item.field("retries").optional_count()?.unwrap_or(0),
                    lost: item.field("lost").optional_count()?.unwrap_or(0),
                    retry_at: item.field("retry_at").optional_number()?,
                    cancelled: item
                        .field("cancelled")
                        .optional()
                        .map(|cancelled| Cancellation::from_answer(&cancelled))
                        .transpose()?,
                    group: item.field("group").optional_text()?,
                })
            };
            statuses.push(item.optional().map(read).transpose()?);
        }
        Ok(statuses)
    }

    /// Changes the priorities of units; unknown names are ignored.
    pub fn prioritize_work_units(
        &mut self,
        work_spec: &Name,
        keys: &[Name],
        priority: Priority,
    ) -> Result<()> {
        let (set, adjust) = match priority {
            Priority::Set(priority) => (Some(priority.into()), None),
            Priority::Adjust(adjustment) => (None, Some(adjustment.into())),
        };
        let options = options([
            ("work_unit_keys", Some(names(keys))),
            ("priority", set),
            ("adjustment", adjust),
        ]);
        self.call_with("prioritize_work_units", [work_spec.into(), options])?
            .done()
    }

    /// Deletes units. Returns how many were deleted.
    pub fn del_work_units(&mut self, work_spec: &Name, which: &Deletion) -> Result<u64> {
        // The Go servers delete all units if no option selects some.
        if let Deletion::Named(keys, _) = which
            && keys.is_empty()
        {
            return Ok(0);
        }
        let number = |status: Status| Value::from(status.number());
        let options = match which {
            Deletion::All => options([("all", Some(true.into()))]),
            Deletion::Named(keys, status) => options([
                ("work_unit_keys", Some(names(keys))),
                ("state", status.map(number)),
            ]),
            Deletion::InStatus(status) => options([("state", Some(number(*status)))]),
        };
        self.call_with("del_work_units", [work_spec.into(), options])?
            .accepted()?
            .count()
    }

    /// Cancels units: those with these names, or all if `keys` is `None`; if statuses are given, only units in one of these.
    /// Units that are finished or have failed stay as they are. Only `coordinated` has it, with the feature `cancel`.
    ///
    /// ```
    /// use coordinated_client::cbor::Value;
    /// use coordinated_client::{Cancel, Cancelled, Coordinate, NewUnit};
    /// # test_support::example::with_daemon(|address| {
    /// let mut daemon = Coordinate::connect(address)?;
    /// daemon.set_work_spec(&Value::map([("name", Value::from("ws"))]))?;
    /// let spec = "ws".into();
    /// daemon.add_work_units(&spec, [NewUnit::new("a", Value::EMPTY_MAP)])?;
    /// let how = Cancel {
    ///     reason: Some("wrong input".to_owned()),
    ///     ..Cancel::default()
    /// };
    /// let cancelled = daemon.cancel_work_units(&spec, Some(&["a".into()]), &[], &how)?;
    /// assert_eq!(cancelled, Cancelled { failed: 1, running: 0 });
    /// # Ok::<(), coordinated_client::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn cancel_work_units(
        &mut self,
        work_spec: &Name,
        keys: Option<&[Name]>,
        statuses: &[Status],
        how: &Cancel,
    ) -> Result<Cancelled> {
        let numbers = || {
            let numbers = statuses.iter().map(|status| status.number().into());
            Value::Array(numbers.collect())
        };
        let is_all = keys.is_none() && statuses.is_empty();
        let options = options([
            ("all", is_all.then_some(true.into())),
            ("work_unit_keys", keys.map(names)),
            ("state", (!statuses.is_empty()).then(numbers)),
            ("reason", how.reason.as_deref().map(Value::from)),
            ("by", how.by.as_deref().map(Value::from)),
            ("grace", how.grace.map(|grace| grace.as_secs_f64().into())),
        ]);
        let counts = self
            .call_with("cancel_work_units", [work_spec.into(), options])?
            .accepted()?;
        Ok(Cancelled {
            failed: counts.field("failed").count()?,
            running: counts.field("running").count()?,
        })
    }

    /// The attempts at a unit, the last one first. Only this daemon has it.
    pub fn get_attempts(
        &mut self,
        work_spec: &Name,
        key: &Name,
        limit: Option<u64>,
    ) -> Result<Vec<Attempt>> {
        let options = options([("limit", limit.map(Value::from))]);
        let answer = self
            .call_with("get_attempts", [work_spec.into(), key.into(), options])?
            .accepted()?;
        let mut attempts = Vec::new();
        for item in answer.items()? {
            let number = item.field("number").optional();
            attempts.push(Attempt {
                number: number.map(|number| number.count()).transpose()?,
                worker: item.field("worker_id").optional_name()?,
                status: Status::from_answer(&item.field("status"))?,
                start: item.field("start").optional_number()?,
                end: item.field("end").optional_number()?,
                expiration: item.field("expiration").optional_number()?,
                data: item.field("data").optional().map(Answer::value),
            });
        }
        Ok(attempts)
    }

    /// The numbers of the last attempts at units, as for [`Coordinate::get_attempts`], for many in one go.
    pub fn attempt_numbers(&mut self, units: &[super::Work]) -> Result<Vec<Option<u64>>> {
        // So few are on their way at once that neither side has to wait for the other to read.
        const AT_ONCE: usize = 100;
        let mut numbers = Vec::with_capacity(units.len());
        for units in units.chunks(AT_ONCE) {
            let mut pipeline = self.connection.pipeline();
            for unit in units {
                let limit = options([("limit", Some(1.into()))]);
                let params = [(&unit.work_spec).into(), (&unit.key).into(), limit];
                pipeline.send(&Request::new("get_attempts", params))?;
            }
            while let Some(value) = pipeline.receive() {
                let answer = Answer::new("get_attempts", value?).pair()?.0;
                // There is none if the unit was deleted meanwhile.
                let number = match answer.optional() {
                    None => None,
                    Some(attempts) => attempts
                        .items()?
                        .first()
                        .and_then(|last| last.field("number").optional()),
                };
                numbers.push(number.map(|number| number.count()).transpose()?);
            }
        }
        Ok(numbers)
    }

    /// Failed units, grouped by the last line of their tracebacks. Only this daemon has it.
    pub fn list_failures(
        &mut self,
        work_spec: &Name,
        limit: Option<u64>,
    ) -> Result<Vec<FailureGroup>> {
        let options = options([("limit", limit.map(Value::from))]);
        let answer = self
            .call_with("list_failures", [work_spec.into(), options])?
            .accepted()?;
        let mut groups = Vec::new();
        for item in answer.items()? {
            groups.push(FailureGroup {
                message: item.field("message").text()?,
                count: item.field("count").count()?,
                first_key: item.field("first_key").name()?,
                last_failed: item.field("last_failed").optional_number()?,
            });
        }
        Ok(groups)
    }

    /// Why a unit, or any of a work spec's, does not run now: the most decisive reason first. Only this daemon
    /// has it.
    pub fn explain_work(&mut self, work_spec: &Name, key: Option<&Name>) -> Result<Vec<Reason>> {
        let answer = self
            .call_with(
                "explain_work",
                [work_spec.into(), key.map_or(Value::Null, Value::from)],
            )?
            .accepted()?;
        let mut reasons = Vec::new();
        for item in answer.items()? {
            reasons.push(Reason {
                code: item.field("code").text()?,
                text: item.field("text").text()?,
            });
        }
        Ok(reasons)
    }
}
