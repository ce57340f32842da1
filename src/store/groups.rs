//! The groups of work specs that take them in turn: how many units they have, and whose turn it is.
//!
//! A group has a row while it has available or pending units. The next one is the one with the fewest pending units, and
//! among these the one that has waited longest. So if it may not have another one, none may, and one look at the head of
//! an index tells that for any number of groups.

use super::SqliteStore;
use super::queue::{MovedUnit, row_to_available};
use super::statement::statements;
use crate::coordinate::storage::{AvailableUnit, StorageResult, WorkSpecStore};
use crate::coordinate::{
    Counted, NextGroup, UnitStatus, UnitsAhead, WorkSpec, WorkSpecId, WorkUnit, WorkUnitId,
};
use rusqlite::named_params;

statements! {
    FIND_GROUP = "
        SELECT available, pending, turn FROM unit_group WHERE work_spec_id = :spec AND name = :name";

    INSERT_GROUP = "
        INSERT INTO unit_group (work_spec_id, name, available, pending, turn)
        VALUES (:spec, :name, :available, :pending, :turn)";

    UPDATE_GROUP = "
        UPDATE unit_group SET available = :available, pending = :pending, turn = :turn
         WHERE work_spec_id = :spec AND name = :name";

    DELETE_GROUP = "DELETE FROM unit_group WHERE work_spec_id = :spec AND name = :name";

    /// Uses index unit_group_next, as the two after it do.
    NEXT_GROUP = "
        SELECT name, pending
          FROM unit_group
         WHERE work_spec_id = :spec AND available > 0
         ORDER BY pending, turn, name
         LIMIT 1";

    GROUPS_WITH_FEWER_PENDING = "
        SELECT count(*)
          FROM (SELECT 1
                  FROM unit_group
                 WHERE work_spec_id = :spec AND available > 0 AND pending < :pending
                 LIMIT :limit)";

    GROUPS_WITH_EARLIER_TURN = "
        SELECT count(*)
          FROM (SELECT 1
                  FROM unit_group
                 WHERE work_spec_id = :spec AND available > 0 AND pending = :pending AND turn < :turn
                 LIMIT :limit)";

    /// Uses index work_unit_in_turn, as all after it do.
    BEST_OF_GROUP = "
        SELECT id, work_spec_id, status, priority, not_before_us, active_attempt_id, last_attempt_id,
               superseded_number, attempts_before, failures, lost, group_name, place, in_turn,
               available_since_us, name, data
          FROM work_unit
         WHERE work_spec_id = :spec AND coalesce(group_name, '') = :group AND status = 1 AND in_turn = 1
         ORDER BY priority DESC, place, CAST(name AS BLOB)
         LIMIT 1";

    GROUP_IN_ORDER = "
        SELECT id
          FROM work_unit
         WHERE work_spec_id = :spec AND coalesce(group_name, '') = :group AND status = 1 AND in_turn = 1
         ORDER BY priority DESC, place, CAST(name AS BLOB)
         LIMIT :limit";

    IN_TURN = "
        SELECT id, group_name, in_turn FROM work_unit WHERE work_spec_id = :spec AND status = 1 AND in_turn = 1 LIMIT :limit";

    /// For deleted work specs: groups up to the one at `:limit`. Text sorts before the empty blob.
    DELETE_GROUPS = "
        DELETE FROM unit_group
         WHERE work_spec_id = :spec
           AND name <= coalesce((SELECT name FROM unit_group WHERE work_spec_id = :spec
                                  ORDER BY name LIMIT 1 OFFSET :limit), x'')";

    RECOUNT_GROUPS = "
        INSERT INTO unit_group (work_spec_id, name, available, pending, turn)
        SELECT work_spec_id, coalesce(group_name, ''), status = 1, status = 3, 0
          FROM work_unit
         WHERE work_spec_id = :spec AND in_turn = 1 AND (status = 1 OR status = 3)
        ON CONFLICT (work_spec_id, name) DO UPDATE
           SET available = available + excluded.available, pending = pending + excluded.pending";
}

/// A group's row.
#[derive(Clone, Copy, Default)]
struct Group {
    available: u64,
    pending: u64,
    turn: i64,
}

impl Group {
    fn count(&mut self, status: UnitStatus) -> Option<&mut u64> {
        match status {
            UnitStatus::Available => Some(&mut self.available),
            UnitStatus::Pending => Some(&mut self.pending),
            UnitStatus::Delayed | UnitStatus::Finished | UnitStatus::Failed => None,
        }
    }
}

impl SqliteStore {
    /// Notes that a unit has left a group, come into one, or is in the same one with another status.
    pub(super) fn count_in_groups(
        &mut self,
        spec: WorkSpecId,
        before: Option<&Counted>,
        after: Option<&Counted>,
    ) -> StorageResult<()> {
        let in_group = |counted: &Counted| Some((counted.group.clone()?, counted.status));
        match (before.and_then(in_group), after.and_then(in_group)) {
            (None, None) => Ok(()),
            (Some((group, from)), None) => self.change_group(spec, &group, Some(from), None),
            (None, Some((group, to))) => self.change_group(spec, &group, None, Some(to)),
            (Some((group, from)), Some((other, to))) if group == other => {
                self.change_group(spec, &group, Some(from), Some(to))
            }
            (Some((group, from)), Some((other, to))) => {
                self.change_group(spec, &group, Some(from), None)?;
                self.change_group(spec, &other, None, Some(to))
            }
        }
    }

    fn change_group(
        &mut self,
        spec: WorkSpecId,
        name: &str,
        from: Option<UnitStatus>,
        to: Option<UnitStatus>,
    ) -> StorageResult<()> {
        if from == to {
            return Ok(());
        }
        let before = self.find_group(spec, name)?;
        let mut group = before.unwrap_or_default();
        if before.is_none() || to == Some(UnitStatus::Pending) {
            // After all that wait.
            group.turn = self.specs.next_number(spec);
        }
        if let Some(count) = from.and_then(|from| group.count(from)) {
            *count = count.saturating_sub(1);
        }
        if let Some(count) = to.and_then(|to| group.count(to)) {
            *count += 1;
        }
        self.put_group(spec, name, before.is_some(), group)
    }

    fn put_group(
        &mut self,
        spec: WorkSpecId,
        name: &str,
        is_there: bool,
        group: Group,
    ) -> StorageResult<()> {
        let column = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let (available, pending) = (column(group.available), column(group.pending));
        match (is_there, available > 0 || pending > 0) {
            (true, true) => {
                let statement = self.statements.prepared(UPDATE_GROUP)?;
                statement.execute(named_params! {
                    ":available": available, ":pending": pending, ":turn": group.turn,
                    ":spec": spec, ":name": name,
                })?;
            }
            (false, true) => {
                let statement = self.statements.prepared(INSERT_GROUP)?;
                statement.execute(named_params! {
                    ":spec": spec, ":name": name, ":available": available, ":pending": pending,
                    ":turn": group.turn,
                })?;
            }
            (true, false) => {
                let statement = self.statements.prepared(DELETE_GROUP)?;
                statement.execute(named_params! {":spec": spec, ":name": name})?;
            }
            (false, false) => {}
        }
        self.note_full_groups(spec)
    }

    /// Notes whether all groups with available units have as many pending ones as they may.
    pub(super) fn note_full_groups(&mut self, id: WorkSpecId) -> StorageResult<()> {
        let of_spec = |spec: &WorkSpec| (spec.meta.max_running_per_group, spec.groups_are_full);
        let Some((max, were_full)) = self.get_work_spec(id).map(of_spec) else {
            return Ok(());
        };
        let are_full = match max {
            None => false,
            Some(max) => {
                let next = self.find_next_group(id)?;
                next.is_some_and(|group| group.pending >= max)
            }
        };
        if are_full != were_full
            && let Some(spec) = self.spec_to_count(id)
        {
            spec.groups_are_full = are_full;
        }
        Ok(())
    }

    fn find_group(&mut self, spec: WorkSpecId, name: &str) -> StorageResult<Option<Group>> {
        let statement = self.statements.prepared(FIND_GROUP)?;
        let mut rows = statement.query(named_params! {":spec": spec, ":name": name})?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        Ok(Some(Group {
            available: row.get(0)?,
            pending: row.get(1)?,
            turn: row.get(2)?,
        }))
    }

    /// See [`crate::coordinate::storage::QueueStore::next_group`].
    pub(super) fn find_next_group(&mut self, spec: WorkSpecId) -> StorageResult<Option<NextGroup>> {
        let statement = self.statements.prepared(NEXT_GROUP)?;
        let mut rows = statement.query(named_params! {":spec": spec})?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        Ok(Some(NextGroup {
            name: row.get(0)?,
            pending: row.get(1)?,
        }))
    }

    /// See [`crate::coordinate::storage::QueueStore::best_of_group`].
    pub(super) fn find_best_of_group(
        &mut self,
        spec: WorkSpecId,
        group: &str,
    ) -> StorageResult<Option<AvailableUnit>> {
        let statement = self.statements.prepared(BEST_OF_GROUP)?;
        let mut rows = statement.query(named_params! {":spec": spec, ":group": group})?;
        Ok(rows.next()?.map(row_to_available).transpose()?)
    }

    /// How many units of a group are pending.
    pub(super) fn count_pending_in_group(
        &mut self,
        spec: WorkSpecId,
        group: &str,
    ) -> StorageResult<u64> {
        Ok(self
            .find_group(spec, group)?
            .map_or(0, |group| group.pending))
    }

    /// See [`crate::coordinate::storage::QueueStore::groups_ahead`].
    pub(super) fn count_groups_ahead(
        &mut self,
        spec: WorkSpecId,
        group: &str,
        limit: usize,
    ) -> StorageResult<UnitsAhead> {
        let Some(group) = self.find_group(spec, group)? else {
            return Ok(UnitsAhead {
                count: 0,
                is_all: true,
            });
        };
        let fewer: usize = self
            .statements
            .prepared(GROUPS_WITH_FEWER_PENDING)?
            .query_row(
                named_params! {":spec": spec, ":pending": group.pending, ":limit": limit},
                |row| row.get(0),
            )?;
        let earlier: usize = self
            .statements
            .prepared(GROUPS_WITH_EARLIER_TURN)?
            .query_row(
                named_params! {
                    ":spec": spec, ":pending": group.pending, ":turn": group.turn, ":limit": limit,
                },
                |row| row.get(0),
            )?;
        Ok(UnitsAhead {
            count: fewer + earlier,
            is_all: fewer < limit && earlier < limit,
        })
    }

    /// How many available units come before another one in its group.
    pub(super) fn count_ahead_in_group(
        &mut self,
        unit: &WorkUnit,
        group: &str,
        limit: usize,
    ) -> StorageResult<UnitsAhead> {
        let statement = self.statements.prepared(GROUP_IN_ORDER)?;
        let mut rows = statement
            .query(named_params! {":spec": unit.work_spec, ":group": group, ":limit": limit})?;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            if row.get::<_, WorkUnitId>(0)? == unit.id {
                return Ok(UnitsAhead {
                    count,
                    is_all: true,
                });
            }
            count += 1;
        }
        let is_all = count < limit;
        Ok(UnitsAhead { count, is_all })
    }

    /// Available units that are taken in turn.
    pub(super) fn units_in_turn(
        &mut self,
        spec: WorkSpecId,
        limit: usize,
    ) -> StorageResult<Vec<MovedUnit>> {
        let statement = self.statements.prepared(IN_TURN)?;
        let units = statement.query_map(
            named_params! {":spec": spec, ":limit": limit},
            MovedUnit::from_row,
        )?;
        Ok(units.collect::<rusqlite::Result<_>>()?)
    }

    /// Notes that an available unit is taken in turn from now on, or no longer. Groups that come to be so have waited
    /// for equally long.
    pub(super) fn move_between_groups(
        &mut self,
        spec: WorkSpecId,
        name: &str,
        in_turn: bool,
    ) -> StorageResult<()> {
        let before = self.find_group(spec, name)?;
        let mut group = before.unwrap_or_default();
        group.available = match in_turn {
            true => group.available + 1,
            false => group.available.saturating_sub(1),
        };
        self.put_group(spec, name, before.is_some(), group)
    }

    /// Removes about `limit` groups of a deleted spec. False if there were none.
    pub(super) fn delete_groups_of(
        &mut self,
        spec: WorkSpecId,
        limit: usize,
    ) -> StorageResult<bool> {
        let statement = self.statements.prepared(DELETE_GROUPS)?;
        Ok(statement.execute(named_params! {":spec": spec, ":limit": limit})? > 0)
    }

    /// Counts the units of all groups of a spec again, for when the counts turn out to be wrong.
    pub(super) fn recount_groups(&mut self, spec: WorkSpecId) -> StorageResult<()> {
        self.statements
            .prepared(DELETE_GROUPS)?
            .execute(named_params! {":spec": spec, ":limit": i64::MAX})?;
        self.statements
            .prepared(RECOUNT_GROUPS)?
            .execute(named_params! {":spec": spec})?;
        self.note_full_groups(spec)
    }
}
