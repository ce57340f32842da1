//! The model's queues: the order in which units were added, and groups that are taken in turn.

use super::model::{Model, Spec, Unit};
use coordinated::coordinate::{Name, Order, UnitStatus};
use std::collections::{BTreeMap, BTreeSet};

/// How a unit is queued.
#[derive(Clone, Default)]
pub struct Queued {
    pub group: Option<String>,
    /// Its number in the order of adding. Without one it goes by name, before those that have one.
    pub place: Option<u64>,
    /// It counts in its group, if it is available or pending.
    in_turn: bool,
    /// It was made available, and has not been queued since.
    pub is_anew: bool,
    /// It was taken up again after its lease was lost, and that was not counted as a turn of its group yet.
    pub was_reactivated: bool,
}

impl Queued {
    pub fn group_or_none(&self) -> &str {
        self.group.as_deref().unwrap_or_default()
    }
}

/// What a work spec remembers of its groups.
#[derive(Clone, Default)]
pub struct Groups {
    /// The last number of a place or a turn.
    last_number: u64,
    /// When each group with available or pending units had its turn.
    turns: BTreeMap<String, u64>,
    /// The pending units, with their numbers of attempts.
    pending: BTreeSet<(Name, usize)>,
}

impl Groups {
    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }
}

impl Model {
    pub fn settle(&mut self, spec: &str) {
        self.specs.get_mut(spec).expect("a known spec").settle();
    }
}

impl Spec {
    /// Queues a unit that was made available, and counts a turn for the group of one that was handed out. Is called after
    /// each change of one unit.
    pub fn settle(&mut self) {
        let queueing = self.meta.queueing();
        let groups = &mut self.groups;
        let pending = std::mem::take(&mut groups.pending);
        let mut served = Vec::new();
        for (name, unit) in &mut self.units {
            let status = unit.status();
            let begun = (name.clone(), unit.attempts.len());
            let is_begun = status == UnitStatus::Pending && !pending.contains(&begun);
            let queued = &mut unit.queued;
            let was_reactivated = std::mem::take(&mut queued.was_reactivated);
            if std::mem::take(&mut queued.is_anew) {
                queued.place = match (queueing.order, queued.place) {
                    (Order::Name, _) => None,
                    (Order::Added, None) => Some(groups.next_number()),
                    (Order::Added, place) => place,
                };
                queued.in_turn = queueing.in_turn;
            }
            if is_begun || was_reactivated {
                queued.in_turn = queueing.in_turn;
                if queued.in_turn {
                    served.push(queued.group_or_none().to_owned());
                }
            }
            if status == UnitStatus::Pending {
                groups.pending.insert(begun);
            }
        }
        let there: BTreeSet<String> = self.counted().map(group_of).collect();
        let groups = &mut self.groups;
        for group in served {
            if let Some(turn) = groups.turns.get_mut(&group) {
                *turn = groups.last_number + 1;
                groups.last_number += 1;
            }
        }
        groups.turns.retain(|group, _| there.contains(group));
        for group in there {
            if !groups.turns.contains_key(&group) {
                let turn = groups.next_number();
                groups.turns.insert(group, turn);
            }
        }
    }

    /// Queues the units that are there as a new definition says. All groups that begin to be taken in turn have waited for
    /// equally long.
    pub fn settle_after_change(&mut self) {
        let in_turn = self.meta.queueing().in_turn;
        for unit in self.units.values_mut() {
            if unit.status() == UnitStatus::Available {
                unit.queued.in_turn = in_turn;
            }
        }
        let there: BTreeSet<String> = self.counted().map(group_of).collect();
        let turns = &mut self.groups.turns;
        turns.retain(|group, _| there.contains(group));
        for group in there {
            turns.entry(group).or_insert(0);
        }
    }

    fn counted(&self) -> impl Iterator<Item = &Unit> {
        self.units.values().filter(|unit| {
            let status = unit.status();
            unit.queued.in_turn && matches!(status, UnitStatus::Available | UnitStatus::Pending)
        })
    }

    fn pending_in(&self, group: &str) -> u64 {
        let is_pending = |unit: &&Unit| {
            unit.status() == UnitStatus::Pending && unit.queued.group_or_none() == group
        };
        self.counted().filter(is_pending).count() as u64
    }

    /// The groups with available units in the order of their turns.
    fn groups_in_order(&self) -> Vec<String> {
        let available = self
            .counted()
            .filter(|unit| unit.status() == UnitStatus::Available);
        let mut groups: Vec<String> = available.map(group_of).collect();
        groups.sort();
        groups.dedup();
        groups.sort_by_key(|group| (self.pending_in(group), self.groups.turns[group]));
        groups
    }

    pub fn next_group(&self) -> Option<String> {
        self.groups_in_order().into_iter().next()
    }

    /// How many groups come before another one. Of those with as many pending units and the same turn, none does.
    pub fn groups_before(&self, group: &str) -> usize {
        if !self.meta.queueing().in_turn || self.is_full(group) {
            return 0;
        }
        let rank = |group: &str| (self.pending_in(group), self.groups.turns[group]);
        let groups = self.groups_in_order();
        let before = groups.iter().filter(|other| rank(other) < rank(group));
        before.count()
    }

    pub fn is_full(&self, group: &str) -> bool {
        let max = self.meta.max_running_per_group;
        max.is_some_and(|max| self.pending_in(group) >= max)
    }

    /// True if there are groups with available units, and none may have another one pending.
    pub fn groups_are_full(&self) -> bool {
        self.next_group().is_some_and(|group| self.is_full(&group))
    }
}

fn group_of(unit: &Unit) -> String {
    unit.queued.group_or_none().to_owned()
}
