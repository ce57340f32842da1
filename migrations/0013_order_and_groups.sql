-- The units of a work spec can be handed out in the order in which they were added, and in turn by groups.

-- 1: units of the same priority are handed out in the order in which they were added; 0: by name.
ALTER TABLE work_spec ADD COLUMN in_added_order INTEGER NOT NULL DEFAULT 0
    CHECK (in_added_order = 0 OR in_added_order = 1);
-- 1: get_work takes units of each group in turn. It also does if max_running_per_group is not NULL.
ALTER TABLE work_spec ADD COLUMN fair INTEGER NOT NULL DEFAULT 0 CHECK (fair = 0 OR fair = 1);
ALTER TABLE work_spec ADD COLUMN max_running_per_group INTEGER;

-- The last number that was given to a unit as its place, or to a group as its turn.
ALTER TABLE work_unit_count ADD COLUMN sequence INTEGER NOT NULL DEFAULT 0;
-- 1: available units may still be queued as the work spec said earlier.
ALTER TABLE work_unit_count ADD COLUMN former_queue INTEGER NOT NULL DEFAULT 0
    CHECK (former_queue = 0 OR former_queue = 1);

-- As the unit was added; NULL if no group was stated.
ALTER TABLE work_unit ADD COLUMN group_name TEXT;
-- Its place among those of the same priority; NULL if it goes by name. NULL sorts first: when a work spec changes to the
-- order in which units are added, those that are there already come first.
ALTER TABLE work_unit ADD COLUMN place INTEGER;
-- 1: it is handed out when it is the turn of its group, and counted in unit_group.
ALTER TABLE work_unit ADD COLUMN in_turn INTEGER NOT NULL DEFAULT 0 CHECK (in_turn = 0 OR in_turn = 1);

DROP INDEX work_unit_queued;

-- What get_work takes from, in its order, with what it finds in the order of names.
CREATE INDEX work_unit_queued ON work_unit (work_spec_id, priority DESC, place, CAST(name AS BLOB))
 WHERE status = 1 AND in_name_order = 0 AND in_turn = 0;

-- The same for units of groups that are taken in turn. Units without a group are one group, without a name.
CREATE INDEX work_unit_in_turn
    ON work_unit (work_spec_id, coalesce(group_name, ''), priority DESC, place, CAST(name AS BLOB))
 WHERE status = 1 AND in_turn = 1;

-- The groups of units with in_turn that have available or pending ones.
CREATE TABLE unit_group (
    work_spec_id INTEGER NOT NULL REFERENCES work_spec (id),
    name         TEXT NOT NULL,
    available    INTEGER NOT NULL CHECK (available >= 0),
    pending      INTEGER NOT NULL CHECK (pending >= 0),
    -- Grows with each unit that is handed out: of two groups, the one with the smaller turn has waited longer.
    turn         INTEGER NOT NULL,
    PRIMARY KEY (work_spec_id, name)
) STRICT, WITHOUT ROWID;

-- Whose turn it is.
CREATE INDEX unit_group_next ON unit_group (work_spec_id, pending, turn) WHERE available > 0;

CREATE VIEW unit_groups (namespace, work_spec, unit_group, available, pending) AS
SELECT namespace.name, CAST(work_spec.name AS TEXT), unit_group.name, available, pending
  FROM unit_group
  JOIN work_spec ON work_spec.id = unit_group.work_spec_id AND work_spec.deleted = 0
  JOIN namespace ON namespace.id = work_spec.namespace_id;

DROP VIEW work_specs;

-- The units in retrying are among the available and the delayed ones, and those in the archived columns among the finished
-- and the failed ones.
CREATE VIEW work_specs (namespace, work_spec, paused, priority, weight, continuous, interval_s,
                        next_continuous, max_running, max_getwork, max_retries, then_name, runtime,
                        available, delayed, pending, finished, failed, archived_finished, archived_failed,
                        retrying, retries, retry_delay_s, retry_backoff, retry_delay_max_s, retry_jitter,
                        max_lost, paused_at, paused_by, paused_reason,
                        schedule, timezone, overlap, missed, next_run, last_run, skipped_run,
                        unit_order, fair, max_running_per_group) AS
SELECT namespace.name, CAST(work_spec.name AS TEXT), paused, priority, weight, continuous,
       interval_us / 1e6, strftime('%Y-%m-%d %H:%M:%f', next_continuous_us / 1e6, 'unixepoch'),
       max_running, max_getwork, max_retries, CAST(then_name AS TEXT), runtime,
       available, delayed, pending, finished + archived_finished, failed + archived_failed,
       archived_finished, archived_failed,
       retrying, coalesce(retries, 0), retry_delay_us / 1e6, retry_backoff, retry_delay_max_us / 1e6,
       retry_jitter, max_lost,
       strftime('%Y-%m-%d %H:%M:%f', paused_us / 1e6, 'unixepoch'), paused_by, paused_reason,
       schedule, timezone, overlap, missed,
       strftime('%Y-%m-%d %H:%M:%f', next_run_us / 1e6, 'unixepoch'),
       strftime('%Y-%m-%d %H:%M:%f', last_run_us / 1e6, 'unixepoch'),
       strftime('%Y-%m-%d %H:%M:%f', skipped_run_us / 1e6, 'unixepoch'),
       CASE in_added_order WHEN 1 THEN 'added' ELSE 'name' END, fair, max_running_per_group
  FROM work_spec
  JOIN namespace ON namespace.id = work_spec.namespace_id
  JOIN work_unit_count ON work_unit_count.work_spec_id = work_spec.id
 WHERE deleted = 0
 ORDER BY namespace.name, CAST(work_spec.name AS BLOB);

DROP VIEW units;

CREATE VIEW units (namespace, work_spec, unit, status, priority, not_before, worker, expires,
                   attempts, data_bytes, failures, lost, unit_group) AS
SELECT namespace.name, CAST(work_spec.name AS TEXT), CAST(work_unit.name AS TEXT),
       CASE work_unit.status WHEN 1 THEN 'available' WHEN 2 THEN 'delayed' WHEN 3 THEN 'pending'
                             WHEN 4 THEN 'finished' ELSE 'failed' END,
       work_unit.priority, strftime('%Y-%m-%d %H:%M:%f', not_before_us / 1e6, 'unixepoch'),
       CAST(active.worker AS TEXT),
       CASE WHEN work_unit.status = 3
            THEN strftime('%Y-%m-%d %H:%M:%f', active.expiration_us / 1e6, 'unixepoch') END,
       coalesce(last.number, 0), length(coalesce(active.data, work_unit.data)),
       work_unit.failures, work_unit.lost, work_unit.group_name
  FROM work_unit
  JOIN work_spec ON work_spec.id = work_unit.work_spec_id AND work_spec.deleted = 0
  JOIN namespace ON namespace.id = work_spec.namespace_id
  LEFT JOIN attempt AS active ON active.id = work_unit.active_attempt_id
  LEFT JOIN attempt AS last ON last.id = work_unit.last_attempt_id;
