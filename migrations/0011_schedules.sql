-- Work specs that make units by themselves at times of the wall clock.

-- The first four are NULL without a schedule: a cron expression, the name of its time zone, and what happens with runs that
-- overlap or were missed.
ALTER TABLE work_spec ADD COLUMN schedule TEXT;
ALTER TABLE work_spec ADD COLUMN timezone TEXT;
ALTER TABLE work_spec ADD COLUMN overlap TEXT;
ALTER TABLE work_spec ADD COLUMN missed TEXT;
-- The times of the next run, of the last one that made a unit, and of the last one that made none. They are those of the
-- wall clock, and don't change when the clock is set: the next run is then planned anew.
ALTER TABLE work_spec ADD COLUMN next_run_us INTEGER;
ALTER TABLE work_spec ADD COLUMN last_run_us INTEGER;
ALTER TABLE work_spec ADD COLUMN skipped_run_us INTEGER;

DROP VIEW work_specs;

-- The units in retrying are among the available and the delayed ones, and those in the archived columns among the finished
-- and the failed ones.
CREATE VIEW work_specs (namespace, work_spec, paused, priority, weight, continuous, interval_s,
                        next_continuous, max_running, max_getwork, max_retries, then_name, runtime,
                        available, delayed, pending, finished, failed, archived_finished, archived_failed,
                        retrying, retries, retry_delay_s, retry_backoff, retry_delay_max_s, retry_jitter,
                        max_lost, paused_at, paused_by, paused_reason,
                        schedule, timezone, overlap, missed, next_run, last_run, skipped_run) AS
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
       strftime('%Y-%m-%d %H:%M:%f', skipped_run_us / 1e6, 'unixepoch')
  FROM work_spec
  JOIN namespace ON namespace.id = work_spec.namespace_id
  JOIN work_unit_count ON work_unit_count.work_spec_id = work_spec.id
 WHERE deleted = 0
 ORDER BY namespace.name, CAST(work_spec.name AS BLOB);
