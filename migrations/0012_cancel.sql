-- Units can be cancelled. A row stays while the worker of a running unit has its grace, and while the unit has failed for
-- it. The lease of the active attempt ends with the grace, so nothing here expires by itself.
CREATE TABLE cancellation (
    work_unit_id INTEGER PRIMARY KEY REFERENCES work_unit (id),
    -- Why, and who cancelled it, as far as that was said.
    reason       TEXT,
    cancelled_by TEXT,
    -- A time of the past, which does not change when the clock is set.
    cancelled_us INTEGER NOT NULL
) STRICT;

-- Of a unit that still runs, the status is pending, and the lease ends with the grace.
CREATE VIEW cancellations (namespace, work_spec, unit, status, cancelled_at, cancelled_by, reason, worker,
                           lease_ends) AS
SELECT namespace.name, CAST(work_spec.name AS TEXT), CAST(work_unit.name AS TEXT),
       CASE work_unit.status WHEN 3 THEN 'pending' ELSE 'failed' END,
       strftime('%Y-%m-%d %H:%M:%f', cancelled_us / 1e6, 'unixepoch'), cancelled_by, reason,
       CAST(attempt.worker AS TEXT),
       CASE WHEN work_unit.status = 3
            THEN strftime('%Y-%m-%d %H:%M:%f', attempt.expiration_us / 1e6, 'unixepoch') END
  FROM cancellation
  JOIN work_unit ON work_unit.id = cancellation.work_unit_id
  JOIN work_spec ON work_spec.id = work_unit.work_spec_id AND work_spec.deleted = 0
  JOIN namespace ON namespace.id = work_spec.namespace_id
  LEFT JOIN attempt ON attempt.id = work_unit.active_attempt_id;
