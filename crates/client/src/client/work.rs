//! Methods for workers: getting units, and reporting on them.

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

    /// True if it can be executed twice without harm.
    fn is_repeatable(&self) -> bool {
        match self.status {
            Some(Status::Finished | Status::Failed) => true,
            Some(_) => false,
            None => self.lease_seconds.is_some_and(|seconds| seconds > 0.0),
        }
    }

    fn options(&self) -> Value {
        let number = self.status.map(Status::number);
        options([
            ("status", number.map(Value::from)),
            ("lease_time", self.lease_seconds.map(Value::from)),
            ("data", self.data.clone()),
            ("worker_id", self.worker.as_ref().map(Value::from)),
            ("delay", self.delay.map(|delay| delay.as_secs_f64().into())),
            ("final", self.is_final.then(|| true.into())),
        ])
    }
}

impl Coordinate {
    /// Requests work. The result is empty if there is none now.
    pub fn get_work(&mut self, worker: &Name, wanted: &GetWork) -> Result<Vec<Work>> {
        let some_names = |list: &[Name]| (!list.is_empty()).then(|| names(list));
        let options = options([
            ("max_jobs", wanted.max_units.map(Value::from)),
            (
                "lease_time",
                wanted.lease.map(|lease| lease.as_secs_f64().into()),
            ),
            ("work_spec_names", some_names(&wanted.work_specs)),
            ("runtimes", some_names(&wanted.runtimes)),
        ]);
        let answer = self
            .call_with("get_work", [worker.into(), options])?
            .accepted()?;
        let assignments = match wanted.max_units {
            None | Some(0 | 1) => vec![answer],
            Some(_) => answer.items()?,
        };
        let mut work = Vec::new();
        for assignment in assignments {
            let [work_spec, key, data] = assignment.exactly()?;
            // Three nulls say that there is no work.
            if let (Some(work_spec), Some(key)) = (work_spec.optional(), key.optional()) {
                work.push(Work {
                    work_spec: work_spec.name()?,
                    key: key.name()?,
                    data: data.value(),
                });
            }
        }
        Ok(work)
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
        let params = [work_spec.into(), key.into(), update.options()];
        let mut request = Request::new("update_work_unit", params);
        if update.is_repeatable() {
            request = request.repeatable();
        }
        self.call(&request)?.done()
    }

    /// Reports on many units in one call. Returns for each, in order, whether it was accepted, or why it was refused. Only
    /// `coordinated` supports this.
    pub fn update_work_units(
        &mut self,
        work_spec: &Name,
        updates: &[(Name, Update)],
    ) -> Result<Vec<Result<(), String>>> {
        let list = updates
            .iter()
            .map(|(key, update)| Value::Array(vec![key.into(), update.options()]));
        let params = [work_spec.into(), Value::Array(list.collect())];
        let mut request = Request::new("update_work_units", params);
        if updates.iter().all(|(_, update)| update.is_repeatable()) {
            request = request.repeatable();
        }
        let answer = self.call(&request)?.accepted()?;
        let mut outcomes = Vec::new();
        for item in answer.items()? {
            let (accepted, message) = item.pair()?;
            let accepted = accepted.value().as_bool() == Some(true);
            outcomes.push(match (accepted, message) {
                (true, _) => Ok(()),
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
