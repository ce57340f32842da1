//! Methods for workers: getting units, and reporting on them.

use super::answer::Answer;
use super::{Coordinate, Error, Name, Request, Result, Status, names, options};
use crate::cbor::Value;
use std::time::Duration;

/// Which work to ask for.
#[derive(Clone, Debug, Default)]
pub struct GetWork {
    /// How many units, all of one work spec; 1 if `None`.
    pub max_units: Option<u64>,
    /// The length of the leases; 300 s if `None`. From 1 s to a day.
    pub lease: Option<Duration>,
    /// Only from these work specs; from all if the list is empty.
    pub work_specs: Vec<Name>,
    /// Only from work specs with one of these runtimes; if the list is empty, from those without a runtime. Only
    /// `coordinated` supports this.
    pub runtimes: Vec<Name>,
    /// Also tells the attempt at each unit ([`Work::attempt`]). Only `coordinated` supports this, from the version on whose
    /// [`ServerInfo`](super::ServerInfo) has the feature `attempts`.
    pub attempts: bool,
    /// How long the server waits for a unit, if it has none now: at most a minute. Only `coordinated` supports this, if it
    /// has the feature `wait`; other servers answer at once.
    ///
    /// ```
    /// use coordinated_client::{Coordinate, GetWork};
    /// use std::time::Duration;
    /// # test_support::example::with_daemon(|address| {
    /// let mut daemon = Coordinate::connect(address)?;
    /// let wanted = GetWork { wait: Some(Duration::from_millis(10)), ..GetWork::default() };
    /// assert!(daemon.get_work(&"worker-1".into(), &wanted)?.is_empty());
    /// # Ok::<(), coordinated_client::Error>(())
    /// # }).unwrap();
    /// ```
    pub wait: Option<Duration>,
}

/// A unit that was handed out.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    /// Its work spec.
    pub work_spec: Name,
    /// Its name.
    pub key: Name,
    /// Its data.
    pub data: Value,
    /// The attempt that began, if that was asked for ([`GetWork::attempts`]) and the server tells it.
    pub attempt: Option<BegunAttempt>,
}

impl Work {
    /// The unit in a tuple; nulls say that there is no work.
    fn from_answer(answer: Answer) -> Result<Option<Self>> {
        let [work_spec, key, data, attempt] = answer.exactly_or_without_last()?;
        let (Some(work_spec), Some(key)) = (work_spec.optional(), key.optional()) else {
            return Ok(None);
        };
        Ok(Some(Self {
            work_spec: work_spec.name()?,
            key: key.name()?,
            data: data.value(),
            attempt: attempt
                .optional()
                .map(BegunAttempt::from_answer)
                .transpose()?,
        }))
    }
}

/// An attempt at a unit, as it is told when the unit is handed out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BegunAttempt {
    /// Its id, for [`Update::of_attempt`]. It is larger than those of all attempts before, at any unit, and is never used
    /// again. So a place that stores the largest id that it has seen can refuse what an earlier attempt still writes.
    pub id: u64,
    /// The attempt number at this unit, from 1.
    pub number: u64,
    /// When its lease ends if it is not renewed, in seconds since 1970.
    pub expires: f64,
}

impl BegunAttempt {
    fn from_answer(answer: Answer) -> Result<Self> {
        Ok(Self {
            id: answer.field("attempt").count()?,
            number: answer.field("number").count()?,
            expires: answer.field("expires").number()?,
        })
    }
}

/// A report on a unit, or a request to change its status or lease.
///
/// ```
/// use coordinated_client::cbor::Value;
/// use coordinated_client::{Coordinate, GetWork, Name, NewUnit, Status, Update};
/// # test_support::example::with_daemon(|address| {
/// let mut daemon = Coordinate::connect(address)?;
/// let (spec, worker, key): (Name, Name, Name) = ("ws".into(), "w".into(), "a".into());
/// daemon.set_work_spec(&Value::map([("name", Value::from("ws"))]))?;
/// daemon.add_work_units(&spec, [NewUnit::new("a", Value::EMPTY_MAP)])?;
/// daemon.get_work(&worker, &GetWork::default())?;
/// let data = Value::map([("traceback", Value::from("it broke"))]);
/// daemon.update_work_unit(&spec, &key, &Update::failed().with_data(data).by_worker(worker))?;
/// let statuses = daemon.get_work_unit_status(&spec, &[key])?;
/// assert_eq!(statuses[0].as_ref().map(|unit| unit.status), Some(Status::Failed));
/// # Ok::<(), coordinated_client::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Update {
    status: Option<Status>,
    lease_seconds: Option<f64>,
    data: Option<Value>,
    attempt: Option<u64>,
    worker: Option<Name>,
    delay: Option<Duration>,
    is_final: bool,
}

impl Update {
    const fn new(status: Option<Status>, lease_seconds: Option<f64>) -> Self {
        Self {
            status,
            lease_seconds,
            data: None,
            attempt: None,
            worker: None,
            delay: None,
            is_final: false,
        }
    }

    /// The unit is done.
    #[must_use]
    pub fn finished() -> Self {
        Self::new(Some(Status::Finished), None)
    }

    /// The unit has failed. The reason belongs in the data, as `traceback`. If its work spec has `retries`, it may be
    /// tried again.
    #[must_use]
    pub fn failed() -> Self {
        Self::new(Some(Status::Failed), None)
    }

    /// The failure is final, even if the work spec has `retries`. Only `coordinated` supports this.
    #[must_use]
    pub fn for_good(mut self) -> Self {
        self.is_final = true;
        self
    }

    /// If the unit is tried again after this failure, then after this delay instead of that of the work spec. Only
    /// `coordinated` supports this.
    #[must_use]
    pub fn retried_after(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self
    }

    /// The unit is available again: a failed or finished one starts over, and a pending one goes to another worker.
    #[must_use]
    pub fn available() -> Self {
        Self::new(Some(Status::Available), Some(0.0))
    }

    /// As [`Update::available`], but after a delay. Only `coordinated` supports the delay; other servers make the unit
    /// available at once.
    #[must_use]
    pub fn available_after(delay: Duration) -> Self {
        Self {
            delay: Some(delay),
            ..Self::available()
        }
    }

    /// The lease is renewed: it ends this long after now.
    #[must_use]
    pub fn renewed(lease: Duration) -> Self {
        Self::new(None, Some(lease.as_secs_f64()))
    }

    /// The lease ends now, so that another worker can take the unit.
    #[must_use]
    pub fn given_back() -> Self {
        Self::new(None, Some(-1.0))
    }

    /// Replaces the unit's data.
    #[must_use]
    pub fn with_data(mut self, data: Value) -> Self {
        self.data = Some(data);
        self
    }

    /// Names the worker that reports. With it, `coordinated` refuses late reports on any connection.
    #[must_use]
    pub fn by_worker(mut self, worker: Name) -> Self {
        self.worker = Some(worker);
        self
    }

    /// Says which attempt the report is about ([`BegunAttempt::id`]). `coordinated` then refuses it if that attempt has lost
    /// the unit, on any connection and whatever worker reports; servers without the feature `attempts` ignore it.
    #[must_use]
    pub fn of_attempt(mut self, id: u64) -> Self {
        self.attempt = Some(id);
        self
    }

    /// True if it can be executed twice without harm.
    fn is_repeatable(&self) -> bool {
        match self.status {
            Some(Status::Finished | Status::Failed) => true,
            Some(_) => false,
            None => self.lease_seconds.is_some_and(|seconds| seconds > 0.0),
        }
    }

    fn options(&self, tells_retry: bool) -> Value {
        let number = self.status.map(Status::number);
        options([
            ("status", number.map(Value::from)),
            ("lease_time", self.lease_seconds.map(Value::from)),
            ("data", self.data.clone()),
            ("attempt", self.attempt.map(Value::from)),
            ("worker_id", self.worker.as_ref().map(Value::from)),
            ("delay", self.delay.map(|delay| delay.as_secs_f64().into())),
            ("final", self.is_final.then(|| true.into())),
            ("tell_retry", tells_retry.then(|| true.into())),
        ])
    }
}

/// When a unit that has failed will be tried again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NextTry {
    /// How many times it has failed.
    pub failures: u64,
    /// How many failures its work spec allows to be followed by another try.
    pub retries: u64,
    /// After how long.
    pub delay: Duration,
}

impl NextTry {
    /// Reads it from the answer to a report, if it is told.
    fn from_answer(answer: &Answer) -> Result<Option<Self>> {
        let Some(told) = answer.second_map() else {
            return Ok(None);
        };
        Ok(Some(Self {
            failures: told.field("failures").count()?,
            retries: told.field("retries").count()?,
            delay: Duration::try_from_secs_f64(told.field("delay").number()?)
                .unwrap_or(Duration::MAX),
        }))
    }
}

const GET_WORK: &str = "get_work";

impl GetWork {
    fn request(&self, worker: &Name) -> Request {
        let some_names = |list: &[Name]| (!list.is_empty()).then(|| names(list));
        let seconds = |duration: Duration| Value::from(duration.as_secs_f64());
        let options = options([
            ("max_jobs", self.max_units.map(Value::from)),
            ("lease_time", self.lease.map(seconds)),
            ("work_spec_names", some_names(&self.work_specs)),
            ("runtimes", some_names(&self.runtimes)),
            ("attempts", self.attempts.then_some(Value::Bool(true))),
            ("wait", self.wait.map(seconds)),
        ]);
        Request::new(GET_WORK, [worker.into(), options]).waiting(self.wait.unwrap_or_default())
    }

    fn read(&self, answer: Answer) -> Result<Vec<Work>> {
        let answer = answer.accepted()?;
        let assignments = match self.max_units {
            None | Some(0 | 1) => vec![answer],
            Some(_) => answer.items()?,
        };
        let mut work = Vec::new();
        for assignment in assignments {
            work.extend(Work::from_answer(assignment)?);
        }
        Ok(work)
    }
}

impl Coordinate {
    /// Requests work. The result is empty if there is none now, or none came while the server waited.
    pub fn get_work(&mut self, worker: &Name, wanted: &GetWork) -> Result<Vec<Work>> {
        let answer = self.call(&wanted.request(worker))?;
        wanted.read(answer)
    }

    /// Sends a request for work. [`Coordinate::receive_work`] receives the answer.
    pub(crate) fn send_get_work(&mut self, worker: &Name, wanted: &GetWork) -> Result<()> {
        self.connection.send(&wanted.request(worker))
    }

    /// Waits for the answer to [`Coordinate::send_get_work`].
    pub(crate) fn receive_work(&mut self, wanted: &GetWork) -> Result<Vec<Work>> {
        let value = self.connection.receive()?;
        wanted.read(Answer::new(GET_WORK, value))
    }

    /// Reports on a unit.
    ///
    /// # Errors
    /// `Refused` if there is no such unit, or if its lease was lost to another worker.
    pub fn update_work_unit(
        &mut self,
        work_spec: &Name,
        key: &Name,
        update: &Update,
    ) -> Result<()> {
        self.update_one(work_spec, key, update, false).map(|_| ())
    }

    /// As [`Coordinate::update_work_unit`]; of a failure it also returns when the unit will be tried again, if it will. Only
    /// `coordinated` supports this, with the feature `tell_retry`.
    ///
    /// # Errors
    /// As [`Coordinate::update_work_unit`].
    pub fn report_work_unit(
        &mut self,
        work_spec: &Name,
        key: &Name,
        update: &Update,
    ) -> Result<Option<NextTry>> {
        self.update_one(work_spec, key, update, true)
    }

    pub(crate) fn update_one(
        &mut self,
        work_spec: &Name,
        key: &Name,
        update: &Update,
        tells_retry: bool,
    ) -> Result<Option<NextTry>> {
        let params = [work_spec.into(), key.into(), update.options(tells_retry)];
        let mut request = Request::new("update_work_unit", params);
        if update.is_repeatable() {
            request = request.repeatable();
        }
        let answer = self.call(&request)?;
        let next_try = NextTry::from_answer(&answer)?;
        answer.done().map(|()| next_try)
    }

    /// Reports on many units in one call. Returns for each, in order, whether it was accepted, or why it was refused. Only
    /// `coordinated` supports this.
    pub fn update_work_units(
        &mut self,
        work_spec: &Name,
        updates: &[(Name, Update)],
    ) -> Result<Vec<Result<(), String>>> {
        let outcomes = self.update_many(work_spec, updates, false)?;
        let accepted = |outcome: Result<_, _>| outcome.map(|_| ());
        Ok(outcomes.into_iter().map(accepted).collect())
    }

    /// As [`Coordinate::update_work_units`]; of failures it also returns when the unit will be tried again, if it will. Only
    /// `coordinated` supports this, with the feature `tell_retry`.
    ///
    /// # Errors
    /// As [`Coordinate::update_work_units`].
    pub fn report_work_units(
        &mut self,
        work_spec: &Name,
        updates: &[(Name, Update)],
    ) -> Result<Vec<Result<Option<NextTry>, String>>> {
        self.update_many(work_spec, updates, true)
    }

    pub(crate) fn update_many(
        &mut self,
        work_spec: &Name,
        updates: &[(Name, Update)],
        tells_retry: bool,
    ) -> Result<Vec<Result<Option<NextTry>, String>>> {
        let list = updates
            .iter()
            .map(|(key, update)| Value::Array(vec![key.into(), update.options(tells_retry)]));
        let params = [work_spec.into(), Value::Array(list.collect())];
        let mut request = Request::new("update_work_units", params);
        if updates.iter().all(|(_, update)| update.is_repeatable()) {
            request = request.repeatable();
        }
        let answer = self.call(&request)?.accepted()?;
        let mut outcomes = Vec::new();
        for item in answer.items()? {
            let next_try = NextTry::from_answer(&item)?;
            let (accepted, message) = item.pair()?;
            let accepted = accepted.value().as_bool() == Some(true);
            outcomes.push(match (accepted, message) {
                (true, _) => Ok(next_try),
                (false, message) => Err(message.unwrap_or_default()),
            });
        }
        if outcomes.len() != updates.len() {
            let (found, asked) = (outcomes.len(), updates.len());
            return Err(Error::Unreadable {
                method: request.method().to_owned(),
                problem: format!("it has {found} answers to {asked} updates"),
            });
        }
        Ok(outcomes)
    }
}
