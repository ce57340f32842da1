-- 0: the worker has said that it does nothing now. It is among no lists, and stays here until it would expire, so that
-- what it said of itself can be read.
ALTER TABLE worker ADD COLUMN active INTEGER NOT NULL DEFAULT 1 CHECK (active = 0 OR active = 1);

DROP VIEW active_workers;

CREATE VIEW active_workers (namespace, worker, parent, mode, last_heartbeat, expires, units_held) AS
SELECT namespace.name, CAST(worker.name AS TEXT), CAST(worker.parent AS TEXT),
       CAST(worker.mode AS TEXT),
       strftime('%Y-%m-%d %H:%M:%f', worker.heartbeat_us / 1e6, 'unixepoch'),
       strftime('%Y-%m-%d %H:%M:%f', worker.expiration_us / 1e6, 'unixepoch'),
       (SELECT count(*)
          FROM attempt
          JOIN work_unit ON work_unit.id = attempt.work_unit_id
          JOIN work_spec ON work_spec.id = work_unit.work_spec_id AND work_spec.deleted = 0
         WHERE CAST(attempt.worker AS BLOB) = CAST(worker.name AS BLOB) AND attempt.held = 1
           AND work_spec.namespace_id = worker.namespace_id)
  FROM worker
  JOIN namespace ON namespace.id = worker.namespace_id
 WHERE active = 1
 ORDER BY namespace.name, CAST(worker.name AS BLOB);
