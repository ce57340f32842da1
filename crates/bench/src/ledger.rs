//! What has become of each unit, and whether that may be: no unit twice while its lease runs, none
//! lost, counts that agree.

use super::failure::Failure;
use super::names::{Names, UnitName};
use super::wire::one_line;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long units are asked for: what the original clients ask for.
pub(super) const LEASE: Duration = Duration::from_secs(900);

/// One unit in a worker's hands.
#[derive(Clone, Copy)]
pub(super) struct Held {
    pub(super) name: UnitName,
    /// The id of the attempt, if the worker has asked for it.
    pub(super) attempt: Option<u64>,
    number: usize,
    lease_until: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Sent to the server, which may have answered yet or not.
    Added,
    Out,
    Finished,
}

/// The state of all units of the benchmark's work spec.
pub(super) struct Ledger {
    names: Names,
    states: Vec<State>,
    /// The earliest time at which the lease of a unit that is out may have ended.
    leases: HashMap<usize, Instant>,
    /// Units whose addition was answered.
    pub(super) added: u64,
    pub(super) handed_out: u64,
    pub(super) finished: u64,
    /// Units that came again after their lease.
    pub(super) leases_over: u64,
}

/// What the server counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) available: u64,
    pub(super) pending: u64,
    pub(super) finished: u64,
    pub(super) failed: u64,
}

impl Ledger {
    pub(super) fn new(names: Names) -> Self {
        Self {
            names,
            states: Vec::new(),
            leases: HashMap::new(),
            added: 0,
            handed_out: 0,
            finished: 0,
            leases_over: 0,
        }
    }

    pub(super) fn names(&self) -> Names {
        self.names
    }

    /// Units that were sent to the server, answered or not.
    pub(super) fn sent(&self) -> u64 {
        self.states.len() as u64
    }

    /// Notes that so many further units are sent to the server; the number of the first one.
    pub(super) fn send(&mut self, count: usize) -> u64 {
        let first = self.sent();
        self.states.resize(self.states.len() + count, State::Added);
        first
    }

    /// The number of one of our units.
    ///
    /// # Errors
    /// `Check` if there is no such unit.
    pub(super) fn number(&self, name: &[u8]) -> Result<usize, Failure> {
        self.names
            .number(name)
            .and_then(|number| usize::try_from(number).ok())
            .filter(|number| *number < self.states.len())
            .ok_or_else(|| Failure::Check(format!("unit '{}' was never added", one_line(name))))
    }

    /// Notes that the server handed a unit out, to a worker that asked at `asked`.
    ///
    /// # Errors
    /// `Check` if it must not have done so.
    pub(super) fn hand_out(&mut self, name: &[u8], asked: Instant) -> Result<Held, Failure> {
        let number = self.number(name)?;
        let shown = || one_line(name);
        match self.states.get(number) {
            Some(State::Finished) => {
                return Failure::check(format!(
                    "unit {} came again after it was finished",
                    shown()
                ));
            }
            Some(State::Out)
                if self
                    .leases
                    .get(&number)
                    .is_some_and(|end| Instant::now() < *end) =>
            {
                return Failure::check(format!(
                    "unit {} was handed out twice while its lease runs",
                    shown()
                ));
            }
            Some(State::Out) => self.leases_over += 1,
            Some(State::Added) | None => {}
        }
        let lease_until = asked + LEASE;
        if let Some(state) = self.states.get_mut(number) {
            *state = State::Out;
        }
        self.leases.insert(number, lease_until);
        self.handed_out += 1;
        Ok(Held {
            name: self.names.name(number as u64),
            attempt: None,
            number,
            lease_until,
        })
    }

    /// Notes that the server accepted a unit as finished.
    pub(super) fn finish(&mut self, unit: &Held) {
        if let Some(state) = self.states.get_mut(unit.number)
            && *state != State::Finished
        {
            *state = State::Finished;
            self.leases.remove(&unit.number);
            self.finished += 1;
        }
    }

    /// Notes that the server did not accept a unit as finished.
    ///
    /// # Errors
    /// `Check` if the lease was running.
    pub(super) fn refuse(&mut self, unit: &Held, message: &[u8]) -> Result<(), Failure> {
        if Instant::now() < unit.lease_until {
            return Failure::check(format!(
                "unit {} is refused as finished while its lease runs: {}",
                one_line(&unit.name),
                one_line(message)
            ));
        }
        Ok(())
    }

    /// Compares with what the server counts once all is answered. `empty`: it has just said that
    /// there is no more work.
    ///
    /// # Errors
    /// `Check` if they differ.
    pub(super) fn compare(&self, counts: Counts, empty: bool) -> Result<(), Failure> {
        let out = self.leases.len() as u64;
        let expected = Counts {
            available: self.added.saturating_sub(self.finished + out),
            pending: out,
            finished: self.finished,
            failed: 0,
        };
        let over = self.leases.values().any(|end| *end <= Instant::now());
        let agree = counts == expected
            || over
                && counts.finished == expected.finished
                && counts.available + counts.pending == expected.available + out;
        if !agree {
            return Failure::check(format!(
                "the server counts {} available, {} pending, {} finished and {} failed units, but \
                 there must be {}, {}, {} and {}",
                counts.available,
                counts.pending,
                counts.finished,
                counts.failed,
                expected.available,
                expected.pending,
                expected.finished,
                expected.failed
            ));
        }
        if empty && counts.available > 0 {
            return Failure::check(format!(
                "the server says that there is no work, and counts {} available units",
                counts.available
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        let mut ledger = Ledger::new(Names::Ordered);
        ledger.send(10);
        ledger.added = 10;
        ledger
    }

    fn message<T>(result: Result<T, Failure>) -> String {
        result
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    }

    #[test]
    fn a_unit_is_out_once_until_its_lease_is_over() {
        let mut ledger = ledger();
        let name = Names::Ordered.name(3);
        ledger.hand_out(&name, Instant::now()).expect("first");
        ledger.leases.insert(3, Instant::now());
        ledger
            .hand_out(&name, Instant::now())
            .expect("again, after its lease");
        assert_eq!(ledger.leases_over, 1);
        assert!(message(ledger.hand_out(&name, Instant::now())).contains("twice"));
    }

    #[test]
    fn finished_and_unknown_units_may_not_come() {
        let mut ledger = ledger();
        let name = Names::Ordered.name(3);
        let unit = ledger.hand_out(&name, Instant::now()).expect("first");
        ledger.finish(&unit);
        assert!(message(ledger.hand_out(&name, Instant::now())).contains("after it was finished"));
        let unknown = Names::Ordered.name(10);
        assert!(message(ledger.hand_out(&unknown, Instant::now())).contains("never added"));
    }

    #[test]
    fn counts_that_differ_are_noticed() {
        let mut ledger = ledger();
        let unit = ledger
            .hand_out(&Names::Ordered.name(0), Instant::now())
            .expect("out");
        ledger.finish(&unit);
        ledger
            .hand_out(&Names::Ordered.name(1), Instant::now())
            .expect("out");
        let counts = Counts {
            available: 8,
            pending: 1,
            finished: 1,
            failed: 0,
        };
        ledger.compare(counts, false).expect("they agree");
        assert!(message(ledger.compare(counts, true)).contains("8 available"));
        let lost = Counts {
            available: 7,
            ..counts
        };
        assert!(message(ledger.compare(lost, false)).contains("must be 8"));
    }
}
