-- Finished and failed units beyond the configured limits are archived: removed with their attempts, but
-- counted still.

-- How many units were archived in each status. They are counted nowhere else.
ALTER TABLE work_unit_count ADD COLUMN archived_finished INTEGER NOT NULL DEFAULT 0 CHECK (archived_finished >= 0);
ALTER TABLE work_unit_count ADD COLUMN archived_failed INTEGER NOT NULL DEFAULT 0 CHECK (archived_failed >= 0);

-- How far the attempts have been gone through in search of the oldest finished and failed units: those of
-- all that are left have ids beyond these.
ALTER TABLE work_unit_count ADD COLUMN finished_after_id INTEGER NOT NULL DEFAULT 0;
ALTER TABLE work_unit_count ADD COLUMN failed_after_id INTEGER NOT NULL DEFAULT 0;

DROP VIEW summary;

CREATE VIEW summary (namespace, work_spec, status, count) AS
SELECT namespace.name, CAST(work_spec.name AS TEXT), status.name,
       CASE status.id WHEN 1 THEN available WHEN 2 THEN delayed WHEN 3 THEN pending
                      WHEN 4 THEN finished + archived_finished ELSE failed + archived_failed END AS n
  FROM work_spec
  JOIN namespace ON namespace.id = work_spec.namespace_id
  JOIN work_unit_count ON work_unit_count.work_spec_id = work_spec.id
  JOIN (SELECT 1 AS id, 'available' AS name UNION ALL SELECT 2, 'delayed' UNION ALL SELECT 3, 'pending'
        UNION ALL SELECT 4, 'finished' UNION ALL SELECT 5, 'failed') AS status
 WHERE deleted = 0 AND n > 0
 ORDER BY namespace.name, CAST(work_spec.name AS BLOB), status.id;

DROP VIEW work_specs;

-- Its last two columns are parts of the two before them.
CREATE VIEW work_specs (namespace, work_spec, paused, priority, weight, continuous, interval_s,
                        next_continuous, max_running, max_getwork, max_retries, then_name, runtime,
                        available, delayed, pending, finished, failed, archived_finished, archived_failed) AS
SELECT namespace.name, CAST(work_spec.name AS TEXT), paused, priority, weight, continuous,
       interval_us / 1e6, strftime('%Y-%m-%d %H:%M:%f', next_continuous_us / 1e6, 'unixepoch'),
       max_running, max_getwork, max_retries, CAST(then_name AS TEXT), runtime,
       available, delayed, pending, finished + archived_finished, failed + archived_failed,
       archived_finished, archived_failed
  FROM work_spec
  JOIN namespace ON namespace.id = work_spec.namespace_id
  JOIN work_unit_count ON work_unit_count.work_spec_id = work_spec.id
 WHERE deleted = 0
 ORDER BY namespace.name, CAST(work_spec.name AS BLOB);
