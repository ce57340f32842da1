-- How long units wait for a worker can be told.

-- Since when the unit is available; NULL if it is not, or if it was when this column came.
ALTER TABLE work_unit ADD COLUMN available_since_us INTEGER CHECK (available_since_us IS NULL OR status = 1);

DROP VIEW units;

CREATE VIEW units (namespace, work_spec, unit, status, priority, not_before, worker, expires,
                   attempts, data_bytes, failures, lost, unit_group, available_since) AS
SELECT namespace.name, CAST(work_spec.name AS TEXT), CAST(work_unit.name AS TEXT),
       CASE work_unit.status WHEN 1 THEN 'available' WHEN 2 THEN 'delayed' WHEN 3 THEN 'pending'
                             WHEN 4 THEN 'finished' ELSE 'failed' END,
       work_unit.priority, strftime('%Y-%m-%d %H:%M:%f', not_before_us / 1e6, 'unixepoch'),
       CAST(active.worker AS TEXT),
       CASE WHEN work_unit.status = 3
            THEN strftime('%Y-%m-%d %H:%M:%f', active.expiration_us / 1e6, 'unixepoch') END,
       coalesce(last.number, 0), length(coalesce(active.data, work_unit.data)),
       work_unit.failures, work_unit.lost, work_unit.group_name,
       strftime('%Y-%m-%d %H:%M:%f', available_since_us / 1e6, 'unixepoch')
  FROM work_unit
  JOIN work_spec ON work_spec.id = work_unit.work_spec_id AND work_spec.deleted = 0
  JOIN namespace ON namespace.id = work_spec.namespace_id
  LEFT JOIN attempt AS active ON active.id = work_unit.active_attempt_id
  LEFT JOIN attempt AS last ON last.id = work_unit.last_attempt_id;
