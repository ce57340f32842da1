-- Failed units can be tried again, and units that keep costing workers their leases can fail.

-- All five are NULL if the first failure of a unit is final.
ALTER TABLE work_spec ADD COLUMN retries INTEGER;
ALTER TABLE work_spec ADD COLUMN retry_delay_us INTEGER;
ALTER TABLE work_spec ADD COLUMN retry_backoff REAL;
ALTER TABLE work_spec ADD COLUMN retry_delay_max_us INTEGER;
ALTER TABLE work_spec ADD COLUMN retry_jitter REAL;
ALTER TABLE work_spec ADD COLUMN max_lost INTEGER;

-- Failures that were reported, and leases that expired, since the unit was last added again or retried by hand. They are
-- counted only if its work spec has retries or max_lost. 0 and 1 take no space in a row behind its header, so reading
-- them never needs the pages that follow long data.
ALTER TABLE work_unit ADD COLUMN failures INTEGER NOT NULL DEFAULT 0 CHECK (failures >= 0);
ALTER TABLE work_unit ADD COLUMN lost INTEGER NOT NULL DEFAULT 0 CHECK (lost >= 0);

-- How many of the available and the delayed units have failures.
ALTER TABLE work_unit_count ADD COLUMN retrying INTEGER NOT NULL DEFAULT 0 CHECK (retrying >= 0);

DROP VIEW work_specs;

-- The units in retrying are among the available and the delayed ones, and those in the last two columns among the
-- finished and the failed ones.
CREATE VIEW work_specs (namespace, work_spec, paused, priority, weight, continuous, interval_s,
                        next_continuous, max_running, max_getwork, max_retries, then_name, runtime,
                        available, delayed, pending, finished, failed, archived_finished, archived_failed,
                        retrying, retries, retry_delay_s, retry_backoff, retry_delay_max_s, retry_jitter,
                        max_lost) AS
SELECT namespace.name, CAST(work_spec.name AS TEXT), paused, priority, weight, continuous,
       interval_us / 1e6, strftime('%Y-%m-%d %H:%M:%f', next_continuous_us / 1e6, 'unixepoch'),
       max_running, max_getwork, max_retries, CAST(then_name AS TEXT), runtime,
       available, delayed, pending, finished + archived_finished, failed + archived_failed,
       archived_finished, archived_failed,
       retrying, coalesce(retries, 0), retry_delay_us / 1e6, retry_backoff, retry_delay_max_us / 1e6,
       retry_jitter, max_lost
  FROM work_spec
  JOIN namespace ON namespace.id = work_spec.namespace_id
  JOIN work_unit_count ON work_unit_count.work_spec_id = work_spec.id
 WHERE deleted = 0
 ORDER BY namespace.name, CAST(work_spec.name AS BLOB);

DROP VIEW units;

CREATE VIEW units (namespace, work_spec, unit, status, priority, not_before, worker, expires,
                   attempts, data_bytes, failures, lost) AS
SELECT namespace.name, CAST(work_spec.name AS TEXT), CAST(work_unit.name AS TEXT),
       CASE work_unit.status WHEN 1 THEN 'available' WHEN 2 THEN 'delayed' WHEN 3 THEN 'pending'
                             WHEN 4 THEN 'finished' ELSE 'failed' END,
       work_unit.priority, strftime('%Y-%m-%d %H:%M:%f', not_before_us / 1e6, 'unixepoch'),
       CAST(active.worker AS TEXT),
       CASE WHEN work_unit.status = 3
            THEN strftime('%Y-%m-%d %H:%M:%f', active.expiration_us / 1e6, 'unixepoch') END,
       coalesce(last.number, 0), length(coalesce(active.data, work_unit.data)),
       work_unit.failures, work_unit.lost
  FROM work_unit
  JOIN work_spec ON work_spec.id = work_unit.work_spec_id AND work_spec.deleted = 0
  JOIN namespace ON namespace.id = work_spec.namespace_id
  LEFT JOIN attempt AS active ON active.id = work_unit.active_attempt_id
  LEFT JOIN attempt AS last ON last.id = work_unit.last_attempt_id;

DROP VIEW failures;

-- Units that have failed for good. Those that are to be tried again are in the view units, with their failures.
CREATE VIEW failures (namespace, work_spec, unit, worker, failed, traceback, failures, lost) AS
SELECT namespace.name, CAST(work_spec.name AS TEXT), CAST(work_unit.name AS TEXT),
       CAST(attempt.worker AS TEXT),
       strftime('%Y-%m-%d %H:%M:%f', attempt.end_us / 1e6, 'unixepoch'), attempt.traceback,
       work_unit.failures, work_unit.lost
  FROM work_unit
  JOIN work_spec ON work_spec.id = work_unit.work_spec_id AND work_spec.deleted = 0
  JOIN namespace ON namespace.id = work_spec.namespace_id
  JOIN attempt ON attempt.id = work_unit.active_attempt_id
 WHERE work_unit.status = 5;
