//! The model's `get_work`. Which spec is drawn is up to chance: here are all draws that may be.

use super::answer::{self, Answer, Failure, Work};
use super::model::{Model, Spec, Unit};
use super::operations::Request;
use coordinated::clock::Timestamp;
use coordinated::coordinate::{AttemptStatus, IfExists, Name, UnitStatus};
use std::time::Duration;

/// `{"traceback": "too many retries"}`
const TOO_MANY_RETRIES: &[u8] = b"\xa1\x69traceback\x70too many retries";

/// A unit that was handed out.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    pub unit: u64,
    pub attempt: u64,
    number: u64,
    expiration: Timestamp,
    pub spec: String,
    pub name: Name,
    data: Vec<u8>,
}

/// One way in which chance may decide.
pub struct Outcome {
    pub model: Model,
    pub given: Vec<Assignment>,
}

impl Outcome {
    pub fn answer(&self) -> Answer {
        let line = |given: &Assignment| {
            let Assignment { name, data, .. } = given;
            let unit = answer::given_unit(name, data, given.number, given.expiration);
            (given.spec.clone(), unit)
        };
        let failed = |(name, spec): (&String, &Spec)| (name.clone(), spec.counts().failed);
        Answer::Work(Work {
            given: self.given.iter().map(line).collect(),
            failed: self.model.specs.iter().map(failed).collect(),
        })
    }
}

impl Model {
    /// All that may come of a `get_work`, if only specs that `may_be_drawn` are drawn.
    pub fn get_work(&self, request: &Request, may_be_drawn: &dyn Fn(&str) -> bool) -> Vec<Outcome> {
        let candidates = self.candidates(request);
        if candidates.is_empty() {
            let (model, given) = (self.clone(), Vec::new());
            return vec![Outcome { model, given }];
        }
        let mut outcomes = Vec::new();
        for spec in candidates.into_iter().filter(|spec| may_be_drawn(spec)) {
            let mut model = self.clone();
            let given = model.take_from(&spec, request);
            if given.is_empty() {
                // All its units have had their retries, and another one is drawn.
                outcomes.extend(model.get_work(request, may_be_drawn));
            } else {
                model.let_go_of_lost(&request.worker);
                outcomes.push(Outcome { model, given });
            }
        }
        outcomes
    }

    /// The specs of which one is drawn, at random among those with the highest priority.
    pub fn candidates(&self, request: &Request) -> Vec<String> {
        let has_work = |name: &str, spec: &Spec| {
            let (meta, counts) = (&spec.meta, spec.counts());
            let may_make_one = meta.continuous
                && counts.pending == 0
                && meta.next_continuous.is_none_or(|next| next <= self.now);
            meta.paused.is_none()
                && meta.weight > 0
                && request.runtimes.contains(&meta.runtime)
                && (request.work_specs.is_empty()
                    || request.work_specs.contains(&Name::from_text(name)))
                && meta.max_running.is_none_or(|max| counts.pending < max)
                && !spec.groups_are_full()
                && (counts.available > 0 || may_make_one)
                && spec.allowed_by_rate(self.now) > 0
        };
        let with_work = self
            .specs
            .iter()
            .filter(|(name, spec)| has_work(name, spec));
        let with_work: Vec<(&String, &Spec)> = with_work.collect();
        let priorities = with_work.iter().map(|(_, spec)| spec.meta.priority);
        let highest = priorities.fold(f64::NEG_INFINITY, f64::max);
        let best = with_work
            .into_iter()
            .filter(|(_, spec)| spec.meta.priority >= highest);
        let best: Vec<(&String, i64, i64)> = best
            .map(|(name, spec)| (name, spec.meta.weight, spec.counts().pending.cast_signed()))
            .collect();
        let weights: i64 = best.iter().map(|(_, weight, _)| weight).sum();
        let all_pending: i64 = best.iter().map(|(_, _, pending)| pending).sum();
        best.into_iter()
            .filter(|(_, weight, pending)| weight * (all_pending + 1) - weights * pending > 0)
            .map(|(name, ..)| name.clone())
            .collect()
    }

    /// Why a unit is not handed out, or none of a spec is.
    pub fn explain(&self, name: &str, unit: Option<&Name>) -> Answer {
        let Some(spec) = self.specs.get(name) else {
            return Answer::Failed(Failure::NoSuchWorkSpec);
        };
        let only = |code| Answer::Seen(vec![answer::reason(code, None)]);
        let unit = match unit.map(|unit| spec.units.get_key_value(unit)) {
            Some(None) => return only("no_such_work_unit"),
            Some(unit) => unit,
            None => None,
        };
        let status = unit.map(|(_, unit)| unit.status());
        let has_failed = unit.is_some_and(|(_, unit)| unit.failures > 0);
        match status {
            Some(UnitStatus::Finished) => return only("finished"),
            Some(UnitStatus::Failed) => return only("failed"),
            Some(UnitStatus::Pending) => return only("running"),
            _ => {}
        }
        let (meta, counts) = (&spec.meta, spec.counts());
        let has_none = unit.is_none() && counts.available == 0;
        let is_early = meta.next_continuous.is_some_and(|next| next > self.now);
        let tried = |unit: &Unit| (unit.attempts.len() - unit.not_counted) as u64;
        let has_no_retries = |max| unit.is_some_and(|(_, unit)| tried(unit) >= max);
        let ask = |work_specs: &[&str]| {
            self.candidates(&Request {
                worker: Name::from_text("w"),
                max_units: 1,
                lease: Duration::from_secs(1),
                work_specs: work_specs.iter().copied().map(Name::from_text).collect(),
                runtimes: vec![meta.runtime.clone()],
            })
        };
        let drawn = ask(&[]);
        let is_passed_over = !ask(&[name]).is_empty() && !drawn.iter().any(|drawn| drawn == name);
        let has_lower_priority = |drawn: &String| self.specs[drawn].meta.priority > meta.priority;
        let has_lower_priority = is_passed_over && drawn.iter().any(has_lower_priority);
        let reasons = [
            (
                "delayed",
                status == Some(UnitStatus::Delayed) && !has_failed,
            ),
            ("retry", status == Some(UnitStatus::Delayed) && has_failed),
            ("paused", meta.paused.is_some()),
            ("no_weight", meta.weight <= 0),
            (
                "max_running",
                meta.max_running.is_some_and(|max| counts.pending >= max),
            ),
            (
                "no_work",
                has_none && !meta.continuous && meta.schedule.is_none(),
            ),
            ("scheduled", has_none && meta.schedule.is_some()),
            ("groups_full", unit.is_none() && spec.groups_are_full()),
            (
                "group_full",
                unit.is_some_and(|(_, unit)| spec.is_full(unit.queued.group_or_none())),
            ),
            (
                "continuous_running",
                has_none && meta.continuous && counts.pending > 0,
            ),
            (
                "interval",
                has_none && meta.continuous && counts.pending == 0 && is_early,
            ),
            ("max_rate", spec.allowed_by_rate(self.now) == 0),
            ("max_retries", meta.max_retries.is_some_and(has_no_retries)),
            ("runtime", !meta.runtime.is_empty()),
            ("lower_priority", has_lower_priority),
            ("share", is_passed_over && !has_lower_priority),
        ];
        let holding = reasons.into_iter().filter(|(_, holds)| *holds);
        let mut lines: Vec<_> = holding
            .map(|(code, _)| answer::reason(code, None))
            .collect();
        let before = unit.filter(|_| status == Some(UnitStatus::Available));
        let ahead = before.map_or(0, |(name, _)| {
            queue(spec, unit.map(|(_, unit)| unit))
                .iter()
                .take_while(|other| **other != name)
                .count()
        });
        if ahead > 0 {
            lines.push(answer::reason("units_ahead", Some(ahead)));
        }
        let groups_ahead = before.map_or(0, |(_, unit)| {
            spec.groups_before(unit.queued.group_or_none())
        });
        if groups_ahead > 0 {
            lines.push(answer::reason("groups_ahead", Some(groups_ahead)));
        }
        if lines.is_empty() {
            return only("next");
        }
        Answer::Seen(lines)
    }

    /// Takes units from the spec that was drawn.
    fn take_from(&mut self, name: &str, request: &Request) -> Vec<Assignment> {
        let now = self.now;
        let spec = &self.specs[name];
        let may_still_run = spec.meta.max_running.map(|max| max - spec.counts().pending);
        let limits = [
            Some(request.max_units as u64),
            spec.meta.max_getwork,
            may_still_run,
            Some(spec.allowed_by_rate(now)),
        ];
        let count = limits.into_iter().flatten().min().unwrap_or(0);
        let max_retries = spec.meta.max_retries;
        let mut given = Vec::new();
        if spec.counts().available == 0 {
            self.make_continuous_unit(name);
        }
        let mut drawn = 0;
        while (given.len() as u64) < count
            && (drawn < count || given.is_empty())
            && let Some(best) = best_available(&self.specs[name])
        {
            drawn = if drawn < count { drawn + 1 } else { 1 };
            let id = self.new_id();
            let unit = self.unit(name, &best);
            let tried = (unit.attempts.len() - unit.not_counted) as u64;
            if max_retries.is_some_and(|max| tried >= max) {
                let attempt = unit.open_attempt(id, Some(request.worker.clone()), now);
                attempt.finish_as(AttemptStatus::Failed, now);
                attempt.data = Some(TOO_MANY_RETRIES.to_vec());
                self.settle(name);
                continue;
            }
            let expiration = now.plus(request.lease);
            unit.open_attempt(id, Some(request.worker.clone()), expiration);
            given.push(Assignment {
                unit: unit.id,
                attempt: id,
                number: unit.attempts.len() as u64,
                expiration,
                spec: name.to_owned(),
                data: unit.data.clone(),
                name: best,
            });
            self.settle(name);
        }
        let spec = self.specs.get_mut(name).expect("a known spec");
        if !given.is_empty() {
            spec.take_tokens(given.len(), now);
        }
        given
    }

    fn unit(&mut self, spec: &str, name: &Name) -> &mut Unit {
        let spec = self.specs.get_mut(spec).expect("a known spec");
        spec.units.get_mut(name).expect("a known unit")
    }

    fn make_continuous_unit(&mut self, spec: &str) {
        let now = self.now;
        let mut name = seconds_with_fraction(now);
        let is_taken = |name: &str| self.specs[spec].units.contains_key(&Name::from_bytes(name));
        while is_taken(&name) {
            name.push('1');
        }
        let addition = super::model::Addition {
            name: Name::from_bytes(name),
            data: b"\xa0".to_vec(),
            priority: 0.0,
            delay: None,
            group: None,
        };
        self.add(spec, vec![addition], IfExists::Reset);
        let meta = &mut self.specs.get_mut(spec).expect("a known spec").meta;
        meta.next_continuous = Some(now.plus(meta.interval.unwrap_or_default()));
    }
}

fn best_available(spec: &Spec) -> Option<Name> {
    let one_of_next_group = match spec.meta.queueing().in_turn {
        false => None,
        true => {
            let group = spec.next_group()?;
            if spec.is_full(&group) {
                return None;
            }
            let is_in_it = |unit: &&Unit| unit.queued.group_or_none() == group;
            let available = |unit: &&Unit| unit.status() == UnitStatus::Available;
            spec.units.values().filter(available).find(is_in_it)
        }
    };
    let queue = queue(spec, one_of_next_group);
    queue.first().map(|name| (*name).clone())
}

/// The available units, if groups are taken in turn only those in the group of `beside`: the highest priority first, and
/// among equals those without a place, by the bytes of their names, and then the others by their places.
fn queue<'s>(spec: &'s Spec, beside: Option<&Unit>) -> Vec<&'s Name> {
    let group = beside.filter(|_| spec.meta.queueing().in_turn);
    let group = group.map(|unit| unit.queued.group_or_none());
    let available = spec.units.iter().filter(|(_, unit)| {
        unit.status() == UnitStatus::Available
            && group.is_none_or(|group| unit.queued.group_or_none() == group)
    });
    let mut available: Vec<(&Name, &Unit)> = available.collect();
    available.sort_by(|(name, unit), (other_name, other)| {
        let by_priority = other
            .priority
            .partial_cmp(&unit.priority)
            .expect("no priority is NaN");
        let by_place = || unit.queued.place.cmp(&other.queued.place);
        by_priority
            .then_with(by_place)
            .then_with(|| name.bytes().cmp(other_name.bytes()))
    });
    available.into_iter().map(|(name, _)| name).collect()
}

/// With three digits behind the point if that is exact, and otherwise six.
fn seconds_with_fraction(time: Timestamp) -> String {
    let micros = format!("{}.{:06}", time.0 / 1_000_000, time.0 % 1_000_000);
    micros
        .strip_suffix("000")
        .map_or(micros.clone(), str::to_owned)
}
