//! Work specs.

use super::answer::Answer;
use super::{Coordinate, Counts, Error, Name, Request, Result, Status, options};
use crate::cbor::Value;

/// Which work specs to list.
#[derive(Clone, Debug, Default)]
pub struct ListSpecs {
    /// Begins with the first work spec whose name is not before this one. The Python server begins at a wrong one.
    pub start: Option<Name>,
    /// The highest number of work specs to list.
    pub limit: Option<u64>,
}

/// How to change the scheduling of a work spec. Fields that are `None` change nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Control {
    /// Stops handing out its units, or hands them out again.
    pub paused: Option<bool>,
    /// Who pauses it and why. Only `coordinated` supports this, with the feature `pause_reason`.
    pub pause: Pause,
    /// Its share of the work among work specs of the same priority.
    pub weight: Option<i64>,
    /// Seconds between two continuous units; `Some(None)` for none.
    pub interval: Option<Option<f64>>,
    /// How many of its units may be pending at once; `Some(None)` for no limit.
    pub max_running: Option<Option<u64>>,
    /// Makes continuous units, or stops making them. Only for work specs whose definition allows them.
    pub continuous: Option<bool>,
}

impl Control {
    fn request(&self, work_spec: &Name) -> Request {
        let status = |paused| Value::from(if paused { PAUSED } else { RUNNABLE });
        let pause = &self.pause;
        let text = |text: &Option<String>| text.as_deref().map(Value::from);
        let options = options([
            ("status", self.paused.map(status)),
            ("reason", text(&pause.reason)),
            ("by", text(&pause.by)),
            ("since", pause.since.map(Value::from)),
            ("weight", self.weight.map(Value::from)),
            ("interval", self.interval.map(Value::from)),
            ("max_running", self.max_running.map(Value::from)),
            ("continuous", self.continuous.map(Value::from)),
        ]);
        Request::new("control_work_spec", [work_spec.into(), options])
    }
}

/// Who paused a work spec, when and why, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pause {
    /// Why, for people. A paused work spec keeps its pause unless there is a new reason.
    pub reason: Option<String>,
    /// Who: a person or a rule.
    pub by: Option<String>,
    /// When, in seconds since 1970; by default now.
    pub since: Option<f64>,
}

/// How a work spec is scheduled.
#[derive(Clone, Debug, PartialEq)]
pub struct Meta {
    /// True if none of its units are handed out.
    pub paused: bool,
    /// True if continuous units are made.
    pub continuous: bool,
    /// Seconds between two of them.
    pub interval: Option<f64>,
    /// How many of its units may be pending at once.
    pub max_running: Option<u64>,
    /// Its share of the work. With the Python server there may be none.
    pub weight: Option<i64>,
}

/// What limits and ends the attempts at the units of a work spec.
#[derive(Clone, Debug, PartialEq)]
pub struct SpecLimits {
    /// How many failures of a unit are followed by another try.
    pub retries: u64,
    /// How many units have failed, and will be tried again.
    pub retrying: u64,
    /// How fast units are handed out at most, such as `100/m`.
    pub max_rate: Option<String>,
    /// How many units may be handed out at once by that rate.
    pub max_rate_burst: Option<u64>,
    /// When the rate allows the next unit, in seconds since 1970; `None` if it allows one now.
    pub rate_until: Option<f64>,
    /// When failures pause the work spec.
    pub halt_after: Option<HaltAfter>,
    /// How many attempts have failed since one was last finished, if that is counted.
    pub failed_in_a_row: u64,
}

/// When a work spec is paused because its units fail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HaltAfter {
    /// After so many failed attempts in a row.
    pub failures: Option<u64>,
    /// When this share of the last attempts have failed.
    pub rate: Option<f64>,
    /// How many attempts there have to be before the rate counts.
    pub min: Option<u64>,
}

/// How many units a work spec has.
#[derive(Clone, Debug, PartialEq)]
pub struct SpecSummary {
    /// The work spec's name.
    pub work_spec: Name,
    /// Its units by status.
    pub counts: Counts,
    /// How many of the available ones are delayed.
    pub delayed: u64,
    /// How many of the available ones have failed, and are to be tried again.
    pub retrying: u64,
    /// How many seconds the available unit has waited that has waited longest; `None` if none is available.
    pub waiting: Option<f64>,
}

impl Pause {
    fn from_answer(pause: &Answer) -> Result<Self> {
        let text = |key| {
            let text = pause.field(key).optional();
            text.map(|text| text.text()).transpose()
        };
        Ok(Self {
            reason: text("reason")?,
            by: text("by")?,
            since: pause.field("since").optional_number()?,
        })
    }
}

/// The runs of a work spec with a schedule: when it makes units by itself. Times are in seconds since 1970.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// The time zone of the schedule.
    pub timezone: String,
    /// The next three runs. While the work spec is paused they are skipped.
    pub next: Vec<f64>,
    /// The last run that made a unit.
    pub last: Option<f64>,
    /// The last run that made none.
    pub skipped: Option<f64>,
}

impl Schedule {
    fn from_answer(schedule: &Answer) -> Result<Self> {
        let next = schedule.field("next").items()?;
        Ok(Self {
            timezone: schedule.field("timezone").text()?,
            next: next
                .iter()
                .map(Answer::number)
                .collect::<Result<Vec<f64>>>()?,
            last: schedule.field("last").optional_number()?,
            skipped: schedule.field("skipped").optional_number()?,
        })
    }
}

const PAUSED: i64 = 2;
const RUNNABLE: i64 = 1;

impl Coordinate {
    /// Creates or replaces a work spec: a map with its `name`. Its units stay.
    pub fn set_work_spec(&mut self, definition: &Value) -> Result<()> {
        self.call_with("set_work_spec", [definition.clone()])?
            .done()
    }

    /// A work spec's definition; `None` if there is no such work spec.
    pub fn get_work_spec(&mut self, work_spec: &Name) -> Result<Option<Value>> {
        match self.call_with("get_work_spec", [work_spec.into()]) {
            // The Go servers fail where the others return null.
            Err(Error::Failed { message, .. }) if message.starts_with("No such work spec ") => {
                Ok(None)
            }
            answer => Ok(answer?.optional().map(Answer::value)),
        }
    }

    /// The definitions of some work specs, by name, and the name at which to continue if there are more.
    pub fn list_work_specs(&mut self, which: &ListSpecs) -> Result<(Vec<Value>, Option<Name>)> {
        let options = options([
            ("start", which.start.as_ref().map(Value::from)),
            ("limit", which.limit.map(Value::from)),
        ]);
        let answer = self.call_with("list_work_specs", [options])?;
        let [definitions, next] = answer.exactly()?;
        let definitions = definitions.items()?.into_iter().map(Answer::value);
        // The Go servers pad the list with nulls.
        let definitions = definitions.filter(|definition| !definition.is_null());
        Ok((definitions.collect(), next.optional_name()?))
    }

    /// The names of all work specs, in order.
    pub fn work_spec_names(&mut self) -> Result<Vec<Name>> {
        let (definitions, _) = self.list_work_specs(&ListSpecs::default())?;
        let mut names: Vec<Name> = definitions
            .iter()
            .filter_map(|definition| Name::from_value(definition.get("name")?))
            .collect();
        names.sort();
        Ok(names)
    }

    /// Changes how a work spec is scheduled, until it is set again.
    pub fn control_work_spec(&mut self, work_spec: &Name, control: &Control) -> Result<()> {
        self.call(&control.request(work_spec))?.done()
    }

    /// Creates or replaces a work spec and changes how it is scheduled, with one message, so that `coordinated` hands out
    /// none of its units in between. The Go servers don't support this.
    pub fn set_and_control_work_spec(
        &mut self,
        work_spec: &Name,
        definition: &Value,
        control: &Control,
    ) -> Result<()> {
        let requests = [
            Request::new("set_work_spec", [definition.clone()]),
            control.request(work_spec),
        ];
        let results = self.connection.call_list(&requests)?;
        for (request, result) in requests.iter().zip(results) {
            Answer::new(request.method(), result).done()?;
        }
        Ok(())
    }

    /// How a work spec is scheduled.
    pub fn get_work_spec_meta(&mut self, work_spec: &Name) -> Result<Meta> {
        let answer = self
            .call_with("get_work_spec_meta", [work_spec.into()])?
            .accepted()?;
        let weight = answer.field("weight").optional();
        let max_running = answer.field("max_running").optional();
        Ok(Meta {
            paused: answer.field("status").integer()? == PAUSED,
            continuous: answer.field("continuous").value().as_bool() == Some(true),
            interval: answer.field("interval").optional_number()?,
            max_running: max_running.map(|limit| limit.count()).transpose()?,
            weight: weight.map(|weight| weight.integer()).transpose()?,
        })
    }

    /// Who paused work specs, when and why: `None` for those that are not paused, or do not exist. Only `coordinated`
    /// supports this, with the feature `pause_reason`.
    pub fn get_pauses(&mut self, work_specs: &[Name]) -> Result<Vec<Option<Pause>>> {
        self.get_of_metas(work_specs, "pause", Pause::from_answer)
    }

    /// The runs of the schedules of work specs: `None` for those that have no schedule, or do not exist. Only `coordinated`
    /// supports this, with the feature `schedules`.
    pub fn get_schedules(&mut self, work_specs: &[Name]) -> Result<Vec<Option<Schedule>>> {
        self.get_of_metas(work_specs, "schedule", Schedule::from_answer)
    }

    /// A field of the meta of work specs that an option asks for.
    fn get_of_metas<T>(
        &mut self,
        work_specs: &[Name],
        field: &'static str,
        read: impl Fn(&Answer) -> Result<T>,
    ) -> Result<Vec<Option<T>>> {
        // So few are on their way at once that neither side has to wait for the other to read.
        const AT_ONCE: usize = 100;
        const METHOD: &str = "get_work_spec_meta";
        let mut found = Vec::with_capacity(work_specs.len());
        for names in work_specs.chunks(AT_ONCE) {
            let mut pipeline = self.connection.pipeline();
            for name in names {
                let with_field = options([(field, Some(true.into()))]);
                pipeline.send(&Request::new(METHOD, [name.into(), with_field]))?;
            }
            while let Some(value) = pipeline.receive() {
                let meta = Answer::new(METHOD, value?).pair()?.0;
                let value = meta.field(field).optional();
                found.push(value.map(|value| read(&value)).transpose()?);
            }
        }
        Ok(found)
    }

    /// What limits and ends the attempts at the units of a work spec. Only `coordinated` supports this, with the feature
    /// `max_rate`.
    pub fn get_work_spec_limits(&mut self, work_spec: &Name) -> Result<SpecLimits> {
        let with_limits = options([("limits", Some(true.into()))]);
        let answer = self.call_with("get_work_spec_meta", [work_spec.into(), with_limits])?;
        let answer = answer.accepted()?;
        let max_rate = answer.field("max_rate").optional();
        let halt_after = answer.field("halt_after").optional();
        Ok(SpecLimits {
            retries: answer.field("retries").count()?,
            retrying: answer.field("retrying").count()?,
            max_rate: max_rate.map(|rate| rate.text()).transpose()?,
            max_rate_burst: answer.field("max_rate_burst").optional_count()?,
            rate_until: answer.field("rate_until").optional_number()?,
            halt_after: match halt_after {
                Some(halt) => Some(HaltAfter {
                    failures: halt.field("failures").optional_count()?,
                    rate: halt.field("rate").optional_number()?,
                    min: halt.field("min").optional_count()?,
                }),
                None => None,
            },
            failed_in_a_row: answer.field("failed_in_a_row").count()?,
        })
    }

    /// Deletes a work spec with all its units.
    pub fn del_work_spec(&mut self, work_spec: &Name) -> Result<()> {
        self.call_with("del_work_spec", [work_spec.into()])?.done()
    }

    /// Deletes all work specs with all their units. Returns how many work specs there were.
    pub fn clear(&mut self) -> Result<u64> {
        self.call_with("clear", [])?.count()
    }

    /// Makes the server archive completed units beyond the limits of its retention policy, if it has one.
    pub fn archive(&mut self) -> Result<()> {
        self.call_with("archive", [options([])])?;
        Ok(())
    }

    /// Counts the units of all work specs that have some. Only `coordinated` supports this.
    pub fn summary(&mut self) -> Result<Vec<SpecSummary>> {
        let answer = self.call_with("summary", [])?.accepted()?;
        let mut specs: Vec<SpecSummary> = Vec::new();
        for line in answer.items()? {
            let work_spec = line.field("work_spec").name()?;
            // Entries of the same work spec follow each other.
            let spec = match specs.pop_if(|spec| spec.work_spec == work_spec) {
                Some(spec) => specs.push_mut(spec),
                None => specs.push_mut(SpecSummary {
                    work_spec,
                    counts: Counts::default(),
                    delayed: 0,
                    retrying: 0,
                    waiting: None,
                }),
            };
            let status = Status::from_answer(&line.field("status"))?;
            *spec.counts.of(status) += line.field("count").count()?;
            if status == Status::Available {
                spec.delayed = line.field("delayed").optional_count()?.unwrap_or(0);
                spec.retrying = line.field("retrying").optional_count()?.unwrap_or(0);
                spec.waiting = line.field("waiting").optional_number()?;
            }
        }
        Ok(specs)
    }
}
