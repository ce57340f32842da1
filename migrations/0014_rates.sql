-- Work specs can limit how fast their units are handed out, and pause themselves when their units fail.

-- A rate such as 100/m, and how many units may be handed out at once.
ALTER TABLE work_spec ADD COLUMN max_rate TEXT;
ALTER TABLE work_spec ADD COLUMN max_rate_burst INTEGER CHECK (max_rate_burst > 0);
-- So many failed attempts in a row, or this share of failures among the last ones if there were at least so many attempts.
ALTER TABLE work_spec ADD COLUMN halt_failures INTEGER CHECK (halt_failures > 0);
ALTER TABLE work_spec ADD COLUMN halt_rate REAL CHECK (halt_rate > 0);
ALTER TABLE work_spec ADD COLUMN halt_min INTEGER CHECK (halt_min > 0);

-- What max_rate and halt_after remember. It is kept with the counts, which are written once per batch anyway, so that it
-- costs no statement.
-- When a whole burst may be handed out again.
ALTER TABLE work_unit_count ADD COLUMN rate_full_us INTEGER;
-- Attempts that have failed since one was last finished, and attempts up to halt_min.
ALTER TABLE work_unit_count ADD COLUMN failed_in_a_row INTEGER NOT NULL DEFAULT 0 CHECK (failed_in_a_row >= 0);
ALTER TABLE work_unit_count ADD COLUMN recent_attempts INTEGER NOT NULL DEFAULT 0 CHECK (recent_attempts >= 0);
-- Sums of weights, which shrink with each further attempt.
ALTER TABLE work_unit_count ADD COLUMN recent_finished REAL NOT NULL DEFAULT 0 CHECK (recent_finished >= 0);
ALTER TABLE work_unit_count ADD COLUMN recent_failed REAL NOT NULL DEFAULT 0 CHECK (recent_failed >= 0);

DROP VIEW work_specs;

-- The units in retrying are among the available and the delayed ones, and those in the archived columns among the finished
-- and the failed ones.
CREATE VIEW work_specs (namespace, work_spec, paused, priority, weight, continuous, interval_s,
                        next_continuous, max_running, max_getwork, max_retries, then_name, runtime,
                        available, delayed, pending, finished, failed, archived_finished, archived_failed,
                        retrying, retries, retry_delay_s, retry_backoff, retry_delay_max_s, retry_jitter,
                        max_lost, paused_at, paused_by, paused_reason,
                        schedule, timezone, overlap, missed, next_run, last_run, skipped_run,
                        unit_order, fair, max_running_per_group,
                        max_rate, max_rate_burst, rate_full_at, halt_failures, halt_rate, halt_min, failed_in_a_row) AS
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
       CASE in_added_order WHEN 1 THEN 'added' ELSE 'name' END, fair, max_running_per_group,
       max_rate, max_rate_burst, strftime('%Y-%m-%d %H:%M:%f', rate_full_us / 1e6, 'unixepoch'),
       halt_failures, halt_rate, halt_min, failed_in_a_row
  FROM work_spec
  JOIN namespace ON namespace.id = work_spec.namespace_id
  JOIN work_unit_count ON work_unit_count.work_spec_id = work_spec.id
 WHERE deleted = 0
 ORDER BY namespace.name, CAST(work_spec.name AS BLOB);
