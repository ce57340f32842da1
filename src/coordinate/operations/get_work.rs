//! Handing out work.

use crate::coordinate::handed_out::HandedOutUnit;
use crate::coordinate::scheduler;
use crate::coordinate::storage::{AvailableUnit, BestUnits, InsertedUnit, Storage};
use crate::coordinate::{
    Assignment, Candidates, Event, Name, Operation, Recent, Result, WorkRequest, WorkSpec,
    WorkSpecId, WorkUnit,
};
use crate::limits;
use coordinated_client::cbor::EMPTY_MAP;
use std::collections::BTreeSet;
use std::time::Duration;

/// How many units that have had all their retries one call fails before other connections get their turn: a few
/// milliseconds of work.
const FAILED_MAX: usize = 500;

/// Bytes of data that one call hands out, give or take a unit: they are kept in memory until they are sent. A
/// worker may always get fewer units than it asked for.
const GIVEN_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Which work a request asks for, each name once: a request may have very many.
struct Wanted<'a> {
    /// All if `None`.
    work_specs: Option<BTreeSet<WorkSpecId>>,
    runtimes: BTreeSet<&'a str>,
}

impl<S: Storage> Operation<'_, S> {
    /// Gives `worker` the best available units, beginning an attempt for each.
    ///
    /// An empty list means that nothing is available now: not an error, ask again later. `None` means
    /// that the search is not finished: the same call continues it, preferably in another batch, so that
    /// other connections are not held up.
    ///
    /// # Errors
    /// `Storage`.
    pub fn get_work(
        &mut self,
        worker: &Name,
        request: &WorkRequest<'_>,
    ) -> Result<Option<Vec<Assignment>>> {
        self.effects.asked_for_work = Some(self.now);
        let (mut given, mut failed) = (Vec::new(), 0);
        let max_units = request.max_units.min(self.limits.get_work_units_max);
        let wanted = self.wanted(request);
        while let Some(id) = self.choose_work_spec(&wanted) {
            let Some(spec) = self.store.get_work_spec(id) else {
                break;
            };
            let (work_spec, max_retries) = (spec.name.clone(), spec.meta.max_retries);
            let max_getwork = spec.meta.max_getwork.unwrap_or(u64::MAX);
            let count = max_units
                .min(scheduler::units_allowed(spec, self.now))
                .min(usize::try_from(max_getwork).unwrap_or(usize::MAX));
            if spec.counts.available == 0 {
                let unit = self.make_continuous_unit(id)?;
                given.push(self.hand_out(unit, work_spec, worker, request.lease)?);
                self.take_tokens(id, given.len());
                break;
            }
            let mut bytes = 0;
            let mut found_any = false;
            // As in the Go daemons, units without a retry left take the places of others, unless none would be given.
            let mut drawn = 0;
            while given.len() < count && bytes <= GIVEN_BYTES_MAX {
                if drawn >= count {
                    if !given.is_empty() {
                        break;
                    }
                    drawn = 0;
                }
                let (mut room, bytes_room) = (count - drawn, GIVEN_BYTES_MAX - bytes);
                if max_retries.is_some() {
                    if failed >= FAILED_MAX && given.is_empty() {
                        return Ok(None);
                    }
                    room = room.min(FAILED_MAX.saturating_sub(failed));
                    if room == 0 {
                        break;
                    }
                }
                let units = match self.best_units(id, room, bytes_room)? {
                    BestUnits::Found(units) if units.is_empty() => break,
                    BestUnits::Found(units) => units,
                    BestUnits::NotYet if given.is_empty() => return Ok(None),
                    BestUnits::NotYet => break,
                };
                found_any = true;
                for unit in units {
                    drawn += 1;
                    bytes += unit.data.len();
                    if let Some(max) = max_retries
                        && self.has_had_all_retries(&unit.unit, max)?
                    {
                        self.fail_after_too_many_retries(unit.unit, worker)?;
                        failed += 1;
                    } else {
                        given.push(self.hand_out(
                            unit,
                            work_spec.clone(),
                            worker,
                            request.lease,
                        )?);
                    }
                }
            }
            if !given.is_empty() {
                self.take_tokens(id, given.len());
                break;
            }
            let are_full = |spec: &WorkSpec| spec.groups_are_full;
            if !found_any && !self.store.get_work_spec(id).is_some_and(are_full) {
                // The counts are wrong: another program has changed the units without them.
                self.store.recount(id)?;
                if self
                    .store
                    .get_work_spec(id)
                    .is_some_and(|spec| spec.counts.available > 0)
                {
                    break;
                }
            }
        }
        if !given.is_empty() {
            // A worker that gets other work has stopped working on what it lost.
            self.store.release_lost_attempts(self.namespace, worker)?;
        }
        Ok(Some(given))
    }

    /// The runtimes of all work specs that can give units now, for a worker that takes units of any.
    pub fn runtimes(&mut self) -> Vec<String> {
        let candidates = self.store.candidates(self.namespace, self.now);
        candidates.runtimes().map(str::to_owned).collect()
    }

    fn wanted<'r>(&self, request: &WorkRequest<'r>) -> Wanted<'r> {
        let id = |name| Some(self.store.find_work_spec(self.namespace, name)?.id);
        let names = request.work_specs;
        Wanted {
            work_specs: (!names.is_empty()).then(|| names.iter().filter_map(id).collect()),
            runtimes: request.runtimes.iter().map(String::as_str).collect(),
        }
    }

    fn choose_work_spec(&mut self, wanted: &Wanted<'_>) -> Option<WorkSpecId> {
        let runtimes = wanted.runtimes.iter().copied();
        let Some(ids) = &wanted.work_specs else {
            let candidates = self.store.candidates(self.namespace, self.now);
            return candidates.choose(runtimes, self.random);
        };
        let mut named = Candidates::default();
        for spec in ids.iter().filter_map(|id| self.store.get_work_spec(*id)) {
            named.put(spec, self.now);
        }
        named.choose(runtimes, self.random)
    }

    /// The next available units of a work spec: of one group, if it takes groups in turn, and fewer than asked for if
    /// finding the others takes another look.
    fn best_units(&mut self, id: WorkSpecId, room: usize, bytes_max: usize) -> Result<BestUnits> {
        let meta = self.store.get_work_spec(id).map(|spec| &spec.meta);
        let in_turn = meta.is_some_and(|meta| meta.queueing().in_turn);
        let max = meta.and_then(|meta| meta.max_running_per_group);
        let found = if in_turn {
            match self.store.next_group(id)? {
                Some(group) if max.is_none_or(|max| group.pending < max) => {
                    let unit = self.store.best_of_group(id, &group.name)?;
                    BestUnits::Found(unit.into_iter().collect())
                }
                // The others have as many pending units or more.
                _ => BestUnits::Found(Vec::new()),
            }
        } else {
            self.store.best_available_units(id, room, bytes_max)?
        };
        if !matches!(&found, BestUnits::Found(units) if units.is_empty()) {
            return Ok(found);
        }
        if self.store.has_to_requeue(id) {
            self.store.requeue(id, limits::SWEEP_REQUEUED)?;
            return Ok(BestUnits::NotYet);
        }
        Ok(found)
    }

    /// Notes that units of a work spec were handed out, if it has a `max_rate`.
    fn take_tokens(&mut self, id: WorkSpecId, count: usize) {
        let spec = self.store.get_work_spec(id);
        let Some((rate, recent)) = spec.and_then(|spec| Some((spec.meta.max_rate?, spec.recent)))
        else {
            return;
        };
        let full_at = Some(rate.full_after(recent.full_at, self.now, count));
        self.store.set_recent(id, Recent { full_at, ..recent });
    }

    fn hand_out(
        &mut self,
        unit: AvailableUnit,
        work_spec: Name,
        worker: &Name,
        lease: Duration,
    ) -> Result<Assignment> {
        let AvailableUnit {
            mut unit,
            name,
            data,
        } = unit;
        let before = unit.counted();
        let attempt = self.open_attempt(&mut unit, Some(worker), lease)?;
        self.effects.handed_out.push(HandedOutUnit::new(
            self.namespace,
            worker,
            unit.id,
            &work_spec,
            &name,
        ));
        self.store.update_work_unit(self.now, before, &unit)?;
        Ok(Assignment {
            unit: unit.id,
            attempt: attempt.id,
            number: attempt.number,
            expiration: attempt.expiration,
            work_spec,
            name,
            data,
        })
    }

    /// True if a unit has had all the attempts that it may have.
    pub(super) fn has_had_all_retries(&mut self, unit: &WorkUnit, max: u64) -> Result<bool> {
        Ok(self.attempts_so_far(unit)? >= unit.attempts_before.saturating_add(max))
    }

    /// Makes the next unit of a continuous spec, and sets when the one after it is due.
    fn make_continuous_unit(&mut self, spec: WorkSpecId) -> Result<AvailableUnit> {
        let mut name = self.continuous_unit_name();
        while self.store.find_work_unit(spec, &name)?.is_some() {
            // An earlier unit of the same microsecond: it must not be overwritten.
            name = Name::from_bytes([name.bytes(), b"1"].concat());
        }
        let data = EMPTY_MAP.to_vec();
        let unit = self.store.insert_work_unit(
            self.now,
            spec,
            InsertedUnit {
                name: &name,
                priority: 0.0,
                not_before: None,
                group: None,
                data: &data,
            },
        )?;
        self.effects.note(spec, Event::Added(1));
        if let Some(spec) = self.store.get_work_spec(spec) {
            let (id, mut meta) = (spec.id, spec.meta.clone());
            meta.next_continuous = Some(self.now.plus(meta.interval.unwrap_or_default()));
            self.store.update_work_spec_meta(id, &meta)?;
        }
        Ok(AvailableUnit { unit, name, data })
    }

    /// The time in seconds with a fraction, as decimal text: what the Python client expects.
    fn continuous_unit_name(&self) -> Name {
        let (seconds, micros) = (
            self.now.0.div_euclid(1_000_000),
            self.now.0.rem_euclid(1_000_000),
        );
        let millis = micros / 1000;
        if micros % 1000 == 0 {
            Name::from_bytes(format!("{seconds}.{millis:03}"))
        } else {
            Name::from_bytes(format!("{seconds}.{micros:06}"))
        }
    }
}
